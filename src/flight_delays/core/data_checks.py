"""Whether a day's rows are what the days before lead one to expect: broken feeds, changed units, missing rows.

A value is an alarm where it is beyond the range of the reference days by more than `watch_tolerance` times the width
of that range. What else changes, slowly or by little, core/drift.py finds.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from flight_delays.core.profiles import Bins, Profile
from flight_delays.core.settings import Watch
from flight_delays.core.signals import Kind, Level, Signal, unknown

ROWS = "rows"
_SHARE = 0.05  # a share that hardly varied may still vary by so much


def check_rows(
    rows: Mapping[date, int], distinct: Mapping[date, int], day: date, policy: Watch, *, last: date
) -> list[Signal]:
    """Volume, duplicates and freshness of a day: `rows` of each day, and `distinct` keys among them.

    `last` is the newest complete day, whose rows tell whether they still come in.
    """
    found = rows.get(day, 0)
    twice = found - distinct.get(day, found)
    before = {at: count for at, count in rows.items() if _in_reference(at, day, policy) and count > 0}
    signals = [
        Signal(
            kind=Kind.DUPLICATES,
            subject=ROWS,
            day=day,
            level=Level.ALARM if twice else Level.OK,
            value=twice,
            allowed=0,
            reason=f"{twice:,} of {found:,} rows have the key of another",
        )
    ]
    if day == last:
        newest = max((at for at, count in rows.items() if count > 0), default=None)
        age = (last - newest).days if newest else math.inf
        signals.append(
            Signal(
                kind=Kind.FRESHNESS,
                subject=ROWS,
                day=day,
                level=Level.ALARM if age > 0 else Level.OK,
                value=age if newest else None,
                allowed=0,
                reason=f"the newest rows are of {newest}" if newest else "there are no rows at all",
            )
        )
    if len(before) < policy.min_reference_days:
        signals.append(_too_few(Kind.VOLUME, ROWS, day, len(before), policy))
        return signals
    fewest, most = min(before.values()), max(before.values())
    # Beyond the range by its width, as a ratio; days with twice as many rows as others are rare.
    lowest, highest = fewest * fewest / most, most * most / fewest
    signals.append(
        Signal(
            kind=Kind.VOLUME,
            subject=ROWS,
            day=day,
            level=Level.OK if lowest <= found <= highest else Level.ALARM,
            value=found,
            allowed=lowest if found < lowest else highest,
            reason=f"{found:,} rows; {fewest:,} to {most:,} on the days before",
        )
    )
    return signals


def check_columns(
    bins: Sequence[Bins], profiles: Mapping[str, Mapping[date, Profile]], day: date, policy: Watch
) -> list[Signal]:
    """Of each column on a day: that it is there, its nulls, unseen levels, whether it still varies, and its mean."""
    found: list[Signal] = []
    for one in bins:
        column = profiles.get(one.column, {})
        now = column.get(day)
        if now is None and column:
            found.append(unknown(Kind.SCHEMA, one.column, day, 1, "no rows"))
            continue
        if now is None:
            why = "the model takes it, and table features has no such column"
            found.append(Signal(kind=Kind.SCHEMA, subject=one.column, day=day, level=Level.ALARM, reason=why))
            continue
        before = [
            profile
            for at, profile in column.items()
            if _in_reference(at, day, policy) and profile.rows >= policy.min_rows
        ]
        if now.rows < policy.min_rows or len(before) < policy.min_reference_days:
            found.append(_too_few(Kind.NULLS, one.column, day, len(before), policy))
            continue
        found += _check_column(one, now, before, policy)
    return found


def _check_column(bins: Bins, now: Profile, before: Sequence[Profile], policy: Watch) -> list[Signal]:
    found = [_share(Kind.NULLS, now, before, -1, "have no value", policy)]
    if bins.levels is not None:
        found.append(_share(Kind.UNSEEN, now, before, -2, "have a value of no bin of its own", policy))
        return found
    if now.mean is None or now.lowest is None:
        return found
    constant = now.lowest == now.highest
    varied = all(profile.mean is None or profile.lowest != profile.highest for profile in before)
    found.append(
        Signal(
            kind=Kind.CONSTANT,
            subject=now.column,
            day=now.day,
            level=Level.ALARM if constant and varied else Level.OK,
            value=now.highest - now.lowest if now.highest is not None else None,
            allowed=0,
            reason=f"{now.lowest:.4g} to {now.highest:.4g}" + (", which varied on all days before" if varied else ""),
        )
    )
    means = [profile.mean for profile in before if profile.mean is not None]
    if len(means) >= policy.min_reference_days:
        room = policy.watch_tolerance * (max(means) - min(means))
        reason = f"mean {now.mean:.4g}; {min(means):.4g} to {max(means):.4g} on the days before"
        found.append(_ranged(Kind.RANGE, now, now.mean, min(means) - room, max(means) + room, reason))
    return found


def _share(kind: Kind, now: Profile, before: Sequence[Profile], place: int, what: str, policy: Watch) -> Signal:
    value, shares = now.counts[place] / now.rows, [profile.counts[place] / profile.rows for profile in before]
    room = policy.watch_tolerance * max(max(shares) - min(shares), _SHARE)
    reason = f"{value:.1%} of rows {what}; {min(shares):.1%} to {max(shares):.1%} on the days before"
    return _ranged(kind, now, value, max(min(shares) - room, 0.0), min(max(shares) + room, 1.0), reason)


def _ranged(kind: Kind, now: Profile, value: float, lowest: float, highest: float, reason: str) -> Signal:
    return Signal(
        kind=kind,
        subject=now.column,
        day=now.day,
        level=Level.OK if lowest <= value <= highest else Level.ALARM,
        value=value,
        allowed=lowest if value < lowest else highest,
        reason=reason,
    )


def _in_reference(at: date, day: date, policy: Watch) -> bool:
    return day - timedelta(days=policy.watch_reference_days) <= at < day


def _too_few(kind: Kind, subject: str, day: date, days: int, policy: Watch) -> Signal:
    why = f"{days} days before have {policy.min_rows} rows, {policy.min_reference_days} needed"
    return unknown(kind, subject, day, 1, why)
