"""The stream, crashed at every write: no entity lost, none scored twice, no micro-batch with two versions. No Spark."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import pyarrow as pa
import pytest
from tests.streams import (
    EVERY_CRASH,
    Case,
    Crash,
    CrashError,
    Day,
    Found,
    MemoryLog,
    World,
    case,
    crashes,
    expected,
    made_up_model,
    real_day,
)

from flight_delays.core.stream import EVENT
from flight_delays.use_case import USE_CASE

INJECTED = {"out_of_order": "out_of_order", "duplicated": "duplicate", "late": "late"}


@pytest.fixture(scope="module")
def day() -> Day:
    return real_day()


def found(log: MemoryLog) -> Found:
    rows = [row for batch in log.predictions.values() for row in batch.to_pylist()]
    assert len({row["entity_id"] for row in rows}) == len(rows)
    return {(row["entity_id"], row["model_version"]): row["probability"] for row in rows}


def run(log: MemoryLog, of: Case, rng: Random) -> int:
    """All micro-batches with crashes; between two tries anything may happen. How many crashes there were."""
    world, crashed = World(log=log), 0
    for number, events in enumerate(of.batches):
        for crash in crashes(rng):
            try:
                world.attempt(number, events, crash)
                break
            except CrashError:
                crashed += 1
                world.champion = rng.randrange(1, 9)
                if rng.random() < 0.3:
                    log.correct_the_weather(rng.uniform(0, 10))
                if rng.random() < 0.2:
                    log.land()  # a run that is stopped lands what is there, also of a micro-batch that is not done
        if rng.random() < 0.2:
            log.land()
            world.memory = None
        if rng.random() < 0.2:
            world.champion = rng.randrange(1, 9)
    return crashed


def test_however_cut_crashed_and_replayed_the_stream_ends_with_the_batch_result_at_the_recorded_versions(
    day: Day, pytestconfig: pytest.Config
) -> None:
    cases, first = (int(pytestconfig.getoption(name)) for name in ("--stream-cases", "--stream-seed"))
    crashed = 0
    for seed in range(first, first + cases):
        rng = Random(seed)
        this = case(day.events, seed, batches=rng.randrange(1, 9))
        log = MemoryLog(raw=[day.raw], holds=rng.random() < 0.9)
        crashed += run(log, this, rng)
        should_be = expected(log.runs, log.raw_at, this.batches, made_up_model)
        assert found(log) == pytest.approx(should_be, rel=0, abs=1e-9), f"seed {seed}"
        counted = Counter(fate for of in log.judged.values() for fate in of["fate"].to_pylist())
        assert {name: counted[fate] for name, fate in INJECTED.items()} == this.injected, f"seed {seed}"
        assert len(log.runs) == len({one.batch_id for one in log.runs})
    assert crashed > cases


@pytest.mark.parametrize("crash", EVERY_CRASH)
def test_another_watermark_changes_nothing_of_a_micro_batch_that_is_done_again(day: Day, crash: Crash) -> None:
    first, second = case(day.events, 1, batches=2).batches
    log, undisturbed = MemoryLog(raw=[day.raw]), MemoryLog(raw=[day.raw])
    for of in (log, undisturbed):
        World(log=of).attempt(0, first)
    World(log=undisturbed).attempt(1, second)
    with pytest.raises(CrashError):
        World(log=log).attempt(1, second, crash)
    World(log=log, delay=timedelta(minutes=1)).attempt(1, second)
    assert log.predictions[1] == undisturbed.predictions[1]
    assert log.judged[1] == undisturbed.judged[1]


@pytest.mark.parametrize("crash", [one for one in EVERY_CRASH if one != Crash(write="record", done=False)])
def test_what_changes_after_the_record_changes_nothing_of_its_micro_batch(day: Day, crash: Crash) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    log, undisturbed = MemoryLog(raw=[day.raw]), MemoryLog(raw=[day.raw])
    World(log=undisturbed).attempt(0, events)
    with pytest.raises(CrashError):
        World(log=log).attempt(0, events, crash)
    log.correct_the_weather(0.0)
    World(log=log, champion=2).attempt(0, events)
    assert log.predictions[0] == undisturbed.predictions[0]


def test_a_landing_before_a_micro_batch_is_done_again_changes_nothing_of_it(day: Day) -> None:
    first, second = case(day.events, 1, batches=2).batches
    log = MemoryLog(raw=[day.raw])
    World(log=log).attempt(0, first)
    with pytest.raises(CrashError):
        World(log=log).attempt(1, second, Crash(write="predictions", done=False))
    log.land()
    World(log=log).attempt(1, second)
    should_be = expected(log.runs, log.raw_at, [first, second], made_up_model)
    assert found(log) == pytest.approx(should_be, rel=0, abs=1e-9)


def test_memory_of_another_micro_batch_than_the_last_is_not_gone_by(day: Day) -> None:
    batches = case(day.events, 1, batches=3).batches
    log = MemoryLog(raw=[day.raw])
    one, other = World(log=log), World(log=log)
    for number, world in enumerate((one, other, one)):
        world.attempt(number, batches[number])
    assert found(log) == pytest.approx(expected(log.runs, log.raw_at, batches, made_up_model), rel=0, abs=1e-9)


@pytest.mark.parametrize("remembers", [True, False])
def test_who_was_scored_is_not_scored_again_when_the_schedule_is_told_again(day: Day, remembers: bool) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    log = MemoryLog(raw=[day.raw])
    world = World(log=log)
    world.attempt(0, events)
    scored, said = found(log), events.to_pylist()
    last = max(one["event_time"] for one in said)
    again = [
        {**one, "event_id": f"{one['event_id']} again", "event_time": last, "sequence": one["sequence"] + 10_000}
        for one in said
        if one["kind"] == "scheduled" and (one["raw_flights"]["flight_id"], 1) in scored
    ]
    if not remembers:
        world.memory = None
    world.attempt(1, pa.Table.from_pylist(again, events.schema))
    assert "on_time" in log.judged[1]["fate"].to_pylist()
    assert found(log) == scored


def test_what_ingest_changes_is_seen_from_the_next_landing_on_also_after_a_crash(day: Day) -> None:
    this, log = case(day.events, 1, batches=5), MemoryLog(raw=[day.raw])
    world = World(log=log)
    versions = []
    for number, events in enumerate(this.batches):
        if number == 1:
            log.correct_the_weather(0.0)
        if number == 2:
            with pytest.raises(CrashError):
                world.attempt(number, events, Crash(write="record", done=False))
        if number == 3:
            log.land()
            world.memory = None
        world.attempt(number, events)
        versions.append(log.records(number)[0].tables["raw_weather"].version)
    assert versions == [0, 0, 0, 2, 2]
    assert [one.landed for one in log.runs] == [-1, -1, -1, 2, 2]


@pytest.mark.parametrize(("holds", "read"), [(True, []), (False, [0, 1])])
def test_features_are_read_from_the_tables_only_where_memory_cannot_hold_what_they_are_made_of(
    day: Day, holds: bool, read: list[int]
) -> None:
    batches, log, asked = case(day.events, 1, batches=2).batches, MemoryLog(raw=[day.raw], holds=holds), list[int]()

    @dataclass(frozen=True)
    class Noting:
        def __getattr__(self, name: str) -> object:
            if name == "features":
                asked.append(log.runs[-1].batch_id)
            return getattr(log, name)

    world = World(log=Noting())
    for number, events in enumerate(batches):
        world.attempt(number, events)
    assert asked == read
    assert found(log) == pytest.approx(expected(log.runs, log.raw_at, batches, made_up_model), rel=0, abs=1e-9)


@dataclass(frozen=True, kw_only=True)
class Overtaken:
    """The log of a process that stands still at a write, while another does the whole micro-batch."""

    log: MemoryLog
    at: str
    meanwhile: Callable[[], None]

    def __getattr__(self, name: str) -> object:
        if name == self.at:
            self.meanwhile()
        return getattr(self.log, name)


@pytest.mark.parametrize("at", ["append_events", "append_record", "append_predictions"])
@pytest.mark.parametrize("stands_still", [None, Crash(write="predictions", done=False)])
def test_two_processes_that_do_the_same_micro_batch_leave_what_one_leaves(
    day: Day, at: str, stands_still: Crash | None
) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    log = MemoryLog(raw=[day.raw])

    def meanwhile() -> None:
        with suppress(CrashError):
            World(log=log, champion=2).attempt(0, events, stands_still)

    World(log=Overtaken(log=log, at=at, meanwhile=meanwhile), champion=1).attempt(0, events)
    assert len(log.runs) == 1
    assert found(log) == pytest.approx(expected(log.runs, log.raw_at, [events], made_up_model), rel=0, abs=1e-9)


def test_what_the_version_cannot_score_is_rejected_with_its_reason(day: Day) -> None:
    """A model that needs what only some flights have."""
    (events,) = case(day.events, 1, batches=1).batches
    required = tuple(
        replace(column, required=column.required or column.name == "plane_seats")
        for column in USE_CASE.signature.inputs
    )
    picky = replace(made_up_model(1), signature=replace(USE_CASE.signature, inputs=required))
    log = MemoryLog(raw=[day.raw])
    World(log=log, model=lambda _: picky).attempt(0, events)
    reasons = [why for rows in log.rejects for why in rows["reasons"].to_pylist()]
    assert {*map(tuple, reasons)} == {("plane_seats is missing",)}
    everyone = MemoryLog(raw=[day.raw])
    World(log=everyone).attempt(0, events)
    assert len(reasons) + len(found(log)) == len(found(everyone))


def test_before_anything_good_has_come_in_events_are_kept_and_nothing_is_recorded(day: Day) -> None:
    (events,) = case(day.events, 1, batches=1).batches
    kind = events.schema.get_field_index("kind")
    nameless = events.set_column(kind, EVENT.field("kind"), pa.nulls(len(events), pa.string()))
    log = MemoryLog(raw=[day.raw])
    world = World(log=log)
    world.attempt(0, nameless)
    assert (log.runs, log.predictions) == ([], {})
    assert {*log.judged[0]["fate"].to_pylist()} == {"malformed"}
    world.attempt(1, events.slice(0, 0))
    world.attempt(2, events)
    should_be = expected(log.runs, log.raw_at, [*[events.slice(0, 0)] * 2, events], made_up_model)
    assert found(log) == pytest.approx(should_be, rel=0, abs=1e-9)
