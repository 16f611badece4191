"""When a version may serve."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flight_delays.core.bootstrap import Interval
from flight_delays.core.gates import (
    Check,
    Evidence,
    Outcome,
    Slice,
    SliceOutcome,
    at_most,
    enough_days,
    judge,
    no_slice_harmed,
    not_worse,
    not_worse_than_recent,
    verdict,
)
from flight_delays.core.objective import BinaryClassification, Regression
from flight_delays.core.settings import Policy

PASS, FAIL, INCONCLUSIVE = Outcome
SETTINGS = {
    "min_holdout_days": 14,
    "loss_margin": 0.005,
    "allow_worse_within_margin": False,
    "recent_days": 90,
    "max_calibration_error": 0.05,
    "calibration_margin": 0.02,
    "slice_margin": 0.02,
    "max_latency_ms": 100,
    "max_size_mb": 100,
    "allow_uncommitted": False,
}
POLICY = Policy(**SETTINGS, draws=500)
LATE = BinaryClassification(positive="late", negative="on time")
OUTCOMES = st.lists(st.sampled_from(Outcome), max_size=6)


def checks(*outcomes: Outcome) -> list[Check]:
    return [Check(name=f"check {n}", outcome=outcome, reason="why") for n, outcome in enumerate(outcomes)]


def evidence(days: int = 60, per_day: int = 200, *, champion: bool = True) -> Evidence:
    """A well calibrated candidate; the champion forecasts the same."""
    rng = np.random.default_rng(3)
    probabilities = rng.uniform(0.05, 0.6, days * per_day)
    return Evidence(
        objective=LATE,
        labels=(rng.uniform(size=days * per_day) < probabilities).astype(float),
        forecasts=probabilities,
        days=np.repeat(np.arange(days), per_day),
        baseline=0.325,
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


ABOVE = "shown to be above 0"
WITHIN = f"{ABOVE} though at most 0.005 (worse_within_margin)"


@pytest.mark.parametrize(
    ("low", "high", "outcome", "says", "otherwise"),
    [
        (-0.002, -0.001, PASS, "at most 0.005", PASS),  # better
        (-0.001, 0.004, PASS, "at most 0.005", PASS),
        (0.0, 0.0, PASS, "at most 0.005", PASS),  # the same
        (0.0, 0.005, PASS, "at most 0.005", PASS),
        (4e-10, 0.005, PASS, "at most 0.005", PASS),  # above 0 in the last bits alone
        (1e-9, 0.004, FAIL, WITHIN, PASS),
        (1e-9, 0.005, FAIL, WITHIN, PASS),
        (1e-9, 0.0051, FAIL, f"{ABOVE} and not shown to be at most 0.005", INCONCLUSIVE),
        (0.0, 0.0051, INCONCLUSIVE, "not shown to be at most 0.005", INCONCLUSIVE),
        (0.005, 0.0051, FAIL, f"{ABOVE} and not shown to be at most 0.005", INCONCLUSIVE),
        (0.0051, 0.006, FAIL, "above 0.005", FAIL),
        (math.nan, math.nan, INCONCLUSIVE, "not shown to be at most 0.005", INCONCLUSIVE),
    ],
)
def test_a_loss_that_is_shown_fails_however_small_unless_the_policy_allows_it(
    low: float, high: float, outcome: Outcome, says: str, otherwise: Outcome
) -> None:
    bounds = Interval(low=low, estimate=low, high=high)
    check = not_worse("named", "loss", bounds, POLICY)
    assert (check.name, check.outcome) == ("named", outcome)
    assert check.reason == f"loss is {bounds}, {says}"
    old_rule = at_most("named", "loss", bounds, 0.005)
    assert str(check.evidence) == str(old_rule.evidence)
    allowed = not_worse("named", "loss", bounds, replace(POLICY, allow_worse_within_margin=True))
    assert (allowed.outcome, allowed.reason) == (otherwise, old_rule.reason)


def around(estimate: float) -> Interval:
    return Interval(low=estimate - 0.001, estimate=estimate, high=estimate + 0.001)


@pytest.mark.parametrize(
    ("worse_by", "outcome", "best"),
    [
        ({3: around(0.0005)}, PASS, 3),
        ({3: around(-0.004), 5: around(0.0005), 8: around(-0.02)}, PASS, 5),
        ({3: around(0.002), 5: around(0.0005)}, FAIL, 3),
        ({3: around(0.0005), 5: around(0.0045)}, FAIL, 5),
        ({5: around(0.007), 3: around(0.0005)}, FAIL, 5),
        ({3: Interval(low=-0.002, estimate=0.002, high=0.006), 5: around(0)}, INCONCLUSIVE, 3),
    ],
)
def test_of_the_versions_that_served_recently_the_best_is_named_and_the_same_rule_holds_against_it(
    worse_by: dict[int, Interval], outcome: Outcome, best: int
) -> None:
    check = not_worse_than_recent(worse_by, (), "log loss", POLICY)
    assert (check.name, check.outcome) == ("not_worse_than_recent", outcome)
    assert check.reason.startswith(
        f"log loss minus that of version {best}, the best of {len(worse_by)} that served in the last 90 days, is "
    )
    assert (check.evidence["version"], check.evidence["compared"]) == (best, len(worse_by))
    assert "not compared" not in check.reason


@pytest.mark.parametrize(("worse_by", "outcome"), [({}, PASS), ({3: around(0)}, PASS), ({3: around(0.1)}, FAIL)])
def test_a_version_that_cannot_be_compared_is_named(worse_by: dict[int, Interval], outcome: Outcome) -> None:
    check = not_worse_than_recent(worse_by, ("version 1, which was deleted", "version 2, too"), "log loss", POLICY)
    assert check.outcome is outcome
    assert check.reason.endswith("; not compared: version 1, which was deleted; not compared: version 2, too")
    if not worse_by:
        assert check.reason.startswith("no other version that served in the last 90 days can be compared; ")


def test_versions_that_served_recently_are_compared_between_bounds_that_hold_for_all_at_once() -> None:
    equal = evidence()
    rng = np.random.default_rng(5)
    # Each differs from the candidate at random, without being better or worse.
    versions = {n: np.clip(equal.forecasts + 0.1 * rng.normal(size=12_000), 0.01, 0.99) for n in range(1, 21)}

    def width(compared: int) -> float:
        check = named(replace(equal, recent={n: versions[n] for n in range(1, compared + 1)}))["not_worse_than_recent"]
        return (check.evidence["high"] - check.evidence["low"]) / 2

    alone = named(replace(equal, champion=versions[1]))["not_worse_than_champion"].evidence
    assert width(1) == pytest.approx((alone["high"] - alone["low"]) / 2, rel=0.1)
    assert width(20) > 1.2 * width(1)


def test_what_was_lost_against_the_champions_predecessors_fails_though_nothing_is_lost_against_the_champion() -> None:
    equal = evidence(300)
    blurred = 0.325 + 0.93 * (equal.forecasts - 0.325)
    found = replace(equal, forecasts=blurred, champion=blurred, recent={4: equal.forecasts, 5: blurred})
    checks = named(found)
    assert [name for name, check in checks.items() if check.outcome is not PASS] == ["not_worse_than_recent"]
    assert "version 4, the best of 2 that served in the last 90 days, is 0.00" in checks["not_worse_than_recent"].reason
    assert checks["not_worse_than_recent"].reason.endswith("(worse_within_margin)")


def test_a_forecast_of_a_recent_version_that_is_not_a_number_never_passes() -> None:
    equal = evidence()
    broken = equal.forecasts.copy()
    broken[5] = math.nan
    for recent in ({1: broken, 2: equal.forecasts}, {1: equal.forecasts, 2: broken}):
        assert named(replace(equal, recent=recent))["not_worse_than_recent"].outcome is INCONCLUSIVE


def test_where_no_other_version_served_recently_nothing_is_said_of_one() -> None:
    assert "not_worse_than_recent" not in named(evidence())
    assert named(replace(evidence(), not_compared=("version 1",)))["not_worse_than_recent"].outcome is PASS


def test_what_was_measured_is_told_beside_the_reason() -> None:
    check = Check(name="any", outcome=PASS, reason="fast")
    assert check.in_words == "fast"
    assert replace(check, measured={"latency_ms": 2.5}).in_words == "fast; latency_ms 2.5"


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
    names = ["enough_days", "better_than_baseline", "calibrated", "no_slice_harmed"]
    assert [check.name for check in found.checks] == names


def test_an_equal_of_the_champion_passes() -> None:
    assert judge(evidence(), POLICY).outcome is PASS
    found = named(evidence())
    assert found["not_worse_than_champion"].evidence == {"low": 0, "estimate": 0, "high": 0, "limit": 0.005}
    assert found["calibration_not_worse"].evidence == {"low": 0, "estimate": 0, "high": 0, "limit": 0.02}


def test_a_better_model_is_told_in_words_that_read_well() -> None:
    blurred = 0.325 + 0.5 * (evidence().forecasts - 0.325)
    reason = named(replace(evidence(), champion=blurred))["not_worse_than_champion"].reason
    assert reason.startswith("log loss minus the champion's is -0.0")
    assert reason.endswith("], at most 0.005")


def test_a_clearly_worse_challenger_fails_though_it_beats_the_base_rate() -> None:
    equal = evidence()
    blurred = 0.325 + 0.5 * (equal.forecasts - 0.325)
    found = judge(replace(equal, forecasts=blurred), replace(POLICY, max_calibration_error=1, calibration_margin=1))
    assert found.outcome is FAIL
    assert [check.name for check in found.checks if check.outcome is not PASS] == ["not_worse_than_champion"]


def test_a_slightly_worse_challenger_is_inconclusive_on_few_days_and_fails_on_many() -> None:
    def outcome(days: int) -> Outcome:
        equal = evidence(days)
        blurred = 0.325 + 0.72 * (equal.forecasts - 0.325)
        return named(replace(equal, forecasts=blurred))["not_worse_than_champion"].outcome

    assert (outcome(14), outcome(600)) == (INCONCLUSIVE, FAIL)


def test_a_model_that_knows_nothing_does_not_pass() -> None:
    ignorant = replace(evidence(champion=False), forecasts=np.full(12_000, 0.5))
    assert named(ignorant)["better_than_baseline"].outcome is FAIL
    assert judge(ignorant, POLICY).outcome is FAIL


def test_a_model_that_forecasts_the_base_rate_does_not_pass() -> None:
    constant = evidence(champion=False)
    constant = replace(constant, forecasts=np.full_like(constant.labels, constant.baseline))
    assert named(constant)["better_than_baseline"].outcome is FAIL


@pytest.mark.parametrize(("limit", "outcome"), [(0.3, PASS), (0.1, FAIL)])
def test_a_model_that_cries_wolf_fails_on_calibration_above_its_limit(limit: float, outcome: Outcome) -> None:
    honest = evidence(champion=False)
    loud = replace(honest, forecasts=honest.forecasts + 0.2)
    assert named(loud, replace(POLICY, max_calibration_error=limit))["calibrated"].outcome is outcome


@pytest.mark.parametrize(("margin", "outcome"), [(0.25, PASS), (0.1, FAIL)])
def test_a_calibration_worse_than_the_champions_fails_beyond_its_margin(margin: float, outcome: Outcome) -> None:
    loud = replace(evidence(), forecasts=evidence().forecasts + 0.2)
    found = named(loud, replace(POLICY, max_calibration_error=1, calibration_margin=margin))
    assert found["calibration_not_worse"].outcome is outcome
    numbers = found["calibration_not_worse"].evidence
    assert numbers["low"] <= numbers["estimate"] <= numbers["high"]
    assert numbers["estimate"] == pytest.approx(0.2, abs=0.02)
    # The other way round the champion is the loud one.
    better = named(replace(loud, forecasts=loud.champion, champion=loud.forecasts))["calibration_not_worse"]
    assert better.evidence["estimate"] == pytest.approx(-numbers["estimate"])


@pytest.mark.parametrize(("days", "asked"), [(13, 1), (14, 6)])
def test_too_few_days_ask_nothing_else(days: int, asked: int) -> None:
    assert len(judge(evidence(days), POLICY).checks) == asked


def test_days_are_counted_not_rows() -> None:
    assert judge(evidence(days=13, per_day=10_000), POLICY).outcome is INCONCLUSIVE


def test_a_forecast_that_is_not_a_number_never_passes() -> None:
    broken = evidence()
    broken.forecasts[5] = math.nan
    assert judge(broken, POLICY).outcome is not PASS


def test_another_seed_gives_other_bounds() -> None:
    found = evidence(20)
    assert judge(found, POLICY) != judge(found, replace(POLICY, seed=1))


def test_bounds_lie_around_the_estimate_and_widen_with_confidence() -> None:
    found = evidence(20)
    narrow, wide = (
        named(found, replace(POLICY, confidence=confidence))["better_than_baseline"].evidence
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
        objective=LATE,
        labels=(rng.uniform(size=days * per_day) < luck).astype(float),
        forecasts=np.full(days * per_day, 0.4),
        days=np.repeat(np.arange(days), per_day),
        baseline=0.5,
        champion=None,
    )
    policy = replace(POLICY, draws=100)

    def width(found: Evidence) -> float:
        numbers = named(found, policy)["better_than_baseline"].evidence
        return numbers["high"] - numbers["low"]

    assert width(by_day) > 1.5 * width(replace(by_day, days=np.arange(days * per_day)))


@pytest.mark.parametrize(
    ("setting", "refused", "taken"),
    [
        ("min_holdout_days", 0, 1),
        ("loss_margin", -1e-9, 0.0),
        ("recent_days", -1, 0),
        ("min_gain", 0.0, 1e-9),
        ("loss_margin", float("nan"), 0.005),
        ("calibration_margin", -1e-9, 0.0),
        ("slice_margin", -1e-9, 0.0),
        ("min_slice_days", 0, 1),
        ("min_slice_rows", 0, 1),
        ("max_latency_ms", 0.0, 1e-9),
        ("max_size_mb", 0.0, 1e-9),
        ("max_calibration_error", -1e-9, 0.0),
        ("max_calibration_error", float("nan"), 1.5),  # in units of scale it may be above 1
        ("confidence", 0.5, 0.5 + 1e-9),
        ("confidence", 1.0, 1 - 1e-9),
        ("draws", 0, 1),
    ],
)
def test_a_policy_out_of_range_is_refused(setting: str, refused: float, taken: float) -> None:
    Policy(**{**SETTINGS, setting: taken})
    with pytest.raises(ValidationError, match=rf"\n{setting}\n  Input should be "):
        Policy(**{**SETTINGS, setting: refused})


def sliced(values: list[str], *, blur: dict[str, float], champion: bool = True, days: int = 60) -> Evidence:
    """200 rows a day, their slices in turn; in the named ones the candidate's forecasts are blurred by a share."""
    found = evidence(days, champion=champion)
    names = np.resize(np.array(values), len(found.labels))
    share = np.array([blur.get(name, 0.0) for name in names])
    blurred = found.forecasts + share * (0.325 - found.forecasts)
    return replace(found, forecasts=blurred, slices={"carrier": names})


