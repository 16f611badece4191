"""What is counted while it lasts. Times are minutes after some midnight; all hand-made cases share one Spark job."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.point_in_time import Sums, as_of_join

# Each example is a batch of cases, hence one Spark job.
BATCHES = settings(
    max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
)
Minute = int | None


@dataclass(frozen=True)
class Span:
    """Counts from `start` up to before `end`."""

    start: Minute
    end: Minute
    value: int | None = 1
    key: str | None = "JFK"


@dataclass(frozen=True)
class Case:
    """A question at time `at`, the spans it is asked of, and the sum over those that cover it."""

    at: Minute
    spans: tuple[Span, ...]
    total: int | None = 0
    key: str | None = "JFK"


CASES = {
    "none": Case(100, (), 0),
    "a span that has not begun": Case(100, (Span(101, 200),), 0),
    "a span that begins at T": Case(100, (Span(100, 200),), 1),
    "a span around T": Case(100, (Span(99, 101),), 1),
    "a span that ends at T": Case(100, (Span(50, 100),), 0),
    "a span that has ended": Case(100, (Span(50, 99),), 0),
    "spans add up": Case(100, (Span(0, 200, 5), Span(99, 101, -7), Span(0, 50, 100)), -2),
    "one ends where the next begins": Case(100, (Span(0, 100, 5), Span(100, 200, 7)), 7),
    "equal spans both count": Case(100, (Span(0, 200, 5), Span(0, 200, 5)), 10),
    "a null value adds nothing": Case(100, (Span(0, 200, None), Span(0, 200, 5)), 5),
    "without an end it never ends": Case(100, (Span(0, None, 5),), 5),
    "without a start it never begins": Case(100, (Span(None, 200, 5), Span(None, None, 5)), 0),
    "a span of no length covers nothing": Case(100, (Span(100, 100, 5),), 0),
    "nor does one that ends before it begins": Case(100, (Span(150, 50, 5),), 0),
    "another key": Case(100, (Span(0, 200, key="LGA"),), 0),
    "a null key is no key": Case(100, (Span(0, 200, key=None),), None, key=None),
    "a null time has no sum": Case(None, (Span(0, 200),), None),
}


def answers(spark: SparkSession, cases: Sequence[Case], since: datetime | None = None) -> list[int | None]:
    """The sum for each case, and the number of spans as a second sum."""
    spine = [(number, case.key, case.at) for number, case in enumerate(cases)]
    spans = [(n, span.key, span.start, span.end, span.value) for n, case in enumerate(cases) for span in case.spans]
    covering = Sums(
        history=minutes(spark, spans, "case int, key string, start long, end long, total int", "start", "end"),
        by=("case", "key"),
        start=F.col("start"),
        end=F.col("end"),
        sums={"total": F.col("total"), "spans": F.lit(1)},
    )
    summed = as_of_join(minutes(spark, spine, "case int, key string, at long", "at"), [covering], at="at", since=since)
    rows = sorted(summed.collect(), key=lambda row: row["case"])
    assert [row["case"] for row in rows] == list(range(len(cases)))
    assert all((row["spans"] is None) == (row["total"] is None) for row in rows)
    return [row["total"] for row in rows]


def minutes(spark: SparkSession, rows: Sequence[tuple[object, ...]], schema: str, *times: str) -> DataFrame:
    frame = spark.createDataFrame(rows, schema)
    return frame.withColumns({time: F.timestamp_seconds(F.col(time) * 60) for time in times})


def oracle(case: Case) -> int | None:
    """The same answer by looking at every span."""
    if case.at is None or case.key is None:
        return None
    return sum(
        span.value or 0
        for span in case.spans
        if span.key == case.key
        and span.start is not None
        and span.start <= case.at
        and (span.end is None or case.at < span.end)
    )


@pytest.fixture(scope="module")
def answered(spark: SparkSession) -> dict[str, int | None]:
    return dict(zip(CASES, answers(spark, list(CASES.values())), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_sum_at_t_is_that_of_the_spans_that_cover_it(case: str, answered: dict[str, int | None]) -> None:
    assert answered[case] == CASES[case].total


@BATCHES
@given(random=st.randoms(use_true_random=True))
def test_it_agrees_with_looking_at_every_span(spark: SparkSession, random: Random) -> None:
    def one_of(*choices: object) -> object:
        return random.choice(choices)

    def span() -> Span:
        return Span(
            one_of(None, *range(6)), one_of(None, *range(8)), one_of(None, 1, -2, 3), one_of(None, "JFK", "LGA")
        )

    cases = [
        Case(
            at=one_of(None, *range(8)),
            key=one_of(None, "JFK", "LGA"),
            spans=tuple(span() for _ in range(random.randrange(7))),
        )
        for _ in range(400)
    ]
    assert answers(spark, cases) == [oracle(case) for case in cases]
    of_late = [case for case in cases if case.at is not None and case.at >= 4]
    assert answers(spark, of_late, datetime(1970, 1, 1, 0, 4, tzinfo=UTC)) == [oracle(case) for case in of_late]


def test_only_whole_numbers_are_summed(spark: SparkSession) -> None:
    spans = minutes(spark, [("JFK", 0, 9, 1.5)], "key string, start long, end long, delay double", "start", "end")
    spine = minutes(spark, [("JFK", 5)], "key string, at long", "at")
    delays = Sums(history=spans, by=("key",), start=F.col("start"), end=F.col("end"), sums={"delay": F.col("delay")})
    with pytest.raises(TypeError, match="delay: only whole numbers are summed exactly; cast them to long"):
        as_of_join(spine, [delays], at="at")
