"""Past flights as events, and what a stream will find among them: exactly what was injected."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bench.send_events import Disorder, Injected, Slice, app, disorder, events_of, paced
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flight_delays.core.errors import UserError
from flight_delays.use_case.sources import FLIGHT_EVENTS, FLIGHTS, READINGS, WEATHER, WEATHER_EVENTS

HOUR = timedelta(hours=1)
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
NOTHING = Injected(out_of_order=0, duplicated=0, late=0)


def utc(*times: datetime) -> "pd.Series[Any]":
    return pd.Series(times, dtype="datetime64[us, UTC]")


def flights(*known: tuple[datetime, datetime | None, datetime | None]) -> pd.DataFrame:
    """Rows as Spark hands them over: times without a zone, nulls as NaT and NaN."""
    scheduled, departed, arrived = (
        pd.Series([row[column] for row in known], dtype="datetime64[us, UTC]").dt.tz_localize(None)
        for column in range(3)
    )
    return pd.DataFrame(
        {
            "flight_id": [f"flight-{number}" for number in range(len(known))],
            "carrier": "UA",
            "flight": np.int32(1),
            "tailnum": None,
            "origin": "EWR",
            "dest": "IAH",
            "distance": 1400,
            "flight_date": date(2013, 1, 1),
            "sched_dep_ts": scheduled + 2 * HOUR,
            "sched_arr_time": 830,
            "known_at": scheduled,
            "dep_delay": np.where(departed.notna(), 2.0, np.nan),
            "arr_delay": np.where(arrived.notna(), 11.0, np.nan),
            "air_time": np.where(arrived.notna(), 227.0, np.nan),
            "departure_known_at": departed,
            "outcome_known_at": arrived,
        }
    )


def weather(*observed: datetime) -> pd.DataFrame:
    hours = utc(*observed).dt.tz_localize(None)
    readings = dict.fromkeys(READINGS, np.nan)
    return pd.DataFrame({"origin": "EWR", "observed_at": hours, "known_at": hours + HOUR, **readings})


def told(rows: pd.DataFrame) -> pd.DataFrame:
    """The events of flights."""
    return events_of(rows, FLIGHTS, FLIGHT_EVENTS)


def log(hours: list[float]) -> pd.DataFrame:
    """Events at hours since noon, named by their position."""
    times = utc(*(NOON + hour * HOUR for hour in hours))
    return pd.DataFrame({"event_id": [f"event-{number}" for number in range(len(hours))], "event_time": times})


def how(out_of_order: float = 0, duplicated: float = 0, late: float = 0, hours: float = 2, seed: int = 0) -> Disorder:
    return Disorder(out_of_order=out_of_order, duplicated=duplicated, late=late, watermark=hours * HOUR, seed=seed)


def found(sent: pd.DataFrame, watermark: timedelta) -> tuple[Injected, list[str]]:
    """The stream's rules, one event after the other; and the ids of those that came as they should."""
    newest, seen, fates = None, set(), {"late": 0, "duplicated": 0, "out_of_order": 0}
    on_time = []
    for event_id, event_time in zip(sent["event_id"], sent["event_time"], strict=True):
        if newest is not None and event_time < newest - watermark:
            fates["late"] += 1
        elif event_id in seen:
            fates["duplicated"] += 1
        elif newest is not None and event_time < newest:
            fates["out_of_order"] += 1
        else:
            on_time.append(event_id)
        newest = event_time if newest is None else max(newest, event_time)
        seen.add(event_id)
    return Injected(**fates), on_time


def test_a_flight_tells_in_three_events_no_more_than_was_known() -> None:
    times = (NOON, NOON + 3 * HOUR, NOON + 7 * HOUR)
    events = told(flights(times))
    assert events["event_id"].tolist() == ["flight-0/scheduled", "flight-0/departed", "flight-0/arrived"]
    assert events["kind"].tolist() == ["scheduled", "departed", "arrived"]
    assert events["event_time"].tolist() == list(times)
    assert events["known_at"].tolist() == [NOON] * 3
    assert events["sched_dep_ts"].tolist() == [NOON + 2 * HOUR] * 3
    later = events[["dep_delay", "departure_known_at", "arr_delay", "air_time", "outcome_known_at"]]
    assert later.astype(object).where(later.notna(), None).to_numpy().tolist() == [
        [None] * 5,
        [2.0, times[1], None, None, None],
        [2.0, times[1], 11.0, 227.0, times[2]],
    ]


