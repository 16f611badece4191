"""A past year as a stream: `python -m bench.send_events` sends its events in simulated time into the tables of events.

Some of them come out of order, again or late; on a laptop, `laptop send-events` knows the schema.

What a stream has to find among the events of one table, taken by `sequence`, M being the largest event time before: an
event is late if it is older than M minus the watermark; otherwise a duplicate if its id came before; otherwise out of
order if it is older than M. What `disorder` injects is found by these rules, all of it and nothing else.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from math import inf
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import typer
from pyspark.sql import functions as F
from rich.console import Console

from flight_delays.cli import use_case
from flight_delays.core.errors import UserError
from flight_delays.core.events import Events
from flight_delays.core.quarantine import Contract
from flight_delays.core.use_case import UseCase
from flight_delays.platform.deliveries import inspect_delivery
from flight_delays.platform.delta import Tables
from flight_delays.platform.session import spark_session
from flight_delays.tasks.printing import show

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_MICROSECOND, _TIMES = timedelta(microseconds=1), ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]

Integers = npt.NDArray[np.int64]


def _fraction(text: str) -> typer.models.OptionInfo:
    return typer.Option(min=0, max=0.2, help=text)


@dataclass(frozen=True, kw_only=True)
class Disorder:
    """Fractions of a table's events to treat, 0 to 0.2 each, and the `watermark` that they are treated by, above 0.

    The same `seed`, from 0 up, treats the same events alike.
    """

    out_of_order: float
    duplicated: float
    late: float
    watermark: timedelta
    seed: int


@dataclass(frozen=True, kw_only=True)
class Injected:
    """Events of one table that were really treated; `duplicated` are rows that were added."""

    out_of_order: int
    duplicated: int
    late: int


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What is sent at once: rows by table, up to the `simulated` time; `sent_at` is the clock's. Both are UTC."""

    simulated: datetime
    sent_at: datetime
    rows: Mapping[str, pd.DataFrame]


