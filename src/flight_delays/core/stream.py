"""What becomes of the events of a stream, and what it remembers from one micro-batch to the next. No I/O.

All follows from the log of events alone, not from how it is cut into micro-batches. Events have the columns of EVENT
and, as `core/events.py` says, what they tell of each raw table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.as_of import codes
from flight_delays.core.columns import UTC_TIME, from_arrow
from flight_delays.core.events import Events, completed, problems, rows_told
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.gates import Check, Outcome
from flight_delays.core.quarantine import Contract
from flight_delays.core.use_case import UseCase

# A clock that is ahead of the one of whoever takes the event in would make everything after it late.
AHEAD = timedelta(hours=1)
EVENT = pa.schema(
    {
        "source": pa.string(),
        "event_id": pa.string(),
        "kind": pa.string(),
        "event_time": UTC_TIME,  # when it was known
        "sent_at": UTC_TIME,
        "sequence": pa.int64(),  # order of sending within its source
        "message": pa.string(),  # as delivered, where that was a text
    }
)
_NEEDED = ("event_id", "kind", "event_time", "sent_at", "sequence")
_TIMES = ("event_time", "sent_at")
Micros: TypeAlias = npt.NDArray[np.int64]
_NEVER = np.iinfo("int64").min  # the number of NaT
SEEN = pa.schema([EVENT.field(name) for name in ("source", "event_id", "event_time")])


class Fate(StrEnum):
    """What becomes of an event. The first that holds counts, from the bottom up."""

    ON_TIME = "on_time"  # taken
    OUT_OF_ORDER = "out_of_order"  # older than one sent before it, by no more than the delay: taken
    DUPLICATE = "duplicate"  # of an event_id that came before and that the watermark has not passed: dropped
    LATE = "late"  # older than the watermark: kept, not taken
    MALFORMED = "malformed"  # quarantined; it moves no watermark


TAKEN = (Fate.ON_TIME, Fate.OUT_OF_ORDER)


@dataclass(frozen=True, kw_only=True)
class TableVersion:
    """A version of a table: of the one with this id. A table that is made anew starts again at 0, with another id."""

    id: str
    version: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a micro-batch is scored by and from. It is written before that, and is what counts when it is replayed.

    `tables` are the versions that the memory was loaded from, `landed` is the last micro-batch whose events they hold
    (-1: none). `newest` maps each source to its newest event time up to here; `delay` is that of the watermark.
    """

    batch_id: int
    model_version: int
    tables: Mapping[str, TableVersion]
    landed: int
    newest: Mapping[str, datetime]
    delay: timedelta

    @property
    def as_of(self) -> datetime:
        """What the stream takes for now."""
        return max(self.newest.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """What a stream knows after micro-batch `batch_id`; a cache of what its tables say.

    `seen` has source, event_id and event_time of events that a copy may follow. `facts` are rows of the raw tables as
    the events left them, enough for whoever asks as of `since` or later; None until somebody asks, or where they are
    too large. `scored` are the entities that the stream has scored.
    """

    batch_id: int
    tables: Mapping[str, TableVersion]
    landed: int
    scored: pa.Array
    newest: Mapping[str, datetime]
    seen: pa.Table = field(default_factory=SEEN.empty_table)
    facts: Mapping[str, pa.Table] | None = None
    since: datetime | None = None


def judge(
    events: pa.Table,
    told: Sequence[tuple[Contract, Events]],
    *,
    newest: Mapping[str, datetime],
    seen: pa.Table,
    delay: timedelta,
) -> pa.Table:
    """`events` with their `fate`, `reasons` (list) and `watermark` (of their source, as they came; null at first).

    The watermark is `delay` behind the newest event time of the source so far. `seen` and `newest` say what came
    before, the former at least as far back as the watermark.
    """
    reasons = problems(events, told)
    null = {name: events[name].is_null().to_numpy() for name in _NEEDED}
    times = {name: events[name].cast(UTC_TIME).cast(pa.int64()).fill_null(_NEVER).to_numpy() for name in _TIMES}
    ahead = ~null["sent_at"] & (times["event_time"] > times["sent_at"] + _us(AHEAD))
    envelope = [(null[name], f"{name} is missing") for name in _NEEDED]
    envelope.append((ahead, "event_time is after sent_at; fix the clock of the sender"))
    for wrong, reason in reversed(envelope):
        for at in np.flatnonzero(wrong):
            reasons[at].insert(0, reason)
    good = np.array([not why for why in reasons], dtype=bool)
    known, sources = np.where(good, times["event_time"], _NEVER), from_arrow(events, ["source"])["source"]
    order = _order(events)
    before = np.full(len(good), _NEVER)
    for source in pd.unique(sources):
        own = order[sources[order] == source]
        first = _micros(newest[source]) if source in newest else _NEVER
        before[own] = np.maximum.accumulate(np.concatenate([[first], known[own]]))[:-1]
    watermark = np.where(before == _NEVER, _NEVER, before - _us(delay))
    late = good & (times["event_time"] < watermark)
    earlier = _earlier(events, known, order, seen)  # a late one is before any later watermark
    fates = np.select(
        [~good, late, (earlier != _NEVER) & (earlier >= watermark), known < before],
        [Fate.MALFORMED.value, Fate.LATE.value, Fate.DUPLICATE.value, Fate.OUT_OF_ORDER.value],
        Fate.ON_TIME.value,
    )
    watermarks = pa.array(watermark, pa.int64(), mask=watermark == _NEVER).cast(UTC_TIME)
    return (
        events.append_column("fate", pa.array(fates, pa.string()))
        .append_column("watermark", watermarks)
        .append_column("reasons", pa.array(reasons, pa.list_(pa.string())))
    )


def _order(events: pa.Table) -> Micros:
    """Of sending; what claims the same place is told apart by what it is."""
    ids, kinds = (pd.factorize(from_arrow(events, [name])[name], sort=True)[0] for name in ("event_id", "kind"))
    return np.lexsort([kinds, ids, events["sequence"].fill_null(_NEVER).to_numpy()])


def _earlier(events: pa.Table, times: Micros, order: Micros, seen: pa.Table) -> Micros:
    """The newest time of an event of the same source and id that came before each."""
    parts = [[from_arrow(of, [name])[name] for name in ("source", "event_id")] for of in (seen, events)]
    keys = np.concatenate(codes(*parts))
    places = np.concatenate([np.arange(seen.num_rows), seen.num_rows + order])
    known = np.concatenate([seen["event_time"].cast(pa.int64()).to_numpy(), times])
    of_key = pd.Series(known[places]).groupby(keys[places])
    newest = of_key.cummax().groupby(keys[places]).shift(fill_value=_NEVER)
    found = np.full(len(places), _NEVER)
    found[places] = newest.to_numpy()
    return found[seen.num_rows :]


def newest_after(judged: pa.Table, newest: Mapping[str, datetime]) -> dict[str, datetime]:
    """The newest event time of each source after these events."""
    good = judged.filter(pc.not_equal(judged["fate"], Fate.MALFORMED))
    found = good.group_by("source").aggregate([("event_time", "max")]).to_pylist()
    later = {row["source"]: row["event_time_max"].astimezone(UTC) for row in found}
    return {**newest, **{source: max(time, newest.get(source, time)) for source, time in later.items()}}


def seen_after(judged: pa.Table, seen: pa.Table, newest: Mapping[str, datetime], delay: timedelta) -> pa.Table:
    """What a copy may follow after these events: what the watermark has not passed."""
    counted = pc.is_in(judged["fate"], pa.array([*TAKEN, Fate.DUPLICATE], pa.string()))
    both = pa.concat_tables([seen, judged.filter(counted).select(seen.schema.names)])
    keep = np.zeros(both.num_rows, dtype=bool)
    sources, times = from_arrow(both, ["source"])["source"], both["event_time"].cast(pa.int64()).to_numpy()
    for source, moment in newest.items():
        keep |= (sources == source) & (times >= _micros(moment - delay))
    return both.filter(pa.array(keep)).combine_chunks()


def taken(judged: pa.Table) -> pa.Table:
    """The events that are landed and scored."""
    return judged.filter(pc.is_in(judged["fate"], pa.array([*TAKEN], pa.string())))


def after_events(facts: Mapping[str, pa.Table], events: pa.Table, use_case: UseCase) -> dict[str, pa.Table]:
    """`facts` as events that were taken leave them."""
    found = {**facts}
    for contract, declared in use_case.told:
        if contract.table in facts:
            rows = rows_told(events, contract, declared.names)
            found[contract.table] = completed(facts[contract.table], rows, contract.key)
    return found


def asking(events: pa.Table, use_case: UseCase) -> pa.Table:
    """`entity_id` and `prediction_ts` of the rows that events which were taken ask for, each entity once."""
    features = use_case.features
    for contract, declared in use_case.told:
        if contract.table == features.table:
            rows = features.kept(rows_told(events, contract, declared.asking)).select([ENTITY, PREDICTION_TIME])
            first = rows.group_by(ENTITY).aggregate([(PREDICTION_TIME, "min")])
            return first.rename_columns([ENTITY, PREDICTION_TIME])
    return pa.schema({ENTITY: pa.string(), PREDICTION_TIME: UTC_TIME}).empty_table()


def without(entities: pa.Array, scored: pa.Array) -> pa.Array:
    """Those that were not scored; `scored` may be long."""
    done = scored.filter(pc.is_in(scored, entities))
    return entities.filter(pc.invert(pc.is_in(entities, done)))


def remember(memory: Memory, record: Record, judged: pa.Table, *, scored: pa.Array) -> Memory:
    """The memory after a micro-batch in which these entities were scored; its facts have been brought up to date."""
    return replace(
        memory,
        batch_id=record.batch_id,
        newest=record.newest,
        seen=seen_after(judged, memory.seen, record.newest, record.delay),
        scored=pa.concat_arrays([memory.scored, scored]),
    )


def watermark(newest: Mapping[str, datetime], delay: timedelta) -> datetime | None:
    """Up to where every source is complete; None before the first event."""
    return min(newest.values()) - delay if newest else None


def healthy(lag_seconds: float | None, *, max_lag_seconds: float) -> Check:
    """FAIL if the last micro-batch lagged by more than allowed; INCONCLUSIVE if there was none."""
    if lag_seconds is None:
        return Check(name="stream_lag", outcome=Outcome.INCONCLUSIVE, reason="no micro-batch was processed yet")
    return Check(
        name="stream_lag",
        outcome=Outcome.PASS if lag_seconds <= max_lag_seconds else Outcome.FAIL,  # never for what is not a number
        reason=f"the last micro-batch began {lag_seconds:.0f} s after its oldest event came "
        f"({max_lag_seconds:g} allowed)",
    )


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _micros(moment: datetime) -> int:
    return _us(moment - datetime.fromtimestamp(0, UTC))
