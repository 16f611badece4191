"""Score every entity that the champion has not scored yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY, ENTITY, KEY, PREDICTION_TIME
from flight_delays.core.settings import ScoreBatch
from flight_delays.core.stream import TableVersion
from flight_delays.platform.context import Context
from flight_delays.platform.delta import collected
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import read_scorer
from flight_delays.tasks import publish
from flight_delays.tasks.printing import show


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Which version scores, by its number, and where its predictions go: to `table`, with `source` in each row.

    Those in table predictions are published: everything that reads it takes them for what the model forecasts.
    """

    model_name: str
    number: int
    source: str = "batch"
    table: str = "predictions"

    @property
    def published(self) -> bool:
        """Whether people and callers get to see them."""
        return self.table == "predictions"

    def made(self) -> Column:
        """Whether a row of runs, or of `table`, is of this."""
        version = (F.col("model_name") == self.model_name) & (F.col("model_version") == self.number)
        return version & (F.col("source") == self.source)


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """Up to here a model version has scored: all rows of this version of features that were known by `as_of`.

    Up to `predictions` they can be looked up.
    """

    features: TableVersion
    as_of: datetime
    predictions: TableVersion | None = field(default=None, compare=False)


def run(context: Context, settings: ScoreBatch) -> None:
    """Append to `predictions` the rows of features known by `as_of`; what was scored stays as it was.

    The champion is resolved once, and its number is what loads the model and is written on every row. Rows that can't
    be scored go to raw_rejects with their reasons. The newest prediction of each entity is then there to be looked up.
    Raises UserError if no version is champion.
    """
    number = champion(context.registry, settings.model_name)
    score(context, settings, Scoring(model_name=settings.model_name, number=number))


def score(context: Context, settings: ScoreBatch, by: Scoring) -> None:
    """Append what this version has not scored yet."""
    made = context.tables.read(by.table).where(by.made())
    here = _Mark(features=context.tables.identity("features"), as_of=context.as_of)
    mark = _mark(context, settings, by, here.features) if settings.all_days and not settings.full else None
    first = mark is None and made.isEmpty()
    new = _candidates(context, mark, here)
    if settings.first_date is not None:
        new = new.where(F.col(DAY) >= F.lit(settings.first_date))
    if settings.last_date is not None:
        new = new.where(F.col(DAY) <= F.lit(settings.last_date))
    if not first:
        new = new.join(made.select(*KEY), [*KEY], "left_anti")
    run_id = _run_id(by, here, settings)
    scored = rejected = 0
    if first or not new.isEmpty():
        scored, rejected = _score(context, new, by, run_id)
    if mark != here:
        _optimize(context, by)
    there = context.tables.identity(by.table)
    if by.published and (mark is None or mark.predictions != there):
        publish.predictions(context, online_store=settings.online_store)
    if mark != here:  # last of all: what a run that left no mark has not done is done by the next
        total = made.where(F.col("run_id") == run_id).count()  # of it and of one that was killed before
        _record(context, run_id, by, {"features": here.features, "predictions": there}, total)
    context.task_values.set("scored", f"{scored:,}")
    context.task_values.set("rejected", f"{rejected:,}")
    if not scored:
        context.console.print(f"Version {by.number} of {by.model_name} has nothing new to score in features")
        return
    outputs = context.use_case.objective.outputs
    months = (
        made.groupBy(F.date_format("prediction_ts", "yyyy-MM").alias("month"))
        .agg(F.count("*"), *(F.avg(name) for name in outputs))
        .orderBy("month")
        .collect()
    )
    show(
        context.console,
        f"{context.tables.schema}.{by.table} by version {by.number}: {scored:,} new rows scored",
        ("month (UTC)", "rows", *(f"mean {name}" for name in outputs)),
        months,
    )


def champion(registry: Registry, model_name: str) -> int:
    """The number of the version that serves. Raises UserError if there is none."""
    number = registry.aliases(model_name).get("champion")
    if number is None:
        raise UserError(
            f"{model_name} has no champion; run the train job; if it has run, the report says why it did not pass"
        )
    return number


