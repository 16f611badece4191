"""Real raw rows, without Spark, and what else might have followed of what was known at a time."""

from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.as_of import NEVER
from flight_delays.core.columns import UTC_TIME, Column, Columns, from_arrow, to_arrow
from flight_delays.core.delivery import Batches
from flight_delays.core.quarantine import REASONS, inspect
from flight_delays.use_case.sources import PLANES, SOURCES

Raw = Mapping[str, pa.Table]
"""Rows of the raw tables, by name."""

# When what became known of a flight.
KNOWN = {"departure_known_at": ("dep_delay",), "outcome_known_at": ("arr_delay", "air_time")}
MEASURED = ("temp", "wind_speed", "pressure", "visib", "humid", "dewp", "precip")


def raw_tables(since: datetime, as_of: datetime) -> Raw:
    """The good rows that are delivered as of a time; of flights and weather those known from `since` on."""
    found = {}
    for source in SOURCES:
        contract, delivery = source.contract, source.delivery
        assert isinstance(delivery, Batches)
        inspected = inspect(pa.Table.from_batches(delivery.read(as_of)), contract)
        good = pc.equal(pc.list_value_length(inspected[REASONS]), 0)
        if contract is not PLANES:
            good = pc.and_(good, pc.greater_equal(inspected["known_at"], pa.scalar(since, UTC_TIME)))
        found[contract.table] = pa.table(inspected.filter(good).select(contract.schema.names))
    return found


def changed(rows: pa.Table, change: Callable[[Columns], Columns]) -> pa.Table:
    """The rows with some columns changed."""
    columns = from_arrow(rows)
    return pa.table(to_arrow({**columns, **change(columns)}, rows.schema))


def gone(raw: Raw, at: datetime) -> Raw:
    """What was known at a time, and nothing else."""
    moment = np.datetime64(at.replace(tzinfo=None), "us")

    def untold(flights: Columns) -> Columns:
        return {
            name: np.where(flights[time] <= moment, flights[name], _null(flights[name]))
            for time, names in KNOWN.items()
            for name in (time, *names)
        }

    known = {name: _known(rows, at) for name, rows in raw.items()}
    return {**known, "raw_flights": changed(known["raw_flights"], untold)}


def other(raw: Raw, at: datetime) -> Raw:
    """What was known at a time, and then another future: other delays, other weather, other planes, other flights.

    Departures are early: one known before the flight has left would be refused.
    """
    moment = np.datetime64(at.replace(tzinfo=None), "us")
    soon = moment + np.timedelta64(1, "m")

    def delayed(flights: Columns) -> Columns:
        instead = {"dep_delay": 500.0, "departure_known_at": soon, "arr_delay": 500.0, "outcome_known_at": soon}
        return {
            name: np.where(flights[time] <= moment, flights[name], instead[name])
            for time, names in KNOWN.items()
            for name in (time, names[0])
        }

    def later(rows: Columns) -> Columns:
        return {"known_at": np.maximum(rows["known_at"], soon)}

    def invent(flights: Columns) -> Columns:
        delays = {"dep_delay": -400.0, "arr_delay": 400.0}
        told = {name: np.full_like(flights[name], delay) for name, delay in delays.items()}
        return {"flight_id": "invented " + flights["flight_id"], **told, **later(flights)}

    flights, known = changed(raw["raw_flights"], delayed), gone(raw, at)
    invented = changed(flights, invent)
    corrected = changed(raw["raw_weather"], lambda rows: {**{name: -rows[name] for name in MEASURED}, **later(rows)})
    registered = changed(
        raw["raw_planes"],
        lambda rows: {
            "seats": np.full_like(rows["seats"], 7),
            "year_built": np.full_like(rows["year_built"], 1950),
            **later(rows),
        },
    )
    return {
        "raw_flights": pa.concat_tables([_known(flights, at), invented]),
        "raw_weather": pa.concat_tables([known["raw_weather"], corrected]),
        "raw_planes": pa.concat_tables([known["raw_planes"], registered]),
    }


def _known(rows: pa.Table, at: datetime) -> pa.Table:
    return rows.filter(pc.less_equal(rows["known_at"], pa.scalar(at, UTC_TIME)))


def _null(column: Column) -> object:
    return NEVER if column.dtype.kind == "M" else np.nan
