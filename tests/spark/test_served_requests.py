"""What an inference table says of two versions: counts by version and period, and forecasts for the same requests."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame

from flight_delays.core.clocks import Answered, Split
from flight_delays.core.errors import UserError
from flight_delays.core.paired import CHANGED
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry, predict
from flight_delays.platform.served_requests import (
    Measured,
    Period,
    both_forecasts,
    newest_answered,
    served,
    with_versions,
)
from flight_delays.use_case import USE_CASE

NAME = "asked by many"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BEFORE, ONE = NOON - timedelta(microseconds=1), NOON + timedelta(hours=1)
PAYLOADS = (
    "databricks_request_id string, request_time timestamp, status_code int, execution_duration_ms bigint, "
    "request string, response string, served_entity_id string, client_request_id string"
)
ENTITIES = "served_entity_id string, entity_name string, entity_version string, change_time timestamp"


@pytest.fixture(scope="module")
def measured(new_tables: Callable[[str], Tables]) -> Tables:
    """A schema with served entities, and nothing served yet."""
    tables = new_tables("measured")
    rows = [
        ("one", NAME, "2", BEFORE),
        ("one", NAME, "1", NOON),  # what was said last holds
        ("two", NAME, "2", NOON),
        ("three", NAME, "3", NOON),
        ("other", "another model", "1", NOON),
    ]
    land(tables, tables.spark.createDataFrame(rows, ENTITIES), "entities")
    return tables


def land(tables: Tables, frame: DataFrame, name: str) -> str:
    frame.write.format("delta").saveAsTable(tables.name(name))
    return f"{tables.schema}.{name}"


def test_the_scoring_services_own_ids_tell_the_version(measured: Tables) -> None:
    ids = {
        **{"one": 1, "two": 2, "other": None, "nobody": None, None: None},
        **{"champion-7": 7, "challenger-12": 12, "champion-": None, "champion-x1": None, "shadow-3": None},
        **{"champion-1.5": None, "champion-12345678901": None},
    }
    payloads = measured.spark.createDataFrame([(one,) for one in ids], "served_entity_id string")
    found = with_versions(payloads, measured.spark.read.table(measured.name("entities")), NAME)
    assert {row["served_entity_id"]: row["model_version"] for row in found.collect()} == ids


def test_requests_are_counted_by_version_and_period(measured: Tables) -> None:
    rows = [
        (NOON, 200, 7, "one"),
        (BEFORE + timedelta(hours=1), 200, 7, "one"),
        (NOON, 200, 9, "two"),
        (NOON, 200, None, "one"),  # not timed
        (NOON, 400, 1, "two"),  # the caller's fault
        (NOON, 499, 1, "two"),
        (NOON, 500, 1, "two"),
        (NOON, None, 1, "two"),  # nobody knows of an answer
        (NOON, 200, 8, "three"),
        (NOON, 200, 8, "other"),
        (NOON, 200, 8, None),
        (BEFORE, 200, 8, "two"),
        (None, 200, 8, "two"),
        (ONE, 200, 9, "two"),
        (NOON + timedelta(hours=2), 200, 8, "two"),
    ]
    counted = [(None, *one[:3], None, None, one[3], "a caller's") for one in rows]
    replayed = (None, NOON, 500, 7, None, None, "two", "rollout-replay")
    frame = measured.spark.createDataFrame([*counted, replayed], PAYLOADS)
    table = land(measured, frame, "counted")
    periods = [
        Period(begin=NOON, end=ONE, percentage=5),
        Period(begin=ONE, end=NOON + timedelta(hours=2), percentage=25),
    ]
    entities = f"{measured.schema}.entities"
    assert served(measured, table, entities, NAME, periods, champion=1, challenger=2) == Measured(
        champion=Answered(requests=3, errors=0, latencies_ms={7: 2}),
        challenger=Answered(requests=6, errors=2, latencies_ms={9: 2}),
        splits=(Split(percentage=5, challenger=5, all=11), Split(percentage=25, challenger=1, all=1)),
        others=3,
        newest=NOON + timedelta(hours=2),
    )


def test_a_table_that_is_not_there_is_said_in_one_line(measured: Tables) -> None:
    with pytest.raises(UserError, match=r"table spark_catalog.measured.nothing does not exist"):
        served(measured, "spark_catalog.measured.nothing", "", NAME, [], champion=1, challenger=2)


def test_both_versions_forecast_the_newest_requests_with_the_same_columns(
    measured: Tables, registry: Registry, new_version: Callable[..., int]
) -> None:
    assert [new_version(NAME), new_version(NAME, wrong=True)] == [1, 2]
    old, new = (registry.load(NAME, number) for number in (1, 2))
    flight = {"carrier": "UA", "origin": "EWR", "dest": "ORD", "distance": 700, "sched_arr_time": 900}
    departure = pd.Timestamp("2013-01-15 17:00")

    def scored(number: int, visibility: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        looked_up = {**dict.fromkeys(USE_CASE.looked_up, np.nan), "weather_visib": visibility}
        rows = pd.DataFrame([{**flight, "flight": number, "sched_dep_ts": departure, **looked_up}])
        return predict(old, rows), predict(new, rows)

    def payload(
        at: datetime, number: int, answer: pd.DataFrame, entity: str = "one", **given: float
    ) -> tuple[object, ...]:
        row = {**flight, "flight": number, "sched_dep_ts": "2013-01-15T17:00:00", **given}
        told = json.dumps({"dataframe_records": [row]}), json.dumps({"predictions": answer.to_dict("records")})
        return (str(number), at, 200, 1, *told, entity, None)

    later = [NOON + timedelta(minutes=minute) for minute in range(6)]
    write_features(measured, {number: [(1.0, 0), (9.0, -1)] for number in (2, 3, 4)})
    unknown, low, high = (scored(1, visibility)[0] for visibility in (np.nan, 1.0, 9.0))
    assert len({frame["probability"][0] for frame in (unknown, low, high)}) == 3
    rows = [
        payload(later[1], 1, high, weather_visib=9.0),
        payload(later[2], 2, low),  # looked up: the newest row
        payload(later[3], 3, unknown),  # looked up in vain
        payload(later[4], 4, high),  # looked up when it was another
        payload(later[5], 5, scored(5, 9.0)[1], "two", weather_visib=9.0),
        payload(BEFORE, 6, high, weather_visib=9.0),
        payload(ONE, 7, high, weather_visib=9.0),
        ("not answered", later[1], 500, 1, "{}", "{}", "one", None),
        ("too long to be logged", later[5], 200, 1, None, None, "one", None),
        (*payload(later[5], 8, high, weather_visib=9.0)[:-1], "rollout-replay"),
    ]
    table = land(measured, measured.spark.createDataFrame(rows, PAYLOADS), "answered")

    def both(limit: int) -> tuple[list[int], list[float], list[float], dict[str, int]]:
        stored = measured, table, f"{measured.schema}.entities", NAME
        requests = newest_answered(*stored, version=1, since=NOON, until=ONE, limit=limit)
        models = measured, registry, USE_CASE, NAME
        found = both_forecasts(requests, *models, until=ONE, champion=1, challenger=2, limit=limit)
        flights = [int(entity.split("-")[1]) for entity in found.entities]
        assert found.failed == 0
        assert found.decisions is not None
        for decided, forecasts in zip(found.decisions, (found.champion, found.challenger), strict=True):
            assert decided.tolist() == (forecasts >= 0.5).tolist()
        return flights, found.champion.tolist(), found.challenger.tolist(), dict(found.left_out)

    expected = [scored(number, visibility) for number, visibility in ((3, np.nan), (2, 1.0), (1, 9.0))]
    champion, challenger = ([pair[at]["probability"][0] for pair in expected] for at in (0, 1))
    unread = "the body is invalid JSON, at line 1, column 1"
    assert champion != challenger
    assert both(9) == ([3, 2, 1], champion, challenger, {unread: 1, CHANGED: 1})
    assert both(3) == ([3], champion[:1], challenger[:1], {unread: 1, CHANGED: 1})


def write_features(tables: Tables, flights: dict[int, list[tuple[float, int]]]) -> None:
    """Of each flight rows with a visibility, as of so many hours from noon."""
    schema = tables.read("features").schema
    known = {
        "day": date(2013, 1, 15),
        "sched_dep_ts": datetime(2013, 1, 15, 17, tzinfo=UTC),
        **{"carrier": "UA", "origin": "EWR", "dest": "ORD", "distance": 700, "sched_arr_time": 900},
    }
    rows = [
        {
            **dict.fromkeys(schema.names),
            **known,
            "entity_id": f"UA-{number}-EWR-ORD-20130115T1700Z",
            "flight": number,
            "prediction_ts": NOON + timedelta(hours=hours),
            "weather_visib": visibility,
        }
        for number, rows in flights.items()
        for visibility, hours in [*rows, (5.0, 2)]  # the last one is of later than the comparison
    ]
    tables.append("features", tables.spark.createDataFrame(rows, schema))
