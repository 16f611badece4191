"""Batch scoring: the champion's own answers, once per entity, under its number."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType
from tests.conftest import EXPERIMENT
from tests.contexts import make_context, printed
from tests.worlds import ROOT, dropped

from flight_delays.core.columns import UTC_TIME, to_pandas
from flight_delays.core.errors import UserError
from flight_delays.core.scoring import PREDICTIONS, inputs_of
from flight_delays.core.settings import ScoreBatch, ScoreShadow
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.online_table import ONLINE_STORE
from flight_delays.platform.precomputed import PREDICTIONS_TABLE, Prediction, find_prediction, predictions_store
from flight_delays.platform.registry import Registry, Training
from flight_delays.platform.scorer import load_model, read_scorer
from flight_delays.tasks import score_batch, score_shadow
from flight_delays.use_case import USE_CASE

BEFORE_THE_LAST_DAY = datetime(2013, 2, 19, 9, 59, 59, tzinfo=UTC)
LAST_DAY = datetime(2013, 2, 19, 10, tzinfo=UTC)
KEEP = ["entity_id", "prediction_ts"]
ANSWERS = ["probability", "prediction"]
TIME_ZONE = "spark.sql.session.timeZone"


@pytest.fixture
def features(tables: Tables, loaded: pd.DataFrame) -> DataFrame:
    return tables.read("features").where(F.col("entity_id").isin(list(loaded["entity_id"])))


@pytest.fixture
def context(
    tables: Tables,
    loaded: pd.DataFrame,  # noqa: ARG001
    registry: Registry,
) -> Iterator[Context]:
    yield make_context(as_of=BEFORE_THE_LAST_DAY, tables=tables, registry=registry)
    tables.spark.sql(f"DELETE FROM {tables.schema}.features WHERE entity_id RLIKE '^(picky|new since|looked up)'")


def test_spark_scores_as_the_model_itself_does_one_row_per_row(
    features: DataFrame, registry: Registry, new_version: Callable[..., int]
) -> None:
    number = new_version("same")
    visibility = F.when(F.hash("entity_id") % 3 != 0, F.col("weather_visib"))
    rows = features.withColumn("weather_visib", visibility).repartition(2)
    scored = predictions(registry, "same", number, rows).toPandas().sort_values("entity_id", ignore_index=True)
    given = rows.toPandas().sort_values("entity_id", ignore_index=True)
    assert given["weather_visib"].isna().sum() > 100
    expected = registry.load("same", number).predict(given[[*USE_CASE.inputs]])
    pd.testing.assert_frame_equal(scored[KEEP], given[KEEP])
    assert_answers(scored, expected)
    keys = scored["entity_id"] + scored["prediction_ts"].dt.strftime("|%Y-%m-%d %H:%M:%S") + f"|same|{number}|batch"
    assert scored["prediction_id"].tolist() == [sha256(key.encode()).hexdigest() for key in keys]


def predictions(registry: Registry, name: str, number: int, rows: DataFrame) -> DataFrame:
    scorer = read_scorer(registry, name, number)
    return scorer.predictions(rows, scored_at=LAST_DAY, source="batch", run_id="run")


def assert_answers(scored: pd.DataFrame, expected: pd.DataFrame) -> None:
    answers = scored[["probability", "prediction"]]
    pd.testing.assert_frame_equal(answers, expected, rtol=0, atol=1e-9, check_dtype=False)


def test_the_same_model_is_there_to_be_applied_in_this_process(
    features: DataFrame, registry: Registry, new_version: Callable[..., int]
) -> None:
    number = new_version("same")
    scorer, rows = read_scorer(registry, "same", number), features.toArrow()
    answers = load_model(scorer).score(inputs_of(scorer.signature, rows))
    assert_answers(pd.DataFrame(answers), registry.load("same", number).predict(to_pandas(rows)[[*USE_CASE.inputs]]))


def test_no_rows_are_no_predictions(features: DataFrame, registry: Registry, new_version: Callable[..., int]) -> None:
    scored = predictions(registry, "same", new_version("same"), features.limit(0))
    assert scored.columns == [*PREDICTIONS.names, "reasons"]
    assert scored.collect() == []


@pytest.mark.parametrize("longest", [1, 333, 10_000])
def test_a_worker_answers_batches_of_mixed_sizes(
    features: DataFrame, registry: Registry, new_version: Callable[..., int], longest: int
) -> None:
    number = new_version("same")
    spark, rows = features.sparkSession, features.coalesce(1)
    with configured(spark, "spark.sql.execution.arrow.maxRecordsPerBatch", str(longest)):
        sizes = {row["rows"] for row in rows.select("entity_id").mapInArrow(_sizes, "rows long").collect()}
        scored = predictions(registry, "same", number, rows).toPandas()
    assert sizes == {1: {1}, 333: {333, 1}, 10_000: {1_000}}[longest]
    given = rows.toPandas().sort_values("entity_id", ignore_index=True)
    expected = registry.load("same", number).predict(given[[*USE_CASE.inputs]])
    assert_answers(scored.sort_values("entity_id", ignore_index=True), expected)


def _sizes(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows]})


@contextmanager
def configured(spark: SparkSession, key: str, value: str) -> Iterator[None]:
    """With a setting of the session, which comes back afterwards."""
    before = str(spark.conf.get(key))
    spark.conf.set(key, value)
    try:
        yield
    finally:
        spark.conf.set(key, before)


ZONES = ("UTC", "America/New_York")
# The last two of each night are an hour apart; on New York's clocks two hours, and none.
TIMES = (
    datetime(2013, 1, 15, 17, 0, 0, 1, tzinfo=UTC),
    *(datetime(2013, 3, 10, hour, 30, tzinfo=UTC) for hour in (6, 7)),
    *(datetime(2013, 11, 3, hour, 30, tzinfo=UTC) for hour in (5, 6)),
)
# What answers how much of the year 2013 has passed at sched_dep_ts.
CLOCK = {
    "prepare": """