def test_a_slice_fails_on_shown_harm_though_the_whole_is_within_its_margin() -> None:
    found = judge(sliced([*"ABCDEFGHIJKLMNOPQRST"], blur={"B": 1.0}, days=300), POLICY)
    checks = {check.name: check for check in found.checks}
    assert checks["not_worse_than_champion"].evidence["estimate"] < POLICY.loss_margin
    assert checks["no_slice_harmed"].outcome is found.outcome is FAIL
    assert checks["no_slice_harmed"].reason.startswith(
        "log loss above the champion's by more than 0.02 in carrier B 0."
    )
    assert {one.value: one.outcome for one in found.slices if one.outcome is not SliceOutcome.NOT_SHOWN} == {
        "B": SliceOutcome.HARMED
    }
    assert [(one.rows, one.days) for one in found.slices] == [(3_000, 300)] * 20


def test_harm_in_a_slice_is_measured_against_the_base_rate_where_no_version_serves() -> None:
    assert named(sliced([*"AB"], blur={}, champion=False))["no_slice_harmed"].outcome is PASS
    found = sliced([*"AB"], blur={}, champion=False)
    wrong = np.where(found.slices["carrier"] == "B", 0.9, found.forecasts)
    check = named(replace(found, forecasts=wrong))["no_slice_harmed"]
    assert check.outcome is FAIL
    assert check.reason.startswith("log loss above the base rate's by more than 0.02 in carrier B 0.")


