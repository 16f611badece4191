"""Real events cut into micro-batches at random, with crashes, promotions and late corrections in between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from bench.send_events import Disorder, disorder, events_of
from tests.raw import Raw, changed, raw_tables

from flight_delays.core.columns import Columns, from_arrow
from flight_delays.core.feature_set import ENTITY
from flight_delays.core.stream import EVENT, TAKEN, Fate, Memory, Record, TableVersion, after_events
from flight_delays.platform.event_source import bodies
from flight_delays.tasks.score_stream import Model, process
from flight_delays.use_case import USE_CASE

START, END = datetime(2013, 1, 5, 11, tzinfo=UTC), datetime(2013, 1, 5, 15, tzinfo=UTC)
HISTORY = datetime(2013, 1, 3, tzinfo=UTC)
DELAY = timedelta(hours=1)
SENT_AT = datetime(2014, 1, 1, tzinfo=UTC)
BODIES = bodies(USE_CASE)
WRITES = ("events", "record", "predictions")


class CrashError(Exception):
    """The process is gone."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """What the raw tables hold before the events, and the events by table, in order."""

    raw: Raw
    events: Mapping[str, pd.DataFrame]


def real_day() -> Day:
    """Four hours of a real morning, and two days before it."""
    rows, known = raw_tables(HISTORY, END + timedelta(days=1)), raw_tables(HISTORY, START - timedelta(hours=2))
    events = {}
    for contract, declared in USE_CASE.told:
        made = events_of(rows[contract.table].to_pandas(), contract, declared)
        during = (made["event_time"] >= START) & (made["event_time"] < END)
        events[declared.table] = made[during].reset_index(drop=True)
    return Day(raw=known, events=events)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One stream: its micro-batches of disordered events, and what was injected, all from a seed."""

    seed: int
    batches: tuple[pa.Table, ...]
    injected: Mapping[str, int]


def case(events: Mapping[str, pd.DataFrame], seed: int, *, batches: int) -> Case:
    """The events disordered and cut."""
    rng = Random(seed)
    how = Disorder(out_of_order=0.05, duplicated=0.05, late=0.03, watermark=DELAY, seed=seed)
    logs = {table: disorder(rows, how) for table, rows in events.items()}
    cuts = sorted(rng.random() for _ in range(batches - 1))
    parts = [
        pa.concat_tables(
            [
                micro_batch(table, log.iloc[int(first * len(log)) : int(last * len(log))])
                for table, (log, _) in logs.items()
            ]
        )
        for first, last in zip([0.0, *cuts], [*cuts, 1.0], strict=True)
    ]
    shuffled = [part.take(pa.array(rng.sample(range(len(part)), len(part)), pa.int64())) for part in parts]
    injected = {
        name: sum(getattr(found, name) for _, found in logs.values()) for name in ("out_of_order", "duplicated", "late")
    }
    return Case(seed=seed, batches=tuple(shuffled), injected=injected)


def micro_batch(table: str, rows: pd.DataFrame) -> pa.Table:
    """Rows of a table of events, as the stream gets them."""
    contract = next(contract for contract, declared in USE_CASE.told if declared.table == table)
    columns = rows.assign(source=table, sent_at=SENT_AT, message=None)
    columns.attrs = {}
    envelope = pa.Table.from_pandas(columns[EVENT.names], EVENT, preserve_index=False)
    said = pa.Table.from_pandas(columns[[*contract.columns]], contract.schema, preserve_index=False)
    for one in BODIES:
        own = one.name == contract.table
        struct = said.to_struct_array().combine_chunks() if own else pa.nulls(len(rows), one.type)
        envelope = envelope.append_column(one, struct)
    return envelope


def made_up_model(number: int) -> Model:
    """A version whose answer hangs on every feature, and on which version it is."""

    def score(columns: Columns) -> Columns:
        numbers = [np.nan_to_num(columns[name]) for name in USE_CASE.looked_up]
        of_all = np.sum([value * (at + number) for at, value in enumerate(numbers)], axis=0)
        return {"probability": of_all % 1.0, "prediction": (of_all % 1.0 >= 0.5).astype("int64")}

    return Model(name="model", number=number, signature=USE_CASE.signature, score=score)


