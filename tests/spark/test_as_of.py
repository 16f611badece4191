"""The kernel on Spark gives what it gives in memory, however the work is split. On a fortnight of real flights."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import DataFrame, SparkSession
from tests.raw import raw_tables

from flight_delays.core.as_of import reach
from flight_delays.core.errors import UserError
from flight_delays.platform import spark_as_of as as_of
from flight_delays.platform.spark_as_of import build_features, recent
from flight_delays.use_case import USE_CASE

FEATURES = USE_CASE.features
Raw = dict[str, pa.Table]
START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 14, tzinfo=UTC)


def changed(rows: pa.Table, **values: object) -> pa.Table:
    """The rows with these values in all of them."""
    columns = {
        name: pa.array([values[name]] * len(rows), rows.schema.field(name).type) if name in values else rows[name]
        for name in rows.column_names
    }
    return pa.table(columns, schema=rows.schema)


def strange(flights: pa.Table) -> pa.Table:
    """Three flights with a null where a question has its key or its time."""
    nulls = ("tailnum", "origin", "known_at")
    return pa.concat_tables(
        [changed(flights.slice(at, 1), **{"flight_id": f"no {name}", name: None}) for at, name in enumerate(nulls)]
    )


@pytest.fixture(scope="module")
def raw() -> Raw:
    """The registry is published anew twice, with other seats, so that which row is the newest depends on the time."""
    tables = raw_tables(START, END)
    flights, planes = tables["raw_flights"], tables["raw_planes"]
    published = [
        changed(planes.slice(first, 2_000), known_at=datetime(2013, 1, day, tzinfo=UTC), seats=seats)
        for first, day, seats in ((0, 4, 1), (1_000, 9, 2))
    ]
    more = {"raw_flights": strange(flights), "raw_planes": pa.concat_tables(published)}
    return {**tables, **{name: pa.concat_tables([tables[name], rows]) for name, rows in more.items()}}


@pytest.fixture(scope="module")
def expected(raw: Raw) -> pa.Table:
    return FEATURES.build(raw["raw_flights"], raw)


@pytest.fixture(scope="module")
def frames(spark: SparkSession, raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataFrame]:
    folder = tmp_path_factory.mktemp("raw")
    for name, rows in raw.items():
        spark.createDataFrame(rows).write.parquet(str(folder / name))
    return {name: spark.read.parquet(str(folder / name)) for name in raw}


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int, int]]]:
    """Of each building: questions, chunks and buckets of its parts."""
    found, planned = [], as_of._planned

    def telling(*arguments: object) -> list[as_of._Part]:
        parts = planned(*arguments)
        found.append([(len(part.features.questions), len(part.chunks.starts), part.buckets) for part in parts])
        return parts

    monkeypatch.setattr(as_of, "_planned", telling)
    return found


def in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([("entity_id", "ascending"), ("prediction_ts", "ascending")])


def assert_same(found: DataFrame, expected: pa.Table) -> None:
    assert in_order(found.toArrow()).cast(expected.schema).equals(in_order(expected))


MB = 2**20


def test_spark_gives_what_the_kernel_gives_in_memory(
    frames: dict[str, DataFrame], expected: pa.Table, plans: list[list[tuple[int, int, int]]]
) -> None:
    assert_same(build_features(FEATURES, frames["raw_flights"], frames), expected)
    (((questions, chunks, buckets),),) = plans
    assert (questions, buckets) == (len(FEATURES.questions), 1)
    assert chunks > 1


def test_a_look_back_that_does_not_fit_is_answered_by_chunks_of_its_keys(
    frames: dict[str, DataFrame], expected: pa.Table, plans: list[list[tuple[int, int, int]]]
) -> None:
    assert_same(build_features(FEATURES, frames["raw_flights"], frames, bound=6 * MB), expected)
    together, *apart = plans[0]
    assert apart and all(questions == 1 and buckets > 1 for questions, _, buckets in apart)
    assert together[0] + len(apart) == len(FEATURES.questions)


def test_a_key_that_does_not_fit_is_refused_with_the_name_of_the_question(frames: dict[str, DataFrame]) -> None:
    with pytest.raises(UserError) as error:
        build_features(FEATURES, frames["raw_flights"], frames, bound=40_000)
    assert str(error.value) == (
        "features: number_arrivals_28d_flights: the history of one carrier, flight within 28 days, 0:00:00 does not "
        "fit in 0.0381 MB; shorten its look-back, or raise the bound"
    )


def test_rows_of_one_identity_come_out_as_often_as_they_came_in(frames: dict[str, DataFrame]) -> None:
    some = frames["raw_flights"].where("known_at < '2013-01-02'")
    twice = some.unionByName(some)
    found = build_features(FEATURES, twice, frames, bound=6 * MB)
    assert found.count() == twice.count()
    assert found.distinct().count() == some.count()


def test_nobody_asking_gives_no_rows_of_the_same_columns(frames: dict[str, DataFrame], expected: pa.Table) -> None:
    found = build_features(FEATURES, frames["raw_flights"].where("false"), frames).toArrow()
    assert found.num_rows == 0
    assert found.schema.names == expected.schema.names


def test_history_that_is_empty_answers_with_nulls_and_zeros(frames: dict[str, DataFrame], raw: Raw) -> None:
    nothing = {name: rows.where("false") for name, rows in frames.items()}
    empty = {name: rows.slice(0, 0) for name, rows in raw.items()}
    few = raw["raw_flights"].slice(0, 5)
    found = build_features(FEATURES, frames["raw_flights"].sparkSession.createDataFrame(few), nothing)
    assert_same(found, FEATURES.build(few, empty))


def test_who_asks_about_an_early_day_of_a_long_history_gets_the_same(
    frames: dict[str, DataFrame], expected: pa.Table
) -> None:
    early = frames["raw_flights"].where("known_at < '2013-01-02'")
    found = build_features(FEATURES, early, frames, bound=6 * MB)
    assert_same(found, expected.filter(pc.field("prediction_ts") < pa.scalar(datetime(2013, 1, 2, tzinfo=UTC))))


def test_recent_history_is_all_that_those_who_ask_late_need(frames: dict[str, DataFrame], raw: Raw) -> None:
    since = datetime(2013, 1, 13, tzinfo=UTC)
    days = [one for one in FEATURES.questions if (reach(one) or timedelta(0)) <= timedelta(days=2)]
    short = replace(FEATURES, questions=tuple(days))
    asking = raw["raw_flights"].filter(pc.field("known_at") >= pa.scalar(since))
    history = {name: rows.toArrow() for name, rows in recent(short, frames, since).items()}
    assert history["raw_flights"].num_rows < raw["raw_flights"].num_rows / 2
    assert short.answered(asking, history).equals(short.answered(asking, raw))