def small_slice(rows_a_day: int, days: int) -> Slice:
    """The slice `small`, every forecast of it plainly wrong, as judged among others on 20 days."""
    found = evidence(20)
    names = np.full(len(found.labels), "large")
    within = np.arange(len(found.labels)) % 200 < rows_a_day
    names[within & (found.days < days)] = "small"
    wrong = np.where(names == "small", np.where(found.labels == 1, 0.01, 0.99), found.forecasts)
    policy = replace(POLICY, min_slice_days=10, min_slice_rows=100)
    decision = judge(replace(found, forecasts=wrong, slices={"carrier": names}), policy)
    (small,) = [one for one in decision.slices if one.value == "small"]
    (check,) = [check for check in decision.checks if check.name == "no_slice_harmed"]
    assert check.outcome is (FAIL if small.outcome is SliceOutcome.HARMED else PASS)
    assert f"{1 + (small.worse_by is not None)} of 2 slices had enough days and rows" in check.reason
    return small


@pytest.mark.parametrize(
    ("rows_a_day", "days", "measured"),
    [(11, 9, False), (10, 10, True), (11, 10, True), (9, 11, False), (5, 20, True), (4, 20, False)],
)
def test_a_slice_of_too_few_days_or_rows_is_not_measured_and_does_not_block(
    rows_a_day: int, days: int, measured: bool
) -> None:
    small = small_slice(rows_a_day, days)
    assert (small.rows, small.days) == (rows_a_day * days, days)
    assert small.outcome is (SliceOutcome.HARMED if measured else SliceOutcome.NOT_MEASURED)
    assert (small.worse_by is not None) == measured


