"""What a good row of each source is, and what the example derives from it."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.quarantine import Contract, inspect
from flight_delays.use_case.sources import FLIGHTS, PLANES, WEATHER, deliveries

FLIGHT = {
    "time_hour": "2013-01-15T17:00:00Z",
    "minute": "15",
    "sched_dep_time": "1215",
    "sched_arr_time": "1420",
    "carrier": "UA",
    "flight": "1545",
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "distance": "1400",
    "dep_delay": "2.0",
    "arr_delay": "11.0",
    "air_time": "227.0",
}
READINGS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
HOUR = {"origin": "EWR", "time_hour": "2013-01-15T17:00:00Z", **dict.fromkeys(READINGS, "10.0")}
PLANE = {
    "tailnum": "N14228",
    "year": "1999",
    "type": "Fixed wing multi engine",
    "manufacturer": "MAKER",
    "model": "737-824",
    "engines": "2",
    "seats": "149",
    "engine": "Turbo-fan",
}
NULL = None
CLOCK = "minute and time_hour disagree with sched_dep_time in America/New_York"
ARRIVED = "arrived without a departure delay and an air time"
MINUTES = "a delay or the air time is no sensible number of minutes"
WIND = "wind_speed is above 250 mph, more than any station ever measured"
GUST = "wind_gust is above 260 mph, more than any station ever measured"

# What is changed in a good row, and the reasons to reject it. Each has a key of its own.
REASONS: list[tuple[Contract, dict[str, str | None], list[str]]] = [
    (FLIGHTS, {}, []),
    (FLIGHTS, {"tailnum": NULL}, []),
    (FLIGHTS, {"dep_delay": NULL, "arr_delay": NULL, "air_time": NULL}, []),
    (FLIGHTS, {"arr_delay": NULL, "air_time": NULL}, []),
    (FLIGHTS, {"sched_dep_time": "1216"}, [CLOCK]),
    (FLIGHTS, {"minute": "16"}, [CLOCK]),
    (FLIGHTS, {"time_hour": "2013-01-15T18:00:00Z"}, [CLOCK]),
    (FLIGHTS, {"sched_arr_time": "0"}, []),
    (FLIGHTS, {"sched_arr_time": "-1"}, ["sched_arr_time is no time of day"]),
    (FLIGHTS, {"sched_arr_time": "2400"}, []),
    (FLIGHTS, {"sched_arr_time": "2401"}, ["sched_arr_time is no time of day"]),
    (FLIGHTS, {"sched_arr_time": "1459"}, []),
    (FLIGHTS, {"sched_arr_time": "1460"}, ["sched_arr_time is no time of day"]),
    (FLIGHTS, {"distance": "1"}, []),
    (FLIGHTS, {"distance": "0"}, ["distance is not positive"]),
    (FLIGHTS, {"dep_delay": NULL}, [ARRIVED]),
    (FLIGHTS, {"air_time": NULL}, [ARRIVED]),
    (FLIGHTS, {"arr_delay": "-99999"}, []),
    (FLIGHTS, {"arr_delay": "-100000"}, [MINUTES]),
    (FLIGHTS, {"dep_delay": "99999"}, []),
    *(
        (FLIGHTS, {column: reading}, [MINUTES])
        for column in ("dep_delay", "arr_delay", "air_time")
        for reading in ("100000", "1e300")
    ),
    *(
        (
            FLIGHTS,
            {column: reading},
            [f"{column} is not double: {reading}", *([ARRIVED] if column != "arr_delay" else [])],
        )
        for column in ("dep_delay", "arr_delay", "air_time")
        for reading in ("NaN", "Infinity", "-Infinity")
    ),
    (WEATHER, {"temp": "NaN"}, ["temp is not double: NaN"]),
    (FLIGHTS, {"carrier": NULL}, ["carrier is missing"]),
    (FLIGHTS, {"time_hour": "yesterday"}, ["time_hour is not timestamp: yesterday"]),
    (WEATHER, {}, []),
    (WEATHER, dict.fromkeys(READINGS, NULL), []),
    (WEATHER, {"wind_speed": "249.9"}, []),
    (WEATHER, {"wind_speed": "250"}, []),
    (WEATHER, {"wind_speed": "250.1"}, [WIND]),
    (WEATHER, {"wind_speed": "1048.36"}, [WIND]),
    (WEATHER, {"wind_speed": "-0.1"}, [WIND]),
    (WEATHER, {"wind_gust": "260"}, []),
    (WEATHER, {"wind_gust": "260.1"}, [GUST]),
    (WEATHER, {"humid": "100"}, []),
    (WEATHER, {"humid": "100.1"}, ["humid is no percentage"]),
    (WEATHER, {"wind_dir": "360"}, []),
    (WEATHER, {"wind_dir": "361"}, ["wind_dir is no direction in degrees"]),
    (PLANES, {}, []),
    (PLANES, dict.fromkeys(("year", "type", "manufacturer", "model", "engines", "seats", "engine"), NULL), []),
    (PLANES, {"year": "1903"}, []),
    (PLANES, {"year": "1902"}, ["year is before powered flight"]),
    (PLANES, {"seats": "1"}, []),
    (PLANES, {"seats": "0"}, ["seats is not positive"]),
]
GOOD = {"raw_flights": FLIGHT, "raw_weather": HOUR, "raw_planes": PLANE}
OWN_KEY = {"raw_flights": "flight", "raw_weather": "origin", "raw_planes": "tailnum"}
UTC_OF = [
    # Scheduled hour in UTC, minute and local time; then the departure in UTC and the local day.
    ("2013-01-15T17:00:00Z", "15", "1215", "2013-01-15 17:15", date(2013, 1, 15)),
    ("2013-07-15T16:00:00Z", "5", "1205", "2013-07-15 16:05", date(2013, 7, 15)),
    ("2013-07-16T03:00:00Z", "59", "2359", "2013-07-16 03:59", date(2013, 7, 15)),
    ("2013-07-16T04:00:00Z", "0", "0", "2013-07-16 04:00", date(2013, 7, 16)),
    ("2013-03-10T06:00:00Z", "59", "159", "2013-03-10 06:59", date(2013, 3, 10)),  # the clock jumps
    ("2013-03-10T07:00:00Z", "0", "300", "2013-03-10 07:00", date(2013, 3, 10)),
    ("2013-11-03T05:00:00Z", "30", "130", "2013-11-03 05:30", date(2013, 11, 3)),  # half past one, twice
    ("2013-11-03T06:00:00Z", "30", "130", "2013-11-03 06:30", date(2013, 11, 3)),
    ("2013-11-04T04:00:00Z", "30", "2330", "2013-11-04 04:30", date(2013, 11, 3)),
]


def delivery(spark: SparkSession, rows: list[dict[str, str | None]]) -> DataFrame:
    return spark.createDataFrame(rows, ", ".join(f"{column} string" for column in rows[0]))


@pytest.fixture(scope="module")
def reasons(spark: SparkSession) -> dict[tuple[str, str], list[str]]:
    """Reasons by table and the row's own key: the number of its case."""
    found = {}
    for contract in (FLIGHTS, WEATHER, PLANES):
        own = OWN_KEY[contract.table]
        rows = [
            {**GOOD[contract.table], own: str(number), **changes}
            for number, (of, changes, _) in enumerate(REASONS)
            if of is contract
        ]
        inspected = inspect(delivery(spark, rows), contract).select(
            F.get_json_object("source_row", f"$.{own}").alias("key"), "reasons"
        )
        found |= {(contract.table, row["key"]): row["reasons"] for row in inspected.collect()}
    return found


