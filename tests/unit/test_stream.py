"""What becomes of an event, and what is remembered. Times are minutes after midnight; the watermark is 60 behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.streams import fates_of

from flight_delays.core.events import Events, Kind
from flight_delays.core.gates import Outcome
from flight_delays.core.quarantine import Contract, Field
from flight_delays.core.rules import Rule
from flight_delays.core.stream import (
    EVENT,
    SEEN,
    healthy,
    judge,
    newest_after,
    seen_after,
    watermark,
    without,
)

DELAY = timedelta(minutes=60)
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)
SENT = 10_000
# A raw table whose one rule says what is malformed.
LIGHTS = Contract(
    table="lights",
    key=("light",),
    fields={"light": Field(source="light", type=pa.string())},
    rules=(Rule(reason="it is broken", columns=("light",), broken=lambda light: light == "broken"),),
    columns=("light",),
)
TOLD = [(LIGHTS, Events(table="light_events", needs=("light",), kinds=(Kind(name="scheduled", known_at="known_at"),)))]


@dataclass(frozen=True)
class Event:
    """An event, and what becomes of it."""

    id: str | None
    at: int | None
    fate: str
    sent: int | None = SENT
    kind: str | None = "scheduled"
    light: str | None = "green"


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
    "that does not say what its kind says": (Event("a", 100, "malformed", light=None),),
    "that breaks a rule": (Event("a", 100, "malformed", light="broken"),),
    "of no known kind": (Event("a", 100, "malformed", kind="sneezed"),),
    "an hour ahead of its sending": (Event("a", 160, "on_time", sent=100),),
    "more than an hour ahead of it": (Event("a", 161, "malformed", sent=100),),
    "a malformed one moves no watermark": (Event("a", 500, "malformed", sent=1), Event("b", 100, "on_time")),
    "after a malformed one of its id": (Event("a", 500, "malformed", sent=1), Event("a", 100, "on_time")),
}


def minutes(at: int | None) -> datetime | None:
    return None if at is None else MIDNIGHT + timedelta(minutes=at)


def table(logs: Mapping[str, list[tuple[int | None, Event]]]) -> pa.Table:
    rows = [
        {
            "source": name,
            "event_id": event.id,
            "kind": event.kind,
            "event_time": minutes(event.at),
            "sent_at": minutes(event.sent),
            "sequence": number,
            "lights": {"light": event.light},
        }
        for name, log in logs.items()
        for number, event in log
    ]
    return pa.Table.from_pylist(rows, EVENT.append(pa.field("lights", pa.struct(list(LIGHTS.schema)))))


def fates(judged: pa.Table) -> dict[tuple[str, int | None], str]:
    places = zip(judged["source"].to_pylist(), judged["sequence"].to_pylist(), strict=True)
    return dict(zip(places, judged["fate"].to_pylist(), strict=True))


def judged(logs: Mapping[str, list[tuple[int | None, Event]]]) -> pa.Table:
    return judge(table(logs), TOLD, newest={}, seen=SEEN.empty_table(), delay=DELAY)


@pytest.mark.parametrize("name", CASES)
def test_an_event_that_comes(name: str) -> None:
    found = fates(judged({name: list(enumerate(CASES[name]))}))
    assert [found[name, number] for number in range(len(CASES[name]))] == [event.fate for event in CASES[name]]


def test_each_source_has_a_watermark_of_its_own() -> None:
    found = fates(judged({name: list(enumerate(log)) for name, log in CASES.items()}))
    assert [*found.values()] == [event.fate for log in CASES.values() for event in log]


def test_an_event_says_why_it_is_malformed_and_which_watermark_it_met() -> None:
    log = [
        Event("a", 100, "on_time"),
        Event(None, 500, "malformed", sent=1, light=None),
        Event("b", 99, "out_of_order"),
    ]
    found = judged({"one": list(enumerate(log))})
    assert found["reasons"].to_pylist() == [
        [],
        ["event_id is missing", "event_time is after sent_at; fix the clock of the sender", "light is missing"],
        [],
    ]
    assert found["watermark"].to_pylist() == [None, minutes(40), minutes(40)]


def test_an_event_without_a_place_in_the_order_of_sending_is_malformed() -> None:
    found = judged({"one": [(None, Event("a", 100, "")), (0, Event("b", 100, ""))]})
    assert found["fate"].to_pylist() == ["malformed", "on_time"]
    assert found["reasons"].to_pylist() == [["sequence is missing"], []]


def test_no_events_are_judged_to_be_none() -> None:
    assert judged({}).num_rows == 0


EVENTS = st.lists(
    st.tuples(st.sampled_from(["one", "other"]), st.integers(0, 9), st.integers(0, 200), st.booleans()), max_size=40
)


@settings(max_examples=200)
@given(events=EVENTS, cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 9))
def test_what_becomes_of_events_does_not_hang_on_how_the_log_is_cut_nor_in_which_order_it_is_read(
    events: list[tuple[str, int, int, bool]], cuts: list[int], seed: int
) -> None:
    logs: dict[str, list[tuple[int | None, Event]]] = {"one": [], "other": []}
    for source, name, at, good in events:
        logs[source].append((len(logs[source]), Event(f"{name}", at, "", light="green" if good else "broken")))
    whole, found = judged(logs), dict[tuple[str, int | None], str]()
    newest, seen, edges = {}, SEEN.empty_table(), [0, *sorted(cuts), 40]
    for first, last in pairwise(edges):
        part = table({name: log[first:last] for name, log in logs.items()})
        part = part.take(pa.array(Random(seed).sample(range(len(part)), len(part)), pa.int64()))
        some = judge(part, TOLD, newest=newest, seen=seen, delay=DELAY)
        newest = newest_after(some, newest)
        seen = seen_after(some, seen, newest, DELAY)
        found |= fates(some)
    assert found == fates(whole)
    good = whole.filter(pa.array([light["light"] == "green" for light in whole["lights"].to_pylist()], pa.bool_()))
    assert {key: fate.value for key, fate in fates_of([good]).items()} == fates(good)


def test_of_what_came_what_the_watermark_has_not_passed_is_kept() -> None:
    log = [Event("a", 100, ""), Event("a", 100, ""), Event("b", 99, ""), Event("c", 161, ""), Event("d", 50, "")]
    found = judged({"one": list(enumerate(log))})
    newest = newest_after(found, {"other": MIDNIGHT})
    assert newest == {"one": minutes(161), "other": MIDNIGHT}
    before = pa.table({"source": ["one", "other"], "event_id": ["x", "y"], "event_time": [minutes(101), minutes(-60)]})
    kept = seen_after(found, before.cast(SEEN), newest, DELAY)
    assert kept["event_id"].to_pylist() == ["x", "y", "c"]


def test_the_watermark_is_that_of_the_slowest_source() -> None:
    assert watermark({}, DELAY) is None
    newest = {"flights": MIDNIGHT + timedelta(hours=5), "weather": MIDNIGHT + timedelta(hours=3)}
    assert watermark(newest, DELAY) == MIDNIGHT + timedelta(hours=2)


@pytest.mark.parametrize(("scored", "left"), [([], ["a", "b"]), (["b", "c"], ["a"]), (["a", "b"], [])])
def test_who_was_scored_is_not_asked_for_again(scored: list[str], left: list[str]) -> None:
    assert without(pa.array(["a", "b"]), pa.array(scored, pa.string())).to_pylist() == left


@pytest.mark.parametrize(
    ("lag", "outcome"),
    [
        *((59.9, Outcome.PASS), (60.0, Outcome.PASS), (60.1, Outcome.FAIL)),
        *((float("nan"), Outcome.FAIL), (None, Outcome.INCONCLUSIVE)),
    ],
)
def test_a_stream_is_healthy_up_to_the_lag_that_is_allowed(lag: float | None, outcome: Outcome) -> None:
    assert healthy(lag, max_lag_seconds=60).outcome is outcome
