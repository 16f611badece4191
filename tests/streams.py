"""Real events cut into micro-batches at random, with crashes, promotions and late corrections in between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from random import Random

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.local.replay import Disorder, disorder, events_between
from flight_delays.platform.context import Context
from flight_delays.platform.events import envelope
from flight_delays.platform.scorer import Scorer
from flight_delays.platform.tables import Tables, collected
from flight_delays.tasks.score_stream import Stream, process, raw_schemas
from flight_delays.use_case import USE_CASE

STEPS = ("state", "kept apart", "landed", "recorded", "predicted", "precomputed", "told")
RAW = ("raw_flights", "raw_weather", "raw_planes")
SENT_AT = datetime(2013, 2, 1, tzinfo=UTC)
DELAY = timedelta(hours=1)
EMPTIED = ("raw_flights", "raw_weather", "labels", "predictions", "latest_predictions", "late_events")


class CrashError(Exception):
    """The process is gone."""


def history(tables: Tables, start: datetime, end: datetime) -> dict[str, pd.DataFrame]:
    """The events of real flights and weather known from `start` on and before `end`, in their order."""
    return events_between(tables, USE_CASE, start, end)


def frame(tables: Tables, table: str, rows: pd.DataFrame) -> DataFrame:
    """Rows of an event table."""
    schema = tables.read(table).schema
    columns = pd.DataFrame(rows.assign(sent_at=SENT_AT)[schema.names], copy=True)
    columns.attrs = {}
    return tables.spark.createDataFrame(pa.Table.from_pandas(columns, preserve_index=False), schema)


def micro_batch(tables: Tables, rows: Mapping[str, pd.DataFrame]) -> DataFrame:
    """Rows of both event tables, as the stream gets them."""
    schemas = raw_schemas(USE_CASE, tables)
    made = [envelope(frame(tables, table, of), table, schemas[table]) for table, of in rows.items()]
    return reduce(DataFrame.unionByName, made)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One stream: its micro-batches of disordered events, and what was injected, all from a seed."""

    seed: int
    batches: tuple[dict[str, pd.DataFrame], ...]
    injected: dict[str, int]


def case(events: Mapping[str, pd.DataFrame], seed: int, *, batches: int) -> Case:
    """The events disordered and cut."""
    rng = Random(seed)
    how = Disorder(out_of_order=0.05, duplicated=0.05, late=0.03, watermark=DELAY, seed=seed)
    logs = {table: disorder(rows, how) for table, rows in events.items()}
    cuts = sorted(rng.random() for _ in range(batches - 1))
    parts = []
    for first, last in zip([0.0, *cuts], [*cuts, 1.0], strict=True):
        parts.append(
            {table: log.iloc[int(first * len(log)) : int(last * len(log))] for table, (log, _) in logs.items()}
        )
    injected = {
        name: sum(getattr(found, name) for _, found in logs.values()) for name in ("out_of_order", "duplicated", "late")
    }
    return Case(seed=seed, batches=tuple(parts), injected=injected)


@dataclass(frozen=True, kw_only=True)
class Harness:
    """A schema, a model with versions by number, and what may happen between a crash and the next try."""

    context: Context
    model_name: str
    versions: Mapping[int, Scorer]

    @property
    def stream(self) -> Stream:
        return Stream(model_name=self.model_name, raw_schema=self.context.tables.schema, delay=DELAY)

    def empty(self) -> None:
        """A schema in which nothing has come in."""
        for table in EMPTIED:
            self.context.tables.spark.sql(f"DELETE FROM {self.context.tables.schema}.{table}")

    def promote(self, rng: Random) -> None:
        """Somebody makes another version the champion."""
        self.context.registry.set_alias(self.model_name, "champion", rng.choice([*self.versions]))

    def correct_the_weather(self, rng: Random) -> None:
        """A row of weather is corrected by another job."""
        tables = self.context.tables
        rows = tables.read("raw_weather")
        of_one = rows.where(F.col("observed_at") == rows.agg(F.max("observed_at")).collect()[0][0])
        changed = of_one.withColumn("visib", F.lit(rng.uniform(0, 10)))
        tables.upsert("raw_weather", changed, key=["origin", "observed_at", "known_at"])

    def run(self, query: str, of: Case, crashes: Sequence[str] | None = None) -> int:
        """Process all micro-batches, each crashed first at these steps, or at random ones; how many crashes there were.

        Between a crash and the next try another version may be promoted, and the weather corrected.
        """
        rng, crashed = Random(of.seed), 0
        for number, rows in enumerate(of.batches):
            for step in [*(crashes or rng.sample(STEPS, 2)), None]:
                try:
                    self.attempt(query, number, rows, step)
                except CrashError:
                    crashed += 1
                    self.promote(rng)
                    if rng.random() < 0.5:
                        self.correct_the_weather(rng)
        return crashed

    def attempt(self, query: str, number: int, rows: Mapping[str, pd.DataFrame], crash_at: str | None) -> None:
        """One micro-batch, up to a step after which the process is gone."""

        def reached(step: str) -> None:
            if step == crash_at:
                raise CrashError(step)

        events = micro_batch(self.context.tables, rows)
        scorer = self.versions.__getitem__
        process(self.context, self.stream, events, query, number, scorer=scorer, reached=reached)

    def expected(self, query: str) -> pd.DataFrame:
        """What the batch computes at the recorded versions: entity_id, model_version, probability."""
        tables, found = self.context.tables, []
        taken = tables.read("stream_state").where(
            (F.col("query_id") == query)
            & (F.col("kind") == "scheduled")
            & F.col("fate").isin("on_time", "out_of_order")
        )
        flights = taken.select("batch_id", F.split("event_id", "/")[0].alias("entity_id")).toPandas()
        for record in collected(tables.read("stream_batches").where(F.col("query_id") == query)):
            raw = [tables.read(table, version=record["table_versions"][table]).toArrow() for table in RAW]
            asked = flights.loc[flights["batch_id"] == record["batch_id"], "entity_id"]
            features = USE_CASE.features.build(raw[0], dict(zip(RAW, raw, strict=True))).to_pandas()
            features["sched_dep_ts"] = features["sched_dep_ts"].dt.tz_localize(None)
            features = features[features["entity_id"].isin(asked)]
            if len(features):
                model = self.context.registry.load(self.model_name, record["model_version"])
                answers = model.predict(features[[*USE_CASE.inputs]])
                found.append(
                    features[["entity_id"]].assign(
                        model_version=record["model_version"], probability=answers["probability"]
                    )
                )
        return pd.concat(found).sort_values("entity_id", ignore_index=True)

    def predictions(self) -> pd.DataFrame:
        rows = self.context.tables.read("predictions").where("source = 'stream'")
        return (
            rows.select("entity_id", "model_version", "probability")
            .toPandas()
            .sort_values("entity_id", ignore_index=True)
        )