@dataclass(kw_only=True)
class MemoryLog:
    """A log in memory, with raw tables that have versions."""

    raw: list[Raw]
    query: str = "query"
    runs: list[Record] = field(default_factory=list)
    judged: dict[int, pa.Table] = field(default_factory=dict)
    predictions: dict[int, pa.Table] = field(default_factory=dict)
    rejects: list[pa.Table] = field(default_factory=list)
    landings: list[int] = field(default_factory=list)
    holds: bool = True

    def run_id(self, batch_id: int) -> str:
        return f"{self.query}/{batch_id}"

    def records(self, batch_id: int) -> Sequence[Record]:
        known = sorted((one for one in self.runs if one.batch_id <= batch_id), key=lambda one: -one.batch_id)
        return known[: 2 if known and known[0].batch_id == batch_id else 1]

    def landed(self) -> int:
        return max(self.landings, default=-1)

    def events(self, batch_id: int) -> pa.Table:
        return self.judged.get(batch_id, pa.table({}))

    def seen(self, before: int, since: datetime) -> pa.Table:
        rows = pa.concat_tables([of for batch, of in self.judged.items() if batch < before])
        counted = pc.is_in(rows["fate"], pa.array([*TAKEN, Fate.DUPLICATE], pa.string()))
        rows = rows.filter(pc.and_(counted, pc.greater_equal(rows["event_time"], pa.scalar(since))))
        return rows.select(["source", "event_id", "event_time"]).combine_chunks()

    def scored(self) -> pa.Array:
        found = [of[ENTITY].combine_chunks() for of in self.predictions.values()]
        return pa.concat_arrays(found) if found else pa.array([], pa.string())

    def now(self) -> Mapping[str, TableVersion]:
        return dict.fromkeys(self.raw[0], TableVersion(id="id", version=len(self.raw) - 1))

    def facts(
        self,
        tables: Mapping[str, TableVersion],
        landed: int,
        before: int,
        since: datetime,  # noqa: ARG002  # it holds all that there is
    ) -> Mapping[str, pa.Table] | None:
        return self._facts(tables, landed, before) if self.holds else None

    def features(self, tables: Mapping[str, TableVersion], landed: int, batch_id: int, entities: pa.Array) -> pa.Table:
        facts = self._facts(tables, landed, batch_id + 1)
        asking = facts["raw_flights"]
        return USE_CASE.features.build(asking.filter(pc.is_in(asking["flight_id"], entities)), facts)

    def append_events(self, batch_id: int, judged: pa.Table) -> None:
        self.judged.setdefault(batch_id, judged)

    def append_record(self, record: Record) -> Record:
        if not any(one.batch_id == record.batch_id for one in self.runs):
            self.runs.append(record)
        return self.records(record.batch_id)[0]

    def append_predictions(self, batch_id: int, predictions: pa.Table, rejects: pa.Table) -> None:
        self.predictions.setdefault(batch_id, predictions)
        self.rejects.append(rejects)

    def land(self) -> None:
        """All that was taken so far, in the raw tables."""
        last = max(self.judged, default=-1)
        versions = self.now()
        self.raw.append(self._facts(versions, self.landed(), last + 1))
        self.landings.append(last)

    def correct_the_weather(self, value: float) -> None:
        """As ingest does."""
        latest = self.raw[-1]
        weather = changed(latest["raw_weather"], lambda rows: {"visib": np.full_like(rows["visib"], value)})
        self.raw.append({**latest, "raw_weather": weather})

    def raw_at(self, tables: Mapping[str, TableVersion]) -> Raw:
        return self.raw[tables["raw_flights"].version]

    def _facts(self, tables: Mapping[str, TableVersion], landed: int, before: int) -> dict[str, pa.Table]:
        found = dict(self.raw_at(tables))
        events = [
            of.append_column("batch_id", pa.array([batch] * len(of), pa.int64()))
            for batch, of in self.judged.items()
            if landed < batch < before
        ]
        if events:
            rows = pa.concat_tables(events)
            rows = rows.filter(pc.is_in(rows["fate"], pa.array([*TAKEN], pa.string())))
            found = after_events(found, rows, USE_CASE)
        return found


@dataclass(frozen=True, kw_only=True)
class Crash:
    """The process is gone at a write, before or after that is `done`."""

    write: str
    done: bool


EVERY_CRASH = tuple(Crash(write=write, done=done) for write in WRITES for done in (False, True))


