"""When a new version is trained, and what becomes of incidents."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from tests.contexts import RETRAINING

from flight_delays.core.incidents import Event, Family, Incident, change
from flight_delays.core.retraining import Choice, decide
from flight_delays.core.signals import Kind, Level, Signal

DAY = date(2013, 6, 30)  # a week ends here
RETRAIN, KEEP = Choice.RETRAIN, Choice.KEEP
QUIET = replace(RETRAINING, retrain_after_days=0)


def ago(days: int) -> date:
    return DAY - timedelta(days=days)


def signal(
    weeks: int, level: Level = Level.ALARM, kind: Kind = Kind.DECAY, subject: str = "forecasts", days: int = 7
) -> Signal:
    return Signal(kind=kind, subject=subject, day=ago(7 * weeks), days=days, level=level, reason="it was so")


@pytest.mark.parametrize(
    ("alarms", "choice"),
    [
        ([], KEEP),
        ([0, 1], KEEP),
        ([0, 1, 2], RETRAIN),
        ([0, 2, 3], RETRAIN),
        ([0, 1, 2, 3], RETRAIN),
        ([1, 2, 4], KEEP),  # the last four weeks count
    ],
)
def test_a_version_is_trained_if_enough_of_the_last_weeks_decayed(alarms: list[int], choice: Choice) -> None:
    signals = [signal(week, Level.ALARM if week in alarms else Level.OK) for week in range(6)]
    assert decide(signals, trained=ago(60), ordered=[], day=DAY, policy=QUIET).choice is choice


def test_a_week_that_was_not_measured_is_no_alarm_and_is_not_called_healthy() -> None:
    signals = [signal(0), signal(1), signal(2, Level.UNKNOWN), signal(3, Level.UNKNOWN)]
    found = decide(signals, trained=ago(60), ordered=[], day=DAY, policy=QUIET)
    assert found.choice is KEEP
    assert found.reasons[0] == "2 alarms in 2 measured weeks of the last 4, 3 needed"


def test_weeks_before_the_last_training_say_nothing_of_what_it_made() -> None:
    signals = [signal(week) for week in range(4)]
    for trained, choice in ((14, KEEP), (15, RETRAIN)):
        found = decide(signals, trained=ago(trained), ordered=[], day=DAY, policy=QUIET)
        assert found.choice is choice


@pytest.mark.parametrize(
    ("on_drift", "kind", "days", "choice"),
    [
        (False, Kind.DRIFT, 7, KEEP),
        (True, Kind.DRIFT, 7, RETRAIN),
        (True, Kind.DRIFT, 28, KEEP),
        (True, Kind.NULLS, 7, KEEP),
    ],
)
def test_weeks_of_drift_count_if_the_policy_says_so(on_drift: bool, kind: Kind, days: int, choice: Choice) -> None:
    signals = [signal(week, kind=kind, subject=f"c{each}", days=days) for week in range(3) for each in range(2)]
    policy = replace(QUIET, retrain_on_drift=on_drift)
    assert decide(signals, trained=ago(60), ordered=[], day=DAY, policy=policy).choice is choice


@pytest.mark.parametrize(("age", "choice"), [(27, KEEP), (28, RETRAIN), (29, RETRAIN), (None, KEEP)])
def test_a_version_is_trained_at_the_latest_after_some_days(age: int | None, choice: Choice) -> None:
    found = decide([], trained=None if age is None else ago(age), ordered=[], day=DAY, policy=RETRAINING)
    assert found.choice is choice
    assert decide([], trained=ago(365), ordered=[], day=DAY, policy=QUIET).choice is KEEP


@pytest.mark.parametrize(("age", "choice"), [(14, KEEP), (15, KEEP), (16, RETRAIN)])
def test_a_training_gets_time_to_show_what_it_made(age: int, choice: Choice) -> None:
    """Of a rule so eager that one week is enough."""
    policy = replace(QUIET, retrain_alarms=1, retrain_cooldown_days=16)
    found = decide([signal(0)], trained=ago(age), ordered=[], day=DAY, policy=policy)
    assert found.choice is choice
    if choice is KEEP:
        assert found.reasons[0] == f"not yet: a version was trained {age} days ago, 16 have to pass"
        assert found.reasons[1].startswith("1 of the last 4 weeks raised an alarm")


@pytest.mark.parametrize(
    ("ordered", "choice"), [([20], RETRAIN), ([29, 20], KEEP), ([30, 20], RETRAIN), ([29, 20, -1], KEEP)]
)
def test_a_month_has_a_budget(ordered: list[int], choice: Choice) -> None:
    signals = [signal(week) for week in range(3)]
    policy = replace(QUIET, retrain_cooldown_days=0)
    found = decide(signals, trained=ago(28), ordered=[ago(each) for each in ordered], day=DAY, policy=policy)
    assert found.choice is choice


OPEN = Incident(incident_id="i", family=Family.DATA, subjects=("nulls of temperature",), since=ago(3), number=0)


def nulls(day: date, level: Level = Level.ALARM, subject: str = "temperature") -> Signal:
    return Signal(kind=Kind.NULLS, subject=subject, day=day, level=level, reason="100 % of rows have no value")


def test_the_first_alarm_opens_an_incident_that_says_what_when_and_what_to_do() -> None:
    found = change(Family.DATA, None, [nulls(ago(1)), nulls(DAY)], day=DAY, quiet_days=7, done="Nothing was done")
    assert found is not None
    assert (found.event, found.subjects, found.since) == (Event.OPENED, ("nulls of temperature",), ago(1))
    assert found.reason.startswith("nulls of temperature, on 2013-06-29: 100 % of rows have no value; ")
    assert ". Since 2013-06-29. Nothing was done. To do: find out " in found.reason


def test_a_window_of_a_week_began_a_week_before() -> None:
    found = change(Family.PERFORMANCE, None, [signal(0)], day=DAY, quiet_days=7, done="")
    assert found is not None
    assert found.since == ago(6)


def test_further_alarms_of_the_same_signal_are_the_same_incident() -> None:
    signals = [nulls(ago(3)), nulls(ago(2)), nulls(DAY)]
    assert change(Family.DATA, OPEN, signals, day=DAY, quiet_days=7, done="") is None


def test_an_alarm_of_another_signal_makes_it_grow_once() -> None:
    signals = [nulls(ago(3)), nulls(DAY, subject="wind")]
    found = change(Family.DATA, OPEN, signals, day=DAY, quiet_days=7, done="")
    assert found is not None
    assert (found.event, found.subjects) == (Event.GREW, ("nulls of temperature", "nulls of wind"))
    assert found.since == ago(3)
    grown = replace(OPEN, subjects=found.subjects, number=1)
    assert change(Family.DATA, grown, signals, day=DAY, quiet_days=7, done="") is None


def test_families_do_not_mix() -> None:
    assert change(Family.PERFORMANCE, None, [nulls(DAY)], day=DAY, quiet_days=7, done="") is None
    assert change(Family.DATA, None, [signal(0)], day=DAY, quiet_days=7, done="") is None


@pytest.mark.parametrize(
    ("signals", "resolved"),
    [
        ([nulls(ago(7)), nulls(DAY, Level.OK)], True),
        ([nulls(ago(6)), nulls(DAY, Level.OK)], False),  # too soon
        ([nulls(ago(8)), nulls(ago(8), Level.OK)], True),
        ([nulls(ago(9)), nulls(DAY, Level.UNKNOWN)], False),  # not measured is not healthy
        ([nulls(ago(9))], False),
        ([nulls(ago(9)), nulls(DAY, Level.OK, "wind")], False),  # another signal
        ([nulls(ago(9), Level.OK), nulls(ago(8)), nulls(DAY, Level.OK)], True),
    ],
)
def test_an_incident_is_over_when_all_its_signals_are_ok_and_have_been_for_a_while(
    signals: list[Signal], resolved: bool
) -> None:
    found = change(Family.DATA, OPEN, signals, day=DAY, quiet_days=7, done="")
    assert (found is not None and found.event is Event.RESOLVED) == resolved


def test_a_signal_of_a_month_has_to_be_ok_itself() -> None:
    month = Signal(kind=Kind.DRIFT, subject="wind", day=ago(20), days=28, level=Level.ALARM, reason="it drifted")
    opened = replace(OPEN, subjects=("drift of wind",))
    week = replace(month, day=ago(2), days=7, level=Level.OK)
    assert change(Family.DATA, opened, [month, week], day=DAY, quiet_days=7, done="") is None
    next_month = replace(month, day=ago(1), level=Level.OK)
    found = change(Family.DATA, opened, [month, week, next_month], day=DAY, quiet_days=7, done="")
    assert found is not None
    assert found.event is Event.RESOLVED


def test_the_reason_names_five_alarms_the_surest_first_and_counts_the_rest() -> None:
    signals = [
        replace(nulls(DAY, subject=f"c{each}"), kind=Kind.DRIFT, p_value=0.01 - each / 1000) for each in range(7)
    ]
    found = change(Family.DATA, None, signals, day=DAY, quiet_days=7, done="")
    assert found is not None
    assert found.reason.startswith("drift of c6, on ")
    assert "; and 2 more. Since " in found.reason
