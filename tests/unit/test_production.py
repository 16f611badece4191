"""What people are told of production: in words and tables, of what the tables hold and of what they lack."""

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.contexts import decision

from flight_delays.core.errors import UserError
from flight_delays.platform.decision_log import Decision
from flight_delays.views import production, watched
from flight_delays.views.look import Look
from flight_delays.views.watched import Watched

MODEL = "main.bikes.model"
NOW = datetime(2013, 12, 31, 12, tzinfo=UTC)
TODAY = date(2013, 12, 30)  # the last whole day
DAY = timedelta(days=1)
COLUMNS = {
    "open_incidents": "model_version family since day acknowledged affected reason",
    "signals": "model_version kind subject day days outcome value allowed p_value reason",
    "daily_performance": "model_version source day complete coverage loss loss_28_days loss_28_days_low "
    "loss_28_days_high",
    "estimated_performance": "model_version source day estimated_loss",
}
INCIDENT = {
    "model_version": 2,
    "family": "data",
    "since": TODAY - 3 * DAY,
    "day": TODAY,
    "acknowledged": False,
    "affected": "drift wind",
    "reason": "wind is higher; look at its delivery",
}
SIGNAL = {
    "model_version": 2,
    "kind": "drift",
    "subject": "wind",
    "day": TODAY,
    "days": 7,
    "outcome": "OK",
    "value": 0.1,
    "allowed": 0.2,
    "p_value": 0.5,
    "reason": "as before",
}
MEASURED = {
    "model_version": 2,
    "source": "batch",
    "day": TODAY,
    "complete": True,
    "coverage": 0.9,
    "loss": 0.5,
    "loss_28_days": 0.4,
    "loss_28_days_low": 0.3,
    "loss_28_days_high": 0.6,
}
ESTIMATED = {"model_version": 2, "source": "batch", "day": TODAY, "estimated_loss": 0.45}


def frame(table: str, *rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS[table].split())


def found(decisions: list[Decision] | None = None, **tables: pd.DataFrame | UserError) -> Watched:
    """Of a fresh schema, but for what is given."""
    empty: dict[str, pd.DataFrame | UserError] = {name: frame(name) for name in COLUMNS}
    released = [decided("verdict", 2), decided("promotion", 2)] if decisions is None else decisions
    return Watched(decisions=released, tables=empty | tables, as_of=NOW, last_day=TODAY, loss="log loss")


def decided(kind: str, version: int, other: int | None = None, at: datetime = NOW, **changes: Any) -> Decision:
    return replace(decision(kind, MODEL, version, other, f"{kind} {version}", at), **changes)


def rollout(version: int, *steps: tuple[str, int, datetime]) -> list[Decision]:
    return [
        decided(
            *("rollout", version, 2, at),
            outcome=action,
            reasons=(f"why {action}",),
            evidence=json.dumps({"step": number, "percentage": share, "at": at.isoformat()}),
            allowed_by=f"verdict {version}",
        )
        for number, (action, share, at) in enumerate(steps)
    ]


STARTED = (("START", 0, NOW - 3 * DAY), ("SERVE", 0, NOW - 3 * DAY), ("ADVANCE", 5, NOW - DAY))


def test_before_anything_was_decided_the_headline_says_so() -> None:
    assert found([]).headline == (
        "No version serves yet; whether anything is wrong was not measured; no version is being rolled out."
    )


def test_the_headline_says_what_serves_since_when_and_why_and_what_is_rolled_out() -> None:
    steps = rollout(3, *STARTED, ("SERVE", 5, NOW - DAY / 2))
    looked_at = found(
        [decided("promotion", 2, 1, NOW - 9 * DAY), *steps],
        signals=frame("signals", SIGNAL),
        open_incidents=frame("open_incidents"),
    )
    assert looked_at.headline == (
        "Version 2 serves since 2013-12-22 12:00 UTC in place of version 1 (promotion: verdict PASS); no incident is "
        "open; version 3 is being rolled out: 5 % of the requests since 2013-12-31 00:00 UTC."
    )


@pytest.mark.parametrize(("action", "how"), [("PAUSE", "paused"), ("ASK", "waiting for a person")])
def test_the_headline_says_that_a_rollout_stands_still(action: str, how: str) -> None:
    steps = rollout(3, *STARTED, ("SERVE", 5, NOW - DAY), (action, 5, NOW))
    assert f"version 3 is being rolled out, {how}: 5 %" in production.headline(steps, "")


