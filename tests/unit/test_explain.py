"""What `explain` prints, and how a version is told to have come to serve."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from tests.bikes import USE_CASE
from tests.contexts import decision
from tests.unit.test_explanation import LOST, evidence

from flight_delays.core.contract import Documentation
from flight_delays.core.explanation import Evidence, Gone
from flight_delays.core.stream import TableVersion
from flight_delays.platform.decision_log import Decision
from flight_delays.platform.explained import Read, Run
from flight_delays.platform.rollout_log import Release, release_of
from flight_delays.tasks.explain import show_explanation

NOON = datetime(2011, 3, 1, 12, tzinfo=UTC)
NAME = "bikes"
RUN = Run(
    query_id=None,
    batch_id=None,
    landed=None,
    tables={"features": TableVersion(id="id", version=4)},
    recorded_at=NOON,
)
TRAINED = Documentation(
    description="A forest.",
    tags={"git_commit": "0a1b2c3", "trained_until": "2011-03-01"},
    lineage={"features": 2, "labels": 1},
    files=frozenset(),
    digest="0a1b",
)


def at(hours: int, made: Decision, allowed_by: str | None = None, **changes: object) -> Decision:
    """As it was recorded so many hours after noon."""
    return replace(made, recorded_at=NOON + timedelta(hours=hours), allowed_by=allowed_by, **changes)  # type: ignore[arg-type]


def step(hours: int, version: int, action: str, percentage: int, allowed_by: str, why: str) -> Decision:
    made = decision("rollout", NAME, version, 1, f"step at {hours}", NOON)
    said = {"outcome": action, "reasons": (why,), "evidence": json.dumps({"percentage": percentage})}
    return at(hours, made, allowed_by, **said)


FIRST, SECOND, AGAIN = (decision("verdict", NAME, version, None, f"v{n}", NOON) for n, version in enumerate((1, 2, 2)))
LOG = [
    at(0, FIRST),
    at(1, decision("promotion", NAME, 1, None, "p0", NOON), "v0"),
    at(2, SECOND),
    step(3, 2, "START", 0, "v1", "verdict PASS"),
    step(4, 2, "ROLL_BACK", 0, "v1", "too many errors"),
    at(5, AGAIN),
    step(6, 2, "START", 0, "v2", "verdict PASS"),
    step(7, 2, "ADVANCE", 5, "v2", "all clocks are good"),
    at(8, decision("promotion", NAME, 2, 1, "p2", NOON), "v2"),
    at(9, decision("rollback", NAME, 1, 2, "r1", NOON)),
    at(10, decision("promotion", NAME, 2, 1, "p3", NOON), "order of today"),
]
NOTHING = Release(release=None, verdict=None, steps=())


@pytest.mark.parametrize(
    ("version", "hours", "release", "verdict", "steps"),
    [
        (1, 8, "p0", "v0", []),
        (1, 9, "r1", "v0", []),  # which served before by that verdict
        (2, 8, "p2", "v2", [6, 7]),  # and not those of the rollout before
        (1, 0, "p0", "v0", []),  # the alias moves moments before it is logged
        (2, 7, None, "v2", [6, 7]),  # as a challenger, then
        (2, 4, None, "v1", [3, 4]),
        (2, 10, "p3", None, []),
        (2, 12, None, "v2", [6, 7, 12]),  # as a challenger again
    ],
)
def test_a_version_serves_by_its_newest_release_or_rollout_at_that_moment(
    version: int, hours: int, release: str | None, verdict: str | None, steps: Sequence[int]
) -> None:
    log = [*LOG, step(12, 2, "START", 0, "v2", "verdict PASS")] if hours == 12 else LOG
    found = release_of(log, version, NOON + timedelta(hours=hours))
    assert (found.release.decision_id if found.release else None) == release
    assert (found.verdict.decision_id if found.verdict else None) == verdict
    assert [one.decision_id for one in found.steps] == [f"step at {hours}" for hours in steps]


def test_a_challenger_serves_by_its_rollout_and_a_version_that_nobody_released_by_nothing() -> None:
    under_way = release_of(LOG[:8], 2, NOON + timedelta(hours=7))
    assert (under_way.release, under_way.verdict) == (None, LOG[5])
    assert len(under_way.steps) == 2
    assert release_of(LOG, 3, NOON) == release_of([], 1, NOON) == NOTHING


def printed(found: Evidence, release: Release = NOTHING, rows: int = 3, **instead: object) -> tuple[bool, str]:
    """Whether it is the same, and what is printed, in single spaces."""
    console = Console(file=io.StringIO(), width=200)
    whole = Read(evidence=found, run=RUN, documentation=TRAINED, release=release)
    same = show_explanation(console, USE_CASE, replace(whole, **instead), rows=rows)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return same, re.sub(r"[ │]+", " ", console.file.getvalue())


def told(text: str, lines: Sequence[str]) -> Mapping[str, bool]:
    return {line: line in text for line in lines}


def test_it_says_where_a_prediction_comes_from() -> None:
    same, said = printed(evidence(), release_of(LOG, 2, NOON + timedelta(hours=8)))
    lines = (
        "hour 2011-03-08T18Z",
        f"forecast prediction {evidence().prediction.prediction!r} (id)",
        "version 3 of bikes",
        "its code commit 0a1b2c3",
        "its files digest 0a1b",
        "trained on features at version 2, labels at version 1; days before 2011-03-01",
        "scored from features at version 4 (run run)",
        "verdict PASS as of 2011-03-01 12:00:00, 1 checks PASS",
        "rollout START, 0 %, recorded 2011-03-01 18:00:00: verdict PASS",
        "rollout ADVANCE, 5 %, recorded 2011-03-01 19:00:00: all clocks are good",
        "serves by promotion as of 2011-03-01 12:00:00, recorded 2011-03-01 20:00:00, in place of version 1",
        "decided by the gate: verdict PASS",
        "severity, temp, hum, 1 more: 1 of raw_conditions\n",
        " city Washington, of 2011-03-08 11:00:00, known at 2011-03-08 12:00:00: severity 0.0, temp 0.2, hum 0.59, ",
        "forecast from raw tables: the same, bit for bit",
    )
    assert all(told(said, lines).values()), told(said, lines)
    assert same


@pytest.mark.parametrize(("version", "hours"), [(1, 9), (2, 10)], ids=["a rollback", "an order past the gate"])
def test_a_persons_order_is_told_from_the_gates(version: int, hours: int) -> None:
    _, said = printed(evidence(), release_of(LOG, version, NOON + timedelta(hours=hours)))
    assert "decided by a person's order: verdict PASS (decisions does not record whose; the job's run does)" in said
    assert "the gate" not in said


def test_what_is_gone_is_told_where_it_would_be() -> None:
    gone = Gone(what="the record of run run", why="table runs has no row of it")
    same, said = printed(evidence(model=LOST), run=gone, documentation=LOST)
    lines = (
        "its training GONE: model bikes has no version 3",
        "scored from GONE: table runs has no row of it",
        "serves by no decision: its alias was set past the jobs",
        "GONE: version 3 of bikes: model bikes has no version 3",
        "forecast from raw tables: NOT CHECKED",
    )
    assert all(told(said, lines).values()), told(said, lines)
    assert not same


@pytest.mark.parametrize(
    ("instead", "line"),
    [({}, "weather_hum 0.59 0.59"), ({"stored": []}, "weather_hum 0.59"), ({"known": []}, "weather_hum 0.59")],
    ids=["both", "not stored", "not recomputed"],
)
def test_what_is_not_stored_or_not_recomputed_is_no_null(instead: dict[str, object], line: str) -> None:
    _, said = printed(evidence(**instead))
    lines = [one.strip() for one in said.splitlines()]
    assert line in lines
    assert not [one for one in lines if one.startswith("weather_") and "null" in one]


@pytest.mark.parametrize(("rows", "more"), [(1, 23), (23, 1), (24, 0)])
def test_of_rows_that_were_counted_together_the_newest_are_shown(rows: int, more: int) -> None:
    _, said = printed(evidence(), rows=rows)
    _, counted = said.split(" hours, rented: 24 of raw_hours, known from 2011-03-07 13:00:00 on\n")
    own, _ = counted.split(" hours_7d, rented_7d: 166 of raw_hours, known from ")
    lines = own.splitlines()
    assert lines[0] == " hour_id 2011-03-08T11Z, known at 2011-03-08 12:00:00: rented 45"
    assert lines[rows:] == ([f" and {more} more"] if more else [])
