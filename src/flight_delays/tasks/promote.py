"""Make a version the champion, and the endpoint's, if a verdict allows it."""

from hashlib import sha256

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.settings import Promote, Serving
from flight_delays.core.traffic import Served
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import PROMOTION, VERDICT, Decision
from flight_delays.platform.endpoints import ONLINE_STORE_SECRET
from flight_delays.platform.online_table import ONLINE_STORE


def run(context: Context, settings: Promote) -> None:
    """Let the endpoint serve the version, then move `previous_champion` and `champion` and append to `decisions`.

    Idempotent after any interruption: the aliases follow an endpoint that serves, never the other way round.

    Raises UserError unless the verdict is a PASS on this very version, against the version that serves now.
    """
    model_name, model_version, verdict_id = settings.model_name, settings.model_version, settings.verdict_id
    registry = context.registry
    found = context.decisions.find(decision_id=verdict_id, kind=VERDICT)
    if not found:
        raise UserError(f"no verdict {verdict_id}; run the release job, whose judge task writes one")
    (verdict,) = found
    if (verdict.model_name, verdict.model_version) != (model_name, model_version):
        raise UserError(
            f"verdict {verdict_id} is on {verdict.model_name} version {verdict.model_version}, not on "
            f"{model_name} version {model_version}; run the release job for that version"
        )
    if verdict.outcome != Outcome.PASS:
        raise UserError(f"the verdict on version {model_version} is {verdict.outcome}: only PASS is promoted")

    champion = registry.aliases(model_name).get("champion")
    previous = verdict.other_version
    if champion not in (previous, model_version):
        raise UserError(
            f"version {model_version} was judged against version {previous}, but version {champion} serves now; "
            "run the release job again"
        )
    logged = context.decisions.find(kind=PROMOTION, model_name=model_name, model_version=model_version)
    if champion != model_version and any(one.allowed_by == verdict_id for one in logged):
        raise UserError(
            f"this verdict promoted version {model_version} before, and it was taken back since; judge it on newer "
            "days, by a later as_of, to promote it again"
        )
    serve(context, settings, model_version)
    if champion != model_version:
        if previous is not None:
            registry.set_alias(model_name, "previous_champion", previous)
        registry.set_alias(model_name, "champion", model_version)
    if registry.aliases(model_name).get("challenger") == model_version:
        registry.delete_alias(model_name, "challenger")

    # A version that serves and is judged once more changes nothing; one whose promotion was killed is logged now.
    if all(one.other_version != previous for one in logged):
        context.decisions.append(
            Decision(
                decision_id=sha256(f"{model_name}|{model_version}|{PROMOTION}|{verdict_id}".encode()).hexdigest(),
                kind=PROMOTION,
                model_name=model_name,
                model_version=model_version,
                other_version=previous,
                outcome="DONE",
                reasons=("verdict PASS",),
                allowed_by=verdict_id,
                as_of=context.as_of,
            )
        )
    context.task_values.set("champion", str(model_version))
    before = "no version" if previous is None else f"version {previous}"
    context.console.print(
        f"Champion of {model_name} is version {model_version}, served by {settings.endpoint}; before it: {before}."
    )


def serve(context: Context, settings: Serving, model_version: int) -> None:
    """Let the endpoint serve this version alone, and wait until it does."""
    context.endpoints().configure(
        settings.endpoint,
        [Served(name="champion", model_name=settings.model_name, model_version=model_version, percentage=100)],
        workload_size=settings.serving_workload_size,
        scale_to_zero=settings.serving_scale_to_zero,
        environment=environment(settings),
        progress=context.console.print,
    )


def environment(settings: Serving) -> dict[str, str]:
    """Variables of the served version; a secret is named, never read."""
    secret = f"{{{{secrets/{settings.secret_scope}/{ONLINE_STORE_SECRET}}}}}"
    return {ONLINE_STORE: secret} if settings.online_store else {}
