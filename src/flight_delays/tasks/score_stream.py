"""Score entities as their events come in, micro-batch after micro-batch, each exactly once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pyspark.errors import AnalysisException, IllegalArgumentException, StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import StructType

from flight_delays.core.errors import UserError
from flight_delays.core.events import by_kind
from flight_delays.core.features import ENTITY, KEY, PREDICTION_TIME
from flight_delays.core.stream import Fate, Progress, sort_out, watermark
from flight_delays.core.use_case import KNOWN_AT, UseCase
from flight_delays.platform import events as source
from flight_delays.platform import registry as registries
from flight_delays.platform.as_of import recent
from flight_delays.platform.context import Context, context_within
from flight_delays.platform.dataset import has_outcome, labels_of
from flight_delays.platform.scorer import Scorer, read_scorer
from flight_delays.platform.tables import Tables, collected
from flight_delays.tasks import precompute, stream_control
from flight_delays.tasks.score_batch import champion, predictions, rejects

SOURCE = "stream"
AVAILABLE_NOW = "available_now"
_TAKEN = (Fate.ON_TIME, Fate.OUT_OF_ORDER)
_SEEN = (*_TAKEN, Fate.DUPLICATE)
_CLEARED_EVERY = 10  # micro-batches


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What is scored, from whose events, and how far behind the newest event the watermark is."""

    model_name: str
    raw_schema: str
    delay: timedelta
    max_bytes: str = "16m"


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """What came in with a micro-batch: how many `of` each fate, the kinds that were `taken`, and times.

    `newest` maps a source to its newest event time so far, `sent_at` is when the oldest of these events was sent.
    """

    of: Mapping[Fate, int]
    taken: frozenset[str]
    newest: Mapping[str, datetime]
    sent_at: datetime | None


def run(
    context: Context, *, stream: Stream, checkpoint: str, trigger: str, max_lag_seconds: float, online_store: bool
) -> None:
    """Process what has come in since the last run (`available_now`), or go on (`10 seconds`: how often) until stopped.

    A newly promoted champion scores from the next micro-batch on. Raises UserError if no version is champion, if a
    source has changed its columns, or if events are not in the schema whose raw tables they are landed in.
    """
    if stream.raw_schema.casefold() != context.tables.schema.casefold():
        raise UserError(
            f"raw tables are read from {stream.raw_schema}, but events would be landed in {context.tables.schema}, "
            "where they have no history; run score_stream where the raw tables are"
        )
    champion(context, stream.model_name)
    schemas = raw_schemas(context.use_case, context.tables)
    stop = stream_control.stop_file(checkpoint)
    stop.unlink(missing_ok=True)
    try:
        incoming = source.incoming(
            context.tables.spark, stream.raw_schema, context.use_case, schemas, max_bytes=stream.max_bytes
        )
        writer = incoming.writeStream.queryName("score_stream").option("checkpointLocation", checkpoint)
        writer = writer.foreachBatch(_each(context, stream, checkpoint))
        available = trigger == AVAILABLE_NOW
        writer = writer.trigger(availableNow=True) if available else writer.trigger(processingTime=trigger)
        _until_stopped(writer.start(), stop)
    except (AnalysisException, IllegalArgumentException, StreamingQueryException) as error:
        raise UserError(_why(error)) from error
    precompute.publish(context, online_store=online_store)
    context.task_values.set("health", stream_control.status(context, checkpoint, max_lag_seconds=max_lag_seconds))


def raw_schemas(use_case: UseCase, tables: Tables) -> dict[str, StructType]:
    """Of each table of events, the columns of the raw table that they are landed in."""
    return {
        events.table: StructType(list(tables.read(contract.table).schema)) for contract, events in source.told(use_case)
    }


