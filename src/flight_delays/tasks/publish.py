"""Bring features, and predictions made beforehand, to the online store, which has a synced table of each."""

from flight_delays.core.feature_set import ENTITY
from flight_delays.core.settings import Publish
from flight_delays.platform.context import Adapters, Context
from flight_delays.platform.online_store import refresh
from flight_delays.platform.online_table import ONLINE_TABLE
from flight_delays.platform.precomputed import PREDICTIONS_TABLE


def run(context: Context, settings: Publish) -> None:
    """Hold the newest row of each entity online, if there is an online store. Sets `published`, their number."""
    published = 0
    if settings.online_store:
        table = f"{context.tables.schema}.{ONLINE_TABLE}"
        _sync(context, table)
        published = context.tables.read("features").select(ENTITY).distinct().count()
        context.console.print(f"{published:,} entities in {table}")
    else:
        context.console.print("There is no online store: nothing to publish (variable online_store)")
    context.task_values.set("published", f"{published:,}")


def predictions(context: Adapters, *, online_store: bool) -> None:
    """Hold the newest prediction of each entity online, if there is an online store."""
    if online_store:
        _sync(context, f"{context.tables.schema}.{PREDICTIONS_TABLE}")


def _sync(context: Adapters, table: str) -> None:
    """Bring a table that the workspace syncs up to date, and wait for it."""
    workspace = context.endpoints()
    refresh(workspace.client, table, progress=context.console.print, clock=workspace.clock, sleep=workspace.sleep)
