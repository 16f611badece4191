"""Incidents: one alert for all alarms that belong together, however many runs see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from flight_delays.core.signals import Kind, Level, Signal

_NAMED = 5  # alarms that a reason names


class Event(StrEnum):
    """What happens to an incident."""

    OPENED = "OPENED"
    GREW = "GREW"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class Family(StrEnum):
    """What alarms belong together: of what the model is given, and of how its forecasts turn out."""

    DATA = "data"
    PERFORMANCE = "performance"


_ADVICE = {
    Family.DATA: "find out whether the source or the world has changed; repair a source and run its ingest again, "
    "or train a new version",
    Family.PERFORMANCE: "look at performance by slice; roll back if the champion is new, else let a new version be "
    "trained",
}


def family_of(kind: Kind) -> Family:
    """That of a signal."""
    return Family.PERFORMANCE if kind in (Kind.DECAY, Kind.COVERAGE) else Family.DATA


def subject_of(signal: Signal) -> str:
    """How an incident names what is affected."""
    return f"{signal.kind} of {signal.subject}"


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One that is open: what is affected so far, since when, and the number of its last event."""

    incident_id: str
    family: Family
    subjects: tuple[str, ...]
    since: date
    number: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of an incident; of one that is opened, or else goes on."""

    event: Event
    subjects: tuple[str, ...]
    since: date
    reason: str


def change(
    family: Family,
    opened: Incident | None,
    signals: Sequence[Signal],
    *,
    day: date,
    quiet_days: int,
    done: str,
) -> Change | None:
    """What is to be written of a family, None if nothing is new.

    `signals` are all that were found since the last incident of the family was resolved, in any order, `day` is the
    last one that was looked at, and `done` says what was decided on them.

    - Without an open incident any alarm opens one; further alarms make it grow, once for each signal.
    - It is resolved when the newest of each of its signals is OK, and the last alarm was `quiet_days` ago.
    """
    ours = [one for one in signals if family_of(one.kind) is family]
    alarms = sorted((one for one in ours if one.level is Level.ALARM), key=lambda one: (one.day, one.kind, one.subject))
    affected = tuple(dict.fromkeys(subject_of(one) for one in alarms))
    known = opened.subjects if opened else ()
    new = [one for one in affected if one not in known]
    if new:
        since = min(one.day - timedelta(days=one.days - 1) for one in alarms)
        since = min(since, opened.since) if opened else since
        raised = [one for one in alarms if subject_of(one) in new]
        return Change(
            event=Event.GREW if opened else Event.OPENED,
            subjects=(*known, *new),
            since=since,
            reason=f"{_named(raised)}. Since {since}. {done}. To do: {_ADVICE[family]}.",
        )
    if opened is None:
        return None
    newest: dict[tuple[Kind, str, int], Signal] = {}
    for one in sorted(ours, key=lambda one: one.day):
        if one.level is not Level.UNKNOWN and subject_of(one) in known:
            newest[one.kind, one.subject, one.days] = one
    last = max((one.day for one in alarms), default=opened.since)
    if newest and all(one.level is Level.OK for one in newest.values()) and day - last >= timedelta(days=quiet_days):
        reason = f"no alarm since {last}, and all {len(newest)} signals are OK again"
        return Change(event=Event.RESOLVED, subjects=known, since=opened.since, reason=reason)
    return None


def _named(alarms: Sequence[Signal]) -> str:
    """The alarms, the surest first."""
    surest = sorted(alarms, key=lambda one: (one.p_value is not None, one.p_value or 0.0, -(one.value or 0.0)))
    said = [
        f"{subject_of(one)}, {'on' if one.days == 1 else f'{one.days} days to'} {one.day}: {one.reason}"
        for one in surest[:_NAMED]
    ]
    rest = len(surest) - _NAMED
    return "; ".join([*said, *([f"and {rest} more"] if rest > 0 else [])])
