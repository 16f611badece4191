"""What was known when. Times are minutes after some midnight; all hand-made cases share one Spark job."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import pytest
from chispa import assert_df_equality
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.point_in_time import Newest, as_of_join

TOLERANCE = timedelta(minutes=30)
# Each example is a batch of cases, hence one Spark job: few, and none to make a failing batch smaller.
BATCHES = settings(
    max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
)
Minute = int | None


@dataclass(frozen=True)
class Past:
    """A row of history."""

    event: Minute
    known: Minute
    value: int | None
    key: str | None = "JFK"


@dataclass(frozen=True)
class Case:
    """A question at time `at`, the history it is asked of, and the value that was known."""

    at: Minute
    history: tuple[Past, ...]
    value: int | None = None
    key: str | None = "JFK"


CASES = {
    "a row of the past is taken": Case(100, (Past(90, 95, 1),), 1),
    "an event exactly at T counts": Case(100, (Past(100, 100, 1),), 1),
    "an event after T does not, even if known before": Case(100, (Past(101, 95, 1),), None),
    "a row known exactly at T counts": Case(100, (Past(90, 100, 1),), 1),
    "a row known after T does not": Case(100, (Past(90, 101, 1),), None),
    "the newest event wins": Case(100, (Past(80, 81, 1), Past(90, 91, 2), Past(85, 99, 3)), 2),
    "the newest event is not yet known: the one before it": Case(100, (Past(80, 81, 1), Past(90, 101, 2)), 1),
    "a correction of the same event wins once it is known": Case(100, (Past(90, 92, 9), Past(90, 99, 1)), 1),
    "and not before": Case(98, (Past(90, 92, 9), Past(90, 99, 1)), 9),
    "a late correction of an older event does not": Case(100, (Past(90, 91, 2), Past(80, 99, 1)), 2),
    "equal in both times: the greater value": Case(100, (Past(90, 95, 2), Past(90, 95, 1), Past(90, 95, None)), 2),
    "an event younger than the tolerance": Case(100, (Past(71, 71, 1),), 1),
    "an event exactly as old as the tolerance": Case(100, (Past(70, 71, 1),), 1),
    "an event older than the tolerance": Case(100, (Past(69, 99, 1),), None),
    "a null value of the newest row is the answer": Case(100, (Past(80, 81, 1), Past(90, 91, None)), None),
    "another key": Case(100, (Past(90, 95, 1, key="LGA"),), None),
    "a null key matches nothing, not even null": Case(100, (Past(90, 95, 1, key=None),), None, key=None),
    "a null time knows nothing": Case(None, (Past(90, 95, 1),), None),
    "an event without a time is never used": Case(100, (Past(None, 95, 1),), None),
    "nor one of which nobody says when it was known": Case(100, (Past(90, None, 1),), None),
    "no history": Case(100, (), None),
}


def answers(spark: SparkSession, cases: Sequence[Case], tolerance: timedelta | None = TOLERANCE) -> list[int | None]:
    """The value for each case; the case's number is a second key."""
    spine = [(number, case.key, case.at) for number, case in enumerate(cases)]
    history = [
        (number, past.key, past.event, past.known, past.value)
        for number, case in enumerate(cases)
        for past in case.history
    ]
    joined = as_of_join(
        minutes(spark, spine, "case int, key string, at long", "at"),
        [
            Newest(
                history=minutes(
                    spark, history, "case int, key string, event long, known long, value int", "event", "known"
                ),
                by=("case", "key"),
                event_time="event",
                known_time="known",
                values=("value",),
                tolerance=tolerance,
            )
        ],
        at="at",
    )
    rows = sorted(joined.collect(), key=lambda row: row["case"])
    assert [row["case"] for row in rows] == list(range(len(cases)))
    return [row["value"] for row in rows]


def minutes(spark: SparkSession, rows: Sequence[tuple[object, ...]], schema: str, *times: str) -> DataFrame:
    frame = spark.createDataFrame(rows, schema)
    return frame.withColumns({time: F.timestamp_seconds(F.col(time) * 60) for time in times})


