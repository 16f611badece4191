"""The stream on Delta tables, crashed at every write, with all that may happen meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from tests.faults.seams import KilledError, Killer
from tests.raw import Raw
from tests.streams import (
    EVERY_CRASH,
    Case,
    CrashError,
    Day,
    Found,
    World,
    case,
    crashes,
    expected,
    made_up_model,
    real_day,
)
from tests.worlds import dropped

from flight_delays.core.errors import UserError
from flight_delays.core.scoring import PREDICTIONS, REJECTS
from flight_delays.core.stream import TAKEN, TableVersion
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.stream_log import DeltaLog
from flight_delays.tasks import tables as tables_task
from flight_delays.use_case import USE_CASE

EMPTIED = ("raw_flights", "raw_weather", "raw_planes", "labels", "predictions")


@pytest.fixture(scope="module")
def day() -> Day:
    return real_day()


@pytest.fixture(scope="module")
def tables(new_tables: Callable[[str], Tables]) -> Tables:
    return new_tables("streamed")


@pytest.fixture
def before(tables: Tables, day: Day) -> Tables:
    """The raw tables as they are before the events."""
    for name in EMPTIED:
        tables.spark.sql(f"DELETE FROM {tables.schema}.{name}")
    for name, rows in day.raw.items():
        tables.spark.createDataFrame(rows).write.format("delta").mode("append").saveAsTable(f"{tables.schema}.{name}")
    return tables


def log_of(tables: Tables, query: str, **options: int) -> DeltaLog:
    return DeltaLog(use_case=USE_CASE, tables=tables, query=query, model_name="model", **options)


def found(tables: Tables) -> Found:
    rows = collected(tables.read("predictions").where("source = 'stream'"))
    assert len({row["entity_id"] for row in rows}) == len(rows)
    return {(row["entity_id"], row["model_version"]): row["probability"] for row in rows}


def should_be(log: DeltaLog, of: Case) -> Found:
    def raw_at(versions: Mapping[str, TableVersion]) -> Raw:
        read = log.tables.read
        raw = {name: read(name, version=one.version).toArrow() for name, one in versions.items()}
        return {name: rows.cast(USE_CASE.contract(name).schema) for name, rows in raw.items()}

    records = [record for number in range(len(of.batches)) for record in log.records(number)[:1]]
    return expected([*{one.batch_id: one for one in records}.values()], raw_at, of.batches, made_up_model)


def correct_the_weather(tables: Tables) -> None:
    """As ingest may at any time."""
    tables.spark.sql(f"UPDATE {tables.schema}.raw_weather SET visib = visib / 2 WHERE origin = 'JFK'")


def counted(tables: Tables, query: str) -> dict[str, int]:
    """What the view of a stream's progress says."""
    (row,) = collected(
        tables.read("stream_progress")
        .where(f"query_id = '{query}'")
        .selectExpr(
            "sum(out_of_order) out_of_order", "sum(duplicates) duplicated", "sum(late) late", "sum(scored) scored"
        )
    )
    return row


def test_crashed_before_and_after_every_write_the_stream_ends_with_the_batch_result_at_the_recorded_versions(
    before: Tables, day: Day
) -> None:
    this, log = case(day.events, 1, batches=len(EVERY_CRASH)), log_of(before, "every write")
    world = World(log=log)
    for number, (events, crash) in enumerate(zip(this.batches, EVERY_CRASH, strict=True)):
        with pytest.raises(CrashError):
            world.attempt(number, events, crash)
        world.champion += 1
        correct_the_weather(before)
        world.attempt(number, events)
    streamed = found(before)
    assert streamed == pytest.approx(should_be(log, this), rel=0, abs=1e-9)
    assert counted(before, "every write") == {**this.injected, "scored": len(streamed)}


def test_random_streams_end_with_the_batch_result_too(before: Tables, day: Day, pytestconfig: pytest.Config) -> None:
    cases, first = (int(pytestconfig.getoption(name)) for name in ("--stream-cases", "--stream-seed"))
    for seed in range(first, first + cases):
        rng, query = Random(seed), f"random {seed}"
        this = case(day.events, seed, batches=rng.randrange(1, 4))
        log = log_of(before, query, **({} if rng.random() < 0.7 else {"bound": 3_000_000}))
        world = World(log=log)
        before.spark.sql(f"DELETE FROM {before.schema}.predictions")
        for number, events in enumerate(this.batches):
            for crash in crashes(rng):
                try:
                    world.attempt(number, events, crash)
                    break
                except CrashError:
                    world.champion = rng.randrange(1, 9)
                    if rng.random() < 0.3:
                        correct_the_weather(before)
            if rng.random() < 0.3:
                log.land()
                world.memory = None
        assert found(before) == pytest.approx(should_be(log, this), rel=0, abs=1e-9), f"seed {seed}"


