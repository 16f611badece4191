"""The simulation behind docs/error-rates.md, in small."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench.chains import Chain
from bench.error_rates import (
    DAY_LEVEL,
    GATE,
    OLD_GATE,
    POINT,
    ROW_LEVEL,
    RULES,
    Pair,
    Tally,
    pair,
    row_level,
    tally,
)
from bench.gate import (
    CELLS,
    CHAIN_CELLS,
    CHALLENGERS,
    TIMES,
    Cell,
    defaults,
    page,
    picture,
    policy_line,
    rate,
    worst,
)

from flight_delays.core.backtest import worse_by
from flight_delays.core.drawn import drawn_days, of_days
from flight_delays.core.gates import Evidence, Outcome, judge, judge_days
from flight_delays.core.objective import BinaryClassification, Regression
from flight_delays.core.settings import Policy

DOCS = Path(__file__).parents[2] / "docs"
POLICY = replace(defaults(Policy), draws=400)
LATE = BinaryClassification(positive="late", negative="on time")
DAYS, PER_DAY = 120, 500


def models() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels and three forecasts of made-up days: of a champion and a challenger that differ in what they make of a
    day's weather, and of a model that knows nothing.
    """  # fmt: skip
    rng = np.random.default_rng(11)
    weather = np.repeat(rng.normal(size=DAYS), PER_DAY)
    own = rng.normal(size=DAYS * PER_DAY)
    mistaken = np.repeat(rng.normal(scale=0.45, size=(2, DAYS)), PER_DAY, axis=1)
    odds = -1.2 + 0.8 * weather + own
    labels = (rng.uniform(size=len(odds)) < 1 / (1 + np.exp(-odds))).astype(float)
    champion, challenger = (1 / (1 + np.exp(-(odds + error))) for error in mistaken)
    return labels, challenger, champion, np.full_like(labels, labels.mean())


def made(delta: float) -> tuple[Evidence, Pair]:
    labels, challenger, champion, weak = models()
    challenger, champion = worse_by(delta, LATE, labels, challenger, champion, weak)
    evidence = Evidence(
        objective=LATE,
        labels=labels,
        forecasts=challenger,
        days=np.repeat(np.arange(DAYS), PER_DAY),
        baseline=float(labels.mean()),
        champion=champion,
        slices={"carrier": np.resize(np.array(["AA", "UA"]), len(labels))},
    )
    return evidence, pair(evidence)


def mean_loss(labels: np.ndarray, forecast: np.ndarray) -> float:
    return float(LATE.loss(labels, forecast).mean())


