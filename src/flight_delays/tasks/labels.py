"""Collect the outcomes that are known."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.platform.columns import map_columns
from flight_delays.platform.tables import Tables
from flight_delays.tasks.context import Context
from flight_delays.tasks.report import show
from flight_delays.use_case.labels import LABELS, flight_labels


def run(context: Context, raw: Tables) -> None:
    """Bring flight_labels up to date for every flight of `raw` whose outcome was known by `as_of`; count the others."""
    as_of = F.lit(context.as_of)
    flights = raw.read("raw_flights").where(F.col("known_at") <= as_of)
    merged = context.tables.upsert(
        "flight_labels", labels_of(flights).where(F.col("known_at") <= as_of), key=["flight_id"]
    )
    total, never, later = flights.agg(
        F.count("*"),
        F.count_if(F.col("outcome_known_at").isNull()),
        F.count_if(F.col("outcome_known_at") > as_of),
    ).collect()[0]
    labelled, late = context.tables.read("flight_labels").agg(F.count("*"), F.sum("is_late")).collect()[0]
    show(
        context.console,
        f"{context.tables.schema}.flight_labels",
        ("flights", "labelled", "new", "changed", "late", "no label: never arrived", "no label: not known yet"),
        [(total, labelled, merged.inserted, merged.updated, late or 0, never, later)],
    )


def labels_of(flights: DataFrame) -> DataFrame:
    """Rows of flight_labels, from rows of raw_flights."""
    columns = ("flight_id", "flight_date", "arr_delay", "outcome_known_at")
    return map_columns(flights, flight_labels, columns=columns, schema=LABELS)
