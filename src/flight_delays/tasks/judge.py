"""Judge one version on days that neither it nor the champion has seen."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from hashlib import sha256
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
from mlflow.pyfunc import PyFuncModel

from flight_delays.core import contract
from flight_delays.core.decisions import Decision
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY
from flight_delays.core.gates import (
    Check,
    Evidence,
    Outcome,
    Slice,
    Verdict,
    enough_days,
    in_words,
    judge,
    verdict,
)
from flight_delays.core.markdown import table
from flight_delays.core.metrics import Floats
from flight_delays.core.settings import Judge, Policy
from flight_delays.core.splits import Holdout
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.platform.context import Context
from flight_delays.platform.registry import Version, golden_difference, predict, read_golden_requests, signature
from flight_delays.tasks.printing import show

VERDICT = "verdict"  # kind of decision
_LATENCY, _SIZE = "latency_ms", "size_mb"  # tags of a version
_WARM_UP, _CALLS = 5, 50


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict, the days it rests on, a digest of their rows and the candidate's metrics on them."""

    verdict: Verdict
    holdout: Holdout
    digest: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


def run(context: Context, settings: Judge) -> None:
    """Write the verdict to `decisions`, the version's tags and its run; a PASS gets the alias `challenger`.

    The version is compared with the champion; if it is the champion itself, with the one before it, so that a
    release can be run again. An exception while judging is an INCONCLUSIVE verdict, and is raised once that is written.
    """
    model_name, model_version, policy = settings.model_name, settings.model_version, settings.policy
    candidate = context.registry.version(model_name, model_version)
    aliases = context.registry.aliases(model_name)
    serves = aliases.get("champion") == model_version
    baseline = aliases.get("previous_champion" if serves else "champion")
    champion = None if baseline in (None, model_version) else context.registry.version(model_name, baseline)

    use_case = context.use_case
    holdout = use_case.holdout(context.as_of, settings.holdout_days)
    trouble = None
    try:
        judged = _judge(context, candidate, champion, holdout, policy)
    except Exception as error:  # whatever it was, nothing was measured
        trouble = error
        judged = Judged(verdict=verdict([_interrupted(error)]), holdout=holdout)
    decision = judged.verdict
    decision_id = _save(context, candidate, champion, policy, judged)

    context.registry.log_report(candidate, "verdict.md", report(use_case, candidate, champion, judged), judged.scores)
    context.registry.tag_version(candidate, {"verdict": decision.outcome, "decision_id": decision_id})
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
    context.task_values.set("verdict_id", decision_id)
    if trouble is not None:
        raise trouble


def _judge(context: Context, candidate: Version, champion: Version | None, holdout: Holdout, policy: Policy) -> Judged:
    """The verdict on those days of `holdout` that neither version has seen."""
    both = [candidate] if champion is None else [candidate, champion]
    holdout = holdout.unseen_by(*(date.fromisoformat(_tag(version, "trained_until")) for version in both))
    rows = context.labelled.read(as_of=context.as_of, first=holdout.first, end=holdout.end).rows
    if rows.empty:
        return Judged(verdict=verdict([enough_days(0, policy)]), holdout=holdout)
    model = context.registry.load(candidate.name, candidate.number)
    baseline = None if champion is None else context.registry.load(champion.name, champion.number)
    use_case = context.use_case
    labels, forecasts = rows[LABEL].to_numpy(dtype=np.float64), _forecasts(use_case, model, rows)
    evidence = Evidence(
        objective=use_case.objective,
        labels=labels,
        forecasts=forecasts,
        days=pd.factorize(rows[DAY], sort=True)[0].astype(np.int64),
        baseline=float(_tag(candidate, "baseline")),
        champion=None if baseline is None else _forecasts(use_case, baseline, rows),
        slices=use_case.slices(rows),
    )
    found = judge(evidence, policy)
    checks = list(found.checks)
    if len(checks) > 1:  # there were enough days
        checks += _contract(context, candidate, model, baseline, policy)
    return Judged(
        verdict=verdict(checks, found.slices),
        holdout=holdout,
        digest=sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest(),
        scores={f"holdout_{name}": value for name, value in use_case.objective.metrics(labels, forecasts).items()},
    )