@pytest.mark.parametrize("delta", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_challenger_is_worse_by_exactly_the_amount_and_one_side_stays_as_it_is(delta: float, swapped: bool) -> None:
    labels, challenger, champion, weak = models()
    if swapped:
        challenger, champion = champion, challenger
    worse, better = worse_by(delta, LATE, labels, challenger, champion, weak)
    assert mean_loss(labels, worse) - mean_loss(labels, better) == pytest.approx(delta, abs=1e-9)
    # Whoever is naturally further ahead than that is the one to be made worse.
    natural = mean_loss(labels, challenger) - mean_loss(labels, champion)
    assert (worse is challenger) == (natural > delta)
    assert (better is champion) == (natural <= delta)


@pytest.mark.parametrize("delta", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_regression_is_worse_by_exactly_the_amount_of_its_own_loss(delta: float, swapped: bool) -> None:
    rng = np.random.default_rng(11)
    minutes = Regression(unit="minutes", scale=30.0)
    foreseen = 30 * rng.normal(size=5_000)
    labels, *forecasts = (foreseen + spread * rng.normal(size=5_000) for spread in (30, 5, 6))
    challenger, champion = forecasts[::-1] if swapped else forecasts
    worse, better = worse_by(delta, minutes, labels, challenger, champion, np.full_like(labels, labels.mean()))
    above = minutes.loss(labels, worse).mean() - minutes.loss(labels, better).mean()
    assert above == pytest.approx(delta, abs=1e-9)
    assert (worse is challenger) != (better is champion)


def test_a_model_cannot_be_made_worse_than_the_weak_one() -> None:
    labels, challenger, champion, weak = models()
    with pytest.raises(ValueError, match="the weak model is too good"):
        worse_by(1.0, LATE, labels, challenger, champion, weak)


def test_days_are_drawn_in_blocks_of_days_that_follow_each_other_round_the_year() -> None:
    rng = np.random.default_rng(1)
    drawn = drawn_days(rng, 10, 2_000, 7)
    assert len(drawn) == 2_000
    assert np.bincount(drawn).min() > 100
    steps = np.diff(drawn) % 10
    assert (steps == 1).mean() > 0.85  # six steps of seven, and chance
    assert len(drawn_days(rng, 10, 60, 7)) == 60
    assert (np.diff(drawn_days(rng, 10, 2_000, 1)) % 10 == 1).mean() < 0.2


def test_a_drawn_holdout_is_judged_as_its_rows_are() -> None:
    """Up to the calibration bins, which the simulation keeps from all days."""
    evidence, totals = made(0.005)
    rng, agree = np.random.default_rng(5), 0
    for _ in range(20):
        drawn = drawn_days(rng, DAYS, 40, 1)
        rows = (drawn[:, None] * PER_DAY + np.arange(PER_DAY)).ravel()
        told = judge(
            replace(
                evidence,
                labels=evidence.labels[rows],
                forecasts=evidence.forecasts[rows],
                champion=evidence.champion[rows],
                days=np.repeat(np.arange(40), PER_DAY),
                slices={name: values[rows] for name, values in evidence.slices.items()},
            ),
            POLICY,
        )
        quick = judge_days(of_days(totals.totals, drawn), POLICY)
        for slow_check, quick_check in zip(told.checks, quick.checks, strict=True):
            assert slow_check.name == quick_check.name
            exact = "calibr" not in slow_check.name
            assert quick_check.evidence == pytest.approx(slow_check.evidence, abs=1e-8 if exact else 0.01)
        assert [one.worse_by for one in told.slices] == [one.worse_by for one in quick.slices]
        agree += told.outcome == quick.outcome
    assert agree >= 18


def test_the_normal_limit_agrees_with_rows_that_are_really_resampled() -> None:
    evidence, totals = made(0.005)
    days = np.arange(30)
    found = row_level(totals, days, 0.95)
    worse = LATE.loss(evidence.labels, evidence.forecasts) - LATE.loss(evidence.labels, evidence.champion)
    worse = worse[: 30 * PER_DAY]
    rng = np.random.default_rng(3)
    means = [worse[rng.integers(len(worse), size=len(worse))].mean() for _ in range(2_000)]
    assert found.estimate == pytest.approx(worse.mean(), abs=1e-12)
    width = found.high - found.low
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.05 * width)


def test_the_gate_lets_a_model_worse_by_twice_the_margin_pass_less_often_than_rows_or_the_point_do() -> None:
    passed = {}
    for times in (0, 1, 2):
        _, totals = made(times * POLICY.loss_margin)
        found = tally(totals, POLICY, holdout_days=60, replicates=150, seed=times)
        assert sum(found[GATE, str(outcome)] for outcome in Outcome) == 150
        passed[times] = {rule: found[rule, "PASS"] / 150 for rule in RULES}
    assert passed[2][GATE] <= 0.05
    assert all(passed[times][GATE] <= passed[times][OLD_GATE] for times in passed)
    assert passed[1][GATE] <= passed[1][DAY_LEVEL] <= 0.15
    assert passed[1][ROW_LEVEL] > passed[1][DAY_LEVEL] + 0.15
    assert passed[0][DAY_LEVEL] > passed[1][DAY_LEVEL]
    assert 0.3 < passed[0][POINT] < 0.7


def test_the_same_seed_counts_the_same() -> None:
    _, totals = made(0.0)
    settings = {"holdout_days": 20, "replicates": 10}
    assert tally(totals, POLICY, seed=1, **settings) == tally(totals, POLICY, seed=1, **settings)
    assert tally(totals, POLICY, seed=1, **settings) != tally(totals, POLICY, seed=2, **settings)


def counted(passes: int, of: int) -> Tally:
    tallies = {(rule, "PASS"): passes for rule in RULES} | {(rule, "FAIL"): of - passes for rule in RULES}
    return Counter({**tallies, ("not_worse_than_champion", "FAIL"): of - passes})


def test_the_worst_pair_passes_least_often_where_equal_and_most_often_where_worse() -> None:
    tallies = {"a": counted(20, 100), "b": counted(60, 100)}
    assert rate(tallies.values(), GATE) == 0.4
    assert worst(Cell(0, 60), tallies, GATE) == 0.2
    assert worst(Cell(-0.4, 60), tallies, GATE) == 0.2
    assert worst(Cell(2, 60), tallies, GATE) == 0.6


def test_the_page_says_what_was_counted() -> None:
    passes = dict(zip(TIMES, (90, 80, 40, 5, 1), strict=True))
    results = {cell: {name: counted(passes[cell.times], 100) for name in CHALLENGERS} for cell in CELLS}
    promoted = {"the gate": 2, "champion alone": 3, "the old gate": 5}
    chains = {
        cell: [Chain(promoted=number, gained=number * cell.step) for number in (promoted[cell.rule] - 1, 9)]
        for cell in CHAIN_CELLS
    }
    text = page(results, chains, POLICY, 100, "3 minutes on 2 cores")
    assert "It took 3 minutes on 2 cores." in text
    assert "**A model worse by twice the margin passes 1.0 % of 60-day holdouts** (worst pair 1.0 %)" in text
    assert "does not pass 20.0 % of them" in text
    assert f"| 30 | 0.01 worse (2 x margin) | {' | '.join(['1.0 % (1.0 %)'] * len(RULES))} |" in text
    assert f"| 15 | 0.002 better | {' | '.join(['90.0 % (90.0 %)'] * len(RULES))} |" in text
    assert "| 0.005 worse (1 x margin) | 5.0 % | 95.0 % | 0.0 % | 95.0 % |" in text
    assert "each 0.002 worse than the version that serves, 5.0 are" in text
    assert "| 60 | 0.002 worse | the gate | 5.0 | +0.0100 | +0.017 |" in text
    assert "| 90 | 0.002 worse | the old gate | 6.5 | +0.0130 | +0.018 |" in text
    assert "| 60 | equal | champion alone | 5.5 | 0 |" in text
    assert "| 60 | 0.002 better | the gate | 5.0 | -0.0100 |" in text
    panels = picture(results, POLICY).axes
    assert len(panels) == len(TIMES)
    assert list(panels[0].lines[0].get_ydata()) == [0.9] * 4


def test_the_published_rates_are_those_of_the_defaults() -> None:
    assert policy_line(defaults(Policy)) in (DOCS / "error-rates.md").read_text()


def test_a_pair_needs_a_champion() -> None:
    evidence, _ = made(0.0)
    with pytest.raises(ValueError, match="a pair needs a champion"):
        pair(replace(evidence, champion=None))
