"""Batch scoring: the champion's own answers, once per flight, under its number."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.platform.job_context import PrintedTaskValues
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import read_scorer
from flight_delays.platform.tables import Tables
from flight_delays.tasks import score_batch
from flight_delays.tasks.context import Context
from flight_delays.tasks.score_batch import Window
from flight_delays.use_case.model import INPUTS

BEFORE_THE_LAST_DAY = datetime(2013, 2, 19, 9, 59, 59, tzinfo=UTC)
LAST_DAY = datetime(2013, 2, 19, 10, tzinfo=UTC)
KEEP = ["flight_id", "prediction_ts"]


@pytest.fixture
def features(tables: Tables, loaded: pd.DataFrame) -> DataFrame:
    return tables.read("flight_features").where(F.col("flight_id").isin(list(loaded["flight_id"])))


@pytest.fixture
def context(tables: Tables, registry: Registry) -> Context:
    console = Console(file=io.StringIO(), width=200)
    values = PrintedTaskValues(console)
    return Context(tables=tables, registry=registry, task_values=values, console=console, as_of=BEFORE_THE_LAST_DAY)


def test_spark_scores_as_the_model_itself_does_one_row_per_row(
    features: DataFrame, registry: Registry, new_version: Callable[..., int]
) -> None:
    number = new_version("same")
    visibility = F.when(F.hash("flight_id") % 3 != 0, F.col("weather_visib"))
    rows = features.withColumn("weather_visib", visibility).repartition(2)
    scored = (
        read_scorer(registry, "same", number)
        .score(rows, keep=KEEP)
        .toPandas()
        .sort_values("flight_id", ignore_index=True)
    )
    given = rows.toPandas().sort_values("flight_id", ignore_index=True)
    assert given["weather_visib"].isna().sum() > 100
    expected = registry.load("same", number).predict(given[INPUTS.input_names()])
    pd.testing.assert_frame_equal(scored[KEEP], given[KEEP])
    pd.testing.assert_frame_equal(scored[["probability", "prediction"]], expected, rtol=0, atol=1e-9)


def test_no_rows_are_no_predictions(features: DataFrame, registry: Registry, new_version: Callable[..., int]) -> None:
    scored = read_scorer(registry, "same", new_version("same")).score(features.limit(0), keep=KEEP)
    assert scored.columns == [*KEEP, "probability", "prediction"]
    assert scored.collect() == []


def test_without_a_champion_nothing_is_scored(context: Context, new_version: Callable[..., int]) -> None:
    context.registry.set_alias("unreleased", "challenger", new_version("unreleased"))
    with pytest.raises(UserError, match=r"^unreleased has no champion; run the train job"):
        score_batch.run(context, model_name="unreleased", window=Window(), online_store=False)


class Promoting(Registry):
    """Somebody moves the champion's alias as soon as it has been read."""

    def aliases(self, name: str) -> dict[str, int]:
        found = super().aliases(name)
        self.set_alias(name, "champion", 2)
        return found


def test_every_flight_is_scored_once_by_the_version_that_is_written_on_its_row(
    context: Context, loaded: pd.DataFrame, new_version: Callable[..., int]
) -> None:
    good, _ = new_version("scored"), new_version("scored", wrong=True)
    context.registry.set_alias("scored", "champion", good)

    def predictions() -> pd.DataFrame:
        rows = context.tables.read("predictions").where("model_name = 'scored'")
        return rows.toPandas().sort_values("prediction_id", ignore_index=True)

    score_batch.run(
        replace(context, registry=Promoting(context.registry.client)),
        model_name="scored",
        window=Window(),
        online_store=False,
    )
    assert context.registry.aliases("scored") == {"champion": 2}
    first = predictions()
    assert len(first) == 49 * 20  # the flights of the last day are not known yet
    assert not first[["flight_id", "prediction_ts"]].duplicated().any()
    assert set(first["model_version"]) == {good}
    assert set(first["source"]) == {"batch"}
    assert set(first["scored_at"].dt.tz_localize("UTC")) == {BEFORE_THE_LAST_DAY}
    low_visibility = first.merge(loaded, on="flight_id")["weather_visib"] < 3
    assert np.corrcoef(first["probability"], low_visibility)[0, 1] > 0.8  # and not the wrong model's answers

    context.registry.set_alias("scored", "champion", good)
    score_batch.run(context, model_name="scored", window=Window(), online_store=False)
    pd.testing.assert_frame_equal(predictions(), first)

    late = (
        context.tables.read("flight_features")
        .where("flight_id = 'flight-0000'")
        .withColumn("flight_id", F.lit("arrived late in the table"))
    )
    context.tables.append_new("flight_features", late, key=["flight_id"])
    score_batch.run(replace(context, as_of=LAST_DAY), model_name="scored", window=Window(), online_store=False)
    then = predictions()
    added = then[~then["prediction_id"].isin(first["prediction_id"])]
    assert set(added["flight_id"]) == {"arrived late in the table", *loaded["flight_id"].tail(20)}
    assert set(added["scored_at"].dt.tz_localize("UTC")) == {LAST_DAY}
    kept = then[then["prediction_id"].isin(first["prediction_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first)
