"""Make a version the champion, if a verdict allows it."""

from hashlib import sha256

from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.tasks.context import Context


def run(context: Context, *, model_name: str, model_version: int, verdict_id: str) -> None:
    """Move `previous_champion` and `champion` and append to `rollouts`. Safe to run again after any interruption.

    Raises UserError unless the verdict is a PASS on this very version, against the version that serves now.
    """
    found = context.tables.read("verdicts").where(F.col("verdict_id") == verdict_id).collect()
    if not found:
        raise UserError(f"no verdict {verdict_id}; run the release job, whose validate task writes one")
    (verdict,) = found
    if (verdict["model_name"], verdict["model_version"]) != (model_name, model_version):
        raise UserError(
            f"verdict {verdict_id} is on {verdict['model_name']} version {verdict['model_version']}, not on "
            f"{model_name} version {model_version}; run the release job for that version"
        )
    if verdict["verdict"] != Outcome.PASS:
        raise UserError(f"the verdict on version {model_version} is {verdict['verdict']}: only PASS is deployed")

    serving = context.registry.aliases(model_name).get("champion")
    previous = verdict["champion_version"]
    if serving not in (previous, model_version):
        raise UserError(
            f"version {model_version} was judged against version {previous}, but version {serving} serves now; "
            "run the release job again"
        )
    logged = context.tables.read("rollouts").where(
        (F.col("model_name") == model_name) & (F.col("model_version") == model_version)
    )
    if serving != model_version:
        if not logged.where(F.col("verdict_id") == verdict_id).isEmpty():
            raise UserError(
                f"this verdict deployed version {model_version} before, and it was taken back since; judge it on newer "
                "days, by a later as_of, to deploy it again"
            )
        if previous is not None:
            context.registry.set_alias(model_name, "previous_champion", previous)
        context.registry.set_alias(model_name, "champion", model_version)
    if context.registry.aliases(model_name).get("challenger") == model_version:
        context.registry.delete_alias(model_name, "challenger")

    # A version that serves and is judged once more changes nothing; one whose deployment was killed is logged now.
    if logged.where(F.col("previous_version").eqNullSafe(F.lit(previous))).isEmpty():
        row = {
            "rollout_id": sha256(f"{model_name}|{model_version}|deploy|{verdict_id}".encode()).hexdigest(),
            "model_name": model_name,
            "model_version": model_version,
            "previous_version": previous,
            "action": "deploy",
            "verdict_id": verdict_id,
            "reason": "verdict PASS",
            "as_of": context.as_of,
        }
        context.tables.append_decision("rollouts", row, key="rollout_id")
    context.task_values.set("champion", str(model_version))
    before = "no version" if previous is None else f"version {previous}"
    context.console.print(f"Champion of {model_name} is version {model_version}; before it: {before}.")
