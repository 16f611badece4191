"""SIGKILL in the middle of each job; run again, it ends with the rows of a run that nobody disturbed."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from tests.worlds import World, assert_same_rows, contents, kill, make_world

PATIENCE_S = 600


@pytest.fixture(scope="module")
def undisturbed(world: World, spark: SparkSession) -> dict[str, pd.DataFrame]:  # noqa: ARG001
    """The tables of a world in which every job ran to its end: one PASS, of version 1, and nothing asked of it."""
    tables = contents(spark)
    kept = {"decisions": "outcome != 'FAIL'", "predictions": "source == 'batch'"}
    return {**tables, **{name: tables[name].query(rows).reset_index(drop=True) for name, rows in kept.items()}}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("killed"))


def test_jobs_killed_in_their_middle_and_run_again_end_with_the_same_rows(
    killed: World, spark: SparkSession, undisturbed: dict[str, pd.DataFrame]
) -> None:
    warehouse = killed.warehouse

    # In ingest: the flights are landed, the aircraft are not.
    kill_when(killed, lambda: commits(warehouse / "raw_flights") >= 2, "features")
    assert commits(warehouse / "raw_planes") == 1

    # In release, which train runs: the version is registered and judged, and not yet deployed.
    kill_when(killed, lambda: commits(warehouse / "decisions") >= 3, "features", "train")
    assert commits(warehouse / "decisions") == 3

    # In score_batch: the predictions are written, the table is not yet compacted.
    kill_when(killed, lambda: commits(warehouse / "predictions") >= 4, "train", "score_batch")

    with killed.started("score_batch") as process:
        assert process.wait(PATIENCE_S) == 0, (killed.root / "log.txt").read_text()[-3000:]
    assert versions(killed) == 1
    assert_same_rows(contents(spark, warehouse), undisturbed)


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


def versions(world: World) -> int:
    """Number of registered versions."""
    file = world.root / ".local" / "dev" / "mlflow.db"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM model_versions").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_stream_killed_twice_scores_every_flight_once_and_as_the_batch_did(
    killed: World, spark: SparkSession
) -> None:
    """A morning of February, whose flights the batch has scored from complete tables; nothing is out of order."""
    warehouse = killed.warehouse
    if not versions(killed):
        with killed.started("features", "train", "score_batch") as process:
            assert process.wait(PATIENCE_S) == 0, (killed.root / "log.txt").read_text()[-3000:]
    with killed.sending("2013-02-20T11:00", "2013-02-20T16:00") as process:
        assert process.wait(PATIENCE_S) == 0, (killed.root / "log.txt").read_text()[-3000:]

    # The micro-batch is judged or recorded, and nothing is scored; then: it is scored, and nothing is landed.
    written = [warehouse / "stream_events", warehouse / "runs"]
    before = [commits(table) for table in written]
    kill_when(killed, lambda: [commits(table) for table in written] != before, "score_stream")
    assert not scored(spark, warehouse, "stream")
    predicted = commits(warehouse / "predictions")
    kill_when(killed, lambda: commits(warehouse / "predictions") > predicted, "score_stream")

    with killed.started("score_stream") as process:
        assert process.wait(PATIENCE_S) == 0, (killed.root / "log.txt").read_text()[-3000:]
    streamed = scored(spark, warehouse, "stream")
    assert len(streamed) > 100
    batch = scored(spark, warehouse, "batch")
    assert {key: batch[key] for key in streamed} == pytest.approx(streamed, rel=0, abs=1e-9)
    events = spark.read.format("delta").load(str(warehouse / "stream_events")).where("kind = 'scheduled'").toPandas()
    assert not events[["source", "sequence"]].duplicated().any()
    assert len(events) == len(streamed)


def scored(spark: SparkSession, warehouse: Path, source: str) -> dict[tuple[str, int], float]:
    """Entity and version to probability; a second prediction would be a second row."""
    rows = spark.read.format("delta").load(str(warehouse / "predictions")).where(f"source = '{source}'").toPandas()
    assert not rows[["entity_id", "prediction_ts", "model_version"]].duplicated().any()
    keys = zip(rows["entity_id"], rows["model_version"], strict=True)
    return dict(zip(keys, rows["probability"], strict=True))
