"""Rows to score and what becomes of them: which can't be scored, what a model is given, rows of the tables.

A batch calls this in Spark's workers, the stream in its own process.
"""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.columns import UTC_TIME, Columns, Rows, one_array
from flight_delays.core.feature_set import ENTITY, KEY, PREDICTION_TIME
from flight_delays.core.signature import Signature

TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "datetime": UTC_TIME,
}
"""By the registry's words for them."""

SERVING = "serving"  # source of what an endpoint answered

PREDICTIONS = pa.schema(
    [
        *(("prediction_id", pa.string()), (ENTITY, pa.string()), (PREDICTION_TIME, UTC_TIME)),
        *(("model_name", pa.string()), ("model_version", pa.int32())),
        *(("scored_at", UTC_TIME), ("scored_date", pa.date32())),
        *(("probability", pa.float64()), ("prediction", pa.float64()), ("response_time_ms", pa.float64())),
        *(("source", pa.string()), ("run_id", pa.string())),
    ]
)
REJECTS = pa.schema(
    [
        *(("reject_id", pa.string()), ("table_name", pa.string()), ("source_row", pa.string())),
        ("reasons", pa.list_(pa.string())),
    ]
)
# pandas holds times to the nanosecond from 1678 to 2261, and models look some years around a time.
_TIMES = (pa.scalar(datetime(1700, 1, 1, tzinfo=UTC), UTC_TIME), pa.scalar(datetime(2200, 1, 1, tzinfo=UTC), UTC_TIME))


def problems(signature: Signature, rows: Rows) -> list[list[str]]:
    """Why each row can't be scored; nothing if it can.

    A required column is null or NaN, a number infinite, or a time beyond those that pandas holds. A category that
    training never saw, and a looked-up column that is null or NaN, are scored: as unknown.
    """
    nothing: list[str] = []  # one for all: ten thousand lists keep Python's garbage collector busy
    found = [nothing] * rows.num_rows

    def add(wrong: pa.Array | pa.ChunkedArray, reason: str) -> None:
        for at in np.flatnonzero(wrong.fill_null(False).to_numpy(zero_copy_only=False)):
            found[at] = [*found[at], reason]

    for column in signature.inputs:
        values = rows[column.name].cast(TYPES[column.type])
        if column.required:
            add(values.is_null(), f"{column.name} is missing")
        if column.type in ("double", "float"):
            add(pc.is_inf(values), f"{column.name} is infinite")
            if column.required:
                add(pc.is_nan(values), f"{column.name} is not a number")
        if column.type == "datetime":
            first, last = _TIMES
            beyond = pc.or_(pc.less(values, first), pc.greater(values, last))
            add(beyond, f"{column.name} is not between 1700 and 2200")
    return found


def inputs_of(signature: Signature, rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """What a model's `score` is given: text as objects, times as datetime64[us] in UTC, null numbers as NaN."""
    return {column.name: _values(rows[column.name].cast(TYPES[column.type])) for column in signature.inputs}


def _values(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"))
    values: npt.NDArray[Any] = one_array(column).to_numpy(zero_copy_only=False)
    return values


def predictions(
    rows: Rows,
    answers: Columns,
    *,
    model_name: str,
    model_version: int,
    scored_at: datetime,
    source: str,
    run_id: str | None,
) -> pa.RecordBatch:
    """Rows of table predictions, of columns PREDICTIONS: one for each of `rows`, which have the columns KEY.

    `answers` are the model's. An id follows from the row's key, the version and `source`: scored again it is the same.
    """
    columns = {
        "prediction_id": _ids(rows, model_name, model_version, source),
        **{name: one_array(rows[name]) for name in KEY},
        "prediction": answers["prediction"],
    }
    same = {
        "model_name": model_name,
        "model_version": model_version,
        "scored_at": scored_at,
        "scored_date": scored_at.astimezone(UTC).date(),
        "response_time_ms": None,
        "source": source,
        "run_id": run_id,
    }
    (columns if "probability" in answers else same)["probability"] = answers.get("probability")
    arrays = [
        pa.repeat(pa.scalar(same[field.name], field.type), rows.num_rows)
        if field.name in same
        else pa.array(columns[field.name]).cast(field.type)
        for field in PREDICTIONS
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=PREDICTIONS)


def rejects(
    rows: Rows, reasons: list[list[str]], *, model_name: str, model_version: int, source: str
) -> pa.RecordBatch:
    """Rows of table raw_rejects, of columns REJECTS: one for each of `rows`, as JSON without its nulls."""
    return pa.RecordBatch.from_arrays(
        [
            _ids(rows, model_name, model_version, source),
            pa.repeat(pa.scalar("predictions"), rows.num_rows),
            pa.array(_as_json(rows), pa.string()),
            pa.array(reasons, pa.list_(pa.string())),
        ],
        schema=REJECTS,
    )


def _ids(rows: Rows, model_name: str, model_version: int, source: str) -> pa.Array:
    """The digest of entity, prediction time, model, version and source, of each row."""
    rest = f"|{model_name}|{model_version}|{source}"
    times = one_array(rows[PREDICTION_TIME]).dictionary_encode()  # many rows have the same
    texts = [text.rstrip("0").rstrip(".") for text in _as_text(times.dictionary)]
    keys = zip(rows[ENTITY].to_pylist(), times.indices.to_numpy(), strict=True)
    return pa.array([sha256(f"{entity}|{texts[at]}{rest}".encode()).hexdigest() for entity, at in keys], pa.string())


def served_id(request_id: str, position: int) -> str:
    """The id of an answer: the digest of its request, the row's place in it, from 1, and the source."""
    return sha256(f"{request_id}|{position}|{SERVING}".encode()).hexdigest()


def _as_json(rows: Rows) -> Iterator[str]:
    columns = {name: rows[name] for name in rows.schema.names}
    texts = [
        _as_text(values) if pa.types.is_timestamp(values.type) else map(_told, values.to_pylist())
        for values in columns.values()
    ]
    for row in zip(*texts, strict=True):
        told = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        yield json.dumps(told, separators=(",", ":"), ensure_ascii=False)


def _told(value: object) -> object:
    """As JSON can say it."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(times: pa.Array | pa.ChunkedArray) -> list[str]:
    """Like 2013-01-31 12:00:00.000000, in UTC; Python's own times end with the year 9999."""
    texts: list[str] = times.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
    return texts
