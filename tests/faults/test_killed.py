"""SIGKILL of a process in the middle of a job, and of a stream; each write on its own: the other files here."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from tests.worlds import World, assert_same_rows, contents, kill, make_world, of_the_session

PATIENCE_S = 600


@pytest.fixture(scope="module")
def undisturbed(world: World, spark: SparkSession) -> dict[str, pd.DataFrame]:  # noqa: ARG001
    """The tables of a world in which every job ran to its end: one PASS, of version 1, and nothing asked of it."""
    tables = contents(of_the_session(spark))
    kept = {"decisions": "outcome != 'FAIL'", "predictions": "source == 'batch'"}
    return {**tables, **{name: tables[name].query(rows).reset_index(drop=True) for name, rows in kept.items()}}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("killed"))


def test_a_job_killed_in_its_middle_and_run_again_ends_with_the_same_rows(
    killed: World, spark: SparkSession, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """In ingest: the flights are landed, the aircraft are not."""
    kill_when(killed, lambda: commits(killed.warehouse / "raw_flights") >= 2, "features")
    assert commits(killed.warehouse / "raw_planes") == 1
    run(killed, "features", "train", "score_batch")
    assert_same_rows(contents(partial(killed.read, spark)), undisturbed)


def test_a_stream_killed_in_a_micro_batch_scores_every_flight_once_and_as_the_batch_did(
    killed: World, spark: SparkSession
) -> None:
    """A morning of February, whose flights the batch has scored from complete tables; nothing is out of order."""
    if not commits(killed.warehouse / "predictions"):
        run(killed, "features", "train", "score_batch")
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