@pytest.mark.parametrize(
    ("acknowledged", "said"),
    [
        ([False], "1 incident is open, 1 of them not acknowledged"),
        ([True], "1 incident is open, none of them not acknowledged"),
        ([True, False, False], "3 incidents are open, 2 of them not acknowledged"),
    ],
)
def test_open_incidents_are_counted_whatever_was_measured(acknowledged: list[bool], said: str) -> None:
    incidents = frame("open_incidents", *({**INCIDENT, "acknowledged": one} for one in acknowledged))
    for looked_at in (True, False):
        assert production.health(incidents, ["something"], looked_at=looked_at) == said


def test_what_was_not_measured_is_never_healthy() -> None:
    none = frame("open_incidents")
    assert production.health(none, [], looked_at=True) == "no incident is open"
    assert production.health(none, ["a line"], looked_at=True) == "no incident is open, but not all was measured"
    for unknown in (
        production.health(none, [], looked_at=False),
        production.health(None, [], looked_at=True),
    ):
        assert unknown == "whether anything is wrong was not measured"


@pytest.mark.parametrize(("days", "late"), [(1, 1), (1, 2), (7, 7), (7, 8), (28, 7), (28, 8)])
def test_a_kind_that_nobody_looked_at_for_as_long_as_its_window_or_a_week_is_named(days: int, late: int) -> None:
    """Below, at and above the limit."""
    last = TODAY - late * DAY
    fresh = {**SIGNAL, "kind": "volume", "days": 1}
    said = production.unmeasured(frame("signals", fresh, {**SIGNAL, "days": days, "day": last}), TODAY)
    expected = [f"Not looked at after {last}, and the last whole day is {TODAY}: drift."]
    assert said == (expected if late > min(days, 7) else [])


def test_what_the_newest_windows_do_not_know_is_named_with_the_reason() -> None:
    unknown = {**SIGNAL, "outcome": "UNKNOWN", "reason": "too few rows", "value": None, "p_value": None}
    before = {**unknown, "subject": "known since", "day": TODAY - DAY}
    assert production.unmeasured(frame("signals", before, SIGNAL, {**unknown, "subject": "rain"}), TODAY) == [
        "Not measured in the newest windows: drift of rain (too few rows)."
    ]
    many = frame("signals", *({**unknown, "subject": str(number)} for number in range(7)))
    assert production.unmeasured(many, TODAY)[0].endswith("drift of 4 (too few rows) and 2 more.")


def test_an_incident_says_what_changed_and_what_was_decided_since() -> None:
    begun = datetime.combine(INCIDENT["since"], datetime.min.time(), UTC)  # type: ignore[arg-type]
    acts = [
        decided("retraining", 2, None, begun - timedelta(seconds=1), outcome="KEEP"),
        decided("verdict", 3, 2, begun),
        decided("retraining", 2, None, begun, outcome="RETRAIN", reasons=("wind drifted",)),
    ]
    newer = {
        **INCIDENT,
        "since": TODAY,
        "acknowledged": True,
        "family": "performance",
        "affected": "nulls of a, drift of b, nulls of c, nulls of d, range of e, range of f",
    }
    table = production.incident_table(frame("open_incidents", INCIDENT, newer), acts)
    assert table.to_dict("records") == [
        {
            "since": TODAY,
            "what": "performance: nulls of 3 columns, drift of b, range of e, range of f",
            "what changed, and what to do": INCIDENT["reason"],
            "what the system did": "nothing yet",
            "acknowledged": "yes",
            "version": 2,
            "seen until": TODAY,
        },
        {
            "since": INCIDENT["since"],
            "what": "data: drift wind",
            "what changed, and what to do": INCIDENT["reason"],
            "what the system did": "retraining RETRAIN, 2013-12-27 00:00 UTC: wind drifted",
            "acknowledged": "no",
            "version": 2,
            "seen until": TODAY,
        },
    ]


SERVED = [decided("promotion", 1, None, NOW - 300 * DAY), decided("promotion", 2, 1, NOW - 89 * DAY)]


def quality(*measured: dict[str, Any], estimated: tuple[dict[str, Any], ...] = ()) -> dict[Any, pd.DataFrame]:
    return production.quality_days(
        frame("daily_performance", *measured), frame("estimated_performance", *estimated), SERVED, as_of=NOW
    )


def test_quality_is_of_versions_that_served_recently_the_serving_one_first() -> None:
    rows = [{**MEASURED, "model_version": version, "source": source} for version in (1, 2, 3) for source in "sb"]
    assert [*quality(*rows)] == [(2, "b"), (2, "s"), (1, "b"), (1, "s")]


@pytest.mark.parametrize(("age", "there"), [(88, True), (89, True), (90, False)])
def test_quality_is_of_the_last_90_days(age: int, there: bool) -> None:
    day = NOW.date() - age * DAY
    assert bool(quality({**MEASURED, "day": day})) == there


