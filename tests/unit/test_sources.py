"""What is delivered, what a good row of each source is, and what the example derives from it."""

import re
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flight_delays.core.columns import from_arrow
from flight_delays.core.delivery import Batches
from flight_delays.core.quarantine import Contract, inspect
from flight_delays.use_case import prepare, sources
from flight_delays.use_case.sources import FLIGHTS, PLANES, READINGS, SOURCES, WEATHER

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
MINUTES = "a delay or the air time is not a sensible number of minutes"
ARRIVES = "sched_arr_time is not a time of day"
WIND = "wind_speed is above 250 mph, more than any station ever measured"
GUST = "wind_gust is above 260 mph, more than any station ever measured"
HUMID, DIRECTION = "humid is not a percentage", "wind_dir is not a direction in degrees"

# What is changed in a good row, and the reasons to reject it.
REASONS: list[tuple[Contract, dict[str, str | None], list[str]]] = [
    (FLIGHTS, {}, []),
    (FLIGHTS, {"tailnum": NULL}, []),
    (FLIGHTS, {"dep_delay": NULL, "arr_delay": NULL, "air_time": NULL}, []),
    (FLIGHTS, {"arr_delay": NULL, "air_time": NULL}, []),
    (FLIGHTS, {"sched_dep_time": "1214"}, [CLOCK]),
    (FLIGHTS, {"sched_dep_time": "1216"}, [CLOCK]),
    (FLIGHTS, {"minute": "16"}, [CLOCK]),
    (FLIGHTS, {"time_hour": "2013-01-15T18:00:00Z"}, [CLOCK]),
    (FLIGHTS, {"sched_arr_time": "0"}, []),
    (FLIGHTS, {"sched_arr_time": "-1"}, [ARRIVES]),
    (FLIGHTS, {"sched_arr_time": "2359"}, []),
    (FLIGHTS, {"sched_arr_time": "2400"}, []),
    (FLIGHTS, {"sched_arr_time": "2401"}, [ARRIVES]),
    (FLIGHTS, {"sched_arr_time": "1459"}, []),
    (FLIGHTS, {"sched_arr_time": "1460"}, [ARRIVES]),
    (FLIGHTS, {"distance": "1"}, []),
    (FLIGHTS, {"distance": "0"}, ["distance is not positive"]),
    (FLIGHTS, {"distance": "-1"}, ["distance is not positive"]),
    (FLIGHTS, {"dep_delay": NULL}, [ARRIVED]),
    (FLIGHTS, {"air_time": NULL}, [ARRIVED]),
    (FLIGHTS, {"arr_delay": "-99999"}, []),
    (FLIGHTS, {"arr_delay": "-100000"}, [MINUTES]),
    (FLIGHTS, {"arr_delay": "-100001"}, [MINUTES]),
    (FLIGHTS, {"dep_delay": "99999"}, []),
    *(
        (FLIGHTS, {column: reading}, [MINUTES])
        for column in ("dep_delay", "arr_delay", "air_time")
        for reading in ("100000", "100001", "1e300", "-1e300")
    ),
    *(
        (
            FLIGHTS,
            {column: reading},
            [f"{column} is not a finite number: {reading}", *([ARRIVED] if column != "arr_delay" else [])],
        )
        for column in ("dep_delay", "arr_delay", "air_time")
        for reading in ("NaN", "Infinity", "-Infinity", "late")
    ),
    (FLIGHTS, {"flight": "1545.5"}, ["flight is not a whole number of 32 bits: 1545.5"]),
    (FLIGHTS, {"distance": "far"}, ["distance is not a whole number of 64 bits: far"]),
    *((FLIGHTS, {column: NULL}, [f"{column} is missing"]) for column in ("carrier", "time_hour", "distance", "flight")),
    (FLIGHTS, {"time_hour": "2 pm"}, ["time_hour is not a time like 2013-01-31T12:00:00Z, from 1700 to 2199: 2 pm"]),
    (FLIGHTS, {"carrier": NULL, "distance": "0"}, ["carrier is missing"]),
    (FLIGHTS, {"distance": "0", "sched_arr_time": "2401"}, [ARRIVES, "distance is not positive"]),
    (WEATHER, {}, []),
    (WEATHER, dict.fromkeys(READINGS, NULL), []),
    (WEATHER, {"temp": "NaN"}, ["temp is not a finite number: NaN"]),
    (WEATHER, {"origin": NULL}, ["origin is missing"]),
    (WEATHER, {"time_hour": NULL}, ["time_hour is missing"]),
    *(
        (WEATHER, {column: reading}, why)
        for column, highest, reason in (("wind_speed", 250, WIND), ("wind_gust", 260, GUST), ("humid", 100, HUMID))
        for reading, why in (
            *(("-0.1", [reason]), ("0", []), ("0.1", [])),
            *((f"{highest - 0.1}", []), (f"{highest}", []), (f"{highest + 0.1}", [reason])),
        )
    ),
    (WEATHER, {"wind_speed": "1048.36"}, [WIND]),
    *((WEATHER, {"wind_dir": reading}, []) for reading in ("0", "359", "360")),
    *((WEATHER, {"wind_dir": reading}, [DIRECTION]) for reading in ("-1", "361")),
    (PLANES, {}, []),
    (PLANES, dict.fromkeys(("year", "type", "manufacturer", "model", "engines", "seats", "engine"), NULL), []),
    (PLANES, {"tailnum": NULL}, ["tailnum is missing"]),
    (PLANES, {"year": "1904"}, []),
    (PLANES, {"year": "1903"}, []),
    (PLANES, {"year": "1902"}, ["year is before powered flight"]),
    (PLANES, {"year": "NaN"}, ["year is not a whole number of 32 bits: NaN"]),
    (PLANES, {"seats": "2"}, []),
    (PLANES, {"seats": "1"}, []),
    (PLANES, {"seats": "0"}, ["seats is not positive"]),
]
GOOD = {"raw_flights": FLIGHT, "raw_weather": HOUR, "raw_planes": PLANE}
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