def one_slice(outcome: SliceOutcome) -> Slice:
    interval = None if outcome is SliceOutcome.NOT_MEASURED else Interval(low=0.03, estimate=0.05, high=0.07)
    return Slice(dimension="carrier", value="OO", rows=5, days=3, outcome=outcome, worse_by=interval)


@pytest.mark.parametrize(
    ("outcomes", "answer"),
    [
        ([], PASS),
        ([SliceOutcome.NOT_MEASURED], PASS),
        ([SliceOutcome.NOT_SHOWN], PASS),
        ([SliceOutcome.NOT_SHOWN, SliceOutcome.WORSE], PASS),
        ([SliceOutcome.WORSE, SliceOutcome.HARMED], FAIL),
        ([SliceOutcome.NOT_SHOWN, SliceOutcome.HARMED, SliceOutcome.NOT_MEASURED], FAIL),
    ],
)
def test_slices_pass_or_fail_and_are_never_inconclusive(outcomes: list[SliceOutcome], answer: Outcome) -> None:
    check = no_slice_harmed([one_slice(outcome) for outcome in outcomes], "champion's", POLICY)
    assert check.outcome is answer
    interval = "carrier OO 0.0500 [0.0300, 0.0700]"
    assert (f"champion's by more than 0.02 in {interval}; " in check.reason) == (answer is FAIL)
    worse = f"; above it, but not shown by more than that, in {interval}; "
    assert (worse in check.reason) == (SliceOutcome.WORSE in outcomes)
    assert check.evidence["slices"] == len(outcomes)


