"""Features with their labels, as training and validation read them."""

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.splits import Holdout, last_whole_days, midnight
from flight_delays.platform.tables import Tables
from flight_delays.use_case.labels import MATURITY
from flight_delays.use_case.sources import ZONE


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled flights in a fixed order, and the Delta version of each table they were read from."""

    rows: pd.DataFrame
    versions: dict[str, int]


def holdout_of(as_of: datetime, days: int) -> Holdout:
    """The last whole days before `as_of` whose outcomes are known by then."""
    return last_whole_days(as_of, days, zone=ZoneInfo(ZONE), maturity=MATURITY)


def labelled_flights(tables: Tables, *, as_of: datetime, first: date | None, end: date) -> Dataset:
    """Columns of flight_features plus `is_late` and `label_known_at`, flight_date from `first` up to before `end`."""
    versions = {table: tables.version(table) for table in ("flight_features", "flight_labels")}
    features = tables.read("flight_features", version=versions["flight_features"])
    labels = tables.read("flight_labels", version=versions["flight_labels"])
    return Dataset(
        rows=with_labels(features, labels, as_of=as_of, first=first, end=end),
        versions={f"{tables.schema}.{table}": version for table, version in versions.items()},
    )


def with_labels(
    features: DataFrame, labels: DataFrame, *, as_of: datetime, first: date | None, end: date
) -> pd.DataFrame:
    """The rows of a Dataset, from any DataFrame with the columns of flight_features."""
    days = F.col("flight_date") < end
    if first is not None:
        days &= F.col("flight_date") >= first
    known = labels.where(F.col("known_at") <= F.lit(as_of)).select(
        "flight_id", "is_late", F.col("known_at").alias("label_known_at")
    )
    rows = features.where(days & (F.col("prediction_ts") <= F.lit(as_of))).join(known, "flight_id").toPandas()
    return rows.sort_values(["sched_dep_ts", "flight_id"], ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to learn from, rows of the holdout, and the first day that no model may have seen."""

    training: pd.DataFrame
    test: pd.DataFrame
    trained_until: date


def split_at(rows: pd.DataFrame, first: date) -> Split:
    """Rows of a Dataset: those from `first` on, and earlier ones whose outcome was known when that day began."""
    earlier = rows["flight_date"] < first
    # What was not known by then could not have been learnt from.
    known = rows["label_known_at"].dt.tz_localize("UTC") <= midnight(first, ZoneInfo(ZONE))
    return Split(training=rows[earlier & known], test=rows[~earlier], trained_until=first)