import numpy as np

RULES = ()


def prepare(columns, learnt):
    passed = columns["sched_dep_ts"].astype("datetime64[us]") - np.datetime64("2013-01-01", "us")
    return {"passed": passed / np.timedelta64(365, "D")}
""",
    "learner": """
class Clock:
    def predict(self, matrix):
        return matrix[:, 0]


def load(folder):
    return Clock()
""",
}


@pytest.fixture
def clock(registry: Registry, training: Callable[..., Training], tmp_path: Path) -> int:
    """A version of the model `clock`, which tells the time that it is given, to a few microseconds."""
    registry.client.create_registered_model("clock")
    made = training("clock")
    files = {name: tmp_path / f"{name}.py" for name in CLOCK}
    for name, file in files.items():
        file.write_text(CLOCK[name])
    return registry.register(EXPERIMENT, "clock", replace(made, artifacts={**made.artifacts, **files}))


def at_times(features: DataFrame) -> DataFrame:
    """One entity at each of TIMES; entity_id is the number."""
    times = pa.table({"number": range(len(TIMES)), "at": pa.array(TIMES, UTC_TIME)})
    one = features.where("entity_id = 'flight-0000'").crossJoin(features.sparkSession.createDataFrame(times))
    moved = {"entity_id": F.col("number").cast("string"), "sched_dep_ts": F.col("at")}
    return one.withColumns(moved).drop("number", "at")


def from_the_page(features: DataFrame, name: str, number: int) -> DataFrame:
    """The answers of the documented alternative: the code of docs/scoring.md, with another version."""
    page = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    _, section = page.split("\n## By mlflow.pyfunc.spark_udf\n")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    version = "models:/prod.flights.delay/7"
    assert snippet.count(version) == 1
    names = {
        **{"mlflow": mlflow, "F": F, "spark": features.sparkSession},
        **{"features": features, "columns": USE_CASE.inputs},
    }
    exec(snippet.replace(version, f"models:/{name}/{number}"), names)  # noqa: S102  # of this repository
    answers = names["answers"]
    assert isinstance(answers, DataFrame)
    return answers


@pytest.mark.parametrize("zone", ZONES)
def test_spark_udf_as_documented_answers_the_same_in_every_time_zone(
    features: DataFrame, registry: Registry, new_version: Callable[..., int], zone: str
) -> None:
    number = new_version("same")
    ours = predictions(registry, "same", number, features).select("entity_id", *ANSWERS).toPandas()
    with configured(features.sparkSession, TIME_ZONE, zone):
        theirs = from_the_page(features, "same", number).toPandas()
    frames = [frame.sort_values("entity_id", ignore_index=True) for frame in (theirs, ours)]
    assert len(frames[0]) == 1_000
    pd.testing.assert_frame_equal(*frames, rtol=0, atol=1e-9, check_dtype=False)


def test_a_model_gets_each_time_in_utc_whatever_the_sessions_time_zone(
    features: DataFrame, registry: Registry, clock: int
) -> None:
    rows, year = at_times(features), datetime(2013, 1, 1, tzinfo=UTC)
    expected = {str(number): (at - year) / timedelta(days=365) for number, at in enumerate(TIMES)}
    for zone in ZONES:
        with configured(features.sparkSession, TIME_ZONE, zone):
            ours = predictions(registry, "clock", clock, rows).collect()
            theirs = from_the_page(rows, "clock", clock).collect()
        for answers in (ours, theirs):
            told = {row["entity_id"]: row["probability"] for row in answers}
            assert told == pytest.approx(expected, rel=0, abs=1e-12), zone


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"carrier": "1"}, "column carrier is int; same version {} takes string"),
        ({"weather_temp": "'1'"}, "column weather_temp is string; same version {} takes double"),
        ({"distance": "1.5D"}, "column distance is double; same version {} takes bigint"),
        ({"distance": None}, "column distance is absent; same version {} takes bigint"),
        ({"weather_temp": None}, "column weather_temp is absent; same version {} takes double"),
        ({"distance": "1", "weather_temp": "1"}, None),
    ],
    ids=[
        "a number for a text",
        "a text for a number",
        "decimals for whole ones",
        "absent",
        "not looked up",
        "narrower",
    ],
)
def test_columns_are_checked_against_the_signature(
    features: DataFrame,
    registry: Registry,
    new_version: Callable[..., int],
    change: dict[str, str | None],
    why: str | None,
) -> None:
    number = new_version("same")
    others = [F.col(name) for name in features.columns if name not in change]
    rows = features.select(*others, *(F.expr(sql).alias(name) for name, sql in change.items() if sql is not None))
    if why is None:
        assert predictions(registry, "same", number, rows).where("reasons IS NULL").count() == 1_000
        return
    with pytest.raises(UserError) as raised:
        predictions(registry, "same", number, rows)
    assert str(raised.value) == why.format(number)


REASONS: dict[str, tuple[dict[str, object], list[str]]] = {
    "all is well": ({}, []),
    "an unseen category": ({"carrier": "??"}, []),
    "a null that is looked up": ({"weather_temp": None}, []),
    "not a number that is looked up": ({"weather_temp": float("nan")}, []),
    "a null that is required": ({"carrier": None}, ["carrier is missing"]),
    "infinity": ({"weather_temp": float("inf")}, ["weather_temp is infinite"]),
    "minus infinity": ({"weather_visib": float("-inf")}, ["weather_visib is infinite"]),
    "the first time": ({"sched_dep_ts": pd.Timestamp("1700-01-01", tz="UTC")}, []),
    "the last time": ({"sched_dep_ts": pd.Timestamp("2200-01-01", tz="UTC")}, []),
    "too late a time": (
        {"sched_dep_ts": pd.Timestamp("2200-01-01 00:00:01", tz="UTC")},
        ["sched_dep_ts is not between 1700 and 2200"],
    ),
    "two": ({"dest": None, "weather_temp": float("inf")}, ["dest is missing", "weather_temp is infinite"]),
}


def test_rows_that_cannot_be_scored_say_why_and_do_not_hold_up_the_rest(
    context: Context, features: DataFrame, new_version: Callable[..., int]
) -> None:
    number = new_version("picky")
    context.registry.set_alias("picky", "champion", number)
    one = features.limit(1).toPandas()
    rows = pd.concat(
        [one.assign(entity_id=f"picky: {name}", **changes) for name, (changes, _) in REASONS.items()], ignore_index=True
    )
    required = {"carrier", "dest"}  # which the table itself refuses to be without
    kept = rows[rows[[*required]].notna().all(axis=1)]
    frame = context.tables.spark.createDataFrame(pa.Table.from_pandas(kept, preserve_index=False), features.schema)
    context.tables.append_new("features", frame, key=["entity_id"])

    loose = StructType([StructField(field.name, field.dataType) for field in features.schema])
    all_of_them = context.tables.spark.createDataFrame(pa.Table.from_pandas(rows, preserve_index=False), loose)
    told = predictions(context.registry, "picky", number, all_of_them).select("entity_id", "reasons").collect()
    wrong = {f"picky: {name}": why for name, (_, why) in REASONS.items() if why}
    assert sorted(why for entity, why in told if entity is None) == sorted(wrong.values())
    assert {entity for entity, why in told if why is None} == {f"picky: {name}" for name in REASONS} - wrong.keys()
    rejected = read_scorer(context.registry, "picky", number).rejects(all_of_them, source="batch").collect()
    assert {json.loads(row["source_row"])["entity_id"]: row["reasons"] for row in rejected} == wrong

    score_batch.run(context, ScoreBatch(model_name="picky", online_store=False))
    scored = context.tables.read("predictions").where("model_name = 'picky' AND entity_id LIKE 'picky%'").toPandas()
    assert set(scored["entity_id"]) == {f"picky: {name}" for name, (_, reasons) in REASONS.items() if not reasons}
    rejected = context.tables.read("raw_rejects").where("table_name = 'predictions' AND source_row LIKE '%picky%'")
    assert {row["reasons"][0] for row in rejected.collect()} == {
        "weather_temp is infinite",
        "weather_visib is infinite",
        "sched_dep_ts is not between 1700 and 2200",
    }


def test_what_a_challenger_scores_beside_the_champion_is_for_no_reader_of_predictions(
    context: Context, new_version: Callable[..., int]
) -> None:
    """Nothing is published either: this context has no endpoints to ask for it."""
    shadow = ScoreShadow(model_name="beside")
    champion, challenger = new_version("beside"), new_version("beside", wrong=True)
    context.registry.set_alias("beside", "champion", champion)
    score_shadow.run(context, shadow)
    assert "beside has no challenger" in printed(context)
    context.registry.set_alias("beside", "challenger", challenger)
    score_batch.run(context, ScoreBatch(model_name="beside", online_store=False))
    for scored in ("980", "0"):  # all that the champion has
        score_shadow.run(context, shadow)
        assert context.task_values["scored"] == scored
    for table, version in (("predictions", champion), ("shadow_predictions", challenger)):
        ours = context.tables.read(table).where("model_name = 'beside'")
        assert {row["model_version"] for row in ours.select("model_version").distinct().collect()} == {version}


def test_batch_goes_on_from_where_the_version_got_to(context: Context, new_version: Callable[..., int]) -> None:
    context.registry.set_alias("further", "champion", new_version("further"))

    def scored(as_of: datetime = LAST_DAY, **window: object) -> int:
        score_batch.run(replace(context, as_of=as_of), ScoreBatch(model_name="further", online_store=False, **window))
        return context.tables.read("predictions").where("model_name = 'further'").count()

    def add(name: str) -> None:
        row = context.tables.read("features").where("entity_id = 'flight-0000'").withColumn("entity_id", F.lit(name))
        context.tables.append_new("features", row, key=["entity_id"])

    first, last = date(2013, 1, 2), date(2013, 1, 3)
    assert scored(first_date=first, last_date=last) == 40  # both ends included, and no mark is left
    all_before = scored(BEFORE_THE_LAST_DAY)
    known = context.tables.read("features").where(F.col("prediction_ts") <= F.lit(BEFORE_THE_LAST_DAY)).count()
    assert all_before == known
    assert scored(LAST_DAY) == all_before + 20  # those not known before are not forgotten
    add("new since")
    assert scored() == all_before + 21
    assert scored() == scored(full=True) == all_before + 21
    context.tables.spark.sql(f"DELETE FROM {context.tables.schema}.predictions WHERE entity_id = 'flight-0001'")
    assert scored() == all_before + 20  # it looks at what has changed, not at everything
    assert scored(full=True) == all_before + 21
    with pytest.raises(ValidationError, match="first_date 2013-01-03 is after last_date 2013-01-02; swap them"):
        scored(first_date=last, last_date=first)


def test_the_newest_prediction_of_each_flight_is_there_to_be_looked_up(
    context: Context,
    new_version: Callable[..., int],
    endpoints: Endpoints,
    sync: Callable[[str, str, str], None],
    tmp_path: Path,
) -> None:
    context = replace(context, endpoints=lambda: endpoints)
    schema = context.tables.schema
    sync(f"{schema}.predictions", f"{schema}.{PREDICTIONS_TABLE}", "scored_at")
    older, newer = (new_version("looked up", wrong=wrong) for wrong in (False, True))
    flight = context.tables.read("features").where("entity_id = 'flight-0002'")
    context.tables.append_new("features", flight.withColumn("entity_id", F.lit("looked up")), key=["entity_id"])
    day = {"first_date": date(2013, 1, 1), "last_date": date(2013, 1, 1)}

    def found(as_of: datetime, number: int) -> Prediction | None:
        context.registry.set_alias("looked up", "champion", number)
        score_batch.run(replace(context, as_of=as_of), ScoreBatch(model_name="looked up", online_store=True, **day))
        store = predictions_store({ONLINE_STORE: f"sqlite:///{tmp_path / 'online.db'}"})
        assert store
        return asyncio.run(find_prediction(store, "looked up"))

    then = datetime(2014, 1, 2, tzinfo=UTC)
    first = found(then, older)
    assert first
    assert (first.model_version, first.scored_at, first.source) == (older, then, "batch")
    again = found(then + timedelta(days=1), newer)
    assert again
    assert (again.model_version, again.scored_at) == (newer, then + timedelta(days=1))
    assert again.probability != first.probability


def test_without_a_champion_nothing_is_scored(context: Context, new_version: Callable[..., int]) -> None:
    context.registry.set_alias("unreleased", "challenger", new_version("unreleased"))
    with pytest.raises(UserError, match=r"^unreleased has no champion; run the train job"):
        score_batch.run(context, ScoreBatch(model_name="unreleased", online_store=False))


class Promoting(Registry):
    """Somebody moves the champion's alias as soon as it has been read."""

    def aliases(self, name: str) -> dict[str, int]:
        found = super().aliases(name)
        self.set_alias(name, "champion", 2)
        return found


