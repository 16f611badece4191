"""Two versions on the same entities, day by day: what a rollout's clock of quality looks at."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.columns import to_pandas
from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME
from flight_delays.core.objective import Objective
from flight_delays.core.performance import (
    CHALLENGER,
    CHAMPION,
    FORECAST,
    FORECAST_AT,
    OUTCOME_KNOWN_AT,
    PREDICTION_ID,
    SCORED_AT,
    paired,
)
from flight_delays.core.quality import PairedDay
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.platform.delta import Tables
from flight_delays.platform.outcomes import features_known, outcomes, predictions_made

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
    """Both versions' losses on the entities that both scored, by day.

    Only rows that both scored as of the same time, from `since` on, and days that ended at least the use case's
    maturity before `as_of`: before that the outcomes that take long are missing, and a day would change later.
    Rows are put together and compared by Spark's workers, a day by one of them; what comes back is a row per day.
    """

    def by(version: int, name: str) -> DataFrame:
        ours = made.where((F.col("model_version") == version) & F.col("source").isin("batch", "shadow"))
        return ours.groupBy(ENTITY, FORECAST_AT).agg(F.max_by(FORECAST, F.struct(SCORED_AT, PREDICTION_ID)).alias(name))

    made = predictions_made(tables, use_case, model_name, as_of).where(F.col(FORECAST_AT) >= F.lit(since))
    days = features_known(tables, as_of).select(ENTITY, F.col(PREDICTION_TIME).alias(FORECAST_AT), DAY)
    pairs = (
        by(champion, CHAMPION)
        .join(by(challenger, CHALLENGER), [ENTITY, FORECAST_AT])
        .join(days.where(F.col(DAY) < F.lit(use_case.holdout(as_of, 1).end)), [ENTITY, FORECAST_AT])
        .join(outcomes(tables, as_of), ENTITY, "left")
        .select(DAY, ENTITY, FORECAST_AT, LABEL, OUTCOME_KNOWN_AT, CHAMPION, CHALLENGER)
    )
    found = pairs.groupBy(DAY).applyInArrow(_pair(use_case.objective), from_arrow_schema(_PAIRED)).toArrow()
    rows = found.sort_by(DAY).to_pylist(maps_as_pydicts="strict")
    return [PairedDay(**row) for row in rows]


def _pair(objective: Objective) -> Callable[[pa.Table], pa.Table]:
    def pair(group: pa.Table) -> pa.Table:
        found = paired(objective, group[DAY][0].as_py(), to_pandas(group))
        return pa.Table.from_pylist([asdict(found)], _PAIRED)

    return pair