@pytest.mark.parametrize(
    "number", range(len(REASONS)), ids=[f"{of.table}-{changes or 'good'}" for of, changes, _ in REASONS]
)
def test_a_row_is_landed_or_rejected_for(number: int, reasons: dict[tuple[str, str], list[str]]) -> None:
    contract, _, expected = REASONS[number]
    assert reasons[contract.table, str(number)] == expected


@pytest.fixture(scope="module")
def landed(spark: SparkSession) -> dict[int, Row]:
    """Good flights by flight number: first those of UTC_OF, then 100 and on with other outcomes."""
    rows = [
        {**FLIGHT, "time_hour": hour, "minute": minute, "sched_dep_time": local, "flight": str(number)}
        for number, (hour, minute, local, _, _) in enumerate(UTC_OF)
    ]
    rows += [
        {**FLIGHT, "flight": "100", "dep_delay": "-3.0", "arr_delay": "0.0", "air_time": "60.0"},
        {**FLIGHT, "flight": "101", "arr_delay": None, "air_time": None},  # diverted: departed, did not arrive
        {**FLIGHT, "flight": "102", "arr_delay": None, "air_time": None, "dep_delay": None},  # never departed
    ]
    inspected = inspect(delivery(spark, rows), FLIGHTS).where(F.size("reasons") == 0).select("row.*")
    return {row["flight"]: row for row in inspected.collect()}


