"""Groups of flights that are looked at one by one."""

import numpy as np
import pandas as pd
import pytest

from flight_delays.use_case.slices import slices, time_of_day


@pytest.mark.parametrize(
    ("hour", "name"),
    [
        *((0, "night"), (5, "night"), (6, "morning"), (10, "morning"), (11, "midday"), (14, "midday")),
        *((15, "afternoon"), (18, "afternoon"), (19, "evening"), (23, "evening")),
    ],
)
def test_each_hour_is_in_one_part_of_the_day(hour: int, name: str) -> None:
    assert list(time_of_day(np.array([hour]))) == [name]


def test_the_time_of_day_is_that_of_new_york_in_winter_and_in_summer() -> None:
    departures = pd.to_datetime(["2013-01-10 10:59", "2013-01-10 11:00", "2013-07-10 09:59", "2013-07-10 10:00"])
    rows = pd.DataFrame({"carrier": "UA", "origin": ["EWR", "JFK", "LGA", "JFK"], "sched_dep_ts": departures})
    found = slices(rows)
    assert list(found["time of day"]) == ["night", "morning", "night", "morning"]
    assert list(found["origin"]) == ["EWR", "JFK", "LGA", "JFK"]
    assert list(found["carrier"]) == ["UA"] * 4
