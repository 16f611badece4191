"""Two raw tables from one file: the hours, and what the weather was in them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from tests.bikes.prepare import ZONE, entity_ids

from flight_delays.core.columns import UTC_TIME, Column, Columns
from flight_delays.core.delivery import Batches
from flight_delays.core.quarantine import Contract, Field
from flight_delays.core.rules import Rule
from flight_delays.core.use_case import Labels, Source

HOUR = np.timedelta64(1, "h")
AHEAD = 6 * HOUR
SITUATIONS = ("clear", "cloudy/misty", "light rain/snow", "heavy rain/snow")
CITY = "Washington"

_WHEN = {
    "day_of_year": Field(source="day", type=pa.int32(), required=True),
    "hour_of_day": Field(source="hr", type=pa.int64(), required=True),
}
_SKIPPED = Rule(reason="clocks skipped this hour", columns=("begins_at",), broken=np.isnat)


def begins_at(columns: Columns) -> Column:
    """In UTC; NaT for an hour that clocks skipped. Of one that they repeated the file has one row: the first."""
    local = np.datetime64("2011-01-01") + (columns["day_of_year"] - 1) * np.timedelta64(1, "D")
    hours = pd.DatetimeIndex((local + columns["hour_of_day"] * HOUR).astype("datetime64[us]"))
    found: Column = (
        hours.tz_localize(ZONE, ambiguous=np.ones(len(hours), dtype=bool), nonexistent="NaT")
        .tz_convert("UTC")
        .tz_localize(None)
        .to_numpy(dtype="datetime64[us]")
    )
    return found


def derive_hours(hours: Columns) -> Columns:
    """Identity, day, when it is asked about and when it was counted."""
    begin = begins_at(hours)
    day = (np.datetime64("2011-01-01") + (hours["day_of_year"] - 1) * np.timedelta64(1, "D")).astype("datetime64[D]")
    return {
        "hour_id": np.array(entity_ids({"begins_at": begin}), dtype=object),
        "city": np.full(len(begin), CITY, dtype=object),
        "day": day,
        "begins_at": begin,
        "hour_of_week": (day - np.datetime64("1970-01-05")).astype("int64") % 7 * 24 + hours["hour_of_day"],
        "known_at": begin - AHEAD,
        "counted_at": begin + HOUR,
    }


HOURS = Contract(
    table="raw_hours",
    key=("hour_id",),
    fields={
        **_WHEN,
        "holiday": Field(source="holiday", type=pa.int64(), required=True),
        "workingday": Field(source="workingday", type=pa.int64(), required=True),
        "bikers": Field(source="bikers", type=pa.int64()),
    },
    derived={
        **{"hour_id": pa.string(), "city": pa.string(), "day": pa.date32(), "hour_of_week": pa.int64()},
        **dict.fromkeys(("begins_at", "known_at", "counted_at"), UTC_TIME),
    },
    derive=derive_hours,
    rules=(
        _SKIPPED,
        Rule(reason="bikers is negative", columns=("bikers",), broken=lambda bikers: bikers < 0),
    ),
    columns=(
        *("hour_id", "city", "day", "begins_at", "hour_of_day", "hour_of_week", "holiday", "workingday"),
        *("known_at", "bikers", "counted_at"),
    ),
)


def derive_conditions(conditions: Columns) -> Columns:
    """Known when the hour is over; `severity` from 0, clear, to 3."""
    severity = {name: float(at) for at, name in enumerate(SITUATIONS)}
    begin = begins_at(conditions)
    return {
        "city": np.full(len(begin), CITY, dtype=object),
        "begins_at": begin,
        "known_at": begin + HOUR,
        "severity": np.array([severity.get(name, np.nan) for name in conditions["weathersit"].tolist()]),
    }


CONDITIONS = Contract(
    table="raw_conditions",
    key=("city", "begins_at"),
    fields={
        **_WHEN,
        "weathersit": Field(source="weathersit", type=pa.string(), required=True),
        **{name: Field(source=name, type=pa.float64()) for name in ("temp", "hum", "windspeed")},
    },
    derived={"city": pa.string(), "begins_at": UTC_TIME, "known_at": UTC_TIME, "severity": pa.float64()},
    derive=derive_conditions,
    rules=(
        _SKIPPED,
        Rule(reason=f"weathersit is none of {', '.join(SITUATIONS)}", columns=("severity",), broken=np.isnan),
        Rule(reason="hum is not a share", columns=("hum",), broken=lambda hum: (hum < 0) | (hum > 1)),
    ),
    columns=("city", "begins_at", "known_at", "severity", "temp", "hum", "windspeed"),
)


def _delivered(as_of: datetime, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """The rows as text, of hours that begin within AHEAD of `as_of`: a live source would have no more."""
    spec = find_spec("ISLP")  # found, not imported: its own imports are not installed
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "data" / "Bikeshare.csv"
    with file.open("rb") as text:
        names = text.readline().decode().strip().replace('"', "").split(",")
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    rows = pyarrow.csv.read_csv(file, convert_options=options)
    hours = (rows["day"].cast(pa.int64()).to_numpy() - 1) * 24 + rows["hr"].cast(pa.int64()).to_numpy()
    last = (as_of - datetime(2011, 1, 1, tzinfo=ZONE)) / timedelta(hours=1) + AHEAD / HOUR
    yield from rows.filter(pa.array(hours <= last)).select(list(columns)).to_batches()


def _batches(contract: Contract) -> Batches:
    columns = tuple(field.source for field in contract.fields.values())
    return Batches(read=partial(_delivered, columns=columns))


SOURCES = tuple(Source(contract=contract, delivery=_batches(contract)) for contract in (HOURS, CONDITIONS))


def hourly_labels(hours: Columns) -> Columns:
    """How many bikes were rented."""
    return {
        "entity_id": hours["hour_id"],
        "day": hours["day"],
        "label": np.asarray(hours["bikers"], dtype="float64"),
        "known_at": hours["counted_at"],
    }


LABELS = Labels(table="raw_hours", columns=("hour_id", "day", "bikers", "counted_at"), make=hourly_labels)


def slices(rows: pd.DataFrame) -> dict[str, npt.NDArray[np.str_]]:
    """By working day, and by part of the day on the clocks of ZONE."""
    hour = rows["begins_at"].dt.tz_localize("UTC").dt.tz_convert(ZONE).dt.hour.to_numpy()
    return {
        "day": np.where(rows["workingday"] == 1, "working", "free"),
        "part of the day": np.array(["night", "morning", "afternoon", "evening"])[hour // 6],
    }
