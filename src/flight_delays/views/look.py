"""What happened, for people: tables and pictures that notebooks and the report show. Nothing is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import TypeAdapter
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.evaluation import evaluate
from flight_delays.core.feature_set import DAY, ENTITY
from flight_delays.core.gates import Check, Slice
from flight_delays.core.objective import BinaryClassification
from flight_delays.core.splits import split_at
from flight_delays.core.training import fit
from flight_delays.core.use_case import LABEL
from flight_delays.platform.context import Context
from flight_delays.platform.dataset import features_as_of, labels_known, with_labels
from flight_delays.views import plots
from flight_delays.views.production import decision_table

_TIMES = {
    "features": "prediction_ts",
    "labels": "known_at",
    "predictions": "prediction_ts",
    "latest_predictions": "prediction_ts",
    "shadow_predictions": "prediction_ts",
    "performance": "as_of",
    "estimated_performance": "as_of",
    "profiles": "as_of",
    "signals": "as_of",
    "incidents": "as_of",
    "runs": "as_of",
    "stream_events": "event_time",
    "late_events": "event_time",
    "stream_progress": "recorded_at",
    "decisions": "as_of",
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Tables and pictures by title, in the order to read them. `recorded` are PNG images that a run has kept.

    `notes` are lines to read first, `choices` looks of which one at a time is enough.
    """

    notes: Sequence[str] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    recorded: Mapping[str, bytes] = field(default_factory=dict)
    choices: Mapping[str, "Look"] = field(default_factory=dict)


def data(context: Context, raw_schema: str) -> Look:
    """What the tables hold: `rows` of each, `rejects` with their reasons, entities and their labels `by day`."""
    raw = context.tables.of(raw_schema)
    known = [(raw, source.contract.table, "known_at") for source in context.use_case.sources]
    known += [(raw, one.table, "event_time") for _, one in context.use_case.told]
    known += [(context.tables, table, time) for table, time in _TIMES.items()]
    counts, missing = [], []
    for tables, table, time in known:
        try:
            rows = tables.read(table)
        except UserError:  # as in a schema made before it was declared
            missing.append(table)
            continue
        counted = rows.agg(F.count("*").alias("rows"), F.min(time).alias("first"), F.max(time).alias("last"))
        counts.append(counted.select(F.lit(table).alias("table"), "rows", "first", "last"))
    rejects = context.tables.read("raw_rejects").select("table_name", "reasons", "source_row").limit(20)
    days = (
        context.tables.read("features")
        .select(ENTITY, DAY)
        .join(labels_known(context.tables.read("labels"), context.as_of), ENTITY, "left")
        .groupBy(DAY)
        .agg(F.count("*").alias("rows"), F.avg(LABEL).alias("mean label"))
        .orderBy(DAY)
        .toPandas()
        .set_index(DAY)
    )
    shares = context.use_case.objective.kind == "binary"
    return Look(
        notes=[f"Not there yet, the features job makes them: {', '.join(missing)}."] if missing else [],
        tables={"rows": reduce(DataFrame.unionByName, counts).toPandas(), "rejects": rejects.toPandas()},
        figures={} if days.empty else {"by day": plots.daily(days, shares=shares)},
    )


def features(context: Context, raw_schema: str) -> Look:
    """Features of all labelled rows, made now by the code as it stands: a `sample`, a `summary`, the `mean label`."""
    rows, use_case = _made_now(context, raw_schema, end=context.as_of.date()), context.use_case
    inputs = rows[[*use_case.inputs]]
    summary = pd.DataFrame({"type": inputs.dtypes.astype(str), "missing": inputs.isna().mean()})
    summary = summary.assign(distinct=inputs.nunique()).rename_axis("feature")
    summary = summary.join(inputs.select_dtypes("number").agg(["min", "mean", "max"]).T)
    columns = {name: pd.Series(values, index=rows.index) for name, values in use_case.slices(rows).items()}
    columns |= {name: inputs[name] for name in use_case.inputs if inputs[name].dtype.kind != "M"}
    shares = use_case.objective.kind == "binary"
    return Look(
        tables={"sample": rows.head(10), "summary": summary.reset_index()},
        figures={"mean label": plots.mean_by_value(columns, rows[LABEL], shares=shares)},
    )


def training(context: Context, raw_schema: str, *, holdout_days: int, trial_days: int) -> Look:
    """A model fitted now by the code as it stands, and how it does on the last `trial_days` before the holdout.

    It has the parameters that the search would begin with: nothing is searched. The holdout stays unseen: it is the
    release job's, and a model chosen on it would pass by luck. Registers nothing.
    """
    use_case = context.use_case
    holdout = context.use_case.holdout(context.as_of, holdout_days)
    rows = _made_now(context, raw_schema, end=holdout.first)
    split = split_at(rows, holdout.first - timedelta(days=trial_days), use_case.zone)
    if split.training.empty or split.test.empty:
        raise UserError(f"too few labelled rows before {holdout.first}; lower holdout_days or trial_days")
    fitted = fit(use_case, split.training, until=split.trained_until, trials=1)
    found = evaluate(use_case, split.test, fitted.forecast(split.test))
    scores = pd.DataFrame([dict(found.scored.metrics)]).assign(
        trained_until=split.trained_until, trained_on=len(split.training), rounds=fitted.rounds
    )
    return Look(
        tables={"scores": scores},
        figures={
            **plots.quality(use_case.objective, found.labels, found.forecasts),
            "importance": plots.importance(fitted.model.importance()),
        },
    )


