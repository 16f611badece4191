"""May a version get traffic: has a person approved it, by a tag that the job itself cannot set?

The tag is the one of MLflow's deployment jobs: its key is the name of the job's task, its value Approved. Tags have no
author. So what makes the tag an approval is that it is governed, and who may set it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flight_delays.core.gates import Outcome
from flight_delays.core.rollout import Finding, Signal

TAG, APPROVED = "approval", "Approved"
_KINDS = ("users", "groups", "servicePrincipals")
_EVERYBODY = "groups/account users"


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Who may set the tag: `permission` is ASSIGN or MANAGE, `scope` what it was granted on."""

    principal: str  # users/<name>, groups/<name> or servicePrincipals/<application id>
    permission: str
    scope: str

    def __str__(self) -> str:
        return f"{self.principal} by {self.permission} on {self.scope}"


@dataclass(frozen=True, kw_only=True)
class TagPolicy:
    """What makes a tag governed: the values that it may have (none listed: any), and who may set it."""

    values: tuple[str, ...]
    grants: tuple[Grant, ...]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom a job runs as, and the groups of which it is a member, all named as in a grant."""

    name: str
    groups: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Governance:
    """The tag's policy, None if the tag is not governed; `unread` is what the workspace does not show, a line each."""

    policy: TagPolicy | None
    runs_as: Identity
    unread: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[Grant, ...]:
        """The grants by which the job itself could set the tag, as far as can be told."""
        may = {name.casefold() for name in (self.runs_as.name, _EVERYBODY, *self.runs_as.groups)}
        return tuple(
            grant
            for grant in self.grants
            if grant.principal.casefold() in may or grant.principal.partition("/")[0] not in _KINDS
        )

    @property
    def grants(self) -> tuple[Grant, ...]:
        """All that are known."""
        return self.policy.grants if self.policy else ()


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Who may set the tag could not be found out."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Approval:
    """PASS: the version may get traffic; FAIL: it may not; INCONCLUSIVE: not known. Why, a line each.

    `waits` says that all is in order and an approver only has to set the tag.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    waits: bool = False

    @property
    def finding(self) -> Finding:
        """It as a clock's: without an approval a rollout holds, in shadow or at the share that it has."""
        signal = Signal.GOOD if self.outcome is Outcome.PASS else Signal.UNKNOWN
        return Finding(name=TAG, signal=signal, reason="; ".join(self.reasons), needed_for=1)


def approval_of(tags: Mapping[str, str], found: Governance | Unknown, *, was_approved: bool = False) -> Approval:
    """Whether a version with these tags is approved; `was_approved` says that it was before."""
    if isinstance(found, Unknown):
        return Approval(outcome=Outcome.INCONCLUSIVE, reasons=(f"who may set the tag {TAG} is unknown: {found.why}",))
    if wrong := problems(found):
        return Approval(outcome=Outcome.FAIL, reasons=wrong)
    value = tags.get(TAG)
    if value is None or value.lower() != APPROVED.lower():  # MLflow's own task takes either case
        said = f"the version has no tag {TAG}" if value is None else f"the tag {TAG} is {value!r}, not {APPROVED}"
        revoked = "approved before and revoked: " if was_approved else ""
        return Approval(outcome=Outcome.FAIL, reasons=(revoked + said,), waits=True)
    may = ", ".join(map(str, found.grants)) or "account admins alone"
    unread = tuple(f"NOT checked: {line}" for line in found.unread)
    return Approval(outcome=Outcome.PASS, reasons=(f"the tag {TAG} is {value}; may set it: {may}", *unread))


def problems(found: Governance) -> tuple[str, ...]:
    """Why the tag is no approval, whatever its value, a line each."""
    if found.policy is None:
        return (f"the tag {TAG} is not governed, so that the job {found.runs_as.name} could set it itself",)
    wrong = [f"the job {found.runs_as.name} could set the tag {TAG} itself: {grant}" for grant in found.own]
    if found.policy.values and APPROVED not in found.policy.values:
        wrong.append(f"the policy of the tag {TAG} does not allow the value {APPROVED}")
    return tuple(wrong)
