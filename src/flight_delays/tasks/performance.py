"""Measure each version's forecasts by day and slice."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, timedelta
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from flight_delays.core.columns import to_pandas
from flight_delays.core.errors import UserError
from flight_delays.core.estimation import CALIBRATED_ON_DAYS, LossByForecast, estimates
from flight_delays.core.feature_set import DAY
from flight_delays.core.performance import ALL, FORECAST, Evidence, Group, Quality, in_order, to_measure
from flight_delays.core.settings import Performance
from flight_delays.core.use_case import LABEL
from flight_delays.platform.context import Context
from flight_delays.platform.delta import collected
from flight_delays.platform.outcomes import DIGEST, GROUP, digests, forecasts, measured
from flight_delays.tasks.printing import show
from flight_delays.tasks.record import FOLDS_FILE

_ESTIMATED_DAYS = 92  # further back nothing is estimated any more: it would not be an estimate
_KEY = ("model_name", *GROUP, "dimension", "slice")


def run(context: Context, settings: Performance) -> None:
    """Bring `performance` up to date by the predictions and labels known by `as_of`; sets `days`, how many changed.

    Only a version's days whose predictions or labels are others than when they were measured are measured again, and
    none that the version was trained on. What was measured as of later stays as it is.
    """
    name, tables, as_of = settings.model_name, context.tables, context.as_of
    made = forecasts(tables, context.use_case, name, as_of)
    end = context.use_case.holdout(as_of, 1).end
    complete = F.coalesce(F.col(DAY) < F.lit(end), F.lit(False))
    rows = collected(digests(made, complete))
    found = {_group(row): row[DIGEST] for row in rows if row[DAY] is not None}
    if without_day := sum(row["forecasts"] for row in rows if row[DAY] is None):
        context.console.print(f"{without_day:,} predictions are of entities without features and label: not measured")
    unseen = dict(_unseen_from(context, name, {group.model_version for group in found}))
    known = tables.read("performance").where(F.col("model_name") == name)
    before = {
        _group(row): Evidence(digest=row[DIGEST], as_of=row["as_of"])
        for row in collected(known.where(F.col("dimension") == ALL).select(*GROUP, DIGEST, "as_of"))
    }
    due = to_measure(found, before, unseen, as_of)
    context.task_values.set("days", f"{len({group.day for group in due}):,}")
    _estimate(context, name, [group for group in found if group.model_version in unseen and group.day < end])
    if not due:
        context.console.print(f"No prediction or label of {name} has changed since it was measured")
        return
    of_due = pa.Table.from_pylist([vars(group) for group in due], to_arrow_schema(known.select(*GROUP).schema))
    due_rows = F.broadcast(tables.spark.createDataFrame(of_due))
    days = F.col(DAY).isin({group.day for group in due})
    of_days = forecasts(tables, context.use_case, name, as_of, days).join(due_rows, [*GROUP])
    results = measured(tables, context.use_case, of_days, as_of, days).to_pylist(maps_as_pydicts="strict")
    if before:
        results += _emptied(known.join(due_rows, [*GROUP]), results)
    same = {"model_name": name, "as_of": as_of}
    results = [{**row, **same, "complete": row[DAY] < end, DIGEST: found[_group(row)]} for row in results]
    schema = to_arrow_schema(known.schema)
    merged = tables.upsert("performance", tables.spark.createDataFrame(pa.Table.from_pylist(results, schema)), key=_KEY)
    show(
        context.console,
        f"{tables.schema}.performance of {name}: {merged.inserted:,} rows new, {merged.updated:,} changed",
        ("version", "source", "days measured", "rows", "coverage", f"mean {context.use_case.objective.loss_name}"),
        _summary(results),
    )


def _estimate(context: Context, name: str, groups: list[Group]) -> None:
    """Say how good forecasts will turn out of which that was not said, newest days only. What was said once stays."""
    tables, use_case = context.tables, context.use_case
    last = max((group.day for group in groups), default=None)
    if last is None:
        return
    said = tables.read("estimated_performance").where(F.col("model_name") == name).select(*GROUP)
    before = {_group(row) for row in collected(said)}
    due = [group for group in groups if group not in before and group.day > last - timedelta(days=_ESTIMATED_DAYS)]
    if not due:
        return
    since = min(group.day for group in due) - timedelta(days=CALIBRATED_ON_DAYS)
    versions = sorted({group.model_version for group in due})
    made = forecasts(tables, use_case, name, context.as_of, F.col(DAY).between(F.lit(since), F.lit(last)))
    rows = in_order(to_pandas(made.where(F.col("model_version").isin(versions)).toArrow()))
    found = []
    for version, source in sorted({(group.model_version, group.source) for group in due}):
        days = sorted(one.day for one in due if (one.model_version, one.source) == (version, source))
        ours = rows[(rows["model_version"] == version) & (rows["source"] == source)]
        folds = _folds(context, name, version)
        made_of = {"model_name": name, "model_version": version, "source": source, "as_of": context.as_of}
        for one in estimates(use_case.objective, ours, days, folds=folds, reach=CALIBRATED_ON_DAYS, zone=use_case.zone):
            found.append({**asdict(one), **made_of})
    schema = to_arrow_schema(tables.read("estimated_performance").schema)
    added = tables.append_new(
        "estimated_performance",
        tables.spark.createDataFrame(pa.Table.from_pylist(found, schema)),
        key=("model_name", *GROUP),
    )
    context.console.print(f"{tables.schema}.estimated_performance of {name}: {added.inserted:,} days new")


def _folds(context: Context, name: str, version: int) -> LossByForecast | None:
    """What the folds of a version's training forecast and how it turned out; None of a version that kept neither."""
    try:
        kept = pd.read_parquet(BytesIO(context.registry.kept(context.registry.version(name, version), FOLDS_FILE)))
        labels, forecasts = (kept[each].to_numpy(dtype=np.float64) for each in (LABEL, FORECAST))
    except (UserError, KeyError):
        return None
    return LossByForecast(objective=context.use_case.objective, labels=labels, forecasts=forecasts)


