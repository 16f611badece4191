"""Bring the features to where an endpoint looks them up."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.features import DAY, ENTITY, PREDICTION_TIME
from flight_delays.platform.context import Context
from flight_delays.platform.online_store import fill_sqlite, refresh
from flight_delays.platform.runtime import Place, local_dir, place
from flight_delays.platform.runtime import online_store as online_store_of
from flight_delays.platform.shell import ONLINE_TABLE

if TYPE_CHECKING:
    import pyarrow as pa


def run(context: Context, *, online_store: bool) -> None:
    """Hold the newest row of each entity online: of those known by `as_of` on a laptop, of all in a workspace."""
    features = context.tables.read("features")
    table = f"{context.tables.schema}.{ONLINE_TABLE}"
    if place() is Place.LOCAL:
        known = features.where(F.col(PREDICTION_TIME) <= F.lit(context.as_of))
        file = online_store_of(local_dir())
        chunks = by_month(known, day=DAY)
        published = fill_sqlite(
            file, ONLINE_TABLE, chunks, columns=known.columns, key=ENTITY, newest_by=PREDICTION_TIME
        )
        context.console.print(f"{published:,} entities in {file}")
    elif online_store:
        sync(context, table)
        published = features.select(ENTITY).distinct().count()
        context.console.print(f"{published:,} entities in {table}")
    else:
        published = 0
        context.console.print("There is no online store: nothing to publish (variable online_store)")
    context.task_values.set("published", f"{published:,}")


def sync(context: Context, table: str) -> None:
    """Bring a table that the workspace syncs up to date, and wait for it."""
    workspace = context.endpoints()
    refresh(workspace.client, table, progress=context.console.print, clock=workspace.clock, sleep=workspace.sleep)


def by_month(rows: DataFrame, *, day: str) -> "Iterator[pa.Table]":
    """All of them, in chunks that fit in memory; `day` is a date or a time."""
    month = F.trunc(day, "month")
    for (first,) in rows.select(month).distinct().orderBy(1).collect():
        yield rows.where(month == F.lit(first)).toArrow()
