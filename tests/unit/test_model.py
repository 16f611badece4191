"""The registered model: its preparation, its threshold, its contract."""

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from flight_delays.platform.registry import Training
from flight_delays.use_case import model

LEVELS = {"carrier": ["AA", "UA"], "origin": ["EWR", "JFK"], "dest": ["LAX", "ORD"]}


def request(**changes: object) -> dict[str, object]:
    """One request at noon in New York, in winter."""
    flight = {"carrier": "UA", "flight": 7, "origin": "EWR", "dest": "ORD", "distance": 719, "sched_arr_time": 1345}
    return {**flight, "sched_dep_ts": "2013-01-15 17:00", **changes}


def rows(*requests: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(requests)
    return frame.assign(sched_dep_ts=pd.to_datetime(frame["sched_dep_ts"]))


def prepared(**changes: object) -> dict[str, float]:
    return model.prepare(rows(request(**changes)), LEVELS).iloc[0].to_dict()


@pytest.mark.parametrize(
    ("utc", "minute", "weekday"),
    [
        ("2013-01-15 17:00", 720, 1),  # winter: five hours behind
        ("2013-07-15 17:00", 780, 0),  # summer: four
        ("2013-03-10 06:59", 119, 6),  # the last minute of winter time
        ("2013-03-10 07:00", 180, 6),  # the first of summer time
        ("2013-11-03 05:30", 90, 6),  # half past one, for the first time
        ("2013-11-03 06:30", 90, 6),  # and for the second
        ("2013-01-15 04:59", 1439, 0),  # still Monday in New York
        ("2013-01-15 05:00", 0, 1),
    ],
)
def test_departure_is_told_in_new_york_time(utc: str, minute: float, weekday: float) -> None:
    found = prepared(sched_dep_ts=utc)
    assert (found["departure_minute"], found["weekday"]) == (minute, weekday)


@pytest.mark.parametrize(
    ("utc", "sine", "cosine"),
    [
        ("2013-01-15 05:00", 0, 1),  # midnight
        ("2013-01-15 11:00", 1, 0),  # six
        ("2013-01-15 17:00", 0, -1),  # noon in winter
        ("2013-07-15 16:00", 0, -1),  # and in summer
        ("2013-01-15 23:00", -1, 0),
    ],
)
def test_the_hour_is_a_point_on_a_circle(utc: str, sine: float, cosine: float) -> None:
    found = prepared(sched_dep_ts=utc)
    assert (found["hour_sin"], found["hour_cos"]) == pytest.approx((sine, cosine), abs=1e-12)


@pytest.mark.parametrize(
    ("utc", "days"),
    [
        ("2013-07-03 12:00", -1),
        ("2013-07-04 12:00", 0),
        ("2013-07-05 12:00", 1),
        ("2013-07-05 03:59", 0),  # still the fourth in New York
        ("2013-11-11 12:00", 0),  # Veterans Day
        ("2013-11-19 12:00", 8),
        ("2013-11-20 12:00", -8),  # as far from Thanksgiving: the coming one counts
        ("2012-12-31 12:00", -1),
        ("2013-12-31 12:00", -1),  # the nearest lies in the next year
        ("2014-01-02 12:00", 1),
    ],
)
def test_days_are_counted_from_the_nearest_holiday(utc: str, days: float) -> None:
    assert prepared(sched_dep_ts=utc)["days_from_holiday"] == days


@pytest.mark.parametrize(
    ("utc", "arrival", "minutes"),
    [
        ("2013-01-15 17:00", 1345, 105),
        ("2013-01-15 17:00", 1200, 0),
        ("2013-01-15 17:00", 1159, 1439),
        ("2013-01-16 04:30", 15, 45),  # lands after midnight
        ("2013-01-16 04:30", 2400, 30),  # midnight written as 24:00
    ],
)
def test_scheduled_minutes_run_over_midnight(utc: str, arrival: int, minutes: float) -> None:
    assert prepared(sched_dep_ts=utc, sched_arr_time=arrival)["scheduled_minutes"] == minutes


@pytest.mark.parametrize(
    ("carrier", "code"), [("AA", 0), ("UA", 1), ("unseen", np.nan), ("aa", np.nan), (None, np.nan)]
)
def test_a_category_becomes_its_code_and_an_unseen_or_missing_one_unknown(carrier: str | None, code: float) -> None:
    assert prepared(carrier=carrier)["carrier"] == pytest.approx(code, nan_ok=True)


@pytest.mark.parametrize(
    ("utc", "built", "age"),
    [
        ("2013-01-15 17:00", 2003.0, 10),
        ("2013-01-01 04:00", 2003.0, 9),  # still 2012 in New York
        ("2013-01-15 17:00", None, np.nan),
    ],
)
def test_the_age_of_the_plane_is_in_years_of_new_york(utc: str, built: float | None, age: float) -> None:
    found = prepared(sched_dep_ts=utc, plane_year_built=built)
    assert found["plane_age"] == pytest.approx(age, nan_ok=True)
    assert "plane_year_built" not in found


def test_looked_up_columns_may_be_missing_and_are_then_unknown() -> None:
    found = prepared(weather_temp=41.5)
    assert found.pop("weather_temp") == 41.5
    looked_up = {name for name in model.LOOKED_UP if name not in ("weather_temp", "plane_year_built")}
    assert {name for name, value in found.items() if np.isnan(value)} == looked_up | {"plane_age"}


def test_the_booster_gets_one_row_of_numbers_per_row_in_the_same_order() -> None:
    given = rows(request(), request(distance=1), request(carrier=None)).set_axis([7, 3, 7])
    before = given.copy()
    found = model.prepare(given, LEVELS)
    assert found.index.tolist() == [7, 3, 7]
    assert found["distance"].tolist() == [719, 1, 719]
    assert set(found.dtypes) == {np.dtype("float64")}
    pd.testing.assert_frame_equal(given, before)
    assert model.prepare(given.iloc[:0], LEVELS).columns.tolist() == found.columns.tolist()


def test_levels_are_the_sorted_values_of_each_category_without_missing_ones() -> None:
    seen = rows(request(carrier="UA"), request(carrier=None), request(carrier="AA"), request(carrier="UA"))
    assert model.levels(seen) == {"carrier": ["AA", "UA"], "origin": ["EWR"], "dest": ["ORD"]}


@pytest.mark.parametrize(("probability", "prediction"), [(0.499999, 0), (0.5, 1), (0.500001, 1), (0.0, 0), (1.0, 1)])
def test_a_flight_is_called_late_from_the_threshold_on(probability: float, prediction: int) -> None:
    delay = model.DelayModel()
    delay.levels, delay.calibration = LEVELS, {"slope": 1.0, "intercept": 0.0}
    delay.booster = SimpleNamespace(predict=lambda matrix, **_: [probability] * len(matrix))
    found = delay.predict(None, rows(request(), request()).set_axis([4, 2]))
    expected = pd.DataFrame({"probability": probability, "prediction": prediction}, index=[4, 2])
    pd.testing.assert_frame_equal(found, expected)


def test_a_real_booster_answers_as_before_it_was_saved(
    training: Callable[..., Training], flights: pd.DataFrame
) -> None:
    delay = model.DelayModel()
    artifacts = {name: str(path) for name, path in training().artifacts.items()}
    delay.load_context(SimpleNamespace(artifacts=artifacts))
    found = delay.predict(None, flights)
    assert found["probability"].between(0, 1).all()
    assert ((found["probability"] >= model.THRESHOLD) == (found["prediction"] == 1)).all()
    late = found["probability"][flights["weather_visib"] < 3].mean()
    assert late > found["probability"][flights["weather_visib"] > 3].mean() + 0.4


def test_the_contract_asks_for_the_request_and_takes_what_is_looked_up() -> None:
    required = [column.name for column in model.INPUTS.inputs if column.required]
    optional = [column.name for column in model.INPUTS.inputs if not column.required]
    assert required == ["carrier", "flight", "origin", "dest", "distance", "sched_dep_ts", "sched_arr_time"]
    assert optional == list(model.LOOKED_UP)
    assert model.OUTPUTS.input_names() == ["probability", "prediction"]


def test_the_stored_code_of_a_version_imports_nothing_of_this_project() -> None:
    """Else a version would change its preparation with the installed package."""
    tree = ast.parse(Path(model.__file__).read_text())
    imported = [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert "lightgbm" in imported
    assert [name for name in imported if name.startswith((".", "flight_delays"))] == []
