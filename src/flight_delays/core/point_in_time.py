"""What was known when: the joins in time that training, batch and stream share."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType


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
    joined = _up_to_now(spine, events, by, at, {"_newest": F.max("_candidate")})
    recent = F.lit(True)
    if tolerance is not None:
        age = F.col("_time").cast("double") - F.col("_newest._event_time").cast("double")
        recent = age <= tolerance.total_seconds()
    usable = recent & _complete(by)
    return joined.select("_spine.*", *(F.when(usable, F.col(f"_newest.{value}")).alias(value) for value in values))


def sums_over_spans(spine: DataFrame, spans: DataFrame, *, by: Sequence[str], at: str) -> DataFrame:
    """Every row of `spine`, once, with the sums over the rows of `spans` that cover its time `at`.

    A span has the columns `by`, `start` and `end` (timestamps), and whole numbers, which are summed under their names.
    It covers T if start <= T < end; a null end is never reached, a null start never comes. So "in the last N hours" is
    a span of N hours that starts when the row was known, and "scheduled, but not known to have left" is a span from the
    one moment to the other. A null in `by` or `at` gives nulls, no span a sum of 0. Each span is added where it starts
    and taken away where it ends, which makes a running total of one sort, n log n, whatever the length of the spans;
    whole numbers, because those of decimals would not come back to 0.
    """
    sums = [field for field in spans.schema if field.name not in (*by, "start", "end")]
    broken = [field.name for field in sums if not isinstance(field.dataType, IntegralType)]
    if broken:
        raise TypeError(f"{', '.join(broken)}: only whole numbers are summed exactly; cast them to long")
    real = spans.where(F.col("start").isNotNull() & (F.col("end").isNull() | (F.col("start") < F.col("end"))))
    changes = [
        real.where(F.col(moment).isNotNull()).select(
            *by,
            F.col(moment).alias("_time"),
            F.lit(0).alias("_is_spine"),
            *((sign * F.coalesce(F.col(field.name).cast("long"), F.lit(0))).alias(field.name) for field in sums),
        )
        for moment, sign in (("start", F.lit(1)), ("end", F.lit(-1)))
    ]
    totals = _up_to_now(
        spine, changes[0].unionByName(changes[1]), by, at, {field.name: F.sum(field.name) for field in sums}
    )
    known = _complete((*by, "_time"))
    return totals.select(
        "_spine.*", *(F.when(known, F.coalesce(F.col(field.name), F.lit(0))).alias(field.name) for field in sums)
    )


def _up_to_now(
    spine: DataFrame, events: DataFrame, by: Sequence[str], at: str, running: Mapping[str, Column]
) -> DataFrame:
    """`by`, `_time` and the whole row `_spine` of each row of `spine`, and aggregates over the events up to its time.

    Events have the columns `by`, `_time`, `_is_spine` = 0 and their own. They sort before the spine's rows of the same
    instant: what is known exactly at T is known.
    """
    questions = spine.select(*by, F.col(at).alias("_time"), F.lit(1).alias("_is_spine"), F.struct("*").alias("_spine"))
    so_far = (
        Window.partitionBy(*by).orderBy("_time", "_is_spine").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    return (
        questions.unionByName(events, allowMissingColumns=True)
        .withColumns({name: aggregate.over(so_far) for name, aggregate in running.items()})
        .where("_is_spine = 1")
    )


def _complete(names: Iterable[str]) -> Column:
    return reduce(Column.__and__, (F.col(name).isNotNull() for name in names))