@pytest.mark.parametrize(
    ("departed", "kinds"), [(None, ["scheduled"]), (NOON + 3 * HOUR, ["scheduled", "departed"])], ids=str
)
def test_what_never_happened_is_no_event(departed: datetime | None, kinds: list[str]) -> None:
    assert told(flights((NOON, departed, None)))["kind"].tolist() == kinds


def test_an_hour_of_weather_is_an_event_when_it_is_over() -> None:
    events = events_of(weather(NOON + HOUR, NOON), WEATHER, WEATHER_EVENTS)
    assert events["event_id"].tolist() == [
        "EWR/2013-01-01T12:00:00.000000Z/2013-01-01T13:00:00.000000Z/weather",
        "EWR/2013-01-01T13:00:00.000000Z/2013-01-01T14:00:00.000000Z/weather",
    ]
    assert events["event_time"].tolist() == events["known_at"].tolist() == [NOON + HOUR, NOON + 2 * HOUR]
    assert set(events["kind"]) == {"weather"}


def test_without_rows_there_are_no_events() -> None:
    some, none = (told(flights((NOON, None, None))[:rows]) for rows in (1, 0))
    assert (len(some), len(none)) == (1, 0)
    assert none.columns.tolist() == some.columns.tolist()


def test_an_event_is_named_by_its_rows_whole_key_and_its_kind() -> None:
    """A row of the same station and hour that is known later is another."""
    again = weather(NOON, NOON).assign(known_at=[NOON + HOUR, NOON + 25 * HOUR])
    events = events_of(again, WEATHER, WEATHER_EVENTS)
    assert events["event_id"].is_unique
    assert events["event_id"].tolist() == [
        "EWR/2013-01-01T12:00:00.000000Z/2013-01-01T13:00:00.000000Z/weather",
        "EWR/2013-01-01T12:00:00.000000Z/2013-01-02T13:00:00.000000Z/weather",
    ]
    many = told(flights(*[(NOON, NOON + HOUR, NOON + 3 * HOUR)] * 3))
    assert many["event_id"].is_unique
    assert set(many["event_id"]) == {
        f"flight-{number}/{kind}" for number in range(3) for kind in ("scheduled", "departed", "arrived")
    }


def test_an_event_has_the_columns_of_its_raw_row_and_leaves_the_row_as_it_was() -> None:
    rows = flights((NOON, NOON + HOUR, None))
    before = rows.copy()
    found = told(rows)
    assert set(found.columns) == {*FLIGHTS.columns, "event_id", "kind", "event_time"}
    pd.testing.assert_frame_equal(rows, before)


def test_events_of_one_instant_go_by_their_id() -> None:
    row = (NOON, NOON, NOON)
    events = told(flights(row, row)[::-1])
    assert events["event_id"].tolist() == [
        f"flight-{n}/{kind}" for n in (0, 1) for kind in ("arrived", "departed", "scheduled")
    ]


FRACTIONS = st.sampled_from([0, 0.05, 0.1, 0.2])
LOGS = st.one_of(
    st.lists(st.integers(0, 12), max_size=30),  # whole hours: ties, and gaps of exactly the watermark
    st.lists(st.floats(0, 12), max_size=30),
    st.lists(st.sampled_from([0, 1e-9, 1 / 3.6e9, 2, 2 + 1 / 3.6e9, 30]), max_size=30),  # a microsecond apart
    st.integers(0, 10).map(lambda rows: [5] * rows),
)


