"""What was known when: the as-of join that training, batch and stream share."""

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def as_of_join(
    spine: DataFrame,
    history: DataFrame,
    *,
    by: Sequence[str],
    at: str,
    event_time: str,
    known_time: str,
    values: Sequence[str],
    tolerance: timedelta | None = None,
) -> DataFrame:
    """Every row of `spine`, once, with `values` of the newest row of `history` that was usable at its time `at`.

    A row of history is usable at T if its event time and its known time are both <= T and, with a `tolerance`, its
    event time is >= T - tolerance. The newest event time wins; between equal ones the row known last (a correction),
    then the greater values. Nothing usable, or a null in `by` or `at`, gives nulls. One sort of both inputs together,
    n log n: no row is compared with every other.
    """
    usable_from = F.greatest(event_time, known_time)
    candidate = F.struct(F.col(event_time).alias("_event_time"), F.col(known_time).alias("_known_time"), *values)
    events = history.where(F.col(event_time).isNotNull() & F.col(known_time).isNotNull()).select(
        *by,
        usable_from.alias("_time"),
        F.lit(0).alias("_is_spine"),
        candidate.alias("_candidate"),
    )
    questions = spine.select(
        *by, F.col(at).alias("_time"), F.lit(1).alias("_is_spine"), F.struct(*spine.columns).alias("_spine")
    )
    # Events sort before the spine's rows of the same instant: known exactly at T is known.
    up_to_now = (
        Window.partitionBy(*by).orderBy("_time", "_is_spine").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    joined = (
        questions.unionByName(events, allowMissingColumns=True)
        .withColumn("_newest", F.max("_candidate").over(up_to_now))
        .where("_is_spine = 1")
    )
    recent = F.lit(True)
    if tolerance is not None:
        age = F.col("_time").cast("double") - F.col("_newest._event_time").cast("double")
        recent = age <= tolerance.total_seconds()
    has_key = F.lit(True)
    for key in by:
        has_key = has_key & F.col(key).isNotNull()
    return joined.select(
        "_spine.*", *(F.when(recent & has_key, F.col(f"_newest.{value}")).alias(value) for value in values)
    )
