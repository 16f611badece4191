"""Drift: what a day's rows look like, windows against the days before, and how often nothing is called something."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.contexts import WATCH

from flight_delays.core.drift import alpha_of, discoveries, drift, upper_tail, windows_due
from flight_delays.core.profiles import Bins, Profile, bins_from, bins_json, bins_of, bins_of_all, profile_of
from flight_delays.core.signals import Level, Signal

FIRST = date(2013, 1, 1)
NUMBER = Bins(column="temperature", edges=(0.0, 10.0))
TEXT = Bins(column="carrier", levels=("AA", "UA"))


@pytest.mark.parametrize(
    ("bins", "values", "counts"),
    [
        (NUMBER, np.array([-0.1, 0.0, 9.9, 10.0, np.nan]), [1, 2, 1, 1]),
        (NUMBER, np.array([], dtype=np.float64), [0, 0, 0, 0]),
        (NUMBER, np.array([True, False]), [0, 2, 0, 0]),
        (TEXT, np.array(["UA", "AA", "UA", "new", None], dtype=object), [1, 2, 1, 1]),
        (TEXT, np.array([None], dtype=object), [0, 0, 0, 1]),
    ],
)
def test_each_row_is_in_one_bin_and_null_in_the_last(bins: Bins, values: np.ndarray, counts: list[int]) -> None:
    assert bins.count(values).tolist() == counts
    assert bins.size == len(counts)


def test_bins_hold_about_as_many_rows_each_and_a_value_that_many_have_begins_one() -> None:
    even = np.arange(2_000.0)
    counts = bins_of("even", even).count(even)
    assert (len(counts), counts[-1]) == (21, 0)
    assert all(99 <= count <= 101 for count in counts[:-1])
    mostly_0 = np.array([0.0] * 80 + [1.0] * 10 + [2.0] * 10)
    assert bins_of("rain", mostly_0).edges == (1.0, 2.0)
    assert bins_of("none", np.array([np.nan])).edges == ()
    assert bins_of("one", np.array([3.0, 3.0])).edges == ()


def test_the_most_frequent_levels_have_a_bin_and_others_share_one() -> None:
    values = np.array([f"L{at:02d}" for at in range(40) for _ in range(40 - at)], dtype=object)
    found = bins_of("level", values)
    assert found.levels == tuple(f"L{at:02d}" for at in range(30))
    assert found.count(values)[-2] == sum(range(1, 11))


def test_times_have_no_bins_and_bins_are_the_same_after_they_were_kept() -> None:
    columns = {
        "at": np.array(["2013-01-01"], dtype="datetime64[us]"),
        "number": np.array([1.0, np.nan, 2.0]),
        "text": np.array(["a", None, "b"], dtype=object),
    }
    found = bins_of_all(columns)
    assert [one.column for one in found] == ["number", "text"]
    assert bins_from(bins_json(found)) == found


def test_a_profile_knows_the_numbers_of_a_day_and_nothing_of_a_column_that_is_not_there() -> None:
    columns = {"temperature": np.array([-1.0, 3.0, np.nan]), "carrier": np.array(["AA", None, "ZZ"], dtype=object)}
    number, text = profile_of(FIRST, [NUMBER, TEXT, Bins(column="gone")], columns)
    assert number == Profile(day=FIRST, column="temperature", counts=(1, 1, 0, 1), lowest=-1.0, mean=1.0, highest=3.0)
    assert (number.rows, number.known) == (3, 2)
    assert text == Profile(day=FIRST, column="carrier", counts=(1, 0, 1, 1))


@pytest.mark.parametrize(
    ("p_values", "alpha", "found"),
    [
        ([0.02, 0.05, 0.9], 0.05, [False, False, False]),  # 0.02 > 0.05 / 3
        ([0.016, 0.05, 0.9], 0.05, [True, False, False]),
        ([0.03, 0.033, 0.9], 0.05, [True, True, False]),  # the second one carries the first
        ([0.05], 0.05, [True]),
        ([0.0501], 0.05, [False]),
        ([], 0.05, []),
    ],
)
def test_what_is_found_is_false_in_a_known_share(p_values: list[float], alpha: float, found: list[bool]) -> None:
    assert discoveries(np.array(p_values), alpha).tolist() == found


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_discoveries_are_those_of_scipy(p_values: list[float], alpha: float) -> None:
    adjusted = stats.false_discovery_control(np.array(p_values))
    undecided = np.abs(adjusted - alpha) < 1e-12
    found = discoveries(np.array(p_values), alpha)
    assert ((adjusted <= alpha) == found)[~undecided].all()


@pytest.mark.parametrize("seed", range(5))
def test_the_tail_is_that_of_scipys_distribution(seed: int) -> None:
    drawn = np.random.default_rng(seed).gamma(0.5 + seed, size=999)
    skewness = stats.skew(drawn)
    for value in (drawn.min(), drawn.mean(), drawn.max(), 3 * drawn.max()):
        oracle = stats.pearson3.sf((value - drawn.mean()) / drawn.std(), skewness)
        assert upper_tail(float(value), drawn) == pytest.approx(oracle, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize(
    ("drawn", "p_value"), [(np.zeros(9), 1.0), (np.full(9, 0.1), 1.0), (np.arange(9.0), pytest.approx(0.5, abs=0.01))]
)
def test_of_what_never_varies_nothing_is_rare(drawn: np.ndarray, p_value: object) -> None:
    assert upper_tail(float(drawn.mean()), drawn) == p_value


@pytest.mark.parametrize(("days", "alpha"), [(7, 0.5 / 2 * 7 / 30), (28, 0.5 / 2 * 28 / 30)])
def test_the_windows_of_a_month_share_its_false_alarms(days: int, alpha: float) -> None:
    assert alpha_of(WATCH, days) == pytest.approx(alpha)
    per_month = sum(30 / each * alpha_of(WATCH, each) for each in WATCH.windows)
    assert per_month == pytest.approx(WATCH.false_alarms_per_month)
    assert alpha_of(replace(WATCH, false_alarms_per_month=9), 28) == 0.5


def test_windows_follow_each_other_whenever_this_runs_and_each_is_looked_at_once() -> None:
    found: set[tuple[int, date]] = set()
    for day in (FIRST + timedelta(days=at) for at in (40, 41, 45, 59, 60, 80)):
        due = windows_due(day, frozenset(found), WATCH)
        assert not found & {*due}
        assert all(day - timedelta(days=28) < end <= day for _, end in due)
        found |= {*due}
    for length in (7, 28):
        ends = sorted(end for each, end in found if each == length)
        assert {(later - earlier).days for earlier, later in itertools.pairwise(ends)} == {length}


def days_of(counts: Mapping[int, tuple[int, ...]], bins: Bins = NUMBER) -> dict[str, dict[date, Profile]]:
    """By number of the day."""
    return {
        bins.column: {
            day: Profile(day=day, column=bins.column, counts=each)
            for number, each in counts.items()
            for day in [FIRST + timedelta(days=number)]
        }
    }


def noisy(days: int, shift: float = 0.0, since: int = 10**6, seed: int = 0) -> dict[int, tuple[int, ...]]:
    """100 rows a day in three bins, with days that differ."""
    random = np.random.default_rng(seed)
    found = {}
    for day in range(days):
        share = np.clip(0.4 + 0.05 * random.standard_normal() - (shift if day >= since else 0), 0.02, 0.98)
        found[day] = (*random.multinomial(100, [share, (1 - share) / 2, (1 - share) / 2]).tolist(), 0)
    return found


def one(counts: Mapping[int, tuple[int, ...]], days: int = 7, bins: Bins = NUMBER) -> Signal:
    last = FIRST + timedelta(days=max(counts))
    (found,) = drift([bins], days_of(counts, bins), last, days, WATCH)
    return found


def test_a_window_like_the_days_before_is_ok_and_one_that_is_not_is_an_alarm() -> None:
    assert one(noisy(63)).level is Level.OK
    found = one(noisy(63, shift=0.3, since=56))
    assert found.level is Level.ALARM
    assert found.value == pytest.approx(0.3, abs=0.05)
    assert found.p_value is not None
    assert found.p_value < 0.001


def test_rows_of_one_day_are_no_independent_evidence() -> None:
    """100 times the rows, with the same days: the same p-value."""
    few, many = noisy(63, shift=0.05, since=56), noisy(63, shift=0.05, since=56)
    many = {day: tuple(100 * count for count in counts) for day, counts in many.items()}
    assert one(few).p_value == one(many).p_value


@pytest.mark.parametrize(
    ("before", "now", "level"), [(27, 7, Level.UNKNOWN), (28, 7, Level.OK), (56, 3, Level.UNKNOWN), (56, 4, Level.OK)]
)
def test_with_too_few_days_nothing_is_measured(before: int, now: int, level: Level) -> None:
    counts = noisy(56 + 7)
    kept = {day: counts[day] for day in [*range(56 - before, 56), *range(63 - now, 63)]}
    assert one(kept).level is level


@pytest.mark.parametrize(("rows", "level"), [(4, Level.UNKNOWN), (5, Level.OK)])
def test_a_day_counts_if_it_has_enough_rows(rows: int, level: Level) -> None:
    assert (
        one(
            {**noisy(63), **dict.fromkeys(range(56), (rows, 0, 0, 0)), **dict.fromkeys(range(56, 63), (5, 0, 0, 0))}
        ).level
        is level
    )


def test_a_column_that_nobody_knows_is_not_measured() -> None:
    (found,) = drift(
        [
            NUMBER,
        ],
        {},
        FIRST,
        7,
        WATCH,
    )
    assert found.level is Level.UNKNOWN
    assert found.value is None


@pytest.mark.parametrize(
    ("bins", "before", "now", "said"),
    [
        (NUMBER, (50, 25, 25, 0), (5, 25, 20, 50), "nulls 0.0% before, 50.0% now"),
        (TEXT, (50, 48, 2, 0), (30, 28, 42, 0), "share of others 2.0% before, 42.0% now"),
        (TEXT, (50, 50, 0, 0), (90, 10, 0, 0), "share of AA 50.0% before, 90.0% now"),
    ],
)
def test_the_reason_says_what_changed_most(
    bins: Bins, before: tuple[int, ...], now: tuple[int, ...], said: str
) -> None:
    found = one({**dict.fromkeys(range(56), before), **dict.fromkeys(range(56, 63), now)}, bins=bins)
    assert found.reason.startswith(said)


def test_a_reason_tells_the_means_of_a_number() -> None:
    profiles = {
        day: replace(profile, mean=10.0 if profile.day < FIRST + timedelta(days=56) else 20.0)
        for day, profile in days_of(noisy(63, shift=0.3, since=56))["temperature"].items()
    }
    (found,) = drift([NUMBER], {"temperature": profiles}, FIRST + timedelta(days=62), 7, WATCH)
    assert found.reason.startswith("mean 10 before, 20 now; p ")


def test_while_nothing_changes_any_alarm_is_as_rare_as_the_budget_says() -> None:
    """Ten columns that move together, 150 quiet weeks of 500 rows: at most what chance allows beyond the nominal."""
    columns = [Bins(column=f"c{at}", edges=(0.0, 10.0)) for at in range(10)]
    alarmed = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        common = random.standard_normal(63)
        profiles: dict[str, dict[date, Profile]] = {}
        for each in columns:
            shares = np.clip(0.4 + 0.1 * (common + random.standard_normal(63)) / np.sqrt(2), 0.02, 0.98)
            counts = {
                day: (*random.multinomial(500, [share, (1 - share) / 2, (1 - share) / 2]).tolist(), 0)
                for day, share in enumerate(shares)
            }
            profiles |= days_of(counts, each)
        few = replace(WATCH, permutations=199)
        found = drift(columns, profiles, FIRST + timedelta(days=62), 7, few)
        alarmed += any(signal.level is Level.ALARM for signal in found)
    assert alarmed <= stats.binom.ppf(0.999, 150, alpha_of(WATCH, 7))
