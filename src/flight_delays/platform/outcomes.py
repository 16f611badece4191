"""What was forecast, beside what became of it: predictions with the day, the label and the features of each."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.columns import one_array, to_pandas
from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME
from flight_delays.core.objective import Objective
from flight_delays.core.performance import (
    FORECAST,
    FORECAST_AT,
    LATENCY,
    OUTCOME_KNOWN_AT,
    PREDICTION_ID,
    SCORED_AT,
    in_order,
    quality,
)
from flight_delays.core.use_case import KNOWN_AT, LABEL, LABEL_KNOWN_AT, UseCase
from flight_delays.platform.delta import Tables, digest

GROUP = ("model_version", "source", DAY)
DIGEST = "digest"
FEATURES_AT, _FEATURES = "features_at", "features"
_MEASURED = pa.schema(
    [
        *(("model_version", pa.int32()), ("source", pa.string()), (DAY, pa.date32())),
        *(("dimension", pa.string()), ("slice", pa.string()), ("rows", pa.int64()), ("labelled", pa.int64())),
        *(("loss", pa.float64()), ("calibration", pa.float64()), ("metrics", pa.map_(pa.string(), pa.float64()))),
        *(("confidence", pa.float64()), ("answers", pa.int64())),
        *(("mean_latency_ms", pa.float64()), ("p95_latency_ms", pa.float64())),
    ]
)
Slices = Callable[[pd.DataFrame], Mapping[str, npt.NDArray[np.str_]]]


def predictions_made(tables: Tables, use_case: UseCase, model_name: str, as_of: datetime) -> DataFrame:
    """All that versions of the model forecast by `as_of`, a challenger's beside the champion too.

    Columns prediction_id, entity_id, forecast_at, scored_at, model_version, source, forecast and response_time_ms.
    """
    rows = tables.read("predictions").unionByName(tables.read("shadow_predictions"))
    by_now = (F.col(SCORED_AT) <= F.lit(as_of)) & (F.col(PREDICTION_TIME) <= F.lit(as_of))
    return rows.where((F.col("model_name") == model_name) & by_now).select(
        *(PREDICTION_ID, ENTITY, F.col(PREDICTION_TIME).alias(FORECAST_AT), SCORED_AT, "model_version", "source"),
        *(F.col(use_case.objective.forecast).alias(FORECAST), LATENCY),
    )


def features_known(tables: Tables, as_of: datetime) -> DataFrame:
    """The rows of features known by `as_of`."""
    return tables.read("features").where(F.col(PREDICTION_TIME) <= F.lit(as_of))


def outcomes(tables: Tables, as_of: datetime) -> DataFrame:
    """What is known of each entity by `as_of`: the label as corrected last, and when an outcome was first known.

    Columns entity_id, label, label_known_at, label_day and outcome_known_at.
    """
    known = tables.read("labels").where(F.col(KNOWN_AT) <= F.lit(as_of))
    return known.groupBy(ENTITY).agg(
        F.max_by(LABEL, KNOWN_AT).alias(LABEL),
        F.max(KNOWN_AT).alias(LABEL_KNOWN_AT),
        F.max_by(DAY, KNOWN_AT).alias("label_day"),
        F.min(KNOWN_AT).alias(OUTCOME_KNOWN_AT),
    )


def forecasts(
    tables: Tables, use_case: UseCase, model_name: str, as_of: datetime, days: Column | None = None
) -> DataFrame:
    """`predictions_made` with `outcomes`, and the `day` and `features_at` of the row of features that each is about.

    A batch and the stream name that row. A request does not: it is the entity's newest row at that time, else the first
    after it. Without any, the day is the label's, and null without a label. With `days`, a condition on `day`, those of
    such days; only entities that have a row or a label of one are looked at.
    """
    made, known = predictions_made(tables, use_case, model_name, as_of), outcomes(tables, as_of)
    columns, features = made.columns, features_known(tables, as_of)
    row = F.struct(F.col(PREDICTION_TIME).alias("at"), F.col(DAY).alias("on"))
    rows = features.select(ENTITY, row.alias("_row"))
    if days is not None:
        some, labelled = (each.where(days).select(ENTITY) for each in (features, tables.read("labels")))
        made, known, rows = (each.join(some.union(labelled), ENTITY, "left_semi") for each in (made, known, rows))
    earlier = F.when(F.col("_row.at") <= F.col(FORECAST_AT), F.col("_row"))
    about = (
        made.join(rows, ENTITY, "left").groupBy(*columns).agg(F.coalesce(F.max(earlier), F.min("_row")).alias("_row"))
    )
    found = about.join(known, ENTITY, "left").select(
        *columns,
        F.coalesce("_row.on", "label_day").alias(DAY),
        F.col("_row.at").alias(FEATURES_AT),
        *(LABEL, LABEL_KNOWN_AT, OUTCOME_KNOWN_AT),
    )
    return found if days is None else found.where(days)


def digests(forecasts: DataFrame, complete: Column) -> DataFrame:
    """Columns of GROUP, how many forecasts, and a digest of what these rest on, whatever their order."""
    parts = [PREDICTION_ID, FORECAST, LABEL, LABEL_KNOWN_AT, FEATURES_AT]
    one = digest(forecasts.withColumn("_complete", complete), [*parts, "_complete"])
    return (
        forecasts.withColumn("_complete", complete)
        .groupBy(*GROUP)
        .agg(F.count(F.lit(1)).alias("forecasts"), F.bit_xor(one).alias(DIGEST))
    )


def measured(tables: Tables, use_case: UseCase, forecasts: DataFrame, as_of: datetime, days: Column) -> pa.Table:
    """`quality` of each group of the forecasts, as columns of table performance; a group is held by one worker.

    `days` is a condition on the `day` of all of them.
    """
    features = features_known(tables, as_of).where(days)
    about = features.select(ENTITY, F.col(PREDICTION_TIME).alias(FEATURES_AT), F.struct("*").alias(_FEATURES))
    rows = forecasts.join(about, [ENTITY, FEATURES_AT], "left")
    return (
        rows.groupBy(*GROUP)
        .applyInArrow(_measure(use_case.objective, use_case.slices), from_arrow_schema(_MEASURED))
        .toArrow()
    )


def _measure(objective: Objective, slices: Slices) -> Callable[[pa.Table], pa.Table]:
    def measure(group: pa.Table) -> pa.Table:
        rows = in_order(to_pandas(group.drop_columns([_FEATURES])).assign(_at=np.arange(group.num_rows)))
        order = rows["_at"].to_numpy()
        about = one_array(group[_FEATURES]).take(pa.array(order))
        there = about.is_valid().to_numpy(zero_copy_only=False)
        values: dict[str, npt.NDArray[np.object_]] = {}
        if there.any():
            known = pa.Table.from_struct_array(about.filter(pa.array(there)))
            for dimension, of_known in slices(to_pandas(known)).items():
                values[dimension] = np.full(len(rows), None, dtype=object)
                values[dimension][there] = of_known
        group_of = {name: group[name][0].as_py() for name in GROUP}
        found = [group_of | asdict(one) for one in quality(objective, rows, values)]
        return pa.Table.from_pylist(found, _MEASURED)

    return measure
