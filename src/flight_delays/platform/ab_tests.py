"""What two versions answered in an A/B test, by day, from table performance."""

import math
from datetime import datetime, timedelta

from pyspark.sql import functions as F

from flight_delays.core.ab_test import ABTest, Arm, Day
from flight_delays.core.feature_set import DAY
from flight_delays.core.performance import ALL
from flight_delays.core.use_case import UseCase
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.rollout_log import Logged

SERVED = "serving"
_NONE = Arm(rows=0, labelled=0, loss=None)


def ab_test_of(use_case: UseCase, logged: Logged, now: datetime) -> ABTest:
    """The one under way. Raises ValueError if none is."""
    state = logged.state
    if state.test_until is None:
        raise ValueError(f"version {logged.challenger} is not in an A/B test")
    return ABTest(
        model_name=logged.model_name,
        champion=logged.champion,
        challenger=logged.challenger,
        loss=use_case.objective.loss_name,
        share=state.percentage,
        days_left=max(math.ceil((state.test_until - now) / timedelta(days=1)), 0),
    )


def arms(tables: Tables, use_case: UseCase, test: ABTest, *, since: datetime) -> list[Day]:
    """Whole local days that began after `since` and whose outcomes are in."""
    first = since.astimezone(use_case.zone).date() + timedelta(days=1)
    rows = tables.read("performance").where(
        (F.col("model_name") == test.model_name)
        & F.col("model_version").isin(test.champion, test.challenger)
        & (F.col("source") == SERVED)
        & (F.col("dimension") == ALL)
        & (F.col(DAY) >= F.lit(first))
        & F.col("complete")
    )
    found = {
        (row[DAY], row["model_version"]): Arm(rows=row["rows"], labelled=row["labelled"], loss=row["loss"])
        for row in collected(rows.select(DAY, "model_version", "rows", "labelled", "loss"))
    }
    return [
        Day(
            day=day,
            champion=found.get((day, test.champion), _NONE),
            challenger=found.get((day, test.challenger), _NONE),
        )
        for day in sorted({day for day, _ in found})
    ]
