"""What an event tells, and why its body cannot be landed."""

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.raw import raw_tables

from flight_delays.core.events import Events, Kind, completed, problems, rows_told
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.sources import FLIGHT_EVENTS, FLIGHTS, WEATHER_EVENTS
from flight_delays.use_case.sources import WEATHER as HOURS

TOLD, RULES = [(FLIGHTS, FLIGHT_EVENTS), (HOURS, WEATHER_EVENTS)], (*FLIGHTS.rules, *HOURS.rules)
SCHEDULED, DEPARTED, ARRIVED, WEATHER = "scheduled", "departed", "arrived", "weather"
SCHEMA = pa.schema({"kind": pa.string(), **{of.table: pa.struct(list(of.schema)) for of in (FLIGHTS, HOURS)}})
TEN = datetime(2013, 1, 1, 10, tzinfo=UTC)
FLIGHT: dict[str, Any] = {
    "kind": SCHEDULED,
    "flight_id": "UA-1-EWR-IAH-20130101T1200Z",
    "carrier": "UA",
    "flight": 1,
    "origin": "EWR",
    "dest": "IAH",
    "distance": 1400,
    "flight_date": date(2013, 1, 1),
    "sched_dep_ts": TEN.replace(hour=12),
    "sched_arr_time": 1000,
    "known_at": TEN,
}
TOOK_OFF = {**FLIGHT, "kind": DEPARTED, "dep_delay": 2.0, "departure_known_at": TEN.replace(hour=13)}
LANDED = {
    **TOOK_OFF,
    "kind": ARRIVED,
    "arr_delay": 11.0,
    "air_time": 227.0,
    "outcome_known_at": TEN.replace(hour=17),
}
HOUR: dict[str, Any] = {"kind": WEATHER, "origin": "JFK", "observed_at": TEN, "known_at": TEN.replace(hour=11)}
NAN, INFINITY = float("nan"), float("inf")

KIND = "kind is none of scheduled, departed, arrived, weather"
SCHEDULE = ["flight_id", "carrier", "flight", "origin", "dest", "distance", "flight_date"]
SCHEDULE += ["sched_dep_ts", "sched_arr_time", "known_at"]
WITHOUT = "arrived without a departure delay and an air time"
HUMID, SENSIBLE = "humid is not a percentage", "a delay or the air time is not a sensible number of minutes"
POSITIVE, ARRIVES = "distance is not positive", "sched_arr_time is not a time of day"
WIND = "wind_speed is above 250 mph, more than any station ever measured"
GUST = "wind_gust is above 260 mph, more than any station ever measured"
DIRECTION = "wind_dir is not a direction in degrees"


def infinite(name: str) -> str:
    return f"{name} is not a number, or infinite"


def missing(*names: str) -> list[str]:
    return [f"{name} is missing" for name in names]


CASES: list[tuple[dict[str, Any], list[str]]] = [
    (FLIGHT, []),
    (TOOK_OFF, []),
    (LANDED, []),
    (HOUR, []),
    # What an event of its kind must say.
    ({}, []),  # without a kind it is refused as an event
    ({"kind": SCHEDULED}, missing(*SCHEDULE)),
    ({"kind": SCHEDULED, "flight_id": "f"}, missing(*SCHEDULE[1:])),
    ({"kind": DEPARTED}, missing(*SCHEDULE, "dep_delay", "departure_known_at")),
    ({"kind": ARRIVED}, missing(*SCHEDULE, "arr_delay", "air_time", "outcome_known_at")),
    ({"kind": WEATHER}, missing("origin", "observed_at", "known_at")),
    ({"kind": WEATHER, "origin": "JFK"}, missing("observed_at", "known_at")),
    ({"kind": "sneezed"}, [KIND]),
    ({**FLIGHT, "kind": "sneezed"}, [KIND]),
    ({**FLIGHT, "kind": ""}, [KIND]),
    ({**FLIGHT, "tailnum": None}, []),
    *(({**FLIGHT, name: None}, missing(name)) for name in SCHEDULE),
    *(({**TOOK_OFF, name: None}, missing(name)) for name in ("dep_delay", "departure_known_at")),
    *(({**LANDED, name: None}, missing(name)) for name in ("arr_delay", "outcome_known_at")),
    ({**LANDED, "air_time": None}, [*missing("air_time"), WITHOUT]),
    ({**LANDED, "dep_delay": None}, [WITHOUT]),
    *(({**HOUR, name: None}, missing(name)) for name in ("origin", "observed_at", "known_at")),
    # What no event may say.
    ({**HOUR, "temp": None}, []),
    *(({**HOUR, "humid": value}, []) for value in (0.0, 100.0)),
    *(({**HOUR, "humid": value}, [HUMID]) for value in (-0.1, 100.1)),
    *(({**HOUR, "wind_speed": value}, why) for value, why in ((249.9, []), (250.0, []), (250.1, [WIND]))),
    *(({**HOUR, "wind_gust": value}, why) for value, why in ((259.9, []), (260.0, []), (260.1, [GUST]))),
    *(({**HOUR, "wind_dir": value}, why) for value, why in ((359.0, []), (360.0, []), (361.0, [DIRECTION]))),
    *(({**HOUR, "temp": value}, [infinite("temp")]) for value in (NAN, INFINITY, -INFINITY)),
    ({**HOUR, "humid": NAN}, [infinite("humid")]),
    ({**HOUR, "humid": INFINITY}, [infinite("humid"), HUMID]),
    ({**TOOK_OFF, "dep_delay": 99_999.9}, []),
    *(({**TOOK_OFF, "dep_delay": value}, [SENSIBLE]) for value in (-1e5, 1e5, 100_000.1)),
    ({**TOOK_OFF, "arr_delay": 1e12}, [SENSIBLE, WITHOUT]),
    # What it says of the other table's columns is not heard.
    ({**HOUR, "dep_delay": 1e12}, []),
    ({**LANDED, "arr_delay": -INFINITY}, [infinite("arr_delay"), SENSIBLE]),
    ({**LANDED, "air_time": NAN}, [infinite("air_time"), WITHOUT]),
    *(({**FLIGHT, "distance": value}, [POSITIVE]) for value in (-5, 0)),
    *(({**FLIGHT, "distance": value}, []) for value in (1, 2**53 - 1, 2**53)),
    *(
        ({**FLIGHT, name: value}, [f"{name} is beyond 2^53"])
        for name in ("distance", "sched_arr_time")
        for value in (2**53 + 1, 2**63 - 1, -(2**53) - 1, -(2**63))
    ),
    *(({**FLIGHT, "sched_arr_time": value}, []) for value in (0, 1459, 2400)),
    *(({**FLIGHT, "sched_arr_time": value}, [ARRIVES]) for value in (-1, 1460, 2401)),
    ({**FLIGHT, "sched_arr_time": 2401, "distance": 0, "carrier": None}, [*missing("carrier"), ARRIVES, POSITIVE]),
]


