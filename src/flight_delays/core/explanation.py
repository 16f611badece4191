"""Why a prediction says what it says: the facts it was made from, and whether they give the same forecast again.

No I/O: what was read is `Evidence`, and what can't be read any more is a `Gone`. Features and forecasts are computed by
the functions that batch, stream and service use. The same means: bit for bit.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import pyarrow as pa

from flight_delays.core.as_of import Newest, Question, names, prepared, taken
from flight_delays.core.columns import Column, Columns, from_arrow
from flight_delays.core.feature_set import PREDICTION_TIME
from flight_delays.core.prediction import Recorded
from flight_delays.core.scoring import SERVING, inputs_of
from flight_delays.core.scoring_request import BadRequestError, RequestParser
from flight_delays.core.signature import Signature
from flight_delays.core.use_case import UseCase

_MAX_ROWS = 1_000_000  # of one request
_ABSENT = "no such column"


@dataclass(frozen=True, kw_only=True)
class Gone:
    """What can't be read any more, or never was there, and why."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """The very version that forecast, loaded; `digest` is that of its files."""

    signature: Signature
    score: Callable[[Columns], Columns]
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What the features of one row are recomputed from: the raw row that asks, and the rows that can matter to it.

    `place` says in words where they were read.
    """

    place: str
    asking: pa.Table
    rows: Mapping[str, pa.Table]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """A row of table features; `place` says in words which."""

    place: str
    row: pa.Table


@dataclass(frozen=True, kw_only=True)
class Logged:
    """The request that was answered, and the row's place in it, from 1."""

    request: str
    position: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What is left of a prediction.

    Of `known` and `stored` the first says most; `logged` is of a served one. `digest` is what was recorded of the
    version's files, if anything was.
    """

    prediction: Recorded
    model: Model | Gone
    known: Sequence[Known | Gone]
    stored: Sequence[Stored | Gone]
    logged: Logged | Gone | None = None
    digest: str | None = None


class Outcome(StrEnum):
    """Of a comparison."""

    SAME = "the same, bit for bit"
    DIFFERS = "DIFFERS"
    UNKNOWN = "NOT CHECKED"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A comparison with what is stored: exactly what differs, or why it could not be made, a line each."""

    what: str
    outcome: Outcome
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A raw row that was taken for `answers`, and when it became known.

    `values` are those of its columns that are part of the answer. A newer row for the same `event_time`, a correction,
    was known at `corrected_at`, after the prediction.
    """

    answers: tuple[str, ...]
    table: str
    key: Mapping[str, object]
    event_time: datetime
    known_at: datetime
    values: Mapping[str, object]
    is_newest: bool
    corrected_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a model takes in one column, as stored and as recomputed; None also where it is neither."""

    name: str
    stored: object
    recomputed: object


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """`facts` and `values` are those of the last row that was recomputed.

    `is_same` says that the forecast was recomputed from the raw tables, or from a request, and that nothing differs.
    """

    facts: tuple[Fact, ...]
    values: tuple[Value, ...]
    checks: tuple[Check, ...]
    gone: tuple[Gone, ...]
    is_same: bool


def explain(use_case: UseCase, evidence: Evidence) -> Explanation:
    """Recompute features and forecast, and compare them with what is stored."""
    if evidence.prediction.source == SERVING:
        return _explain_served(use_case, evidence)
    known, made, checks = None, None, list[Check]()
    stored = _first_stored(evidence)
    for known in (one for one in evidence.known if isinstance(one, Known)):
        made = use_case.features.build(known.asking, known.rows)
        if stored:
            checks.append(_features_check(use_case, evidence, stored, known.place, made))
        checks.append(_forecast_check(evidence, f"forecast from {known.place}", made))
        if checks[-1].outcome is Outcome.SAME:
            break
    if made is None:
        checks.append(Check(what="features and forecast", outcome=Outcome.UNKNOWN, lines=("no raw rows are left",)))
    is_same = checks[-1].outcome is Outcome.SAME
    if stored:
        checks.append(_forecast_check(evidence, f"forecast from {stored.place}", stored.row))
    return _explanation(use_case, evidence, known, checks, _row(stored.row if stored else None), _row(made), is_same)


