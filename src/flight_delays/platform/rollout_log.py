"""Rollouts, as rows of `decisions`: one per step, whose id is that of the verdict that allowed it and the step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from flight_delays.core.rollout import Action, Entry, Rollout, state_of
from flight_delays.platform.decision_log import Decision, Decisions

ROLLOUT = "rollout"  # kind of decision


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
