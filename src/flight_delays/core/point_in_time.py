"""What was known when: the join in time that training, batch and stream share."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial, reduce

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
    once per `by`, an event is sorted to where it becomes usable, and a running maximum or total answers. A span is
    added where it starts and taken away where it ends: whole numbers, because those of decimals would not come back to
    0. Events come before the questions of the same instant: what is known exactly at T is known.
    """
    so_far = (
        Window.partitionBy("_by", "_key")
        .orderBy("_time", F.col("_id").isNotNull())
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    placed = _placed(questions)
    running = {question.column: F.max(question.column) for question in placed if isinstance(question.of, Newest)} | {
        f"_sum_{slot}": F.sum(f"_sum_{slot}") for slot in range(_slots(placed))
    }
    rows = reduce(
        partial(DataFrame.unionByName, allowMissingColumns=True), _events(placed, since), _asked(spine, placed, at)
    )
    answered = (
        rows.withColumns({name: total.over(so_far) for name, total in running.items()})
        .where("_id IS NOT NULL")
        .repartition("_id")  # the narrow rows, rather than the wide ones that the aggregation makes of them
        .groupBy("_id")
        .agg(
            F.first("_spine", ignorenulls=True).alias("_spine"),
            *(column for question in placed for column in _answers(question)),
        )
    )
    names = (name for question in questions for name in _names(question))
    return answered.select("_spine.*", *names)


@dataclass(frozen=True)
class _Placed:
    """A question, its number, the number of its `by` among all, and its first place among the sums of that `by`."""

    number: int
    by: int
    slot: int
    of: Newest | Sums

    @property
    def column(self) -> str:
        return f"_newest_{self.number}"


def _placed(questions: Sequence[Newest | Sums]) -> list[_Placed]:
    """Questions of one `by` share rows: a row of the spine asks them together."""
    bys = list(dict.fromkeys(question.by for question in questions))
    used, placed = dict.fromkeys(bys, 0), []
    for number, question in enumerate(questions):
        placed.append(_Placed(number, bys.index(question.by), used[question.by], question))
        used[question.by] += len(question.sums) if isinstance(question, Sums) else 0
    return placed


def _slots(placed: Sequence[_Placed]) -> int:
    return max((one.slot + len(one.of.sums) for one in placed if isinstance(one.of, Sums)), default=0)


def _names(question: Newest | Sums) -> Iterable[str]:
    return question.values if isinstance(question, Newest) else question.sums


def _asked(spine: DataFrame, placed: Sequence[_Placed], at: str) -> DataFrame:
    """Each row of the spine once per `by`; the first carries the row itself."""
    bys = {one.by: one.of.by for one in placed}
    asked = [F.struct(F.lit(number).alias("_by"), _key(by)) for number, by in bys.items()]
    rows = spine.select(
        F.monotonically_increasing_id().alias("_id"),
        F.col(at).alias("_time"),
        F.struct("*").alias("_spine"),
        F.array(*asked).alias("_asked"),
    )
    return rows.select("_id", "_time", "_spine", F.explode("_asked").alias("_asked")).select(
        "_id", "_time", "_asked.*", F.when(F.col("_asked._by") == 0, F.col("_spine")).alias("_spine")
    )


def _events(placed: Sequence[_Placed], since: datetime | None) -> Iterator[DataFrame]:
    """When the running maximum or total of a question changes: `_by`, `_key`, `_time` and what comes in."""
    spans: dict[int, list[tuple[_Placed, Sums]]] = defaultdict(list)
    for one in placed:
        question = one.of
        if isinstance(question, Sums):
            spans[id(question.history)].append((one, question))
            continue
        event, known = F.col(question.event_time), F.col(question.known_time)
        newest = F.struct(event.alias("_event_time"), known.alias("_known_time"), *question.values)
        yield (
            question.history.where(event.isNotNull() & known.isNotNull())
            .select(
                F.lit(one.by).alias("_by"),
                _key(question.by),
                F.greatest(event, known).alias("_time"),
                newest.alias(one.column),
            )
            .where("_key IS NOT NULL")
        )
    for of_one in spans.values():
        yield _changes(of_one, _slots(placed), since)


def _changes(spans: Sequence[tuple[_Placed, Sums]], slots: int, since: datetime | None) -> DataFrame:
    """Where the spans of one history start, and where they end, in one reading of it."""
    changes, history = [], spans[0][1].history
    sums = history.select(*(value.alias(name) for _, question in spans for name, value in question.sums.items()))
    broken = [field.name for field in sums.schema if not isinstance(field.dataType, IntegralType)]
    if broken:
        raise TypeError(f"{', '.join(broken)}: only whole numbers are summed exactly; cast them to long")
    for one, question in spans:
        real = question.end.isNull() | (question.start < question.end)
        if since is not None:
            real &= question.end.isNull() | (question.end > F.lit(since))
        values = [F.lit(0).cast("long")] * slots
        values[one.slot : one.slot + len(question.sums)] = [
            F.coalesce(value.cast("long"), F.lit(0)) for value in question.sums.values()
        ]
        changes += [
            F.struct(
                F.lit(one.by).alias("_by"),
                _key(question.by),
                F.when(real & question.start.isNotNull(), moment).alias("_time"),
                *((sign * value).alias(f"_sum_{slot}") for slot, value in enumerate(values)),
            )
            for moment, sign in ((question.start, F.lit(1)), (question.end, F.lit(-1)))
        ]
    exploded = history.select(F.explode(F.array(*changes)).alias("_change")).select("_change.*")
    return exploded.where("_time IS NOT NULL AND _key IS NOT NULL")


def _answers(one: _Placed) -> Iterator[Column]:
    """The columns of one question, from the rows that ask it: one for each row of the spine."""
    question = one.of
    this = (F.col("_by") == one.by) & F.col("_key").isNotNull() & F.col("_time").isNotNull()
    if isinstance(question, Sums):
        for slot, name in enumerate(question.sums, one.slot):
            yield F.max(F.when(this, F.coalesce(F.col(f"_sum_{slot}"), F.lit(0)))).alias(name)
        return
    newest = F.col(one.column)
    if question.tolerance is not None:
        age = F.col("_time").cast("double") - newest["_event_time"].cast("double")
        this &= age <= question.tolerance.total_seconds()
    for value in question.values:
        yield F.first(F.when(this, newest[value]), ignorenulls=True).alias(value)


def _key(by: Sequence[str]) -> Column:
    """One text for the values of `by`; null if one of them is."""
    parts = [F.lit("\x1f") if at % 2 else F.col(by[at // 2]).cast("string") for at in range(2 * len(by) - 1)]
    return F.concat(*parts).alias("_key")
