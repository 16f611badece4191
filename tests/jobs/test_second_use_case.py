"""Another use case, from ingest to a served request: hourly bike rentals, a regression by a learner of its own.

It is a folder, `tests/bikes`: what runs here is the same tasks that forecast delays.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests import bikes
from tests.conftest import EXPERIMENT
from tests.contexts import POLICY, make_context, promotion

from flight_delays.core.settings import Features, Judge, Labels, Parity, Performance, Policy, Publish, ScoreBatch, Train
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.online_table import ONLINE_TABLE
from flight_delays.platform.registry import Registry
from flight_delays.tasks import (
    features,
    ingest,
    judge,
    labels,
    parity,
    performance,
    promote,
    publish,
    score_batch,
    tables,
    train,
)
from flight_delays.views import look

AS_OF = datetime(2012, 1, 1, 6, tzinfo=UTC)
MODEL = "bikes"
HOLDOUT_DAYS = 60
TRAINING = Train(model_name=MODEL, experiment=EXPERIMENT, holdout_days=HOLDOUT_DAYS, trials=1, git_commit="0a1b2c3")
LIMITS = replace(
    POLICY, loss_margin=0.01, calibration_margin=0.05, slice_margin=0.1, max_size_mb=200, draws=Policy.draws
)


@pytest.fixture(scope="module")
def spark_tables(spark: SparkSession) -> Tables:
    spark.sql("CREATE SCHEMA spark_catalog.bikes")
    return Tables(spark=spark, schema="spark_catalog.bikes")


@pytest.fixture
def context(
    spark_tables: Tables, registry: Registry, endpoints: Endpoints, sync: Callable[[str, str, str], None]
) -> Context:
    sync("spark_catalog.bikes.features", f"spark_catalog.bikes.{ONLINE_TABLE}", "prediction_ts")
    return make_context(
        as_of=AS_OF,
        use_case=bikes.USE_CASE,
        tables=spark_tables,
        registry=registry,
        endpoints=lambda: endpoints,
    )


def test_another_use_case_goes_from_raw_rows_to_a_served_answer(context: Context) -> None:
    tables.run(context)
    ingest.run(context)
    features.run(context, Features(raw_schema=context.tables.schema))
    labels.run(context, Labels(raw_schema=context.tables.schema))
    publish.run(context, Publish(online_store=True))
    counts = {name: context.tables.read(name).count() for name in ("raw_hours", "raw_conditions", "features", "labels")}
    assert counts == {"raw_hours": 8645, "raw_conditions": 8645, "features": 8645, "labels": 8645}

    context.registry.client.create_registered_model(MODEL)
    train.run(context, replace(TRAINING, trials=2))
    number = int(context.task_values["model_version"])
    metrics = client_metrics(context, number)
    # What knows nothing has a squared error of about 1 in units of the spread, and R2 0.
    assert 0.6 < metrics["test_r2"] < 1
    assert metrics["test_squared_error"] < 0.4
    assert metrics["test_rmse_low"] < metrics["test_rmse"] < metrics["test_rmse_high"]

    judge.run(context, Judge(model_name=MODEL, model_version=number, holdout_days=HOLDOUT_DAYS, policy=LIMITS))
    verdict = look.verdict(context, MODEL)
    assert context.task_values["verdict"] == "PASS", verdict.tables["checks"].to_string()
    assert "squared error" in " ".join(verdict.tables["checks"]["reason"])

    promote.run(context, promotion(MODEL, number, context.task_values["verdict_id"]))
    assert context.registry.aliases(MODEL) == {"champion": number}

    score_batch.run(context, ScoreBatch(model_name=MODEL, online_store=False))
    predictions = context.tables.read("predictions")
    assert predictions.count() == counts["features"]
    assert predictions.where("probability IS NOT NULL OR prediction IS NULL").isEmpty()
    (busiest,) = predictions.orderBy(F.desc("prediction")).limit(1).collect()
    assert busiest["prediction"] > 400

    performance.run(context, Performance(model_name=MODEL))
    daily = context.tables.read("daily_performance").toPandas().set_index("day")
    assert len(daily) == HOLDOUT_DAYS  # and none that it was trained on
    assert (daily["coverage"] == 1).all()
    assert daily["confidence"].isna().all()
    mean = np.average(daily["loss"], weights=daily["rows"])
    assert mean == pytest.approx(metrics["test_squared_error"], rel=1e-6)
    newest = daily.loc[daily.index.max()]
    assert newest["loss_28_days_low"] < newest["loss_28_days"] < newest["loss_28_days_high"]
    dimensions = context.tables.read("performance").select("dimension").distinct().collect()
    assert {row["dimension"] for row in dimensions} == {"all", "day", "part of the day"}

    (answer,) = (
        context.endpoints()
        .query("delay", {"dataframe_records": [{"begins_at": "2011-12-31T17:00:00", "holiday": 0, "workingday": 0}]})
        .predictions
    )
    (scored,) = predictions.where("entity_id = '2011-12-31T17Z'").collect()
    # The request names an hour; what it leaves out is looked up, as the batch had it.
    assert answer == {"prediction": pytest.approx(scored["prediction"], abs=1e-9)}
    parity.run(context, Parity(model_name=MODEL, endpoint="delay", online_store=True))
    assert context.task_values["compared"] == "200"


def test_people_can_look_at_it(context: Context) -> None:
    assert {"calibration", "errors", "importance"} <= look.champion(context, MODEL).recorded.keys()
    assert look.predictions(context, MODEL).figures.keys() == {"by day", "distribution"}
    assert look.data(context, context.tables.schema).figures.keys() == {"by day"}


def test_an_earlier_model_of_it_is_judged_against_the_champion(context: Context) -> None:
    """Fitted on half a year, and therefore worse on winter than the champion."""
    earlier = replace(context, as_of=datetime(2011, 9, 1, 6, tzinfo=UTC))
    train.run(earlier, TRAINING)
    number = int(earlier.task_values["model_version"])
    judge.run(context, Judge(model_name=MODEL, model_version=number, holdout_days=HOLDOUT_DAYS, policy=LIMITS))
    checks = look.verdict(context, MODEL).tables["checks"].set_index("check")["outcome"]
    assert checks["not_worse_than_champion"] != "PASS"
    assert context.registry.aliases(MODEL)["champion"] != number


def client_metrics(context: Context, number: int) -> dict[str, float]:
    client: MlflowClient = context.registry.client
    return dict(client.get_run(context.registry.version(MODEL, number).run_id).data.metrics)