def test_of_two_writers_of_a_micro_batch_the_first_stands(before: Tables, day: Day) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    one, other = log_of(before, "two writers"), log_of(before, "two writers")
    World(log=one, champion=1).attempt(0, events)
    (record,) = one.records(0)
    assert other.append_record(replace(record, model_version=2)) == record
    other.append_events(0, one.events(0).slice(0, 1))
    predictions = before.read("predictions").where("source = 'stream'")
    (row,) = predictions.limit(1).toArrow().to_pylist()
    again = pa.Table.from_pylist([{**row, "model_version": 2}], PREDICTIONS)
    other.append_predictions(0, again, REJECTS.empty_table())
    assert one.events(0).num_rows == events.num_rows
    assert predictions.where("model_version <> 1").count() == 0


def test_what_a_micro_batch_was_to_be_scored_from_is_the_same_table_at_the_same_version_or_the_stream_stops(
    before: Tables, day: Day
) -> None:
    events, later = case(day.events, 1, batches=2).batches
    spark, log = before.spark, log_of(before, "gone")
    World(log=log).attempt(0, events)
    scored = found(before)
    correct_the_weather(before)
    conf = "spark.databricks.delta.retentionDurationCheck.enabled"
    spark.conf.set(conf, "false")
    spark.sql(f"VACUUM {before.schema}.raw_weather RETAIN 0 HOURS")
    spark.conf.set(conf, "true")
    with pytest.raises(
        UserError, match=r"is gone \(.*raw_weather at version \d+.*\): vacuumed; flight-delays stream re"
    ):
        World(log=log).attempt(1, later)
    spark.sql(f"CREATE TABLE {before.schema}.copied USING delta AS SELECT * FROM {before.schema}.raw_weather")
    dropped(before, "raw_weather")
    tables_task.create(before, USE_CASE)
    spark.sql(f"INSERT INTO {before.schema}.raw_weather SELECT * FROM {before.schema}.copied")
    with pytest.raises(UserError, match=r"raw_weather was recreated since the stream read it; flight-delays stream re"):
        World(log=log).attempt(1, later)
    assert found(before) == scored
    World(log=log_of(before, "after the reset")).attempt(0, later)


def test_a_landing_killed_before_each_write_lands_what_was_taken_and_forgets_it_in_time(
    before: Tables, day: Day
) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    log, world = log_of(before, "landed"), World(log=log_of(before, "landed"))
    world.attempt(0, events)
    taken = [one for one in log.events(0).to_pylist() if one["fate"] in TAKEN]
    arrived = {one["raw_flights"]["flight_id"] for one in taken if one["kind"] == "arrived"}
    killed = []
    for number in range(1, 5):
        killer = Killer(lambda writes, number=number: len(writes) == number)
        with pytest.raises(KilledError) as raised:
            log_of(killer.of_tables(before), "landed").land()
        killed.append(str(raised.value))
    assert killed == ["complete raw_flights", "upsert labels", "complete raw_weather", "append_once runs"]
    for _ in range(2):
        log.land()
        assert log.landed() == 0
        assert before.read("raw_flights").count() == day.raw["raw_flights"].num_rows + new_flights(day, taken)
        assert {row["entity_id"] for row in collected(before.read("labels"))} == arrived
    # Two months later nothing can need it: only what came since is kept.
    moved_on = {name: moved(rows, timedelta(days=60)) for name, rows in day.events.items()}
    (much_later,) = case(moved_on, 1, batches=1).batches
    World(log=log).attempt(1, much_later)
    log.land()
    assert (log.landed(), log.events(0).num_rows, log.events(1).num_rows) == (1, 0, events.num_rows)


def new_flights(day: Day, taken: list[dict[str, Any]]) -> int:
    told = {one["raw_flights"]["flight_id"] for one in taken if one["raw_flights"]}
    return len(told - {*day.raw["raw_flights"]["flight_id"].to_pylist()})


def moved(rows: pd.DataFrame, by: timedelta) -> pd.DataFrame:
    """The same events at another time."""
    times = [name for name in rows if isinstance(rows[name].dtype, pd.DatetimeTZDtype)]
    return rows.assign(**{name: rows[name] + by for name in times})
