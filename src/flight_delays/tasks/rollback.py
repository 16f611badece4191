"""Go back to the champion from a rollout, or to an earlier champion. Needs no verdict, no label and no traffic."""

from hashlib import sha256

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Rollback
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import PROMOTION, ROLLBACK, Decision, releases_in
from flight_delays.platform.rollout_log import rollout_under_way
from flight_delays.tasks.rollout import end, log_served
from flight_delays.tasks.serving import serve


def run(context: Context, settings: Rollback) -> None:
    """Append to `decisions`, move the aliases, then let the endpoint serve the version.

    While a version is rolled out, that one goes and the champion stays, unless `to_version` says otherwise.
    Batch and stream take the version from their next run or micro-batch on, though the endpoint needs minutes. Killed
    anywhere and run again with the same `as_of`, it goes on with what it decided. Raises UserError if there is no
    version to go back to.
    """
    registry, name = context.registry, settings.model_name
    said = f"{name}|{ROLLBACK}|{context.as_of.isoformat()}|{settings.to_version}|{settings.reason}"
    decision_id = sha256(said.encode()).hexdigest()
    decisions = context.decisions.find(model_name=name)
    releases = releases_in(decisions)
    decided = [one for one in releases if one.decision_id == decision_id]
    if not decided:
        rollout = rollout_under_way(decisions)
        other: int | None
        if settings.to_version is None and rollout is not None:
            target, other = rollout.champion, rollout.challenger
        else:
            other = registry.aliases(name).get("champion")
            target = _target(releases, other, settings.to_version)
        made = Decision(
            decision_id=decision_id,
            kind=ROLLBACK,
            model_name=name,
            model_version=target,
            other_version=other,
            outcome="DONE",
            reasons=(settings.reason,),
            as_of=context.as_of,
        )
        registry.version(name, made.model_version)
        context.decisions.append(made)
        decided = [made]
    (decision,) = decided
    version, before = decision.model_version, _before(releases, decision.model_version)
    ended = end(context, name, settings.reason)
    registry.set_alias(name, "champion", version)
    aliases = registry.aliases(name)
    if before is not None:
        registry.set_alias(name, "previous_champion", before)
    elif "previous_champion" in aliases:
        registry.delete_alias(name, "previous_champion")
    if "challenger" in aliases:
        registry.delete_alias(name, "challenger")
    serve(context, settings, version)
    if ended is not None:
        log_served(context, settings, ended)
    context.task_values.set("champion", str(version))
    context.console.print(
        f"Champion of {name} is version {version} again, served by {settings.endpoint}, in place of version "
        f"{decision.other_version}: {settings.reason}"
    )


def _target(releases: list[Decision], champion: int | None, wanted: int | None) -> int:
    if champion is None:
        raise UserError("no version serves; run the train job, which releases one that passes")
    target = _before(releases, champion) if wanted is None else wanted
    if target is None:
        raise UserError(f"no version served before version {champion}; train another one")
    if target == champion:
        raise UserError(f"version {target} is the champion already; flight-delays status shows whether it serves")
    if target not in {one.model_version for one in releases}:
        raise UserError(f"version {target} never served; run the release job for it, which judges it")
    return target


def _before(releases: list[Decision], version: int) -> int | None:
    """The version that served before this one was promoted last."""
    promotions = [one for one in releases if one.kind == PROMOTION and one.model_version == version]
    return promotions[-1].other_version if promotions else None