def _group(row: Mapping[str, Any]) -> Group:
    return Group(**{name: row[name] for name in GROUP})


def _unseen_from(context: Context, name: str, versions: set[int]) -> Iterator[tuple[int, date]]:
    """The first day that each version was not trained on; those of which that is not known are told, and left out."""
    for number in sorted(versions):
        try:
            tags = context.registry.version(name, number).tags
        except UserError as error:  # what was measured of it stays as it is
            context.console.print(f"Version {number} is not measured: {error}")
            continue
        if "trained_until" in tags:
            yield number, date.fromisoformat(tags["trained_until"])
        else:
            context.console.print(f"Version {number} is not measured: it lacks the tag trained_until")


def _emptied(known: DataFrame, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slices that had rows when they were measured, and have none now."""
    there = {tuple(row[name] for name in (*GROUP, "dimension", "slice")) for row in results}
    rows = collected(known.select(*GROUP, "dimension", "slice"))
    return [
        {**asdict(Quality(dimension=row["dimension"], slice=row["slice"])), **row}
        for row in rows
        if tuple(row.values()) not in there
    ]


def _summary(results: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """By version and source: days, entities, the share with a label, and their loss."""
    whole = [row for row in results if row["dimension"] == ALL]
    for version, source in sorted({(row["model_version"], row["source"]) for row in whole}):
        ours = [row for row in whole if (row["model_version"], row["source"]) == (version, source)]
        rows, labelled = (sum(row[name] for row in ours) for name in ("rows", "labelled"))
        loss = sum(row["loss"] * row["labelled"] for row in ours if row["labelled"])
        yield (
            *(str(version), source, len(ours), rows),
            labelled / rows if rows else "",
            loss / labelled if labelled else "",
        )
