"""Features with their labels, as training and validation read them."""

from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME
from flight_delays.core.use_case import KNOWN_AT, LABEL, LABEL_KNOWN_AT, LABELS, UseCase
from flight_delays.platform.batches import map_columns
from flight_delays.platform.delta import Tables
from flight_delays.platform.spark_as_of import build_features


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled rows in a fixed order, and the Delta version of each table they were read from."""

    rows: pd.DataFrame
    versions: dict[str, int]


@dataclass(frozen=True)
class Labelled:
    """Labelled rows from the Delta tables `features` and `labels`."""

    tables: Tables

    def read(self, *, as_of: datetime, first: date | None, end: date) -> Dataset:
        """Columns of table features plus `label` and `label_known_at`, `day` from `first` up to before `end`.

        Nothing that became known after `as_of`.
        """
        versions = {table: self.tables.version(table) for table in ("features", "labels")}
        features, labels = (self.tables.read(table, version=version) for table, version in versions.items())
        return Dataset(
            rows=with_labels(features, labels, as_of=as_of, first=first, end=end),
            versions={f"{self.tables.schema}.{table}": version for table, version in versions.items()},
        )


def with_labels(
    features: DataFrame, labels: DataFrame, *, as_of: datetime, first: date | None, end: date
) -> pd.DataFrame:
    """The rows of a Dataset, from any DataFrames with the columns of features and labels."""
    days = F.col(DAY) < end
    if first is not None:
        days &= F.col(DAY) >= first
    known = features.where(days & (F.col(PREDICTION_TIME) <= F.lit(as_of)))
    rows = known.join(labels_known(labels, as_of), ENTITY).toPandas()
    return rows.sort_values([PREDICTION_TIME, ENTITY], ignore_index=True)


def labels_known(labels: DataFrame, as_of: datetime) -> DataFrame:
    """`entity_id`, `label` and `label_known_at` of what was known by `as_of`; of corrections the last."""
    known = labels.where(F.col(KNOWN_AT) <= F.lit(as_of))
    return known.groupBy(ENTITY).agg(F.max_by(LABEL, KNOWN_AT).alias(LABEL), F.max(KNOWN_AT).alias(LABEL_KNOWN_AT))


def features_as_of(use_case: UseCase, raw: Tables, as_of: datetime) -> DataFrame:
    """Columns of table features, one row per row of the spine in `raw` that was known by `as_of`."""
    asked = use_case.features
    asking = raw.read(asked.table).where(F.col(asked.raw(PREDICTION_TIME)) <= F.lit(as_of))
    known = F.col(KNOWN_AT) <= F.lit(as_of)
    return build_features(asked, asking, {name: raw.read(name).where(known) for name in asked.tables()})


def has_outcome() -> Column:
    """Whether a row of `labels_of` tells how it ended, and when that was known."""
    return F.col(LABEL).isNotNull() & F.col(KNOWN_AT).isNotNull()


def labels_of(use_case: UseCase, rows: DataFrame) -> DataFrame:
    """Columns of table labels for rows of the raw table that tells outcomes, null where a row has none."""
    return map_columns(rows, use_case.labels.make, columns=use_case.labels.columns, schema=LABELS)
