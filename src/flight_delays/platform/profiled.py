"""Profiles of days: counted by Spark's workers, a day by one of them, and kept in table profiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from flight_delays.core.columns import from_arrow
from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.performance import FORECAST
from flight_delays.core.profiles import Bins, Profile, profile_of
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.platform.delta import Tables, collected, digest
from flight_delays.platform.outcomes import DIGEST, features_known, forecasts

TURNED_OUT = (FORECAST, LABEL)
"""Columns whose rows come in later than those of features, and which have no nulls: what is not known has no row."""

_PROFILES = pa.schema(
    [
        *((DAY, pa.date32()), ("column_name", pa.string()), ("rows", pa.int64()), ("counts", pa.list_(pa.int64()))),
        *(("lowest", pa.float64()), ("mean", pa.float64()), ("highest", pa.float64())),
    ]
)
_KEY = ("model_name", "model_version", DAY, "column_name")
ByDay = Mapping[str, Mapping[date, Profile]]


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """Rows of features by day, how many keys they have, and the profile of each column by day."""

    rows: Mapping[date, int]
    distinct: Mapping[date, int]
    profiles: ByDay


def profiled(
    tables: Tables,
    use_case: UseCase,
    bins: Sequence[Bins],
    *,
    model_name: str,
    version: int,
    first: date,
    last: date,
    as_of: datetime,
) -> Profiled:
    """Bring table profiles up to date for the days from `first` to `last`, and return them.

    Only days whose rows are others than when they were counted are counted again.
    """
    of_version = (F.col("model_name") == model_name) & (F.col("model_version") == version)
    within = F.col(DAY).between(F.lit(first), F.lit(last))
    known = tables.read("profiles").where(of_version & within)
    before = collected(known)

    def features(days: Column) -> DataFrame:
        return features_known(tables, as_of).where(days)

    def turned_out(days: Column) -> DataFrame:
        made = forecasts(tables, use_case, model_name, as_of, days)
        return made.where(F.col("model_version") == version).select(DAY, *TURNED_OUT)

    rows = collected(_digests(features(within), KEY))
    later = collected(_digests(turned_out(within)))
    given, late = ([one for one in bins if (one.column in TURNED_OUT) is after] for after in (False, True))
    new = [*_counted(features, rows, before, given), *_counted(turned_out, later, before, late)]
    if new:
        same = {"model_name": model_name, "model_version": version, "as_of": as_of}
        schema = to_arrow_schema(known.schema)
        written = pa.Table.from_pylist([{**row, **same} for row in new], schema)
        tables.upsert("profiles", tables.spark.createDataFrame(written), key=_KEY)
    by_column: dict[str, dict[date, Profile]] = {}
    for row in (*before, *new):  # what is new stands
        profile = Profile(
            day=row[DAY],
            column=row["column_name"],
            counts=tuple(row["counts"]),
            **{name: row[name] for name in ("lowest", "mean", "highest")},
        )
        by_column.setdefault(profile.column, {})[profile.day] = profile
    return Profiled(
        rows={row[DAY]: row["rows"] for row in rows},
        distinct={row[DAY]: row["distinct"] for row in rows},
        profiles=by_column,
    )


def _digests(frame: DataFrame, key: Sequence[str] = ()) -> DataFrame:
    """By day: rows, distinct keys if there is a key, and a digest of all values, whatever their order."""
    distinct = [F.count_distinct(*key).alias("distinct")] if key else []
    return (
        frame.withColumn("_digest", digest(frame, frame.columns))
        .groupBy(DAY)
        .agg(F.count(F.lit(1)).alias("rows"), *distinct, F.bit_xor("_digest").alias(DIGEST))
    )


def _counted(
    rows_of: Callable[[Column], DataFrame],
    found: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    bins: Sequence[Bins],
) -> list[dict[str, Any]]:
    """Profiles, with their digest, of the days that were `found` to have another digest than before."""
    columns = {one.column for one in bins}
    known = {row[DAY]: row[DIGEST] for row in before if row["column_name"] in columns}
    due = {row[DAY]: row[DIGEST] for row in found if known.get(row[DAY]) != row[DIGEST]}
    if not due:
        return []
    some = rows_of(F.col(DAY).isin([*due]))
    counts = some.groupBy(DAY).applyInArrow(_count(bins), from_arrow_schema(_PROFILES)).toArrow()
    return [{**row, DIGEST: due[row[DAY]]} for row in counts.to_pylist()]


def _count(bins: Sequence[Bins]) -> Callable[[pa.Table], pa.Table]:
    def count(group: pa.Table) -> pa.Table:
        columns = from_arrow(group, [one.column for one in bins if one.column in group.schema.names])
        for name in TURNED_OUT:
            if name in columns:
                columns[name] = columns[name][~np.isnan(columns[name])]
        found = profile_of(group[DAY][0].as_py(), bins, columns)
        rows = [{**asdict(one), "column_name": one.column, "rows": one.rows} for one in found]
        return pa.Table.from_pylist(rows, _PROFILES)

    return count