@settings(max_examples=400)
@given(
    hours=LOGS,
    fractions=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS),
    watermark=st.sampled_from([0.5, 1, 2, 5, 1 / 3.6e9]),
    seed=st.integers(0, 5),
)
def test_a_stream_finds_what_was_injected_and_every_event_once_besides_copies(
    hours: list[float], fractions: tuple[float, float, float], watermark: float, seed: int
) -> None:
    events, disturbed = log(sorted(hours)), how(*fractions, hours=watermark, seed=seed)
    sent, injected = disorder(events, disturbed)
    assert found(sent, disturbed.watermark)[0] == injected
    asked = [round(fraction * len(events)) for fraction in fractions]
    assert injected.out_of_order <= asked[0]
    assert injected.late <= asked[2]
    assert injected.duplicated == asked[1]
    assert sent["sequence"].tolist() == list(range(len(events) + injected.duplicated))
    assert sent["emitted_at"].is_monotonic_increasing
    first = sent.drop_duplicates("event_id").set_index("event_id").sort_index()
    pd.testing.assert_frame_equal(first[["event_time"]], events.set_index("event_id").sort_index())

    copies = sent[sent["event_id"].duplicated()]
    originals = first.loc[copies["event_id"], "emitted_at"]
    assert originals.tolist() == copies["event_time"].tolist()  # untouched
    waited = zip(originals, copies["emitted_at"], strict=True)
    assert all(timedelta(0) < again - original <= disturbed.watermark for original, again in waited)
    delay = first["emitted_at"] - first["event_time"]
    assert sum((delay > timedelta(0)) & (delay < disturbed.watermark)) == injected.out_of_order
    assert sum(delay > disturbed.watermark) == injected.late
    assert sum(delay == timedelta(0)) == len(events) - injected.out_of_order - injected.late


