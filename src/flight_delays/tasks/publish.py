"""Bring features, and predictions made beforehand, to where they are looked up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.features import DAY, ENTITY, PREDICTION_TIME
from flight_delays.platform.context import Adapters, Context
from flight_delays.platform.online_store import fill_sqlite, filled_to, refresh
from flight_delays.platform.precomputed import COLUMNS, NEWEST_BY, PREDICTIONS_TABLE
from flight_delays.platform.runtime import Place, local_dir, place
from flight_delays.platform.runtime import online_store as online_store_of
from flight_delays.platform.shell import ONLINE_TABLE

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 500_000  # of a chunk, unless a month has more


def run(context: Context, *, online_store: bool) -> None:
    """Hold the newest row of each entity online: of those known by `as_of` on a laptop, of all in a workspace."""
    features = context.tables.read("features")
    table = f"{context.tables.schema}.{ONLINE_TABLE}"
    if place() is Place.LOCAL:
        known = features.where(F.col(PREDICTION_TIME) <= F.lit(context.as_of))
        file = online_store_of(local_dir())
        published = fill_sqlite(
            file, ONLINE_TABLE, _chunks(known, day=DAY), columns=known.columns, key=ENTITY, newest_by=[PREDICTION_TIME]
        )
        context.console.print(f"{published:,} entities in {file}")
    elif online_store:
        _sync(context, table)
        published = features.select(ENTITY).distinct().count()
        context.console.print(f"{published:,} entities in {table}")
    else:
        published = 0
        context.console.print("There is no online store: nothing to publish (variable online_store)")
    context.task_values.set("published", f"{published:,}")


def predictions(context: Adapters, *, online_store: bool) -> None:
    """Hold the newest prediction of each entity online, if there is an online store.

    A laptop's gets those that were added since it was last filled; all of them if that is not known.
    """
    if place() is not Place.LOCAL:
        if online_store:
            _sync(context, f"{context.tables.schema}.{PREDICTIONS_TABLE}")
        return
    file, now = online_store_of(local_dir()), context.tables.identity("predictions")
    there = filled_to(file, PREDICTIONS_TABLE, columns=COLUMNS)
    if there == now:
        return
    added = None
    if there is not None and there.id == now.id:
        added = context.tables.changes("predictions", first=there.version + 1, last=now.version)
    rows = context.tables.read("predictions", version=now.version) if added is None else added
    fill_sqlite(
        file,
        PREDICTIONS_TABLE,
        _chunks(rows.select(*COLUMNS), day=PREDICTION_TIME),
        columns=COLUMNS,
        key=ENTITY,
        newest_by=NEWEST_BY,
        to=now,
        onto=added is not None,
    )


def _sync(context: Adapters, table: str) -> None:
    """Bring a table that the workspace syncs up to date, and wait for it."""
    workspace = context.endpoints()
    refresh(workspace.client, table, progress=context.console.print, clock=workspace.clock, sleep=workspace.sleep)


def _chunks(rows: DataFrame, *, day: str) -> "Iterator[pa.Table]":
    """All of them, in chunks of whole months that fit in memory; `day` is a date or a time."""
    month = F.trunc(day, "month")
    counted = rows.groupBy(month.alias("month")).count().orderBy("month").collect()
    while counted:
        first, many = counted[0]["month"], 0
        while counted and (not many or many + counted[0]["count"] <= _ROWS):
            many += counted[0]["count"]
            last = counted.pop(0)["month"]
        yield rows.where(month.between(F.lit(first), F.lit(last))).toArrow()
