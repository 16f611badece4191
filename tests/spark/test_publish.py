"""From the feature table and the predictions to the online store."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from tests.contexts import make_context, printed
from tests.store.precomputed import FOUND
from tests.store.precomputed import rows as prediction_rows

from flight_delays.core.settings import Publish
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.online_table import ONLINE_STORE, ONLINE_TABLE, OnlineStore
from flight_delays.platform.precomputed import PREDICTIONS_TABLE, find_prediction, predictions_store, request_columns
from flight_delays.tasks import publish
from flight_delays.use_case import USE_CASE

AS_OF = datetime(2013, 1, 31, 10, tzinfo=UTC)
SCHEMA = "spark_catalog.publish"


@pytest.fixture
def context(tables: Tables, flights: pd.DataFrame, endpoints: Endpoints) -> Context:
    """20 flights in a schema of their own; one has an older row too."""
    alone = tables.of(SCHEMA)
    tables.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    some = flights.iloc[::40].head(20)
    older = some.head(1).assign(prediction_ts=some["prediction_ts"] - pd.Timedelta(hours=1), weather_visib=-1.0)
    schema = tables.read("features").schema
    rows = tables.spark.createDataFrame(pd.concat([some, older]).reindex(columns=schema.names), schema)
    rows.write.format("delta").mode("overwrite").saveAsTable(f"{SCHEMA}.features")
    return make_context(as_of=AS_OF, tables=alone, endpoints=lambda: endpoints)


def test_without_an_online_store_there_is_nothing_to_publish(context: Context) -> None:
    alone = make_context(as_of=AS_OF, tables=context.tables)
    publish.run(alone, Publish(online_store=False))
    publish.predictions(alone, online_store=False)
    assert printed(alone) == "There is no online store: nothing to publish (variable online_store)\n"
    assert alone.task_values == {"published": "0"}


def test_the_newest_features_of_each_entity_are_found_by_its_id(
    context: Context, flights: pd.DataFrame, sync: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    sync(f"{SCHEMA}.features", f"{SCHEMA}.{ONLINE_TABLE}", "prediction_ts")
    publish.run(context, Publish(online_store=True))
    assert printed(context).splitlines()[-1] == f"20 entities in {SCHEMA}.{ONLINE_TABLE}"
    assert context.task_values == {"published": "20"}
    address = f"sqlite:///{tmp_path / 'online.db'}"
    store = OnlineStore(address, 30, table=ONLINE_TABLE, columns=["weather_visib"])
    some = flights.iloc[::40].head(20).set_index("entity_id")
    found = {key: visibility for key, (visibility,) in asyncio.run(store.find([*flights["entity_id"]])).items()}
    assert found == some["weather_visib"].to_dict()

    newest = request_columns(address, USE_CASE.request, None)
    assert newest
    assert newest["sched_dep_ts"] == some["sched_dep_ts"].max().isoformat()
    assert request_columns(address, USE_CASE.request, some.index[0]) != newest
    assert request_columns(address, USE_CASE.request, "nobody") is None


def test_the_newest_prediction_of_each_entity_is_found_by_its_id(
    context: Context, sync: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    spark, table = context.tables.spark, f"{SCHEMA}.predictions"
    spark.sql(f"DROP TABLE IF EXISTS {table}")

    def publish_also(*scored: tuple[str, int, int]) -> dict[str, int]:
        """With these entities, hours of scoring and versions in the table too, which version is found of each."""
        rows = prediction_rows(
            *(
                replace(FOUND, entity_id=entity, scored_at=AS_OF + timedelta(hours=hour), model_version=version)
                for entity, hour, version in scored
            )
        )
        spark.createDataFrame(rows).write.format("delta").mode("append").saveAsTable(table)
        publish.predictions(context, online_store=True)
        store = predictions_store({ONLINE_STORE: f"sqlite:///{tmp_path / 'online.db'}"})
        assert store
        found = {entity: asyncio.run(find_prediction(store, entity)) for entity in "abcd"}
        return {entity: prediction.model_version for entity, prediction in found.items() if prediction}

    sync(table, f"{SCHEMA}.{PREDICTIONS_TABLE}", "scored_at")
    assert publish_also(("a", 1, 1), ("a", 3, 2), ("a", 2, 3), ("b", 1, 1)) == {"a": 2, "b": 1}
    assert publish_also(("a", 2, 4), ("c", 0, 4)) == {"a": 2, "b": 1, "c": 4}
