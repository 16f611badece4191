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


def excess(day: DayLoss, policy: Watch) -> float | None:
    """How much more than expected was lost: realised if enough have a label, else as estimated; None if neither."""
    covered = day.rows > 0 and day.labelled / day.rows >= policy.quality_min_label_coverage
    found = day.realised if covered else day.estimated
    return None if found is None or day.expected is None else found - day.expected


def decay(days: Mapping[date, DayLoss], day: date, length: int, policy: Watch) -> Signal:
    """The mean excess of the `length` days that end with `day`; each day counts the same.

    What a day is worth is in its expected loss, so that a hard season is no decay. An ALARM above `max_decay`.
    """
    window = [days[at] for back in reversed(range(length)) if (at := day - timedelta(days=back)) in days]
    found = [value for one in window if (value := excess(one, policy)) is not None]
    if 2 * len(found) < length:
        why = f"the losses of {len(found)} of {length} days, and what to expect, are known; {-(-length // 2)} needed"
        return unknown(Kind.DECAY, FORECASTS, day, length, why)
    mean = sum(found) / len(found)
    estimated = sum(1 for one in window if one.labelled < policy.quality_min_label_coverage * one.rows)
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
    share = found.labelled / found.rows
    return Signal(
        kind=Kind.COVERAGE,
        subject="labels",
        day=day,
        level=Level.OK if share >= policy.quality_min_label_coverage else Level.ALARM,
        value=share,
        allowed=policy.quality_min_label_coverage,
        reason=f"{found.labelled:,} of {found.rows:,} entities have a label, {policy.quality_min_label_coverage:.0%} "
        "needed",
    )