def event(body: dict[str, Any]) -> dict[str, Any]:
    """A body says something of the table of its kind, and of no other."""
    of = HOURS if body.get("kind") == WEATHER else FLIGHTS
    said = {name: value for name, value in body.items() if name in of.columns}
    return {"kind": body.get("kind"), of.table: said or None}


def found(*bodies: dict[str, Any]) -> list[list[str]]:
    return problems(pa.Table.from_pylist([event(body) for body in bodies], SCHEMA), TOLD)


@pytest.mark.parametrize(("body", "why"), CASES)
def test_an_event_whose_body_cannot_be_landed_says_why(body: dict[str, Any], why: list[str]) -> None:
    assert found(body) == [why]
    assert found({}, LANDED, body, HOUR) == [[], [], why, []]


def test_every_event_of_a_batch_says_its_own() -> None:
    assert found(*(body for body, _ in CASES)) == [why for _, why in CASES]
    assert found() == []


def test_every_rule_has_a_case_but_the_one_that_needs_more_than_an_event_says() -> None:
    reasons = {why for _, told in CASES for why in told}
    (clock,) = (rule.reason for rule in FLIGHTS.rules if "local_time" in rule.columns)
    assert {rule.reason for rule in RULES} - reasons == {clock}


def test_without_events_any_kind_is_unknown_and_nothing_is_needed() -> None:
    bodies = pa.Table.from_pylist([{}, {"kind": SCHEDULED}], SCHEMA)
    assert problems(bodies, ()) == [[], ["kind is none of "]]


ASKED, CHANGED, ENDED = (
    Kind(name="asked", known_at="asked_at", asks=True),
    Kind(name="changed", known_at="changed_at", reveals=("colour", "changed_at")),
    Kind(name="ended", known_at="ended_at", reveals=("result", "ended_at"), concludes=True),
)
COLUMNS = ("id", "colour", "result", "asked_at", "changed_at", "ended_at")


@pytest.mark.parametrize(
    ("kinds", "kind", "columns"),
    [
        ((ASKED, CHANGED, ENDED), ASKED, ("id", "asked_at")),
        ((ASKED, CHANGED, ENDED), CHANGED, ("id", "colour", "asked_at", "changed_at")),
        ((ASKED, CHANGED, ENDED), ENDED, COLUMNS),
        # Their order decides what is known already.
        ((ASKED, ENDED, CHANGED), ENDED, ("id", "result", "asked_at", "ended_at")),
        ((ASKED, ENDED, CHANGED), CHANGED, COLUMNS),
        ((ENDED, ASKED), ASKED, COLUMNS),
        # What no kind reveals is told from the start.
        ((ASKED,), ASKED, COLUMNS),
        ((ASKED, CHANGED), ASKED, ("id", "result", "asked_at", "ended_at")),
    ],
)
def test_an_event_tells_what_no_later_kind_reveals(
    kinds: tuple[Kind, ...], kind: Kind, columns: tuple[str, ...]
) -> None:
    events = Events(table="events", needs=("id",), kinds=kinds)
    assert events.told(kind, COLUMNS) == columns
    assert events.told(kind, COLUMNS[::-1]) == columns[::-1]
    assert events.told(kind, ("id",)) == ("id",)


