"""What became known later changes no old training set, and batch and online store agree. On a week of real flights."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tests.contexts import make_context
from tests.raw import Raw, gone, other, raw_tables

from flight_delays.core.settings import Features, Labels
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.online_table import ONLINE_STORE, ONLINE_STORE_FAILURE, ONLINE_STORE_LIMIT_MS, ONLINE_TABLE
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import read_scorer
from flight_delays.platform.spark_as_of import build_features
from flight_delays.tasks import features, labels
from flight_delays.use_case import USE_CASE

T = datetime(2013, 2, 8, 18, tzinfo=UTC)


@pytest.fixture(scope="module")
def raw() -> Raw:
    """4 to 10 February 2013."""
    return raw_tables(datetime(2013, 2, 4, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC))


@pytest.fixture(scope="module")
def features_of_the_week(raw: Raw, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    tables = {name: spark.createDataFrame(rows) for name, rows in raw.items()}
    folder = str(tmp_path_factory.mktemp("features") / "features")
    build_features(USE_CASE.features, tables["raw_flights"], tables).write.parquet(folder)
    return spark.read.parquet(folder)


@pytest.fixture
def context(new_tables: Callable[[str], Tables], request: pytest.FixtureRequest) -> Context:
    """Empty tables of a schema of their own."""
    return make_context(as_of=T, tables=new_tables(request.node.name))


def test_what_is_back_filled_later_leaves_an_old_training_set_as_it_was(raw: Raw, context: Context) -> None:
    tables = context.tables

    def training_set(world: Raw, as_of: datetime) -> pd.DataFrame:
        """As of T, after the jobs have run as of `as_of`."""
        for source in USE_CASE.sources:
            rows = tables.spark.createDataFrame(world[source.contract.table])
            tables.upsert(source.contract.table, rows, key=source.contract.key)
        features.run(replace(context, as_of=as_of), Features(raw_schema=tables.schema))
        labels.run(replace(context, as_of=as_of), Labels(raw_schema=tables.schema))
        return context.labelled.read(as_of=T, first=None, end=date(2013, 2, 9)).rows

    before = training_set(gone(raw, T), T)
    assert len(before) > 3_000
    after = training_set(other(raw, T), datetime(2013, 2, 11, tzinfo=UTC))
    assert tables.read("features").count() > len(before) + 2_000
    assert tables.read("labels").count() > len(before) + 2_000
    pd.testing.assert_frame_equal(after, before, check_exact=True)


def test_a_corrected_outcome_is_a_row_more_and_training_as_of_before_it_still_gets_the_old_label(
    raw: Raw, context: Context
) -> None:
    tables, hours = context.tables, timedelta(hours=1)
    flights = raw["raw_flights"].filter(pc.less(raw["raw_flights"]["outcome_known_at"], pa.scalar(T)))
    rows = tables.spark.createDataFrame(flights.slice(0, 10))
    one, *_ = flights["flight_id"].to_pylist()
    wrong = F.col("flight_id") == one
    early = rows.withColumn("arr_delay", F.when(wrong, -5.0).otherwise(F.col("arr_delay")))
    corrected = early.withColumns(
        {
            "arr_delay": F.when(wrong, 40.0).otherwise(F.col("arr_delay")),
            "outcome_known_at": F.when(wrong, F.lit(T + 2 * hours)).otherwise(F.col("outcome_known_at")),
        }
    )

    def training_set(as_of: datetime) -> pd.DataFrame:
        return context.labelled.read(as_of=as_of, first=None, end=date(2013, 2, 11)).rows.set_index("entity_id")

    tables.upsert("raw_flights", early, key=["flight_id"])
    features.run(context, Features(raw_schema=tables.schema))
    labels.run(context, Labels(raw_schema=tables.schema))
    before = training_set(T)
    assert (len(before), before.loc[one, "label"]) == (10, 0.0)

    assert tables.upsert("raw_flights", corrected, key=["flight_id"]).updated == 1
    for as_of in (T + hours, T + 2 * hours, T + 3 * hours, T):  # told, not known; known; again; and an old run
        labels.run(replace(context, as_of=as_of), Labels(raw_schema=tables.schema))
    told = tables.read("labels").where(F.col("entity_id") == one).orderBy("known_at")
    first, last = collected(told)
    assert (first["label"], last["label"]) == (0.0, 1.0)
    assert first["known_at"] < T < last["known_at"] == T + 2 * hours
    assert tables.read("labels").count() == 11

    for as_of in (T, T + hours):
        pd.testing.assert_frame_equal(training_set(as_of), before, check_exact=True)
    after = training_set(T + 2 * hours)
    changed = {"label": 1.0, "label_known_at": pd.Timestamp(T + 2 * hours).tz_localize(None)}
    assert after.loc[one, [*changed]].to_dict() == changed
    pd.testing.assert_frame_equal(after.drop(index=one), before.drop(index=one), check_exact=True)


def test_a_flight_gets_the_same_features_and_forecast_in_batch_and_from_the_online_store(
    features_of_the_week: DataFrame,
    registry: Registry,
    new_version: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "batch and online"
    number = new_version(name)
    known = features_of_the_week.where(F.col("prediction_ts") <= T)
    batch = (
        read_scorer(registry, name, number)
        .predictions(known, scored_at=T, source="batch", run_id="run")
        .toPandas()
        .set_index("entity_id")
        .sort_index()
    )
    table = known.toPandas().set_index("entity_id").sort_index()

    store = tmp_path / "online.sqlite"
    with closing(sqlite3.connect(store)) as connection:
        table[[*USE_CASE.looked_up]].to_sql(ONLINE_TABLE, connection)
    monkeypatch.setenv(ONLINE_STORE, f"sqlite:///{store}")
    monkeypatch.setenv(ONLINE_STORE_LIMIT_MS, "60000")
    monkeypatch.setenv(ONLINE_STORE_FAILURE, "error")
    requests = table[[*USE_CASE.request]]
    loaded = registry.load(name, number)
    columns, lookup = loaded.unwrap_python_model().complete({name: requests[name].to_numpy() for name in requests})
    assert (lookup.asked, lookup.found, lookup.failed) == (len(table), len(table), False)
    looked_up = pd.DataFrame({name: columns[name] for name in USE_CASE.looked_up}, index=table.index)
    pd.testing.assert_frame_equal(looked_up, table[[*USE_CASE.looked_up]], check_exact=True)
    online = loaded.predict(requests)
    pd.testing.assert_frame_equal(online, batch[[*online]].astype(online.dtypes), check_exact=True)
    assert online["probability"].nunique() > 10
