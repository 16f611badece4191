"""The bundle's jobs, run for real on two months of flights."""

import time
from collections.abc import Iterator

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from tests.worlds import MODEL, SCHEMA, World, assert_same_rows, contents

from bundle_laptop.graph import State
from bundle_laptop.results import Result


@pytest.fixture(scope="module")
def first(world: World, spark: SparkSession) -> dict[str, pd.DataFrame]:  # noqa: ARG001
    """The tables after the first run of every job."""
    return contents(spark)


def test_every_delivered_row_is_landed_rejected_or_not_known_yet(first: dict[str, pd.DataFrame]) -> None:
    landed = {table: len(first[table]) for table in ("raw_flights", "raw_weather", "raw_planes", "raw_rejects")}
    assert landed == {"raw_flights": 52_195, "raw_weather": 4_256, "raw_planes": 3_322, "raw_rejects": 1}


def test_every_flight_has_one_row_of_features_known_two_hours_before_departure(first: dict[str, pd.DataFrame]) -> None:
    features = first["features"]
    assert sorted(features["entity_id"]) == sorted(first["raw_flights"]["flight_id"])
    assert (features["sched_dep_ts"] - features["prediction_ts"] == pd.Timedelta(hours=2)).all()
    assert features["weather_age_minutes"].min() >= 60
    assert features["weather_age_minutes"].max() <= 6 * 60


def test_a_flight_without_an_arrival_has_no_label(first: dict[str, pd.DataFrame]) -> None:
    flights = first["raw_flights"].set_index("flight_id")
    labels = first["labels"].set_index("entity_id")
    as_of = pd.Timestamp("2013-03-01 12:00")
    known = flights["outcome_known_at"] <= as_of
    assert labels.index.is_unique
    assert set(labels.index) == set(flights.index[known])
    assert flights.loc[~known, "arr_delay"].isna().sum() == 1_947
    assert ((flights.loc[labels.index, "arr_delay"] >= 15) == (labels["label"] == 1)).all()
    assert (flights.loc[labels.index, "flight_date"] == labels["day"]).all()


def test_a_version_that_passes_is_champion_and_every_flight_is_scored_by_its_number(
    first: dict[str, pd.DataFrame],
) -> None:
    decisions = first["decisions"].set_index("kind")
    assert sorted(decisions.index) == ["promotion", "verdict"]
    verdict, deployment = decisions.loc["verdict"], decisions.loc["promotion"]
    assert (verdict["outcome"], verdict["model_name"], verdict["model_version"]) == ("PASS", MODEL, 1)
    assert (deployment["allowed_by"], deployment["model_version"]) == (verdict["decision_id"], 1)
    assert decisions["other_version"].isna().all()
    predictions = first["predictions"]
    assert sorted(predictions["entity_id"]) == sorted(first["features"]["entity_id"])
    assert predictions["prediction_id"].is_unique
    assert set(predictions["model_version"]) == {1}
    assert predictions["probability"].between(0, 1).all()


def test_running_every_job_again_changes_no_row(
    world: World, spark: SparkSession, first: dict[str, pd.DataFrame]
) -> None:
    results, printed = world.run("features", "train", "score_batch")
    assert [result.state for result in results] == [State.SUCCESS] * 3
    assert "UPSTREAM" not in printed
    assert_same_rows(contents(spark), first)


def test_a_failing_verdict_stops_the_deployment_and_the_job_still_succeeds(world: World, spark: SparkSession) -> None:
    before = contents(spark)
    results, _ = world.run("train", max_calibration_error="0.0001")
    states = dict(_flat(results))
    assert states["judge"] is State.SUCCESS
    assert states["promote"] is State.EXCLUDED
    assert states["train"] is State.SUCCESS
    after = contents(spark)
    assert sorted(after["decisions"]["outcome"]) == ["DONE", "FAIL", "PASS"]
    assert_same_rows({**after, "decisions": before["decisions"]}, before)


@pytest.mark.parametrize(
    ("job", "stopped", "says"),
    [
        ("train", "release", "0 rows with a label before"),
        (
            "features",
            "features",
            "raw_flights: the source delivered 0 rows as of 2012-01-01 and none was good",
        ),
    ],
)
def test_a_task_that_fails_says_why_and_stops_what_depends_on_it(
    world: World, job: str, stopped: str, says: str
) -> None:
    results, printed = world.run(job, "score_batch", as_of="2012-01-01T00:00:00Z")
    assert [(result.name, result.state) for result in results] == [(job, State.FAILED)]
    assert dict(_flat(results[0].inner))[stopped] is State.UPSTREAM_FAILED
    assert says in " ".join(printed.split())


def test_the_endpoint_answers_as_the_batch_did_and_its_answers_become_predictions(
    world: World, spark: SparkSession
) -> None:
    results, printed = world.run("check_endpoint", load_test_seconds="2", max_p99_ms="10000")
    assert [result.state for result in results] == [State.SUCCESS], printed
    time.sleep(1.1)  # a trigger's time is told in whole seconds, and what was asked after it is the next run's
    results, _ = world.run("score_served")
    assert [result.state for result in results] == [State.SUCCESS]
    tables = contents(spark)
    served, batch = (tables["predictions"].query(f"source == '{source}'") for source in ("serving", "batch"))
    assert len(served) > 200
    expected = batch.set_index("entity_id")["probability"][served["entity_id"]]
    assert served["probability"].tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    assert set(served["model_version"]) == {1}
    assert served["response_time_ms"].ge(0).all()
    world.run("score_served")
    assert_same_rows(contents(spark), tables)


def test_tables_say_what_they_hold(world: World, spark: SparkSession) -> None:  # noqa: ARG001
    described = spark.sql(f"SHOW TABLES IN spark_catalog.{SCHEMA}").collect()
    assert described
    for table in described:
        rows = spark.sql(f"DESCRIBE TABLE EXTENDED spark_catalog.{SCHEMA}.{table['tableName']}").collect()
        assert any(row["col_name"] == "Comment" and row["data_type"] for row in rows)


def _flat(results: list[Result] | tuple[Result, ...]) -> Iterator[tuple[str, State]]:
    for result in results:
        yield result.name, result.state
        yield from _flat(result.inner)
