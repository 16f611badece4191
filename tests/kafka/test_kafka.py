"""The stream's events from a real Kafka broker: each message once, in its partition's order, with its fate."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.kafka.broker import PATIENCE_S, running_broker, spark_with_kafka

from flight_delays.core.stream import SEEN, judge
from flight_delays.use_case import USE_CASE

pytestmark = pytest.mark.spark
SEND_AND_READ = Path(__file__).with_name("send_and_read.py")
START, DELAY = datetime(2013, 1, 1, 6, tzinfo=UTC), timedelta(minutes=30)


def message(event_id: str, kind: str, minutes: float, **body: object) -> str:
    time = START + timedelta(minutes=minutes)
    return json.dumps({"event_id": event_id, "kind": kind, "event_time": time.isoformat(), "body": body})


def weather(event_id: str, minutes: float) -> str:
    body = {"origin": "JFK", "observed_at": "2013-01-01T05:00:00Z", "known_at": "2013-01-01T06:00:00Z", "temp": 39.5}
    return message(event_id, "weather", minutes, **body)


def departed(event_id: str, minutes: float) -> str:
    return message(event_id, "departed", minutes, flight_id="f", dep_delay=7)


# Partition, text and fate: what the first process reads, and what another one finds after it.
SENT: tuple[list[tuple[int, str | None, str]], ...] = (
    [
        (0, weather("a", 0), "on_time"),
        (0, weather("b", 60), "on_time"),
        (0, "not JSON", "malformed"),
        (0, None, "malformed"),
        (0, weather("b", 60), "duplicate"),
        (1, weather("c", 20), "on_time"),
        (1, departed("incomplete", 20), "malformed"),
    ],
    [
        (0, weather("b", 60), "duplicate"),
        (0, weather("d", 29.999), "late"),
        (0, weather("e", 30), "out_of_order"),
        (0, weather("f", 60.001), "on_time"),
        (1, weather("g", 19), "out_of_order"),
        (1, weather("b", 20), "on_time"),
    ],
)


@pytest.fixture(scope="module")
def events() -> pa.Table:
    """What is read of SENT, in the order of each partition."""
    with TemporaryDirectory(prefix="kafka-") as name, running_broker(Path(name)) as address:
        folder = Path(name)
        submit = spark_with_kafka(folder)
        environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": submit}
        for part in SENT:
            messages = json.dumps([[partition, text] for partition, text, _ in part])
            command = [sys.executable, str(SEND_AND_READ), address, messages, name]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
            assert run.returncode == 0, run.stderr[-3000:]
        rows = pq.read_table(folder / "rows").sort_by([("source", "ascending"), ("sequence", "ascending")])
    return rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))


def test_each_message_is_read_once_in_its_partitions_order_also_by_a_process_that_goes_on_from_the_checkpoint(
    events: pa.Table,
) -> None:
    offsets = Counter[int]()
    sent = []
    for partition, text, _ in (each for part in SENT for each in part):
        sent.append((f"events/{partition}", offsets[partition], text or ""))
        offsets[partition] += 1
    read = events.select(["source", "sequence", "message"]).to_pylist()
    assert [tuple(row.values()) for row in read] == sorted(sent)


def test_a_message_says_what_its_kind_tells_of_one_raw_table(events: pa.Table) -> None:
    rows = {row["event_id"]: row for row in events.to_pylist()}
    time, body = datetime(2013, 1, 1, 6, tzinfo=UTC), rows["a"]["raw_weather"]
    assert (rows["a"]["kind"], rows["a"]["event_time"], rows["a"]["raw_flights"]) == ("weather", START, None)
    assert (body["origin"], body["known_at"], body["temp"], body["humid"]) == ("JFK", time, 39.5, None)
    assert rows["incomplete"]["raw_flights"]["dep_delay"] == 7
    assert rows["incomplete"]["raw_weather"] is None
    assert rows[None]["raw_flights"] is rows[None]["raw_weather"] is None


def test_the_fate_of_a_message_follows_from_its_partitions_order_and_watermark(events: pa.Table) -> None:
    judged = judge(events, USE_CASE.told, newest={}, seen=SEEN.empty_table(), delay=DELAY)
    expected = [(partition, fate) for part in SENT for partition, _, fate in part]
    assert judged["fate"].to_pylist() == [fate for _, fate in sorted(expected, key=lambda each: each[0])]
