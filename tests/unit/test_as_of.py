"""What was known when. Times are minutes after some midnight; what is right is found by looking at every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flight_delays.core.as_of import (
    Facts,
    Newest,
    Question,
    Sums,
    Table,
    Times,
    answer,
    look_backs,
    prepared,
    tables_of,
    taken,
    usable,
)
from flight_delays.core.columns import EXACT, Column, Columns

MANY = settings(max_examples=200, database=None)
SOME = settings(max_examples=100, database=None)
FEW = settings(max_examples=20, database=None, phases=[Phase.generate])  # large ones, from a seed
MINUTE = timedelta(minutes=1)
MILLENNIA = 2000 * 365 * 24 * 60  # two, in minutes
Minute = int | None
Row = Mapping[str, Any]

KINDS = {"airport": "object", "number": "float64", "value": "float64", "note": "object", "weight": "int64"}
REPORTS, PLANS = (Table(name=name, columns=(*KINDS, "event", "known"), times=("event", "known")) for name in "rp")
REPORTED, ANNOUNCED = (Facts(table=table, event_time="event", known_time="known") for table in (REPORTS, PLANS))
# A report with what the one of two minutes before it said; a plan with what was reported by the minute before it.
EARLIER = Newest(facts=REPORTED, by=("airport",), values={"value_before": "value"}, tolerance=4 * MINUTE)
TRENDING = replace(REPORTED, asks=(EARLIER,), before=2 * MINUTE)
TREND = Newest(
    facts=TRENDING, by=("airport",), values={"reported_end": "end", "trend": "value_before"}, tolerance=4 * MINUTE
)
PLANNED = replace(ANNOUNCED, asks=(TREND,), before=MINUTE)
BOTH = ("airport", "number")
RECENT = Newest(facts=REPORTED, by=BOTH, values={"recent": "value", "recent_note": "note"}, tolerance=3 * MINUTE)
EVER = Newest(facts=REPORTED, by=BOTH, values={"ever": "value", "ever_note": "note", "ever_end": "end"})
QUESTIONS: Mapping[str, Question] = {
    "the newest of a few minutes": RECENT,
    "the newest ever": EVER,
    "the newest of now": replace(RECENT, by=("airport",), values={"now": "note"}, tolerance=0 * MINUTE),
    "a sum": Sums(facts=REPORTED, by=("airport",), within=4 * MINUTE, count="rows", sums={"total": "weight"}),
    "a sum up to an end": Sums(facts=REPORTED, by=BOTH, within=6 * MINUTE, end="end", sums={"open": "weight"}),
    "the newest and what it asks": replace(TREND, values={"value": "value", "before": "value_before"}),
    "the newest and what that asks in turn": Newest(
        facts=PLANNED, by=("airport",), values={"plan": "value", "end": "reported_end", "at": "trend"}, tolerance=MINUTE
    ),
    "a sum up to an end that is asked": Sums(
        facts=PLANNED, by=("airport",), within=5 * MINUTE, end="reported_end", count="planned"
    ),
}


def fact(event: Minute, known: Minute, value: int | None = 1, **other: Any) -> Row:
    """A row of either table."""
    rest = {"airport": "JFK", "number": 1, "end": None, "note": None, "weight": value or 0}
    return {"event": event, "known": known, "value": value, **rest, **other}


def times(minutes: Sequence[Minute]) -> Times:
    return np.array(minutes, dtype="datetime64[m]").astype("datetime64[us]")


def columns(rows: Sequence[Row]) -> Columns:
    found = {name: np.array([row[name] for row in rows], dtype=kind) for name, kind in KINDS.items()}
    return found | {name: times([row[name] for row in rows]) for name in ("event", "known", "end")}


def plain(column: Column) -> list[Any]:
    """Times in minutes, null as None."""
    values = column.astype("datetime64[m]").astype("int64") if column.dtype.kind == "M" else column
    return [None if null else value for value, null in zip(values.tolist(), pd.isna(column), strict=True)]


def start(row: Row) -> Minute:
    return None if None in (row["event"], row["known"]) else max(row["event"], row["known"])


def looked_up(question: Question, tables: Mapping[str, Sequence[Row]], asked: Row, at: Minute) -> Row:
    """The answers by looking at every row."""
    facts, seen = question.facts, []
    key = tuple(asked[name] for name in question.by)
    unknown = at is None or None in key
    for row in () if unknown else tables[facts.table.name]:
        since = start(row)
        if since is not None and since <= at and tuple(row[name] for name in question.by) == key:
            more = [looked_up(ask, tables, row, since - facts.before // MINUTE) for ask in facts.asks]
            seen.append({**row, **{name: value for found in more for name, value in found.items()}})
    if isinstance(question, Sums):
        counted = [row for row in seen if at < start(row) + question.within // MINUTE]
        if question.end:
            counted = [row for row in counted if row[question.end] is None or at < row[question.end]]
        sums = {name: sum(row[column] for row in counted) for name, column in question.sums.items()}
        sums |= {question.count: len(counted)} if question.count else {}
        return dict.fromkeys(sums) if unknown else sums
    if question.tolerance is not None:
        seen = [row for row in seen if at - row["event"] <= question.tolerance // MINUTE]
    values = question.values.values()

    def newness(row: Row) -> tuple[Any, ...]:
        return row["event"], row["known"], *((row[name] is not None, row[name]) for name in values)

    newest = max(seen, key=newness, default=dict.fromkeys(values))
    return {name: newest[column] for name, column in question.values.items()}


@dataclass(frozen=True)
class World:
    """Rows by table, and rows that ask."""

    tables: Mapping[str, Sequence[Row]]
    asking: Sequence[Row]

    def answers(self, *questions: Question) -> list[Row]:
        """The kernel's, by row that asks."""
        asked = {name: np.array([row[name] for row in self.asking], dtype=KINDS[name]) for name in BOTH}
        facts = {name: columns(rows) for name, rows in self.tables.items()}
        found = answer(questions, facts, asked=asked, at=times([row["at"] for row in self.asking]))
        rows = zip(*map(plain, found.values()), strict=True)
        return [dict(zip(found, row, strict=True)) for row in rows]

    def taken(self, question: Question) -> list[tuple[Question, int]]:
        """The kernel's, for the only row that asks."""
        (row,) = self.asking
        asked = {name: np.array([row[name]], dtype=KINDS[name]) for name in BOTH}
        facts = {name: columns(rows) for name, rows in self.tables.items()}
        return taken(question, facts, asked=asked, at=times([row["at"]]))

    def at(self, moment: int) -> "World":
        """All ask as of one time."""
        return replace(self, asking=[{**row, "at": moment} for row in self.asking])

    def kept(self, keep: Callable[[str, Columns], Sequence[bool]]) -> "World":
        """The other rows are left out."""
        kept = {name: np.array(keep(name, columns(rows)), dtype=bool) for name, rows in self.tables.items()}
        left = {name: [rows[n] for n in np.flatnonzero(kept[name])] for name, rows in self.tables.items()}
        return replace(self, tables=left)