@pytest.mark.parametrize(
    ("margin", "outcome"), [(-1e-8, SliceOutcome.WORSE), (0, SliceOutcome.WORSE), (1e-8, SliceOutcome.HARMED)]
)
def test_harm_is_shown_only_when_the_lower_bound_lies_above_the_margin(margin: float, outcome: SliceOutcome) -> None:
    found = sliced([*"AB"], blur={"B": 1.0})
    low = {one.value: one for one in judge(found, POLICY).slices}["B"].worse_by.low
    assert low > 0
    decision = judge(found, replace(POLICY, slice_margin=low - margin))
    assert {one.value: one.outcome for one in decision.slices} == {"A": SliceOutcome.NOT_SHOWN, "B": outcome}


def test_a_forecast_that_is_not_a_number_leaves_its_slice_unmeasured_and_the_others_measured() -> None:
    broken = sliced([*"AB"], blur={"B": 1.0})
    broken.forecasts[0] = math.nan
    outcomes = {one.value: one.outcome for one in judge(broken, POLICY).slices}
    assert outcomes == {"A": SliceOutcome.NOT_MEASURED, "B": SliceOutcome.HARMED}


def test_days_without_rows_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="days must be numbered 0 to n - 1"):
        judge(replace(evidence(), days=2 * evidence().days), POLICY)