def _each(context: Context, stream: Stream, checkpoint: str) -> Callable[[DataFrame, int], None]:
    """What Spark calls per micro-batch. With Spark Connect that is in another process, which opens its own adapters."""
    use_case, schema, unity_catalog = context.use_case, context.tables.schema, context.tables.unity_catalog
    uris = registries.uris()

    def one(events: DataFrame, batch_id: int) -> None:
        tables = Tables(spark=events.sparkSession, schema=schema, unity_catalog=unity_catalog)
        there = context_within(use_case, tables, registries.connect_to(uris))
        query = stream_control.query_id(tables.spark, checkpoint)
        process(there, stream, events, query, batch_id, scorer=partial(_scorer, uris, stream.model_name))

    return one


@lru_cache(2)
def _scorer(uris: registries.Uris, name: str, number: int) -> Scorer:
    return read_scorer(registries.connect_to(uris), name, number)


def _until_stopped(query: StreamingQuery, stop: Path) -> None:
    try:
        while query.isActive and not stop.exists():
            query.awaitTermination(1)
        ended = query.lastProgress
        while query.isActive and query.status["isTriggerActive"] and query.lastProgress == ended:
            time.sleep(0.2)  # what is under way is finished; what has begun since is done again by the next run
        failure = query.exception()
        if failure is not None:
            raise failure
    finally:
        query.stop()
        stop.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    """The one line that a person can act on, of what a streaming query failed with."""
    lines = str(error).splitlines()
    ours = [line.split("UserError: ", 1)[1] for line in lines if "UserError: " in line]
    return ours[-1].strip() if ours else f"the stream failed: {next(iter(lines), type(error).__name__)}"


def process(
    context: Context,
    stream: Stream,
    events: DataFrame,
    query: str,
    batch_id: int,
    *,
    scorer: Callable[[int], Scorer],
    reached: Callable[[str], None] = lambda _: None,
) -> None:
    """One micro-batch, from `events` as platform.events makes them to its row of stream_progress.

    Killed anywhere and done again, it ends the same: each step is done once by a transaction number or by key, and what
    can change meanwhile (champion, tables) is recorded before it is used. `reached` is told the name of each step.
    """
    started, tables = time.monotonic(), context.tables
    of_query = F.col("query_id") == query
    records = tables.read("stream_batches").where(of_query & (F.col("batch_id") <= batch_id))
    newest_first = collected(records.orderBy(F.desc("batch_id")).limit(2))
    record: Mapping[str, Any] | None = next((row for row in newest_first if row["batch_id"] == batch_id), None)
    before = next((row for row in newest_first if row["batch_id"] < batch_id), None)
    newest: Mapping[str, datetime] = before["newest"] if before else {}
    mine = tables.read("stream_state").where(of_query & (F.col("batch_id") == batch_id))
    taken = mine.where(F.col("fate").isin(*_TAKEN))
    schemas = raw_schemas(context.use_case, tables)
    if record is None:
        inspected = source.with_problems(events, context.use_case, schemas)
        _remember(tables, stream, inspected, newest, query, batch_id)
        reached("state")
    counts = _count(mine, newest)
    if record is None:
        _keep_apart(tables, mine, counts, query, batch_id)
        reached("kept apart")
        _land(context, taken, counts.taken, schemas)
        reached("landed")
        if not counts.newest:
            return  # nothing good has ever come in
        record = _record(context, stream, counts, query, batch_id)
        reached("recorded")
    scored = 0
    if _asking(context.use_case) & counts.taken:
        scored = _score(context, taken, schemas, record, scorer, reached)
        precompute.merge(replace(context, as_of=record["as_of"]))
        reached("precomputed")
    _tell(context, stream, counts, record, scored, started)
    reached("told")


def _remember(
    tables: Tables, stream: Stream, events: DataFrame, newest: Mapping[str, datetime], query: str, batch_id: int
) -> None:
    """Append the micro-batch to stream_state, with what becomes of each event."""
    state, of_query = tables.read("stream_state"), F.col("query_id") == query
    seen = state.where(of_query & (F.col("batch_id") < batch_id) & F.col("fate").isin(*_SEEN))
    fates = sort_out(events, seen, newest=newest, delay=stream.delay)
    fates = fates.withColumns({"query_id": F.lit(query), "batch_id": F.lit(batch_id).cast("long")})
    tables.append_once("stream_state", fates, writer=query, number=batch_id)


