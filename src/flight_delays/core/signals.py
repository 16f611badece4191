"""What the monitor looks at: each signal of each window is OK, an ALARM, or UNKNOWN, which is never OK."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Level(StrEnum):
    """What a signal says. UNKNOWN: not measured, as its reason tells."""

    OK = "OK"
    ALARM = "ALARM"
    UNKNOWN = "UNKNOWN"


class Kind(StrEnum):
    """What a signal is of."""

    DRIFT = "drift"
    RANGE = "range"
    NULLS = "nulls"
    UNSEEN = "unseen"
    CONSTANT = "constant"
    SCHEMA = "schema"
    VOLUME = "volume"
    FRESHNESS = "freshness"
    DUPLICATES = "duplicates"
    COVERAGE = "coverage"
    DECAY = "decay"


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One, for the window of `days` days that ends with `day`.

    `value` was measured, beyond `allowed` it is an alarm; of drift, whose value is a distance, `p_value` decides.
    """

    kind: Kind
    subject: str
    day: date
    days: int = 1
    level: Level
    value: float | None = None
    allowed: float | None = None
    p_value: float | None = None
    reason: str


def unknown(kind: Kind, subject: str, day: date, days: int, reason: str) -> Signal:
    """What could not be measured, and why."""
    return Signal(kind=kind, subject=subject, day=day, days=days, level=Level.UNKNOWN, reason=f"not measured: {reason}")