def _explain_served(use_case: UseCase, evidence: Evidence) -> Explanation:
    """The request gave what it gave; what it left out the service looked up, and did not log."""
    request = _request(use_case, evidence)
    if isinstance(request, Check):
        return _explanation(use_case, evidence, None, [request], {}, {}, is_same=False)
    given = {name: _value(values[0]) for name, values in request.items()}
    left_out = [name for name in _inputs(use_case, evidence.model) if name not in request]
    if not left_out:
        what = "forecast from the logged request, which has all columns"
        check = _answer_check(evidence, what, request)
        return _explanation(use_case, evidence, None, [check], given, {}, is_same=check.outcome is Outcome.SAME)
    stored, made, checks = _first_stored(evidence), None, list[Check]()
    known = next((one for one in evidence.known if isinstance(one, Known)), None)
    if known:
        made = use_case.features.build(known.asking, known.rows)
    if known and stored and made is not None:
        checks.append(_features_check(use_case, evidence, stored, known.place, made))
    checks.append(_looked_up_check(evidence, request, left_out, stored, made))
    told = {**_row(stored.row if stored else None), **given}
    is_same = checks[-1].outcome is Outcome.SAME
    return _explanation(use_case, evidence, known, checks, told, _row(made), is_same)


def _explanation(
    use_case: UseCase,
    evidence: Evidence,
    known: Known | None,
    checks: Sequence[Check],
    stored: Mapping[str, object],
    made: Mapping[str, object],
    is_same: bool,
) -> Explanation:
    read = (evidence.logged, *evidence.known, *evidence.stored, evidence.model)
    if evidence.digest is not None and isinstance(evidence.model, Model):
        recorded, now = ({"digest": one} for one in (evidence.digest, evidence.model.digest))
        checks = [_check("files of the version", differences(recorded, now, ["digest"])), *checks]
    return Explanation(
        facts=tuple(_facts(use_case, known)) if known else (),
        values=tuple(
            Value(name=name, stored=stored.get(name), recomputed=made.get(name))
            for name in _inputs(use_case, evidence.model)
        ),
        checks=tuple(checks),
        gone=tuple(one for one in read if isinstance(one, Gone)),
        is_same=is_same and all(check.outcome is not Outcome.DIFFERS for check in checks),
    )


def differences(stored: Mapping[str, object], again: Mapping[str, object], columns: Sequence[str]) -> tuple[str, ...]:
    """A line for each column whose value is another, be it in its last bit."""
    found = []
    for name in columns:
        one, other = (told.get(name, _ABSENT) for told in (stored, again))
        if _bits(one) != _bits(other):
            found.append(f"{name}: {one!r} stored, {other!r} recomputed")
    return tuple(found)


def _bits(value: object) -> object:
    return struct.pack("<d", value) if isinstance(value, float) else value


def _row(rows: pa.Table | None) -> dict[str, object]:
    """The only row; nothing where there is none."""
    return {} if rows is None else {name: rows[name][0].as_py() for name in rows.schema.names}


def _inputs(use_case: UseCase, model: Model | Gone) -> list[str]:
    return [*use_case.inputs] if isinstance(model, Gone) else [column.name for column in model.signature.inputs]


def _first_stored(evidence: Evidence) -> Stored | None:
    return next((one for one in evidence.stored if isinstance(one, Stored)), None)


def _check(what: str, off: tuple[str, ...]) -> Check:
    return Check(what=what, outcome=Outcome.DIFFERS if off else Outcome.SAME, lines=off)


def _features_check(use_case: UseCase, evidence: Evidence, stored: Stored, place: str, made: pa.Table) -> Check:
    columns = _inputs(use_case, evidence.model)
    what = f"{len(columns)} columns of {stored.place}, recomputed from {place}"
    return _check(what, differences(_row(stored.row), _row(made), columns))


def _forecast_check(evidence: Evidence, what: str, rows: pa.Table) -> Check:
    """What the version answers to the only row of `rows`."""
    if isinstance(evidence.model, Model):
        signature = evidence.model.signature
        if lacking := [column.name for column in signature.inputs if column.name not in rows.schema.names]:
            why = f"the version takes {', '.join(lacking)}, which the code installed here does not compute"
            return Check(what=what, outcome=Outcome.UNKNOWN, lines=(why,))
        return _answer_check(evidence, what, inputs_of(signature, rows))
    return _answer_check(evidence, what, {})