def test_every_flight_is_scored_once_by_the_version_that_is_written_on_its_row(
    context: Context, loaded: pd.DataFrame, new_version: Callable[..., int]
) -> None:
    good, _ = new_version("scored"), new_version("scored", wrong=True)
    context.registry.set_alias("scored", "champion", good)

    def predictions() -> pd.DataFrame:
        rows = context.tables.read("predictions").where("model_name = 'scored'")
        return rows.toPandas().sort_values("prediction_id", ignore_index=True)

    score_batch.run(
        replace(context, registry=Promoting(context.registry.client)),
        ScoreBatch(model_name="scored", online_store=False),
    )
    assert context.registry.aliases("scored") == {"champion": 2}
    first = predictions()
    assert len(first) == 49 * 20  # the flights of the last day are not known yet
    assert not first[["entity_id", "prediction_ts"]].duplicated().any()
    assert set(first["model_version"]) == {good}
    assert set(first["source"]) == {"batch"}
    assert set(first["scored_at"].dt.tz_localize("UTC")) == {BEFORE_THE_LAST_DAY}
    low_visibility = first.merge(loaded, on="entity_id")["weather_visib"] < 3
    assert np.corrcoef(first["probability"], low_visibility)[0, 1] > 0.8  # and not the wrong model's answers

    context.registry.set_alias("scored", "champion", good)
    score_batch.run(context, ScoreBatch(model_name="scored", online_store=False))
    pd.testing.assert_frame_equal(predictions(), first)

    late = (
        context.tables.read("features")
        .where("entity_id = 'flight-0000'")
        .withColumn("entity_id", F.lit("arrived late in the table"))
    )
    context.tables.append_new("features", late, key=["entity_id"])
    score_batch.run(replace(context, as_of=LAST_DAY), ScoreBatch(model_name="scored", online_store=False))
    then = predictions()
    added = then[~then["prediction_id"].isin(first["prediction_id"])]
    assert set(added["entity_id"]) == {"arrived late in the table", *loaded["entity_id"].tail(20)}
    assert set(added["scored_at"].dt.tz_localize("UTC")) == {LAST_DAY}
    kept = then[then["prediction_id"].isin(first["prediction_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first)


@pytest.fixture(scope="module")
def own_tables(new_tables: Callable[[str], Tables]) -> Tables:
    return new_tables("scoring_alone")


@pytest.fixture
def alone(context: Context, own_tables: Tables, features: DataFrame) -> Context:
    """In tables of their own, with the flights of the first two days."""
    make_features(own_tables, features.where("day <= '2013-01-02'"))
    return replace(context, tables=own_tables)


def make_features(tables: Tables, rows: DataFrame) -> None:
    """A table features that is new, with these rows in its version 0."""
    name = f"{tables.schema}.features"
    dropped(tables, "features")
    rows.write.format("delta").option("delta.enableChangeDataFeed", "true").saveAsTable(name)


def operations(tables: Tables, table: str) -> list[str]:
    """What was done to a table, the last first."""
    return [row["operation"] for row in tables.spark.sql(f"DESCRIBE HISTORY {tables.schema}.{table}").collect()]


def score(context: Context, model_name: str, as_of: datetime = BEFORE_THE_LAST_DAY) -> pd.DataFrame:
    """Run it, and return all predictions of the model."""
    score_batch.run(replace(context, as_of=as_of), ScoreBatch(model_name=model_name, online_store=False))
    return context.tables.read("predictions").where(F.col("model_name") == model_name).toPandas()


def test_a_first_scoring_is_one_append_and_a_run_that_finds_nothing_writes_nothing(
    alone: Context, new_version: Callable[..., int]
) -> None:
    alone.registry.set_alias("first", "champion", new_version("first"))
    before = operations(alone.tables, "predictions")
    first = score(alone, "first")
    assert len(first) == 40
    assert operations(alone.tables, "predictions") == ["WRITE", *before]
    (run,) = alone.tables.read("runs").where("model_name = 'first'").collect()
    assert set(first["run_id"]) == {run["run_id"]}
    assert (run["source"], run["model_name"], run["scored"]) == ("batch", "first", 40)
    assert (run["query_id"], run["batch_id"], run["landed"], run["newest"]) == (None, None, None, None)

    runs = operations(alone.tables, "runs")
    pd.testing.assert_frame_equal(score(alone, "first"), first)
    assert operations(alone.tables, "predictions") == ["WRITE", *before]
    assert operations(alone.tables, "runs") == runs


def test_a_run_that_was_killed_before_it_left_its_mark_is_made_up_for(
    alone: Context, new_version: Callable[..., int]
) -> None:
    alone.registry.set_alias("killed", "champion", new_version("killed"))
    runs = f"{alone.tables.schema}.runs WHERE model_name = 'killed'"
    for scored, killed in ((40, 40), (41, 1)):  # the first run of all, and one that went on from a mark
        if scored == 41:
            more = alone.tables.read("features").where("entity_id = 'flight-0000'")
            alone.tables.append("features", more.withColumn("entity_id", F.lit("more")))
        before = score(alone, "killed")
        assert len(before) == scored
        alone.tables.spark.sql(f"DELETE FROM {runs} AND scored = {killed}")
        pd.testing.assert_frame_equal(score(alone, "killed"), before)
        assert alone.tables.spark.sql(f"SELECT scored FROM {runs} ORDER BY recorded_at DESC").first() == (killed,)


def test_a_features_table_that_was_made_anew_is_looked_at_whole(
    alone: Context, features: DataFrame, new_version: Callable[..., int]
) -> None:
    alone.registry.set_alias("anew", "champion", new_version("anew"))
    assert len(score(alone, "anew")) == 40
    make_features(alone.tables, features.where("day = '2013-01-03'"))
    assert alone.tables.version("features") == 0  # as before: the number alone says nothing
    assert len(score(alone, "anew")) == 60


def test_a_day_of_predictions_is_compacted_once_when_it_is_over(
    alone: Context, features: DataFrame, new_version: Callable[..., int]
) -> None:
    alone.registry.set_alias("compacted", "champion", new_version("compacted"))
    alone.tables.spark.sql(f"DELETE FROM {alone.tables.schema}.runs")
    done = []

    def scored(day: int, hour: int) -> int:
        """How many predictions there are, a flight more having come in; what was compacted is in `done`."""
        more = features.where("entity_id = 'flight-0000'").withColumn("entity_id", F.lit(f"{day} {hour}"))
        alone.tables.append("features", more)
        rows = score(alone, "compacted", as_of=datetime(2014, 1, day, hour, tzinfo=UTC))
        history = alone.tables.spark.sql(f"DESCRIBE HISTORY {alone.tables.schema}.predictions")
        optimized = history.where("operation = 'OPTIMIZE'").orderBy("version").collect()
        done[:] = [re.findall(r"2014-01-\d\d", row["operationParameters"]["predicate"]) for row in optimized]
        return len(rows)

    assert (scored(2, 1), done) == (41, [])
    assert (scored(2, 23), done) == (42, [])
    assert (scored(4, 0), done) == (43, [["2014-01-02", "2014-01-04"]])
    assert (scored(4, 1), len(done)) == (44, 1)
    assert (scored(3, 1), len(done)) == (45, 1)  # as of an earlier day