@dataclass(frozen=True)
class Case:
    """A question at time `at`, the rows it is asked of, and the answer."""

    at: Minute
    facts: Sequence[Row]
    answer: int | None
    airport: str | None = "JFK"

    def answered(self, question: Question) -> Row:
        asking = {"airport": self.airport, "number": 1, "at": self.at}
        (found,) = World({"r": self.facts}, [asking]).answers(question)
        return found


NEWEST = {
    "a row of the past is taken": Case(100, [fact(90, 95)], 1),
    "an event exactly at T counts": Case(100, [fact(100, 100)], 1),
    "an event after T does not, even if known before": Case(100, [fact(101, 95)], None),
    "a row known exactly at T counts": Case(100, [fact(90, 100)], 1),
    "a row known after T does not": Case(100, [fact(90, 101)], None),
    "the newest event wins": Case(100, [fact(80, 81, 1), fact(90, 91, 2), fact(85, 99, 3)], 2),
    "the newest event is not yet known: the one before it": Case(100, [fact(80, 81, 1), fact(90, 101, 2)], 1),
    "a correction of the same event wins once it is known": Case(100, [fact(90, 92, 9), fact(90, 99, 1)], 1),
    "and not before": Case(98, [fact(90, 92, 9), fact(90, 99, 1)], 9),
    "a late correction of an older event does not": Case(100, [fact(90, 91, 2), fact(80, 99, 1)], 2),
    "equal in both times: the greater value": Case(100, [fact(90, 95, 2), fact(90, 95, 1), fact(90, 95, None)], 2),
    "an event younger than the tolerance": Case(100, [fact(71, 71)], 1),
    "an event exactly as old as the tolerance": Case(100, [fact(70, 71)], 1),
    "an event older than the tolerance": Case(100, [fact(69, 99)], None),
    "a null value of the newest row is the answer": Case(100, [fact(80, 81), fact(90, 91, None)], None),
    "another key": Case(100, [fact(90, 95, airport="LGA")], None),
    "a null key matches nothing, not even null": Case(100, [fact(90, 95, airport=None)], None, airport=None),
    "a null time knows nothing": Case(None, [fact(90, 95)], None),
    "an event without a time is never used": Case(100, [fact(None, 95)], None),
    "nor one of which nobody says when it was known": Case(100, [fact(90, None)], None),
    "no history": Case(100, [], None),
}


