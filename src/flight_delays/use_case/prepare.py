"""What a model makes of a request, and of what is looked up for it. This file travels with each version, so that a
version always runs the preparation it was trained with: it imports nothing of this project.
"""  # fmt: skip

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pandas.tseries.holiday import USFederalHolidayCalendar

ZONE = ZoneInfo("America/New_York")
A_MONDAY = np.datetime64("1970-01-05", "D")
CATEGORIES = ("carrier", "origin", "dest")
# What a row of ingest, of the stream and of a request may not be: a reason, of which columns, and which rows it is.
RULES = (
    (
        "sched_arr_time is not a time of day",
        ("sched_arr_time",),
        lambda clock: (clock < 0) | (clock > 2400) | (clock % 100 >= 60),
    ),
    ("distance is not positive", ("distance",), lambda distance: distance <= 0),
)

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Of one length: text as objects, times as datetime64 in UTC, the rest as numbers, unknown ones NaN."""


def learn(columns: Columns) -> dict[str, list[str]]:
    """The values of each categorical column, sorted: the codes that training and scoring share."""
    return {name: sorted({value for value in columns[name].tolist() if value is not None}) for name in CATEGORIES}


def prepare(columns: Columns, levels: Mapping[str, list[str]]) -> dict[str, npt.NDArray[np.float64]]:
    """Request and looked-up columns to the columns that the booster takes, in its order.

    `sched_arr_time` is local hhmm. A category not seen in training becomes NaN, which the booster treats as unknown.
    """
    local = local_time(columns["sched_dep_ts"])
    day = local.astype("datetime64[D]")
    departure = np.floor((local - day) / np.timedelta64(1, "m"))
    arrival = columns["sched_arr_time"] // 100 * 60 + columns["sched_arr_time"] % 100
    turn = 2 * np.pi * departure / 1440
    looked_up = {name: values for name, values in columns.items() if name not in _REQUEST}
    built = looked_up.pop("plane_year_built")
    return {
        **{column: _codes(columns[column], values) for column, values in levels.items()},
        "distance": np.asarray(columns["distance"], dtype="float64"),
        # A day's clock has no end: 23:59 is near 00:00.
        "hour_sin": np.sin(turn),
        "hour_cos": np.cos(turn),
        "departure_minute": departure,
        "weekday": (day - A_MONDAY) / np.timedelta64(1, "D") % 7,
        "days_from_holiday": days_from_holiday(day),
        # On the clocks of both ends: the time zone between them goes with the destination.
        "scheduled_minutes": np.asarray((arrival - departure) % 1440, dtype="float64"),
        **looked_up,
        "plane_age": (day.astype("datetime64[Y]") - np.datetime64(0, "Y")) / np.timedelta64(1, "Y") + 1970 - built,
    }


_REQUEST = {"carrier", "flight", "origin", "dest", "distance", "sched_dep_ts", "sched_arr_time"}


def entity_ids(columns: Columns) -> list[str]:
    """carrier-flight-origin-dest-scheduled departure in UTC."""
    departures = np.datetime_as_string(columns["sched_dep_ts"].astype("datetime64[m]")).tolist()
    parts = (columns[name].tolist() for name in ("carrier", "flight", "origin", "dest"))
    return [
        f"{carrier}-{flight}-{origin}-{dest}-{departure.replace('-', '').replace(':', '')}Z"
        for carrier, flight, origin, dest, departure in zip(*parts, departures, strict=True)
    ]


def _codes(values: npt.NDArray[Any], known: list[str]) -> npt.NDArray[np.float64]:
    codes = {value: code for code, value in enumerate(known)}
    return np.array([codes.get(value, np.nan) for value in values.tolist()], dtype="float64")


def local_time(utc: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """On the clocks of ZONE, which change at a full hour. Much faster on one row than pandas, and as fast on many."""
    hours, of_row = np.unique(utc.astype("datetime64[h]"), return_inverse=True)
    offsets = [
        None if hour is None else hour.replace(tzinfo=UTC).astimezone(ZONE).utcoffset() for hour in hours.tolist()
    ]
    local: npt.NDArray[np.datetime64] = utc + np.array(offsets, dtype="timedelta64[us]")[of_row]
    return local


def days_from_holiday(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
    """Days since the nearest federal holiday of the United States, negative before it; in a tie the coming one."""
    known = days[~np.isnat(days)]
    if not len(known):
        return np.full(len(days), np.nan)
    years = known.astype("datetime64[Y]").astype(int) + 1970
    holidays = _holidays(int(years.min()) - 1, int(years.max()) + 1)
    following = np.searchsorted(holidays[:-1], days)  # no time is sorted to the end
    ahead, since = (np.abs(holidays[at] - days) / np.timedelta64(1, "D") for at in (following, following - 1))
    return np.where(ahead <= since, -ahead, since)


@cache
def _holidays(first_year: int, last_year: int) -> npt.NDArray[np.datetime64]:
    days = USFederalHolidayCalendar().holidays(datetime(first_year, 1, 1), datetime(last_year, 12, 31))  # noqa: DTZ001
    return np.asarray(days, dtype="datetime64[D]")
