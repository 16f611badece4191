"""A batch's, a stream's and a served prediction explained from real tables; corrected, vacuumed and deleted since."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import functions as F
from tests.conftest import EXPERIMENT
from tests.contexts import decision, make_context, printed
from tests.spark.test_score_served import ENTITIES, PAYLOADS
from tests.spark.test_scoring import configured
from tests.streams import DELAY, END, START, case, real_day
from tests.worlds import copied

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Explain, Features, ScoreBatch, ScoreServed
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.registry import DIGEST, Registry, Training, digest_of, predict, signature
from flight_delays.platform.stream_log import DeltaLog
from flight_delays.tasks import explain, features, score_batch, score_served, score_stream
from flight_delays.tasks.score_stream import Model
from flight_delays.use_case import USE_CASE

NAME = "explained"
SCHEMA = f"spark_catalog.{NAME}"
KNOWN_BY = START - timedelta(hours=2)  # up to here the raw tables hold rows before the stream begins
CORRECTED = END + timedelta(days=3)
UNCHECKED = "spark.databricks.delta.retentionDurationCheck.enabled"


@pytest.fixture
def context(new_tables: Callable[[str], Tables], registry: Registry, training: Callable[..., Training]) -> Context:
    """One version has scored a batch, a stream and a request."""
    context = make_context(as_of=KNOWN_BY, tables=new_tables(NAME), registry=registry)
    if registry.client.search_registered_models(f"name = '{NAME}'"):
        return context
    registry.client.create_registered_model(NAME)
    made = training(NAME)
    digest = digest_of(made.artifacts.values())
    commit = {"git_commit": "0a1b2c3"}
    tagged = replace(made, tags={**made.tags, DIGEST: digest}, version_tags={**made.version_tags, **commit})
    registry.set_alias(NAME, "champion", registry.register(EXPERIMENT, NAME, tagged))
    context.decisions.append(decision("verdict", NAME, 1, None, "the verdict", START))
    promoted = replace(decision("promotion", NAME, 1, None, "the promotion", START), allowed_by="the verdict")
    context.decisions.append(promoted)

    day, tables = real_day(), context.tables
    for name, rows in day.raw.items():
        append(tables, name, rows)
    features.run(context, Features(raw_schema=SCHEMA))
    score_batch.run(context, ScoreBatch(model_name=NAME, online_store=False))
    log = DeltaLog(use_case=USE_CASE, tables=tables, query="query", model_name=NAME)
    memory, loaded = None, registry.load(NAME, 1)
    model = Model(name=NAME, number=1, signature=signature(loaded), score=loaded.unwrap_python_model().score)
    for number, events in enumerate(case(day.events, 1, batches=2).batches):
        memory = score_stream.process(
            *(log, USE_CASE, memory, events, number), delay=DELAY, champion=lambda: 1, model=lambda _: model
        )
    log.land()
    answer_requests(context)
    return context


def append(tables: Tables, table: str, rows: pa.Table) -> None:
    tables.spark.createDataFrame(rows).write.format("delta").mode("append").saveAsTable(tables.name(table))


def answer_requests(context: Context) -> None:
    """One request for two flights, of which the service looked up what it left out; and one that has all columns."""
    tables, at = context.tables, datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    model = context.registry.load(NAME, 1)
    known = tables.read("features").orderBy(F.desc("prediction_ts"), "entity_id").limit(3).toPandas()
    asked = known[[*USE_CASE.inputs]].astype(object).where(known[[*USE_CASE.inputs]].notna(), None)
    asked["sched_dep_ts"] = [f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in asked["sched_dep_ts"]]
    rows = []
    for number, (those, columns) in enumerate(((slice(0, 2), USE_CASE.request), (slice(2, 3), USE_CASE.inputs))):
        request = json.dumps({"dataframe_records": asked[those][[*columns]].to_dict("records")})
        response = json.dumps({"predictions": predict(model, known[those]).to_dict("records")})
        rows.append((f"request {number}", at, at.date(), 200, 7, request, response, "one", None))
    served = [("one", NAME, "1", at - timedelta(days=1))]
    for table, values, schema in (("payloads", rows, PAYLOADS), ("entities", served, ENTITIES)):
        tables.spark.createDataFrame(values, schema).write.format("delta").saveAsTable(tables.name(table))
    settings = {"payload_table": f"{SCHEMA}.payloads", "served_entities_table": f"{SCHEMA}.entities"}
    score_served.run(replace(context, as_of=at), ScoreServed(model_name=NAME, **settings))


def one_of(tables: Tables, source: str, position: int = 0) -> str:
    rows = tables.read("predictions").where(F.col("source") == source)
    newest = rows.orderBy(F.desc("prediction_ts"), F.desc("entity_id")).select("prediction_id")
    return str(newest.collect()[position]["prediction_id"])


def explained(context: Context, prediction_id: str) -> tuple[bool, str]:
    """Whether it is the same, and all that is printed, in single spaces."""
    fresh = make_context(as_of=context.as_of, tables=context.tables, registry=context.registry)
    settings = Explain(prediction_id=prediction_id, raw_schema=fresh.tables.schema, payload_table=f"{SCHEMA}.payloads")
    same = explain.run(fresh, settings)
    return same, re.sub(r"[ │]+", " ", printed(fresh))


def test_a_batchs_prediction_is_told_from_raw_rows_to_the_decision_and_comes_out_again(context: Context) -> None:
    same, said = explained(context, one_of(context.tables, "batch"))
    assert same, said
    (run,) = collected(context.tables.read("runs").where("source = 'batch'"))
    for told in (
        f"predicted by {NAME}, version 1 (batch)",
        "its code commit 0a1b2c3",
        "files of the version: the same, bit for bit",
        "trained on features at version 3; days before 2013-02-01",
        f"scored from features at version {run['table_versions']['features']}",
        "verdict PASS as of 2013-01-05 11:00:00, 1 checks PASS",
        "decision the verdict",
        "serves by promotion as of 2013-01-05 11:00:00, recorded 20",
        "decided by the gate: verdict PASS",
        "recomputed from the raw tables as they are now: the same, bit for bit",
        "forecast from the raw tables as they are now: the same, bit for bit",
    ):
        assert told in said
    assert re.search(
        r"temp, .*: 1 of raw_weather\n origin \w+, of 2013-01-05 \S+, known at 2013-01-05 \S+: temp ", said
    )
    assert "GONE" not in said


def test_a_streams_prediction_comes_out_again_from_what_its_micro_batch_had(context: Context) -> None:
    same, said = explained(context, one_of(context.tables, "stream"))
    assert same, said
    assert re.search(r"forecast from what micro-batch \d+ had \(raw_.* at version \d+.*\): the same, bit for bit", said)
    assert "as they are now" not in said


def test_a_served_prediction_comes_out_again_from_its_logged_request(context: Context) -> None:
    found = [explained(context, one_of(context.tables, "serving", at)) for at in range(3)]
    assert all(same for same, _ in found), found
    whole = [said for _, said in found if "forecast from the logged request, which has all columns: the same" in said]
    asked = [said for _, said in found if "and the newest row of features by then, as it is now: the same" in said]
    assert (len(whole), len(asked)) == (1, 2)
    unproven = f"what the online store answered for {len(USE_CASE.looked_up)} columns is not stored: likely this"
    assert all(unproven in said for said in asked)
    assert "scored from a request" in whole[0]


def test_an_id_that_nobody_made_is_one_line(context: Context) -> None:
    with pytest.raises(UserError, match=r"^there is no prediction nosuch; spark_catalog.explained.predictions has"):
        explained(context, "nosuch")


def test_a_correction_since_changes_nothing_and_is_told(context: Context) -> None:
    there = replace(context, tables=copied(context.tables, "explained_corrected"))
    weather = there.tables.read("raw_weather")
    newer = {"temp": F.col("temp") + 40, "visib": F.lit(0.0), "known_at": F.lit(CORRECTED)}
    there.tables.append("raw_weather", weather.withColumns(newer))
    for source in ("batch", "stream"):
        same, said = explained(there, one_of(there.tables, source))
        assert same, said
    same, said = explained(there, one_of(there.tables, "batch"))
    assert f"CORRECTED, known at {CORRECTED:%Y-%m-%d %H:%M:%S}" in said


def vacuum(tables: Tables, table: str) -> None:
    """Its older versions are gone: every row has been written anew since."""
    column = "temp" if table == "raw_weather" else "distance"
    for by in ("* 2", "/ 2"):
        tables.spark.sql(f"UPDATE {tables.name(table)} SET {column} = {column} {by}")
    with configured(tables.spark, UNCHECKED, "false"):
        tables.spark.sql(f"VACUUM {tables.name(table)} RETAIN 0 HOURS")


def test_what_was_vacuumed_is_told_and_the_rest_is_still_checked(context: Context) -> None:
    there = replace(context, tables=copied(context.tables, "explained_vacuumed"))
    for table in ("features", "raw_weather"):
        vacuum(there.tables, table)
    same, said = explained(there, one_of(there.tables, "batch"))
    assert re.search(r"GONE: features at version \d+: the version, or files of it, were vacuumed or lost", said), said
    assert "columns of features as they are now, recomputed from the raw tables as they are now: the same" in said
    assert same
    same, said = explained(there, one_of(there.tables, "stream"))
    assert re.search(r"GONE: what micro-batch \d+ had .*: the version, or files of it, were vacuumed or lost", said), (
        said
    )
    assert "forecast from the raw tables as they are now: the same, bit for bit" in said
    assert same


def test_records_that_were_deleted_are_told(context: Context) -> None:
    there = replace(context, tables=copied(context.tables, "explained_deleted"))
    spark, ids = there.tables.spark, {source: one_of(there.tables, source) for source in ("batch", "stream", "serving")}
    spark.sql(f"DELETE FROM {there.tables.name('stream_events')}")
    same, said = explained(there, ids["stream"])
    assert same, said
    assert re.search(r"GONE: what micro-batch 1 had .*: stream_events has no events of micro-batch 0, 1 any more", said)
    for table in ("runs", "decisions"):
        spark.sql(f"DELETE FROM {there.tables.name(table)}")
    for source in ("batch", "stream"):
        same, said = explained(there, ids[source])
        assert same, said  # by the raw tables as they are
        assert "GONE: table runs has no row of it" in said
        assert "no decision: its alias was set past the jobs" in said
    spark.sql(f"DELETE FROM {context.tables.name('payloads')}")
    same, said = explained(there, ids["serving"])
    assert (same, "GONE: the logged request: spark_catalog.explained.payloads has none at" in said) == (False, True)


def test_a_version_whose_files_are_lost_or_that_was_deleted_is_told_and_the_features_are_still_checked(
    context: Context,
) -> None:
    client, there = context.registry.client, context.tables
    source = client.get_model_version(NAME, "1").source
    model = client.get_logged_model(source.removeprefix("models:/"))
    shutil.rmtree(Path(model.artifact_location.removeprefix("file://")) / "artifacts")
    says = "columns of features at version 0, recomputed from the raw tables as they are now: the same, bit for bit"
    same, said = explained(context, one_of(there, "batch"))
    assert (same, said.count("NOT CHECKED")) == (False, 2), said
    assert "GONE: version 1 of explained: " in said
    client.delete_model_version(NAME, "1")
    same, said = explained(context, one_of(there, "batch"))
    assert (same, said.count("NOT CHECKED")) == (False, 2), said
    assert "its training GONE: model explained has no version 1" in said
    assert re.sub(r"version \d+,", "version 0,", says) in re.sub(r"version \d+,", "version 0,", said)
