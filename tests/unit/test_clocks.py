"""What the clocks of a rollout find, at each limit."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.contexts import ROLLOUT

from flight_delays.core import clocks
from flight_delays.core.clocks import Answered, Split
from flight_delays.core.rollout import Signal

GOOD, WORSE, UNKNOWN, INVALID = Signal
NEEDED = ROLLOUT.rollout_min_requests


def served(requests: int = NEEDED, errors: int = 0, latency_ms: float = 10) -> Answered:
    return Answered(requests=requests, errors=errors, latencies_ms={latency_ms: requests} if requests else {})


@pytest.mark.parametrize(
    ("champion", "challenger", "signal"),
    [
        (NEEDED, NEEDED, GOOD),
        (NEEDED + 1, NEEDED - 1, UNKNOWN),
        (NEEDED - 1, NEEDED + 1, UNKNOWN),
        (0, 0, UNKNOWN),
        (NEEDED, 0, UNKNOWN),
    ],
)
def test_both_versions_need_enough_requests(champion: int, challenger: int, signal: Signal) -> None:
    finding = clocks.enough_requests(served(champion), served(challenger), ROLLOUT)
    assert finding.signal == signal
    assert f"{challenger:,}, at least {NEEDED:,} each needed" in finding.reason


@pytest.mark.parametrize(
    ("champion", "challenger", "signal"),
    [
        ((1_000, 0), (1_000, 0), GOOD),
        ((1_000, 0), (1_000, 10), GOOD),  # 1 %, as much as is allowed
        ((1_000, 0), (1_000, 11), UNKNOWN),  # above, and not shown to be
        ((1_000, 0), (1_000, 60), WORSE),
        ((1_000, 50), (1_000, 60), GOOD),
        ((10, 0), (10, 1), UNKNOWN),
        ((10, 0), (10, 10), WORSE),  # nothing but errors is seen at once
        ((0, 0), (10, 10), UNKNOWN),
        ((10, 0), (0, 0), UNKNOWN),
        ((0, 0), (0, 0), UNKNOWN),
    ],
)
def test_errors_count_against_the_champions(
    champion: tuple[int, int], challenger: tuple[int, int], signal: Signal
) -> None:
    assert clocks.errors(served(*champion), served(*challenger), ROLLOUT).signal == signal


def test_what_has_no_measurement_names_the_version_that_lacks_it() -> None:
    assert clocks.latency(served(9), served(0), ROLLOUT).reason == "no request of the challenger was timed"
    both = "no request of the champion and the challenger was timed"
    assert clocks.errors(served(0), served(0), ROLLOUT).reason == both


@pytest.mark.parametrize(
    ("latency_ms", "requests", "signal"),
    [
        (10, NEEDED, GOOD),
        (110, NEEDED, GOOD),  # 100 ms more, as much as is allowed
        (110.1, NEEDED, WORSE),
        (110.1, 100, WORSE),
        (110.1, 99, UNKNOWN),  # too few to bound a p95
        (math.nan, NEEDED, UNKNOWN),
    ],
)
def test_latency_counts_against_the_champions(latency_ms: float, requests: int, signal: Signal) -> None:
    finding = clocks.latency(served(NEEDED), served(requests, latency_ms=latency_ms), ROLLOUT)
    assert finding.signal == signal


def test_a_slow_tail_of_chance_is_not_called_worse() -> None:
    slow = Answered(requests=1_000, errors=0, latencies_ms={10.0: 940, 1_000.0: 60})  # p95 is at the edge of the tail
    assert clocks.latency(served(1_000), slow, ROLLOUT).signal == UNKNOWN


@pytest.mark.parametrize(
    ("splits", "signal"),
    [
        ([(5, 50, 1_000)], GOOD),
        ([(5, 72, 1_000)], GOOD),  # p = 0.0018
        ([(5, 74, 1_000)], INVALID),  # p = 0.0006
        ([(5, 0, 1_000)], INVALID),
        ([(5, 0, 100)], GOOD),
        ([(1, 10, 1_000), (50, 500, 1_000)], GOOD),  # the history of the split, not its last state
        ([(50, 510, 2_000)], INVALID),
        ([(0, 0, 1_000)], GOOD),
        ([(0, 1, 1_000)], INVALID),
        ([(5, 0, 0)], UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_a_share_that_cannot_be_chance_is_not_to_be_trusted(splits: list[tuple[int, int, int]], signal: Signal) -> None:
    given_splits = [Split(percentage=share, challenger=got, all=total) for share, got, total in splits]
    assert clocks.sample_ratio(given_splits, ROLLOUT).signal == signal


def agreement(
    champion: list[float], challenger: list[float], threshold: float | None = 0.5, **policy: object
) -> dict[str, tuple[Signal, str]]:
    first, second = np.array(champion), np.array(challenger)
    decisions = None if threshold is None else (first >= threshold, second >= threshold)
    entities = np.array([f"e{at}" for at in range(len(first))])
    few = replace(ROLLOUT, rollout_min_requests=4, **policy)
    return {one.name: (one.signal, one.reason) for one in clocks.agreement(entities, first, second, decisions, few)}


SAME = [0.1, 0.2, 0.6, 0.9]


def test_versions_that_answer_alike_agree() -> None:
    assert {signal for signal, _ in agreement(SAME, SAME).values()} == {GOOD}


@pytest.mark.parametrize("rows", [0, 3])
def test_too_few_requests_are_no_agreement(rows: int) -> None:
    assert agreement(SAME[:rows], SAME[:rows]) == {
        "agreement": (UNKNOWN, f"{rows} requests were scored by both versions, at least 4 needed")
    }


Z = NormalDist().inv_cdf(ROLLOUT.rollout_confidence)
REACH = {  # of 4,000 requests, below what was measured
    "max_mean_shift": Z * np.std([0, 0, 0, 0.2]) / math.sqrt(4_000),
    "max_distance": 2 * math.sqrt(math.log(4 / 0.001) / 8_000),
    "max_changed_share": 0.25 - stats.binomtest(1_000, 4_000).proportion_ci(2 * 0.999 - 1, method="wilson").low,
}


@pytest.mark.parametrize(
    ("limit", "value", "challenger"),
    [
        ("max_mean_shift", 0.05, [0.1, 0.2, 0.6, 0.7]),
        ("max_distance", 0.25, [0.1, 0.2, 0.6, 0.7]),
        ("max_changed_share", 0.25, [0.1, 0.2, 0.4, 0.9]),
    ],
)
def test_each_figure_is_good_up_to_its_bound_and_worse_only_where_that_is_shown(
    limit: str, value: float, challenger: list[float]
) -> None:
    name = {"max_mean_shift": "mean_shift", "max_distance": "distance", "max_changed_share": "changed"}[limit]
    shown = value - REACH[limit]
    at = {value + 1e-9: GOOD, value - 1e-9: UNKNOWN, shown + 1e-9: UNKNOWN, shown - 1e-9: WORSE}
    for allowed, signal in at.items():
        assert agreement(SAME * 1_000, challenger * 1_000, **{limit: allowed})[name][0] == signal


def test_an_entity_that_was_asked_for_twice_is_named_once() -> None:
    forecasts = np.array([0.1, 0.2, 0.3, 0.4])
    found = clocks.agreement(
        np.array(["a", "a", "b", "c"]),
        forecasts,
        np.array([0.4, 0.4, 0.4, 0.4]),
        None,
        replace(ROLLOUT, rollout_min_requests=4),
    )
    assert found[0].reason.endswith("furthest: a 0.1 to 0.4, b 0.3 to 0.4, c 0.4 to 0.4")


def test_the_entities_that_move_most_are_named() -> None:
    _, reason = agreement(SAME, [0.1, 0.3, 0.6, 0.4])["mean_shift"]
    assert reason.endswith("furthest: e3 0.9 to 0.4, e1 0.2 to 0.3, e0 0.1 to 0.1")


def test_a_forecast_that_is_no_number_does_not_agree() -> None:
    assert agreement(SAME, [0.1, 0.2, math.nan, 0.9])["mean_shift"][0] == WORSE


def test_a_regression_has_no_decisions_to_change() -> None:
    assert set(agreement(SAME, SAME, None)) == {"mean_shift", "distance"}


VALUES = st.lists(st.floats(0, 1), min_size=4, max_size=50)


@given(VALUES, VALUES)
def test_the_distance_is_kolmogorovs_and_smirnovs(first: list[float], second: list[float]) -> None:
    ours = clocks._distance(np.array(first), np.array(second))
    assert ours == pytest.approx(stats.ks_2samp(first, second, method="asymp").statistic)


@given(st.lists(st.integers(1, 50), min_size=100, max_size=400))
def test_p95_and_its_bounds_are_values_of_the_ordered_latencies(values: list[int]) -> None:
    low, estimate, high = clocks._p95({float(value): values.count(value) for value in {*values}}, ROLLOUT)
    assert estimate == np.quantile(values, 0.95, method="inverted_cdf")
    assert low <= estimate <= high


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_shares_bounds_are_wilsons(count: int, more: int) -> None:
    total = count + more
    low, high = stats.binomtest(count, total).proportion_ci(0.9, method="wilson")
    ours = clocks._wilson(count, total, stats.norm.ppf(0.95))
    assert ours == pytest.approx((low, high), abs=1e-9)
