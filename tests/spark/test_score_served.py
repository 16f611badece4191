"""Answers of the endpoint become predictions; what can't be told is kept with its reason."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd
import pytest
from pyspark.sql import Row
from tests.contexts import make_context

from flight_delays.core.errors import UserError
from flight_delays.core.settings import ScoreServed
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry
from flight_delays.tasks import score_served

NAME = "served to all"
AS_OF = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAYLOADS = (
    "databricks_request_id string, request_time timestamp, request_date date, status_code int, "
    "execution_duration_ms bigint, request string, response string, served_entity_id string, client_request_id string"
)
ENTITIES = "served_entity_id string, entity_name string, entity_version string, change_time timestamp"


@pytest.fixture
def context(tables: Tables, registry: Registry, new_version: Callable[..., int]) -> Context:
    if not registry.client.search_registered_models(f"name = '{NAME}'"):
        assert [new_version(NAME), new_version(NAME)] == [1, 2]
    return make_context(as_of=AS_OF, tables=tables, registry=registry)


def request(*flights: int) -> str:
    flight = {"carrier": "UA", "origin": "EWR", "dest": "ORD", "distance": 719, "sched_arr_time": 1345}
    rows = [{**flight, "flight": number, "sched_dep_ts": "2013-01-15T12:00:00-05:00"} for number in flights]
    return json.dumps({"dataframe_records": rows})


def response(*probabilities: float) -> str:
    return json.dumps({"predictions": [{"probability": one, "prediction": int(one >= 0.5)} for one in probabilities]})


def land(tables: Tables, payloads: list[tuple[object, ...]], name: str) -> str:
    """A payload table: id, time, status, duration, request, response, entity."""
    rows = [
        (one[0], one[1], one[1].date(), *one[2:], "rollout-replay" if one[0] == "replayed" else None)
        for one in payloads
    ]
    tables.spark.createDataFrame(rows, PAYLOADS).write.format("delta").saveAsTable(f"{tables.schema}.{name}")
    return f"{tables.schema}.{name}"


@pytest.fixture(scope="module")
def entities(tables: Tables) -> str:
    hours = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(3)]
    rows = [
        ("one", NAME, "1", hours[0]),
        ("two", NAME, "1", hours[0]),
        ("two", NAME, "2", hours[1]),  # what was said last holds
        ("other", "another model", "7", hours[2]),
    ]
    name = f"{tables.schema}.entities"
    tables.spark.createDataFrame(rows, ENTITIES).write.format("delta").saveAsTable(name)
    return name


def test_each_answered_row_becomes_a_prediction_once(context: Context, entities: str) -> None:
    early, late = AS_OF.replace(hour=11), AS_OF.replace(hour=13)
    table = land(
        context.tables,
        [
            ("good", early, 200, 7, request(1, 2), response(0.25, 0.5), "one"),
            ("of version 2", AS_OF, 200, 9, request(3), response(0.75), "two"),
            ("replayed", AS_OF, 200, 9, request(7), response(0.75), "two"),
            ("refused", early, 400, 1, "{", '{"error_code": "X"}', "one"),
            ("after as_of", late, 200, 1, request(4), response(0.1), "one"),
            ("of nobody", early, 200, 1, request(5), response(0.1), "nobody"),
            ("of another model", early, 200, 1, request(5), response(0.1), "other"),
            ("cut off", early, 200, 1, request(5)[:-9], response(0.1), "one"),
            ("one answer too few", early, 200, 1, request(5, 6), response(0.1), "one"),
            ("no answer", early, 200, 1, request(5), "{}", "one"),
            ("half an answer", early, 200, 1, request(5), '{"predictions": [{"prediction": 1}]}', "one"),
            ("no request", early, 200, 1, None, response(0.1), "one"),
        ],
        "payloads",
    )
    settings = ScoreServed(model_name=NAME, payload_table=table, served_entities_table=entities)
    for inserted in ("3", "0"):
        score_served.run(context, settings)
        assert context.task_values["served"] == inserted
        found = context.tables.read("predictions").where(f"model_name = '{NAME}'").orderBy("entity_id").collect()
        flights = [f"UA-{number}-EWR-ORD-20130115T1700Z" for number in (1, 2, 3)]
        assert [row["entity_id"] for row in found] == flights
        assert [(row["probability"], row["prediction"], row["model_version"]) for row in found] == [
            (0.25, 0, 1),
            (0.5, 1, 1),
            (0.75, 1, 2),
        ]
        assert [(row["source"], row["response_time_ms"]) for row in found] == [("serving", ms) for ms in (7, 7, 9)]
        assert {row["scored_at"].astimezone(UTC) for row in found} == {early, AS_OF}
        assert reasons(context) == {
            "of nobody": "served entity nobody is of no known version",
            "of another model": "served entity other is of no known version",
            "cut off": "the body is invalid JSON, at line 1, column 144",
            "one answer too few": "the response has no prediction, or not one for each row of the request",
            "no answer": "the response has no prediction, or not one for each row of the request",
            "half an answer": "the response has no prediction, or not one for each row of the request",
            "no request": "the body is invalid JSON, at line 1, column 1",
        }


def reasons(context: Context) -> dict[str, str]:
    rows: list[Row] = context.tables.read("raw_rejects").where("source_row LIKE '%databricks_request_id%'").collect()
    assert all(len(row["reasons"]) == 1 for row in rows)
    return {json.loads(row["source_row"])["databricks_request_id"]: row["reasons"][0] for row in rows}


def test_a_table_that_is_not_there_is_said_in_one_line(context: Context, entities: str) -> None:
    settings = ScoreServed(
        model_name=NAME, payload_table="spark_catalog.shared.nothing", served_entities_table=entities
    )
    with pytest.raises(UserError, match=r"table spark_catalog.shared.nothing does not exist"):
        score_served.run(context, settings)
    assert pd.notna(entities)
