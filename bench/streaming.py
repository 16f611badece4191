"""The stream under a steady load: `python -m bench.streaming` writes docs/streaming-speed.md.

The champion that `python3 dev.py demo` left. Real events are sent to this project's stream; to the same without
transaction numbers, which a process that is killed, or a second one, can make write twice; and to a straight one:
foreachBatch with the same features and `mlflow.pyfunc.spark_udf`, which appends predictions and does nothing else.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from bench.flights import AS_OF, MODEL, ROOT, SCHEMA, world
from bench.send_events import Disorder, disorder, events_between, send
from bundle_laptop.spark import KIND
from flight_delays.core.markdown import table
from flight_delays.core.settings import AVAILABLE_NOW, ScoreStream
from flight_delays.core.stream import Memory, Record
from flight_delays.platform import registry as registries
from flight_delays.platform.context import Context, open_context
from flight_delays.platform.delta import Tables
from flight_delays.platform.event_source import incoming, micro_batch
from flight_delays.platform.spark_as_of import recent
from flight_delays.platform.stream_log import DeltaLog
from flight_delays.tasks import score_stream
from flight_delays.tasks import tables as tables_task
from flight_delays.use_case import USE_CASE

FEATURES = USE_CASE.features
SCRATCH = "spark_catalog.bench_stream"
START = datetime(2013, 10, 1, 8, tzinfo=UTC)
HISTORY = timedelta(days=30)
WARM = timedelta(hours=2)  # of events, sent one slice after the other before the clock starts
OURS, PLAIN, STRAIGHT = "this project's stream", "the same without transactions", "spark_udf in foreachBatch"
STEPS = ("to Arrow", "events", "record", "the rest", "predictions", "micro-batch")

SOAK = ROOT / ".local" / "soak.json"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--hours", type=float, default=5, help="Of simulated time, sent within these seconds.")
    parser.add_argument("--backlog-hours", type=float, default=100, help="Of simulated time, sent at once.")
    parser.add_argument("--soak", type=int, default=0, help="Do this instead: so many micro-batches.")
    parser.add_argument("--spark", choices=("connect", "classic"), default="connect")
    asked = parser.parse_args()
    os.environ[KIND] = asked.spark
    with world():
        _run(asked)


def _run(asked: argparse.Namespace) -> None:
    context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
    number = context.registry.aliases(MODEL)["champion"]
    if asked.soak:
        _soak(context, asked.soak)
        return
    steady, backlog = dict[str, Run](), dict[str, Run]()
    for found, hours, seconds in ((steady, asked.hours, asked.seconds), (backlog, asked.backlog_hours, 0.0)):
        events = _events(context, hours)
        for name, sink in ((OURS, Ours), (PLAIN, Plain), (STRAIGHT, Straight)):
            run = found[name] = _measure(context, sink, number, events, hours * 3600 / seconds if seconds else 0.0)
            print(
                f"{name}: {run.events} events, {run.seconds:.1f} s, median wait {np.median(run.waits):.1f} s",
                flush=True,
            )
    ours = steady[OURS]
    cores, rate, size = os.cpu_count(), ours.events / asked.seconds, ours.events / max(len(ours.steps), 1)
    latency = table(
        ("what", "scored", "p50 (s)", "p95 (s)", "longest (s)"),
        [
            (name, len(run.waits), *(f"{q:.1f}" for q in np.quantile(run.waits, (0.5, 0.95, 1))))
            for name, run in steady.items()
        ],
    )
    throughput = table(
        ("what", "seconds", "events/s"),
        [(name, f"{run.seconds:.1f}", f"{run.events / run.seconds:,.0f}") for name, run in backlog.items()],
    )
    breakdown = table(
        ("", *STEPS),
        [
            (what, *(f"{median(step.get(name, 0.0) for step in run[OURS].steps):.2f}" for name in STEPS))
            for what, run in (("steady", steady), ("at once", backlog))
        ],
    )
    page = f"""\
# How fast the stream is

Made by `python -m bench.streaming`: real events from 1 October 2013 on, {cores} cores, local Spark ({asked.spark}),
30 days of history, in a stream that has run for a while. {ours.events:,} events sent in {asked.seconds:.0f} s, about
{rate:.0f} a second. From the sending of a scheduled flight to its prediction in the table:

{latency}

{backlog[OURS].events:,} events at once, as after a stop:

{throughput}

The straight one, *{STRAIGHT}*, has the same features; it appends predictions and does nothing else: no duplicates told
apart, no late events, no record, not exactly once.