@pytest.mark.parametrize("case", NEWEST)
def test_the_value_known_at_t_is(case: str) -> None:
    question = Newest(facts=REPORTED, by=("airport",), values={"answer": "value"}, tolerance=30 * MINUTE)
    assert NEWEST[case].answered(question) == {"answer": NEWEST[case].answer}


def span(start: Minute, end: Minute, value: int = 1, **other: Any) -> Row:
    """Known when it starts."""
    return fact(start, start, value, end=end, **other)


# Two hours up to T are counted.
SUMS = {
    "none": Case(100, [], 0),
    "a span that has not begun": Case(100, [span(101, 200)], 0),
    "a span that begins at T": Case(100, [span(100, 200)], 1),
    "a span around T": Case(100, [span(99, 101)], 1),
    "a span that ends at T": Case(100, [span(50, 100)], 0),
    "a span that has ended": Case(100, [span(50, 99)], 0),
    "spans add up": Case(100, [span(0, 200, 5), span(99, 101, -7), span(0, 50, 100)], -2),
    "one ends where the next begins": Case(100, [span(0, 100, 5), span(100, 200, 7)], 7),
    "equal spans both count": Case(100, [span(0, 200, 5), span(0, 200, 5)], 10),
    "without an end it counts for the whole time": Case(100, [span(0, None, 5)], 5),
    "and not for longer": Case(120, [span(0, None, 5)], 0),
    "a row that became usable less than two hours ago": Case(100, [span(-19, 200)], 1),
    "a row that became usable exactly two hours ago": Case(100, [span(-20, 200)], 0),
    "a row that became usable more than two hours ago": Case(100, [span(-21, 200)], 0),
    "it is usable from when it was known": Case(100, [fact(-50, -19)], 1),
    "and not before, whenever it was": Case(100, [fact(50, 101)], 0),
    "nor before the event, whenever it was known": Case(100, [fact(101, 50)], 0),
    "without a start it never begins": Case(100, [span(None, 200, 5), span(None, None, 5)], 0),
    "nor does what nobody says when it was known": Case(100, [fact(50, None)], 0),
    "a span of no length covers nothing": Case(100, [span(100, 100, 5)], 0),
    "nor does one that ends before it begins": Case(100, [span(150, 50, 5)], 0),
    "nor one that ends before it is known": Case(100, [fact(40, 60, end=50)], 0),
    "another key": Case(100, [span(0, 200, airport="LGA")], 0),
    "a null key is no key": Case(100, [span(0, 200, airport=None)], None, airport=None),
    "a null time has no sum": Case(None, [span(0, 200)], None),
}


@pytest.mark.parametrize("case", SUMS)
def test_the_sum_at_t_is_that_of_the_rows_usable_since_less_than_so_long_and_before_their_end(case: str) -> None:
    question = Sums(facts=REPORTED, by=("airport",), within=120 * MINUTE, end="end", sums={"sum": "weight"})
    assert SUMS[case].answered(question) == {"sum": SUMS[case].answer}


