"""Collect the outcomes that are known."""

from pyspark.sql import Observation
from pyspark.sql import functions as F

from flight_delays.core.feature_set import ENTITY
from flight_delays.core.settings import Labels
from flight_delays.core.use_case import KNOWN_AT, LABEL
from flight_delays.platform.context import Context
from flight_delays.platform.dataset import has_outcome, labels_of
from flight_delays.tasks.printing import show


def run(context: Context, settings: Labels) -> None:
    """Bring labels up to date by the raw rows whose outcome was known by `as_of`; count the others."""
    as_of = F.lit(context.as_of)
    rows = context.tables.of(settings.raw_schema).read(context.use_case.labels.table).where(F.col(KNOWN_AT) <= as_of)
    known, counted = has_outcome(), Observation()
    labels = labels_of(context.use_case, rows).observe(
        counted,
        F.count(F.lit(1)).alias("total"),
        F.count_if(~known).alias("never"),
        F.count_if(known & (F.col(KNOWN_AT) > as_of)).alias("later"),
    )
    merged = context.tables.upsert("labels", labels.where(known & (F.col(KNOWN_AT) <= as_of)), key=[ENTITY, KNOWN_AT])
    total, never, later = (counted.get[name] for name in ("total", "never", "later"))
    labelled, mean = context.tables.read("labels").agg(F.count_distinct(ENTITY), F.avg(LABEL)).collect()[0]
    show(
        context.console,
        f"{context.tables.schema}.labels",
        ("entities", "labelled", "new", "changed", "mean label", "no outcome", "outcome not known yet"),
        [(total, labelled, merged.inserted, merged.updated, mean or 0.0, never, later)],
    )