def _contract(
    context: Context, candidate: Version, model: PyFuncModel, baseline: PyFuncModel | None, policy: Policy
) -> list[Check]:
    """What callers and operators rely on. Speed and size are measured once per version and kept as its tags."""
    measured = candidate.tags
    if not {_LATENCY, _SIZE} <= measured.keys():
        request = read_golden_requests(model).head(1)
        measured = {
            _LATENCY: f"{_latency_ms(model, request):.3f}",
            _SIZE: f"{(model.metadata.model_size_bytes or float('nan')) / 1e6:.3f}",
        }
        context.registry.tag_version(candidate, measured)
    return [
        contract.schema_compatible(signature(model), None if baseline is None else signature(baseline)),
        contract.golden_answers_hold(golden_difference(model)),
        contract.fast_enough(float(measured[_LATENCY]), policy),
        contract.small_enough(float(measured[_SIZE]), policy),
        contract.documented(context.registry.documentation(candidate)),
    ]


def _latency_ms(model: PyFuncModel, request: pd.DataFrame) -> float:
    """Median time of one request."""
    times = []
    for _ in range(_WARM_UP + _CALLS):
        begun = perf_counter()
        predict(model, request)
        times.append(1_000 * (perf_counter() - begun))
    return median(times[_WARM_UP:])


def _interrupted(error: Exception) -> Check:
    what = " ".join(str(error).split())
    return Check(
        name="judged_without_error",
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{type(error).__name__}: {what[:500]}: nothing was decided; fix it and run the release job again",
    )


def _tag(version: Version, key: str) -> str:
    if key not in version.tags:
        raise UserError(f"{version.name} version {version.number} lacks the tag {key}; register it by the train job")
    return version.tags[key]


def _forecasts(use_case: UseCase, model: PyFuncModel, rows: pd.DataFrame) -> Floats:
    return predict(model, rows)[use_case.objective.forecast].to_numpy(dtype=np.float64)


def _save(context: Context, candidate: Version, champion: Version | None, policy: Policy, judged: Judged) -> str:
    """Append the verdict unless this very one is there; its id is a digest of all that it says."""
    decision = judged.verdict
    made = Decision(
        decision_id="",
        kind=VERDICT,
        model_name=candidate.name,
        model_version=candidate.number,
        other_version=None if champion is None else champion.number,
        outcome=str(decision.outcome),
        reasons=tuple(f"{check.outcome} {check.name}: {check.reason}" for check in decision.checks),
        evidence=json.dumps(
            {
                "checks": [asdict(check) for check in decision.checks],
                "slices": [asdict(found) for found in decision.slices],
                "holdout_first": str(judged.holdout.first),
                "holdout_end": str(judged.holdout.end),
                "holdout_digest": judged.digest,
            },
            sort_keys=True,
        ),
        policy=json.dumps(asdict(policy), sort_keys=True),
        as_of=context.as_of,
    )
    said = {name: value for name, value in vars(made).items() if name != "decision_id"}
    decision_id = sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    context.decisions.append(replace(made, decision_id=decision_id))
    return decision_id


def report(use_case: UseCase, candidate: Version, champion: Version | None, judged: Judged) -> str:
    """The verdict in Markdown."""
    decision, holdout = judged.verdict, judged.holdout
    against = "no champion yet" if champion is None else f"against champion version {champion.number}"
    objective = use_case.objective
    baseline = f"the training period's {objective.baseline_name}" if champion is None else f"version {champion.number}"
    parts = [
        f"# {decision.outcome}: {candidate.name} version {candidate.number}",
        f"{against}, on {holdout.days} days from {holdout.first} to before {holdout.end}",
        table(("check", "outcome", "reason"), [(check.name, check.outcome, check.reason) for check in decision.checks]),
    ]
    if decision.slices:
        parts += [
            "## Slices",
            f"How much higher the {objective.loss_name} is than that of {baseline}, in each slice; the bounds hold for "
            "all at once.",
            table(("slice", "rows", "days", "difference", "outcome"), map(_slice_row, decision.slices)),
        ]
    parts += [
        "## How to read it",
        "Numbers are an estimate and, in brackets, two one-sided bounds from resampled whole days. A check passes if "
        "the whole interval is within its limit, fails if it lies beyond, and is inconclusive in between; only a PASS "
        "of every check promotes. A slice fails on shown harm alone; one with too few days or rows is not measured.",
    ]
    if judged.digest:
        parts.append(f"SHA-256 of the holdout's rows: `{judged.digest}`")
    return "\n\n".join(parts) + "\n"


def _slice_row(found: Slice) -> Sequence[object]:
    difference = "" if found.worse_by is None else in_words(found.worse_by)
    return f"{found.dimension} {found.value}", f"{found.rows:,}", found.days, difference, found.outcome