@app.command()
def main(
    schema: Annotated[str, typer.Option(help="Schema with the tables of events: <catalog>.<schema>.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=_TIMES, help="From when on, UTC: 2013-07-01 or 2013-07-01T11:00.")
    ],
    end: Annotated[datetime, typer.Option("--to", formats=_TIMES, help="Before when, UTC.")],
    speed: Annotated[float, typer.Option(min=0, help="Simulated seconds in a second; 0: all at once.")] = 3600,
    out_of_order: Annotated[float, _fraction("Fraction of events that a newer one overtakes.")] = 0,
    duplicated: Annotated[float, _fraction("Fraction of events that are sent twice.")] = 0,
    late: Annotated[float, _fraction("Fraction of events sent when the watermark has passed them.")] = 0,
    watermark_minutes: Annotated[int, typer.Option(min=1, help="The stream's watermark.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of events.")] = 0,
) -> None:
    """Send what was known within a range of time, as events, into the tables of events."""
    start, stop = first.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    if start >= stop:
        raise UserError(
            f"--to {stop:%Y-%m-%dT%H:%M} is not after --from {start:%Y-%m-%dT%H:%M}; it is the end, not included"
        )
    watermark = timedelta(minutes=watermark_minutes)
    how = Disorder(out_of_order=out_of_order, duplicated=duplicated, late=late, watermark=watermark, seed=seed)
    tables = Tables(spark=spark_session(), schema=schema)
    known = events_between(tables, use_case(), start, stop)
    sent = {table: disorder(rows[rows["event_time"] < stop], how) for table, rows in known.items()}
    send(
        tables,
        {table: rows for table, (rows, _) in sent.items()},
        speed=speed,
        every_s=1,
        clock=lambda: datetime.now(tz=UTC),
        sleep=time.sleep,
        progress=typer.echo,
    )
    show(
        Console(),
        f"Sent to {schema}",
        ("table", "events", "out of order", "duplicated", "late"),
        [(table, len(rows), of.out_of_order, of.duplicated, of.late) for table, (rows, of) in sent.items()],
    )


def events_between(tables: Tables, use_case: UseCase, start: datetime, end: datetime) -> dict[str, pd.DataFrame]:
    """What the sources' good rows, known from `start` on and before `end` (UTC), tell as events; by table of events.

    Raises UserError if such a table does not exist.
    """
    known = (F.col("known_at") >= F.lit(start)) & (F.col("known_at") < F.lit(end))
    found = {}
    for source in use_case.sources:
        if source.events is None:
            continue
        tables.read(source.events.table)
        rows = inspect_delivery(tables.spark, source.delivery, source.contract, as_of=end, repeats=True)
        good = rows.where((F.size("reasons") == 0) & known).select(*source.contract.columns)
        found[source.events.table] = events_of(good.toPandas(), source.contract, source.events)
    return found


def events_of(rows: pd.DataFrame, contract: Contract, events: Events) -> pd.DataFrame:
    """The events that tell rows of a raw table, by event_time (UTC), then event_id.

    A row has an event of each kind that came to be known. None of them says what was not known yet. sent_at and
    sequence are left to the sending.
    """
    times = {field.name: _utc(rows[field.name]) for field in contract.schema if pa.types.is_timestamp(field.type)}
    rows = rows.assign(**times)
    key = reduce(lambda one, other: one + "/" + other, (_text(rows[name]) for name in contract.key))
    parts = []
    for kind in events.kinds:
        told = rows.assign(kind=kind.name, event_time=rows[kind.known_at], event_id=key + "/" + kind.name)
        hidden = {*contract.columns} - {*events.told(kind, contract.columns)}
        told = told.assign(**{name: told[name].where(np.zeros(len(told), dtype=bool)) for name in hidden})
        parts.append(told[told["event_time"].notna()])
    return pd.concat(parts).sort_values(["event_time", "event_id"], ignore_index=True)


def _text(values: "pd.Series[Any]") -> "pd.Series[str]":
    is_time = isinstance(values.dtype, pd.DatetimeTZDtype)
    return values.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if is_time else values.astype(str)


def disorder(events: pd.DataFrame, how: Disorder) -> tuple[pd.DataFrame, Injected]:
    """The events of one table in the order of sending, copies included, with `emitted_at` (UTC) and `sequence`.

    An event is treated at most once; event_id must be unique. round(fraction * events) are treated, fewer only if no
    further one can be: nothing overtakes it in time, as at night or at the end, or it overtakes another itself.
    """
    events = events.sort_values("event_time", kind="stable", ignore_index=True)
    times = _microseconds(events["event_time"])
    watermark, rng = how.watermark // _MICROSECOND, np.random.default_rng(how.seed)
    swapped, late = _chosen(times, watermark, how, rng)
    punctual = np.delete(np.arange(len(times)), [*swapped, *late])
    copied = np.sort(rng.permutation(punctual)[: round(how.duplicated * len(times))])

    # Only punctual events move M: sent at their own time, and before what else is sent at that time.
    delay = np.zeros(len(times), dtype=np.int64)
    overtaken = _first_above(times[punctual], times[swapped]) - times[swapped]
    delay[swapped] = rng.integers(overtaken, watermark)
    delay[late] = _first_above(times[punctual], times[late] + watermark) - times[late]
    delay[late] += rng.integers(0, watermark, len(late), endpoint=True)
    row = np.concatenate([np.arange(len(times)), copied])
    emitted = times[row] + np.concatenate([delay, rng.integers(1, watermark, len(copied), endpoint=True)])
    order = np.lexsort((row, emitted > times[row], emitted))
    sent = events.iloc[row[order]].reset_index(drop=True)
    emitted_at = pd.Series(emitted[order].view("datetime64[us]")).dt.tz_localize(UTC)
    return (
        sent.assign(emitted_at=emitted_at, sequence=np.arange(len(row))),
        Injected(out_of_order=len(swapped), duplicated=len(copied), late=len(late)),
    )


def send(
    tables: Tables,
    log: Mapping[str, pd.DataFrame],
    *,
    speed: float,
    every_s: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    progress: Callable[[str], None],
    slice_rows: int = 20_000,
) -> int:
    """Append what `disorder` made of each table, by its name, at the pace of `paced`; the number of events sent.

    `sequence` goes on where the table ends. `progress` gets a line for each slice. Raises UserError if a table does
    not exist.
    """
    schemas = {table: tables.read(table).schema for table in log}
    newest = {table: tables.read(table).agg(F.max("sequence")).collect()[0][0] for table in log}
    first = {table: 0 if last is None else last + 1 for table, last in newest.items()}
    sent, total = 0, sum(map(len, log.values()))
    for part in paced(log, speed=speed, every_s=every_s, clock=clock, sleep=sleep, slice_rows=slice_rows):
        for table, rows in part.rows.items():
            names = schemas[table].names
            columns = rows.assign(sent_at=part.sent_at, sequence=rows["sequence"] + first[table])[names]
            columns.attrs.clear()  # Spark's own, which pyarrow cannot write down
            frame = tables.spark.createDataFrame(pa.Table.from_pandas(columns, preserve_index=False), schemas[table])
            frame.write.format("delta").mode("append").saveAsTable(f"{tables.schema}.{table}")
            sent += len(rows)
        progress(f"{part.simulated:%Y-%m-%d %H:%M:%S} UTC: {sent:,} of {total:,} events sent")
    return sent


def paced(
    log: Mapping[str, pd.DataFrame],
    *,
    speed: float,
    every_s: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    slice_rows: int,
) -> Iterator[Slice]:
    """All events by emitted_at, in slices of at most `slice_rows` of all tables together, `every_s` seconds apart.

    Simulated time starts at the first event and runs `speed` times as fast as the clock, which tells UTC; at speed 0
    it is at the end at once. Slices that are full follow each other without a pause.
    """
    emitted = np.concatenate([_microseconds(rows["emitted_at"]) for rows in log.values()])
    table = np.repeat(np.arange(len(log)), [len(rows) for rows in log.values()])
    order = np.argsort(emitted, kind="stable")
    emitted, table = emitted[order], table[order]
    sent, begun = 0, clock()
    while sent < len(emitted):
        now = clock()
        passed = (now - begun) / _MICROSECOND * speed if speed else inf
        until = int(min(emitted[0] + passed, emitted[-1]))
        due = max(sent, int(np.searchsorted(emitted, until, side="right")))
        stop = min(due, sent + slice_rows)
        bounds = [(int(np.sum(table[:sent] == each)), int(np.sum(table[:stop] == each))) for each in range(len(log))]
        yield Slice(
            simulated=datetime.fromtimestamp(0, UTC) + int(emitted[stop - 1] if stop < due else until) * _MICROSECOND,
            sent_at=now,
            rows={
                name: rows.iloc[start:end]
                for (name, rows), (start, end) in zip(log.items(), bounds, strict=True)
                if start < end
            },
        )
        sent = stop
        if stop == due < len(emitted):
            sleep(every_s)


def _chosen(times: Integers, watermark: int, how: Disorder, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Positions, in sorted `times` (microseconds), of events to send out of order and of events to send late."""
    later = np.searchsorted(times, times, side="right")
    too_late = np.searchsorted(times, times + watermark, side="left")
    can_swap = np.flatnonzero(later < too_late)
    can_be_late = np.flatnonzero(times + watermark < times[-1:])
    treated = np.zeros(len(times), dtype=bool)
    needed = np.zeros(len(times), dtype=bool)  # stays punctual, because it overtakes another
    needed[-1:] = True  # and so every late one is overtaken at last

    def swap() -> list[int]:
        found: list[int] = []
        for event in rng.permutation(can_swap).tolist():
            if len(found) == round(how.out_of_order * len(times)):
                break
            overtaking = later[event]
            while overtaking < too_late[event] and treated[overtaking]:
                overtaking += 1
            if overtaking < too_late[event] and not treated[event] and not needed[event]:
                needed[overtaking] = treated[event] = True
                found.append(event)
        return found

    def delay() -> list[int]:
        free = can_be_late[~(treated | needed)[can_be_late]]
        found = rng.permutation(free)[: round(how.late * len(times))]
        treated[found] = True
        return cast(list[int], found.tolist())

    if len(can_swap) < len(can_be_late):  # the scarcer first
        swapped = swap()
        return swapped, delay()
    late = delay()
    return swap(), late


def _first_above(times: Integers, bounds: Integers) -> Integers:
    """For each bound the first of the sorted times that is greater; there is one."""
    return times[np.searchsorted(times, bounds, side="right")]


def _utc(times: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
    """Times in UTC, to the microsecond, of times in UTC with or without a time zone."""
    return pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")


def _microseconds(times: "pd.Series[pd.Timestamp]") -> Integers:
    """Since 1970, of times with a time zone."""
    return times.to_numpy("datetime64[us]").astype(np.int64)


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        print(f"send_events: {error}", file=sys.stderr)
        sys.exit(2)