def test_a_day_without_outcomes_and_a_day_without_an_estimate_are_both_there() -> None:
    days = quality(
        {**MEASURED, "day": TODAY - DAY},
        {**MEASURED, "loss": None, "loss_28_days_low": None, "coverage": 0.0},
        estimated=(ESTIMATED, {**ESTIMATED, "day": TODAY + DAY}),
    )[2, "batch"]
    assert list(days.index) == [TODAY - DAY, TODAY, TODAY + DAY]
    assert list(days["estimated_loss"].isna()) == [True, False, False]
    assert list(days["loss"].isna()) == [False, True, True]
    assert {str(dtype) for dtype in days.dtypes} == {"float64"}
    (line,) = production.quality_table({(2, "batch"): days}).to_dict("records")
    assert math.isnan(line.pop("from"))
    assert line == {
        "version": 2,
        "source": "batch",
        "days": 1,
        "last day": TODAY - DAY,
        "loss": 0.5,
        "over 28 days": 0.4,
        "to": 0.6,
        "estimated": 0.45,
        "with outcome": 0.0,
    }


def test_a_version_of_which_nothing_is_known_yet_has_a_line_that_says_nothing() -> None:
    (line,) = production.quality_table(quality({**MEASURED, "loss": None, "loss_28_days": None})).to_dict("records")
    assert (line["days"], line["last day"]) == (0, None)
    assert math.isnan(line["loss"])


def test_drift_is_a_level_by_column_and_window_the_worst_column_first() -> None:
    rows = [
        {**SIGNAL, "subject": "calm", "day": TODAY - DAY, "p_value": 0.001},
        {**SIGNAL, "subject": "calm", "p_value": 1.0},
        {**SIGNAL, "subject": "wind", "p_value": 0.01, "outcome": "ALARM"},
        {**SIGNAL, "subject": "rain", "p_value": None, "outcome": "UNKNOWN"},
        {**SIGNAL, "subject": "other kind", "kind": "nulls"},
    ]
    (days, (levels, alarms)), *_ = production.drift_windows(frame("signals", *rows)).items()
    assert days == 7
    assert list(levels.index) == list(alarms.index) == ["wind", "calm", "rain"]
    assert list(levels.columns) == list(alarms.columns) == [TODAY - DAY, TODAY]
    assert levels.to_numpy() == pytest.approx(np.array([[math.nan, 2], [3, 0], [math.nan] * 2]), nan_ok=True)
    assert alarms.to_numpy().tolist() == [[False, True], [False, False], [False, False]]


def test_of_a_window_that_two_versions_saw_the_newer_ones_drift_counts_and_lengths_are_kept_apart() -> None:
    newer = {**SIGNAL, "model_version": 3, "p_value": 0.1}
    found = production.drift_windows(frame("signals", newer, SIGNAL, {**SIGNAL, "days": 28, "p_value": 0.0}))
    assert {days: levels.iloc[0, 0] for days, (levels, _) in found.items()} == {7: pytest.approx(1), 28: math.inf}


def test_only_the_newest_windows_and_the_worst_columns_are_shown() -> None:
    rows = [{**SIGNAL, "subject": f"{n:02}", "p_value": 10.0**-n, "day": TODAY - n * DAY} for n in range(40)]
    ((levels, _),) = production.drift_windows(frame("signals", *rows)).values()
    assert levels.shape == (25, 30)
    assert levels.columns[0] == TODAY - 29 * DAY
    assert levels.index[0] == "29"


def test_other_alarms_are_listed_newest_first() -> None:
    rows = [
        {**SIGNAL, "outcome": "ALARM"},
        {**SIGNAL, "kind": "nulls", "outcome": "ALARM", "day": TODAY - DAY, "allowed": None},
        {**SIGNAL, "kind": "nulls"},
        {**SIGNAL, "kind": "volume", "outcome": "ALARM"},
    ]
    table = production.alarm_table(frame("signals", *rows))
    assert list(table["kind"]) == ["volume", "nulls"]
    assert math.isnan(table["allowed"].iloc[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reasons": ("PASS a: x", "PASS b: y")}, "May serve: all 2 checks pass, against version 1"),
        ({"reasons": ("PASS a: x",), "other_version": None}, "May serve: all 1 checks pass, no version serving before"),
        (
            {"outcome": "FAIL", "reasons": ("PASS a: x", "FAIL b: y", "INCONCLUSIVE c: z")},
            "May not serve: 2 of 3 checks do not pass; FAIL b: y",
        ),
        (
            {"outcome": "INCONCLUSIVE", "reasons": ("INCONCLUSIVE c: z",)},
            "Undecided, so it may not serve: 1 of 1 checks do not pass; INCONCLUSIVE c: z",
        ),
        ({"kind": "rollback", "reasons": ("complaints", "more")}, "complaints"),
        ({"kind": "promotion", "reasons": ()}, "no reason was given"),
    ],
)
def test_a_sentence_says_what_a_decision_comes_to(changes: dict[str, Any], said: str) -> None:
    assert production.why(replace(decided("verdict", 2, 1), **changes)) == said


