"""Columns in memory, which typing, rules, features and labels are functions of. From Arrow, and back."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = npt.NDArray[Any]
"""Times are datetime64[us] in UTC, days datetime64[D], text objects. Null is NaT, None or NaN."""

Columns: TypeAlias = Mapping[str, Column]
"""By name, all of one length."""

Rows: TypeAlias = pa.Table | pa.RecordBatch

EXACT = 2**53
"""Up to here float64 holds every whole number."""

UTC_TIME = pa.timestamp("us", tz="UTC")


def from_arrow(rows: Rows, names: Iterable[str] | None = None) -> dict[str, Column]:
    """The columns of `rows`, or the named ones.

    Whole numbers with a null among them become float64; OverflowError if that is not exact.
    """
    return {name: _from_arrow(name, rows[name]) for name in (rows.schema.names if names is None else names)}


def to_arrow(columns: Columns, schema: pa.Schema) -> pa.RecordBatch:
    """The columns that `schema` names. Raises pyarrow.ArrowInvalid for a value that its type cannot hold."""
    return pa.RecordBatch.from_arrays([_to_arrow(columns[field.name], field.type) for field in schema], schema=schema)


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """The same rows, times in UTC without a zone, as Spark's toPandas gives them."""
    times = [one.with_type(pa.timestamp("us")) if pa.types.is_timestamp(one.type) else one for one in rows.schema]
    frame: pd.DataFrame = rows.cast(pa.schema(times)).to_pandas()
    return frame


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The same values in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def exact(numbers: pa.Array) -> pa.Array:
    """Which whole numbers float64 can hold exactly; null stays null."""
    return pc.and_(pc.greater_equal(numbers, -EXACT), pc.less_equal(numbers, EXACT))


def whole(name: str, numbers: Column) -> npt.NDArray[np.float64]:
    """Whole numbers as float64. Raises OverflowError for one that float64 cannot hold exactly."""
    if len(numbers) and max(abs(int(numbers.min())), abs(int(numbers.max()))) > EXACT:
        raise OverflowError(f"{name} holds a whole number beyond 2^53, which float64 cannot hold exactly")
    return numbers.astype("float64")


def _from_arrow(name: str, column: pa.Array | pa.ChunkedArray) -> Column:
    kind = column.type
    if pa.types.is_timestamp(kind):
        # Parquet may say nanoseconds; what is finer than a microsecond is cut off, as Spark does.
        times: Column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False).to_numpy(zero_copy_only=False)
        return times
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text(column)
    if pa.types.is_integer(kind) and column.null_count:
        found = whole(name, column.fill_null(0).to_numpy(zero_copy_only=False))
        found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return found
    values: Column = column.to_numpy(zero_copy_only=False)
    return values


def _text(column: pa.Array | pa.ChunkedArray) -> Column:
    """Objects, one for all rows that say the same: most text repeats, and objects are large."""
    encoded = one_array(column).dictionary_encode()
    texts = np.append(encoded.dictionary.to_numpy(zero_copy_only=False), [None])
    text: Column = texts[encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)]
    return text


def _to_arrow(values: Column, kind: pa.DataType) -> pa.Array:
    if values.dtype == object:
        return pa.array(values, kind, from_pandas=True)
    return pa.array(values, from_pandas=True).cast(kind)