@pytest.mark.parametrize(
    "hours",
    [
        pytest.param(list(np.linspace(0, 48, 300)), id="many"),
        pytest.param([float(hour) for hour in range(100)], id="one station of weather"),
        pytest.param([hour for hour in range(40) for _ in range(3)], id="three stations"),
        pytest.param([day * 24 + hour for day in range(5) for hour in np.linspace(0, 12, 40)], id="with nights"),
        pytest.param(list(np.linspace(0, 2.6, 100)), id="few that can be late"),
        pytest.param([0, 0.1, 3, 3.1, 6], id="five"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_as_many_are_treated_as_were_asked_for(hours: list[float], seed: int) -> None:
    sent, injected = disorder(log(hours), how(0.2, 0.2, 0.2, seed=seed))
    asked = round(0.2 * len(hours))
    assert injected == Injected(out_of_order=asked, duplicated=asked, late=asked)
    assert found(sent, 2 * HOUR)[0] == injected


@pytest.mark.parametrize(
    ("gap", "out_of_order", "late"),
    [(2 - 1 / 3.6e9, 1, 0), (2, 0, 0), (2 + 1 / 3.6e9, 0, 1)],
    ids=["below the watermark", "equal", "above"],
)
def test_the_next_event_decides_how_an_event_can_be_disturbed(gap: float, out_of_order: int, late: int) -> None:
    events = log([0, gap, gap, gap])  # a fifth of four events is one
    _, injected = disorder(events, how(0.2, 0, 0.2))
    assert injected == Injected(out_of_order=out_of_order, duplicated=0, late=late)


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_of_events_of_one_instant_none_can_be_overtaken(rows: int) -> None:
    sent, injected = disorder(log([3] * rows), how(0.2, 0.2, 0.2))
    assert injected == Injected(out_of_order=0, duplicated=round(0.2 * rows), late=0)
    assert len(sent) == rows + injected.duplicated


def test_without_disorder_events_are_sent_at_their_time() -> None:
    events = log([0, 0, 1, 5])
    sent, injected = disorder(events, how())
    assert injected == NOTHING
    assert sent["emitted_at"].tolist() == events["event_time"].tolist()
    assert sent["event_id"].tolist() == events["event_id"].tolist()


def test_the_seed_decides() -> None:
    events = log(list(np.linspace(0, 48, 200)))
    once, again, other = (disorder(events, how(0.1, 0.1, 0.1, seed=seed))[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(once, again)
    assert once["event_id"].tolist() != other["event_id"].tolist()


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def slices(speed: float, slice_rows: int = 100, clock: Clock | None = None) -> list[Slice]:
    both = {"flight_events": disorder(log([0, 1, 2, 6]), how())[0], "weather_events": disorder(log([1, 7]), how())[0]}
    clock = clock or Clock()
    return list(paced(both, speed=speed, every_s=1, clock=clock, sleep=clock.sleep, slice_rows=slice_rows))


def ids(parts: list[Slice]) -> list[dict[str, list[int]]]:
    return [{table: rows["sequence"].tolist() for table, rows in part.rows.items()} for part in parts]


def test_a_slice_is_what_came_since_the_one_before() -> None:
    parts = slices(speed=2 * 3600)
    assert ids(parts) == [
        {"flight_events": [0]},
        {"flight_events": [1, 2], "weather_events": [0]},
        {},
        {"flight_events": [3]},
        {"weather_events": [1]},
    ]
    assert [part.simulated for part in parts] == [NOON + hours * HOUR for hours in (0, 2, 4, 6, 7)]
    assert [part.sent_at - parts[0].sent_at for part in parts] == [timedelta(seconds=second) for second in range(5)]


def test_at_speed_0_all_is_sent_at_once_in_slices_of_so_many_rows() -> None:
    clock = Clock()
    begun = clock()
    parts = slices(speed=0, slice_rows=4, clock=clock)
    assert ids(parts) == [
        {"flight_events": [0, 1, 2], "weather_events": [0]},
        {"flight_events": [3], "weather_events": [1]},
    ]
    assert [part.simulated for part in parts] == [NOON + 2 * HOUR, NOON + 7 * HOUR]
    assert clock() == begun


def test_a_slice_that_is_full_is_followed_at_once() -> None:
    clock = Clock()
    parts = slices(speed=24 * 3600, slice_rows=2, clock=clock)
    assert ids(parts) == [
        {"flight_events": [0]},
        {"flight_events": [1], "weather_events": [0]},
        {"flight_events": [2, 3]},
        {"weather_events": [1]},
    ]
    assert [part.sent_at - parts[0].sent_at for part in parts] == [timedelta(seconds=int(n > 0)) for n in range(4)]


def test_nothing_is_sent_in_no_slice() -> None:
    empty, _ = disorder(log([]), how())
    assert list(paced({"t": empty}, speed=1, every_s=1, clock=Clock(), sleep=Clock().sleep, slice_rows=1)) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--to=2013-07-01"],
            "--to 2013-07-01T00:00 is not after --from 2013-07-01T00:00; it is the end, not included",
        ),
        (["--to=2013-06-30T23:59"], "--to 2013-06-30T23:59 is not after --from 2013-07-01T00:00"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is(options: list[str], says: str) -> None:
    ended = CliRunner().invoke(app, ["--schema=c.s", "--from=2013-07-01", *options])
    assert isinstance(ended.exception, UserError)
    assert str(ended.exception).startswith(says)


FRACTIONS_OF = ("out-of-order", "duplicated", "late")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "Missing option '--to'"),
        (["--to=tomorrow"], "Invalid value for '--to'"),
        *(([f"--{name}=0.21"], f"value for '--{name}': Input should be less than or equal") for name in FRACTIONS_OF),
        *(([f"--{name}=-0.01"], f"value for '--{name}': Input should be greater than or") for name in FRACTIONS_OF),
        (["--speed=-1"], "Invalid value for '--speed': Input should be greater than or equal to 0"),
        (["--watermark-minutes=0"], "Invalid value for '--watermark-minutes': Input should be greater than or equal"),
        (["--seed=-1"], "Invalid value for '--seed': Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], says: str) -> None:
    ended = CliRunner().invoke(app, ["--schema=c.s", "--from=2013-07-01", *options])
    assert ended.exit_code == 2
    assert says in re.sub(r"[│\s]+", " ", ended.output)