What a micro-batch of this project's stream is made of, medians in seconds, under the steady load (about {size:.0f}
events each) and for all at once. Events and record are written side by side, and features computed meanwhile.

{breakdown}

Spark's own part, from one micro-batch to the next (offsets, planning, the checkpoint's files): {ours.engine:.2f} s.
{_soaked()}"""
    (ROOT / "docs" / "streaming-speed.md").write_text(page, encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How long each scheduled flight waited, all events together, and the steps of each micro-batch; seconds."""

    events: int
    waits: list[float]
    seconds: float
    steps: list[dict[str, float]]
    engine: float


def _events(context: Context, hours: float) -> dict[str, pd.DataFrame]:
    calm = Disorder(out_of_order=0, duplicated=0, late=0, watermark=timedelta(hours=1), seed=0)
    end = START + WARM + timedelta(hours=hours)
    made = events_between(context.tables, USE_CASE, START, end)
    return {name: disorder(of[of["event_time"] < pd.Timestamp(end)], calm)[0] for name, of in made.items()}


@dataclass(kw_only=True)
class Straight:
    """Features and spark_udf, micro-batch by micro-batch. Like all of them, it writes down when a micro-batch ended."""

    uris: registries.Uris
    number: int
    ended: Path
    tables: type[Tables] = Tables
    steps: dict[str, float] = field(default_factory=dict)

    def __call__(self, events: DataFrame, batch_id: int) -> None:
        """One micro-batch."""
        self.steps = {}
        with self.timed("micro-batch"):
            self.score(self.tables(spark=events.sparkSession, schema=SCRATCH), events, batch_id)
        with self.ended.open("a") as file:
            file.write(json.dumps({"batch": batch_id, "at": time.time(), **self.steps}) + "\n")

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of a step."""
        begun = time.monotonic()
        yield
        self.steps[step] = self.steps.get(step, 0.0) + time.monotonic() - begun

    def score(self, tables: Tables, events: DataFrame, batch_id: int) -> None:
        """Append predictions for the flights that are newly scheduled."""
        registries.connect_to(self.uris)
        flights = events.where("kind = 'scheduled'").select("raw_flights.*").toArrow()
        if not flights.num_rows:
            return
        since = min(flights["known_at"].to_pylist())
        tables_read = {name: tables.read(name).select(*of.columns) for name, of in FEATURES.tables().items()}
        raw = {name: rows.toArrow() for name, rows in recent(FEATURES, tables_read, since).items()}
        told = flights.select(raw["raw_flights"].schema.names).cast(raw["raw_flights"].schema)
        raw["raw_flights"] = pa.concat_tables([raw["raw_flights"], told])
        features = tables.spark.createDataFrame(FEATURES.build(flights, raw))
        udf = mlflow.pyfunc.spark_udf(
            tables.spark, f"models:/{MODEL}/{self.number}", result_type="probability double, prediction long"
        )
        answers = features.select("*", udf(F.struct(*USE_CASE.inputs)).alias("answer"))
        answers.select(
            F.concat("entity_id", F.lit(batch_id)).alias("prediction_id"),
            *("entity_id", "prediction_ts"),
            F.lit(MODEL).alias("model_name"),
            F.lit(self.number).alias("model_version"),
            F.col("prediction_ts").alias("scored_at"),
            F.to_date("prediction_ts").alias("scored_date"),
            "answer.probability",
            F.col("answer.prediction").cast("double").alias("prediction"),
            F.lit(None).cast("double").alias("response_time_ms"),
            F.lit("stream").alias("source"),
            F.lit(f"straight/{batch_id}").alias("run_id"),
        ).write.format("delta").mode("append").saveAsTable(f"{SCRATCH}.predictions")


@dataclass(kw_only=True)
class Ours(Straight):
    """The stream, its steps timed."""

    memory: Memory | None = None

    def score(self, tables: Tables, events: DataFrame, batch_id: int) -> None:
        """Append predictions for the flights that are newly scheduled."""
        with self.timed("to Arrow"):
            rows = micro_batch(events, USE_CASE)
        log = DeltaLog(use_case=USE_CASE, tables=tables, query="bench", model_name=MODEL)
        registry = score_stream._registry(self.uris)
        self.memory = score_stream.process(
            Timed(log=log, timed=self.timed),
            USE_CASE,
            self.memory,
            rows,
            batch_id,
            delay=timedelta(hours=1),
            champion=lambda: registry.aliases(MODEL)["champion"],
            model=partial(score_stream._model, self.uris, MODEL),
        )
        known = sum(self.steps.get(name, 0.0) for name in ("to Arrow", "predictions"))
        written = max(self.steps.get(name, 0.0) for name in ("events", "record"))
        self.steps["the rest"] = time.monotonic() - self.begun - known - written

    def __call__(self, events: DataFrame, batch_id: int) -> None:
        """One micro-batch."""
        self.begun = time.monotonic()
        super().__call__(events, batch_id)


class PlainTables(Tables):
    """Appends that may be done twice."""

    def append_once(
        self,
        table: str,
        rows: DataFrame,
        *,
        writer: str,  # noqa: ARG002
        number: int,  # noqa: ARG002
        tag: str | None = None,
    ) -> None:
        """Append the rows."""
        options = {"userMetadata": tag} if tag else {}
        rows.coalesce(1).write.format("delta").mode("append").options(**options).saveAsTable(f"{self.schema}.{table}")


@dataclass(kw_only=True)
class Plain(Ours):
    """The stream without transaction numbers."""

    tables: type[Tables] = PlainTables


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A log whose appends are timed."""

    log: DeltaLog
    timed: Callable[[str], "contextmanager[None]"]

    def __getattr__(self, name: str) -> object:
        return getattr(self.log, name)

    def append_events(self, batch_id: int, judged: pa.Table) -> None:
        """The log's own."""
        with self.timed("events"):
            self.log.append_events(batch_id, judged)

    def append_record(self, record: Record) -> Record:
        """The log's own."""
        with self.timed("record"):
            return self.log.append_record(record)

    def append_predictions(self, batch_id: int, predictions: pa.Table, rejects: pa.Table) -> None:
        """The log's own."""
        with self.timed("predictions"):
            self.log.append_predictions(batch_id, predictions, rejects)


