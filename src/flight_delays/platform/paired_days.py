"""Two versions on the same entities, day by day: what a rollout's clock of quality looks at."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.columns import to_pandas
from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME
from flight_delays.core.objective import Objective
from flight_delays.core.performance import (
    FORECAST,
    FORECAST_AT,
    OUTCOME_KNOWN_AT,
    PREDICTION_ID,
    SCORED_AT,
    counted,
    in_order,
)
from flight_delays.core.quality import PairedDay, paired_day
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.platform.delta import Tables
from flight_delays.platform.outcomes import features_known, outcomes, predictions_made

_CHAMPION, _CHALLENGER = "champion", "challenger"
_PAIRED = pa.schema(
    [
        *((DAY, pa.date32()), ("rows", pa.int64()), ("labelled", pa.int64()), ("loss", pa.float64())),
        ("guardrails", pa.map_(pa.string(), pa.float64())),
    ]
)


def paired_days(
    tables: Tables,
    use_case: UseCase,
    model_name: str,
    *,
    champion: int,
    challenger: int,
    since: datetime,
    as_of: datetime,
) -> list[PairedDay]:
    """How much worse the challenger's forecasts turned out than the champion's, by day, for entities that both scored.

    Of table predictions batches count, and all of shadow_predictions: rows that both versions scored as of the same
    time, an entity once, by the newest before its outcome was known. Days are those after the one of `since` in the
    use case's zone, which was not all of it; a day of which no label is known by `as_of` is there too. Spark's workers
    put rows together and compare them, a day by one of them; what comes back is a row per day, in order.
    """

    def by(version: int, name: str) -> DataFrame:
        ours = made.where((F.col("model_version") == version) & F.col("source").isin("batch", "shadow"))
        return ours.groupBy(ENTITY, FORECAST_AT).agg(F.max_by(FORECAST, F.struct(SCORED_AT, PREDICTION_ID)).alias(name))

    made = predictions_made(tables, use_case, model_name, as_of)
    begun = since.astimezone(use_case.zone).date()
    days = features_known(tables, as_of).select(ENTITY, F.col(PREDICTION_TIME).alias(FORECAST_AT), DAY)
    pairs = (
        by(champion, _CHAMPION)
        .join(by(challenger, _CHALLENGER), [ENTITY, FORECAST_AT])
        .join(days.where(F.col(DAY) > F.lit(begun)), [ENTITY, FORECAST_AT])
        .join(outcomes(tables, as_of), ENTITY, "left")
        .select(DAY, ENTITY, FORECAST_AT, LABEL, OUTCOME_KNOWN_AT, _CHAMPION, _CHALLENGER)
    )
    found = pairs.groupBy(DAY).applyInArrow(_pair(use_case.objective), from_arrow_schema(_PAIRED)).toArrow()
    rows = found.sort_by(DAY).to_pylist(maps_as_pydicts="strict")
    return [PairedDay(**row) for row in rows]


def _pair(objective: Objective) -> Callable[[pa.Table], pa.Table]:
    def pair(group: pa.Table) -> pa.Table:
        rows = in_order(to_pandas(group))
        rows = rows[counted(rows)]
        labels, champion, challenger = (
            rows[name].to_numpy(dtype=np.float64) for name in (LABEL, _CHAMPION, _CHALLENGER)
        )
        found = paired_day(group[DAY][0].as_py(), labels, champion, challenger, objective)
        return pa.Table.from_pylist([asdict(found)], _PAIRED)

    return pair