def _count(mine: DataFrame, newest: Mapping[str, datetime]) -> _Counts:
    rows = collected(
        mine.groupBy("source", "kind", "fate").agg(
            F.count("*").alias("events"), F.max("event_time").alias("newest"), F.min("sent_at").alias("sent_at")
        )
    )
    after = dict(newest)
    for row in rows:
        if row["fate"] != Fate.MALFORMED:
            after[row["source"]] = max(row["newest"], after.get(row["source"], row["newest"]))
    of = {fate: sum(row["events"] for row in rows if row["fate"] == fate) for fate in Fate}
    sent = [row["sent_at"] for row in rows if row["sent_at"] is not None]
    taken = frozenset(row["kind"] for row in rows if row["fate"] in _TAKEN)
    return _Counts(of=of, taken=taken, newest=after, sent_at=min(sent, default=None))


def _keep_apart(tables: Tables, mine: DataFrame, counts: _Counts, query: str, batch_id: int) -> None:
    """Late events to late_events, malformed ones to raw_rejects."""
    if counts.of[Fate.LATE]:
        late = mine.where(F.col("fate") == Fate.LATE).withColumnRenamed("body", "source_row")
        tables.append_once("late_events", late, writer=query, number=batch_id)
    if counts.of[Fate.MALFORMED]:
        malformed = mine.where(F.col("fate") == Fate.MALFORMED).select(
            F.sha2(F.concat_ws("|", "source", "event_id", "sequence", "body"), 256).alias("reject_id"),
            F.col("source").alias("table_name"),
            F.to_json(F.struct("event_id", "kind", "event_time", "sent_at", "sequence", "body")).alias("source_row"),
            "reasons",
        )
        tables.append_new("raw_rejects", malformed.dropDuplicates(["reject_id"]), key=["reject_id"])


def _land(context: Context, taken: DataFrame, kinds: frozenset[str], schemas: Mapping[str, StructType]) -> None:
    """Merge what events of these kinds tell into the raw tables, and outcomes into labels."""
    for contract, events in source.told(context.use_case):
        of_table = {kind.name for kind in events.kinds}
        if not of_table & kinds:
            continue
        rows = source.rows_told(taken, contract, of_table, schemas[events.table])
        context.tables.complete(contract.table, rows, key=contract.key)
        concluded = any(kind.concludes and kind.name in kinds for kind in events.kinds)
        if concluded and contract.table == context.use_case.labels.table:
            labels = labels_of(context.use_case, rows).where(has_outcome())
            context.tables.upsert("labels", labels, key=[ENTITY, KNOWN_AT])


def _asking(use_case: UseCase) -> set[str]:
    """The kinds of events by which rows come to be forecast."""
    return {name for name, kind in by_kind([events for _, events in source.told(use_case)]).items() if kind.asks}


def _read(use_case: UseCase) -> list[str]:
    """The tables that a micro-batch is scored from."""
    return sorted({use_case.features.table, *use_case.features.tables(), "predictions"})


def _record(context: Context, stream: Stream, counts: _Counts, query: str, batch_id: int) -> Mapping[str, Any]:
    """Write down what this micro-batch is to be scored by and from."""
    tables = context.tables
    row = {
        "query_id": query,
        "batch_id": batch_id,
        "model_name": stream.model_name,
        "model_version": champion(context, stream.model_name),
        "table_versions": {table: tables.version(table) for table in _read(context.use_case)},
        "newest": dict(counts.newest),
        "as_of": max(counts.newest.values()),
    }
    tables.append_once("stream_batches", tables.decision("stream_batches", row), writer=query, number=batch_id)
    this = (F.col("query_id") == query) & (F.col("batch_id") == batch_id)
    (record,) = collected(tables.read("stream_batches").where(this))  # whoever came first
    return record


