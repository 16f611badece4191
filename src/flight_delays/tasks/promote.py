"""Make a version the champion, and the endpoint's, if a verdict allows it: at once, or by a rollout."""

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.rollout import Action
from flight_delays.core.settings import Promote
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import PROMOTION, VERDICT
from flight_delays.platform.rollout_log import newest_rollout
from flight_delays.tasks.approval import require
from flight_delays.tasks.rollout import start
from flight_delays.tasks.serving import make_champion


def run(context: Context, settings: Promote) -> None:
    """Begin the rollout of the version; promote it at once if it is the first, or the only stage is 100 %.

    Raises UserError unless the verdict is a PASS on this very version, against the version that serves now, and a
    person approved it, if that is required; and while another version is rolled out.
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
    decisions = context.decisions.find(model_name=model_name)
    promoted = (PROMOTION, model_version, verdict_id)
    if champion != model_version and any(
        (one.kind, one.model_version, one.allowed_by) == promoted for one in decisions
    ):
        raise UserError(
            f"this verdict promoted version {model_version} before, and it was taken back since; judge it on newer "
            "days, by a later as_of, to promote it again"
        )
    rollout = newest_rollout(decisions)
    if rollout is not None and not rollout.is_over and rollout.verdict_id != verdict_id:
        raise UserError(
            f"version {rollout.challenger} is being rolled out, at {rollout.state.percentage} %; run the release job "
            f"for version {model_version} when that has ended"
        )
    if rollout is not None and rollout.verdict_id == verdict_id and rollout.state.ended is Action.ROLL_BACK:
        raise UserError(
            f"this verdict's rollout of version {model_version} was rolled back; judge it on newer days, by a later "
            "as_of, to roll it out again"
        )
    require(context, settings, model_version)
    if previous is None or champion == model_version or settings.rollout_stages == (100,):
        make_champion(context, settings, model_version, previous=previous, allowed_by=verdict_id, reason="verdict PASS")
    else:
        start(context, settings, previous)