def _score(context: Context, rows: DataFrame, by: Scoring, run_id: str) -> tuple[int, int]:
    """Append the predictions, and the rejects of what can't be scored; how many each."""
    scorer, counted = read_scorer(context.registry, by.model_name, by.number), Observation()
    made = scorer.predictions(rows, scored_at=context.as_of, source=by.source, run_id=run_id)
    made = made.observe(counted, F.count("reasons").alias("rejected"))
    scored = context.tables.append(by.table, made.where("reasons IS NULL"))
    if not counted.get["rejected"]:
        return scored, 0
    unfit = scorer.rejects(rows, source=by.source)
    return scored, context.tables.append_new("raw_rejects", unfit, key=["reject_id"]).inserted


def _candidates(context: Context, mark: _Mark | None, here: _Mark) -> DataFrame:
    """Of the rows of features known by now those that are new or changed since the mark.

    All of them if that can't be told: there is no mark, or what changed since is not known any more.
    """
    features = context.tables.read("features", version=here.features.version)
    known = features.where(F.col(PREDICTION_TIME) <= F.lit(here.as_of))
    if mark is None:
        return known
    later = known.where(F.col(PREDICTION_TIME) > F.lit(mark.as_of))  # in the table then, and not yet known
    if mark.features == here.features:
        return later
    changes = context.tables.changes("features", first=mark.features.version + 1, last=here.features.version)
    if changes is None:
        return known
    keys = changes.select(*KEY).unionByName(later.select(*KEY)).distinct()
    return known.join(keys, [*KEY], "left_semi")


def _mark(context: Context, settings: ScoreBatch, by: Scoring, features: TableVersion) -> _Mark | None:
    """The furthest that the model version has got in this very table; one that was made anew is another."""
    runs = context.tables.read("runs").where(by.made())
    runs = runs.where(F.col("table_ids")["features"] == features.id)
    marks = []
    for row in collected(runs.select("run_id", "as_of", "table_ids", "table_versions")):
        of = {name: TableVersion(id=row["table_ids"][name], version=at) for name, at in row["table_versions"].items()}
        mark = _Mark(**of, as_of=row["as_of"])
        if row["run_id"] == _run_id(by, mark, settings):  # else it looked at some days, which are in its id
            marks.append(mark)
    return max(marks, key=lambda mark: (mark.features.version, mark.as_of), default=None)


def _run_id(by: Scoring, here: _Mark, settings: ScoreBatch) -> str:
    features, as_of = here.features, here.as_of.astimezone(UTC).isoformat()
    days = [] if settings.all_days else [settings.first_date, settings.last_date]
    beside = [] if by.published else [by.source]
    parts = [by.model_name, by.number, features.id, features.version, as_of, *days, *beside]
    return sha256("|".join(map(str, parts)).encode()).hexdigest()


def _record(context: Context, run_id: str, by: Scoring, tables: Mapping[str, TableVersion], scored: int) -> None:
    row = {
        "run_id": run_id,
        "source": by.source,
        "model_name": by.model_name,
        "model_version": by.number,
        "table_ids": {name: table.id for name, table in tables.items()},
        "table_versions": {name: table.version for name, table in tables.items()},
        "as_of": context.as_of,
        "scored": scored,
    }
    if context.tables.read("runs").where(F.col("run_id") == run_id).isEmpty():
        context.tables.append("runs", context.tables.decision("runs", row))


def _optimize(context: Context, by: Scoring) -> None:
    """Compact the days of the table that are over since the last batch, if any."""
    (last,) = collected(
        context.tables.read("runs").where(F.col("source") == by.source).agg(F.max("as_of").alias("as_of"))
    )
    today = context.as_of.astimezone(UTC).date()
    if last["as_of"] is not None and last["as_of"].date() < today:
        over = f"scored_date >= '{last['as_of'].date()}' AND scored_date < '{today}'"
        context.tables.optimize(by.table, where=over, zorder=ENTITY)
