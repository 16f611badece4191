"""When a version may serve."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Check, Evidence, Interval, Outcome, Policy, at_most, enough_days, judge, verdict

PASS, FAIL, INCONCLUSIVE = Outcome
POLICY = Policy(min_holdout_days=14, log_loss_margin=0.005, max_calibration_error=0.05, draws=500)
OUTCOMES = st.lists(st.sampled_from(Outcome), max_size=6)


def checks(*outcomes: Outcome) -> list[Check]:
    return [Check(name=f"check {n}", outcome=outcome, reason="why") for n, outcome in enumerate(outcomes)]


def evidence(days: int = 60, per_day: int = 200, *, champion: bool = True) -> Evidence:
    """A well calibrated candidate; the champion forecasts the same."""
    rng = np.random.default_rng(3)
    probabilities = rng.uniform(0.05, 0.6, days * per_day)
    return Evidence(
        labels=(rng.uniform(size=days * per_day) < probabilities).astype(float),
        probabilities=probabilities,
        days=np.repeat(np.arange(days), per_day),
        base_rate=0.325,
        champion=probabilities.copy() if champion else None,
    )


def named(found: Evidence, policy: Policy = POLICY) -> dict[str, Check]:
    return {check.name: check for check in judge(found, policy).checks}


@pytest.mark.parametrize(("days", "outcome"), [(0, INCONCLUSIVE), (13, INCONCLUSIVE), (14, PASS), (15, PASS)])
def test_too_few_days_are_inconclusive_never_a_fail(days: int, outcome: Outcome) -> None:
    check = enough_days(days, POLICY)
    assert (check.outcome, check.evidence) == (outcome, {"days": days, "needed": 14})
    assert check.reason.startswith(f"{days} unseen days, at least 14 needed")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.8, 0.99, PASS),
        (0.8, 1.00, PASS),
        (0.8, 1.01, INCONCLUSIVE),
        (0.99, 1.1, INCONCLUSIVE),
        (1.00, 1.1, INCONCLUSIVE),
        (1.01, 1.1, FAIL),
        (1.0, 1.0, PASS),
        (math.nan, math.nan, INCONCLUSIVE),
        (0.8, math.nan, INCONCLUSIVE),
    ],
)
def test_an_interval_passes_only_when_all_of_it_is_at_most_the_limit(low: float, high: float, outcome: Outcome) -> None:
    check = at_most("named", "loss", Interval(low=low, estimate=0.9, high=high), 1.0)
    assert (check.name, check.outcome) == ("named", outcome)
    assert check.evidence == pytest.approx({"low": low, "estimate": 0.9, "high": high, "limit": 1.0}, nan_ok=True)
    assert f"loss is 0.9000 [{low:.4f}, {high:.4f}]" in check.reason


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        ([], INCONCLUSIVE),
        ([PASS], PASS),
        ([PASS, PASS], PASS),
        ([INCONCLUSIVE], INCONCLUSIVE),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([FAIL], FAIL),
        ([PASS, FAIL], FAIL),
        ([INCONCLUSIVE, FAIL, PASS], FAIL),
    ],
)
def test_a_verdict_is_the_worst_of_its_checks_and_inconclusive_without_any(
    outcomes: list[Outcome], outcome: Outcome
) -> None:
    assert verdict(checks(*outcomes)).outcome is outcome


@given(OUTCOMES)
def test_a_verdict_never_passes_unless_every_one_of_some_checks_does(outcomes: list[Outcome]) -> None:
    found = verdict(checks(*outcomes))
    assert (found.outcome is PASS) == (set(outcomes) == {PASS})
    assert [check.outcome for check in found.checks] == outcomes


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_checks_does_not_matter(outcomes: list[Outcome], random: object) -> None:
    shuffled = outcomes.copy()
    random.shuffle(shuffled)
    assert verdict(checks(*outcomes)).outcome is verdict(checks(*shuffled)).outcome


def test_with_no_champion_nothing_is_compared_with_one() -> None:
    found = judge(evidence(champion=False), POLICY)
    assert found.outcome is PASS
    assert [check.name for check in found.checks] == ["enough_days", "better_than_base_rate", "calibrated"]


def test_an_equal_of_the_champion_passes() -> None:
    found = judge(evidence(), POLICY)
    assert found.outcome is PASS
    assert found.checks[-1].name == "not_worse_than_champion"
    assert found.checks[-1].evidence == {"low": 0, "estimate": 0, "high": 0, "limit": 0.005}


def test_a_clearly_worse_challenger_fails_though_it_beats_the_base_rate() -> None:
    equal = evidence()
    blurred = 0.325 + 0.5 * (equal.probabilities - 0.325)
    found = judge(replace(equal, probabilities=blurred), replace(POLICY, max_calibration_error=1.0))
    assert found.outcome is FAIL
    assert [check.outcome for check in found.checks] == [PASS, PASS, PASS, FAIL]


def test_a_slightly_worse_challenger_is_inconclusive_on_few_days_and_fails_on_many() -> None:
    def outcome(days: int) -> Outcome:
        equal = evidence(days)
        blurred = 0.325 + 0.72 * (equal.probabilities - 0.325)
        return named(replace(equal, probabilities=blurred))["not_worse_than_champion"].outcome

    assert (outcome(14), outcome(600)) == (INCONCLUSIVE, FAIL)


def test_a_model_that_knows_nothing_does_not_pass() -> None:
    ignorant = replace(evidence(champion=False), probabilities=np.full(12_000, 0.5))
    assert named(ignorant)["better_than_base_rate"].outcome is FAIL
    assert judge(ignorant, POLICY).outcome is FAIL


def test_a_model_that_forecasts_the_base_rate_does_not_pass() -> None:
    constant = evidence(champion=False)
    constant = replace(constant, probabilities=np.full_like(constant.labels, constant.base_rate))
    assert named(constant)["better_than_base_rate"].outcome is FAIL


@pytest.mark.parametrize(("limit", "outcome"), [(0.3, PASS), (0.1, FAIL)])
def test_a_model_that_cries_wolf_fails_on_calibration_above_its_limit(limit: float, outcome: Outcome) -> None:
    honest = evidence(champion=False)
    loud = replace(honest, probabilities=honest.probabilities + 0.2)
    assert named(loud, replace(POLICY, max_calibration_error=limit))["calibrated"].outcome is outcome


@pytest.mark.parametrize(("days", "asked"), [(13, 1), (14, 4)])
def test_too_few_days_ask_nothing_else(days: int, asked: int) -> None:
    assert len(judge(evidence(days), POLICY).checks) == asked


def test_days_are_counted_not_rows() -> None:
    assert judge(evidence(days=13, per_day=10_000), POLICY).outcome is INCONCLUSIVE


def test_a_forecast_that_is_not_a_number_never_passes() -> None:
    broken = evidence()
    broken.probabilities[5] = math.nan
    assert judge(broken, POLICY).outcome is not PASS


def test_the_same_evidence_gives_the_same_verdict_and_another_seed_other_bounds() -> None:
    found = evidence(20)
    assert judge(found, POLICY) == judge(found, POLICY)
    assert judge(found, POLICY) != judge(found, replace(POLICY, seed=1))


def test_bounds_lie_around_the_estimate_and_widen_with_confidence() -> None:
    found = evidence(20)
    narrow, wide = (
        named(found, replace(POLICY, confidence=confidence))["better_than_base_rate"].evidence
        for confidence in (0.8, 0.99)
    )
    assert wide["low"] < narrow["low"] < narrow["estimate"] == wide["estimate"] < narrow["high"] < wide["high"]


@given(st.integers(0, 2**32 - 1))
def test_where_a_day_shares_its_luck_bounds_over_days_are_wider_than_over_rows(seed: int) -> None:
    """Each row its own day is what a row-level bootstrap does."""
    rng = np.random.default_rng(seed)
    days, per_day = 30, 40
    luck = np.repeat(rng.uniform(0.05, 0.95, days), per_day)
    by_day = Evidence(
        labels=(rng.uniform(size=days * per_day) < luck).astype(float),
        probabilities=np.full(days * per_day, 0.4),
        days=np.repeat(np.arange(days), per_day),
        base_rate=0.5,
        champion=None,
    )
    policy = replace(POLICY, draws=100)

    def width(found: Evidence) -> float:
        numbers = named(found, policy)["better_than_base_rate"].evidence
        return numbers["high"] - numbers["low"]

    assert width(by_day) > 1.5 * width(replace(by_day, days=np.arange(days * per_day)))


@pytest.mark.parametrize(
    ("setting", "refused", "taken"),
    [
        ("min_holdout_days", 0, 1),
        ("log_loss_margin", -1e-9, 0.0),
        ("min_gain", 0.0, 1e-9),
        ("log_loss_margin", float("nan"), 0.005),
        ("max_calibration_error", -1e-9, 0.0),
        ("max_calibration_error", 1 + 1e-9, 1.0),
        ("confidence", 0.5, 0.5 + 1e-9),
        ("confidence", 1.0, 1 - 1e-9),
        ("draws", 0, 1),
    ],
)
def test_a_policy_out_of_range_is_refused(setting: str, refused: float, taken: float) -> None:
    settings = {"min_holdout_days": 14, "log_loss_margin": 0.005, "max_calibration_error": 0.05}
    Policy(**{**settings, setting: taken})
    with pytest.raises(UserError, match=rf"^the policy needs {setting}, .*; mend it in databricks.yml$"):
        Policy(**{**settings, setting: refused})