def one_of(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def retold(rows: Sequence[Row], tellings: Sequence[Row]) -> Sequence[Row]:
    """The first ones twice, with other values."""
    return [*rows, *({**row, **told} for row, told in zip(rows, tellings, strict=False))]


# Few minutes, keys and values, so that ties and edges are the rule.
KEY = {"airport": one_of(*["JFK"] * 4, "LGA", None), "number": one_of(*[1] * 4, 2, None)}
TOLD = {"value": one_of(1, 2, None), "note": one_of("a", "b", None), "weight": st.integers(-2, 3)}
TIMES = {name: one_of(*range(latest), None) for name, latest in (("event", 6), ("known", 7), ("end", 9))}
FACT, TELLING = st.fixed_dictionaries({**KEY, **TIMES, **TOLD}), st.fixed_dictionaries(TOLD)
MOMENT = st.integers(0, 10)
MORE = st.builds(retold, st.lists(FACT, min_size=6, max_size=14), st.lists(TELLING, min_size=3, max_size=6))
FACTS = st.fixed_dictionaries(dict.fromkeys("rp", st.lists(FACT, max_size=2) | MORE))
CLOSE = st.builds(World, FACTS, st.lists(st.fixed_dictionaries({**KEY, "at": MOMENT | st.none()}), max_size=8))


def far_apart(seed: int) -> World:
    """Two millennia and hundreds of keys; what happens in an era is minutes apart."""
    random = Random(seed)
    eras = [0, MILLENNIA, *(random.randrange(MILLENNIA) for _ in range(6))]

    def rows(size: int) -> list[Row]:
        found = []
        for number in range(size):
            event = eras[number % len(eras)] + random.randrange(8)
            known, end = (random.choice([None, *range(event - 3, event + 6)]) for _ in range(2))
            own = {"airport": f"airport {random.randrange(40)}", "number": random.randrange(8)}
            value, note = random.choice([1, 2, None]), random.choice(["a", "b", None])
            found.append(fact(event, known, value, note=note, end=end, **own))
        return found

    tables = {"r": rows(300), "p": rows(50)}
    asking = [{**row, "at": (start(row) or 0) + random.choice([0, 0, 1, 2, 3, -1])} for row in tables["r"][::5]]
    return World(tables, asking)


FAR = st.integers(0, 2**32).map(far_apart)


def agrees(world: World) -> None:
    looked = [[looked_up(one, world.tables, row, row["at"]) for one in QUESTIONS.values()] for row in world.asking]
    expected = [{name: value for found in row for name, value in found.items()} for row in looked]
    assert world.answers(*QUESTIONS.values()) == expected


@MANY
@given(CLOSE)
def test_within_a_few_minutes_it_agrees_with_looking_at_every_row(world: World) -> None:
    agrees(world)


@FEW
@given(FAR)
def test_across_millennia_it_agrees_with_looking_at_every_row(world: World) -> None:
    """Key and time do not fit in one number of 63 bits there, so that the kernel has to count."""
    at = [time for rows in world.tables.values() for row in rows for time in (row["event"], row["known"]) if time]
    keys = {tuple(row[name] for name in BOTH) for row in world.tables["r"]}
    assert ((max(at) - min(at)) * 60_000_000).bit_length() + (len(keys) - 1).bit_length() > 63
    agrees(world)


@SOME
@given(CLOSE | FAR, st.randoms(use_true_random=False))
def test_each_row_is_answered_once_in_its_place_and_the_order_of_facts_does_not_matter(
    world: World, random: Random
) -> None:
    order = random.sample(range(len(world.asking)), len(world.asking)) * 2
    again = World(
        {name: random.sample(rows, len(rows)) for name, rows in world.tables.items()},
        [world.asking[place] for place in order],
    )
    found = world.answers(*QUESTIONS.values())
    assert again.answers(*QUESTIONS.values()) == [found[place] for place in order]


@MANY
@given(CLOSE, FACTS, st.integers(0, 7))
def test_whatever_becomes_known_after_t_changes_nothing_at_t(world: World, other: World, at: int) -> None:
    """What was known at T as it was; anything else left out, and other rows in its place."""
    asking = world.at(at)
    retold = {
        name: [row for row in rows if row["known"] is not None and row["known"] <= at]
        + [{**row, "known": at + 1 + (row["known"] or 0)} for row in other[name]]
        for name, rows in world.tables.items()
    }
    assert replace(asking, tables=retold).answers(*QUESTIONS.values()) == asking.answers(*QUESTIONS.values())


@pytest.mark.parametrize("name", QUESTIONS)
@FEW
@given(CLOSE)
def test_the_rows_that_are_taken_and_no_others_make_the_answer(name: str, world: World) -> None:
    question = QUESTIONS[name]
    for alone in (replace(world, asking=[asking]) for asking in world.asking[:3]):
        rows, expected = alone.taken(question), alone.answers(question)
        own = [row for by, row in rows if by is question]
        if isinstance(question, Sums):
            (counted,) = alone.answers(replace(question, count="counted", sums={}))
            assert len({*own}) == len(own) == (counted["counted"] or 0)
        else:
            assert len(own) <= 1
        of_table = {(by.facts.table.name, row) for by, row in rows}
        kept = {
            table: [row for at, row in enumerate(of) if (table, at) in of_table] for table, of in world.tables.items()
        }
        assert replace(alone, tables=kept).answers(question) == expected


@pytest.mark.parametrize("name", QUESTIONS)
@SOME
@given(CLOSE, MOMENT)
def test_a_row_usable_for_longer_than_the_look_back_can_be_left_out(name: str, world: World, at: int) -> None:
    question = QUESTIONS[name]

    def recent(table: str, rows: Columns) -> Sequence[bool]:
        span, since = look_backs([question]).get(table, timedelta(0)), usable(REPORTED, rows)
        return ~np.isnat(since) if span is None else times([at]) - since <= np.timedelta64(span)

    asking = world.at(at)
    assert asking.kept(recent).answers(question) == asking.answers(question)


RECENT_30 = replace(RECENT, tolerance=30 * MINUTE)
SUM_120 = Sums(facts=REPORTED, by=("airport",), within=120 * MINUTE, count="rows")


def test_the_look_backs_of_facts_and_of_what_they_ask_add_up() -> None:
    facts = replace(ANNOUNCED, asks=(RECENT_30,), before=5 * MINUTE)
    for question in (
        replace(RECENT, facts=facts, tolerance=7 * MINUTE),
        replace(SUM_120, facts=facts, within=7 * MINUTE),
    ):
        assert look_backs([question]) == {"p": 7 * MINUTE, "r": 42 * MINUTE}
        assert look_backs([question, SUM_120, EVER]) == {"p": 7 * MINUTE, "r": None}
        assert tables_of([question]) == {"r": REPORTS, "p": PLANS}


DTYPES = {
    "whole numbers": ([3, 4], "int64", [3.0, None]),
    "small ones": ([3, 4], "int32", [3.0, None]),
    "truth": ([True, False], "bool", [1.0, None]),
    "decimals": ([0.5, 1], "float64", [0.5, None]),
    "text": (["a", "b"], "object", ["a", None]),
    "times": ([7, 8], "datetime64[us]", [np.datetime64(7, "us"), None]),
    "days": ([7, 8], "datetime64[D]", [np.datetime64(7, "D"), None]),
}
KEPT = {"f": "float64", "i": "float64", "b": "float64"}


@pytest.mark.parametrize("case", DTYPES)
def test_null_has_its_form_in_every_type_also_without_facts_and_without_rows_that_ask(case: str) -> None:
    values, kind, expected = DTYPES[case]
    column = np.array(values, dtype=kind)
    facts = {"key": column, "value": column, "event": times([1, 1]), "known": times([1, 1])}
    question = Newest(facts=REPORTED, by=("key",), values={"value": "value"})
    for size, keys in ((2, column), (0, column), (2, column[:0])):
        rows = {name: of[:size] for name, of in facts.items()}
        at = times([1, 0][: len(keys)])
        found = answer([question], {"r": rows}, asked={"key": keys}, at=at)["value"]
        wanted = (expected if size else [None, None])[: len(keys)]
        assert found.dtype == KEPT.get(column.dtype.kind, kind)
        assert [None if pd.isna(value) else value for value in found] == wanted
        sums = answer([replace(SUM_120, by=("key",))], {"r": rows}, asked={"key": keys}, at=at)["rows"]
        assert (sums.dtype, sums.tolist()) == ("float64", [1.0 if size else 0.0, 0.0][: len(keys)])


def test_whole_numbers_with_nulls_among_them_are_keys_equal_to_those_without() -> None:
    plain, nulls = np.array([7, 8, 2**53 - 1]), np.array([2**53 - 1, np.nan, 7, 9])
    for facts, asked, expected in ((plain, nulls, [1, np.nan, 1, 0]), (nulls, plain, [1, 0, 1])):
        rows = {"key": facts, **dict.fromkeys(("event", "known"), times([1] * len(facts)))}
        found = answer([replace(SUM_120, by=("key",))], {"r": rows}, asked={"key": asked}, at=times([1] * len(asked)))
        np.testing.assert_array_equal(found["rows"], expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("more", "exact"), [(-1, True), (0, True), (1, False)])
def test_a_whole_number_comes_back_exactly_or_not_at_all(more: int, exact: bool, sign: int) -> None:
    rows = [fact(1, 1, weight=sign * (EXACT - 1)), fact(2, 2, weight=sign * (1 + more))]
    total = Sums(facts=REPORTED, by=("airport",), within=9 * MINUTE, sums={"total": "weight"})
    one = Newest(facts=REPORTED, by=("airport",), values={"total": "weight"})
    for question, facts in ((total, rows), (one, [fact(1, 1, weight=sign * (EXACT + more))])):
        if exact:
            assert Case(3, facts, None).answered(question) == {"total": sign * (EXACT + more)}
        else:
            with pytest.raises(OverflowError, match="holds a whole number beyond 2\\^53"):
                Case(3, facts, None).answered(question)


def test_only_whole_numbers_are_summed() -> None:
    delays = replace(SUM_120, sums={"delay": "value"})
    with pytest.raises(TypeError, match="value is float64: only whole numbers are summed exactly; make it int64"):
        Case(5, [fact(0, 9)], None).answered(delays)


def test_what_facts_ask_and_who_asks_them_needs_a_tolerance() -> None:
    with pytest.raises(ValueError, match="what facts of p ask needs a tolerance: look-backs add up"):
        replace(ANNOUNCED, asks=(EARLIER, EVER))
    with pytest.raises(ValueError, match="facts of r that ask need a tolerance: look-backs add up"):
        replace(EVER, facts=TRENDING)


def test_a_row_usable_outside_of_its_tables_times_is_refused() -> None:
    facts = replace(REPORTED, table=replace(REPORTS, times=("known", "end")))
    question = replace(SUM_120, facts=facts)
    for event, known, end, refused in ((5, 4, 5, False), (6, 4, 5, True), (6, 4, None, True), (4, 4, None, False)):
        case = Case(9, [fact(event, known, end=end), fact(None, 4), fact(4, None)], None)
        if refused:
            with pytest.raises(ValueError, match="r: a row becomes usable at its event and known, not between"):
                case.answered(question)
        else:
            assert case.answered(question) == {"rows": 1}


def test_derived_columns_stand_beside_those_read() -> None:
    table = replace(REPORTS, derive=lambda rows: {"double": 2 * rows["value"]})
    found = prepared(table, {"value": np.array([1, 2])})
    assert {name: column.tolist() for name, column in found.items()} == {"value": [1, 2], "double": [2, 4]}


def test_a_question_that_makes_no_sense_is_refused_where_it_is_declared() -> None:
    table = Table(name="t", columns=("at", "key"), times=("at",))
    facts = Facts(table=table, event_time="at", known_time="at")
    day = timedelta(days=1)
    for wrong, why in (
        (lambda: Facts(table=table, event_time="at", known_time="at", before=-day), "before is -1 day"),
        (lambda: Newest(facts=facts, by=("key",), values={}, tolerance=-day), "tolerance is -1 day"),
        (lambda: Newest(facts=facts, by=("key",), values={}, tolerance=timedelta.max), "must be from 0 to 36,525 days"),
        (lambda: Sums(facts=facts, by=("key",), within=-day), "within is -1 day"),
    ):
        with pytest.raises(ValueError, match=why):
            wrong()
    assert Sums(facts=facts, by=("key",), within=timedelta(days=36_525)).count is None


def test_an_end_that_no_table_has_is_an_error_and_sums_beyond_64_bits_are_one() -> None:
    table = Table(name="t", columns=("at", "key", "much"), times=("at",))
    facts = Facts(table=table, event_time="at", known_time="at")
    at = np.array(["2013-01-01", "2013-01-01"], "datetime64[us]")
    rows = {"at": at, "key": np.array(["a", "a"], dtype=object), "much": np.full(2, 2**62)}
    day = timedelta(days=1)
    with pytest.raises(KeyError, match="no_such_column"):
        answer(
            [Sums(facts=facts, by=("key",), within=day, end="no_such_column", count="n")],
            {"t": rows},
            asked=rows,
            at=at,
        )
    with pytest.raises(OverflowError, match="the values of much are too large"):
        answer([Sums(facts=facts, by=("key",), within=day, sums={"n": "much"})], {"t": rows}, asked=rows, at=at)
