"""From the feature table to the online store."""

import io
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from tests.store.workspace import Workspace, served

from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.job_context import PrintedTaskValues
from flight_delays.platform.registry import Registry
from flight_delays.platform.runtime import LOCAL_DIR
from flight_delays.platform.shell import ONLINE_TABLE, OnlineStore
from flight_delays.platform.tables import Tables
from flight_delays.tasks import publish
from flight_delays.use_case import USE_CASE

AS_OF = datetime(2013, 1, 31, 10, tzinfo=UTC)


@pytest.fixture
def context(tables: Tables, registry: Registry, flights: pd.DataFrame) -> Context:
    """20 flights in a schema of their own, four of them not known yet; one has an older row too."""
    alone = tables.of("spark_catalog.publish")
    tables.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {alone.schema}")
    some = flights.iloc[::40].head(20)
    older = some.head(1).assign(prediction_ts=some["prediction_ts"] - pd.Timedelta(hours=1), weather_visib=-1.0)
    schema = tables.read("features").schema
    rows = tables.spark.createDataFrame(pd.concat([some, older]).reindex(columns=schema.names), schema)
    rows.write.format("delta").mode("overwrite").saveAsTable(f"{alone.schema}.features")
    console = Console(file=io.StringIO(), width=200)
    values = PrintedTaskValues(console)
    return Context(use_case=USE_CASE, tables=alone, registry=registry, task_values=values, console=console, as_of=AS_OF)


def found(folder: Path, ids: list[str]) -> dict[str, object]:
    """The visibility of each id that the model finds."""
    store = OnlineStore(f"sqlite:///{folder / 'online.db'}", 30, table=ONLINE_TABLE, columns=["weather_visib"])
    return {key: visibility for key, (visibility,) in store.find(ids).items()}


def printed(context: Context) -> str:
    assert isinstance(context.console.file, io.StringIO)
    return context.console.file.getvalue()


def test_on_a_laptop_the_model_finds_what_was_known_by_then(
    context: Context, flights: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCAL_DIR, str(tmp_path))
    publish.run(context, online_store=False)
    assert printed(context).splitlines() == [f"16 entities in {tmp_path / 'online.db'}", "published: 16"]
    known = flights.iloc[::40].head(16).set_index("entity_id")
    assert known["prediction_ts"].max() == pd.Timestamp(AS_OF).tz_localize(None)
    assert found(tmp_path, list(flights["entity_id"])) == known["weather_visib"].to_dict()
    with closing(sqlite3.connect(tmp_path / "online.db")) as store:
        columns = [column for _, column, *_ in store.execute(f"PRAGMA table_info({ONLINE_TABLE})")]
        last = store.execute(f"SELECT max(sched_dep_ts), max(day) FROM {ONLINE_TABLE}").fetchone()
    assert columns == context.tables.read("features").columns
    assert last == ("2013-01-31T12:00:00", "2013-01-31")

    publish.run(replace(context, as_of=datetime(2013, 1, 1, tzinfo=UTC)), online_store=True)
    assert found(tmp_path, list(flights["entity_id"])) == {}


def test_in_a_workspace_the_synced_table_is_refreshed_where_there_is_one(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18")
    publish.run(context, online_store=False)
    told = "There is no online store: nothing to publish (variable online_store)"
    assert printed(context).splitlines() == [told, "published: 0"]

    table = "spark_catalog.publish.features_online"
    with served(Workspace(name=table)) as client:
        endpoints = Endpoints(client=client, sleep=lambda _: None)
        publish.run(replace(context, endpoints=lambda: endpoints), online_store=True)
    assert printed(context).splitlines()[2:] == [
        f"{table}: the update was started",
        f"20 entities in {table}",
        "published: 20",
    ]