def test_which_kinds_ask_is_told_by_their_names() -> None:
    assert (FLIGHT_EVENTS.names, FLIGHT_EVENTS.asking) == ([SCHEDULED, DEPARTED, ARRIVED], [SCHEDULED])
    assert (WEATHER_EVENTS.names, WEATHER_EVENTS.asking) == ([WEATHER], [])


def test_what_an_event_must_say_is_told_by_its_kind() -> None:
    assert USE_CASE.told == TOLD
    for contract, events in TOLD:
        for kind in events.kinds:
            columns = events.told(kind, contract.columns)
            assert {*events.needs, *kind.reveals, kind.known_at} <= {*columns}


def test_the_kinds_of_an_event_stand_in_the_order_in_which_rows_come_to_be_known() -> None:
    """A week of real flights: none arrives before it has left, and none is known before it is announced."""
    raw = raw_tables(datetime(2013, 2, 4, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC))
    times = [raw["raw_flights"][kind.known_at] for kind in FLIGHT_EVENTS.kinds]
    assert all(pc.sum(pc.is_valid(time)).as_py() > 4_000 for time in times)
    for earlier, later in pairwise(times):
        assert not pc.any(pc.and_(pc.is_null(earlier), pc.is_valid(later))).as_py()
        assert pc.all(pc.less(earlier, later)).as_py()


PLACES = {"batch_id": pa.int64(), "sequence": pa.int64()}
# Of one flight, later by micro-batch, then by sequence, in whatever order they are read: what was told last stands.
SAID: list[tuple[int, int, dict[str, Any]]] = [
    (0, 3, {**TOOK_OFF, "distance": 3}),
    (0, 1, {**FLIGHT, "distance": 1, "tailnum": "N1"}),
    (0, 2, {**FLIGHT, "flight_id": "b", "distance": 5}),
    (1, 0, {**FLIGHT, "distance": 4}),
    (1, 9, HOUR),
]


def told(kinds: list[str], rows: list[tuple[int, int, dict[str, Any]]]) -> list[tuple[object, ...]]:
    events = [{"batch_id": batch, "sequence": number, **event(body)} for batch, number, body in rows]
    made = rows_told(pa.Table.from_pylist(events, pa.schema([*PLACES.items(), *SCHEMA])), FLIGHTS, kinds)
    assert made.schema == FLIGHTS.schema
    shown = made.select(["flight_id", "distance", "tailnum", "dep_delay", "arr_delay"]).to_pylist()
    return sorted(tuple(row.values()) for row in shown)


@pytest.mark.parametrize("rows", [SAID, SAID[::-1]])
def test_events_of_one_key_make_one_row_of_what_was_told_last(rows: list[tuple[int, int, dict[str, Any]]]) -> None:
    one, other = FLIGHT["flight_id"], ("b", 5, None, None, None)
    assert told([SCHEDULED, DEPARTED], rows) == [(one, 4, "N1", 2.0, None), other]
    assert told([SCHEDULED], rows) == [(one, 4, "N1", None, None), other]
    assert told([DEPARTED], rows) == [(one, 3, None, 2.0, None)]
    assert told([ARRIVED], rows) == []


KEYED = pa.schema({"a": pa.string(), "b": pa.int64(), "x": pa.float64(), "y": pa.string()})


@pytest.mark.parametrize(
    ("rows", "new", "expected"),
    [
        ([], [], []),
        ([("p", 1, 1.0, "q")], [], [("p", 1, 1.0, "q")]),
        ([], [("p", 1, 1.0, "q")], [("p", 1, 1.0, "q")]),
        # Of the same key the values that are told; what is null says nothing.
        ([("p", 1, 1.0, "q")], [("p", 1, 2.0, None)], [("p", 1, 2.0, "q")]),
        ([("p", 1, None, "q")], [("p", 1, None, "r")], [("p", 1, None, "r")]),
        # A part of the key alone is another key.
        ([("p", 1, 1.0, "q")], [("p", 2, 2.0, "s")], [("p", 1, 1.0, "q"), ("p", 2, 2.0, "s")]),
    ],
)
def test_rows_are_completed_by_what_is_told(
    rows: list[tuple[Any, ...]], new: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]
) -> None:
    tables = [
        pa.Table.from_pylist([dict(zip(KEYED.names, row, strict=True)) for row in of], KEYED) for of in (rows, new)
    ]
    assert sorted(tuple(row.values()) for row in completed(*tables, ("a", "b")).to_pylist()) == expected