def _score(
    context: Context,
    taken: DataFrame,
    schemas: Mapping[str, StructType],
    record: Mapping[str, Any],
    scorer: Callable[[int], Scorer],
    reached: Callable[[str], None],
) -> int:
    """Add a prediction for each row that is newly asked for and that the stream has none of; how many."""
    tables, as_of, use_case = context.tables, record["as_of"], context.use_case
    asked_of, kinds = use_case.features, _asking(use_case)
    contract, events = next(
        (contract, events) for contract, events in source.told(use_case) if contract.table == asked_of.table
    )
    known = source.rows_told(taken, contract, kinds, schemas[events.table])
    asked = known.select(*(F.col(asked_of.raw(name)).alias(name) for name in KEY))
    (asking,) = collected(asked.agg(F.min(PREDICTION_TIME).alias("since"), F.count("*").alias("rows")))

    def read(table: str) -> DataFrame:
        return tables.read(table, version=record["table_versions"][table])

    streamed = F.col("source") == SOURCE
    done = read("predictions").where(streamed).join(asked.select(ENTITY), ENTITY, "left_semi")
    raw_id = asked_of.raw(ENTITY)
    fresh = asked.join(done, ENTITY, "left_anti").select(F.col(ENTITY).alias(raw_id))
    new = read(asked_of.table).join(fresh, raw_id, "left_semi")
    history = recent(asked_of, {name: read(name) for name in asked_of.tables()}, asking["since"])
    features = tables.spark.createDataFrame(asked_of.build(new.toArrow(), history))
    model = scorer(record["model_version"])
    rows = predictions(features.where(model.fits()), model, as_of=F.lit(as_of), source=SOURCE)
    tables.append_once("predictions", rows, writer=record["query_id"], number=record["batch_id"])
    reached("predicted")
    there = tables.read("predictions").where(streamed & (F.col("scored_date") == F.to_date(F.lit(as_of))))
    scored = there.join(asked, [*KEY], "left_semi").count()
    if scored < asking["rows"]:
        rejected = rejects(features.where(~model.fits()), model, source=SOURCE)
        tables.append_new("raw_rejects", rejected, key=["reject_id"])
    return scored


def _tell(
    context: Context, stream: Stream, counts: _Counts, record: Mapping[str, Any], scored: int, started: float
) -> None:
    """Clear what the watermark has passed out of stream_state, and append to stream_progress."""
    tables, query, batch_id = context.tables, record["query_id"], record["batch_id"]
    if batch_id % _CLEARED_EVERY == 0:
        passed = _passed(counts.newest, stream.delay)
        old = f"query_id = '{query}' AND batch_id < {batch_id} AND (event_time IS NULL OR {passed})"
        tables.spark.sql(f"DELETE FROM {tables.schema}.stream_state WHERE {old}")
    seconds = time.monotonic() - started
    events, now = sum(counts.of.values()), datetime.now(tz=UTC)
    progress = Progress(
        query_id=query,
        batch_id=batch_id,
        model_version=record["model_version"],
        events=events,
        out_of_order=counts.of[Fate.OUT_OF_ORDER],
        duplicates=counts.of[Fate.DUPLICATE],
        late=counts.of[Fate.LATE],
        malformed=counts.of[Fate.MALFORMED],
        scored=scored,
        watermark=watermark(counts.newest, stream.delay),
        state_rows=tables.read("stream_state").where(F.col("query_id") == query).count(),
        input_rows_per_second=events / seconds,
        processing_seconds=seconds,
        lag_seconds=(now - counts.sent_at).total_seconds() if counts.sent_at else 0.0,
    )
    told = tables.decision("stream_progress", asdict(progress))
    tables.append_once("stream_progress", told, writer=query, number=batch_id)


def _passed(newest: Mapping[str, datetime], delay: timedelta) -> str:
    behind = [
        f"(source = '{name}' AND event_time < timestamp'{moment - delay:%Y-%m-%d %H:%M:%S}')"
        for name, moment in newest.items()
    ]
    return "(" + " OR ".join(behind) + ")"
