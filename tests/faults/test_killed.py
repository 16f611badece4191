"""SIGKILL of a process in the middle of a job, and of a stream; each write on its own: the other files here."""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from tests.worlds import SCHEMA, World, contents, kill, make_world, of_the_session, warehouse_of

PATIENCE_S = 600


RAW = ("raw_flights", "raw_weather", "raw_planes", "raw_rejects", "features", "labels")


def test_a_job_killed_in_its_middle_and_run_again_ends_with_the_same_rows(
    world: World,  # noqa: ARG001
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    """In ingest: the flights are landed, the aircraft are not."""
    killed = make_world(tmp_path)
    kill_when(killed, lambda: commits(killed.warehouse / "raw_flights") >= 2, "features")
    assert commits(killed.warehouse / "raw_planes") == 1
    run(killed, "features")
    found, expected = contents(partial(killed.read, spark)), contents(of_the_session(spark))
    for table in RAW:
        pd.testing.assert_frame_equal(found[table], expected[table], check_exact=True, obj=table)


def test_a_stream_killed_in_a_micro_batch_scores_every_flight_once_and_as_the_batch_did(
    world: World, spark: SparkSession, tmp_path: Path
) -> None:
    """A morning of February, whose flights the batch has scored from complete tables; nothing is out of order."""
    killed = make_world(tmp_path)
    shutil.copytree(warehouse_of(spark) / f"{SCHEMA}.db", killed.warehouse)
    shutil.copy(world.root / ".local" / "dev" / "mlflow.db", killed.root / ".local" / "dev")
    with killed.sending("2013-02-20T11:00", "2013-02-20T16:00") as process:
        assert process.wait(PATIENCE_S) == 0, (killed.root / "log.txt").read_text()[-3000:]

    # The micro-batch is judged or recorded, and nothing is scored.
    written = [killed.warehouse / table for table in ("stream_events", "runs")]
    before = [commits(table) for table in written]
    kill_when(killed, lambda: [commits(table) for table in written] != before, "score_stream")
    assert not scored(killed, spark, "stream")

    run(killed, "score_stream")
    streamed = scored(killed, spark, "stream")
    assert len(streamed) > 100
    batch = scored(killed, spark, "batch")
    assert {key: batch[key] for key in streamed} == pytest.approx(streamed, rel=0, abs=1e-9)
    events = killed.read(spark, "stream_events").where("kind = 'scheduled'").toPandas()
    assert not events[["source", "sequence"]].duplicated().any()
    assert len(events) == len(streamed)


def run(world: World, *jobs: str) -> None:
    """Run jobs to their end."""
    with world.started(*jobs) as process:
        assert process.wait(PATIENCE_S) == 0, (world.root / "log.txt").read_text()[-3000:]


def kill_when(world: World, moment: Callable[[], bool], *jobs: str) -> None:
    """Start jobs and kill them, whatever they are doing, as soon as the moment has come."""
    with world.started(*jobs) as process:
        until = time.monotonic() + PATIENCE_S
        while not moment():
            assert process.poll() is None, (world.root / "log.txt").read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.02)
        kill(process)
        assert process.returncode == -9


def commits(table: Path) -> int:
    """Number of versions of a Delta table."""
    return len(list((table / "_delta_log").glob("*.json")))


def scored(world: World, spark: SparkSession, source: str) -> dict[tuple[str, int], float]:
    """Entity and version to probability; a second prediction would be a second row."""
    rows = world.read(spark, "predictions").where(f"source = '{source}'").toPandas()
    assert not rows[["entity_id", "prediction_ts", "model_version"]].duplicated().any()
    keys = zip(rows["entity_id"], rows["model_version"], strict=True)
    return dict(zip(keys, rows["probability"], strict=True))
