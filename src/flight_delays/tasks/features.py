"""Build the feature table from what was known."""

from pyspark.sql import functions as F

from flight_delays.core.feature_set import KEY
from flight_delays.core.settings import Features
from flight_delays.platform.context import Context
from flight_delays.platform.dataset import features_as_of
from flight_delays.tasks.printing import show

_SHOWN = 10  # columns with the most gaps


def run(context: Context, settings: Features) -> None:
    """Bring features up to date for every row of the raw spine whose prediction time has come by `as_of`."""
    rows = features_as_of(context.use_case, context.tables.of(settings.raw_schema), context.as_of)
    merged = context.tables.upsert("features", rows, key=KEY)
    counted, *missing = (
        context.tables.read("features")
        .agg(F.count("*"), *(F.count_if(F.col(name).isNull()) for name in context.use_case.looked_up))
        .collect()[0]
    )
    show(
        context.console,
        f"{context.tables.schema}.features",
        ("entities", "new", "changed"),
        [(counted, merged.inserted, merged.updated)],
    )
    gaps = sorted(zip(missing, context.use_case.looked_up, strict=True), reverse=True)[:_SHOWN]
    shares = [(name, null / counted) for null, name in gaps if null]
    if shares:
        show(context.console, "Features with the most gaps", ("feature", "share without a value"), shares)
