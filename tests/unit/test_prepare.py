"""What a model makes of a request: columns on the clocks of New York, codes, ages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flight_delays.core.training import columns_of
from flight_delays.use_case import USE_CASE, prepare

LEVELS = {"carrier": ["AA", "UA"], "origin": ["EWR", "JFK"], "dest": ["LAX", "ORD"]}


def request(**changes: object) -> dict[str, object]:
    """One request at noon in New York, in winter."""
    flight = {"carrier": "UA", "flight": 7, "origin": "EWR", "dest": "ORD", "distance": 719, "sched_arr_time": 1345}
    return {**flight, "sched_dep_ts": "2013-01-15 17:00", **changes}


def columns(*requests: Mapping[str, object]) -> dict[str, npt.NDArray[Any]]:
    """The requests, with what was not looked up as unknown."""
    frame = pd.DataFrame(requests)
    return columns_of(USE_CASE, frame.assign(sched_dep_ts=pd.to_datetime(frame["sched_dep_ts"])))


def prepared(**changes: object) -> dict[str, float]:
    return {name: values[0] for name, values in prepare.prepare(columns(request(**changes)), LEVELS).items()}


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


def test_what_is_unknown_of_the_looked_up_columns_stays_unknown() -> None:
    found = prepared(weather_temp=41.5)
    assert found.pop("weather_temp") == 41.5
    looked_up = {name for name in USE_CASE.looked_up if name not in ("weather_temp", "plane_year_built")}
    assert {name for name, value in found.items() if np.isnan(value)} == looked_up | {"plane_age"}


def test_the_booster_gets_one_row_of_numbers_per_row_in_the_same_order() -> None:
    given = columns(request(), request(distance=1), request(carrier=None))
    before = {name: values.copy() for name, values in given.items()}
    found = prepare.prepare(given, LEVELS)
    assert found["distance"].tolist() == [719, 1, 719]
    assert {(values.dtype, len(values)) for values in found.values()} == {(np.dtype("float64"), 3)}
    assert list(given) == list(before)
    for name, values in before.items():
        np.testing.assert_array_equal(given[name], values)
    none = prepare.prepare({name: values[:0] for name, values in given.items()}, LEVELS)
    assert list(none) == list(found)
    assert {len(values) for values in none.values()} == {0}


def test_levels_are_the_sorted_values_of_each_category_without_missing_ones() -> None:
    seen = columns(request(carrier="UA"), request(carrier=None), request(carrier="AA"), request(carrier="UA"))
    assert prepare.learn(seen) == {"carrier": ["AA", "UA"], "origin": ["EWR"], "dest": ["ORD"]}


@pytest.mark.parametrize(
    ("utc", "minute"),
    [("2013-01-15 17:00", "1700"), ("2013-01-15 17:00:59.999999", "1700"), ("2013-01-15 04:05", "0405")],
)
def test_a_flight_is_named_by_its_schedule_to_the_minute_in_utc(utc: str, minute: str) -> None:
    given = columns(request(sched_dep_ts=utc), request(carrier="AA", flight=-1, dest="", sched_dep_ts=utc))
    assert prepare.entity_ids(given) == [f"UA-7-EWR-ORD-20130115T{minute}Z", f"AA--1-EWR--20130115T{minute}Z"]


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        *(({"sched_arr_time": clock}, []) for clock in (0, 59, 2359, 2400)),
        *(({"sched_arr_time": clock}, ["sched_arr_time is not a time of day"]) for clock in (-1, 60, 1460, 2401)),
        ({"distance": 1}, []),
        *(({"distance": miles}, ["distance is not positive"]) for miles in (0, -1)),
    ],
    ids=str,
)
def test_a_request_breaks_a_rule_or_none(changes: dict[str, object], broken: list[str]) -> None:
    given = columns(request(**changes))
    told = [reason for reason, names, breaks in prepare.RULES if breaks(*(given[name] for name in names))[0]]
    assert told == broken
