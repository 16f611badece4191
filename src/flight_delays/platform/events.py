"""Events on Spark: where they come from, what is wrong with them, and the raw rows that they tell.

The one place that says where they come from is `incoming`. Its sources are append-only Delta tables, which Auto Loader,
a pipeline or `flight-delays local replay` fill. Event Hubs and Kafka deliver the same bodies as JSON:

    messages = spark.readStream.format("kafka").options(**options).load()  # docs/streaming.md has the options
    return from_messages(messages)
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from flight_delays.core.errors import UserError
from flight_delays.core.events import Events, problems
from flight_delays.core.quarantine import Contract
from flight_delays.core.use_case import UseCase

_ENVELOPE = {
    "event_id": "string",
    "kind": "string",
    "event_time": "timestamp",
    "sent_at": "timestamp",
    "sequence": "bigint",
}
_WRITTEN = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}  # to the microsecond, as a table keeps it


def told(use_case: UseCase) -> list[tuple[Contract, Events]]:
    """The raw tables that events tell."""
    return [(source.contract, source.events) for source in use_case.sources if source.events]


def incoming(
    spark: SparkSession, schema: str, use_case: UseCase, raw: Mapping[str, StructType], *, max_bytes: str
) -> DataFrame:
    """The stream of all events, as `envelope` makes them; `raw` has the schemas of the raw tables by their events'.

    Columns that are added to a source are ignored. Raises UserError if one that is needed is missing or of another
    type, or if the use case has no events. `max_bytes` (like 16m) bounds a micro-batch.
    """
    streams = [
        # What is deleted from a source, by retention say, was an event all the same.
        envelope(
            spark.readStream.option("maxBytesPerTrigger", max_bytes)
            .option("skipChangeCommits", "true")
            .table(f"{schema}.{events.table}"),
            events.table,
            raw[events.table],
        )
        for _, events in told(use_case)
    ]
    if not streams:
        raise UserError(
            f"{use_case.name} declares no events; give a source of the use case some, or don't run a stream"
        )
    return reduce(DataFrame.unionByName, streams)


def envelope(events: DataFrame, source: str, body: StructType) -> DataFrame:
    """Rows of an event table as `source`, the envelope (event_id to sequence) and `body`, the raw columns as JSON."""
    given = {field.name: field.dataType.simpleString() for field in events.schema}
    needed = _ENVELOPE | {field.name: field.dataType.simpleString() for field in body}
    wrong = [
        f"{name} is {given.get(name, 'missing')}, not {kind}"
        for name, kind in needed.items()
        if given.get(name) != kind
    ]
    if wrong:
        raise UserError(
            f"{source}: column {wrong[0]}; fix the table of events, or the SQL that declares it and the raw table"
        )
    return events.select(
        F.lit(source).alias("source"), *_ENVELOPE, F.to_json(F.struct(*body.names), _WRITTEN).alias("body")
    )


def from_messages(messages: DataFrame) -> DataFrame:
    """The same of Kafka's or Event Hubs' messages: JSON with the envelope's first three fields and a `body`.

    Each partition is a source of its own, with its own order and watermark.
    """
    told = F.from_json(F.col("value").cast("string"), "event_id string, kind string, event_time timestamp, body string")
    return messages.select(
        F.concat_ws("/", "topic", "partition").alias("source"),
        told["event_id"].alias("event_id"),
        told["kind"].alias("kind"),
        told["event_time"].alias("event_time"),
        F.col("timestamp").alias("sent_at"),
        F.col("offset").alias("sequence"),
        F.coalesce(told["body"], F.col("value").cast("string"), F.lit("")).alias("body"),
    )


def with_problems(events: DataFrame, use_case: UseCase, raw: Mapping[str, StructType]) -> DataFrame:
    """`events` with `problems`: why their bodies can't be landed, array<string>."""
    both = {field.name: field for schema in raw.values() for field in schema}
    bodies = events.withColumn("_row", F.from_json("body", StructType([*both.values()]))).select("*", "_row.*")
    schema = StructType([*events.schema, StructField("problems", ArrayType(StringType()))])
    names, declared = events.columns, [one for _, one in told(use_case)]
    rules = [rule for contract, _ in told(use_case) for rule in contract.rules]

    def inspected(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = pa.array(problems(batch.select(["kind", *both]), declared, rules), pa.list_(pa.string()))
            yield pa.RecordBatch.from_arrays([*batch.select(names).columns, found], names=[*names, "problems"])

    return bodies.mapInArrow(inspected, schema)


def rows_told(events: DataFrame, contract: Contract, kinds: Iterable[str], row: StructType) -> DataFrame:
    """Rows of a raw table from events of these kinds, one per key: of each column the last value that is told."""
    bodies = events.where(F.col("kind").isin(*kinds)).select(
        F.struct("sequence", "event_time", "event_id").alias("_order"), F.from_json("body", row).alias("_row")
    )
    bodies = bodies.select("_order", "_row.*")
    others = [name for name in row.names if name not in contract.key]
    last = [F.max_by(name, F.when(F.col(name).isNotNull(), F.col("_order"))).alias(name) for name in others]
    return bodies.groupBy(*contract.key).agg(*last).select(*row.names)
