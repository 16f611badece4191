"""Events on Spark: where they come from, and the raw rows that they tell.

The one place that says where they come from is `incoming`. Its sources are append-only Delta tables, which Auto Loader,
a pipeline or `python -m bench.send_events` fill. Event Hubs and Kafka deliver JSON:

    messages = spark.readStream.format("kafka").options(**options).load()  # docs/streaming.md has the options
    return from_messages(messages, use_case)
"""

from collections.abc import Iterable
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.errors import UserError
from flight_delays.core.events import ORDER
from flight_delays.core.quarantine import Contract
from flight_delays.core.stream import EVENT
from flight_delays.core.use_case import UseCase
from flight_delays.platform.ddl import quoted

_DELIVERED = ("event_id", "kind", "event_time", "sent_at", "sequence")


def bodies(use_case: UseCase) -> pa.Schema:
    """A struct column per raw table that events tell: its columns."""
    return pa.schema([(contract.table, pa.struct(list(contract.schema))) for contract, _ in use_case.told])


def incoming(spark: SparkSession, schema: str, use_case: UseCase, *, max_bytes: str) -> DataFrame:
    """The stream of all events, with the columns of EVENT and `bodies`; `max_bytes` (like 16m) bounds a micro-batch.

    What is inserted into a table of events comes in, whatever else the same commit does; deleted rows (retention) were
    events all the same. Columns that are added to a source are ignored. Raises UserError if one that is needed is
    missing or of another type, or if the use case has no events.
    """
    streams = []
    for contract, events in use_case.told:
        changes = spark.readStream.options(readChangeFeed="true", maxBytesPerTrigger=max_bytes)
        rows = changes.table(quoted(f"{schema}.{events.table}"))
        inserted = rows.where(F.col("_change_type").isin("insert", "update_postimage"))
        streams.append(delivered(inserted, events.table, contract))
    if not streams:
        raise UserError(
            f"{use_case.name} declares no events; give a source of the use case some, or don't run a stream"
        )
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), streams)


def micro_batch(events: DataFrame, use_case: UseCase) -> pa.Table:
    """All of them in memory."""
    schema = pa.schema([*EVENT, *bodies(use_case)])
    return events.select(*schema.names).toArrow().cast(schema).combine_chunks()


def delivered(events: DataFrame, source: str, contract: Contract) -> DataFrame:
    """Rows of an event table as the columns of EVENT and what they say of one raw table."""
    body = from_arrow_schema(contract.schema)
    given = {field.name: field.dataType.simpleString() for field in events.schema}
    for field in [*(field for field in from_arrow_schema(EVENT) if field.name in _DELIVERED), *body]:
        kind = field.dataType.simpleString()
        if given.get(field.name) != kind:
            raise UserError(
                f"{source}: column {field.name} is {given.get(field.name, 'missing')}, not {kind}; fix the table of "
                "events, or the SQL that declares it and the raw table"
            )
    text = F.lit(None).cast("string").alias("message")
    return events.select(F.lit(source).alias("source"), *_DELIVERED, text, F.struct(*body.names).alias(contract.table))


def from_messages(messages: DataFrame, use_case: UseCase) -> DataFrame:
    """The same of Kafka's or Event Hubs' messages: JSON with event_id, kind, event_time, and as `body` the raw columns.

    Each partition is a source of its own, with its own order and watermark.
    """
    text = F.col("value").cast("string")
    envelope = F.from_json(text, "event_id string, kind string, event_time timestamp, body string")
    said = []
    for contract, events in use_case.told:
        columns = F.from_json(envelope["body"], from_arrow_schema(contract.schema))
        said.append(F.when(envelope["kind"].isin(events.names), columns).alias(contract.table))
    return messages.select(
        F.concat_ws("/", "topic", "partition").alias("source"),
        *(envelope[name].alias(name) for name in ("event_id", "kind", "event_time")),
        F.col("timestamp").alias("sent_at"),
        F.col("offset").alias("sequence"),
        F.coalesce(text, F.lit("")).alias("message"),
        *said,
    )


def rows_told(events: DataFrame, contract: Contract, kinds: Iterable[str]) -> DataFrame:
    """Rows of a raw table from rows of stream_events, of these kinds: what the function of core/events.py gives."""
    own = events.where(F.col("kind").isin(*kinds))
    return _last(own.select(F.struct(F.lit(True), *ORDER).alias("_order"), f"{contract.table}.*"), contract)


def completed(rows: DataFrame, told: DataFrame, contract: Contract) -> DataFrame:
    """The columns of `rows`, completed by rows that were told, as the function of core/events.py does."""
    ordered = (part.select(F.struct(F.lit(at)).alias("_order"), *rows.columns) for at, part in enumerate((rows, told)))
    return _last(reduce(DataFrame.unionByName, ordered), contract)


def _last(rows: DataFrame, contract: Contract) -> DataFrame:
    """One row per key, of each column the last value that is not null, in the order of struct `_order`."""
    columns = [name for name in rows.columns if name != "_order"]
    others = [
        F.max_by(name, F.when(F.col(name).isNotNull(), F.col("_order"))).alias(name)
        for name in columns
        if name not in contract.key
    ]
    return rows.groupBy(*contract.key).agg(*others).select(*columns)
