"""The stream under a steady load: `python -m bench.streaming` writes docs/streaming-speed.md.

The champion that `python3 dev.py demo` left. A day's events are sent at a steady pace, first to this project's stream,
then to a straight one: foreachBatch with the same features and `mlflow.pyfunc.spark_udf`, which appends predictions and
does nothing else (no duplicates, no late events, no landing, no record, not exactly once).
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import mlflow
import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from bench.flights import AS_OF, ROOT, SCHEMA
from flight_delays.core.markdown import table
from flight_delays.local.send_events import Disorder, disorder, events_between, send
from flight_delays.local.world import local_dir
from flight_delays.platform.as_of import recent
from flight_delays.platform.context import Context, open_context
from flight_delays.platform.events import incoming, rows_told
from flight_delays.platform.runtime import LOCAL_DIR, LOCAL_SPARK
from flight_delays.platform.scorer import read_scorer
from flight_delays.platform.tables import Tables, collected
from flight_delays.tasks.score_stream import Stream, process, raw_schemas
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.sources import FLIGHTS

FEATURES = USE_CASE.features
MODEL = f"{SCHEMA}.dev_local_delay"
SCRATCH = "spark_catalog.bench_stream"
START = datetime(2013, 10, 1, 8, tzinfo=UTC)
HISTORY = timedelta(days=30)
OURS, STRAIGHT = "this project's stream", "spark_udf in foreachBatch"

PAGE = """\
# How fast the stream is

Made by `python -m bench.streaming`: real events of 1 October 2013, {events:,} of them sent to each in {seconds:.0f} s
(about {rate:.0f} a second), {cores} cores, local Spark, 30 days of history. From the sending of a scheduled flight to
its prediction in the table:

{latency}

The straight one, *{straight}*, has the same features; it appends predictions and does nothing
else: no duplicates told apart, no late events, nothing landed, no record, not exactly once.

All {backlog:,} events at once, as after a stop:

{throughput}

A micro-batch costs seconds, most of them planning and commits, however few its events are; many events at once cost
little more. The smallest lag that this stream reaches here is that of one and a half micro-batches.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--hours", type=float, default=6, help="Of simulated time.")
    asked = parser.parse_args()
    os.environ.setdefault(LOCAL_DIR, str(local_dir(ROOT, "dev")))
    os.environ[LOCAL_SPARK] = "classic"  # spark_udf does not take a local Spark Connect session
    context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
    number = context.registry.aliases(MODEL)["champion"]
    end = START + timedelta(hours=asked.hours)
    calm = Disorder(out_of_order=0, duplicated=0, late=0, watermark=timedelta(hours=1), seed=0)
    made = events_between(context.tables, USE_CASE, START, end)
    log = {name: disorder(of[of["event_time"] < pd.Timestamp(end)], calm)[0] for name, of in made.items()}
    events = sum(map(len, log.values()))
    steady, backlog = {}, {}
    for name, each in ((OURS, _ours(number)), (STRAIGHT, _straight(number))):
        _measure(context, each, log, 0)  # a new process plans its first queries slowly
        for speed, found in ((0.0, backlog), (asked.hours * 3600 / asked.seconds, steady)):
            waits, seconds = found[name] = _measure(context, each, log, speed)
            print(f"{name}: {events} events in {seconds:.1f} s, median wait {np.median(waits):.1f} s", flush=True)
    page = PAGE.format(
        events=events,
        seconds=asked.seconds,
        rate=events / asked.seconds,
        cores=os.cpu_count(),
        straight=STRAIGHT,
        backlog=events,
        latency=table(
            ("what", "scored", "p50 (s)", "p95 (s)"),
            [
                (name, len(waits), *(f"{q:.1f}" for q in np.quantile(waits, (0.5, 0.95))))
                for name, (waits, _) in steady.items()
            ],
        ),
        throughput=table(
            ("what", "seconds", "events/s"),
            [(name, f"{seconds:.1f}", f"{events / seconds:,.0f}") for name, (_, seconds) in backlog.items()],
        ),
    )
    (ROOT / "docs" / "streaming-speed.md").write_text(page, encoding="utf-8")


Each = Callable[[Context], Callable[[DataFrame, int], None]]