@dataclass(kw_only=True)
class Soaked(score_stream._Sink):
    """The stream itself, which writes down how long it took and what memory its process holds."""

    ended: Path

    def __call__(self, events: DataFrame, batch_id: int) -> None:
        """Score, and land now and then."""
        begun = time.monotonic()
        super().__call__(events, batch_id)
        (held,) = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
        with self.ended.open("a") as file:
            file.write(json.dumps({"seconds": time.monotonic() - begun, "python": int(held) / 1024}) + "\n")


LOOKED_AT = 50  # micro-batches


def _soak(context: Context, batches: int) -> None:
    """Micro-batches of a few events each; what they took and held is kept in SOAK."""
    tables, folder = _world(context), Path(tempfile.mkdtemp())
    flights = _events(context, 24.0)["flight_events"]
    checkpoint = str(folder / "checkpoint")
    settings = ScoreStream(
        raw_schema=SCRATCH,
        model_name=MODEL,
        checkpoint=checkpoint,
        stream_watermark_minutes=60,
        stream_trigger=AVAILABLE_NOW,
        max_lag_seconds=60,
        online_store=False,
        land_every=100,
    )
    sink = Soaked(use_case=USE_CASE, settings=settings, schema=SCRATCH, uris=registries.uris(), ended=folder / "ended")
    incoming_events = incoming(tables.spark, SCRATCH, USE_CASE, max_bytes="64m")
    query = incoming_events.writeStream.option("checkpointLocation", checkpoint).foreachBatch(sink).start()
    found = list[dict[str, float]]()
    for number in range(batches):
        part = flights.iloc[len(flights) * number // batches : len(flights) * (number + 1) // batches]
        _feed(tables, speed=0.0)({"flight_events": part})
        query.processAllAvailable()
        if (number + 1) % LOOKED_AT == 0:
            lines = [json.loads(line) for line in sink.ended.read_text().splitlines()]
            seconds = median(line["seconds"] for line in lines[-LOOKED_AT:])
            found.append({"batch": len(lines), **lines[-1], "heap": _heap(), "seconds": seconds})
            print(found[-1], flush=True)
    query.stop()
    shutil.rmtree(folder)
    SOAK.write_text(json.dumps({"batches": batches, "land_every": settings.land_every, "found": found}))


def _heap() -> float:
    """MB that this process's JVM still holds after a garbage collection."""
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "java"], capture_output=True, text=True, check=True)  # noqa: S607
    jvm = children.stdout.split()[0]
    subprocess.run(["jcmd", jvm, "GC.run"], capture_output=True, check=True)  # noqa: S607
    told = subprocess.run(["jcmd", jvm, "GC.heap_info"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return sum(int(kilobytes) for kilobytes in re.findall(r"heap .*used (\d+)K", told)) / 1024


def _soaked() -> str:
    """What the page says of the last soak, if there was one."""
    if not SOAK.exists():
        return ""
    told = json.loads(SOAK.read_text())
    rows = [
        (one["batch"], f"{one['python']:,.0f}", f"{one['heap']:,.0f}", f"{one['seconds']:.2f}") for one in told["found"]
    ]
    shown = table(("after micro-batch", "Python (MB)", "heap (MB)", "seconds"), rows)
    return f"""
{told["batches"]} micro-batches one after the other, landed after every {told["land_every"]} (`--soak`): memory that
is held, in MB, of the Python process that works them through and, after a garbage collection, of the JVM's heap; and
seconds per micro-batch, without the landings.

{shown}
"""


def _world(context: Context) -> Tables:
    """All tables anew, with 30 days of history."""
    spark = context.tables.spark
    spark.sql(f"DROP SCHEMA IF EXISTS {SCRATCH} CASCADE")
    spark.sql(f"CREATE SCHEMA {SCRATCH}")
    tables = Tables(spark=spark, schema=SCRATCH)
    tables_task.create(tables, USE_CASE)
    before = (F.col("known_at") >= F.lit(START - HISTORY)) & (F.col("known_at") < F.lit(START))
    for name in ("raw_flights", "raw_weather", "raw_planes"):
        rows = context.tables.read(name)
        rows = rows if name == "raw_planes" else rows.where(before)
        rows.write.format("delta").mode("append").saveAsTable(f"{SCRATCH}.{name}")
    return tables


def _feed(tables: Tables, *, speed: float) -> Callable[[dict[str, pd.DataFrame]], int]:
    def now() -> datetime:
        return datetime.now(UTC)

    return partial(send, tables, speed=speed, every_s=1, clock=now, sleep=time.sleep, progress=lambda _: None)


def _measure(context: Context, sink: type[Straight], number: int, log: dict[str, pd.DataFrame], speed: float) -> Run:
    """Events of the first hours slice by slice, until all is warm; then the others at a speed, or at once."""
    tables = _world(context)
    spark = tables.spark
    folder = Path(tempfile.mkdtemp())
    warm = {name: rows[rows["event_time"] < pd.Timestamp(START + WARM)] for name, rows in log.items()}
    rest = {name: rows[rows["event_time"] >= pd.Timestamp(START + WARM)] for name, rows in log.items()}
    one = sink(uris=registries.uris(), number=number, ended=folder / "ended")
    stream = incoming(spark, SCRATCH, USE_CASE, max_bytes="64m")
    query: StreamingQuery = (
        stream.writeStream.option("checkpointLocation", str(folder / "checkpoint")).foreachBatch(one).start()
    )
    for part in range(12):
        cut = {name: slice(len(rows) * part // 12, len(rows) * (part + 1) // 12) for name, rows in warm.items()}
        _feed(tables, speed=0.0)({name: rows.iloc[cut[name]] for name, rows in warm.items()})
        query.processAllAvailable()
    before = len(one.ended.read_text().splitlines())
    begun = time.time()
    _feed(tables, speed=speed)(rest)
    begun = begun if speed else time.time()  # at once: when all are there
    query.processAllAvailable()
    progress = [dict(of.durationMs) for of in query.recentProgress[-100:] if of.numInputRows][1:]
    query.stop()
    ended = [json.loads(line) for line in one.ended.read_text().splitlines()][before:]
    times = {one["batch"]: one["at"] for one in ended}
    sent = tables.read("flight_events").where("kind = 'scheduled'").select("flight_id", F.col("sent_at").cast("double"))
    batch = F.element_at(F.split("run_id", "/"), -1).cast("long")
    scored = tables.read("predictions").select(F.col("entity_id").alias("flight_id"), batch.alias("batch"))
    rows = sent.join(scored, "flight_id").collect()
    total = sum((of["kind"] == "scheduled").sum() for of in log.values())
    if len(rows) != total:
        raise RuntimeError(f"of {total} scheduled flights {len(rows)} were scored")
    shutil.rmtree(folder)
    return Run(
        events=sum(map(len, rest.values())),
        waits=[times[row["batch"]] - row["sent_at"] for row in rows if row["batch"] in times],
        seconds=max(times.values()) - begun,
        steps=ended,
        engine=median((one["triggerExecution"] - one["addBatch"]) / 1000 for one in progress),
    )


if __name__ == "__main__":
    main()
