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
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY
from flight_delays.core.gates import Check, Evidence, Outcome, Verdict, enough_days, judge, verdict
from flight_delays.core.markdown import table
from flight_delays.core.metrics import Floats
from flight_delays.core.releases import Promotion, served_recently, why_not_compared
from flight_delays.core.settings import Judge, Policy
from flight_delays.core.splits import Holdout
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import VERDICT, Decision, releases_in
from flight_delays.platform.registry import (
    NotThereError,
    Version,
    golden_difference,
    predict,
    read_golden_requests,
    signature,
)
from flight_delays.tasks.printing import show

_LATENCY, _SIZE = "latency_ms", "size_mb"  # tags of a version
_WARM_UP, _CALLS = 5, 50
_COLUMNS = ("check", "outcome", "reason")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict, its holdout, a digest of the holdout's rows and the candidate's metrics on them."""

    verdict: Verdict
    holdout: Holdout
    digest: str | None = None
    scores: dict[str, float] = field(default_factory=dict)


def run(context: Context, settings: Judge) -> None:
    """Write the verdict to `decisions`, the version's tags and its run; a PASS gets the alias `challenger`.

    The version is compared with the champion; if it is the champion itself, with the one before it, so that a
    release can be run again. It is also compared with the versions that served in the last `recent_days`. An
    exception while judging is an INCONCLUSIVE verdict, and is raised once that is written.
    """
    registry, name, number, policy = context.registry, settings.model_name, settings.model_version, settings.policy
    candidate = registry.version(name, number)
    aliases = registry.aliases(name)
    serves = aliases.get("champion") == number
    baseline = aliases.get("previous_champion" if serves else "champion")
    champion = None if baseline in (None, number) else registry.version(name, baseline)

    holdout = context.use_case.holdout(context.as_of, settings.holdout_days)
    trouble = None
    try:
        judged = _judge(context, candidate, champion, holdout, policy)
    except Exception as error:  # whatever it was, nothing was measured
        trouble = error
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        reason = f"{what}: nothing was decided; fix it and run the release job again"
        check = Check(name="judged_without_error", outcome=Outcome.INCONCLUSIVE, reason=reason)
        judged = Judged(verdict=verdict([check]), holdout=holdout)
    outcome = judged.verdict.outcome
    decision_id = _save(context, candidate, champion, policy, judged)

    registry.log_report(candidate, "verdict.md", report(context.use_case, candidate, champion, judged), judged.scores)
    registry.tag_version(candidate, {"verdict": outcome, "decision_id": decision_id})
    if outcome is Outcome.PASS and not serves:
        registry.set_alias(name, "challenger", number)
    elif aliases.get("challenger") == number:
        registry.delete_alias(name, "challenger")
    show(context.console, f"Verdict on {name} version {number}: {outcome}", _COLUMNS, _rows(judged.verdict))
    context.task_values.set("verdict", outcome)
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
    use_case = context.use_case
    models = [context.registry.load(version.name, version.number) for version in both]
    forecasts, *of_champion = (_forecasts(use_case, model, rows) for model in models)
    recent, not_compared = _recent(context, candidate, champion, rows, holdout, policy)
    labels = rows[LABEL].to_numpy(dtype=np.float64)
    evidence = Evidence(
        objective=use_case.objective,
        labels=labels,
        forecasts=forecasts,
        days=pd.factorize(rows[DAY], sort=True)[0].astype(np.int64),
        baseline=float(_tag(candidate, "baseline")),
        champion=of_champion[0] if of_champion else None,
        recent=recent,
        not_compared=not_compared,
        slices=use_case.slices(rows),
    )
    found = judge(evidence, policy)
    checks = list(found.checks)
    if len(checks) > 1:  # there were enough days
        checks += _contract(context, candidate, models, policy)
    return Judged(
        verdict=verdict(checks, found.slices),
        holdout=holdout,
        digest=sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest(),
        scores={f"holdout_{name}": value for name, value in use_case.objective.metrics(labels, forecasts).items()},
    )


def _recent(
    context: Context,
    candidate: Version,
    champion: Version | None,
    rows: pd.DataFrame,
    holdout: Holdout,
    policy: Policy,
) -> tuple[dict[int, Floats], tuple[str, ...]]:
    """Forecasts of the other versions that served recently, by number; and those that cannot be compared, and why."""
    registry, name = context.registry, candidate.name
    logged = releases_in(context.decisions.find(model_name=name))
    numbers = served_recently(
        [Promotion(version=one.model_version, as_of=one.as_of) for one in logged],
        as_of=context.as_of,
        days=policy.recent_days,
        apart_from=[one.number for one in (candidate, champion) if one],
    )
    forecasts: dict[int, Floats] = {}
    not_compared = []
    for number in numbers:
        try:
            version, model = registry.version(name, number), registry.load(name, number)
        except NotThereError:
            not_compared.append(f"version {number}, which was deleted")
            continue
        trouble = why_not_compared(
            holdout=holdout,
            trained_until=date.fromisoformat(_tag(version, "trained_until")),
            takes=[column.name for column in signature(model).inputs],
            columns=list(rows.columns),
        )
        if trouble:
            not_compared.append(f"version {number}, which {trouble}")
        else:
            forecasts[number] = _forecasts(context.use_case, model, rows)
    return forecasts, tuple(not_compared)


def _forecasts(use_case: UseCase, model: PyFuncModel, rows: pd.DataFrame) -> Floats:
    return predict(model, rows)[use_case.objective.forecast].to_numpy(dtype=np.float64)


def _contract(context: Context, candidate: Version, models: list[PyFuncModel], policy: Policy) -> list[Check]:
    """What callers and operators rely on; `models` are the candidate and, if there is one, the champion.

    Speed and size are measured once per version and kept as its tags.
    """
    model, measured = models[0], candidate.tags
    if not {_LATENCY, _SIZE} <= measured.keys():
        size = model.metadata.model_size_bytes or float("nan")
        measured = {_LATENCY: f"{_latency_ms(model):.3f}", _SIZE: f"{size / 1e6:.3f}"}
        context.registry.tag_version(candidate, measured)
    return [
        contract.schema_compatible(signature(model), signature(models[1]) if len(models) > 1 else None),
        contract.golden_answers_hold(golden_difference(model)),
        contract.fast_enough(float(measured[_LATENCY]), policy),
        contract.small_enough(float(measured[_SIZE]), policy),
        contract.documented(context.registry.documentation(candidate), policy),
    ]


def _latency_ms(model: PyFuncModel) -> float:
    """Median time of one request."""
    request, times = read_golden_requests(model).head(1), []
    for _ in range(_WARM_UP + _CALLS):
        begun = perf_counter()
        predict(model, request)
        times.append(1_000 * (perf_counter() - begun))
    return median(times[_WARM_UP:])


def _tag(version: Version, key: str) -> str:
    if key not in version.tags:
        raise UserError(f"{version.name} version {version.number} lacks the tag {key}; register it by the train job")
    return version.tags[key]


def _rows(decision: Verdict) -> list[tuple[str, Outcome, str]]:
    return [(check.name, check.outcome, check.in_words) for check in decision.checks]


def _save(context: Context, candidate: Version, champion: Version | None, policy: Policy, judged: Judged) -> str:
    """Append the verdict unless it is there already.

    Its id is a digest of its content, but for what was measured, which differs from one machine to the next.
    """

    def row(checks: Sequence[Check], decision_id: str) -> Decision:
        return Decision(
            decision_id=decision_id,
            kind=VERDICT,
            model_name=candidate.name,
            model_version=candidate.number,
            other_version=None if champion is None else champion.number,
            outcome=str(judged.verdict.outcome),
            reasons=tuple(f"{check.outcome} {check.name}: {check.reason}" for check in checks),
            evidence=json.dumps(
                {
                    "checks": [asdict(check) for check in checks],
                    "slices": [asdict(found) for found in judged.verdict.slices],
                    "holdout_first": str(judged.holdout.first),
                    "holdout_end": str(judged.holdout.end),
                    "holdout_digest": judged.digest,
                },
                sort_keys=True,
            ),
            policy=json.dumps(asdict(policy), sort_keys=True),
            as_of=context.as_of,
        )

    checks = judged.verdict.checks
    said = vars(row([replace(check, measured={}) for check in checks], decision_id=""))
    decision_id = sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    context.decisions.append(row(checks, decision_id))
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
        table(_COLUMNS, _rows(decision)),
    ]
    if decision.slices:
        parts += [
            "## Slices",
            f"How much higher the {objective.loss_name} is than that of {baseline}, in each slice; the bounds hold for "
            "all at once.",
            table(
                ("slice", "rows", "days", "difference", "outcome"),
                [
                    (f"{one.dimension} {one.value}", f"{one.rows:,}", one.days, one.worse_by or "", one.outcome)
                    for one in decision.slices
                ],
            ),
        ]
    parts += [
        "## How to read it",
        "Numbers are an estimate and, in brackets, two one-sided bounds from resampled whole days. A check passes if "
        "the whole interval is within its limit, fails if it lies beyond, and is inconclusive in between; only a PASS "
        "of every check promotes. A loss that is shown to be above that of a version which serves, or served recently, "
        "fails within the margin too, unless the policy allows it. A slice fails on shown harm alone; one with too few "
        "days or rows is not measured.",
    ]
    if judged.digest:
        parts.append(f"SHA-256 of the holdout's rows: `{judged.digest}`")
    return "\n\n".join(parts) + "\n"
