"""Features with their labels, as training and validation read them."""

from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
from pyspark.sql import functions as F

from flight_delays.platform.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled flights in a fixed order, and the Delta version of each table they were read from."""

    rows: pd.DataFrame
    versions: dict[str, int]


def labelled_flights(tables: Tables, *, as_of: datetime, first: date | None, end: date) -> Dataset:
    """Columns of flight_features plus `is_late` and `label_known_at`, flight_date from `first` up to before `end`."""
    versions = {table: tables.version(table) for table in ("flight_features", "flight_labels")}
    features = tables.read("flight_features", version=versions["flight_features"]).where(F.col("flight_date") < end)
    if first is not None:
        features = features.where(F.col("flight_date") >= first)
    labels = (
        tables.read("flight_labels", version=versions["flight_labels"])
        .where(F.col("known_at") <= F.lit(as_of))
        .select("flight_id", "is_late", F.col("known_at").alias("label_known_at"))
    )
    rows = features.where(F.col("prediction_ts") <= F.lit(as_of)).join(labels, "flight_id").toPandas()
    return Dataset(
        rows=rows.sort_values(["sched_dep_ts", "flight_id"], ignore_index=True),
        versions={f"{tables.schema}.{table}": version for table, version in versions.items()},
    )