def champion(context: Context, model_name: str) -> Look:
    """The version that serves, as the run that made it recorded it, with its pictures.

    `metrics` are by data set; `ranges` are their 95 % ranges over resampled days.
    """
    number = context.registry.aliases(model_name).get("champion")
    if number is None:
        raise UserError(f"no version of {model_name} serves yet; run the train job, which releases one that passes")
    record = context.registry.record(context.registry.version(model_name, number))
    metrics: dict[str, dict[str, float]] = {}
    ranges: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        data_set, _, metric = key.partition("_")
        name, _, end = metric.rpartition("_")
        if end in ("low", "high"):
            ranges.setdefault(name, {})[end] = value
        else:
            metrics.setdefault(data_set, {})[metric] = value
    return Look(
        tables={
            "version": pd.DataFrame(
                [
                    {"version": number, "made of": record.description}
                    | {key: record.tags.get(key) for key in ("trained_until", "git_commit", "verdict")}
                ]
            ),
            "metrics": pd.DataFrame([{"data set": name, **values} for name, values in metrics.items()]),
            "ranges": pd.DataFrame([{"metric": name, **ends} for name, ends in ranges.items()]),
        },
        recorded=record.pictures,
    )


def verdict(context: Context, model_name: str) -> Look:
    """The verdict recorded last on a model: its `checks` and `slices`; `decisions`, newest first."""
    decisions = context.decisions.find(model_name=model_name)
    verdicts = [one for one in decisions if one.kind == "verdict"]
    if not verdicts:
        raise UserError(f"no verdict on {model_name} yet; run the train job, which has each version judged")
    loss = context.use_case.objective.loss_name
    evidence = json.loads(verdicts[-1].evidence)
    checks = TypeAdapter(list[Check]).validate_python(evidence["checks"])
    slices = TypeAdapter(list[Slice]).validate_python(evidence["slices"])
    return Look(
        tables={
            "checks": pd.DataFrame(
                [(check.name, str(check.outcome), check.in_words) for check in checks],
                columns=["check", "outcome", "reason"],
            ),
            "slices": pd.DataFrame(
                {
                    "slice": [f"{one.dimension} {one.value}" for one in slices],
                    "rows": [one.rows for one in slices],
                    "days": [one.days for one in slices],
                    f"{loss} difference": ["" if one.worse_by is None else str(one.worse_by) for one in slices],
                    "outcome": [str(one.outcome) for one in slices],
                }
            ),
            "decisions": decision_table(decisions),
        },
        figures={"intervals": plots.intervals(checks), "slices": plots.slices(slices, loss)},
    )


def predictions(context: Context, model_name: str) -> Look:
    """What was forecast: rows `by version`; the champion's forecasts against what happened, on days it has not seen."""
    rows = context.tables.read("predictions").where(F.col("model_name") == model_name)
    objective = context.use_case.objective
    classified = isinstance(objective, BinaryClassification)
    by_version = (
        rows.groupBy("model_version", "source")
        .agg(
            F.count("*").alias("rows"),
            *([F.avg("probability").alias("mean probability")] if classified else []),
            F.avg("prediction").alias("mean prediction"),
            F.min("prediction_ts").alias("first"),
            F.max("prediction_ts").alias("last"),
        )
        .orderBy("model_version", "source")
        .toPandas()
    )
    champion = context.registry.aliases(model_name).get("champion")
    if champion is None or by_version.empty:
        raise UserError(f"no predictions of {model_name} yet; run the train and the score_batch job")
    days_of = context.tables.read("labels").select(ENTITY, DAY).distinct()
    unseen = F.col(DAY) >= context.registry.version(model_name, champion).tags["trained_until"]
    outcomes = (
        rows.where(F.col("model_version") == champion)
        .join(labels_known(context.tables.read("labels"), context.as_of), ENTITY)
        .join(days_of.where(unseen), ENTITY)
        .select(DAY, F.col(objective.forecast).alias("forecast"), F.col(LABEL).alias("outcome"))
    ).toPandas()
    by_day = outcomes.groupby(DAY)
    days = by_day[["forecast", "outcome"]].mean().assign(rows=by_day.size())
    forecasts, groups = outcomes["forecast"].to_numpy(dtype=np.float64), {"all": outcomes["outcome"].notna()}
    if isinstance(objective, BinaryClassification):
        groups = {objective.negative: outcomes["outcome"] == 0, objective.positive: outcomes["outcome"] == 1}
    return Look(
        tables={"by version": by_version},
        figures={
            "by day": plots.daily(days, shares=classified),
            "distribution": plots.distribution(
                {name: forecasts[there] for name, there in groups.items()}, objective.forecast
            ),
        },
    )


def _made_now(context: Context, raw_schema: str, *, end: date) -> pd.DataFrame:
    """Labelled rows before `end`, their features not read from the table but made from the raw ones."""
    features = features_as_of(context.use_case, context.tables.of(raw_schema), context.as_of)
    labels = context.tables.read("labels")
    return with_labels(features, labels, as_of=context.as_of, first=None, end=end)