def delivered(rows: list[dict[str, str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]]))


def landed(rows: list[dict[str, str | None]], contract: Contract) -> pa.RecordBatch:
    """All rows, which are good."""
    found = inspect(delivered(rows), contract)
    assert found["reasons"].to_pylist() == [[]] * len(rows)
    return found


@pytest.mark.parametrize(
    ("contract", "changes", "expected"),
    REASONS,
    ids=[f"{of.table}-{changes or 'good'}" for of, changes, _ in REASONS],
)
def test_a_row_is_landed_or_rejected_for(
    contract: Contract, changes: dict[str, str | None], expected: list[str]
) -> None:
    good = GOOD[contract.table]
    found = inspect(delivered([{**good, **changes}, dict.fromkeys(good), good]), contract)
    missing = [f"{field.source} is missing" for field in contract.fields.values() if field.required]
    assert found["reasons"].to_pylist() == [expected, missing, []]


@pytest.mark.parametrize(
    ("hour", "minute", "clock", "departure", "day"), UTC_OF, ids=[case[0] + case[1] for case in UTC_OF]
)
def test_a_flight_departs_at_an_instant_on_a_day_of_new_york(
    hour: str, minute: str, clock: str, departure: str, day: date
) -> None:
    row = {**FLIGHT, "time_hour": hour, "minute": minute, "sched_dep_time": clock}
    (flight,) = landed([row], FLIGHTS).to_pylist()
    assert utc(flight["sched_dep_ts"]) == departure
    assert flight["flight_date"] == day
    assert flight["sched_dep_ts"] - flight["known_at"] == timedelta(hours=2)
    assert flight["flight_id"] == f"UA-1545-EWR-IAH-{re.sub('[-:]', '', departure).replace(' ', 'T')}Z"


@pytest.mark.parametrize(
    ("changes", "departure", "outcome"),
    [
        # 17:15, 2 minutes late, 227 in the air, half an hour
        ({}, "2013-01-15 17:32", "2013-01-15 21:34"),
        # 3 minutes early, an hour in the air
        ({"dep_delay": "-3.0", "air_time": "60.0"}, "2013-01-15 17:27", "2013-01-15 18:42"),
        # part of a minute is cut off
        ({"dep_delay": "2.9", "air_time": "60.2"}, "2013-01-15 17:32", "2013-01-15 18:48"),
        ({"dep_delay": "-2.9", "air_time": "60.0"}, "2013-01-15 17:28", "2013-01-15 18:42"),
        # diverted: departed, did not arrive
        ({"arr_delay": NULL, "air_time": NULL}, "2013-01-15 17:32", None),
        ({"arr_delay": NULL}, "2013-01-15 17:32", None),
        # never departed
        ({"dep_delay": NULL, "arr_delay": NULL, "air_time": NULL}, None, None),
    ],
)
def test_an_outcome_is_known_half_an_hour_after_landing_and_never_without_an_arrival(
    changes: dict[str, str | None], departure: str | None, outcome: str | None
) -> None:
    (flight,) = landed([{**FLIGHT, **changes}], FLIGHTS).to_pylist()
    assert (utc(flight["departure_known_at"]), utc(flight["outcome_known_at"])) == (departure, outcome)


