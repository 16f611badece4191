"""What the monitor looks at each day: rows, columns, labels and losses, each threshold below, at and above."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from tests.contexts import WATCH

from flight_delays.core.data_checks import check_columns, check_rows
from flight_delays.core.decay import DayLoss, coverage, decay, excess
from flight_delays.core.profiles import Bins, Profile
from flight_delays.core.signals import Kind, Level, Signal

OK, ALARM, UNKNOWN = Level.OK, Level.ALARM, Level.UNKNOWN
DAY = date(2013, 6, 30)
NUMBER, TEXT = Bins(column="temperature", edges=(0.0,)), Bins(column="carrier", levels=("AA",))


def before(days: int) -> list[date]:
    return [DAY - timedelta(days=back) for back in range(1, days + 1)]


def rows_of(today: int, *, twice: int = 0, days: int = 56) -> dict[Kind, Signal]:
    """Signals of a day after days with 800 to 1,000 rows."""
    rows = {day: 800 + 200 * (number % 2) for number, day in enumerate(before(days))}
    rows = {**rows, DAY: today} if today else rows
    distinct = {**rows, DAY: today - twice}
    return {one.kind: one for one in check_rows(rows, distinct, DAY, WATCH, last=DAY)}


@pytest.mark.parametrize(
    ("rows", "level"), [(639, ALARM), (640, OK), (900, OK), (1_250, OK), (1_251, ALARM), (2_000, ALARM), (0, ALARM)]
)
def test_rows_are_an_alarm_beyond_the_range_of_the_days_before_and_its_width_by_ratio(rows: int, level: Level) -> None:
    assert rows_of(rows)[Kind.VOLUME].level is level


@pytest.mark.parametrize(("days", "level"), [(27, UNKNOWN), (28, OK)])
def test_with_too_few_days_before_nobody_knows_how_many_rows_there_should_be(days: int, level: Level) -> None:
    assert rows_of(900, days=days)[Kind.VOLUME].level is level


@pytest.mark.parametrize(("twice", "level"), [(0, OK), (1, ALARM)])
def test_a_key_that_is_there_twice_is_an_alarm(twice: int, level: Level) -> None:
    assert rows_of(900, twice=twice)[Kind.DUPLICATES].level is level


@pytest.mark.parametrize(("rows", "level"), [(900, OK), (0, ALARM)])
def test_a_day_without_rows_is_noticed_the_day_after(rows: int, level: Level) -> None:
    assert rows_of(rows)[Kind.FRESHNESS].level is level


def test_without_any_rows_freshness_is_no_number_and_an_alarm() -> None:
    (_, found, _) = check_rows({}, {}, DAY, WATCH, last=DAY)
    assert (found.kind, found.level, found.value) == (Kind.FRESHNESS, ALARM, None)


def test_only_the_newest_day_tells_whether_rows_still_come_in() -> None:
    found = check_rows({DAY: 900}, {DAY: 900}, DAY, WATCH, last=DAY + timedelta(days=1))
    assert {one.kind for one in found} == {Kind.DUPLICATES, Kind.VOLUME}


def profile(day: date, counts: tuple[int, ...], mean: float | None = None, spread: float = 1.0) -> Profile:
    of = {} if mean is None else {"lowest": mean - spread, "mean": mean, "highest": mean + spread}
    return Profile(day=day, column="", counts=counts, **of)


def numbers(today: Profile, days: int = 56) -> dict[Kind, Signal]:
    """Signals of a number whose mean was 10 to 20 on the days before, and which 0 to 10 % of rows lacked."""
    history = {
        day: profile(day, (50, 50 - 10 * (number % 2), 10 * (number % 2)), 10.0 + 10 * (number % 2))
        for number, day in enumerate(before(days))
    }
    found = check_columns([NUMBER], {"temperature": {**history, DAY: today}}, DAY, WATCH)
    return {one.kind: one for one in found}


@pytest.mark.parametrize(("mean", "level"), [(-10.1, ALARM), (-10.0, OK), (15.0, OK), (40.0, OK), (40.1, ALARM)])
def test_a_mean_is_an_alarm_two_widths_beyond_the_range_of_the_days_before(mean: float, level: Level) -> None:
    assert numbers(profile(DAY, (50, 50, 0), mean))[Kind.RANGE].level is level


@pytest.mark.parametrize(("nulls", "level"), [(0, OK), (10, OK), (30, OK), (31, ALARM), (100, ALARM)])
def test_nulls_are_an_alarm_two_widths_above_their_range(nulls: int, level: Level) -> None:
    found = numbers(profile(DAY, (100 - nulls, 0, nulls), 15.0 if nulls < 100 else None))
    assert found[Kind.NULLS].level is level
    assert (Kind.RANGE in found) == (nulls < 100)  # without a value there is no mean, and none of 0


def test_a_share_that_never_varied_may_still_vary_by_a_tenth() -> None:
    history = {day: profile(day, (100, 0, 0), 15.0) for day in before(56)}
    for nulls, level in ((10, OK), (11, ALARM)):
        today = profile(DAY, (100 - nulls, 0, nulls), 15.0)
        (found, *_) = check_columns([NUMBER], {"temperature": {**history, DAY: today}}, DAY, WATCH)
        assert (found.kind, found.level) == (Kind.NULLS, level)


@pytest.mark.parametrize(("spread", "level"), [(0.0, ALARM), (0.001, OK)])
def test_a_number_that_stopped_varying_is_an_alarm(spread: float, level: Level) -> None:
    assert numbers(profile(DAY, (50, 50, 0), 15.0, spread))[Kind.CONSTANT].level is level


def test_a_number_that_was_constant_on_some_day_before_may_be() -> None:
    history = {day: profile(day, (100, 0, 0), 0.0, float(number > 0)) for number, day in enumerate(before(56))}
    found = check_columns([NUMBER], {"temperature": {**history, DAY: profile(DAY, (100, 0, 0), 0.0, 0.0)}}, DAY, WATCH)
    assert {one.level for one in found} == {OK}


@pytest.mark.parametrize(("others", "level"), [(0, OK), (10, OK), (11, ALARM)])
def test_levels_that_have_no_bin_are_an_alarm_where_they_become_frequent(others: int, level: Level) -> None:
    history = {day: profile(day, (100, 0, 0)) for day in before(56)}
    today = profile(DAY, (100 - others, others, 0))
    found = {one.kind: one for one in check_columns([TEXT], {"carrier": {**history, DAY: today}}, DAY, WATCH)}
    assert (found[Kind.UNSEEN].level, {*found}) == (level, {Kind.NULLS, Kind.UNSEEN})


@pytest.mark.parametrize(("rows", "days", "level"), [(4, 56, UNKNOWN), (5, 56, OK), (5, 27, UNKNOWN), (5, 28, OK)])
def test_too_few_rows_or_days_say_nothing(rows: int, days: int, level: Level) -> None:
    assert {one.level for one in numbers(profile(DAY, (rows, 0, 0), 15.0), days).values()} == {level}


def test_a_column_that_was_never_there_is_an_alarm_and_one_without_rows_today_is_not_measured() -> None:
    for known, level in (({}, ALARM), ({DAY - timedelta(days=1): profile(DAY, (1, 1, 0), 1.0)}, UNKNOWN)):
        (found,) = check_columns([NUMBER], {"temperature": known}, DAY, WATCH)
        assert (found.kind, found.level) == (Kind.SCHEMA, level)


def loss(realised: float | None = 0.5, labelled: int = 100, estimated: float | None = 0.45) -> DayLoss:
    return DayLoss(rows=100, labelled=labelled, realised=realised, estimated=estimated, expected=0.4)


@pytest.mark.parametrize(
    ("day", "found"),
    [
        (loss(), 0.1),
        (loss(labelled=90), 0.1),
        (loss(labelled=89), 0.05),  # too few labels: as estimated
        (loss(labelled=0, realised=None), 0.05),
        (loss(labelled=0, realised=None, estimated=None), None),
        (replace(loss(), expected=None), None),
        (replace(loss(), rows=0, labelled=0, realised=None, estimated=None), None),
    ],
)
def test_a_day_lost_what_it_lost_beyond_what_was_expected_or_what_is_estimated(
    day: DayLoss, found: float | None
) -> None:
    assert excess(day, WATCH) == (None if found is None else pytest.approx(found))


@pytest.mark.parametrize(("realised", "level"), [(0.3, OK), (0.42, OK), (0.4201, ALARM)])
def test_a_week_decays_that_loses_more_than_allowed_beyond_the_expected(realised: float, level: Level) -> None:
    days = dict.fromkeys([DAY, *before(6)], replace(loss(), realised=realised))
    found = decay({**days, before(7)[-1]: loss(9.0)}, DAY, 7, replace(WATCH, max_decay=0.02000001))
    assert found.level is level


@pytest.mark.parametrize(("known", "level"), [(3, UNKNOWN), (4, ALARM)])
def test_a_week_of_which_less_than_half_is_known_is_not_measured(known: int, level: Level) -> None:
    assert decay(dict.fromkeys(before(known), loss()), DAY, 7, WATCH).level is level


def test_the_reason_says_how_many_days_are_estimated() -> None:
    days = {**dict.fromkeys(before(5), loss()), DAY: loss(labelled=10)}
    assert decay(days, DAY, 7, WATCH).reason.endswith("; 1 of 6 days are estimated")


@pytest.mark.parametrize(("labelled", "level"), [(89, ALARM), (90, OK), (100, OK)])
def test_labels_that_do_not_come_are_an_alarm(labelled: int, level: Level) -> None:
    assert coverage({DAY: loss(labelled=labelled)}, DAY, WATCH).level is level


def test_a_day_without_forecasts_has_no_coverage() -> None:
    assert coverage({}, DAY, WATCH).level is UNKNOWN
    assert coverage({DAY: replace(loss(), rows=0)}, DAY, WATCH).level is UNKNOWN
