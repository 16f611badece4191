"""Whether forecasts turn out worse than they themselves let expect, week by week."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from flight_delays.core.settings import Watch
from flight_delays.core.signals import Kind, Level, Signal, unknown

FORECASTS = "forecasts"


@dataclass(frozen=True, kw_only=True)
class DayLoss:
    """A version's forecasts of a day: entities, those with a label, and mean losses, None where not known.

    `realised` is of those with a label, `estimated` from outcomes of days before, `expected` what the forecasts of the
    training's folds let expect of forecasts like these.
    """

    rows: int
    labelled: int
    realised: float | None
    estimated: float | None
    expected: float | None

    @property
    def coverage(self) -> float:
        """Share of the entities with a label."""
        return self.labelled / self.rows if self.rows else 0.0


def excess(day: DayLoss, policy: Watch) -> float | None:
    """How much more than expected was lost: realised if enough have a label, else as estimated; None if neither."""
    found = day.realised if day.coverage >= policy.quality_min_label_coverage else day.estimated
    return None if found is None or day.expected is None else found - day.expected


def decay(days: Mapping[date, DayLoss], day: date, length: int, policy: Watch) -> Signal:
    """The mean excess of the `length` days that end with `day`; each day counts the same.

    What a day is worth is in its expected loss, so that a hard season is no decay. An ALARM above `max_decay`.
    """
    window = [days[at] for back in reversed(range(length)) if (at := day - timedelta(days=back)) in days]
    found = [(value, one.coverage) for one in window if (value := excess(one, policy)) is not None]
    if 2 * len(found) < length:
        why = f"the losses of {len(found)} of {length} days, and what to expect, are known; {-(-length // 2)} needed"
        return unknown(Kind.DECAY, FORECASTS, day, length, why)
    mean = sum(value for value, _ in found) / len(found)
    estimated = sum(covered < policy.quality_min_label_coverage for _, covered in found)
    return Signal(
        kind=Kind.DECAY,
        subject=FORECASTS,
        day=day,
        days=length,
        level=Level.ALARM if mean > policy.max_decay else Level.OK,
        value=mean,
        allowed=policy.max_decay,
        reason=f"a loss of {mean:+.4f} above what the forecasts let expect, {policy.max_decay:g} allowed"
        + (f"; {estimated} of {len(found)} days are estimated" if estimated else ""),
    )


def coverage(days: Mapping[date, DayLoss], day: date, policy: Watch) -> Signal:
    """Whether enough of a day's entities have a label by now."""
    found = days.get(day)
    if found is None or not found.rows:
        return unknown(Kind.COVERAGE, "labels", day, 1, "nothing was forecast")
    return Signal(
        kind=Kind.COVERAGE,
        subject="labels",
        day=day,
        level=Level.OK if found.coverage >= policy.quality_min_label_coverage else Level.ALARM,
        value=found.coverage,
        allowed=policy.quality_min_label_coverage,
        reason=f"{found.labelled:,} of {found.rows:,} entities have a label, {policy.quality_min_label_coverage:.0%} "
        "needed",
    )
