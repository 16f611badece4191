"""Looked-up features: what was known about a flight two hours before its scheduled departure."""

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.point_in_time import as_of_join
from flight_delays.use_case.sources import READINGS

WEATHER_TOLERANCE = timedelta(hours=6)


def flight_features(flights: DataFrame, weather: DataFrame, planes: DataFrame) -> DataFrame:
    """One row per row of `flights`, with the columns of table flight_features.

    `flights`, `weather` and `planes` have the columns of raw_flights, raw_weather and raw_planes. `prediction_ts` is
    the time a feature is as of: a row of weather or planes is used only if it was known by then.
    """
    spine = flights.select(
        "flight_id",
        F.col("known_at").alias("prediction_ts"),
        "flight_date",
        "carrier",
        "origin",
        "dest",
        "tailnum",
        "distance",
        "sched_dep_ts",
        "sched_arr_time",
    )
    with_weather = as_of_join(
        spine,
        weather,
        by=["origin"],
        at="prediction_ts",
        event_time="observed_at",
        known_time="known_at",
        values=["observed_at", *READINGS],
        tolerance=WEATHER_TOLERANCE,
    )
    with_plane = as_of_join(
        with_weather,
        planes,
        by=["tailnum"],
        at="prediction_ts",
        event_time="known_at",
        known_time="known_at",
        values=["year_built", "seats", "engines"],
    )
    return with_plane.select(
        *spine.columns,
        *(F.col(reading).alias(f"weather_{reading}") for reading in READINGS),
        ((F.col("prediction_ts").cast("double") - F.col("observed_at").cast("double")) / 60).alias(
            "weather_age_minutes"
        ),
        F.col("year_built").cast("double").alias("plane_year_built"),
        F.col("seats").cast("double").alias("plane_seats"),
        F.col("engines").cast("double").alias("plane_engines"),
    )
