"""SIGKILL of a process in the middle of a micro-batch; each write on its own: the other files here."""

import shutil
from pathlib import Path

import pytest
from bench import send_events
from pyspark.sql import SparkSession
from tests.worlds import SCHEMA, World, folder_of, make_world

MORNING = ("--from=2013-02-20T11:00", "--to=2013-02-20T13:00", "--speed=0")


def test_a_stream_killed_in_a_micro_batch_scores_every_flight_once_and_as_the_batch_did(
    world: World, spark: SparkSession, tmp_path: Path
) -> None:
    """A morning of February, whose flights the batch has scored from complete tables; nothing is out of order."""
    send_events.app([f"--schema=spark_catalog.{SCHEMA}", *MORNING], standalone_mode=False)
    killed = make_world(tmp_path)
    shutil.copytree(folder_of(spark, SCHEMA), killed.warehouse)
    for kept in ("mlflow.db", "views.json"):
        shutil.copy(world.folder / kept, killed.folder)
    # The micro-batch is judged or recorded, and nothing is scored.
    before = [killed.commits(table) for table in ("stream_events", "runs")]
    killed.kill_when(lambda: [killed.commits(table) for table in ("stream_events", "runs")] != before, "score_stream")
    assert not scored(killed, spark, "stream")

    killed.finish("score_stream")
    streamed = scored(killed, spark, "stream")
    assert len(streamed) > 100
    batch = scored(killed, spark, "batch")
    assert {key: batch[key] for key in streamed} == pytest.approx(streamed, rel=0, abs=1e-9)
    events = killed.read(spark, "stream_events").where("kind = 'scheduled'").toPandas()
    assert not events[["source", "sequence"]].duplicated().any()
    assert len(events) == len(streamed)


def scored(world: World, spark: SparkSession, source: str) -> dict[tuple[str, int], float]:
    """Entity and version to probability; a second prediction would be a second row."""
    rows = world.read(spark, "predictions").where(f"source = '{source}'").toPandas()
    assert not rows[["entity_id", "prediction_ts", "model_version"]].duplicated().any()
    keys = zip(rows["entity_id"], rows["model_version"], strict=True)
    return dict(zip(keys, rows["probability"], strict=True))
