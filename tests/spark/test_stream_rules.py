"""What becomes of an event. Times are minutes after midnight; the watermark is 60 minutes behind."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.stream import Progress, healthy, sort_out, watermark
from flight_delays.platform.events import envelope, from_messages, incoming, rows_told, with_problems
from flight_delays.platform.tables import Tables
from flight_delays.tasks.score_stream import raw_schemas
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.sources import FLIGHTS

DELAY = timedelta(minutes=60)
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
SENT = 10_000


@dataclass(frozen=True)
class Event:
    """An event, and what becomes of it."""

    id: str | None
    at: int | None
    fate: str
    sent: int | None = SENT
    kind: str | None = "scheduled"
    problems: tuple[str, ...] = ()


CASES: dict[str, tuple[Event, ...]] = {
    "the first": (Event("a", 100, "on_time"),),
    "newer than all before": (Event("a", 100, "on_time"), Event("b", 101, "on_time")),
    "as old as the newest": (Event("a", 100, "on_time"), Event("b", 100, "on_time")),
    "older than one before": (Event("a", 100, "on_time"), Event("b", 99, "out_of_order")),
    "one minute within the watermark": (Event("a", 100, "on_time"), Event("b", 41, "out_of_order")),
    "at the watermark": (Event("a", 100, "on_time"), Event("b", 40, "out_of_order")),
    "one minute beyond it": (Event("a", 100, "on_time"), Event("b", 39, "late")),
    "a copy": (Event("a", 100, "on_time"), Event("a", 100, "duplicate")),
    "a third copy": (Event("a", 100, "on_time"), Event("a", 100, "duplicate"), Event("a", 100, "duplicate")),
    "a copy of an event out of order": (
        *(Event("a", 100, "on_time"), Event("b", 50, "out_of_order")),
        Event("b", 50, "duplicate"),
    ),
    "a copy beyond the watermark is late": (
        *(Event("a", 100, "on_time"), Event("b", 161, "on_time")),
        Event("a", 100, "late"),
    ),
    "of an id that only came late": (
        *(Event("a", 100, "on_time"), Event("b", 1, "late")),
        Event("b", 99, "out_of_order"),
    ),
    "of an id at the watermark": (
        *(Event("a", 100, "on_time"), Event("b", 160, "on_time")),
        Event("a", 165, "duplicate"),
    ),
    "of an id that the watermark has passed": (
        *(Event("a", 100, "on_time"), Event("b", 161, "on_time")),
        Event("a", 165, "on_time"),
    ),
    "a copy of a late one is late": (Event("a", 100, "on_time"), Event("b", 1, "late"), Event("b", 1, "late")),
    "a late event moves nothing": (Event("a", 100, "on_time"), Event("b", 1, "late"), Event("c", 100, "on_time")),
    "without an id": (Event(None, 100, "malformed"),),
    "without a time": (Event("a", None, "malformed"),),
    "without a kind": (Event("a", 100, "malformed", kind=None),),
    "without a time of sending": (Event("a", 100, "malformed", sent=None),),
    "with a problem of its source": (Event("a", 100, "malformed", problems=("carrier is missing",)),),
    "an hour ahead of its sending": (Event("a", 160, "on_time", sent=100),),
    "more than an hour ahead of it": (Event("a", 161, "malformed", sent=100),),
    "a malformed one moves no watermark": (Event("a", 500, "malformed", sent=1), Event("b", 100, "on_time")),
    "after a malformed one of its id": (Event("a", 500, "malformed", sent=1), Event("a", 100, "on_time")),
}
SEEN = "source string, event_id string, event_time timestamp"
SCHEMA = (
    "source string, event_id string, kind string, event_time timestamp, sent_at timestamp, sequence long, "
    "problems array<string>"
)


def minutes(at: int | None) -> datetime | None:
    return None if at is None else MIDNIGHT + timedelta(minutes=at)


def frame(spark: SparkSession, logs: dict[str, list[tuple[int, Event]]]) -> DataFrame:
    rows = [
        (name, event.id, event.kind, minutes(event.at), minutes(event.sent), number, list(event.problems))
        for name, log in logs.items()
        for number, event in log
    ]
    return spark.createDataFrame(rows, SCHEMA)


def fates(spark: SparkSession, logs: dict[str, list[tuple[int, Event]]], seen: DataFrame, newest: dict[str, datetime]):
    found = sort_out(frame(spark, logs), seen, newest=newest, delay=DELAY)
    return {
        (row["source"], row["sequence"]): row["fate"] for row in found.select("source", "sequence", "fate").collect()
    }


def nothing(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([], SEEN)


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple[str, int], str]:
    """Each case is a source of its own."""
    logs = {name: list(enumerate(log)) for name, log in CASES.items()}
    return fates(spark, logs, nothing(spark), {})


@pytest.mark.parametrize("name", CASES)
def test_an_event_that_comes(name: str, found: dict[tuple[str, int], str]) -> None:
    assert [found[name, number] for number in range(len(CASES[name]))] == [event.fate for event in CASES[name]]


def test_what_becomes_of_events_does_not_hang_on_how_the_log_is_cut(spark: SparkSession) -> None:
    rng = Random(7)
    logs = {}
    for name in ("one", "other", "third"):
        times = [rng.randrange(0, 400) for _ in range(120)]
        logs[name] = [(number, Event(f"{rng.randrange(50)}", at, "")) for number, at in enumerate(times)]
    whole = fates(spark, logs, nothing(spark), {})
    assert set(whole.values()) == {"on_time", "out_of_order", "duplicate", "late"}
    cut, seen, newest = {}, nothing(spark), {}
    for first, last in ((0, 17), (17, 18), (18, 77), (77, 120)):
        part = {name: log[first:last] for name, log in logs.items()}
        some = fates(spark, part, seen, newest)
        cut |= some
        taken = [
            (name, event.id, minutes(event.at))
            for name, log in part.items()
            for number, event in log
            if some[name, number] in ("on_time", "out_of_order", "duplicate")
        ]
        seen = seen.unionByName(spark.createDataFrame(taken, SEEN))
        newest = {name: minutes(max(event.at or 0 for _, event in log[:last])) for name, log in logs.items()}
    assert cut == whole


def test_the_watermark_is_that_of_the_slowest_source() -> None:
    assert watermark({}, DELAY) is None
    newest = {"flights": MIDNIGHT + timedelta(hours=5), "weather": MIDNIGHT + timedelta(hours=3)}
    assert watermark(newest, DELAY) == MIDNIGHT + timedelta(hours=2)


@pytest.mark.parametrize(
    ("lag", "outcome"),
    [
        *((59.9, Outcome.PASS), (60.0, Outcome.PASS), (60.1, Outcome.FAIL)),
        *((float("nan"), Outcome.FAIL), (None, Outcome.INCONCLUSIVE)),
    ],
)
def test_a_stream_is_healthy_up_to_the_lag_that_is_allowed(lag: float | None, outcome: Outcome) -> None:
    recent = [] if lag is None else [progress(999.0), progress(lag)]
    assert healthy(recent, max_lag_seconds=60).outcome is outcome


def progress(lag: float) -> Progress:
    counts = dict.fromkeys(("events", "out_of_order", "duplicates", "late", "malformed", "scored", "state_rows"), 1)
    rates = dict.fromkeys(("input_rows_per_second", "processing_seconds"), 1.0)
    return Progress(query_id="q", batch_id=0, model_version=1, watermark=None, lag_seconds=lag, **counts, **rates)


def test_messages_of_kafka_become_events_with_a_source_per_partition(spark: SparkSession) -> None:
    body = (
        '{"event_id": "e", "kind": "weather", "event_time": "2013-01-01T05:00:00Z", "body": "{\\"origin\\":\\"JFK\\"}"}'
    )
    rows = [(b"k", body.encode(), "weather", 3, 17, MIDNIGHT), (b"k", b"no JSON", "weather", 3, 18, MIDNIGHT)]
    messages = spark.createDataFrame(
        rows, "key binary, value binary, topic string, partition int, offset long, timestamp timestamp"
    )
    good, bad = from_messages(messages).orderBy("sequence").collect()
    assert (good["source"], good["event_id"], good["kind"], good["sequence"]) == ("weather/3", "e", "weather", 17)
    assert good["body"] == '{"origin":"JFK"}'
    assert (bad["sequence"], bad["event_id"], bad["event_time"], bad["body"]) == (18, None, None, "no JSON")


STATION = '{"origin": "JFK", "observed_at": "2013-01-01T05:00:00Z", "known_at": "2013-01-01T06:00:00.000001+00:00"'
HUMID = "humid is not a percentage"
NEEDED = ["origin is missing", "observed_at is missing", "known_at is missing"]
SCHEDULE = ("carrier", "flight", "origin", "dest", "flight_date", "sched_dep_ts", "sched_arr_time", "known_at")
# As JSON; tests/unit/test_events.py has all else that a body may say.
BODIES: list[tuple[str | None, str | None, list[str]]] = [
    ("weather", STATION + ', "temp": null, "humid": 100}', []),
    ("weather", STATION + ', "humid": 100.1}', [HUMID]),
    ("weather", STATION + ', "temp": "NaN"}', ["temp is not a number, or infinite"]),
    ("weather", STATION + ', "humid": "Infinity"}', ["humid is not a number, or infinite", HUMID]),
    ("weather", "no JSON", NEEDED),
    ("weather", None, NEEDED),
    (None, None, []),
    (
        "scheduled",
        '{"flight_id": "f", "distance": 0}',
        [*(f"{name} is missing" for name in SCHEDULE), "distance is not positive"],
    ),
]


def test_an_event_whose_body_cannot_be_landed_says_why(spark: SparkSession, tables: Tables) -> None:
    rows = [(number, kind, body) for number, (kind, body, _) in enumerate(BODIES)]
    events = spark.createDataFrame(rows, "sequence int, kind string, body string")
    found = with_problems(events, USE_CASE, raw_schemas(USE_CASE, tables))
    assert found.columns == [*events.columns, "problems"]
    assert sorted(map(tuple, found.collect())) == [(*row, why) for row, (*_, why) in zip(rows, BODIES, strict=True)]


def test_columns_that_are_added_to_a_source_are_ignored_and_missing_or_other_ones_refused(tables: Tables) -> None:
    raw = tables.read("raw_weather").schema
    events = tables.read("weather_events")
    widened = envelope(events.withColumn("new", F.lit(1)), "weather_events", raw)
    assert widened.columns == envelope(events, "weather_events", raw).columns
    with pytest.raises(UserError, match="weather_events: column temp is missing, not double"):
        envelope(events.drop("temp"), "weather_events", raw)
    with pytest.raises(UserError, match="weather_events: column sequence is string, not bigint"):
        envelope(events.withColumn("sequence", F.lit("1")), "weather_events", raw)


def test_a_use_case_without_events_has_no_stream(spark: SparkSession, tables: Tables) -> None:
    silent = replace(USE_CASE, sources=tuple(replace(source, events=None) for source in USE_CASE.sources))
    assert raw_schemas(silent, tables) == {}
    with pytest.raises(UserError, match=r"^flight_delays declares no events; give a source of the use case some"):
        incoming(spark, tables.schema, silent, {}, max_bytes="1m")


# Sequence, kind and body: an event is later than another by its sequence, in whatever order it is read.
TOLD: list[tuple[int, str, dict[str, object]]] = [
    (3, "departed", {"flight_id": "a", "carrier": "UA", "distance": 2, "dep_delay": 7.0}),
    (1, "scheduled", {"flight_id": "a", "carrier": "UA", "distance": 1, "tailnum": "N1"}),
    (2, "scheduled", {"flight_id": "b", "carrier": "AA", "distance": 5}),
    (4, "weather", {"origin": "JFK"}),
]


def test_events_of_one_key_make_one_row_of_what_was_told_last(spark: SparkSession, tables: Tables) -> None:
    rows = [(number, f"{number}", MIDNIGHT, kind, json.dumps(body)) for number, kind, body in TOLD]
    events = spark.createDataFrame(
        rows, "sequence long, event_id string, event_time timestamp, kind string, body string"
    )
    row = raw_schemas(USE_CASE, tables)["flight_events"]
    found = rows_told(events, FLIGHTS, ("scheduled", "departed"), row)
    assert found.columns == row.names
    told = found.select("flight_id", "carrier", "distance", "tailnum", "dep_delay", "arr_delay").orderBy("flight_id")
    assert [tuple(one) for one in told.collect()] == [
        ("a", "UA", 2, "N1", 7.0, None),
        ("b", "AA", 5, None, None, None),
    ]
    assert [
        one["distance"] for one in rows_told(events, FLIGHTS, ["scheduled"], row).orderBy("flight_id").collect()
    ] == [
        1,
        5,
    ]
