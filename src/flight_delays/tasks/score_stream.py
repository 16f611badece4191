"""Score entities as their events come in, micro-batch after micro-batch, each exactly once."""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import AnalysisException, IllegalArgumentException, StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from flight_delays.core import scoring, stream
from flight_delays.core.columns import Columns
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.settings import AVAILABLE_NOW, ScoreStream, StreamStatus
from flight_delays.core.signature import Signature
from flight_delays.core.stream import Memory, Record
from flight_delays.core.use_case import UseCase
from flight_delays.platform import event_source as source
from flight_delays.platform import registry as registries
from flight_delays.platform.context import Adapters
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import load_model, read_scorer
from flight_delays.platform.stream_log import STREAM, DeltaLog
from flight_delays.tasks import publish, stream_control
from flight_delays.tasks.score_batch import champion

_NO_PREDICTIONS = scoring.PREDICTIONS.empty_table()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A version in this process."""

    name: str
    number: int
    signature: Signature
    score: Callable[[Columns], Columns]


def run(adapters: Adapters, settings: ScoreStream) -> None:
    """Process what has come in since the last run (`available_now`), or go on (`10 seconds`: how often) until stopped.

    Raw tables are landed at the end of a run and, in one that goes on, after every `land_every` micro-batches. A newly
    promoted champion scores from the next micro-batch on. Raises UserError if no version is champion, if a
    source has changed its columns, or if events are not in the schema whose raw tables they are landed in.
    """
    if settings.raw_schema.casefold() != adapters.tables.schema.casefold():
        raise UserError(
            f"raw tables are read from {settings.raw_schema}, but events would be landed in {adapters.tables.schema}, "
            "where they have no history; run score_stream where the raw tables are"
        )
    champion(adapters.registry, settings.model_name)
    stop = stream_control.stop_file(settings.checkpoint)
    stop.unlink(missing_ok=True)
    tables, use_case = adapters.tables, adapters.use_case
    try:
        incoming = source.incoming(tables.spark, settings.raw_schema, use_case, max_bytes=settings.max_bytes)
        writer = incoming.writeStream.queryName("score_stream").option("checkpointLocation", settings.checkpoint)
        sink = _Sink(use_case=use_case, settings=settings, schema=tables.schema, uris=registries.uris())
        once = settings.stream_trigger == AVAILABLE_NOW
        when = {"availableNow": True} if once else {"processingTime": settings.stream_trigger}
        query = writer.foreachBatch(sink).trigger(**when).start()
        _until_stopped(query, stop)
    except (AnalysisException, IllegalArgumentException, StreamingQueryException) as error:
        raise UserError(_why(error)) from error
    DeltaLog(use_case=use_case, tables=tables, query=str(query.id), model_name=settings.model_name).land()
    publish.predictions(adapters, online_store=settings.online_store)
    look = StreamStatus(checkpoint=settings.checkpoint, max_lag_seconds=settings.max_lag_seconds)
    adapters.task_values.set("health", stream_control.status(adapters, look))


@dataclass(kw_only=True)
class _Sink:
    """What Spark calls per micro-batch; with Spark Connect in another process, which opens its own adapters.

    It lives as long as one run of the query, and so does its memory.
    """

    use_case: UseCase
    settings: ScoreStream
    schema: str
    uris: registries.Uris
    query: str | None = None
    memory: Memory | None = None

    def __call__(self, events: DataFrame, batch_id: int) -> None:
        memory, self.memory = self.memory, None  # an error in this micro-batch leaves none
        spark, name = events.sparkSession, self.settings.model_name
        if self.query is None:  # the query's own id, which Spark keeps with its checkpoint
            self.query = json.loads(spark.read.text(f"{self.settings.checkpoint}/metadata").collect()[0][0])["id"]
        tables = Tables(spark=spark, schema=self.schema)
        log = DeltaLog(use_case=self.use_case, tables=tables, query=self.query, model_name=name)
        registry = _registry(self.uris)
        memory = process(
            log,
            self.use_case,
            memory,
            source.micro_batch(events, self.use_case),
            batch_id,
            delay=self.settings.delay,
            champion=lambda: champion(registry, name),
            model=partial(_model, self.uris, name),
        )
        if (batch_id + 1) % self.settings.land_every:
            self.memory = memory
        else:
            log.land()  # what is loaded next is what was landed, and what ingest has changed


@lru_cache(1)
def _registry(uris: registries.Uris) -> Registry:
    return registries.connect_to(uris)


@lru_cache(2)
def _model(uris: registries.Uris, name: str, number: int) -> Model:
    scorer = read_scorer(_registry(uris), name, number)
    return Model(name=name, number=number, signature=scorer.signature, score=load_model(scorer).score)


def process(
    log: DeltaLog,
    use_case: UseCase,
    memory: Memory | None,
    events: pa.Table,
    batch_id: int,
    *,
    delay: timedelta,
    champion: Callable[[], int],
    model: Callable[[int], Model],
) -> Memory:
    """One micro-batch, from its events to its predictions; the memory after it.

    Killed anywhere and done again, it ends the same: each append is done once, and what can change meanwhile (champion,
    tables, the watermark's delay) is recorded before it is used. `memory` is that after the micro-batch before, if
    this process has it.
    """
    own, judged = None, None
    if memory is None or memory.batch_id != batch_id - 1:
        memory, own, stored = recall(log, batch_id, delay=delay)
        judged = stored if stored.num_rows else None
    if not events.num_rows:
        return replace(memory, batch_id=batch_id)
    delay = own.delay if own else delay
    with ThreadPoolExecutor(2) as side_by_side:
        writing, recording = list[Future[None]](), Future[Record]()
        if judged is None:
            judged = stream.judge(events, use_case.told, newest=memory.newest, seen=memory.seen, delay=delay)
            writing.append(side_by_side.submit(log.append_events, batch_id, judged))
        newest = stream.newest_after(judged, memory.newest)
        if own is None and newest:
            record = Record(
                batch_id=batch_id,
                model_version=champion(),
                tables=memory.tables,
                landed=memory.landed,
                newest=newest,
                delay=delay,
            )
            recording = side_by_side.submit(log.append_record, record)
        elif own is not None:
            recording.set_result(own)
        else:  # nothing good has ever come in
            for written in writing:
                written.result()
            return replace(memory, batch_id=batch_id)
        # Meanwhile: what features are made of is in memory, or was read before.
        memory, asked = _facts(log, use_case, memory, stream.taken(judged), batch_id, delay)
        features = pa.table({})
        if len(asked) and memory.facts is not None:
            rows = memory.facts[use_case.features.table]
            wanted = rows.filter(pc.is_in(rows[use_case.features.raw(ENTITY)], asked))
            features = use_case.features.build(wanted, memory.facts)
        for written in writing:
            written.result()
        record = recording.result()
    if len(asked) and memory.facts is None:  # too large to be held: read again, this micro-batch's events included
        features = log.features(memory.tables, memory.landed, batch_id, asked)
    predictions, rejects = _NO_PREDICTIONS, scoring.REJECTS.empty_table()
    if features.num_rows:
        predictions, rejects = _scored(model(record.model_version), features, record, log.run_id(batch_id))
        log.append_predictions(batch_id, predictions, rejects)
    return stream.remember(memory, record, judged, scored=predictions[ENTITY].combine_chunks())


def recall(log: DeltaLog, batch_id: int, *, delay: timedelta) -> tuple[Memory, Record | None, pa.Table]:
    """What the log says of the time before a micro-batch, and of this one if it is a replay: record, events judged.

    Until a landing, the tables are read at the versions that the micro-batch before was scored from.
    """
    records, landed = log.records(batch_id), log.landed()
    own = next((record for record in records if record.batch_id == batch_id), None)
    last = next((record for record in records if record.batch_id < batch_id), None)
    chosen = own or (last if last and last.landed == landed else None)
    newest = last.newest if last else {}
    since = stream.watermark(newest, own.delay if own else delay)
    memory = Memory(
        batch_id=batch_id - 1,
        tables=chosen.tables if chosen else log.now(),
        landed=chosen.landed if chosen else landed,
        scored=log.scored(),
        newest=newest,
    )
    if since is not None:
        memory = replace(memory, seen=log.seen(batch_id, since))
    return memory, own, log.events(batch_id)


def _facts(
    log: DeltaLog, use_case: UseCase, memory: Memory, taken: pa.Table, batch_id: int, delay: timedelta
) -> tuple[Memory, pa.Array]:
    """The memory with its facts brought up to date, and who is newly asked for."""
    asked = stream.asking(taken, use_case)
    asked = asked.filter(pc.is_in(asked[ENTITY], stream.without(asked[ENTITY].combine_chunks(), memory.scored)))
    if asked.num_rows:
        first = pc.min(asked[PREDICTION_TIME]).as_py()
        if memory.since is None or memory.since > first:
            since = min(first, stream.watermark(memory.newest, delay) or first) - delay
            facts = log.facts(memory.tables, memory.landed, batch_id, since)
            memory = replace(memory, facts=facts, since=since)
    if memory.facts is not None and batch_id > memory.landed:  # else they hold its events already
        memory = replace(memory, facts=stream.after_events(memory.facts, taken, use_case))
    return memory, asked[ENTITY].combine_chunks()


def _scored(model: Model, features: pa.Table, record: Record, run_id: str) -> tuple[pa.Table, pa.Table]:
    """Rows of predictions, and of raw_rejects for what the version can't score."""
    reasons = scoring.problems(model.signature, features)
    fits = np.array([not reason for reason in reasons])
    good, unfit = features.filter(pa.array(fits)), features.filter(pa.array(~fits))
    why = [reason for reason in reasons if reason]
    rejects = scoring.rejects(unfit, why, model_name=model.name, model_version=model.number, source=STREAM)
    if not good.num_rows:
        return _NO_PREDICTIONS, pa.Table.from_batches([rejects])
    answers = model.score(scoring.inputs_of(model.signature, good))
    made = scoring.predictions(
        good,
        answers,
        model_name=model.name,
        model_version=model.number,
        scored_at=record.as_of,
        source=STREAM,
        run_id=run_id,
    )
    return pa.Table.from_batches([made]), pa.Table.from_batches([rejects])


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
