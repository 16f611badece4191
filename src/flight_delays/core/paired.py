"""Two versions' forecasts for the same logged requests, with the same columns."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flight_delays.core.columns import Columns
from flight_delays.core.contract import GOLDEN_TOLERANCE
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import Objective
from flight_delays.core.scoring_request import BadRequestError, RequestParser, answers_in

Bools = npt.NDArray[np.bool_]
Looked = Mapping[str, Sequence[float | None]]
"""An entity to what is known of it, in the order of the looked-up columns."""

CHANGED = "the champion's answer can't be repeated: its looked-up columns were others"


class Version(Protocol):
    """What is called of a version (platform/shell.py)."""

    @property
    def looked_up(self) -> Sequence[str]:
        """Columns that a request may leave out."""

    def score(self, columns: Columns) -> Columns:
        """The output columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Logged:
    """Rows of logged requests.

    `columns` has NaN where a row leaves a looked-up column out, which `given` tells of each such column; `answers` are
    the logged outputs. `left_out` counts the requests that can't be read, by reason.
    """

    entities: npt.NDArray[np.str_]
    columns: Columns
    given: Mapping[str, Bools]
    answers: Mapping[str, Floats]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Paired:
    """One value per row, in order, for clocks.agreement.

    `decisions` are the champion's and the challenger's, None for a regression. `left_out` counts by reason the rows
    that can't be compared (a request that can't be read is one). At `failed` rows the challenger raised, the first time
    `why`; its forecast is NaN there, and its decision not the champion's.
    """

    entities: npt.NDArray[np.str_]
    champion: Floats
    challenger: Floats
    decisions: tuple[Bools, Bools] | None
    left_out: Mapping[str, int]
    failed: int
    why: str | None


def logged(
    payloads: Iterable[tuple[str | None, str | None]],
    parser: RequestParser,
    looked_up: Sequence[str],
    entity_ids: Callable[[Columns], Sequence[str]],
    outputs: Sequence[str],
    *,
    limit: int,
) -> Logged:
    """The rows of requests with their responses, in order, until there are `limit` rows; the rest is not read.

    `parser` is the champion's: what it would refuse today is left out.
    """
    entities: list[str] = []
    parts: list[Columns] = []
    answers: list[dict[str, float]] = []
    left_out: Counter[str] = Counter()
    for request, response in payloads:
        try:
            parsed = parser.parse((request or "").encode())
            answered = answers_in(response, parsed.rows, outputs)
        except BadRequestError as error:
            left_out[str(error)] += 1
            continue
        parts.append(parsed.columns)
        entities += entity_ids(parsed.columns)
        answers += answered
        if len(entities) >= limit:
            break
    required = [name for name in (parts[0] if parts else ()) if name not in looked_up]
    lengths = [len(part[required[0]]) for part in parts]
    columns = {name: np.concatenate([part[name] for part in parts])[:limit] for name in required}
    given = {}
    for name in looked_up:
        nothing = [np.full(rows, np.nan) for rows in lengths]
        cells = [part.get(name, empty) for part, empty in zip(parts, nothing, strict=True)]
        columns[name] = np.concatenate([[], *cells]).astype("float64")[:limit]
        given[name] = np.repeat([name in part for part in parts], lengths).astype("bool")[:limit]
    return Logged(
        entities=np.array(entities[:limit], "str"),
        columns=columns,
        given=given,
        answers={name: np.array([answer[name] for answer in answers[:limit]], "float64") for name in outputs},
        left_out=left_out,
    )


def paired(rows: Logged, known: Looked, champion: Version, challenger: Version, objective: Objective) -> Paired:
    """The champion's logged forecasts, and the challenger's made with the columns that the champion had.

    Columns that a row leaves out the service looked up, and did not log. They are taken from `known`, or are null, as
    where the service found none: whichever gives the logged forecast when the champion scores the row again. Where
    neither does, the challenger would be held to columns that the champion never saw, and the row is left out.
    """
    forecast, answered = objective.forecast, rows.answers[objective.forecast]
    filled = _filled(rows, known)
    by_known = _same(_score(champion, filled, objective).answers[forecast], answered)
    columns = {
        name: np.where(by_known, filled[name], values) if name in rows.given else values
        for name, values in rows.columns.items()
    }
    same = _same(_score(champion, columns, objective).answers[forecast], answered)
    kept = {name: values[same] for name, values in columns.items()}
    scored = _score(challenger, kept, objective)
    decisions = None
    if objective.kind == "binary":
        decided = rows.answers["prediction"][same] == 1
        found = scored.answers["prediction"]
        decisions = decided, np.where(np.isnan(found), ~decided, found == 1)
    changed = {CHANGED: int((~same).sum())} if not same.all() else {}
    return Paired(
        entities=rows.entities[same],
        champion=answered[same],
        challenger=scored.answers[forecast],
        decisions=decisions,
        left_out={**rows.left_out, **changed},
        failed=scored.failed,
        why=scored.why,
    )


def _filled(rows: Logged, known: Looked) -> Columns:
    nothing = (None,) * len(rows.given)
    found = np.array([known.get(entity, nothing) for entity in rows.entities], "float64")
    found = found.reshape(len(rows.entities), len(rows.given))
    filled = {
        name: np.where(given, rows.columns[name], found[:, at]) for at, (name, given) in enumerate(rows.given.items())
    }
    return {**rows.columns, **filled}


def _same(again: Floats, logged: Floats) -> Bools:
    same: Bools = np.abs(again - logged) <= GOLDEN_TOLERANCE
    return same


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    answers: Mapping[str, Floats]
    failed: int = 0
    why: str | None = None


def _score(version: Version, columns: Columns, objective: Objective) -> _Scored:
    """All rows at once; if that fails one by one, as one row may be to blame for it. NaN where the version raises."""
    rows = len(next(iter(columns.values()), ()))
    answers = {name: np.full(rows, np.nan) for name in objective.outputs}

    def score(at: slice) -> None:
        found = version.score({name: values[at] for name, values in columns.items()})
        for name, values in answers.items():
            values[at] = np.reshape(found[name], values[at].shape)  # one value may not stand for all rows

    failed, why = 0, None
    try:
        score(slice(rows))
    except Exception:  # whatever a model may raise
        for row in range(rows):
            try:
                score(slice(row, row + 1))
            except Exception as error:
                for values in answers.values():
                    values[row] = np.nan
                failed, why = failed + 1, why or shorten(f"{type(error).__name__}: {error}", 300)
    return _Scored(answers=answers, failed=failed, why=why)
