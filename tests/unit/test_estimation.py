"""How good forecasts will turn out: what is estimated, from what, and where an estimate is blind."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flight_delays.core.estimation import MIN_ROWS, LossByForecast, estimates
from flight_delays.core.objective import BinaryClassification, Objective, Regression
from flight_delays.core.performance import in_order
from flight_delays.use_case import USE_CASE

LATE = BinaryClassification(positive="late", negative="on time")
RENTALS = Regression(unit="rentals", scale=10.0)
FIRST = date(2013, 6, 1)


def outcomes(p: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(p)) < p).astype(np.float64)


def probabilities(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).beta(2, 5, rows)


def test_of_calibrated_probabilities_the_expected_loss_is_their_entropy() -> None:
    """The worked example of https://nannyml.readthedocs.io, "How CBPE works": a row of 0.9 is wrong with 0.1."""
    known = probabilities(200_000)
    expected = LossByForecast(objective=LATE, labels=outcomes(known), forecasts=known).of(np.array([0.9, 0.5]))
    entropies = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.9, 0.5)]
    assert expected == pytest.approx(entropies, abs=0.02)


def test_overconfident_forecasts_are_expected_to_lose_what_they_lost_before() -> None:
    true = probabilities(100_000)
    said = LATE.unlink(2 * LATE.link(true))
    asked, then = said[50_000:], true[50_000:]
    known = LossByForecast(objective=LATE, labels=outcomes(true[:50_000]), forecasts=said[:50_000])
    assert known.of(asked).mean() == pytest.approx(LATE.loss(outcomes(then, 9), asked).mean(), abs=0.01)


def test_another_mix_of_rows_is_seen_and_another_relation_is_not() -> None:
    known = probabilities(100_000)
    before = LossByForecast(objective=LATE, labels=outcomes(known), forecasts=known)
    harder = np.clip(probabilities(50_000, 3) + 0.2, 0, 0.98)
    assert before.of(harder).mean() == pytest.approx(LATE.loss(outcomes(harder, 4), harder).mean(), abs=0.01)
    turned = LATE.loss(outcomes(1 - known, 5), known).mean()
    assert turned - before.of(known).mean() > 0.5  # concept drift: nothing tells it but labels


def test_a_regressions_loss_is_that_of_forecasts_of_the_same_size() -> None:
    random = np.random.default_rng(0)
    forecasts = random.uniform(0, 100, 100_000)
    labels = forecasts + random.standard_normal(100_000) * (1 + forecasts / 10)
    known = LossByForecast(objective=RENTALS, labels=labels, forecasts=forecasts)
    found = known.of(np.array([2.5, 97.5, 1_000.0]))
    assert found == pytest.approx([0.016, 1.16, 1.16], rel=0.15)  # ((1 + forecast / 10) / scale) squared


def test_equal_forecasts_are_one_bin() -> None:
    known = LossByForecast(objective=RENTALS, labels=np.arange(300.0), forecasts=np.full(300, 5.0))
    assert known.of(np.array([5.0, 6.0])) == pytest.approx([RENTALS.loss(known.labels, known.forecasts).mean()] * 2)


def forecasts(days: int, rows: int = 60, known_after: timedelta = timedelta(hours=9), **changes: Any) -> pd.DataFrame:
    """Of each day, made at its noon UTC; labels known some time later."""
    made = []
    for number in range(days):
        noon = pd.Timestamp(FIRST + timedelta(days=number)) + pd.Timedelta(hours=12)
        p = probabilities(rows, number)
        made.append(
            pd.DataFrame(
                {
                    "entity_id": [f"{number}-{each}" for each in range(rows)],
                    "day": FIRST + timedelta(days=number),
                    "forecast_at": noon,
                    "forecast": p,
                    "label": outcomes(p, number),
                    "outcome_known_at": noon + known_after,
                    "label_known_at": noon + known_after,
                }
            )
        )
    return in_order(pd.concat(made, ignore_index=True).assign(**changes))


def estimated(rows: pd.DataFrame, day: int, objective: Objective = LATE, reach: int = 28) -> Any:
    (found,) = estimates(objective, rows, [FIRST + timedelta(days=day)], folds=None, reach=reach, zone=USE_CASE.zone)
    return found


@pytest.mark.parametrize(("day", "days", "known"), [(3, 3, False), (4, 4, True), (20, 20, True), (40, 28, True)])
def test_a_day_is_estimated_from_outcomes_of_the_days_before(day: int, days: int, known: bool) -> None:
    found = estimated(forecasts(50), day)
    assert (found.rows, found.labelled_days, found.estimated_loss is not None) == (60, days, known)
    assert (MIN_ROWS, found.expected_loss) == (200, None)


def test_outcomes_that_were_not_known_by_the_end_of_the_day_do_not_count() -> None:
    """Of the day before New York's midnight, 4 o'clock UTC: known 39 h 59 min after its noon, or 40 h."""
    for hours, days in ((39.99, 20), (40, 20), (40.01, 19)):
        rows = forecasts(30, known_after=timedelta(hours=hours))
        assert estimated(rows, 20).labelled_days == days


def test_a_days_own_outcomes_do_not_count() -> None:
    rows = forecasts(30)
    other = rows.assign(label=np.where(rows["day"] == FIRST + timedelta(days=20), 1 - rows["label"], rows["label"]))
    assert estimated(rows, 20) == estimated(other, 20)


def test_without_outcomes_or_forecasts_nothing_is_estimated() -> None:
    assert estimated(forecasts(30, label=np.nan, label_known_at=pd.NaT), 20).estimated_loss is None
    assert estimated(forecasts(30, label=1.0), 20).estimated_loss is None  # labels that do not differ
    nothing = estimated(forecasts(20), 25)
    assert (nothing.rows, nothing.estimated_loss) == (0, None)


def test_an_entity_counts_once_by_its_newest_forecast() -> None:
    rows = forecasts(30)
    twice = in_order(
        pd.concat([rows, rows.assign(forecast_at=rows["forecast_at"] - pd.Timedelta(hours=1), forecast=0.99)])
    )
    assert estimated(twice, 20) == estimated(rows, 20)


def test_what_is_expected_comes_from_the_folds_of_the_training() -> None:
    known = probabilities(5_000)
    folds = LossByForecast(objective=LATE, labels=outcomes(known), forecasts=known)
    (found,) = estimates(LATE, forecasts(3), [FIRST], folds=folds, reach=28, zone=USE_CASE.zone)
    asked = forecasts(3)["forecast"].to_numpy()[:60]
    assert found.expected_loss == pytest.approx(folds.of(asked).mean())
