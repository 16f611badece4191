"""Runs of the stream from tables of events to landed rows: what one has seen the next does not see again."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema
from tests.contexts import make_context
from tests.streams import SENT_AT, real_day

from flight_delays.core.settings import AVAILABLE_NOW, ScoreStream
from flight_delays.platform.context import Adapters
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry
from flight_delays.tasks import score_stream

SCHEMA = "spark_catalog.running"


@pytest.fixture
def adapters(
    new_tables: Callable[[str], Tables],
    registry: Registry,
    new_version: Callable[..., int],
) -> Adapters:
    """Tables of their own, and a champion."""
    registry.set_alias("running", "champion", new_version("running"))
    return make_context(as_of=SENT_AT, tables=new_tables("running"), registry=registry)


def test_inserts_beside_updates_are_seen_deletes_pass_and_nothing_is_scored_twice(
    adapters: Adapters, tmp_path: Path
) -> None:
    day, tables = real_day(), adapters.tables
    for name, rows in day.raw.items():
        append(tables, name, rows)
    flights = day.events["flight_events"].assign(sequence=range(len(day.events["flight_events"])))
    scheduled = flights[flights["kind"] == "scheduled"]
    new = scheduled.iloc[[-1]]
    append(tables, "flight_events", event_rows(tables, flights.drop(new.index)))

    run(adapters, tmp_path)
    assert scored(tables) == {*scheduled["flight_id"]} - {*new["flight_id"]}
    landed = tables.read("raw_flights").count()
    assert landed == len({*day.raw["raw_flights"]["flight_id"].to_pylist(), *flights.drop(new.index)["flight_id"]})

    # One event is sent again and a new one comes, by one commit.
    come = event_rows(tables, pd.concat([scheduled.iloc[[-2]], new]))
    tables.spark.createDataFrame(come).createOrReplaceTempView("come")
    tables.spark.sql(
        f"MERGE INTO {tables.name('flight_events')} AS there USING come ON there.event_id = come.event_id "
        "WHEN MATCHED THEN UPDATE SET sent_at = come.sent_at WHEN NOT MATCHED THEN INSERT *"
    )
    run(adapters, tmp_path)
    assert scored(tables) == {*scheduled["flight_id"]}
    assert tables.read("raw_flights").count() == landed + 1
    fates = {row["fate"]: row["count"] for row in tables.read("stream_events").groupBy("fate").count().collect()}
    assert (fates.pop("duplicate"), sum(fates.values())) == (1, len(flights))

    # What is old is deleted; it was an event all the same.
    tables.spark.sql(f"DELETE FROM {tables.name('flight_events')} WHERE sequence < 100")
    run(adapters, tmp_path)
    assert scored(tables) == {*scheduled["flight_id"]}
    assert tables.read("stream_events").count() == len(flights) + 1


def run(adapters: Adapters, folder: Path) -> None:
    settings = ScoreStream(
        raw_schema=SCHEMA,
        model_name="running",
        checkpoint=str(folder / "checkpoint"),
        stream_watermark_minutes=60,
        stream_trigger=AVAILABLE_NOW,
        max_lag_seconds=60,
        online_store=False,
    )
    score_stream.run(adapters, settings)


def event_rows(tables: Tables, rows: pd.DataFrame) -> pa.Table:
    schema = to_arrow_schema(tables.read("flight_events").schema)
    return pa.Table.from_pandas(pd.DataFrame(rows.assign(sent_at=SENT_AT)[schema.names]), schema, preserve_index=False)


def append(tables: Tables, table: str, rows: pa.Table) -> None:
    tables.spark.createDataFrame(rows).write.format("delta").mode("append").saveAsTable(tables.name(table))


def scored(tables: Tables) -> set[str]:
    ids = [row["entity_id"] for row in tables.read("predictions").select("entity_id").collect()]
    assert len(ids) == len({*ids})
    return {*ids}