def test_weather_is_known_when_its_hour_is_over_and_a_plane_before_the_first_flight() -> None:
    (hour,) = landed([HOUR], WEATHER).to_pylist()
    plane, bare = landed([PLANE, {**dict.fromkeys(PLANE), "tailnum": "N1"}], PLANES).to_pylist()
    assert utc(hour["known_at"]) == "2013-01-15 18:00"
    assert utc(plane["known_at"]) == utc(bare["known_at"]) == "2013-01-01 00:00"
    assert (plane["year_built"], plane["seats"]) == (1999, 149)
    assert (bare["year_built"], bare["seats"]) == (None, None)


def test_the_contract_names_flights_as_the_model_does() -> None:
    rows = [
        {**FLIGHT, "time_hour": hour, "minute": minute, "sched_dep_time": clock} for hour, minute, clock, *_ in UTC_OF
    ]
    rows += [{**FLIGHT, "carrier": "Å-1", "dest": "", "flight": number} for number in ("-1", "0", "2147483647", "7.0")]
    flights = SOURCES[0].delivery
    assert isinstance(flights, Batches)
    of_a_day = pa.Table.from_batches(flights.read(datetime(2013, 1, 2, tzinfo=UTC)))
    for found in (landed(rows, FLIGHTS), inspect(of_a_day, FLIGHTS)):
        columns = from_arrow(found, ["carrier", "flight", "origin", "dest", "sched_dep_ts"])
        assert found["flight_id"].to_pylist() == prepare.entity_ids(columns)
    assert found.num_rows > 700


@pytest.mark.parametrize(
    ("contract", "file", "rows"),
    [
        (FLIGHTS, "flights.csv.zip", 336_776),
        (WEATHER, "weather.csv", 26_115),
        (PLANES, "planes.csv", 3_322),
    ],
)
def test_a_file_has_all_its_rows_and_every_column_of_its_contract(contract: Contract, file: str, rows: int) -> None:
    given = pd.read_csv(sources._package_data() / file, dtype=str)
    assert len(given) == rows
    assert {field.source for field in contract.fields.values()} <= set(given.columns)


def read(as_of: datetime) -> dict[str, pa.Table]:
    """What is delivered, by table; checks that it is batches of text."""
    found = {}
    for source in SOURCES:
        assert isinstance(source.delivery, Batches)
        batches = list(source.delivery.read(as_of))
        assert {type(batch) for batch in batches} <= {pa.RecordBatch}
        assert {column.type for batch in batches for column in batch.schema} <= {pa.string()}
        found[source.contract.table] = pa.Table.from_batches(batches, batches[0].schema if batches else pa.schema([]))
    return found


@pytest.mark.parametrize(
    ("as_of", "last"),
    [
        (datetime(2013, 1, 1, 8, 59, 59, tzinfo=UTC), "2013-01-01T10:00:00Z"),
        (datetime(2013, 1, 1, 9, tzinfo=UTC), "2013-01-01T11:00:00Z"),
        (datetime(2013, 1, 1, 9, 0, 1, tzinfo=UTC), "2013-01-01T11:00:00Z"),
    ],
)
def test_the_example_delivers_text_of_the_hours_that_begin_within_two_hours(as_of: datetime, last: str) -> None:
    rows = read(as_of)
    assert list(rows) == ["raw_flights", "raw_weather", "raw_planes"]
    for table in ("raw_flights", "raw_weather"):
        assert pc.max(rows[table]["time_hour"]).as_py() == last
    assert rows["raw_planes"].num_rows == 3_322
    years = rows["raw_planes"]["year"]
    assert (years.null_count, {"NA", "NaN", ""} & set(years.to_pylist())) == (70, set())


def test_before_its_year_the_example_delivers_aircraft_and_nothing_else() -> None:
    rows = read(datetime(2012, 1, 1, tzinfo=UTC))
    assert {table: given.num_rows for table, given in rows.items()} == {
        "raw_flights": 0,
        "raw_weather": 0,
        "raw_planes": 3_322,
    }


def test_what_the_example_delivers_is_good_but_for_one_hour_of_wind() -> None:
    for source in SOURCES:
        assert isinstance(source.delivery, Batches)
        given = pa.Table.from_batches(source.delivery.read(datetime(2014, 1, 1, tzinfo=UTC)))
        found = pa.Table.from_batches([inspect(batch, source.contract) for batch in given.to_batches()])
        bad = [why for why in found["reasons"].to_pylist() if why]
        assert bad == ([[WIND]] if source.contract is WEATHER else [])


def utc(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
