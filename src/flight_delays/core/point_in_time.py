"""What was known when: the join in time that training, batch and stream share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial, reduce
from itertools import groupby

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType


@dataclass(frozen=True, kw_only=True)
class Newest:
    """`values` of the newest row of `history` with equal `by` that was usable at T.

    A row is usable at T if its event time and its known time are both <= T and, with a `tolerance`, its event time is
    >= T - tolerance. The newest event time wins; between equal ones the row known last (a correction), then the greater
    values. Nothing usable gives nulls.
    """

    history: DataFrame
    by: tuple[str, ...]
    event_time: str
    known_time: str
    values: tuple[str, ...]
    tolerance: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums of whole numbers over the rows of `history` with equal `by` that cover T: `start` <= T < `end`.

    A null end is never reached, a null start never comes. So "in the last N hours" is a span of N hours that starts
    when the row was known, and "scheduled, but not known to have left" is a span from the one moment to the other. No
    row gives 0.
    """

    history: DataFrame
    by: tuple[str, ...]
    start: Column
    end: Column
    sums: Mapping[str, Column]


def as_of_join(
    spine: DataFrame, questions: Sequence[Newest | Sums], *, at: str, since: datetime | None = None
) -> DataFrame:
    """Every row of `spine`, once, with the answers to all questions as of its time `at`, under their names.

    A null in `by` or `at` gives nulls. Who knows that no row asks of a time before `since` says so: spans that were
    over by then are left out of the sort. Raises TypeError for sums of anything but whole numbers.

    All questions share one sort, n log n, in which no row is compared with every other: each row of the spine asks
    each question once, an event is sorted to where it becomes usable, and a running maximum or total answers. A span is
    added where it starts and taken away where it ends: whole numbers, because those of decimals would not come back to
    0. Events come before the questions of the same instant: what is known exactly at T is known.
    """
    so_far = (
        Window.partitionBy("_question", "_key")
        .orderBy("_time", F.col("_id").isNotNull())
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    newest = [at for at, question in enumerate(questions) if isinstance(question, Newest)]
    slots = range(max((len(question.sums) for question in questions if isinstance(question, Sums)), default=0))
    running = {f"_newest_{at}": F.max(f"_newest_{at}") for at in newest} | {
        f"_sum_{slot}": F.sum(f"_sum_{slot}") for slot in slots
    }
    rows = reduce(
        partial(DataFrame.unionByName, allowMissingColumns=True),
        _events(questions, since),
        _asked(spine, questions, at),
    )
    answered = (
        rows.withColumns({name: total.over(so_far) for name, total in running.items()})
        .where("_id IS NOT NULL")
        .repartition("_id")  # the narrow rows, rather than the wide ones that the aggregation makes of them
        .groupBy("_id")
        .agg(
            F.first("_spine", ignorenulls=True).alias("_spine"),
            *(column for number, question in enumerate(questions) for column in _answers(number, question)),
        )
    )
    names = (
        name for question in questions for name in (question.values if isinstance(question, Newest) else question.sums)
    )
    return answered.select("_spine.*", *names)


def _asked(spine: DataFrame, questions: Sequence[Newest | Sums], at: str) -> DataFrame:
    """Each row of the spine once per question; the first carries the row itself."""
    asked = [F.struct(F.lit(number).alias("_question"), _key(question.by)) for number, question in enumerate(questions)]
    rows = spine.select(
        F.monotonically_increasing_id().alias("_id"),
        F.col(at).alias("_time"),
        F.struct("*").alias("_spine"),
        F.array(*asked).alias("_asked"),
    )
    return rows.select("_id", "_time", "_spine", F.explode("_asked").alias("_asked")).select(
        "_id", "_time", "_asked.*", F.when(F.col("_asked._question") == 0, F.col("_spine")).alias("_spine")
    )


def _events(questions: Sequence[Newest | Sums], since: datetime | None) -> Iterator[DataFrame]:
    """When the running maximum or total of a question changes: `_question`, `_key`, `_time` and what comes in."""
    spans = []
    for number, question in enumerate(questions):
        if isinstance(question, Sums):
            spans.append((number, question))
            continue
        event, known = F.col(question.event_time), F.col(question.known_time)
        newest = F.struct(event.alias("_event_time"), known.alias("_known_time"), *question.values)
        yield (
            question.history.where(event.isNotNull() & known.isNotNull())
            .select(
                F.lit(number).alias("_question"),
                _key(question.by),
                F.greatest(event, known).alias("_time"),
                newest.alias(f"_newest_{number}"),
            )
            .where("_key IS NOT NULL")
        )
    for _, of_one in groupby(sorted(spans, key=lambda pair: id(pair[1].history)), key=lambda pair: id(pair[1].history)):
        yield _changes(list(of_one), since)


def _changes(spans: Sequence[tuple[int, Sums]], since: datetime | None) -> DataFrame:
    """Where the spans of one history start, and where they end, in one reading of it."""
    changes, history = [], spans[0][1].history
    sums = history.select(*(value.alias(name) for _, question in spans for name, value in question.sums.items()))
    broken = [field.name for field in sums.schema if not isinstance(field.dataType, IntegralType)]
    if broken:
        raise TypeError(f"{', '.join(broken)}: only whole numbers are summed exactly; cast them to long")
    slots = max(len(question.sums) for _, question in spans)
    for number, question in spans:
        real = question.end.isNull() | (question.start < question.end)
        if since is not None:
            real &= question.end.isNull() | (question.end > F.lit(since))
        values = [F.coalesce(value.cast("long"), F.lit(0)) for value in question.sums.values()]
        values += [F.lit(0).cast("long")] * (slots - len(values))
        changes += [
            F.struct(
                F.lit(number).alias("_question"),
                _key(question.by),
                F.when(real & question.start.isNotNull(), moment).alias("_time"),
                *((sign * value).alias(f"_sum_{slot}") for slot, value in enumerate(values)),
            )
            for moment, sign in ((question.start, F.lit(1)), (question.end, F.lit(-1)))
        ]
    exploded = history.select(F.explode(F.array(*changes)).alias("_change")).select("_change.*")
    return exploded.where("_time IS NOT NULL AND _key IS NOT NULL")


def _answers(number: int, question: Newest | Sums) -> Iterator[Column]:
    """The columns of one question, from the rows that ask it: one for each row of the spine."""
    this = (F.col("_question") == number) & F.col("_key").isNotNull() & F.col("_time").isNotNull()
    if isinstance(question, Sums):
        for slot, name in enumerate(question.sums):
            yield F.max(F.when(this, F.coalesce(F.col(f"_sum_{slot}"), F.lit(0)))).alias(name)
        return
    newest = F.col(f"_newest_{number}")
    if question.tolerance is not None:
        age = F.col("_time").cast("double") - newest["_event_time"].cast("double")
        this &= age <= question.tolerance.total_seconds()
    for value in question.values:
        yield F.first(F.when(this, newest[value]), ignorenulls=True).alias(value)


def _key(by: Sequence[str]) -> Column:
    """One text for the values of `by`; null if one of them is."""
    parts = [F.lit("\x1f") if at % 2 else F.col(by[at // 2]).cast("string") for at in range(2 * len(by) - 1)]
    return F.concat(*parts).alias("_key")
