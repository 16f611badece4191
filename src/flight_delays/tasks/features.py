"""Build the feature table from what was known."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.platform.as_of import build_features
from flight_delays.platform.tables import Tables
from flight_delays.tasks.context import Context
from flight_delays.tasks.report import show
from flight_delays.use_case.features import FEATURES


def run(context: Context, raw: Tables) -> None:
    """Bring flight_features up to date for every flight of `raw` whose prediction time has come by `as_of`."""
    merged = context.tables.upsert("flight_features", features_as_of(raw, context.as_of), key=FEATURES.key)
    rows, no_weather, no_plane = (
        context.tables.read("flight_features")
        .agg(F.count("*"), F.count_if(F.col("weather_age_minutes").isNull()), F.count_if(F.col("plane_seats").isNull()))
        .collect()[0]
    )
    show(
        context.console,
        f"{context.tables.schema}.flight_features",
        ("flights", "new", "changed", "without weather of the last 6 hours", "with an unregistered aircraft"),
        [(rows, merged.inserted, merged.updated, no_weather, no_plane)],
    )


def features_as_of(raw: Tables, as_of: datetime) -> DataFrame:
    """Columns of flight_features, one row per flight of `raw` that was known by `as_of`."""
    known = F.col("known_at") <= F.lit(as_of)
    tables = {name: raw.read(name).where(known) for name in FEATURES.tables()}
    return build_features(FEATURES, tables["raw_flights"], tables)