@pytest.mark.parametrize("number", range(len(UTC_OF)), ids=[case[0] + case[1] for case in UTC_OF])
def test_a_flight_departs_at_an_instant_on_a_day_of_new_york(number: int, landed: dict[int, Row]) -> None:
    *_, departure, day = UTC_OF[number]
    flight = landed[number]
    assert utc(flight["sched_dep_ts"]) == departure
    assert flight["flight_date"] == day
    assert flight["sched_dep_ts"] - flight["known_at"] == timedelta(hours=2)
    assert flight["flight_id"] == f"UA-{number}-EWR-IAH-{re.sub('[-:]', '', departure).replace(' ', 'T')}Z"


@pytest.mark.parametrize(
    ("number", "known"),
    [
        (0, "2013-01-15 21:34"),  # 17:15, 2 minutes late, 227 in the air, half an hour
        (100, "2013-01-15 18:42"),  # 3 minutes early, an hour in the air
        (101, None),
        (102, None),
    ],
)
def test_an_outcome_is_known_half_an_hour_after_landing_and_never_without_an_arrival(
    number: int, known: str | None, landed: dict[int, Row]
) -> None:
    found = landed[number]["outcome_known_at"]
    assert (None if found is None else utc(found)) == known


def test_weather_is_known_when_its_hour_is_over_and_a_plane_before_the_first_flight(spark: SparkSession) -> None:
    (hour,) = inspect(delivery(spark, [HOUR]), WEATHER).select("row.*").collect()
    (plane,) = inspect(delivery(spark, [PLANE]), PLANES).select("row.*").collect()
    assert utc(hour["known_at"]) == "2013-01-15 18:00"
    assert utc(plane["known_at"]) == "2013-01-01 00:00"
    assert (plane["year_built"], plane["seats"]) == (1999, 149)


@pytest.mark.parametrize(
    ("as_of", "last"),
    [
        (datetime(2013, 1, 1, 8, 59, 59, tzinfo=UTC), "2013-01-01T10:00:00Z"),
        (datetime(2013, 1, 1, 9, tzinfo=UTC), "2013-01-01T11:00:00Z"),
    ],
)
def test_the_example_delivers_strings_of_the_hours_that_begin_within_two_hours(
    spark: SparkSession, as_of: datetime, last: str
) -> None:
    rows = {contract.table: delivered for contract, delivered in deliveries(spark, as_of)}
    assert list(rows) == ["raw_flights", "raw_weather", "raw_planes"]
    for table in ("raw_flights", "raw_weather"):
        assert rows[table].agg(F.max("time_hour")).collect()[0][0] == last
    assert rows["raw_planes"].count() == 3_322
    years = rows["raw_planes"].agg(F.count_if(F.isnull("year")), F.count_if(F.col("year") == "NaN")).collect()[0]
    assert tuple(years) == (70, 0)
    assert {kind for delivered in rows.values() for _, kind in delivered.dtypes} == {"string"}


def utc(moment: datetime) -> str:
    """Python shows a timestamp in the machine's own time zone."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
