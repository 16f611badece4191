"""The simulation of chains of releases, in small."""

from dataclasses import replace

import numpy as np
import pytest
from bench.chains import RELEASES, chain, levels, versus
from bench.error_rates import old
from bench.gate import defaults

from flight_delays.core.gates import DayTotals, Evidence, Outcome, by_day, judge_days
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import BinaryClassification
from flight_delays.core.settings import Policy

POLICY = replace(defaults(Policy), draws=200)
LATE = BinaryClassification(positive="late", negative="on time")
DAYS, PER_DAY = 60, 100


def made() -> tuple[Evidence, dict[str, Floats], Floats]:
    """Made-up days, five models that are mistaken each in its own way, and one that knows nothing."""
    rng = np.random.default_rng(11)
    odds = -1 + rng.normal(size=DAYS * PER_DAY)
    labels = (rng.uniform(size=len(odds)) < 1 / (1 + np.exp(-odds))).astype(float)
    mistaken = 0.3 * rng.normal(size=(5, len(odds)))
    models = {name: 1 / (1 + np.exp(-(odds + error))) for name, error in zip("abcde", mistaken, strict=True)}
    evidence = Evidence(
        objective=LATE,
        labels=labels,
        forecasts=labels,
        days=np.repeat(np.arange(DAYS), PER_DAY),
        baseline=float(labels.mean()),
        champion=None,
        slices={"carrier": np.resize(np.array(["AA", "UA"]), len(labels))},
    )
    return evidence, models, np.full_like(labels, labels.mean())


def mean_loss(totals: DayTotals) -> float:
    """Above the baseline's."""
    return float(totals.gain.sum() / totals.rows.sum())


@pytest.mark.parametrize("step", [0.002, 0.0, -0.002])
def test_every_model_is_as_far_away_from_the_level_before_as_a_step_says(step: float) -> None:
    evidence, models, weak = made()
    found = levels(evidence, models, weak, step)
    begin = mean_loss(found["a", 0])
    for name in models:
        losses = [mean_loss(found[name, number]) for number in range(RELEASES + 1)]
        assert losses == pytest.approx([begin + number * step for number in range(RELEASES + 1)], abs=1e-9)


def test_models_apart_are_compared_as_they_are_together() -> None:
    evidence, models, _ = made()
    alone = {name: by_day(replace(evidence, forecasts=forecasts)) for name, forecasts in models.items()}
    recent = {1: "c", 2: "d"}
    quick = versus(alone["a"], alone["b"], {number: alone[name] for number, name in recent.items()})
    together = replace(
        evidence,
        forecasts=models["a"],
        champion=models["b"],
        recent={number: models[name] for number, name in recent.items()},
    )
    slow, fast = (judge_days(totals, POLICY) for totals in (by_day(together), quick))
    for one, other in zip(slow.checks, fast.checks, strict=True):
        assert (one.name, one.outcome) == (other.name, other.outcome)
        assert one.evidence == pytest.approx(other.evidence, abs=1e-8)
    assert [one.outcome for one in slow.slices] == [one.outcome for one in fast.slices]


def gained(step: float, **changes: object) -> list[int]:
    """Releases that were promoted in some chains."""
    evidence, models, weak = made()
    found, policy = levels(evidence, models, weak, step), replace(POLICY, **changes)
    results = [chain(found, step, policy, holdout_days=40, rng=np.random.default_rng(seed)) for seed in range(8)]
    assert [one.gained for one in results] == [one.promoted * step for one in results]
    return [one.promoted for one in results]


def test_a_gate_that_lets_everything_pass_promotes_all_and_one_that_lets_nothing_pass_none() -> None:
    anything = {"allow_worse_within_margin": True, "loss_margin": 9, "calibration_margin": 9, "slice_margin": 9}
    assert gained(0.002, **anything, max_calibration_error=9) == [RELEASES] * 8
    assert gained(0.002, min_holdout_days=41) == [0] * 8


def test_the_gate_promotes_fewer_challengers_that_are_a_little_worse_than_the_old_one_did() -> None:
    before = old(POLICY)
    without = {"allow_worse_within_margin": before.allow_worse_within_margin, "recent_days": before.recent_days}
    wide = {"loss_margin": 0.02, "calibration_margin": 9, "max_calibration_error": 9}
    worse = {
        name: sum(gained(0.004, **wide, **changes))
        for name, changes in (("old", without), ("champion", {"recent_days": 0}), ("gate", {}))
    }
    assert worse["old"] > worse["champion"] > worse["gate"]


def test_the_old_rule_is_that_of_a_policy_that_allows_a_small_loss_and_looks_at_the_champion_alone() -> None:
    assert (old(POLICY).allow_worse_within_margin, old(POLICY).recent_days) == (True, 0)
    assert replace(old(POLICY), allow_worse_within_margin=False, recent_days=90) == POLICY
    evidence, models, _ = made()
    assert judge_days(by_day(replace(evidence, forecasts=models["a"])), old(POLICY)).outcome is Outcome.PASS