@dataclass(frozen=True, kw_only=True)
class Crashing:
    """A log that crashes."""

    log: Any
    at: Crash

    def __getattr__(self, name: str) -> object:
        return getattr(self.log, name)

    def append_events(self, batch_id: int, judged: pa.Table) -> None:
        self._write("events", lambda: self.log.append_events(batch_id, judged))

    def append_record(self, record: Record) -> Record:
        return self._write("record", lambda: self.log.append_record(record))

    def append_predictions(self, batch_id: int, predictions: pa.Table, rejects: pa.Table) -> None:
        self._write("predictions", lambda: self.log.append_predictions(batch_id, predictions, rejects))

    def _write(self, name: str, write: Callable[[], Any]) -> Any:
        if name != self.at.write:
            return write()
        if self.at.done:
            write()
        raise CrashError(name)


@dataclass(kw_only=True)
class World:
    """What happens around a stream: which version is champion, what else is done to the tables, who crashes."""

    log: Any
    model: Callable[[int], Model] = made_up_model
    champion: int = 1
    delay: timedelta = DELAY
    memory: Memory | None = None

    def attempt(self, batch_id: int, events: pa.Table, crash: Crash | None = None) -> None:
        """One micro-batch; a crash leaves no memory."""
        memory, self.memory = self.memory, None
        log = self.log if crash is None else Crashing(log=self.log, at=crash)
        self.memory = process(
            log,
            USE_CASE,
            memory,
            events,
            batch_id,
            delay=self.delay,
            champion=lambda: self.champion,
            model=self.model,
        )


def crashes(rng: Random) -> Iterator[Crash | None]:
    """Up to two of them, and then none."""
    yield from rng.choices(EVERY_CRASH, k=rng.randrange(3))
    yield None


# What the batch makes of it, without any of the stream's own functions.


Found = dict[tuple[str, int], float]
"""Entity and version to probability."""


def expected(
    records: Sequence[Record],
    raw_at: Callable[[Mapping[str, TableVersion]], Raw],
    batches: Sequence[pa.Table],
    model: Callable[[int], Model],
) -> Found:
    """For each record the raw tables at its versions, as all events taken up to its micro-batch complete them."""
    found, fates = Found(), fates_of(batches)
    for record in sorted(records, key=lambda one: one.batch_id):
        scored = {entity for entity, _ in found}
        raw, asked = raw_at(record.tables), list[str]()
        rows = {
            contract.table: {tuple(row[name] for name in contract.key): row for row in raw[contract.table].to_pylist()}
            for contract, _ in USE_CASE.told
        }
        for batch, events in enumerate(batches[: record.batch_id + 1]):
            for event in sorted(events.to_pylist(), key=lambda one: (one["sequence"], one["event_time"])):
                if fates[event["source"], event["sequence"]] not in TAKEN:
                    continue
                contract = next(of for of, one in USE_CASE.told if one.table == event["source"])
                said = {name: value for name, value in event[contract.table].items() if value is not None}
                if batch > record.landed:
                    nothing = dict.fromkeys(contract.columns)
                    rows[contract.table].setdefault(tuple(said[name] for name in contract.key), nothing).update(said)
                if event["kind"] == "scheduled" and batch == record.batch_id and said["flight_id"] not in scored:
                    asked.append(said["flight_id"])
        tables = {
            **raw,
            **{name: pa.Table.from_pylist([*of.values()], raw[name].schema) for name, of in rows.items()},
        }
        if asked:
            flights = tables["raw_flights"].filter(pc.is_in(tables["raw_flights"]["flight_id"], pa.array(asked)))
            features = USE_CASE.features.build(flights, tables)
            answers = model(record.model_version).score(from_arrow(features))["probability"].tolist()
            for entity, probability in zip(features[ENTITY].to_pylist(), answers, strict=True):
                found[entity, record.model_version] = probability
    return found


def fates_of(batches: Sequence[pa.Table]) -> dict[tuple[str, int], Fate]:
    """By source and sequence, event by event: docs/streaming.md, What becomes of an event."""
    found, newest, seen = {}, dict[str, datetime](), dict[tuple[str, str], datetime]()
    events = [event for batch in batches for event in batch.to_pylist()]
    for event in sorted(events, key=lambda one: (one["source"], one["sequence"])):
        source, time, one = event["source"], event["event_time"], (event["source"], event["event_id"])
        passed = newest[source] - DELAY if source in newest else None
        if passed and time < passed:
            fate = Fate.LATE
        elif one in seen and (passed is None or seen[one] >= passed):
            fate = Fate.DUPLICATE
        else:
            fate = Fate.OUT_OF_ORDER if source in newest and time < newest[source] else Fate.ON_TIME
        if fate is not Fate.LATE:
            seen[one] = max(time, seen.get(one, time))
        newest[source] = max(time, newest.get(source, time))
        found[source, event["sequence"]] = fate
    return found
