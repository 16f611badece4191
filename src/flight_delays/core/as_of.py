"""What was known when: the as-of join that batch, stream, tests and a data scientist's tries share.

Rows of history ("facts") answer questions as of a time T. Every question is one sort of the facts and one binary search
per row that asks: n log n, no loop over rows. NumPy alone: `platform/spark_as_of.py` runs it on Spark, chunk by chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from flight_delays.core.columns import Column, Columns, whole

Times: TypeAlias = npt.NDArray[np.datetime64]
Codes: TypeAlias = npt.NDArray[np.int64]

NEVER = np.datetime64("NaT", "us")
_LONGEST = timedelta(days=36_525)
_ROW = "_row"  # a column that numbers the rows of a table
_BITS = 62  # that a key's code and a time may take together, in one sortable number


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A raw table, of which the `columns` are read, and what `derive` makes of them, column by column.

    No row becomes usable before the earliest of its `times`, nor after the latest.
    """

    name: str
    columns: tuple[str, ...]
    times: tuple[str, ...]
    derive: Callable[[Columns], Columns] = field(default=lambda _: {})


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """Rows of a table, each usable from the later of its event time and its known time on; never if one is null.

    With `asks`, each row also has the answers to these, as of the time `before` it became usable.
    """

    table: Table
    event_time: str
    known_time: str
    asks: tuple["Question", ...] = ()
    before: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _check_span("before", self.before)
        if any(reach(ask) is None for ask in self.asks):
            raise ValueError(f"what facts of {self.table.name} ask needs a tolerance: look-backs add up")


@dataclass(frozen=True, kw_only=True, eq=False)
class Newest:
    """`values` (answer to column) of the newest row with equal `by` that is usable at T.

    With a `tolerance`, its event time is at most that long before T. The newest event time wins; between equal ones the
    row known last (a correction); between those the greater values, null being the least. No row gives nulls; whole
    numbers come back as float64.
    """

    facts: Facts
    by: tuple[str, ...]
    values: Mapping[str, str]
    tolerance: timedelta | None = None

    def __post_init__(self) -> None:
        _check_span("tolerance", self.tolerance or timedelta(0))
        if self.tolerance is None and self.facts.asks:
            raise ValueError(f"facts of {self.facts.table.name} that ask need a tolerance: look-backs add up")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """`count` of the rows with equal `by`, and `sums` (answer to column) over them, of those that became usable within
    the time `within` up to T: usable <= T < usable + within.

    With an `end`, a row counts only before that time, too; a null end never comes. Sums are of whole numbers, and
    exact: a running total of decimals would not come back to zero. Answers are float64; no row gives 0.
    """  # fmt: skip

    facts: Facts
    by: tuple[str, ...]
    within: timedelta
    end: str | None = None
    count: str | None = None
    sums: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_span("within", self.within)


def _check_span(name: str, span: timedelta) -> None:
    if not timedelta(0) <= span <= _LONGEST:
        raise ValueError(f"{name} is {span}; it must be from 0 to {_LONGEST.days:,} days")


Question: TypeAlias = Newest | Sums


def prepared(table: Table, columns: Columns) -> Columns:
    """The columns of a raw table with those that are derived."""
    return {**columns, **table.derive(columns)}


def answer(questions: Sequence[Question], tables: Mapping[str, Columns], *, asked: Columns, at: Times) -> Columns:
    """The answers, a column each, for rows that ask: the columns `by` of `asked`, as of the times `at`.

    `tables` has prepared columns by table. One answer per row, in order; a null key or time gets nulls. Raises
    TypeError for sums of anything but whole numbers, OverflowError for a sum beyond 2^53.
    """
    at, rows = at.astype("datetime64[us]"), dict[Facts, Columns]()
    coded = dict[tuple[str, tuple[str, ...]], tuple[Codes, Codes]]()
    answers = dict[str, Column]()
    for question in questions:
        facts, by = question.facts, question.by
        if facts not in rows:
            rows[facts] = _with_answers(facts, tables)
        if (facts.table.name, by) not in coded:
            coded[facts.table.name, by] = codes([rows[facts][name] for name in by], [asked[name] for name in by])
        known, asking = coded[facts.table.name, by]
        if isinstance(question, Newest):
            answers |= _newest(question, rows[facts], known, asking, at)
        else:
            answers |= _sums(question, rows[facts], known, asking, at)
    return answers


