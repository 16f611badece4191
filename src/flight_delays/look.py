"""What happened, for people: tables and pictures that notebooks and the laptop's report show. Nothing is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import reduce

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core import plots
from flight_delays.core.bootstrap import Interval
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Check, Outcome, Slice, SliceOutcome, in_words
from flight_delays.tasks.context import Context
from flight_delays.tasks.dataset import holdout_of, split_at, with_labels
from flight_delays.tasks.features import features_as_of
from flight_delays.tasks.record import evaluate
from flight_delays.use_case import model
from flight_delays.use_case.sources import ZONE
from flight_delays.use_case.training import fit

_TIMES = {
    "raw_flights": "known_at",
    "raw_weather": "known_at",
    "raw_planes": "known_at",
    "flight_features": "prediction_ts",
    "flight_labels": "known_at",
    "predictions": "prediction_ts",
    "latest_predictions": "prediction_ts",
    "scoring_runs": "as_of",
    "flight_events": "event_time",
    "weather_events": "event_time",
    "late_events": "event_time",
    "stream_state": "event_time",
    "stream_batches": "as_of",
    "stream_progress": "recorded_at",
    "verdicts": "as_of",
    "rollouts": "as_of",
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Tables and pictures by title, in the order to read them. `recorded` are PNG images that a run has kept."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    recorded: Mapping[str, bytes] = field(default_factory=dict)


def data(context: Context, raw_schema: str) -> Look:
    """What the tables hold: `rows` of each, `rejects` with their reasons, flights and late ones `by day`."""
    raw = context.tables.of(raw_schema)
    counts = [
        (raw if table.startswith("raw_") else context.tables)
        .read(table)
        .agg(F.count("*").alias("rows"), F.min(time).alias("first"), F.max(time).alias("last"))
        .select(F.lit(table).alias("table"), "rows", "first", "last")
        for table, time in _TIMES.items()
    ]
    rejects = context.tables.read("raw_rejects").select("table_name", "reasons", "source_row").limit(20).toPandas()
    days = (
        context.tables.read("flight_features")
        .select("flight_id", "flight_date")
        .join(context.tables.read("flight_labels").select("flight_id", "is_late"), "flight_id", "left")
        .groupBy("flight_date")
        .agg(F.count("*").alias("flights"), F.avg("is_late").alias("late"))
        .orderBy("flight_date")
        .toPandas()
    )
    return Look(
        tables={
            "rows": reduce(DataFrame.unionByName, counts).toPandas(),
            "rejects": rejects,
        },
        figures={} if days.empty else {"by day": _daily(days, {"arrived late": "late"})},
    )


def features(context: Context, raw_schema: str) -> Look:
    """Features of all labelled flights, made now by the code as it stands: a `sample`, a `summary`, the `late rate`."""
    rows = _made_now(context, raw_schema, end=context.as_of.date())
    inputs = [name for name in model.INPUTS.input_names() if name in rows]
    numbers = rows[inputs].select_dtypes("number")
    summary = pd.DataFrame(
        {
            "type": rows[inputs].dtypes.astype(str),
            "missing": rows[inputs].isna().mean(),
            "distinct": rows[inputs].nunique(),
            "min": numbers.min(),
            "mean": numbers.mean(),
            "max": numbers.max(),
        },
    ).reindex(inputs)
    hour = rows["sched_dep_ts"].dt.tz_localize("UTC").dt.tz_convert(ZONE).dt.hour
    columns = {"hour of departure": hour, **{name: rows[name] for name in inputs if name != "sched_dep_ts"}}
    return Look(
        tables={"sample": rows.head(10), "summary": summary.rename_axis("feature").reset_index()},
        figures={
            "late rate": plots.rate_by_value({str(name): (column, rows["is_late"]) for name, column in columns.items()})
        },
    )


def training(context: Context, raw_schema: str, *, holdout_days: int, trial_days: int) -> Look:
    """A model fitted now by the code as it stands, and how it does on the last `trial_days` before the holdout.

    It has the parameters of use_case/training.py: nothing is searched. The holdout stays unseen: it is the release
    job's, and a model chosen on it would pass by luck. Registers nothing.
    """
    holdout = holdout_of(context.as_of, holdout_days)
    split = split_at(_made_now(context, raw_schema, end=holdout.first), holdout.first - timedelta(days=trial_days))
    if split.training.empty or split.test.empty:
        raise UserError(f"too few labelled flights before {holdout.first}; lower holdout_days or trial_days")
    fitted = fit(split.training, until=split.trained_until, trials=1)
    evaluation = evaluate(fitted, split)
    scores = pd.DataFrame([evaluation.scored.metrics.as_dict()]).assign(
        trained_until=split.trained_until, trained_on=len(split.training), rounds=fitted.rounds
    )
    return Look(
        tables={"scores": scores},
        figures={"calibration": evaluation.calibration, "roc": evaluation.roc, "importance": evaluation.importance},
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
    """The verdict recorded last on a model: its `checks` and `slices`; all `verdicts` and `rollouts`, newest first."""
    ours = F.col("model_name") == model_name
    verdicts = context.tables.read("verdicts").where(ours).orderBy(F.desc("recorded_at")).toPandas()
    rollouts = context.tables.read("rollouts").where(ours).orderBy(F.desc("recorded_at")).toPandas()
    if verdicts.empty:
        raise UserError(f"no verdict on {model_name} yet; run the train job, which has each version judged")
    evidence = json.loads(verdicts["evidence"][0])
    checks = [Check(**{**check, "outcome": Outcome(check["outcome"])}) for check in evidence["checks"]]
    slices = [
        Slice(
            **{
                **found,
                "outcome": SliceOutcome(found["outcome"]),
                "worse_by": found["worse_by"] and Interval(**found["worse_by"]),
            }
        )
        for found in evidence["slices"]
    ]
    return Look(
        tables={
            "checks": pd.DataFrame(
                [(check.name, str(check.outcome), check.reason) for check in checks],
                columns=["check", "outcome", "reason"],
            ),
            "slices": pd.DataFrame(
                [
                    (
                        f"{found.dimension} {found.value}",
                        found.rows,
                        found.days,
                        "" if found.worse_by is None else in_words(found.worse_by),
                        str(found.outcome),
                    )
                    for found in slices
                ],
                columns=["slice", "rows", "days", "log loss difference", "outcome"],
            ),
            "verdicts": verdicts[
                ["model_version", "verdict", "champion_version", "holdout_first", "holdout_end", "as_of", "verdict_id"]
            ],
            "rollouts": rollouts[["model_version", "previous_version", "action", "reason", "as_of", "verdict_id"]],
        },
        figures={"intervals": plots.intervals(checks), "slices": plots.slices(slices)},
    )


def predictions(context: Context, model_name: str) -> Look:
    """What was forecast: rows `by version`; the champion's forecasts against what happened, on days it has not seen."""
    rows = context.tables.read("predictions").where(F.col("model_name") == model_name)
    by_version = (
        rows.groupBy("model_version", "source")
        .agg(
            F.count("*").alias("flights"),
            F.avg("probability").alias("mean probability"),
            F.avg("prediction").alias("share called late"),
            F.min("prediction_ts").alias("first"),
            F.max("prediction_ts").alias("last"),
        )
        .orderBy("model_version", "source")
        .toPandas()
    )
    champion = context.registry.aliases(model_name).get("champion")
    if champion is None or by_version.empty:
        raise UserError(f"no predictions of {model_name} yet; run the train and the score_batch job")
    labels = context.tables.read("flight_labels").select("flight_id", "flight_date", "is_late")
    unseen = F.col("flight_date") >= context.registry.version(model_name, champion).tags["trained_until"]
    outcomes = (
        rows.where(F.col("model_version") == champion)
        .join(labels.where(unseen), "flight_id")
        .select("flight_date", "probability", F.col("is_late").cast("double"))
    ).toPandas()
    days = (
        outcomes.groupby("flight_date")
        .agg(flights=("is_late", "size"), forecast=("probability", "mean"), late=("is_late", "mean"))
        .reset_index()
    )
    groups = {
        name: outcomes.loc[outcomes["is_late"] == value, "probability"].to_numpy(dtype=np.float64)
        for name, value in (("arrived on time", 0), ("arrived late", 1))
    }
    return Look(
        tables={"by version": by_version},
        figures={
            "by day": _daily(days, {"forecast": "forecast", "arrived late": "late"}),
            "distribution": plots.distribution(groups),
        },
    )


def _made_now(context: Context, raw_schema: str, *, end: date) -> pd.DataFrame:
    """Labelled flights before `end`, their features not read from the table but made from the raw ones."""
    features = features_as_of(context.tables.of(raw_schema), context.as_of)
    labels = context.tables.read("flight_labels")
    return with_labels(features, labels, as_of=context.as_of, first=None, end=end)


def _daily(days: pd.DataFrame, rates: Mapping[str, str]) -> Figure:
    return plots.daily(
        pd.DatetimeIndex(days["flight_date"]),
        days["flights"].to_numpy(dtype=np.float64),
        {name: days[column].to_numpy(dtype=np.float64) for name, column in rates.items()},
    )
