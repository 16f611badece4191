"""How the model is fitted, and how a model made before is recognised."""

from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest

from flight_delays.core.errors import UserError
from flight_delays.tasks.train import _fingerprint
from flight_delays.use_case.training import SELECTION_DAYS, fit


def first_days(flights: pd.DataFrame, days: int) -> pd.DataFrame:
    return flights[flights["flight_date"] < date(2013, 1, 1) + timedelta(days=days)]


@pytest.fixture(scope="module")
def many(flights: pd.DataFrame) -> pd.DataFrame:
    """Enough for the smallest leaf allowed."""
    return pd.concat([flights] * 3, ignore_index=True)


def test_the_same_rows_give_the_same_booster_to_the_letter(many: pd.DataFrame) -> None:
    one, two = fit(many), fit(many.copy())
    assert one.booster.model_to_string() == two.booster.model_to_string()
    assert replace(one, booster=None) == replace(two, booster=None)


def test_the_booster_has_the_chosen_number_of_rounds_and_learnt_from_visibility(many: pd.DataFrame) -> None:
    fitted = fit(many)
    assert fitted.booster.num_trees() == fitted.rounds > 1
    gains = dict(zip(fitted.booster.feature_name(), fitted.booster.feature_importance("gain"), strict=True))
    assert max(gains, key=gains.get) == "weather_visib"


@pytest.mark.parametrize("days", [1, SELECTION_DAYS])
def test_as_few_days_as_choose_the_rounds_are_too_few(flights: pd.DataFrame, days: int) -> None:
    with pytest.raises(UserError, match=rf"too little to learn from: {20 * days} .* lower holdout_days or move as_of"):
        fit(first_days(flights, days))


def test_one_day_more_is_enough(flights: pd.DataFrame) -> None:
    assert fit(first_days(flights, SELECTION_DAYS + 1)).rounds >= 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_only_punctual_flights_on_either_side_are_too_little(flights: pd.DataFrame, side: str) -> None:
    choosing = flights["flight_date"] > flights["flight_date"].max() - timedelta(days=SELECTION_DAYS)
    punctual = choosing if side == "after" else ~choosing
    with pytest.raises(UserError, match="both late and punctual"):
        fit(flights.assign(is_late=flights["is_late"].mask(punctual, 0)))


def test_a_fingerprint_tells_other_rows_and_another_split_apart(flights: pd.DataFrame) -> None:
    split = date(2013, 2, 1)
    same = _fingerprint(flights, split)
    assert _fingerprint(flights.copy(), split) == same
    assert _fingerprint(flights, date(2013, 2, 2)) != same
    assert _fingerprint(flights.iloc[1:], split) != same
    assert _fingerprint(flights.assign(is_late=1 - flights["is_late"]), split) != same
