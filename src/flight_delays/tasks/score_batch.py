"""Score every entity that the champion has not scored yet."""

from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.features import DAY, ENTITY, KEY, PREDICTION_TIME
from flight_delays.platform.context import Context
from flight_delays.platform.scorer import Scorer, read_scorer
from flight_delays.tasks import precompute
from flight_delays.tasks.report import show

_SOURCE = "batch"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Days to score, both ends included, null for no limit. `full` looks at all rows in it, instead of
    those that are new or changed since the version's last run; what is there already is not scored again either way.
    """  # fmt: skip

    first: date | None = None
    last: date | None = None
    full: bool = False

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise UserError(f"first_date {self.first} is after last_date {self.last}; swap them")

    @property
    def everything(self) -> bool:
        """Whether there is no limit."""
        return self.first is None and self.last is None

    def holds(self) -> Column:
        """Whether a row of features lies in it."""
        days = F.col(DAY)
        after = F.lit(True) if self.first is None else days >= F.lit(self.first)
        return after if self.last is None else after & (days <= F.lit(self.last))


def run(context: Context, *, model_name: str, window: Window, online_store: bool) -> None:
    """Merge `predictions` for the rows of features known by `as_of`; what was scored stays as it was.

    The champion is resolved once, and its number is what loads the model and is written on every row. Rows that can't
    be scored go to raw_rejects with their reasons. The newest prediction of each entity is then there to be looked up.
    Raises UserError if no version is champion.
    """
    number = champion(context, model_name)
    scorer = read_scorer(context.registry, model_name, number)
    version = context.tables.version("features")
    ours = (F.col("model_name") == model_name) & (F.col("model_version") == number) & (F.col("source") == _SOURCE)
    done = context.tables.read("predictions").where(ours).select(*KEY)
    features = context.tables.read("features", version=version)
    known = features.where(F.col(PREDICTION_TIME) <= F.lit(context.as_of))
    changed = _changed(context, model_name, number, version, known) if window.everything and not window.full else None
    candidates = known if changed is None else changed
    new = candidates.where(window.holds()).join(done, [*KEY], "left_anti")
    fit, unfit = new.where(scorer.fits()), new.where(~scorer.fits())
    rejected = 0
    if not unfit.isEmpty():
        rows = rejects(unfit, scorer, source=_SOURCE)
        rejected = context.tables.append_new("raw_rejects", rows, key=["reject_id"]).inserted
    rows = predictions(fit, scorer, as_of=F.lit(context.as_of), source=_SOURCE)
    merged = context.tables.append_new("predictions", rows, key=["prediction_id"])
    if merged.inserted:
        context.tables.optimize("predictions", where=f"scored_date = '{context.as_of:%Y-%m-%d}'", zorder=ENTITY)
    # A run that looked at everything is a mark to go on from; one that found nothing since the last mark needs none.
    if window.everything and (changed is None or merged.inserted):
        _record(context, model_name, number, version)
    precompute.merge(context)
    precompute.publish(context, online_store=online_store)
    context.task_values.set("scored", f"{merged.inserted:,}")
    context.task_values.set("rejected", f"{rejected:,}")
    classified = "probability" in context.use_case.objective.outputs
    months = (
        context.tables.read("predictions")
        .where(ours)
        .groupBy(F.date_format("prediction_ts", "yyyy-MM").alias("month"))
        .agg(F.count("*"), *([F.avg("probability")] if classified else []), F.avg("prediction"))
        .orderBy("month")
        .collect()
    )
    show(
        context.console,
        f"{context.tables.schema}.predictions by version {number}: {merged.inserted:,} new rows scored",
        ("month (UTC)", "rows", *(["mean probability"] if classified else []), "mean prediction"),
        months,
    )


def champion(context: Context, model_name: str) -> int:
    """The number of the version that serves. Raises UserError if there is none."""
    number = context.registry.aliases(model_name).get("champion")
    if number is None:
        raise UserError(
            f"{model_name} has no champion; run the train job; if it has run, the report says why it did not pass"
        )
    return number


def predictions(features: DataFrame, scorer: Scorer, *, as_of: Column, source: str) -> DataFrame:
    """Rows of table predictions for rows of features, by one version."""
    name, number = scorer.files.name, scorer.files.number
    scored = scorer.score(features, keep=KEY)
    probability = F.col("probability") if "probability" in scored.columns else F.lit(None).cast("double")
    return scored.select(
        _digest(name, number, source).alias("prediction_id"),
        *KEY,
        F.lit(name).alias("model_name"),
        F.lit(number).alias("model_version"),
        as_of.alias("scored_at"),
        F.to_date(as_of).alias("scored_date"),
        probability.alias("probability"),
        F.col("prediction").cast("double").alias("prediction"),
        F.lit(None).cast("double").alias("response_time_ms"),
        F.lit(source).alias("source"),
    )


def rejects(features: DataFrame, scorer: Scorer, *, source: str) -> DataFrame:
    """Rows of table raw_rejects for rows of features that one version can't score."""
    return features.select(
        _digest(scorer.files.name, scorer.files.number, source).alias("reject_id"),
        F.lit("predictions").alias("table_name"),
        F.to_json(F.struct("*")).alias("source_row"),
        scorer.reasons().alias("reasons"),
    )


def _digest(model_name: str, number: int, source: str) -> Column:
    return F.sha2(F.concat_ws("|", *KEY, F.lit(model_name), F.lit(number), F.lit(source)), 256)


def _changed(context: Context, model_name: str, number: int, version: int, known: DataFrame) -> DataFrame | None:
    """Of the `known` rows of features those that are new or changed since the model version's mark.

    None if that can't be told: there is no mark, or what changed since is not known any more.
    """
    ours = (F.col("model_name") == model_name) & (F.col("model_version") == number)
    runs = context.tables.read("scoring_runs").where(ours & (F.col("features_version") <= version))
    mark = runs.orderBy(F.desc("features_version"), F.desc("as_of")).limit(1).collect()
    if not mark:
        return None
    (last,) = mark
    later = known.where(F.col(PREDICTION_TIME) > F.lit(last["as_of"]))  # in the table then, and not yet known
    if last["features_version"] == version:
        return later
    changes = context.tables.changes("features", first=last["features_version"] + 1, last=version)
    if changes is None:
        return None
    keys = changes.select(*KEY).unionByName(later.select(*KEY)).distinct()
    return known.join(keys, [*KEY], "left_semi")


def _record(context: Context, model_name: str, number: int, version: int) -> None:
    identity = f"{model_name}|{number}|{version}|{context.as_of.isoformat()}"
    row = {
        "run_id": sha256(identity.encode()).hexdigest(),
        "model_name": model_name,
        "model_version": number,
        "features_version": version,
        "as_of": context.as_of,
    }
    context.tables.append_decision("scoring_runs", row, key=["run_id"])