def _answer_check(evidence: Evidence, what: str, inputs: Columns) -> Check:
    """What the version answers, against the prediction."""
    if isinstance(evidence.model, Gone):
        return Check(what=what, outcome=Outcome.UNKNOWN, lines=(f"{evidence.model.what}: {evidence.model.why}",))
    try:
        answers = {name: float(values[0]) for name, values in evidence.model.score(inputs).items()}
    except Exception as error:  # whatever a model may raise, with other libraries than it was made with
        return Check(what=what, outcome=Outcome.UNKNOWN, lines=(f"the version raised {type(error).__name__}: {error}",))
    return _check(what, differences(vars(evidence.prediction), answers, [*answers]))


def _request(use_case: UseCase, evidence: Evidence) -> Columns | Check:
    """The columns of the row that was asked for, by the version's signature; or why they can't be told."""
    what, logged = "forecast from the logged request", evidence.logged
    if not isinstance(logged, Logged):
        return Check(what=what, outcome=Outcome.UNKNOWN, lines=("the request is gone",))
    signature = use_case.signature if isinstance(evidence.model, Gone) else evidence.model.signature
    try:
        columns = RequestParser(signature, max_rows=_MAX_ROWS).parse(logged.request.encode()).columns
    except BadRequestError as error:
        return Check(what=what, outcome=Outcome.UNKNOWN, lines=(f"the request can't be read: {error}",))
    return {name: values[logged.position - 1 : logged.position] for name, values in columns.items()}


def _looked_up_check(
    evidence: Evidence, request: Columns, left_out: Sequence[str], stored: Stored | None, made: pa.Table | None
) -> Check:
    """The forecast with what the service may have looked up: only the same proves anything, and not all of it."""
    what, model = "forecast from the logged request", evidence.model
    if isinstance(model, Gone):
        return _answer_check(evidence, what, request)
    rows = {} if stored is None else {stored.place: stored.row}
    if made is not None:
        rows["that row recomputed"] = made
    filled: dict[str, Columns] = {}
    for place, row in rows.items():
        there = [one for one in model.signature.inputs if one.name in left_out and one.name in row.schema.names]
        filled[place] = inputs_of(Signature(inputs=tuple(there), outputs=()), row)
    filled["null for what it left out"] = {}
    tried = []
    for place, values in filled.items():
        check = _answer_check(evidence, f"{what}, and {place}", {**request, **values})
        if check.outcome is Outcome.SAME:
            note = f"what the online store answered for {len(left_out)} columns is not stored: likely this, unproven"
            return replace(check, lines=(note,))
        tried += [f"with {place}: {line}" for line in check.lines]
    why = f"what the online store answered for {', '.join(left_out)} is not stored, and no row that is gives the same"
    return Check(what=what, outcome=Outcome.UNKNOWN, lines=(why, *tried))


def _facts(use_case: UseCase, known: Known) -> Iterator[Fact]:
    features = use_case.features
    asked = from_arrow(features.kept(known.asking))
    tables = {name: prepared(table, from_arrow(known.rows[name])) for name, table in features.tables().items()}
    for asks in features.questions:
        for question, row in taken(asks, tables, asked=asked, at=asked[PREDICTION_TIME]):
            yield _fact(use_case, question, tables[question.facts.table.name], row, asked[PREDICTION_TIME])


def _fact(use_case: UseCase, question: Question, columns: Columns, row: int, at: Column) -> Fact:
    facts, is_newest = question.facts, isinstance(question, Newest)
    told = question.values.values() if isinstance(question, Newest) else question.sums.values()
    event, known = columns[facts.event_time], columns[facts.known_time]
    of_key = [columns[name] == columns[name][row] for name in question.by]
    corrections = known[np.all([*of_key, event == event[row], known > at], axis=0)] if is_newest else known[:0]
    return Fact(
        answers=names(question),
        table=facts.table.name,
        key={name: _value(columns[name][row]) for name in use_case.contract(facts.table.name).key},
        event_time=_time(event[row]),
        known_at=_time(known[row]),
        values={name: _value(columns[name][row]) for name in dict.fromkeys(told) if name in columns},
        is_newest=is_newest,
        corrected_at=_time(corrections.min()) if len(corrections) else None,
    )


def _time(moment: np.datetime64) -> datetime:
    found: datetime = moment.astype("datetime64[us]").item()
    return found.replace(tzinfo=UTC)


def _value(cell: object) -> object:
    """As Python has it; null as None."""
    if isinstance(cell, np.datetime64) and not np.isnat(cell) and isinstance(cell.astype(object), datetime):
        return _time(cell)
    value = cell.item() if isinstance(cell, np.generic) else cell
    return None if value != value else value  # NaN
