"""What `python3 dev.py demo` left on this laptop: tables, and a model with a champion."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from bundle_laptop.spark import spark_in
from bundle_laptop.world import entered, world_of
from flight_delays.platform.context import open_context
from flight_delays.use_case import USE_CASE

ROOT = Path(__file__).parents[1]
SCHEMA = "spark_catalog.dev_local_flights"
MODEL = f"{SCHEMA}.dev_local_delay"
AS_OF = datetime(2014, 1, 2, tzinfo=UTC)
_PREFIXES = {
    **{name: name for name in ("weather", "plane", "origin", "carrier", "route", "aircraft")},
    **{"destination": "dest", "flight number": "number"},
}
GROUPS = {
    group: tuple(name for name in USE_CASE.looked_up if name.startswith(f"{prefix}_"))
    for group, prefix in _PREFIXES.items()
}
"""Which features tell of what."""


@contextmanager
def world() -> Iterator[Path]:
    """Its folder; this process finds its Spark, tables and models there."""
    folder = world_of(ROOT, "dev")
    with entered(folder), spark_in(folder):
        yield folder


def labelled() -> pd.DataFrame:
    """Features and labels of the whole year, as training reads them."""
    with world():
        context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
        return context.labelled.read(as_of=AS_OF, first=None, end=AS_OF.date()).rows


def without(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows with these columns unknown."""
    return rows.assign(**dict.fromkeys(columns, float("nan")))
