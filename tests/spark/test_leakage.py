"""No feature knows the future. On a week of real flights, with a snow storm in its middle."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from chispa import assert_df_equality
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from rich.console import Console

from flight_delays.core.quarantine import inspect
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import read_scorer
from flight_delays.platform.tables import Tables
from flight_delays.tasks import features, labels
from flight_delays.tasks.context import Context
from flight_delays.tasks.dataset import labelled_flights
from flight_delays.use_case import model
from flight_delays.use_case.features import flight_features
from flight_delays.use_case.sources import deliveries

T = datetime(2013, 2, 8, 18, tzinfo=UTC)


@dataclass(frozen=True)
class Raw:
    """The raw tables."""

    flights: DataFrame
    weather: DataFrame
    planes: DataFrame


@pytest.fixture(scope="module")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Raw:
    """4 to 10 February 2013."""
    folder = tmp_path_factory.mktemp("raw")
    for contract, delivered in deliveries(spark, datetime(2013, 2, 11, tzinfo=UTC)):
        good = inspect(delivered, contract).where(F.size("reasons") == 0).select("row.*")
        if "planes" not in contract.table:
            good = good.where("known_at >= '2013-02-04'")
        good.write.parquet(str(folder / contract.table))
    return Raw(*(spark.read.parquet(str(folder / table)) for table in ("raw_flights", "raw_weather", "raw_planes")))


Build = Callable[[Raw], DataFrame]


def built(raw: Raw) -> DataFrame:
    return flight_features(raw.flights, raw.weather, raw.planes)


def careless(raw: Raw) -> DataFrame:
    """Counts a delay from the scheduled departure on, weather from the hour before it; knows the mean of the day."""
    flights = raw.flights.withColumns(
        {
            time: F.when(F.col(time).isNotNull(), F.col("sched_dep_ts"))
            for time in ("departure_known_at", "outcome_known_at")
        }
    )
    weather = raw.weather.withColumns(
        {time: F.col("observed_at") - F.expr("INTERVAL 1 HOUR") for time in ("known_at", "observed_at")}
    )
    of_day = Window.partitionBy("flight_date")
    rates = raw.flights.select("flight_id", F.avg("arr_delay").over(of_day).alias("delay_of_the_day"))
    return flight_features(flights, weather, raw.planes).join(rates, "flight_id")


def gone(raw: Raw) -> Raw:
    """What was known at T, and nothing else."""
    known = {"departure_known_at": ("dep_delay",), "outcome_known_at": ("arr_delay", "air_time")}
    columns = {name: F.when(F.col(time) <= T, F.col(name)) for time, names in known.items() for name in (time, *names)}
    rows = {"weather": raw.weather, "planes": raw.planes}
    return Raw(
        flights=raw.flights.where(F.col("known_at") <= T).withColumns(columns),
        **{name: table.where(F.col("known_at") <= T) for name, table in rows.items()},
    )


def other(raw: Raw) -> Raw:
    """What was known at T, and after it another future: other delays, other weather, other planes, other flights."""

    def after(moment: str, value: Column, instead: Column) -> Column:
        return F.when(F.col(moment) <= T, value).otherwise(instead)

    soon = F.lit(T + timedelta(minutes=1))
    delays = {
        "dep_delay": after("departure_known_at", F.col("dep_delay"), F.lit(500.0)),
        "departure_known_at": after("departure_known_at", F.col("departure_known_at"), soon),
        "arr_delay": after("outcome_known_at", F.col("arr_delay"), F.lit(500.0)),
        "outcome_known_at": after("outcome_known_at", F.col("outcome_known_at"), soon),
    }
    flights = raw.flights.withColumns(delays)
    later = F.greatest("known_at", soon)
    invented = flights.withColumns({"flight_id": F.concat(F.lit("invented "), "flight_id"), "known_at": later})
    readings = {name: -F.col(name) for name in ("temp", "wind_speed", "pressure", "visib", "humid", "dewp", "precip")}
    corrections = raw.weather.withColumns({**readings, "known_at": later})
    registered = raw.planes.withColumns({"seats": F.lit(7), "year_built": F.lit(1950), "known_at": later})
    known = gone(raw)
    return Raw(
        flights=flights.where(F.col("known_at") <= T).unionByName(invented),
        weather=known.weather.unionByName(corrections),
        planes=known.planes.unionByName(registered),
    )


def leaks(build: Build, one: Raw, another: Raw) -> set[str]:
    """The features at T or before that differ between two worlds, which knew the same until T."""
    first, second = (build(world).where(F.col("prediction_ts") <= T) for world in (one, another))
    columns = [name for name in first.columns if name != "flight_id"]
    pairs = first.alias("a").join(second.alias("b"), "flight_id", "full")
    differs = pairs.agg(
        *(F.count_if(~F.col(f"a.{name}").eqNullSafe(F.col(f"b.{name}"))).alias(name) for name in columns)
    ).collect()[0]
    return {name for name in columns if differs[name]}


@pytest.fixture(scope="module")
def features_of_the_week(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    folder = str(tmp_path_factory.mktemp("features") / "features")
    built(raw).write.parquet(folder)
    return raw.flights.sparkSession.read.parquet(folder)


@pytest.mark.parametrize("future", [gone, other], ids=["is empty", "is another"])
def test_no_feature_at_t_changes_when_all_that_became_known_later(
    raw: Raw, features_of_the_week: DataFrame, future: Callable[[Raw], Raw]
) -> None:
    """Compared with what the real future gave."""

    def build(world: Raw) -> DataFrame:
        return features_of_the_week if world is raw else built(world)

    assert leaks(build, raw, future(raw)) == set()


def test_features_that_do_leak_are_caught(raw: Raw) -> None:
    caught = leaks(careless, raw, other(raw))
    late = {name for name in model.LOOKED_UP if "_departures_" in name or "_arrivals_" in name}
    weather = {f"weather_{name}" for name in ("temp", "wind_speed", "pressure", "visib", "humid", "dewp", "precip")}
    trends = {f"weather_{name}_change" for name in ("temp", "wind_speed", "pressure", "visib")}
    # It also tells which of the overdue flights were going to be cancelled.
    assert caught == late | weather | trends | {"aircraft_slack", "origin_overdue", "delay_of_the_day"}


def test_each_flight_has_one_row_of_features(raw: Raw, features_of_the_week: DataFrame) -> None:
    assert features_of_the_week.count() > 5_000
    assert_df_equality(features_of_the_week.select("flight_id"), raw.flights.select("flight_id"), ignore_row_order=True)


@pytest.fixture
def context(spark: SparkSession, registry: Registry) -> Iterator[Context]:
    """Tables of a schema of their own."""
    spark.sql("CREATE SCHEMA spark_catalog.backfilled")
    tables = Tables(spark=spark, schema="spark_catalog.backfilled", unity_catalog=False)
    tables.apply_ddl()
    yield Context(tables=tables, registry=registry, task_values=Values(), console=Console(file=StringIO()), as_of=T)
    spark.sql("DROP SCHEMA spark_catalog.backfilled CASCADE")


class Values:
    """Task values, which nobody reads."""

    def set(self, key: str, value: str) -> None: ...


def test_what_is_back_filled_later_leaves_an_old_training_set_as_it_was(raw: Raw, context: Context) -> None:
    tables = context.tables

    def training_set(world: Raw, as_of: datetime) -> pd.DataFrame:
        """As of T, after the jobs have run as of `as_of`."""
        for table in ("flights", "weather", "planes"):
            keys = {"flights": ["flight_id"], "weather": ["origin", "observed_at", "known_at"]}
            rows = getattr(world, table)
            tables.upsert(f"raw_{table}", rows, key=keys.get(table, ["tailnum", "known_at"]))
        features.run(replace(context, as_of=as_of), tables)
        labels.run(replace(context, as_of=as_of), tables)
        return labelled_flights(tables, as_of=T, first=None, end=date(2013, 2, 9)).rows

    before = training_set(gone(raw), T)
    assert len(before) > 3_000
    after = training_set(other(raw), datetime(2013, 2, 11, tzinfo=UTC))
    assert tables.read("flight_features").count() > len(before) + 2_000
    assert tables.read("flight_labels").count() > len(before) + 2_000
    pd.testing.assert_frame_equal(after, before, check_exact=True)


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
        .score(known, keep=["flight_id"])
        .toPandas()
        .set_index("flight_id")
        .sort_index()
    )
    table = known.toPandas().set_index("flight_id").sort_index()

    store = tmp_path / "online.sqlite"
    with closing(sqlite3.connect(store)) as connection:
        table[list(model.LOOKED_UP)].to_sql(model.ONLINE_TABLE, connection)
    monkeypatch.setenv(model.ONLINE_STORE, f"sqlite:///{store}")
    monkeypatch.setenv(model.ONLINE_STORE_LIMIT_MS, "60000")
    monkeypatch.setenv(model.ONLINE_STORE_FAILURE, "error")
    requests = table[list(model.REQUEST)]
    reader = model.DelayModel()
    reader.connect(os.environ)
    columns, lookup = reader.complete(model.columns_of(requests))
    assert lookup == model.Lookup(asked=len(table), found=len(table))
    looked_up = pd.DataFrame({name: columns[name] for name in model.LOOKED_UP}, index=table.index)
    pd.testing.assert_frame_equal(looked_up, table[list(model.LOOKED_UP)], check_exact=True)
    online = registry.load(name, number).predict(requests)
    pd.testing.assert_frame_equal(online, batch, check_exact=True)
    assert online["probability"].nunique() > 10
