"""The policy tried on a team's own history, in small."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from bench.gate import defaults
from rich.console import Console
from tests.bike_tables import raw_tables
from tests.bikes import USE_CASE
from tests.contexts import make_context

from flight_delays.core.backtest import History, backtest
from flight_delays.core.drawn import Ended, ab_differences, first_shown, within
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Evidence
from flight_delays.core.objective import Regression
from flight_delays.core.policy_study import (
    GateRates,
    Passed,
    RolloutRates,
    Spread,
    gate_rates,
    loosened,
    recommended,
    spread_of,
    try_ab_test,
    try_gate,
    try_rollout,
    with_margin,
)
from flight_delays.core.settings import PolicyStudy
from flight_delays.tasks.policy_study import run, studied
from flight_delays.tasks.try_out import labelled_now
from flight_delays.views.policy_study import conclusions, page, picture

SETTINGS = defaults(PolicyStudy, experiment="/study", replicates=3)
GATE = replace(SETTINGS.gate, draws=200, max_calibration_error=1.0, calibration_margin=1.0)
ROLLOUT = SETTINGS.rollout
DAYS, PER_DAY = 80, 100
DEGREES = Regression(unit="degrees", scale=1.0)


def history(spread: float = 0.05) -> History:
    """Made-up days: two forecasts with errors of their own each day, and one that knows nothing."""
    rng = np.random.default_rng(3)
    labels = rng.normal(size=DAYS * PER_DAY)
    noise = 0.3 * rng.normal(size=len(labels))
    own, other = (np.repeat(rng.normal(scale=spread, size=DAYS), PER_DAY) for _ in range(2))
    evidence = Evidence(
        objective=DEGREES,
        labels=labels,
        forecasts=labels + noise + own,
        days=np.repeat(np.arange(DAYS), PER_DAY),
        baseline=0.0,
        champion=None,
    )
    return History(evidence=evidence, challengers={"other": labels + noise + other}, weak=np.zeros(len(labels)))


def loss(found: History, forecasts: np.ndarray) -> float:
    return float(DEGREES.loss(found.evidence.labels, forecasts).mean())


@pytest.mark.parametrize("apart", [-0.02, 0.0, 0.02])
def test_a_challenger_is_set_apart_from_the_champion_by_exactly_the_amount(apart: float) -> None:
    found = history()
    challenger, champion = found.apart("other", apart)
    assert loss(found, challenger) - loss(found, champion) == pytest.approx(apart, abs=1e-9)


def test_models_can_be_set_apart_by_as_much_as_the_weak_one_is_worse_and_no_more() -> None:
    found = history()
    assert found.room == pytest.approx(
        loss(found, found.weak) - max(loss(found, found.challengers["other"]), loss(found, found.evidence.forecasts))
    )
    found.apart("other", found.room)
    with pytest.raises(ValueError, match="too good"):
        found.apart("other", found.room + 0.02)


def test_a_worse_model_passes_the_gate_less_often_than_an_equal_one_and_that_less_often_than_a_better_one() -> None:
    (few, many) = try_gate(history(), "other", replace(GATE, loss_margin=0.01), (15, 60), 20)
    assert (few.days, many.days) == (15, 60)
    for one in (few, many):
        assert one.worse <= one.equal <= one.better
    assert many.worse < 0.2
    assert many.better > 0.8
    assert set(many.stopped) == set(many.bounds) >= {"not_worse_than_champion", "calibrated"}
    assert many.stopped["not_worse_than_champion"] == pytest.approx(1 - many.equal, abs=0.21)


def test_a_rollout_goes_on_until_the_policys_limit_and_shorter_limits_follow_from_it() -> None:
    policy = replace(ROLLOUT, max_loss_increase=0.01, quality_limit_days=60)
    found = try_rollout(history(), "other", policy, timedelta(days=1), 10)
    assert found.margin == 0.01
    assert found.worse.rolled_back.mean() > 0.5
    assert not found.better.rolled_back.any()
    assert within(found.equal, 60).promoted.tolist() == found.equal.promoted.tolist()
    assert not within(found.equal, 20).promoted.any()  # quality_min_days


def test_an_ab_test_finds_a_version_that_is_much_worse_and_seldom_two_that_are_the_same() -> None:
    found = try_ab_test(history(), replace(ROLLOUT, max_loss_increase=0.05, ab_test_days=40), 40)
    assert found.worse == pytest.approx(0.1)
    assert found.found > 0.9
    assert found.wrong <= 0.1


def test_a_day_on_which_one_version_answers_nothing_gives_no_difference() -> None:
    values = ab_differences(history(), *history().apart("other", 0.0), [np.array([0, 1])], 0, np.random.default_rng(1))
    assert np.isnan(values).all()
    assert first_shown(values, 0.95) == (np.inf, np.inf)


def test_within_a_limit_is_what_ended_on_its_day_or_before() -> None:
    yes, days = np.array([True, True, True]), np.array([29.0, 30.0, 31.0])
    found = within(Ended(promoted=yes, rolled_back=~yes, days=days, exposed=days, rows=days), 30)
    assert found.promoted.tolist() == [True, True, False]
    assert found.days.tolist() == [29, 30, 30]


def passed(name: str, margin: float, days: int, equal: float, worse: float, bound: float = 0.01) -> Passed:
    return Passed(
        challenger=name,
        margin=margin,
        days=days,
        equal=equal,
        worse=worse,
        better=1.0,
        stopped={"calibrated": 0.0},
        bounds={"calibrated": bound},
    )


@pytest.mark.parametrize(
    ("rates", "taken"),
    [
        ([(0.01, 60, 0.5, 0.05)], (0.01, 60)),
        ([(0.01, 60, 0.49, 0.0)], None),
        ([(0.01, 60, 1.0, 0.051)], None),
        ([(0.02, 30, 1.0, 0.0), (0.01, 90, 1.0, 0.0), (0.01, 60, 1.0, 0.0)], (0.01, 60)),
        ([], None),
    ],
    ids=["at both limits", "too few equal ones", "too many worse ones", "smallest margin, then fewest days", "none"],
)
def test_the_smallest_margin_that_holds_is_recommended(
    rates: list[tuple[float, int, float, float]], taken: tuple[float, int] | None
) -> None:
    found = recommended(gate_rates(passed("one", *rate) for rate in rates))
    assert (found and (found.margin, found.days)) == taken


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({}, True),
        ({"equal_rolled_back": 0.051}, False),
        ({"worse_promoted": 0.011}, False),
        ({"equal_promoted": 0.49}, False),
    ],
)
def test_a_margin_of_rollouts_holds_at_its_limits_and_not_beyond_one(changed: dict[str, float], holds: bool) -> None:
    at_limits = dict.fromkeys(RolloutRates.__dataclass_fields__, 0.0) | {
        "equal_rolled_back": 0.05,
        "worse_promoted": 0.01,
        "equal_promoted": 0.5,
    }
    assert RolloutRates(**at_limits | changed).holds is holds


def test_rates_are_means_over_challengers_beside_the_worst_of_them() -> None:
    (found,) = gate_rates([passed("one", 0.01, 60, 0.8, 0.0), passed("two", 0.01, 60, 0.6, 0.1)])
    assert found == GateRates(margin=0.01, days=60, equal=0.7, worse=0.05, better=1.0, most_worse=0.1, fewest_equal=0.6)


@pytest.mark.parametrize(
    ("bound", "limit"), [(0.04, 0.05), (0.05, 0.05), (0.0701, 0.071), (0.07, 0.07), (0.1234, 0.13)]
)
def test_a_limit_that_equal_models_do_not_keep_is_raised_and_none_is_lowered(bound: float, limit: float) -> None:
    gate = replace(GATE, max_calibration_error=0.05)
    raised = loosened(gate, [passed("one", 0.01, 60, 0.0, 0.0, bound), passed("two", 0.01, 60, 0.0, 0.0)])
    assert raised == replace(gate, max_calibration_error=limit)


def test_calibration_may_increase_so_much_that_it_is_known_as_soon_as_loss() -> None:
    spread = {"one": Spread(loss=0.02, calibration=0.06), "two": Spread(loss=0.02, calibration=0.1)}
    assert with_margin(ROLLOUT, 0.04, spread) == replace(ROLLOUT, max_loss_increase=0.04, max_calibration_increase=0.16)
    assert with_margin(ROLLOUT, 0.001, spread).max_calibration_increase == ROLLOUT.max_calibration_increase


def test_the_spread_is_that_of_daily_differences() -> None:
    found = history()
    losses = [DEGREES.loss(found.evidence.labels, one) for one in found.apart("other", 0.0)]
    by_day = (losses[0] - losses[1]).reshape(DAYS, PER_DAY).mean(axis=1)
    assert spread_of(found)["other"].loss == pytest.approx(by_day.std(ddof=1))


@pytest.fixture(scope="module")
def bikes() -> pd.DataFrame:
    """130 days: enough, and quickly fitted."""
    rows = labelled_now(USE_CASE, raw_tables().__getitem__, datetime(2012, 1, 1, tzinfo=UTC))
    return rows[rows["day"] < np.unique(rows["day"])[130]]


def test_models_of_the_first_half_forecast_the_second(bikes: pd.DataFrame) -> None:
    told = list[str]()
    found = backtest(USE_CASE, bikes, on_model=told.append)
    later = bikes[bikes["day"] >= np.unique(bikes["day"])[bikes["day"].nunique() // 2]]
    assert found.evidence.labels.tolist() == later["label"].tolist()
    assert found.days == later["day"].nunique()
    assert len(found.challengers) == 4
    assert {*found.challengers} < {*told}
    assert found.room > 0
    for forecasts in found.challengers.values():
        assert not np.array_equal(forecasts, found.evidence.forecasts)


def test_a_history_of_too_few_days_is_refused(bikes: pd.DataFrame) -> None:
    few = bikes[bikes["day"] < np.unique(bikes["day"])[119]]
    with pytest.raises(UserError, match="119 days with labels are too few to try a policy on; 120 are needed"):
        backtest(USE_CASE, few)


def test_a_margin_beyond_this_history_is_refused_before_anything_is_tried() -> None:
    settings = replace(SETTINGS, gate=replace(GATE, loss_margin=100.0))
    with pytest.raises(UserError, match=r"loss_margin 100 can't be tried: models of this history can be set apart by"):
        studied(USE_CASE, history(), settings, Console(quiet=True))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (replace(SETTINGS, gate=replace(GATE, loss_margin=0.0)), "loss_margin"),
        (replace(SETTINGS, rollout=replace(SETTINGS.rollout, max_loss_increase=0.0)), "max_loss_increase"),
    ],
)
def test_a_margin_of_0_is_refused_before_anything_is_read(settings: PolicyStudy, name: str) -> None:
    with pytest.raises(UserError, match=f"^{name} 0 can't be tried; set it above 0$"):
        run(make_context(as_of=datetime(2011, 4, 20, tzinfo=UTC)), settings)


def test_a_study_says_what_the_policy_does_what_to_set_instead_and_what_it_costs() -> None:
    settings = replace(
        SETTINGS,
        holdout_days=60,
        gate=replace(GATE, loss_margin=0.02),
        rollout=replace(ROLLOUT, max_loss_increase=0.02, max_calibration_increase=1.0),
    )
    study = studied(USE_CASE, history(), settings, Console(quiet=True))
    gate, recommended_gate, rollouts, recommended_rollouts, exposed, tests = conclusions(USE_CASE, study, settings)
    assert gate.startswith(
        "The gate as it is (`loss_margin` 0.02, 60 days): of models whose squared error is 2 margins"
    )
    assert recommended_gate.startswith("Recommended for the gate: `loss_margin` 0.01 and `holdout_days` ")
    assert rollouts.startswith("Rollouts by `max_loss_increase` 0.02 and `quality_limit_days` 60, as it is: an equal")
    assert recommended_rollouts.startswith("Recommended for rollouts: `max_loss_increase` ")
    assert exposed.startswith("A worse version answers, until its rollout ends, with `quality_needed_for` ")
    assert tests.startswith("A/B tests as they are (`ab_test_share` 20, `ab_test_days` 28): ")
    text = page(USE_CASE, study, settings)
    assert all(f"- {line}\n" in text for line in conclusions(USE_CASE, study, settings))
    assert text.count("| as it is") == 2
    assert text.count("recommended |") == 2
    assert len(picture(study, settings).axes) == 4


def test_a_study_names_a_limit_that_keeps_equal_models_from_passing() -> None:
    gate = replace(GATE, loss_margin=0.02, max_calibration_error=0.05)
    settings = replace(SETTINGS, gate=gate, rollout=replace(ROLLOUT, max_loss_increase=0.02))
    study = studied(USE_CASE, history(), settings, Console(quiet=True))
    _, named, recommended_gate, *_ = conclusions(USE_CASE, study, settings)
    assert named.startswith("Check `calibrated` keeps 100.0 % of equal ones from passing, whatever their loss. With")
    assert recommended_gate.startswith("Recommended for the gate: ")
