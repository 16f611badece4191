"""What the monitor found, and its incidents, as rows of tables signals and incidents."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date, datetime

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from flight_delays.core.incidents import Event, Family, Incident
from flight_delays.core.signals import Kind, Level, Signal
from flight_delays.platform.delta import Tables, collected

_KEY = ("model_name", "model_version", "kind", "subject", "day", "days")
_FIELDS = ("kind", "subject", "day", "days", "value", "allowed", "p_value", "reason")


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A signal, of which version it is, and as of when it was found."""

    signal: Signal
    model_version: int
    as_of: datetime


@dataclass(frozen=True, kw_only=True)
class Happened:
    """An event of an incident: a row of table incidents, whose SQL says what each column holds."""

    incident_id: str
    number: int
    event: Event
    model_version: int
    family: Family
    subjects: tuple[str, ...]
    since: date
    day: date
    reason: str
    as_of: datetime


@dataclass(frozen=True)
class SignalLog:
    """Signals and incidents of the registered model `model_name`."""

    tables: Tables
    model_name: str

    def signals(self, since: date) -> list[Logged]:
        """Those whose window ends on that day or later."""
        rows = self.tables.read("signals").where((F.col("model_name") == self.model_name) & (F.col("day") >= since))
        return [
            Logged(
                signal=Signal(
                    **{name: row[name] for name in _FIELDS if name != "kind"},
                    kind=Kind(row["kind"]),
                    level=Level(row["outcome"]),
                ),
                model_version=row["model_version"],
                as_of=row["as_of"],
            )
            for row in collected(rows)
        ]

    def write(self, signals: Iterable[Signal], version: int, as_of: datetime) -> None:
        """Add them; of one that was UNKNOWN, what is found now."""
        same = {"model_name": self.model_name, "model_version": version, "as_of": as_of}
        rows = [{**{name: getattr(one, name) for name in _FIELDS}, "outcome": one.level, **same} for one in signals]
        if rows:
            schema = to_arrow_schema(self.tables.read("signals").schema)
            made = self.tables.spark.createDataFrame(pa.Table.from_pylist(rows, schema))
            self.tables.upsert("signals", made, key=_KEY)

    def events(self) -> list[Happened]:
        """Those of all incidents, in their order."""
        rows = self.tables.read("incidents").where(F.col("model_name") == self.model_name)
        names = [field.name for field in fields(Happened)]
        return [
            Happened(
                **{
                    **row,
                    "event": Event(row["event"]),
                    "family": Family(row["family"]),
                    "subjects": tuple(row["subjects"]),
                }
            )
            for row in collected(rows.orderBy("recorded_at", "number").select(*names))
        ]

    def add(self, happened: Happened) -> bool:
        """Write an event, with the time of the clock; whether it was not there yet."""
        row = {**vars(happened), "model_name": self.model_name, "subjects": [*happened.subjects]}
        written = self.tables.append_new(
            "incidents", self.tables.decision("incidents", row), key=["incident_id", "number"]
        )
        return written.inserted > 0


def unresolved(events: Iterable[Happened]) -> list[Happened]:
    """The last event of each incident that is not resolved, the oldest incident first."""
    newest = {one.incident_id: one for one in events}
    return [one for one in newest.values() if one.event is not Event.RESOLVED]


def open_incident(events: Iterable[Happened], family: Family) -> Incident | None:
    """That of a family which is not resolved; there is one at most."""
    for one in unresolved(events):
        if one.family is family:
            return Incident(
                incident_id=one.incident_id,
                family=family,
                subjects=one.subjects,
                since=one.since,
                number=one.number,
            )
    return None


def resolved_at(events: Iterable[Happened], family: Family) -> datetime | None:
    """As of when the newest resolved incident of a family was: what was found by then is over."""
    ends = [one.as_of for one in events if one.family is family and one.event is Event.RESOLVED]
    return max(ends, default=None)
