"""What was known six hours before an hour began."""

from datetime import timedelta

import numpy as np
import pyarrow as pa

from flight_delays.core.as_of import Facts, Newest, Question, Sums, Table
from flight_delays.core.columns import UTC_TIME, Columns
from flight_delays.core.use_case import Spine

READINGS = ("severity", "temp", "hum", "windspeed")

SPINE = Spine(
    table="raw_hours",
    entity_id="hour_id",
    prediction_ts="known_at",
    day="day",
    request=pa.schema({"begins_at": UTC_TIME, "holiday": pa.int64(), "workingday": pa.int64()}),
    also=pa.schema({"city": pa.string(), "hour_of_day": pa.int64(), "hour_of_week": pa.int64()}),
)


def derive(hours: Columns) -> Columns:
    """Whole numbers to be added up; none as 0."""
    return {"rented": np.nan_to_num(hours["bikers"]).astype("int64")}


HOURS = Table(
    name="raw_hours",
    columns=("city", "hour_of_day", "hour_of_week", "known_at", "bikers", "counted_at"),
    times=("known_at", "counted_at"),
    derive=derive,
)
CONDITIONS = Table(
    name="raw_conditions", columns=("city", "begins_at", "known_at", *READINGS), times=("begins_at", "known_at")
)
COUNTED = Facts(table=HOURS, event_time="counted_at", known_time="counted_at")
REPORTS = Facts(table=CONDITIONS, event_time="begins_at", known_time="known_at")

QUESTIONS: tuple[Question, ...] = (
    Newest(facts=REPORTS, by=("city",), values={name: name for name in READINGS}, tolerance=timedelta(hours=6)),
    Newest(facts=COUNTED, by=("city",), values={"last_hour": "bikers"}, tolerance=timedelta(hours=6)),
    Newest(facts=COUNTED, by=("hour_of_day",), values={"same_hour": "bikers"}, tolerance=timedelta(days=3)),
    Newest(facts=COUNTED, by=("hour_of_week",), values={"same_hour_last_week": "bikers"}, tolerance=timedelta(days=15)),
    Sums(facts=COUNTED, by=("city",), within=timedelta(hours=24), count="hours", sums={"rented": "rented"}),
    Sums(facts=COUNTED, by=("city",), within=timedelta(days=7), count="hours_7d", sums={"rented_7d": "rented"}),
)


def finish(rows: Columns) -> Columns:
    """Weather, and rentals of the last hour, of this hour on days before, and per hour of the last day and week."""
    return {
        **{f"weather_{name}": rows[name] for name in READINGS},
        **{name: rows[name] for name in ("last_hour", "same_hour", "same_hour_last_week")},
        "mean_24h": rows["rented"] / np.where(rows["hours"] > 0, rows["hours"], np.nan),
        "mean_7d": rows["rented_7d"] / np.where(rows["hours_7d"] > 0, rows["hours_7d"], np.nan),
    }
