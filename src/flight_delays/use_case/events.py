"""What streams in: events of flights and of weather, and what of the raw tables each of them tells.

`sources` is the one place that says where they come from. The example's are two append-only Delta tables, which
Auto Loader, a pipeline or `flight-delays local replay` fill. Event Hubs and Kafka deliver the same bodies as JSON:

    messages = spark.readStream.format("kafka").options(**options).load()  # docs/streaming.md has the options
    return from_messages(messages)
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from flight_delays.core.columns import Rows, exact, from_arrow
from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import about, broken
from flight_delays.use_case.sources import FLIGHTS
from flight_delays.use_case.sources import WEATHER as WEATHER_ROWS

FLIGHT_EVENTS, WEATHER_EVENTS = "flight_events", "weather_events"
SCHEDULED, DEPARTED, ARRIVED, WEATHER = "scheduled", "departed", "arrived", "weather"
_KINDS = {FLIGHT_EVENTS: (SCHEDULED, DEPARTED, ARRIVED), WEATHER_EVENTS: (WEATHER,)}
_ENVELOPE = {
    "event_id": "string",
    "kind": "string",
    "event_time": "timestamp",
    "sent_at": "timestamp",
    "sequence": "bigint",
}
_WRITTEN = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"}  # to the microsecond, as a table keeps it
# What an event must tell, beside the columns without which its raw row would be refused.
_TOLD = {DEPARTED: ("dep_delay", "departure_known_at"), ARRIVED: ("arr_delay", "air_time", "outcome_known_at")}
_SCHEDULE = (
    *("flight_id", "carrier", "flight", "origin", "dest", "distance", "flight_date"),
    *("sched_dep_ts", "sched_arr_time", "known_at"),
)
_STATION = ("origin", "observed_at", "known_at")


def sources(spark: SparkSession, schema: str, raw: Mapping[str, StructType], *, max_bytes: str) -> DataFrame:
    """The stream of all events, as `envelope` makes them; `raw` has the schemas of the two raw tables.

    Columns that are added to a source are ignored. Raises UserError if one that is needed is missing or of another
    type. `max_bytes` (like 16m) bounds a micro-batch.
    """
    events = [
        # What is deleted from a source, by retention say, was an event all the same.
        envelope(
            spark.readStream.option("maxBytesPerTrigger", max_bytes)
            .option("skipChangeCommits", "true")
            .table(f"{schema}.{source}"),
            source,
            raw[source],
        )
        for source in _KINDS
    ]
    return events[0].unionByName(events[1])


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
        raise UserError(f"{source}: column {wrong[0]}; mend the table of events, or sql/{source}.sql and the raw table")
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


def with_problems(events: DataFrame, raw: Mapping[str, StructType]) -> DataFrame:
    """`events` with `problems`: why their bodies can't be landed, array<string>."""
    both = {field.name: field for schema in raw.values() for field in schema}
    bodies = events.withColumn("_row", F.from_json("body", StructType([*both.values()]))).select("*", "_row.*")
    schema = StructType([*events.schema, StructField("problems", ArrayType(StringType()))])
    names = events.columns

    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = pa.array(problems(batch.select(["kind", *both])), pa.list_(pa.string()))
            yield pa.RecordBatch.from_arrays([*batch.select(names).columns, found], names=[*names, "problems"])

    return bodies.mapInArrow(told, schema)


def problems(bodies: Rows) -> list[list[str]]:
    """Why each body (`kind`, and the columns of all raw tables) can't be landed; by the rules that ingest goes by."""
    found: list[list[str]] = [[] for _ in range(bodies.num_rows)]

    def add(wrong: npt.NDArray[np.bool_], reason: str) -> None:
        for at in np.flatnonzero(wrong):
            found[at].append(reason)

    null = {name: bodies[name].is_null().to_numpy(False) for name in bodies.schema.names}
    large = {}
    for field in bodies.schema:
        if pa.types.is_integer(field.type):
            fits = exact(bodies[field.name])
            large[field.name] = pc.invert(fits.fill_null(True)).to_numpy(False)
            bodies = bodies.set_column(
                bodies.schema.get_field_index(field.name), field, pc.if_else(fits, bodies[field.name], None)
            )
    columns = from_arrow(bodies)
    kind = columns["kind"]
    kinds = [name for names in _KINDS.values() for name in names]
    add(~null["kind"] & ~np.isin(kind, kinds), f"kind is none of {', '.join(kinds)}")
    needed = [(name, ~null["kind"] & (kind != WEATHER)) for name in _SCHEDULE]
    needed += [(name, kind == of) for of, names in _TOLD.items() for name in names]
    needed += [(name, kind == WEATHER) for name in _STATION]
    for name, by in needed:
        add(by & null[name], f"{name} is missing")
    for name, beyond in large.items():
        add(beyond, f"{name} is beyond 2^53")
    for name, values in columns.items():
        if values.dtype.kind == "f" and pa.types.is_floating(bodies.schema.field(name).type):
            add(~null[name] & ~np.isfinite(values), f"{name} is not a number, or infinite")
    for rule in about((*FLIGHTS.rules, *WEATHER_ROWS.rules), bodies.schema.names):
        add(broken(rule, columns), rule.reason)
    return found


def flights(events: DataFrame, row: StructType) -> DataFrame:
    """Rows of raw_flights from events of flights, one per flight: of each column the last value that is told."""
    return _rows(events.where(F.col("kind") != WEATHER), row, ("flight_id",))


def weather(events: DataFrame, row: StructType) -> DataFrame:
    """Rows of raw_weather from events of weather, one per station, hour and time when it was known."""
    return _rows(events.where(F.col("kind") == WEATHER), row, _STATION)


def _rows(events: DataFrame, row: StructType, key: tuple[str, ...]) -> DataFrame:
    told = events.select(
        F.struct("sequence", "event_time", "event_id").alias("_order"), F.from_json("body", row).alias("_row")
    )
    told = told.select("_order", "_row.*")
    others = [name for name in row.names if name not in key]
    last = [F.max_by(name, F.when(F.col(name).isNotNull(), F.col("_order"))).alias(name) for name in others]
    return told.groupBy(*key).agg(*last).select(*row.names)
