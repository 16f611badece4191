"""What happens next to a challenger that passed the gate: a state machine on the log of decisions.

A rollout begins in shadow (0 % of the requests) and goes through the policy's stages. At each of its steps the clocks
say what they found (`Finding`), and `decide` answers: hold, advance, promote, roll back or ask a person. Nothing
measured is never a reason to go on. Rolling back needs no approval, no label and no traffic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from flight_delays.core.settings import RolloutPolicy


class Signal(StrEnum):
    """What a clock says of a challenger: only GOOD lets it go on."""

    GOOD = "GOOD"
    WORSE = "WORSE"
    UNKNOWN = "UNKNOWN"  # not measured, or not enough of it
    INVALID = "INVALID"  # measured, and not to be trusted


class Action(StrEnum):
    """Of one row of a rollout: the first five are what `decide` answers; SERVE says that the endpoint serves it so."""

    HOLD = "HOLD"
    ADVANCE = "ADVANCE"
    PROMOTE = "PROMOTE"
    ROLL_BACK = "ROLL_BACK"
    ASK = "ASK"
    START = "START"
    SERVE = "SERVE"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    AB_TEST = "AB_TEST"


ENDS = (Action.PROMOTE, Action.ROLL_BACK)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One question of a clock and its answer.

    An UNKNOWN one may be answered at `earliest`. It holds back only shares of at least `needed_for` %, and may stay so
    until `limit`, where it has a limit of its own.
    """

    name: str
    signal: Signal
    reason: str
    earliest: datetime | None = None
    needed_for: int = 0
    limit: datetime | None = None

    def __str__(self) -> str:
        later = f"; known at {self.earliest:%Y-%m-%d %H:%M} UTC at the earliest" if self.earliest else ""
        return f"{self.signal} {self.name}: {self.reason}{later}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the log says of one step, `at` some time: `percentage` is the challenger's share from then on.

    An A/B test lasts `until` then.
    """

    step: int
    action: Action
    percentage: int
    at: datetime
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Where a rollout is.

    It began at `begun`. `percentage` is the challenger's share as decided, `served` whether the endpoint was brought to
    it, and `since` when it was, or the rollout was resumed; `step` numbers the newest row. During an A/B test the share
    stays as it is until `test_until`. A rollout that has `ended` left the challenger at 100 % or at none.
    """

    step: int
    begun: datetime
    percentage: int
    since: datetime
    served: bool = False
    paused: bool = False
    asked: bool = False
    test_until: datetime | None = None
    ended: Action | None = None


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The next step: the challenger's share from now on, and why, a line each; an A/B test lasts `until` then."""

    action: Action
    percentage: int
    reasons: tuple[str, ...]
    until: datetime | None = None


def state_of(entries: Sequence[Entry]) -> Rollout:
    """Where a rollout is by all of its rows, in any order.

    Raises ValueError unless they are a START and what may follow, numbered without a gap.
    """
    first, *others = sorted(entries, key=lambda entry: entry.step)
    if (first.action, first.step) != (Action.START, 0):
        raise ValueError(f"a rollout begins with START, step 0, not with {first.action}, step {first.step}")
    state = Rollout(step=0, begun=first.at, percentage=first.percentage, since=first.at)
    for entry in others:
        over = state.ended and (state.served or entry.action is not Action.SERVE)
        if over or entry.step != state.step + 1:
            raise ValueError(f"step {entry.step}, {entry.action}, can't follow step {state.step} of a rollout")
        state = _after(state, entry)
    return state


def _after(state: Rollout, entry: Entry) -> Rollout:
    state = replace(state, step=entry.step)
    match entry.action:
        case Action.ADVANCE | Action.PROMOTE | Action.ROLL_BACK | Action.AB_TEST:
            ended = entry.action if entry.action in ENDS else None
            state = replace(state, percentage=entry.percentage, since=entry.at, served=False, asked=False, ended=ended)
            return replace(state, test_until=entry.until)
        case Action.SERVE:
            return replace(state, since=entry.at, served=True)
        case Action.PAUSE:
            return replace(state, paused=True)
        case Action.RESUME:  # the stage begins anew; after an A/B test the rollout goes on
            until = None if state.asked else state.test_until
            return replace(state, since=entry.at, paused=False, asked=False, test_until=until)
        case Action.ASK:
            return replace(state, asked=True)
        case _:
            return state


def decide(rollout: Rollout, findings: Sequence[Finding], policy: RolloutPolicy, now: datetime) -> Decided:
    """The next step of a rollout that has not ended.

    Whatever is WORSE rolls back, also a paused rollout and one that waits for an answer. All GOOD, once a stage took
    `rollout_stage_minutes`, goes to the next one; that of 100 % is the promotion. What is UNKNOWN and not needed for
    the next share is left out. An A/B test holds until it is over, then asks. Anything else holds; after
    `rollout_limit_hours` in one stage, and the limit of what is UNKNOWN if it has a later one, the rollout asks or ends
    (`when_undecided`). What is INVALID asks at once. Raises ValueError for a rollout that has ended, and for one whose
    share is not served yet.
    """
    if rollout.ended or not rollout.served:
        raise ValueError(
            f"the rollout has ended by {rollout.ended}" if rollout.ended else "its share is not served yet"
        )
    found = tuple(map(str, findings))
    share = min((stage for stage in policy.rollout_stages if stage > rollout.percentage), default=100)
    unknown = [finding for finding in findings if finding.signal is Signal.UNKNOWN and finding.needed_for <= share]
    signals = {finding.signal for finding in findings if finding.signal is not Signal.UNKNOWN or finding in unknown}

    def stay(action: Action, why: str) -> Decided:
        return Decided(action=action, percentage=rollout.percentage, reasons=(why, *found))

    if Signal.WORSE in signals:
        worse = tuple(str(finding) for finding in findings if finding.signal is Signal.WORSE)
        others = tuple(line for line in found if line not in worse)
        return Decided(action=Action.ROLL_BACK, percentage=0, reasons=(*worse, *others))
    if rollout.paused:
        return stay(Action.HOLD, "paused; resume it to go on")
    if rollout.asked:
        return stay(Action.HOLD, "waits for a person: resume, promote or roll back")
    if Signal.INVALID in signals:
        return stay(Action.ASK, "what was measured can't be trusted")
    if rollout.test_until is not None:
        if now < rollout.test_until:
            return stay(Action.HOLD, f"A/B test until {rollout.test_until:%Y-%m-%d %H:%M} UTC")
        return stay(Action.ASK, "the A/B test is over")
    due = rollout.since + timedelta(minutes=policy.rollout_stage_minutes)
    if signals == {Signal.GOOD} and now >= due:
        action = Action.PROMOTE if share == 100 else Action.ADVANCE
        return Decided(action=action, percentage=share, reasons=found)
    limit = rollout.since + timedelta(hours=policy.rollout_limit_hours)
    overdue = [finding for finding in unknown if now >= max(limit, finding.limit or limit)]
    if now >= limit and (overdue or not unknown):
        why = f"undecided for {(now - rollout.since) // timedelta(hours=1)} hours at {rollout.percentage} %"
        if policy.when_undecided == "roll_back":
            return Decided(action=Action.ROLL_BACK, percentage=0, reasons=(why, *found))
        return stay(Action.ASK, why)
    if signals == {Signal.GOOD}:
        return stay(Action.HOLD, f"good so far; the next stage is due at {due:%Y-%m-%d %H:%M} UTC")
    return stay(Action.HOLD, "not everything is known" if findings else "nothing was measured")
