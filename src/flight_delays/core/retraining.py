"""Whether a new version is needed: a rule on the last weeks' signals and on when one was trained last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from flight_delays.core.settings import RetrainPolicy
from flight_delays.core.signals import Kind, Level, Signal

WEEK, MONTH = 7, 30  # days


class Choice(StrEnum):
    """Train a new version, or keep what there is."""

    RETRAIN = "RETRAIN"
    KEEP = "KEEP"


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What to do, and why."""

    choice: Choice
    reasons: tuple[str, ...]


def decide(
    signals: Sequence[Signal], *, trained: date | None, ordered: Sequence[date], day: date, policy: RetrainPolicy
) -> Decided:
    """By the signals of the champion, in any order; `day` is today.

    `trained` is when a version was trained last, by whomever, `ordered` when this rule had one trained. RETRAIN if

    - at least `retrain_alarms` of the last `retrain_windows` weeks raised an alarm: of decay, and of drift in any
      column if `retrain_on_drift` says so; weeks before the last training do not count, nor those not measured; or
    - `retrain_after_days` have passed since the last training;

    but not before `retrain_cooldown_days` have passed since, nor beyond `retrains_per_month` in 30 days.
    """
    last = max((one.day for one in signals if one.days == WEEK), default=day)
    begin = last - timedelta(days=WEEK * policy.retrain_windows)
    since = max(begin, trained) if trained else begin
    kinds = {Kind.DECAY, *([Kind.DRIFT] if policy.retrain_on_drift else [])}
    weeks = [one for one in signals if one.days == WEEK and one.kind in kinds and since < one.day <= day]
    alarmed = {one.day for one in weeks if one.level is Level.ALARM}
    measured = {one.day for one in weeks if one.level is not Level.UNKNOWN}
    age = (day - trained).days if trained else None
    calls, stops = [], []
    if len(alarmed) >= policy.retrain_alarms:
        named = ", ".join(str(one) for one in sorted(alarmed))
        calls.append(f"{len(alarmed)} of the last {policy.retrain_windows} weeks raised an alarm: those to {named}")
    if age is not None and policy.retrain_after_days and age >= policy.retrain_after_days:
        calls.append(f"a version was trained last {age} days ago, at most {policy.retrain_after_days} allowed")
    if age is not None and age < policy.retrain_cooldown_days:
        stops.append(f"a version was trained {age} days ago, {policy.retrain_cooldown_days} have to pass")
    recent = [one for one in ordered if day - timedelta(days=MONTH) < one <= day]
    if len(recent) >= policy.retrains_per_month:
        stops.append(f"{len(recent)} trainings in {MONTH} days, at most {policy.retrains_per_month} allowed")
    if calls and not stops:
        return Decided(choice=Choice.RETRAIN, reasons=tuple(calls))
    if calls:
        return Decided(choice=Choice.KEEP, reasons=tuple(f"not yet: {stop}" for stop in stops) + tuple(calls))
    quiet = (
        f"{len(alarmed)} alarms in {len(measured)} measured weeks of the last {policy.retrain_windows}, "
        f"{policy.retrain_alarms} needed"
    )
    old = "no training is on record" if age is None else f"a version was trained last {age} days ago"
    return Decided(choice=Choice.KEEP, reasons=(quiet, old))
