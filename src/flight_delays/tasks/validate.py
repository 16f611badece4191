"""Judge one version on days that neither it nor the champion has seen."""

import json
from dataclasses import asdict
from datetime import date
from hashlib import sha256

import numpy as np
import pandas as pd

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Check, Evidence, Outcome, Policy, Verdict, enough_days, judge, verdict
from flight_delays.core.metrics import Floats, metrics
from flight_delays.core.splits import Holdout
from flight_delays.platform.registry import Version, predict
from flight_delays.tasks.context import Context
from flight_delays.tasks.dataset import holdout_of, labelled_flights
from flight_delays.tasks.report import show


def run(context: Context, *, model_name: str, model_version: int, holdout_days: int, policy: Policy) -> None:
    """Write the verdict to `verdicts`, the version's tags and its run; a PASS gets the alias `challenger`.

    The version is compared with the champion; if it is the champion itself, with the one before it, so that a
    release can be run again.
    """
    candidate = context.registry.version(model_name, model_version)
    aliases = context.registry.aliases(model_name)
    serves = aliases.get("champion") == model_version
    baseline = aliases.get("previous_champion" if serves else "champion")
    champion = None if baseline in (None, model_version) else context.registry.version(model_name, baseline)

    judged = [candidate] if champion is None else [candidate, champion]
    holdout = holdout_of(context.as_of, holdout_days).unseen_by(
        *(date.fromisoformat(_tag(version, "trained_until")) for version in judged)
    )
    decision, scores = _judge(context, candidate, champion, holdout, policy)
    verdict_id = _save(context, candidate, champion, holdout, policy, decision)

    report = _report(candidate, champion, holdout, decision)
    context.registry.log_report(candidate, "verdict.md", report, scores)
    context.registry.tag_version(candidate, {"verdict": decision.outcome, "verdict_id": verdict_id})
    if decision.outcome is Outcome.PASS and not serves:
        context.registry.set_alias(model_name, "challenger", model_version)
    elif aliases.get("challenger") == model_version:
        context.registry.delete_alias(model_name, "challenger")
    show(
        context.console,
        f"Verdict on {model_name} version {model_version}: {decision.outcome}",
        ("check", "outcome", "reason"),
        [(check.name, check.outcome, check.reason) for check in decision.checks],
    )
    context.task_values.set("verdict", decision.outcome)
    context.task_values.set("verdict_id", verdict_id)


def _judge(
    context: Context, candidate: Version, champion: Version | None, holdout: Holdout, policy: Policy
) -> tuple[Verdict, dict[str, float]]:
    """The verdict, and the candidate's metrics on the holdout."""
    rows = labelled_flights(context.tables, as_of=context.as_of, first=holdout.first, end=holdout.end).rows
    if rows.empty:
        return verdict([enough_days(0, policy)]), {}
    labels = rows["is_late"].to_numpy(dtype=np.float64)
    probabilities = _probabilities(context, candidate, rows)
    evidence = Evidence(
        labels=labels,
        probabilities=probabilities,
        days=pd.factorize(rows["flight_date"], sort=True)[0].astype(np.int64),
        base_rate=float(_tag(candidate, "base_rate")),
        champion=None if champion is None else _probabilities(context, champion, rows),
    )
    scores = metrics(labels, probabilities).as_dict()
    return judge(evidence, policy), {f"holdout_{name}": value for name, value in scores.items()}


def _tag(version: Version, key: str) -> str:
    if key not in version.tags:
        raise UserError(f"{version.name} version {version.number} lacks the tag {key}; register it by the train job")
    return version.tags[key]


def _probabilities(context: Context, version: Version, rows: pd.DataFrame) -> Floats:
    model = context.registry.load(version.name, version.number)
    return predict(model, rows)["probability"].to_numpy(dtype=np.float64)


def _save(
    context: Context,
    candidate: Version,
    champion: Version | None,
    holdout: Holdout,
    policy: Policy,
    decision: Verdict,
) -> str:
    """Append the verdict unless this very one is there; its id is a digest of all that it says."""
    row = {
        "model_name": candidate.name,
        "model_version": candidate.number,
        "champion_version": None if champion is None else champion.number,
        "verdict": str(decision.outcome),
        "reasons": [_line(check) for check in decision.checks],
        "evidence": json.dumps([asdict(check) for check in decision.checks], sort_keys=True),
        "policy": json.dumps(asdict(policy), sort_keys=True),
        "holdout_first": holdout.first,
        "holdout_end": holdout.end,
        "as_of": context.as_of,
    }
    verdict_id = sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()
    context.tables.append_decision("verdicts", {"verdict_id": verdict_id, **row}, key="verdict_id")
    return verdict_id


def _line(check: Check) -> str:
    return f"{check.outcome} {check.name}: {check.reason}"


def _report(candidate: Version, champion: Version | None, holdout: Holdout, decision: Verdict) -> str:
    against = "no champion yet" if champion is None else f"against champion version {champion.number}"
    lines = [
        f"# {decision.outcome}: {candidate.name} version {candidate.number}",
        "",
        f"{against}, on {holdout.days} days from {holdout.first} to before {holdout.end}",
        "",
        "| check | outcome | reason |",
        "|---|---|---|",
        *(f"| {check.name} | {check.outcome} | {check.reason} |" for check in decision.checks),
    ]
    return "\n".join(lines) + "\n"
