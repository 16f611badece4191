"""From the feature table to the online store."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from tests.contexts import make_context, printed
from tests.store.precomputed import FOUND
from tests.store.precomputed import rows as prediction_rows
from tests.store.workspace import Workspace, served

from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.precomputed import find_prediction, predictions_store
from flight_delays.platform.runtime import LOCAL_DIR
from flight_delays.platform.shell import ONLINE_STORE, ONLINE_TABLE, OnlineStore
from flight_delays.platform.tables import Tables
from flight_delays.tasks import publish

AS_OF = datetime(2013, 1, 31, 10, tzinfo=UTC)


@pytest.fixture
def context(tables: Tables, flights: pd.DataFrame) -> Context:
    """20 flights in a schema of their own, four of them not known yet; one has an older row too."""
    alone = tables.of("spark_catalog.publish")
    tables.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {alone.schema}")
    some = flights.iloc[::40].head(20)
    older = some.head(1).assign(prediction_ts=some["prediction_ts"] - pd.Timedelta(hours=1), weather_visib=-1.0)
    schema = tables.read("features").schema
    rows = tables.spark.createDataFrame(pd.concat([some, older]).reindex(columns=schema.names), schema)
    rows.write.format("delta").mode("overwrite").saveAsTable(f"{alone.schema}.features")
    return make_context(as_of=AS_OF, tables=alone)


def found(folder: Path, ids: list[str]) -> dict[str, object]:
    """The visibility of each id that the model finds."""
    store = OnlineStore(f"sqlite:///{folder / 'online.db'}", 30, table=ONLINE_TABLE, columns=["weather_visib"])
    return {key: visibility for key, (visibility,) in store.find(ids).items()}


def test_on_a_laptop_the_model_finds_what_was_known_by_then(
    context: Context, flights: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCAL_DIR, str(tmp_path))
    publish.run(context, online_store=False)
    assert printed(context).splitlines() == [f"16 entities in {tmp_path / 'online.db'}"]
    assert context.task_values == {"published": "16"}
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
    assert printed(context) == "There is no online store: nothing to publish (variable online_store)\n"
    assert context.task_values == {"published": "0"}

    table = "spark_catalog.publish.features_online"
    with served(Workspace(name=table)) as client:
        endpoints = Endpoints(client=client, sleep=lambda _: None)
        publish.run(replace(context, endpoints=lambda: endpoints), online_store=True)
    assert printed(context).splitlines()[1:] == [f"{table}: the update was started", f"20 entities in {table}"]
    assert context.task_values == {"published": "20"}


def test_a_laptop_gets_the_predictions_that_were_added_and_keeps_the_newest_of_each(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCAL_DIR, str(tmp_path))
    spark, table, file = context.tables.spark, f"{context.tables.schema}.predictions", tmp_path / "online.db"

    def publish_also(*scored: tuple[str, int, int], anew: bool = False) -> dict[str, int]:
        """With these entities, hours of scoring and versions in the table too, which version is found of each."""
        if anew:
            spark.sql(f"DROP TABLE IF EXISTS {table}")
        if scored:
            rows = prediction_rows(
                *(
                    replace(FOUND, entity_id=entity, scored_at=AS_OF + timedelta(hours=hour), model_version=version)
                    for entity, hour, version in scored
                )
            )
            written = spark.createDataFrame(rows).write.format("delta").mode("append")
            written.option("delta.enableChangeDataFeed", "true").saveAsTable(table)
        publish.predictions(context, online_store=False)
        store = predictions_store({ONLINE_STORE: f"sqlite:///{file}"})
        assert store
        found = {entity: find_prediction(store, entity) for entity in "abcd"}
        return {entity: prediction.model_version for entity, prediction in found.items() if prediction}

    assert publish_also(("a", 1, 1), ("a", 3, 2), ("a", 2, 3), ("b", 1, 1), anew=True) == {"a": 2, "b": 1}
    # As of an earlier time than others, as a stream may score: what there is none of is found, the newest stays.
    assert publish_also(("a", 2, 4), ("c", 0, 4)) == {"a": 2, "b": 1, "c": 4}
    # Of two that were scored as of the same time the higher version counts, whichever came last.
    assert publish_also(("b", 1, 2)) == publish_also(("b", 1, 1)) == {"a": 2, "b": 2, "c": 4}
    before = file.stat()
    assert publish_also() == {"a": 2, "b": 2, "c": 4}
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    spark.sql(f"OPTIMIZE {table}")
    assert publish_also() == {"a": 2, "b": 2, "c": 4}
    assert publish_also(("d", 0, 1), anew=True) == {"d": 1}


def test_in_a_workspace_the_synced_predictions_are_refreshed_where_there_are_any(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18")
    publish.predictions(context, online_store=False)
    assert printed(context) == ""
    table = "spark_catalog.publish.predictions_online"
    with served(Workspace(name=table)) as client:
        endpoints = Endpoints(client=client, sleep=lambda _: None)
        publish.predictions(replace(context, endpoints=lambda: endpoints), online_store=True)
    assert printed(context).splitlines() == [f"{table}: the update was started"]