def taken(
    question: Question, tables: Mapping[str, Columns], *, asked: Columns, at: Times
) -> list[tuple[Question, int]]:
    """The rows that the answer of the one row that asks is made of: each by its place in its table, with the question
    that took it, be it one that facts ask.

    `answer` itself says so: it is asked for the number of the newest row, or for each row whether that one counts.
    """  # fmt: skip
    facts, columns = question.facts, tables[question.facts.table.name]
    start = usable(facts, columns)
    numbered = {**tables, facts.table.name: {**columns, _ROW: np.arange(len(start))}}
    if isinstance(question, Newest):
        newest = replace(question, values={**question.values, _ROW: _ROW})
        number = answer([newest], numbered, asked=asked, at=at)[_ROW]
        rows = number[~np.isnan(number)].astype("int64")
    else:
        alone = replace(question, by=(*question.by, _ROW), count=_ROW, sums={})
        of_each = {name: np.repeat(asked[name], len(start)) for name in question.by} | {_ROW: np.arange(len(start))}
        rows = np.flatnonzero(answer([alone], numbered, asked=of_each, at=np.repeat(at, len(start)))[_ROW] == 1)
    found = [(question, int(row)) for row in rows]
    for row in rows:
        one = slice(row, row + 1)
        fact = {name: values[one] for name, values in columns.items()}
        for ask in facts.asks:
            found += taken(ask, tables, asked=fact, at=start[one] - _us(facts.before))
    return found


def usable(facts: Facts, columns: Columns) -> Times:
    """When each row becomes usable, NaT for never."""
    return np.maximum(columns[facts.event_time], columns[facts.known_time]).astype("datetime64[us]")


def names(question: Question) -> tuple[str, ...]:
    """Of its answers."""
    if isinstance(question, Newest):
        return tuple(question.values)
    return (*([question.count] if question.count else []), *question.sums)


def reach(question: Question) -> timedelta | None:
    """How long before T a row may have become usable and still count at T; None for any time."""
    return question.tolerance if isinstance(question, Newest) else question.within


def look_backs(questions: Sequence[Question]) -> dict[str, timedelta | None]:
    """The same for the rows of each table, by name: for facts that facts ask, what lies between adds up."""
    found = dict[str, timedelta | None]()
    for question in questions:
        facts, own = question.facts, reach(question)
        spans = [(facts.table.name, own)]
        for name, span in look_backs(facts.asks).items():
            spans.append((name, None if own is None or span is None else own + facts.before + span))
        for name, span in spans:
            before = found.get(name, timedelta(0))
            found[name] = None if before is None or span is None else max(before, span)
    return found


def tables_of(questions: Sequence[Question]) -> dict[str, Table]:
    """The tables that answer, by name, those asked by their facts included."""
    found = dict[str, Table]()
    for question in questions:
        found |= {question.facts.table.name: question.facts.table, **tables_of(question.facts.asks)}
    return found


def _with_answers(facts: Facts, tables: Mapping[str, Columns]) -> Columns:
    columns, name = tables[facts.table.name], facts.table.name
    start = usable(facts, columns)
    times = [columns[time] for time in facts.table.times]
    if np.any((start < reduce(np.fmin, times)) | (start > reduce(np.fmax, times))):
        raise ValueError(
            f"{name}: a row becomes usable at its {facts.event_time} and {facts.known_time}, not between the "
            f"earliest and the latest of {', '.join(facts.table.times)}; derive it from these, or name more of them"
        )
    if not facts.asks:
        return columns
    return {**columns, **answer(facts.asks, tables, asked=columns, at=start - _us(facts.before))}


def _newest(question: Newest, facts: Columns, code: Codes, asking: Codes, at: Times) -> Columns:
    start = usable(question.facts, facts)
    rows, newest = _running(question, facts, code, start)
    found = np.full(len(asking), -1)
    if len(rows):
        place, when = _places(code[rows], start[rows], asking, at)
        before = np.searchsorted(place, when, "right") - 1
        hit = (before >= 0) & (asking >= 0) & ~np.isnat(at) & (code[rows[before]] == asking)
        if question.tolerance is not None:
            hit &= at - facts[question.facts.event_time][newest[before]] <= _us(question.tolerance)
        found = np.where(hit, newest[before], -1)
    return {name: _taken(column, facts[column], found) for name, column in question.values.items()}