def oracle(case: Case, tolerance: timedelta | None) -> int | None:
    """The same answer by looking at every row of history."""
    if case.at is None or case.key is None:
        return None
    usable = [
        past
        for past in case.history
        if past.key == case.key
        and past.event is not None
        and past.known is not None
        and max(past.event, past.known) <= case.at
        and (tolerance is None or timedelta(minutes=case.at - past.event) <= tolerance)
    ]
    newest = max(usable, key=lambda past: (past.event, past.known, past.value is not None, past.value), default=None)
    return newest.value if newest else None


def random_case(random: Random) -> Case:
    """Few times, keys and values, so that ties and edges are the rule."""

    def one_of(*choices: object) -> object:
        return random.choice(choices)

    def past() -> Past:
        return Past(one_of(None, *range(6)), one_of(None, *range(8)), one_of(None, 1, 2, 3), one_of(None, "JFK", "LGA"))

    return Case(
        at=one_of(None, *range(8)),
        key=one_of(None, "JFK", "LGA"),
        history=tuple(past() for _ in range(random.randrange(7))),
    )


@pytest.fixture(scope="module")
def answered(spark: SparkSession) -> dict[str, int | None]:
    return dict(zip(CASES, answers(spark, list(CASES.values())), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_value_known_at_t_is(case: str, answered: dict[str, int | None]) -> None:
    assert answered[case] == CASES[case].value


def test_every_row_of_the_spine_comes_back_once_and_untouched(spark: SparkSession) -> None:
    spine_columns = "origin string, tail string, at long, note string"
    spine = [
        ("JFK", "N1", 100, "twice"),
        ("JFK", "N1", 100, "twice"),
        ("JFK", "N1", 50, "too early"),
        ("JFK", "N2", 100, "other tail"),
        (None, "N1", 100, "half a key"),
        ("JFK", "N1", None, None),
    ]
    history = [("JFK", "N1", 90, 95, 7, "good"), ("JFK", "N1", 80, 99, 6, "older"), ("LGA", "N2", 90, 95, 5, "far")]
    joined = as_of_join(
        minutes(spark, spine, spine_columns, "at"),
        [
            Newest(
                history=minutes(
                    spark, history, "origin string, tail string, e long, k long, seats int, note2 string", "e", "k"
                ),
                by=("origin", "tail"),
                event_time="e",
                known_time="k",
                values=("seats", "note2"),
            )
        ],
        at="at",
    )
    known = {"twice": (7, "good")}
    expected = [(*row, *known.get(str(row[-1]), (None, None))) for row in spine]
    assert_df_equality(
        joined,
        minutes(spark, expected, f"{spine_columns}, seats int, note2 string", "at"),
        ignore_row_order=True,
        ignore_nullable=True,
    )


@BATCHES
@given(random=st.randoms(use_true_random=True), tolerance=st.sampled_from([None, 0, 1, 3]))
def test_it_agrees_with_looking_at_every_row(spark: SparkSession, random: Random, tolerance: int | None) -> None:
    cases = [random_case(random) for _ in range(400)]
    within = None if tolerance is None else timedelta(minutes=tolerance)
    assert answers(spark, cases, within) == [oracle(case, within) for case in cases]


@BATCHES
@given(random=st.randoms(use_true_random=True))
def test_whatever_becomes_known_after_t_changes_nothing_at_t(spark: SparkSession, random: Random) -> None:
    cases = [replace(random_case(random), at=random.randrange(8)) for _ in range(400)]

    def later(past: Past, at: int) -> Past:
        return replace(past, known=at + random.randrange(1, 4))

    def retold(case: Case) -> Case:
        """What was known at T as it was; anything else changed, left out or added."""
        known = [past for past in case.history if past.known is not None and past.known <= case.at]
        invented = [later(past, case.at) for past in random_case(random).history]
        return replace(case, history=tuple(known + invented))

    assert answers(spark, [retold(case) for case in cases]) == answers(spark, cases)
