"""Make a version the champion, and the endpoint's, if a verdict allows it."""

from dataclasses import dataclass
from hashlib import sha256

from flight_delays.core.decisions import Decision
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.traffic import Served
from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import ONLINE_STORE_SECRET
from flight_delays.platform.shell import ONLINE_STORE
from flight_delays.tasks.validate import VERDICT

DEPLOY = "deploy"  # kind of decision


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How an endpoint runs a version. `secret_scope` holds the online store's address, if there is such a store."""

    endpoint: str
    workload_size: str
    scale_to_zero: bool
    secret_scope: str
    online_store: bool

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the served version; a secret is named, never read."""
        return {ONLINE_STORE: f"{{{{secrets/{self.secret_scope}/{ONLINE_STORE_SECRET}}}}}"} if self.online_store else {}


def run(context: Context, *, model_name: str, model_version: int, verdict_id: str, serving: Serving) -> None:
    """Let the endpoint serve the version, then move `previous_champion` and `champion` and append to `decisions`.

    Safe to run again after any interruption: the aliases follow an endpoint that serves, never the other way round.

    Raises UserError unless the verdict is a PASS on this very version, against the version that serves now.
    """
    found = context.decisions.find(decision_id=verdict_id, kind=VERDICT)
    if not found:
        raise UserError(f"no verdict {verdict_id}; run the release job, whose validate task writes one")
    (verdict,) = found
    if (verdict.model_name, verdict.model_version) != (model_name, model_version):
        raise UserError(
            f"verdict {verdict_id} is on {verdict.model_name} version {verdict.model_version}, not on "
            f"{model_name} version {model_version}; run the release job for that version"
        )
    if verdict.outcome != Outcome.PASS:
        raise UserError(f"the verdict on version {model_version} is {verdict.outcome}: only PASS is deployed")

    champion = context.registry.aliases(model_name).get("champion")
    previous = verdict.other_version
    if champion not in (previous, model_version):
        raise UserError(
            f"version {model_version} was judged against version {previous}, but version {champion} serves now; "
            "run the release job again"
        )
    logged = context.decisions.find(kind=DEPLOY, model_name=model_name, model_version=model_version)
    if champion != model_version and any(one.allowed_by == verdict_id for one in logged):
        raise UserError(
            f"this verdict deployed version {model_version} before, and it was taken back since; judge it on newer "
            "days, by a later as_of, to deploy it again"
        )
    context.endpoints().configure(
        serving.endpoint,
        [Served(name="champion", model_name=model_name, model_version=model_version, percentage=100)],
        workload_size=serving.workload_size,
        scale_to_zero=serving.scale_to_zero,
        environment=serving.environment,
        progress=context.console.print,
    )
    if champion != model_version:
        if previous is not None:
            context.registry.set_alias(model_name, "previous_champion", previous)
        context.registry.set_alias(model_name, "champion", model_version)
    if context.registry.aliases(model_name).get("challenger") == model_version:
        context.registry.delete_alias(model_name, "challenger")

    # A version that serves and is judged once more changes nothing; one whose deployment was killed is logged now.
    if all(one.other_version != previous for one in logged):
        context.decisions.append(
            Decision(
                decision_id=sha256(f"{model_name}|{model_version}|{DEPLOY}|{verdict_id}".encode()).hexdigest(),
                kind=DEPLOY,
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
        f"Champion of {model_name} is version {model_version}, served by {serving.endpoint}; before it: {before}."
    )
