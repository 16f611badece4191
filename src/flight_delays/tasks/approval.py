"""Go on only if a person has approved the version; tell those who have to how."""

from hashlib import sha256

from mlflow.exceptions import MlflowException

from flight_delays.core.approval import APPROVED, TAG, approval_of
from flight_delays.core.approval import Approval as Found
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.settings import Approval, Approve, Promote, Rollout
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import APPROVAL, Decision
from flight_delays.platform.registry import Registry


def run(context: Context, settings: Approval) -> None:
    """Write what is found to `decisions`. Raises UserError with what to do unless the version is approved."""
    name, version = settings.model_name, settings.model_version
    if not settings.approval_required:
        context.task_values.set("approval", "not required")
        context.console.print(f"Version {version} of {name} needs no approval in this target.")
        return
    found = approval_in(context, name, version)
    said = "|".join([name, str(version), APPROVAL, found.outcome, *found.reasons])
    context.decisions.append(
        Decision(
            decision_id=sha256(said.encode()).hexdigest(),
            kind=APPROVAL,
            model_name=name,
            model_version=version,
            other_version=None,
            outcome=found.outcome,
            reasons=found.reasons,
            as_of=context.as_of,
        )
    )
    context.task_values.set("approval", found.outcome)
    for reason in found.reasons:
        context.console.print(reason)
    _raise_unless_approved(context, name, version, found)


def require(context: Context, settings: Promote | Rollout, version: int) -> None:
    """Raise UserError with what to do if the version needs an approval and has none."""
    if settings.approval_required:
        name = settings.model_name
        _raise_unless_approved(context, name, version, approval_in(context, name, version))


def approval_in(context: Context, name: str, version: int) -> Found:
    """Whether the version is approved now, by its tags and by who may set them."""
    logged = context.decisions.find(kind=APPROVAL, model_name=name, model_version=version, outcome=Outcome.PASS)
    tags = context.registry.version(name, version).tags
    return approval_of(tags, context.approvals().governance(), was_approved=bool(logged))


def approve(registry: Registry, settings: Approve) -> str:
    """Set the tag, or delete it, as whoever runs this; what was done. Raises UserError if they may not."""
    name, number = settings.model_name, settings.model_version
    version = registry.version(name, number)
    try:
        if settings.revoke:
            registry.delete_tag(version, TAG)
        else:
            registry.tag_version(version, {TAG: APPROVED})
    except MlflowException as error:
        raise UserError(f"the tag {TAG} of {name} version {number} was not changed: {error.message}") from error
    return f"Approval of {name} version {number} {'revoked' if settings.revoke else 'given'}."


def _raise_unless_approved(context: Context, name: str, version: int, found: Found) -> None:
    if found.outcome is Outcome.PASS:
        return
    how = "`flight-delays approvers` shows who may set it; fix that"
    if found.waits:
        page = context.approvals().link(name, version)
        how = f"look at {page} and approve it: flight-delays approve --model-name={name} --model-version={version}"
    raise UserError(
        f"version {version} of {name} is not approved: {'; '.join(found.reasons)}; {how}; then repair this run"
    )
