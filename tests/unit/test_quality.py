"""The quality clock: what it finds at each limit, and bounds that hold on all days at once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, stats
from tests.contexts import ROLLOUT

from flight_delays.core.objective import BinaryClassification, Regression
from flight_delays.core.quality import (
    CALIBRATION,
    EFFECT_SIZE,
    QUALITY,
    PairedDay,
    confidence_sequence,
    effective_days,
    paired_day,
    quality,
    reach,
)
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import RolloutPolicy

GOOD, WORSE, UNKNOWN = Signal.GOOD, Signal.WORSE, Signal.UNKNOWN
ZONE = ZoneInfo("America/New_York")
BEGIN = datetime(2013, 7, 1, 4, tzinfo=UTC)  # midnight in New York
FIRST = date(2013, 7, 1)
MATURITY = timedelta(days=1)
NEEDED, MARGIN = ROLLOUT.quality_min_days, ROLLOUT.max_loss_increase
LATE = BinaryClassification(positive="late", negative="on time")


def day(number: int, loss: float = 0.0, calibration: float = 0.0, *, rows: int = 100, labelled: int = 100) -> PairedDay:
    return PairedDay(
        day=FIRST + timedelta(days=number),
        rows=rows,
        labelled=labelled,
        loss=loss,
        guardrails={CALIBRATION: calibration},
    )


def around(mean: float, days: int = NEEDED, spread: float = 0.001) -> list[float]:
    """Values of this mean whose neighbours do not resemble each other; `days` x `mean` is their sum."""
    signs = np.resize([1, -1], days).astype(float)
    return list(mean + spread * (signs - signs.mean()))


def days_of(losses: list[float], calibrations: list[float] | None = None) -> list[PairedDay]:
    pairs = zip(losses, calibrations or [0.0] * len(losses), strict=True)
    return [day(number, *pair) for number, pair in enumerate(pairs)]


def found(
    days: list[PairedDay], policy: RolloutPolicy = ROLLOUT, as_of: datetime = BEGIN + timedelta(days=100)
) -> dict[str, Finding]:
    findings = quality(days, policy, begin=BEGIN, as_of=as_of, zone=ZONE, maturity=MATURITY)
    return {finding.name: finding for finding in findings}


def signals(days: list[PairedDay], policy: RolloutPolicy = ROLLOUT) -> tuple[Signal, Signal]:
    findings = found(days, policy)
    return findings[QUALITY].signal, findings[CALIBRATION].signal


def high(values: list[float]) -> float:
    return confidence_sequence(np.array(values), alpha_low=0.025, alpha_high=0.05).high


def low(values: list[float]) -> float:
    return confidence_sequence(np.array(values), alpha_low=0.025, alpha_high=0.05).low


EQUAL = around(0.0)


@pytest.mark.parametrize(
    ("margin_above_bound", "signal"),
    [(-1e-9, UNKNOWN), (0, GOOD), (1e-9, GOOD)],
    ids=["below", "equal", "above"],
)
def test_loss_is_good_if_its_upper_bound_is_at_most_the_margin(margin_above_bound: float, signal: Signal) -> None:
    policy = replace(ROLLOUT, max_loss_increase=high(EQUAL) + margin_above_bound)
    assert signals(days_of(EQUAL), policy) == (signal, GOOD)


@pytest.mark.parametrize(
    ("lower_bound", "signal"), [(-1e-8, GOOD), (0, GOOD), (1e-8, WORSE)], ids=["below", "equal", "above"]
)
def test_loss_is_worse_if_its_lower_bound_is_above_0_also_within_the_margin(lower_bound: float, signal: Signal) -> None:
    values = list(np.array(EQUAL) - low(EQUAL) + lower_bound)
    assert high(values) < MARGIN
    assert signals(days_of(values)) == (signal, GOOD)


@pytest.mark.parametrize(
    ("lower_bound", "signal"),
    [(MARGIN - 1e-8, UNKNOWN), (MARGIN, UNKNOWN), (MARGIN + 1e-8, WORSE)],
    ids=["below", "equal", "above"],
)
def test_before_enough_days_only_a_loss_beyond_the_margin_is_worse(lower_bound: float, signal: Signal) -> None:
    few = around(0.0, NEEDED - 1)
    assert signals(days_of(list(np.array(few) - low(few) + lower_bound))) == (signal, UNKNOWN)


def test_before_enough_days_a_margin_that_asks_for_better_does_not_roll_back_what_is_equal() -> None:
    policy = replace(ROLLOUT, max_loss_increase=-0.02)
    assert signals(days_of(around(0.0, NEEDED - 1)), policy) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(
    ("number", "signal"), [(NEEDED - 1, UNKNOWN), (NEEDED, GOOD), (NEEDED + 1, GOOD)], ids=["below", "equal", "above"]
)
def test_nothing_is_good_before_enough_days(number: int, signal: Signal) -> None:
    assert signals(days_of(around(-0.1, number))) == (signal, signal)


@pytest.mark.parametrize(
    ("margin", "signal"),
    [(0.0, GOOD), (-0.005, GOOD), (-0.02, UNKNOWN)],
    ids=["not worse", "a little better", "better than it is"],
)
def test_a_policy_may_ask_for_a_better_version(margin: float, signal: Signal) -> None:
    assert signals(days_of(around(-0.01)), replace(ROLLOUT, max_loss_increase=margin))[0] is signal


@pytest.mark.parametrize(
    ("bound", "value", "signal"),
    [
        ("high", -1e-8, GOOD),
        ("high", 0, GOOD),
        ("high", 1e-8, UNKNOWN),
        ("low", -1e-8, UNKNOWN),
        ("low", 0, UNKNOWN),
        ("low", 1e-8, WORSE),
    ],
)
def test_a_guardrail_is_good_below_its_margin_and_worse_beyond_it(bound: str, value: float, signal: Signal) -> None:
    shift = ROLLOUT.max_calibration_increase + value - (high(EQUAL) if bound == "high" else low(EQUAL))
    assert signals(days_of(EQUAL, list(np.array(EQUAL) + shift))) == (GOOD, signal)


def test_a_guardrail_that_is_shown_to_be_worse_within_its_margin_is_good() -> None:
    assert low(around(0.01)) > 0
    assert signals(days_of(EQUAL, around(0.01)))[1] is GOOD


@pytest.mark.parametrize(
    ("labelled", "counted"), [(89, False), (90, True), (91, True), (0, False)], ids=["below", "equal", "above", "none"]
)
def test_a_day_counts_from_the_label_coverage_on_and_is_named_where_it_does_not(labelled: int, counted: bool) -> None:
    days = [*days_of(around(0.0, NEEDED - 1)), day(NEEDED - 1, labelled=labelled)]
    finding = found(days)[QUALITY]
    assert (finding.signal is GOOD) == counted
    assert ("not counted: 2013-07-21 has labels for" in finding.reason) != counted


def test_a_day_without_rows_never_counts() -> None:
    days = [*days_of(around(0.0, NEEDED - 1)), day(NEEDED - 1, np.nan, np.nan, rows=0, labelled=0)]
    assert "2013-07-21 has labels for 0 of 0 rows" in found(days)[QUALITY].reason
    assert {finding.signal for finding in found(days).values()} == {UNKNOWN}


@pytest.mark.parametrize(
    ("hour", "minute", "signal"), [(3, 59, UNKNOWN), (4, 0, GOOD), (4, 1, GOOD)], ids=["before", "then", "after"]
)
def test_a_day_counts_once_its_outcomes_are_known(hour: int, minute: int, signal: Signal) -> None:
    as_of = datetime(2013, 7, 23, hour, minute, tzinfo=UTC)  # 07-21 ended on 07-22 04:00 UTC
    finding = found(days_of(EQUAL), as_of=as_of)[QUALITY]
    assert finding.signal is signal
    assert ("2013-07-21 is known at 2013-07-23 04:00 UTC" in finding.reason) == (signal is UNKNOWN)


def test_many_days_that_do_not_count_are_not_all_named() -> None:
    days = [day(number, labelled=1) for number in range(9)]
    reason = found(days)[QUALITY].reason
    assert reason.endswith(
        "not counted: 6 earlier ones, 2013-07-07 has labels for 1 of 100 rows, "
        "2013-07-08 has labels for 1 of 100 rows, 2013-07-09 has labels for 1 of 100 rows"
    )


@pytest.mark.parametrize(
    ("days", "as_of", "earliest"),
    [
        ([], BEGIN, datetime(2013, 7, 23, 4, tzinfo=UTC)),
        (days_of(around(0.0, 3)), BEGIN + timedelta(days=4), datetime(2013, 7, 23, 4, tzinfo=UTC)),
        (days_of(around(0.0, 3)), BEGIN + timedelta(days=9), datetime(2013, 7, 28, 4, tzinfo=UTC)),
        (days_of(around(0.0, spread=0.1)), BEGIN + timedelta(days=22), datetime(2013, 7, 24, 4, tzinfo=UTC)),
    ],
    ids=["nothing yet", "no day lost", "days lost", "enough days, undecided"],
)
def test_what_is_unknown_says_when_it_may_be_known(days: list[PairedDay], as_of: datetime, earliest: datetime) -> None:
    assert found(days, as_of=as_of)[QUALITY].earliest == earliest


def test_what_is_known_awaits_nothing() -> None:
    assert {finding.earliest for finding in found(days_of(EQUAL)).values()} == {None}


def test_no_days_are_unknown_and_say_so() -> None:
    findings = found([])
    assert {finding.signal for finding in findings.values()} == {UNKNOWN}
    assert {finding.reason for finding in findings.values()} == {f"0 days counted, at least {NEEDED} needed"}


def test_findings_say_what_they_hold_back_and_for_how_long() -> None:
    policy = replace(ROLLOUT, quality_needed_for=25, quality_limit_days=40)
    for finding in found(days_of(EQUAL), policy).values():
        assert (finding.needed_for, finding.limit) == (25, BEGIN + timedelta(days=40))


def test_a_reason_has_the_bounds_the_margin_and_the_days() -> None:
    reason = found(days_of(around(0.001, spread=0.01)))[QUALITY].reason
    assert reason.startswith("0.0010 [-0.0067, 0.0078] above the champion's, at most 0.01 allowed, 21 days counted")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": np.nan}, "not a number"),
        ({"loss": np.inf}, "not a number"),
        ({"guardrails": {CALIBRATION: np.nan}}, "not a number"),
        ({"labelled": 101}, "101 labels for 100 rows"),
        ({"labelled": -1}, "-1 labels for 100 rows"),
    ],
)
def test_a_day_that_can_not_be_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(day(0), **change)


@pytest.mark.parametrize(
    ("days", "says"),
    [
        ([day(0), day(0)], "a day is there twice"),
        ([replace(day(0), guardrails={})], "a day's guardrails should be calibration"),
        ([replace(day(0), guardrails={CALIBRATION: 0, "other": 0})], "a day's guardrails should be calibration"),
    ],
)
def test_days_that_can_not_be_judged_are_refused(days: list[PairedDay], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        found(days)


def test_a_days_values_are_means_over_the_rows_that_have_a_label() -> None:
    labels = np.array([1, 0, np.nan, 1])
    champion, challenger = np.array([0.8, 0.3, 0.9, 0.6]), np.array([0.7, 0.1, 0.1, 0.9])
    one = paired_day(FIRST, labels, champion, challenger, LATE)
    assert (one.rows, one.labelled) == (4, 3)
    assert one.loss == pytest.approx(-(np.log(0.7 * 0.9 * 0.9) - np.log(0.8 * 0.7 * 0.6)) / 3)
    assert one.guardrails == {CALIBRATION: pytest.approx(abs(0.3 - 0.1 + 0.1) / 3 - abs(0.2 - 0.3 + 0.4) / 3)}


def test_a_day_may_have_a_regressions_values() -> None:
    one = paired_day(FIRST, np.array([3.0]), np.array([1.0]), np.array([4.0]), Regression(unit="bikes", scale=2))
    assert (one.loss, one.guardrails) == (0.25 - 1, {CALIBRATION: 0.5 - 1})


@pytest.mark.parametrize("labels", [[], [np.nan, np.nan]])
def test_a_day_without_a_label_has_no_values(labels: list[float]) -> None:
    forecasts = np.full(len(labels), 0.5)
    one = paired_day(FIRST, np.array(labels), forecasts, forecasts, LATE)
    assert (one.rows, one.labelled) == (len(labels), 0)
    assert np.isnan([one.loss, one.guardrails[CALIBRATION]]).all()


def test_a_forecast_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        paired_day(FIRST, np.array([1.0]), np.array([0.5]), np.array([np.nan]), LATE)


# Bounds.


def bayes_factor(t: float, days: int) -> float:
    """Of an effect size ~ N(0, EFFECT_SIZE) against none: the density of t, averaged over the prior, by quadrature."""

    def weighed(effect: float) -> float:
        return float(stats.nct.pdf(t, days - 1, days**0.5 * effect) * stats.norm.pdf(effect, 0, EFFECT_SIZE))

    return float(integrate.quad(weighed, -np.inf, np.inf, epsabs=0, limit=400)[0] / stats.t.pdf(t, days - 1))


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.001])
@pytest.mark.parametrize("days", [12, 21, 60, 90])
def test_a_bound_is_where_the_bayes_factor_reaches_one_over_alpha(days: int, alpha: float) -> None:
    assert bayes_factor(reach(days, alpha), days) == pytest.approx(1 / (2 * alpha))


@pytest.mark.parametrize(("days", "finite"), [(0, False), (1, False), (6, False), (7, True)])
def test_few_days_have_no_bounds(days: int, finite: bool) -> None:
    bounds = confidence_sequence(np.arange(days) % 2 * 1.0, alpha_low=0.05, alpha_high=0.05)
    assert np.isfinite([bounds.low, bounds.high]).tolist() == [finite, finite]


def test_bounds_are_wider_than_those_of_a_test_at_a_fixed_day() -> None:
    for days in (10, 21, 60, 90):
        assert 1 < reach(days, 0.05) / stats.t.ppf(0.95, days - 1) < 2.4


MEANS = st.floats(-1, 1).map(lambda value: round(value, 4))
VALUES = st.lists(MEANS, min_size=0, max_size=90).map(np.array)


@given(VALUES, st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_a_smaller_alpha_never_gives_a_narrower_bound(values: np.ndarray, one: float, other: float) -> None:
    smaller, larger = sorted([one, other])
    wide = confidence_sequence(values, alpha_low=smaller, alpha_high=smaller)
    narrow = confidence_sequence(values, alpha_low=larger, alpha_high=larger)
    assert wide.low <= narrow.low
    assert wide.high >= narrow.high


@given(VALUES)
def test_bounds_change_sides_with_the_sign(values: np.ndarray) -> None:
    one = confidence_sequence(values, alpha_low=0.01, alpha_high=0.05)
    other = confidence_sequence(-values, alpha_low=0.05, alpha_high=0.01)
    assert (one.low, one.high) == (-other.high, -other.low)


@given(VALUES, st.floats(0.1, 10), st.floats(-1, 1))
def test_bounds_move_with_the_scale_and_the_level(values: np.ndarray, scale: float, shift: float) -> None:
    assume(len(values) > 1 and np.std(values) > 0.01)
    one = confidence_sequence(values, alpha_low=0.05, alpha_high=0.05)
    other = confidence_sequence(scale * values + shift, alpha_low=0.05, alpha_high=0.05)
    assert other.low == pytest.approx(scale * one.low + shift, abs=1e-6)
    assert other.high == pytest.approx(scale * one.high + shift, abs=1e-6)


@given(st.integers(8, 200), st.floats(0.001, 0.2))
def test_more_days_never_have_wider_bounds(days: int, alpha: float) -> None:
    earlier, later = (reach(n, alpha) / n**0.5 for n in (days, days + 1))
    assert later <= earlier


@given(st.lists(MEANS, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_days_may_come_in_any_order(losses: list[float], random: Callable) -> None:
    days = days_of(losses)
    shuffled = days.copy()
    random.shuffle(shuffled)
    assert found(shuffled) == found(days)


@given(st.lists(st.tuples(MEANS, MEANS, st.integers(0, 100)), max_size=40))
def test_nothing_is_good_without_enough_days_that_count(values: list[tuple[float, float, int]]) -> None:
    days = [
        day(number, loss, calibration, labelled=labelled) for number, (loss, calibration, labelled) in enumerate(values)
    ]
    if sum(one.labelled >= 90 for one in days) < NEEDED:
        assert GOOD not in signals(days)


@pytest.mark.parametrize(("correlation", "at_most"), [(0.0, 1.0), (0.4, 0.6), (0.6, 0.4)])
def test_days_that_resemble_the_day_before_count_for_less(correlation: float, at_most: float) -> None:
    drawn = autocorrelated(500, 60, correlation)
    share = np.mean([effective_days(values) for values in drawn]) / 60
    assert 0.5 * (1 - correlation) / (1 + correlation) < share <= at_most


def test_how_much_days_resemble_the_day_before_is_corrected_for_how_few_they_are() -> None:
    correlation = 0.25 + (1 + 3 * 0.25) / 4  # of these days, and its bias
    expected = 4 * (1 - correlation) / (1 + correlation)
    assert effective_days(np.array([1.0, 1.0, -1.0, -1.0])) == pytest.approx(expected)
    assert effective_days(np.resize([1.0, -1.0], 30)) == 30


def test_equal_days_all_count() -> None:
    assert effective_days(np.zeros(30)) == 30


def autocorrelated(replicates: int, days: int, correlation: float) -> np.ndarray:
    rng = np.random.default_rng(7)
    drawn = rng.standard_normal((replicates, days))
    for at in range(1, days):
        drawn[:, at] = correlation * drawn[:, at - 1] + (1 - correlation**2) ** 0.5 * drawn[:, at]
    return drawn


@pytest.mark.parametrize(("correlation", "at_most"), [(0.0, 0.05), (0.2, 0.05), (0.4, 0.08)])
def test_looking_every_day_rarely_finds_what_is_not_there(correlation: float, at_most: float) -> None:
    found = [
        any(confidence_sequence(values[:days], alpha_low=0.05, alpha_high=0.05).low > 0 for days in range(7, 61))
        for values in autocorrelated(300, 60, correlation)
    ]
    assert np.mean(found) <= at_most
