"""Predictions in a store of either kind, as a synced table has them there."""

from datetime import UTC, datetime

import pyarrow as pa
from tests.store.stores import Sqlite, Store

from flight_delays.platform.precomputed import COLUMNS, PREDICTIONS_TABLE, Prediction

FLIGHT = "UA-1545-EWR-IAH-20130101T1015Z"
FOUND = Prediction(
    entity_id=FLIGHT,
    prediction_ts=datetime(2013, 1, 1, 8, 15, tzinfo=UTC),
    model_name="cat.flights.delay",
    model_version=3,
    scored_at=datetime(2013, 1, 1, 9, tzinfo=UTC),
    probability=0.1 + 0.2,  # not a short number
    prediction=0.0,
    source="batch",
)
SCHEMA = pa.schema(
    [
        *(("entity_id", pa.string()), ("prediction_ts", pa.timestamp("us", "UTC")), ("model_name", pa.string())),
        *(("model_version", pa.int32()), ("scored_at", pa.timestamp("us", "UTC")), ("probability", pa.float64())),
        *(("prediction", pa.float64()), ("source", pa.string())),
    ]
)
_TYPES = (
    *("TEXT PRIMARY KEY", "TIMESTAMPTZ", "TEXT", "INTEGER"),
    *("TIMESTAMPTZ", "DOUBLE PRECISION", "DOUBLE PRECISION", "TEXT"),
)


def rows(*predictions: Prediction) -> pa.Table:
    """As Spark hands them over."""
    return pa.Table.from_pylist([{name: getattr(each, name) for name in COLUMNS} for each in predictions], SCHEMA)


def fill(store: Store, *predictions: Prediction) -> None:
    """Hold these, and only these."""
    declared = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, _TYPES, strict=True))
    store.write(f"DROP TABLE IF EXISTS {PREDICTIONS_TABLE}", f"CREATE TABLE {PREDICTIONS_TABLE} ({declared})")
    zone = "" if isinstance(store, Sqlite) else "Z"  # times in sqlite are text in UTC
    for each in predictions:
        told = ", ".join(_literal(getattr(each, name), zone) for name in COLUMNS)
        store.write(f"INSERT INTO {PREDICTIONS_TABLE} VALUES ({told})")


def _literal(value: str | float | datetime | None, zone: str) -> str:
    text = f"{value:%Y-%m-%dT%H:%M:%S}{zone}" if isinstance(value, datetime) else str(value).replace("'", "''")
    return "NULL" if value is None else f"'{text}'"
