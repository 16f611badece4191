"""The simulation behind docs/rollout-error-rates.md, in small."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from bench.gate import defaults
from bench.rollout_rules import (
    CLOCK,
    MATURITY,
    ONCE,
    PEEKING,
    RANKS,
    ROWS,
    RULES,
    SEQUENCES,
    THRESHOLDS,
    WEEKS,
    Pair,
    asymptotic_reach,
    autocorrelated,
    by_rule,
    first_above,
    pair,
)
from bench.rollouts import AMOUNTS, CORRELATIONS, EFFECT, fixed_length, page, picture, policy_line
from scipy import stats

from flight_delays.core.backtest import History
from flight_delays.core.drawn import Ended, rolled_out
from flight_delays.core.gates import Evidence
from flight_delays.core.objective import BinaryClassification
from flight_delays.core.quality import CALIBRATION, PairedDay
from flight_delays.core.settings import RolloutPolicy

DOCS = Path(__file__).parents[2] / "docs"
POLICY = replace(defaults(RolloutPolicy), quality_needed_for=100)
LIMIT, NEEDED = POLICY.quality_limit_days, POLICY.quality_min_days
DAYS = np.arange(LIMIT)[None, :]


def days_of(worse: np.ndarray, rows: float = 240) -> Pair:
    """A pair whose loss differs by this, by day; calibration is the same."""
    paired = tuple(
        PairedDay(day=date.min, rows=int(rows), labelled=int(rows), loss=float(one), guardrails={CALIBRATION: 0.0})
        for one in worse
    )
    return Pair(
        paired=paired,
        rows=np.full(len(worse), rows),
        worse=worse,
        squares=rows * (worse**2 + 0.01),
        champion=np.full(len(worse), 0.5),
        challenger=0.5 + worse,
    )


def around(mean: float, spread: float = 0.001) -> np.ndarray:
    return mean + spread * np.resize([1.0, -1.0], LIMIT)


def by_one(rule: str, found: Pair) -> tuple[bool, bool, float]:
    ended = rolled_out(found.paired, DAYS, POLICY, MATURITY) if rule == CLOCK else by_rule(found, DAYS, POLICY)[rule]
    return bool(ended.promoted[0]), bool(ended.rolled_back[0]), float(ended.days[0])


@pytest.mark.parametrize(
    ("worse", "ended"),
    [
        (around(0.0), (True, False, NEEDED + 1)),
        (around(-0.02), (True, False, NEEDED + 1)),
        (around(0.005), (False, True, NEEDED + 1)),
        (around(0.1), (False, True, 7 + 1)),
        (around(0.0, 1.0), (False, False, LIMIT)),
    ],
    ids=["equal", "better", "worse within the margin", "worse", "noise"],
)
def test_a_rollout_ends_when_the_clock_says_so(worse: np.ndarray, ended: tuple[bool, bool, float]) -> None:
    assert by_one(CLOCK, days_of(worse)) == ended


def test_the_challenger_answers_by_the_share_of_each_stage() -> None:
    ended = rolled_out(days_of(around(0.0)).paired, DAYS, POLICY, MATURITY)  # 240 rows a day, 10 an hour
    hours = 24 * (NEEDED + 1)
    assert ended.rows[0] == pytest.approx(10 * hours)
    assert ended.exposed[0] == pytest.approx(10 * (0 + 0.01 + 0.05 + 0.25 + 0.5 * (hours - 4)))


def test_quality_that_is_needed_earlier_takes_the_same_days_and_gives_the_challenger_fewer_rows() -> None:
    early, late = (
        rolled_out(days_of(around(0.0)).paired, DAYS, replace(POLICY, quality_needed_for=share), MATURITY)
        for share in (1, 100)
    )
    assert early.promoted.all()
    assert 0 <= early.days[0] - late.days[0] < 0.25  # the stages that are left, an hour each
    assert early.exposed[0] < 10 < late.exposed[0]


def test_quality_that_is_known_at_the_limit_lets_the_rollout_go_on_through_its_stages() -> None:
    policy = replace(POLICY, quality_needed_for=5, quality_min_days=LIMIT - 1)
    ended = rolled_out(days_of(around(0.0)).paired, DAYS, policy, MATURITY)
    assert ended.promoted.all()
    assert ended.days[0] == pytest.approx(LIMIT + 3 / 24)  # 5, 25 and 50 % take an hour each


def test_a_pair_is_summed_by_day_as_its_rows_are() -> None:
    late = BinaryClassification(positive="late", negative="on time")
    days = np.array([1, 0, 1, 0, 1])
    labels, champion = np.array([1.0, 0, 1, 0, 0]), np.array([0.6, 0.2, 0.7, 0.1, 0.4])
    challenger = np.array([0.5, 0.3, 0.9, 0.2, 0.1])
    evidence = Evidence(objective=late, labels=labels, forecasts=champion, days=days, baseline=0.4, champion=None)
    found = pair(History(evidence=evidence, challengers={}, weak=champion), challenger, champion)
    worse = late.loss(labels, challenger) - late.loss(labels, champion)
    assert found.rows.tolist() == [2, 3]
    assert found.worse == pytest.approx([worse[[1, 3]].mean(), worse[[0, 2, 4]].mean()])
    assert [one.loss for one in found.paired] == pytest.approx(found.worse)
    assert found.challenger - found.champion == pytest.approx(found.worse)
    assert found.squares == pytest.approx([(worse[[1, 3]] ** 2).sum(), (worse[[0, 2, 4]] ** 2).sum()])


@pytest.mark.parametrize(
    ("failing", "ended"),
    [
        ([], (True, False, NEEDED + 1)),
        ([3, 4], (True, False, NEEDED + 1)),
        ([3, 5, 7], (True, False, NEEDED + 1)),
        ([3, 4, 5], (False, True, 7)),
        ([NEEDED - 3, NEEDED - 2, NEEDED - 1], (False, True, NEEDED + 1)),
        ([NEEDED, NEEDED + 1, NEEDED + 2], (True, False, NEEDED + 1)),
    ],
)
def test_a_fixed_threshold_ends_a_rollout_after_failures_in_a_row(
    failing: list[int], ended: tuple[bool, bool, float]
) -> None:
    worse = np.full(LIMIT, POLICY.max_loss_increase)  # as much as is allowed
    worse[failing] += 1e-6
    assert by_one(THRESHOLDS, days_of(worse)) == ended


def test_ranks_are_those_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(5)
    champion = rng.normal(0.5, 0.1, LIMIT)
    for shift in (0.0, 0.05, 0.1, 0.3):
        challenger = rng.normal(0.5 + shift, 0.1, LIMIT)
        found = replace(days_of(challenger - champion), champion=champion, challenger=challenger)
        p = [
            stats.mannwhitneyu(
                challenger[:n], champion[:n], alternative="greater", method="asymptotic", use_continuity=False
            ).pvalue
            for n in range(1, NEEDED + 1)
        ]
        higher = [n for n in range(5, NEEDED + 1) if p[n - 1] < 0.01]
        expected = (False, True, higher[0] + 1) if higher else (True, False, NEEDED + 1)
        assert by_one(RANKS, found) == expected


@pytest.mark.parametrize(("mean", "promoted"), [(0.0, True), (0.02, False)])
def test_tests_of_a_fixed_length_are_those_of_student(mean: float, promoted: bool) -> None:
    rng = np.random.default_rng(8)
    worse = rng.normal(mean, 0.02, LIMIT)
    known = worse[: LIMIT - 1]  # the last day's labels are not there yet
    bound = stats.ttest_1samp(known, 0).confidence_interval(0.90)
    assert (bound.high <= POLICY.max_loss_increase, bound.low > 0) == (promoted, not promoted)
    assert by_one(ONCE, days_of(worse)) == (promoted, not promoted, LIMIT)
    assert by_one(PEEKING, days_of(worse))[2] <= LIMIT


def test_rows_that_are_taken_for_independent_decide_in_days() -> None:
    assert by_one(ROWS, days_of(np.full(LIMIT, 0.02), rows=1_000))[1:] == (True, 2)


# Of ville 0.1.0 (BSD-3-Clause), ville._boundaries.normal_mixture(n, alpha=0.1, rho=4) / n, by days.
@pytest.mark.parametrize(("days", "reach"), [(10, 0.9055996033720886), (30, 0.5047970283880534), (60, 0.36216040419)])
def test_the_asymptotic_sequence_is_as_wide_as_that_of_a_library(days: int, reach: float) -> None:
    assert asymptotic_reach(np.array([days]), 0.05)[0] == pytest.approx(reach)


def test_days_resemble_the_day_before_as_told() -> None:
    drawn = autocorrelated(np.random.default_rng(2), 2_000, 40, 0.4)
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1] == pytest.approx(0.4, abs=0.02)


def test_sequences_see_what_is_there_and_rarely_what_is_not() -> None:
    nothing = autocorrelated(np.random.default_rng(2), 100, LIMIT, 0.2)
    seen, wrong = first_above(nothing + 2, 0.05), first_above(nothing, 0.05)
    assert all(np.isfinite(seen[name]).all() for name in SEQUENCES if name != WEEKS)
    assert np.median(seen[CLOCK]) < 14
    assert np.isfinite(wrong[CLOCK]).mean() <= 0.05 < np.isfinite(wrong[PEEKING]).mean()


def test_a_test_of_a_fixed_length_has_its_power() -> None:
    rng = np.random.default_rng(4)
    drawn = rng.normal(0.5, 1, (4_000, fixed_length(0.5, 0.05)))
    t = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * drawn.shape[1] ** 0.5
    assert np.mean(t > stats.t.ppf(0.95, drawn.shape[1] - 1)) == pytest.approx(0.8, abs=0.03)


def ended(promoted: int, rolled_back: int, of: int) -> Ended:
    at = np.arange(of)
    return Ended(
        promoted=at < promoted,
        rolled_back=at >= of - rolled_back,
        days=np.where(at < promoted, 22.0, 60.0),
        exposed=np.full(of, 1_000.0),
        rows=np.full(of, 2_000.0),
    )


def test_the_page_says_what_was_counted() -> None:
    counts = dict(zip(AMOUNTS, ((100, 0), (95, 0), (90, 1), (80, 2), (40, 20), (5, 50), (0, 90)), strict=True))
    results = {
        amount: {name: {rule: ended(*counts[amount], 100) for rule in (CLOCK, *RULES)} for name in ("one", "other")}
        for amount in AMOUNTS
    }
    crossed = {(r, 0.0): dict.fromkeys(SEQUENCES, np.array([9.0, np.inf, np.inf, np.inf])) for r in CORRELATIONS}
    crossed[0.0, EFFECT] = dict.fromkeys(SEQUENCES, np.array([20.0, 30.0, 40.0, np.inf]))
    text = page(results, {"single days": results}, crossed, POLICY, 100, 10, "3 minutes on 2 cores")
    assert "It took 3 minutes on 2 cores." in text
    assert "**An equal version is rolled back in 2.0 % of rollouts** (worst\n  pair 2.0 %)" in text
    assert "| equal | 80.0 % (80.0 %) | 2.0 % (2.0 %) | 18.0 % | 22 (60) | 22 (22) | 1,000 of 2,000 |" in text
    assert "| 0.02 worse | 0.0 % (0.0 %) | 90.0 % (90.0 %) | 10.0 % | 60 (60) |  | 1,000 of 2,000 |" in text
    assert "| single days | 2.0 % (2.0 %) | 80.0 % | 5.0 % (5.0 %) | 0.0 % (0.0 %) | 90.0 % |" in text
    assert "| 100 | 50 % | 1,000 |" in text
    assert "| quality clock | 25.0 % | 25.0 % | 25.0 % | 25.0 % | 40 days | over 60 days |" in text
    assert len(picture(results, crossed, POLICY).axes) == 3


def test_the_published_rates_are_those_of_the_defaults() -> None:
    assert policy_line(defaults(RolloutPolicy)) in (DOCS / "rollout-error-rates.md").read_text()