def _measure(context: Context, each: Each, log: dict[str, pd.DataFrame], speed: float) -> tuple[list[float], float]:
    """How long each scheduled flight waited, and how long it took from the first event to the last prediction."""
    spark = context.tables.spark
    spark.sql(f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
    spark.sql(f"CREATE SCHEMA {SCRATCH}")
    tables = Tables(spark=spark, schema=SCRATCH, unity_catalog=False)
    tables.apply_ddl(USE_CASE.sql)
    recent = (F.col("known_at") >= F.lit(START - HISTORY)) & (F.col("known_at") < F.lit(START))
    for name in ("raw_flights", "raw_weather", "raw_planes"):
        rows = context.tables.read(name)
        rows = rows if name == "raw_planes" else rows.where(recent)
        rows.write.format("delta").mode("append").saveAsTable(f"{SCRATCH}.{name}")
    there = replace(context, tables=tables)
    total = sum((of["kind"] == "scheduled").sum() for of in log.values())
    folder = Path(tempfile.mkdtemp())

    def feed() -> None:
        send(tables, log, speed=speed, every_s=1, clock=lambda: datetime.now(UTC), sleep=time.sleep, progress=str)

    stream = incoming(spark, SCRATCH, USE_CASE, raw_schemas(USE_CASE, tables), max_bytes="64m")
    ended: dict[int, float] = {}
    one = each(there)

    def timed(events: DataFrame, batch_id: int) -> None:
        one(events, batch_id)
        ended[batch_id] = time.time()

    if not speed:
        feed()
    begun = time.time()
    query: StreamingQuery = (
        stream.writeStream.option("checkpointLocation", str(folder / "checkpoint")).foreachBatch(timed).start()
    )
    sender = Thread(target=feed) if speed else None
    if sender:
        sender.start()
        sender.join()
    query.processAllAvailable()
    query.stop()
    shutil.rmtree(folder)
    if tables.read("predictions").count() != total:
        raise RuntimeError(f"not every one of {total} scheduled flights was scored once")
    return _waits(tables, ended), max(ended.values()) - begun


def _waits(tables: Tables, ended: dict[int, float]) -> list[float]:
    """From the sending of each scheduled flight to the end of its micro-batch."""
    state = tables.read("stream_state").where("kind = 'scheduled'")
    return [ended[row[0]] - row[1] for row in state.select("batch_id", F.col("sent_at").cast("double")).collect()]


def _ours(number: int) -> Each:
    def each(context: Context) -> Callable[[DataFrame, int], None]:
        stream = Stream(model_name=MODEL, raw_schema=SCRATCH, delay=timedelta(hours=1))
        scorer = read_scorer(context.registry, MODEL, number)

        def one(events: DataFrame, batch_id: int) -> None:
            process(context, stream, events, "bench", batch_id, scorer=lambda _: scorer)

        return one

    return each


def _straight(number: int) -> Each:
    def each(context: Context) -> Callable[[DataFrame, int], None]:
        tables = context.tables
        schemas = raw_schemas(USE_CASE, tables)
        udf = mlflow.pyfunc.spark_udf(
            tables.spark, f"models:/{MODEL}/{number}", result_type="probability double, prediction long"
        )

        def one(events: DataFrame, batch_id: int) -> None:
            scheduled = events.where("kind = 'scheduled'")
            flights = rows_told(scheduled, FLIGHTS, ["scheduled"], schemas["flight_events"])
            (first,) = collected(flights.agg(F.min("known_at").alias("known_at")))
            since = first["known_at"]
            if since is None:
                return
            raw = {name: tables.read(name) for name in FEATURES.tables()}
            raw["raw_flights"] = raw["raw_flights"].unionByName(flights)
            built = FEATURES.build(flights.toArrow(), recent(FEATURES, raw, since))
            features = tables.spark.createDataFrame(built)
            answers = features.select("*", udf(F.struct(*USE_CASE.inputs)).alias("answer"))
            answers.select(
                F.concat("entity_id", F.lit(batch_id)).alias("prediction_id"),
                *("entity_id", "prediction_ts"),
                F.lit(MODEL).alias("model_name"),
                F.lit(number).alias("model_version"),
                F.col("prediction_ts").alias("scored_at"),
                F.to_date("prediction_ts").alias("scored_date"),
                "answer.probability",
                F.col("answer.prediction").cast("double").alias("prediction"),
                F.lit(None).cast("double").alias("response_time_ms"),
                F.lit("stream").alias("source"),
            ).write.format("delta").mode("append").saveAsTable(f"{SCRATCH}.predictions")
            # Only for this measurement: which micro-batch an event came with.
            told = scheduled.select(
                "source", "event_id", "kind", "event_time", "sent_at", "sequence", "body"
            ).withColumns(
                {
                    "query_id": F.lit("straight"),
                    "batch_id": F.lit(batch_id).cast("long"),
                    "fate": F.lit("on_time"),
                    "watermark": F.lit(None).cast("timestamp"),
                    "reasons": F.array().cast("array<string>"),
                }
            )
            tables.append_once("stream_state", told, writer="straight", number=batch_id)

        return one

    return each


if __name__ == "__main__":
    main()