def test_decisions_are_listed_newest_first_without_what_a_rollout_only_waited_for() -> None:
    steps = rollout(
        *(3, *STARTED, ("SERVE", 5, NOW), ("HOLD", 5, NOW), ("ADVANCE", 25, NOW), ("HOLD", 25, NOW)),
        *(("SERVE", 25, NOW), ("HOLD", 25, NOW), ("HOLD", 25, NOW + DAY)),
    )
    table = production.decision_table([decided("verdict", 3, 2, recorded_at=NOW + DAY), *steps])
    assert list(table["outcome"]) == ["HOLD", "ADVANCE", "ADVANCE", "START", "PASS"]
    assert table.iloc[0].to_dict() == {
        "as of": "2014-01-01 12:00",
        "kind": "rollout",
        "version": 3,
        "outcome": "HOLD",
        "why": "why HOLD",
        "written": None,
    }
    assert table["written"].iloc[-1] == "2014-01-01 12:00"
    assert len(production.decision_table([decided("verdict", n) for n in range(90)])) == 20


def test_the_share_of_a_rollout_under_way_goes_on_until_now_and_one_that_ended_long_ago_is_left_out() -> None:
    long_ago = NOW - 90 * DAY
    ended = [("START", 0, long_ago), ("SERVE", 0, long_ago), ("ROLL_BACK", 0, long_ago), ("SERVE", 0, long_ago)]
    shares = production.shares([*rollout(2, *ended), *rollout(3, *STARTED)], as_of=NOW)
    ((name, points),) = shares.items()
    assert name == "version 3 from 2013-12-28 12:00"
    assert points.to_dict() == {NOW - 3 * DAY: 0, NOW - DAY: 5, NOW: 5}


LOOKS = [watched.incidents, watched.performance, watched.signals]


def test_a_table_that_is_not_there_says_so_and_breaks_nothing() -> None:
    gone = UserError("table x does not exist; run the features job first")
    old = found(**dict.fromkeys(COLUMNS, gone))
    for look in LOOKS:
        with pytest.raises(UserError, match="table x does not exist"):
            look(old)
    assert "whether anything is wrong was not measured" in old.headline
    # What is there is shown, whatever else is missing.
    some = found(
        signals=gone,
        estimated_performance=gone,
        open_incidents=frame("open_incidents", INCIDENT),
        daily_performance=frame("daily_performance", MEASURED),
    )
    assert watched.incidents(some).notes == [f"Not measured: {gone}."]
    assert len(watched.incidents(some).tables["open"]) == 1
    assert watched.performance(some).notes == [f"Not estimated: {gone}."]
    assert [*watched.performance(some).choices] == ["version 2"]
    assert "1 incident is open" in some.headline


def test_a_fresh_schema_says_which_job_to_run_and_no_incident_means_nothing() -> None:
    fresh = found()
    for look in LOOKS:
        with pytest.raises(UserError, match="run the monitor job"):
            look(fresh)
    with pytest.raises(UserError, match="nothing was decided yet; run the train job"):
        watched.decisions(found([]))
    assert [*watched.decisions(fresh).tables] == ["decisions"]
    assert not watched.decisions(fresh).figures


def test_no_open_incident_is_said_in_plain() -> None:
    quiet = found(signals=frame("signals", SIGNAL))
    assert watched.incidents(quiet) == Look(notes=["None is open."])
    assert watched.signals(quiet).notes == [f"Drift in the 7 days to {TODAY}: none."]
    loud = found(signals=frame("signals", {**SIGNAL, "outcome": "ALARM"}))
    assert watched.signals(loud).notes == [f"Drift in the 7 days to {TODAY}: wind."]


def test_signals_without_drift_have_no_map() -> None:
    only = found(signals=frame("signals", {**SIGNAL, "kind": "volume", "days": 1, "p_value": None}))
    assert not watched.signals(only).figures
    assert watched.signals(only).tables["other alarms, newest first"].empty


def test_each_version_to_pick_has_a_picture_of_each_source() -> None:
    rows = [{**MEASURED, "source": source} for source in ("batch", "serving")]
    look = watched.performance(found(SERVED, daily_performance=frame("daily_performance", *rows)))
    assert {name: [*one.figures] for name, one in look.choices.items()} == {
        "version 2": [f"log loss by day of version 2, {source}" for source in ("batch", "serving")]
    }