MINUTES = Regression(unit="minutes", scale=30.0)


def measured(days: int = 60, per_day: int = 200, *, champion: bool = True) -> Evidence:
    """Delays in minutes, half of whose variance the candidate foresees; the champion forecasts the same."""
    rng = np.random.default_rng(3)
    forecasts = 10 + 21 * rng.normal(size=days * per_day)
    return Evidence(
        objective=MINUTES,
        labels=forecasts + 21 * rng.normal(size=days * per_day),
        forecasts=forecasts,
        days=np.repeat(np.arange(days), per_day),
        baseline=10.0,
        champion=forecasts.copy() if champion else None,
        slices={"carrier": np.resize(np.array(["AA", "UA"]), days * per_day)},
    )


def test_a_regression_that_equals_its_champion_passes_and_reasons_name_its_loss_and_baseline() -> None:
    found = judge(measured(), POLICY)
    assert found.outcome is PASS
    checks = {check.name: check for check in found.checks}
    reasons = {name: check.reason for name, check in checks.items()}
    assert reasons["better_than_baseline"].startswith("squared error minus that of the training period's mean is -0.")
    assert reasons["not_worse_than_champion"].startswith("squared error minus the champion's is 0.0000")
    assert reasons["no_slice_harmed"].startswith(
        "squared error above the champion's by more than 0.02 is shown in none"
    )
    assert "log loss" not in " ".join(reasons.values())
    assert "base rate" not in " ".join(reasons.values())
    # The error is told in units of scale: of a variance of 30 squared, half is foreseen.
    assert checks["better_than_baseline"].evidence["estimate"] == pytest.approx(-0.49, abs=0.03)


def test_a_clearly_worse_regression_fails_though_it_beats_the_mean() -> None:
    equal = measured()
    blurred = 10 + 0.6 * (equal.forecasts - 10)
    found = judge(replace(equal, forecasts=blurred), replace(POLICY, max_calibration_error=1, calibration_margin=1))
    assert found.outcome is FAIL
    failed = {check.name: check.reason for check in found.checks if check.outcome is not PASS}
    assert [*failed] == ["not_worse_than_champion", "no_slice_harmed"]
    assert failed["not_worse_than_champion"].startswith("squared error minus the champion's is 0.0")
    assert failed["no_slice_harmed"].startswith("squared error above the champion's by more than 0.02 in carrier AA 0.")


def test_a_regression_that_forecasts_the_mean_does_not_pass() -> None:
    first = measured(champion=False)
    assert judge(first, POLICY).outcome is PASS
    constant = judge(replace(first, forecasts=np.full_like(first.labels, first.baseline)), POLICY)
    assert {check.name: check.outcome for check in constant.checks} == {
        "enough_days": PASS,
        "better_than_baseline": FAIL,
        "calibrated": PASS,
        "no_slice_harmed": PASS,
    }


@pytest.mark.parametrize(("limit", "outcome"), [(0.3, PASS), (0.1, FAIL)])
def test_a_regression_that_is_always_too_high_fails_on_calibration_above_its_limit(
    limit: float, outcome: Outcome
) -> None:
    first = measured(champion=False)
    high = named(replace(first, forecasts=first.forecasts + 6.0), replace(POLICY, max_calibration_error=limit))
    assert high["calibrated"].outcome is outcome
    assert high["calibrated"].evidence["estimate"] == pytest.approx(6.0 / 30.0, abs=0.02)


def test_a_verdict_does_not_depend_on_the_unit_of_labels_and_scale() -> None:
    minutes = measured(20)
    seconds = replace(
        minutes,
        objective=Regression(unit="seconds", scale=60 * 30.0),
        labels=60 * minutes.labels,
        forecasts=60 * minutes.forecasts,
        champion=60 * minutes.champion,
        baseline=60 * minutes.baseline,
    )
    one, other = named(minutes), named(seconds)
    assert {name: (check.outcome, check.reason) for name, check in one.items()} == {
        name: (check.outcome, check.reason) for name, check in other.items()
    }


def test_a_number_that_is_none_never_passes_a_regression() -> None:
    broken = measured()
    broken.forecasts[5] = math.nan
    assert judge(broken, POLICY).outcome is not PASS