def _running(question: Newest, facts: Columns, code: Codes, start: Times) -> tuple[Codes, Codes]:
    """The rows that become usable, by key and time; with each the row of its key that is the newest from then on."""
    rows = np.flatnonzero((code >= 0) & ~np.isnat(start)).astype("int64")
    # Of rows that are equal in both times the greatest values are taken, null being the least.
    values = [pd.factorize(facts[name][rows], sort=True)[0] for name in question.values.values()]
    known, event = (facts[name][rows].view("int64") for name in (question.facts.known_time, question.facts.event_time))
    order = np.lexsort([*reversed(values), known, event, code[rows]])
    # A key's rows rank above those of the keys before it, so that one running maximum serves all keys.
    rank = np.empty(len(rows), dtype="int64")
    rank[order] = np.arange(len(rows))
    by_time = np.lexsort([start[rows].view("int64"), code[rows]])
    newest: Codes = rows[order[np.maximum.accumulate(rank[by_time])]]
    return rows[by_time], newest


def _sums(question: Sums, facts: Columns, code: Codes, asking: Codes, at: Times) -> Columns:
    wanted = dict(question.sums) | ({question.count: None} if question.count else {})
    start = usable(question.facts, facts)
    end = start + _us(question.within)
    if question.end is not None:
        end = np.fmin(facts[question.end], end)
    rows = np.flatnonzero((code >= 0) & (start < end))
    both = np.concatenate([code[rows], code[rows]])
    place, when = _places(both, np.concatenate([start[rows], end[rows]]), asking, at)
    order = np.argsort(place)
    last = np.searchsorted(place[order], when, "right")
    first = np.searchsorted(both[order], asking, "left")
    unknown = (asking < 0) | np.isnat(at)
    answers = dict[str, Column]()
    for name, column in wanted.items():
        values = np.ones(len(rows), dtype="int64") if column is None else facts[column][rows]
        if values.dtype.kind not in "iub":
            raise TypeError(
                f"{column} is {values.dtype}: only whole numbers are summed exactly; make it int64, null as 0"
            )
        values = values.astype("int64")
        if np.abs(values.astype("float64")).sum() >= 2**63:
            raise OverflowError(f"the values of {column} are too large to be added up")
        total = np.concatenate([[0], np.cumsum(np.concatenate([values, -values])[order])])
        answers[name] = whole(name, np.where(unknown, 0, total[last] - total[first]))
        answers[name][unknown] = np.nan
    return answers


def codes(facts: Sequence[Column], asking: Sequence[Column]) -> tuple[Codes, Codes]:
    """A number for each different key of several columns; -1 where one of them is null."""
    both = pd.DataFrame({at: _together(*pair) for at, pair in enumerate(zip(facts, asking, strict=True))})
    code: Codes = both.groupby([*both], sort=False).ngroup().fillna(-1).to_numpy().astype("int64")
    return code[: len(facts[0])], code[len(facts[0]) :]


def _together(one: Column, other: Column) -> Column:
    """Both columns in one; whole numbers with nulls, which are float64, beside plain ones."""
    if {one.dtype.kind, other.dtype.kind} == {"i", "f"}:
        one, other = (values.astype("object") for values in (one, other))
        for values in (one, other):
            values[pd.isna(values)] = None  # an int equals a float of its value, and hashes as it does
    return np.concatenate([one, other])


def _places(code: Codes, time: Times, asking: Codes, at: Times) -> tuple[Codes, Codes]:
    """Numbers that sort as key and time do, for facts and for those who ask."""
    times = np.concatenate([time, at]).view("int64")
    known = times != NEVER.view("int64")
    origin = times[known].min(initial=np.iinfo("int64").max)
    bits = int(times[known].max(initial=origin) - origin).bit_length()
    both = np.concatenate([code, asking])
    if bits + int(both.max(initial=0)).bit_length() > _BITS:
        moments, times = np.unique(times, return_inverse=True)  # centuries, or very many keys
        origin, bits = 0, len(moments).bit_length()
    placed = (both << bits) + np.where(known, times - origin, 0)
    return placed[: len(code)], placed[len(code) :]


def _taken(name: str, column: Column, rows: Codes) -> Column:
    """The values of `rows`, null for row -1."""
    if column.dtype.kind in "iub":
        column = whole(name, column)
    null = {"M": NEVER, "f": np.nan}.get(column.dtype.kind)
    values: Column = np.append(column, np.array([null], dtype=column.dtype))[rows]
    return values


def _us(span: timedelta) -> np.timedelta64:
    return np.timedelta64(span, "us")
