"""Functions on columns, applied to a DataFrame batch by batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.columns import Columns, from_arrow, to_arrow


def map_columns(
    rows: DataFrame, function: Callable[[Columns], Columns], *, columns: Sequence[str], schema: pa.Schema
) -> DataFrame:
    """What `function` makes of these `columns` of the rows: columns of `schema`, of as many rows as it likes."""

    def mapped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield to_arrow(function(from_arrow(batch)), schema)

    return rows.select(*columns).mapInArrow(mapped, from_arrow_schema(schema))


def pack(batch: pa.RecordBatch) -> bytes:
    """A batch as one value, which Spark need not take apart."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: pa.BinaryScalar) -> pa.RecordBatch:
    """The batch again, without a copy."""
    return pa.ipc.open_stream(packed.as_buffer()).read_next_batch()
