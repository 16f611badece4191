"""Rollouts, as rows of `decisions`: one per step, whose id is that of the verdict that allowed it and the step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from flight_delays.core.rollout import Action, Entry, Rollout, state_of
from flight_delays.platform.decision_log import PROMOTION, VERDICT, Decision, Decisions, releases_in

ROLLOUT = "rollout"  # kind of decision


@dataclass(frozen=True, kw_only=True)
class Release:
    """How a version came to serve: the promotion or rollback from which on it did, the verdict that allowed it, and the
    rollout's steps. Each of them may not be there.
    """  # fmt: skip

    release: Decision | None
    verdict: Decision | None
    steps: tuple[Decision, ...]


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A rollout of version `challenger` beside the `champion`, and where it is."""

    model_name: str
    challenger: int
    champion: int
    verdict_id: str
    state: Rollout

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state.ended is not None and self.state.served


def newest_rollout(decisions: Sequence[Decision]) -> Logged | None:
    """Of the decisions on one model, in their order, the rollout that was started last."""
    rows = [row for row in decisions if row.kind == ROLLOUT]
    starts = [row for row in rows if row.outcome == Action.START]
    if not starts:
        return None
    start = starts[-1]
    if start.allowed_by is None or start.other_version is None:
        raise ValueError(f"the rollout {start.decision_id} names no verdict or no champion")
    return Logged(
        model_name=start.model_name,
        challenger=start.model_version,
        champion=start.other_version,
        verdict_id=start.allowed_by,
        state=state_of([_entry(row) for row in rows if row.allowed_by == start.allowed_by]),
    )


def release_of(decisions: Sequence[Decision], version: int, moment: datetime) -> Release:
    """How the version that scored at a moment, by the clock, had come to serve; of decisions on one model, in order."""
    own = [one for one in decisions if one.model_version == version and one.kind != VERDICT]
    # An alias moves moments before that is logged.
    before = [one for one in own if one.recorded_at is None or one.recorded_at <= moment] or own[:1]
    releases, steps = releases_in(before), [one for one in own if one.kind == ROLLOUT]
    promoted = [one.allowed_by for one in releases if one.kind == PROMOTION]
    allowed_by = promoted[-1] if promoted else None
    if before and before[-1].kind == ROLLOUT and before[-1].allowed_by != allowed_by:  # as a challenger, then
        releases, allowed_by = [], before[-1].allowed_by
    verdicts = [one for one in decisions if one.kind == VERDICT and one.decision_id == allowed_by]
    return Release(
        release=next(iter(releases[-1:]), None),
        verdict=next(iter(verdicts), None),
        steps=tuple(one for one in steps if one.allowed_by == allowed_by),
    )


def rollout_under_way(decisions: Sequence[Decision]) -> Logged | None:
    """The newest rollout, unless nothing of it is left to do."""
    newest = newest_rollout(decisions)
    return None if newest is None or newest.is_over else newest


def write_step(
    decisions: Decisions,
    logged: Logged,
    entry: Entry,
    reasons: Sequence[str],
    *,
    as_of: datetime,
    policy: Mapping[str, object] | None = None,
) -> bool:
    """Claim the step: whether it was written, which it is unless somebody else has written that step before."""
    name, verdict_id = logged.model_name, logged.verdict_id
    return decisions.append(
        Decision(
            decision_id=sha256(f"{name}|{ROLLOUT}|{verdict_id}|{entry.step}".encode()).hexdigest(),
            kind=ROLLOUT,
            model_name=name,
            model_version=logged.challenger,
            other_version=logged.champion,
            outcome=entry.action,
            reasons=tuple(reasons),
            evidence=json.dumps(
                {"step": entry.step, "percentage": entry.percentage, "at": entry.at.isoformat()}
                | ({"until": entry.until.isoformat()} if entry.until else {})
            ),
            policy=json.dumps(policy or {}, sort_keys=True),
            allowed_by=verdict_id,
            as_of=as_of,
        )
    )


def _entry(row: Decision) -> Entry:
    evidence = json.loads(row.evidence)
    return Entry(
        step=evidence["step"],
        action=Action(row.outcome),
        percentage=evidence["percentage"],
        at=datetime.fromisoformat(evidence["at"]),
        until=datetime.fromisoformat(evidence["until"]) if "until" in evidence else None,
    )
