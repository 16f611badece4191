"""Events on Spark: where they come from, and the rows that they tell, as core/events.py has them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tests.streams import Day, case, real_day

from flight_delays.core import events as in_memory
from flight_delays.core.errors import UserError
from flight_delays.core.stream import EVENT
from flight_delays.platform import event_source as on_spark
from flight_delays.platform.delta import Tables
from flight_delays.platform.event_source import delivered, from_messages, incoming, micro_batch
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.sources import WEATHER

MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def day() -> Day:
    return real_day()


STATION = {"origin": "JFK", "observed_at": "2013-01-01T05:00:00Z", "known_at": "2013-01-01T06:00:00.000001+00:00"}
JFK = {"origin": "JFK", "observed_at": MIDNIGHT + timedelta(hours=5)}
# What a message says, and what is heard of its body.
MESSAGES: list[tuple[dict[str, object], dict[str, object] | None]] = [
    ({"kind": "weather", "body": {**STATION, "temp": 39.02}}, {**JFK, "temp": 39.02, "humid": None}),
    ({"kind": "weather", "body": {**STATION, "temp": "cold"}}, {**JFK, "temp": None, "humid": None}),
    ({"kind": "weather"}, None),
    ({"kind": "sneezed", "body": STATION}, None),
]


def test_messages_of_kafka_become_events_with_a_source_per_partition(spark: SparkSession) -> None:
    envelope = {"event_id": "e", "event_time": "2013-01-01T05:00:00Z"}
    texts = [*(json.dumps({**envelope, **said}) for said, _ in MESSAGES), "no JSON", None]
    rows = [
        (None if text is None else text.encode(), "weather", 3, 17 + number, MIDNIGHT)
        for number, text in enumerate(texts)
    ]
    messages = spark.createDataFrame(
        rows, "value binary, topic string, partition int, offset long, timestamp timestamp"
    )
    found = micro_batch(from_messages(messages, USE_CASE), USE_CASE).sort_by("sequence").to_pylist()
    assert [one["sequence"] for one in found] == [*range(17, 23)]
    assert {one["source"] for one in found} == {"weather/3"}
    assert [one["message"] for one in found] == [*texts[:-1], ""]
    assert [one["kind"] for one in found] == [*(said["kind"] for said, _ in MESSAGES), None, None]
    assert [one["event_id"] for one in found] == ["e"] * len(MESSAGES) + [None, None]
    assert all(one["raw_flights"] is None for one in found)
    for one, (_, body) in zip(found, MESSAGES, strict=False):
        said = one["raw_weather"]
        assert (said and {name: said[name] for name in said.keys() & body.keys()}) == body if body else said is None


def test_columns_that_are_added_to_a_source_are_ignored_and_missing_or_other_ones_refused(tables: Tables) -> None:
    events = tables.read("weather_events")
    widened = delivered(events.withColumn("new", F.lit(1)), "weather_events", WEATHER)
    assert widened.columns == delivered(events, "weather_events", WEATHER).columns == [*EVENT.names, "raw_weather"]
    with pytest.raises(UserError, match="weather_events: column temp is missing, not double"):
        delivered(events.drop("temp"), "weather_events", WEATHER)
    with pytest.raises(UserError, match="weather_events: column sequence is string, not bigint"):
        delivered(events.withColumn("sequence", F.lit("1")), "weather_events", WEATHER)


def test_a_use_case_without_events_has_no_stream(spark: SparkSession, tables: Tables) -> None:
    silent = replace(USE_CASE, sources=tuple(replace(source, events=None) for source in USE_CASE.sources))
    with pytest.raises(UserError, match=r"^flight_delays declares no events; give a source of the use case some"):
        incoming(spark, tables.schema, silent, max_bytes="1m")


def test_spark_tells_and_completes_rows_as_memory_does(spark: SparkSession, day: Day) -> None:
    """Events of two micro-batches out of order, and rows that are there already."""
    rng, parts = Random(3), []
    for number, events in enumerate(case(day.events, 3, batches=2).batches):
        parts.append(events.append_column("batch_id", pa.array([number] * len(events), pa.int64())))
    events = pa.concat_tables(parts)
    events = events.take(pa.array(rng.sample(range(len(events)), len(events)), pa.int64()))
    frame = spark.createDataFrame(events)
    for contract, declared in USE_CASE.told:
        told = in_memory.rows_told(events, contract, declared.names)
        assert rows(on_spark.rows_told(frame, contract, declared.names).toArrow(), contract.key) == rows(
            told, contract.key
        )
        before = day.raw[contract.table]
        some = spark.createDataFrame(before)
        found = on_spark.completed(some, on_spark.rows_told(frame, contract, declared.names), contract).toArrow()
        assert rows(found, contract.key) == rows(in_memory.completed(before, told, contract.key), contract.key)
        assert len(found) > len(before)


def rows(of: pa.Table, key: tuple[str, ...]) -> list[dict[str, object]]:
    return sorted(of.to_pylist(), key=lambda row: [str(row[name]) for name in key])
