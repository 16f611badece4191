"""What is read of production: rows of one model by table, and of tables that are not there why."""

from datetime import UTC, date, datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from tests.contexts import decision, make_context

from flight_delays.core.errors import UserError
from flight_delays.platform.decision_log import Decisions
from flight_delays.platform.delta import Tables
from flight_delays.views import look
from flight_delays.views.watched import decisions, incidents, performance, signals, watch

NAME = "watched"
NOW = datetime(2013, 12, 31, 12, tzinfo=UTC)
DAY = date(2013, 12, 29)
OF_ALL = {"model_name": NAME, "model_version": 2, "day": DAY, "as_of": NOW}


class Before(Tables):
    """Tables of a schema made before there were signals."""

    def read(self, table: str, *, version: int | None = None) -> DataFrame:
        if table == "signals":
            raise UserError("table signals does not exist")
        return super().read(table, version=version)


def write(tables: Tables, table: str, **row: object) -> None:
    schema = to_arrow_schema(tables.read(table).schema)
    tables.append(table, tables.spark.createDataFrame(pa.Table.from_pylist([{**OF_ALL, **row}], schema)))


def test_rows_with_nulls_are_shown(tables: Tables) -> None:
    context = make_context(as_of=NOW, tables=tables)
    Decisions(tables).append(decision("promotion", NAME, 2, None, "watched", NOW))
    window = {"days": 7, "allowed": None, "value": None, "reason": "r"}
    write(tables, "signals", kind="drift", subject="wind", outcome="UNKNOWN", p_value=None, **window)
    write(tables, "signals", kind="drift", subject="rain", outcome="ALARM", p_value=0.001, **window)
    write(tables, "signals", kind="nulls", subject="rain", outcome="ALARM", p_value=None, **window)
    event = {"incident_id": NAME, "family": "data", "since": DAY, "reason": "rain is lower", "recorded_at": NOW}
    write(tables, "incidents", **event, number=0, event="OPENED", subjects=["drift rain"])
    write(tables, "incidents", **event, number=1, event="ACKNOWLEDGED", subjects=[])
    measured = {"dimension": "all", "slice": "all", "complete": True, "rows": 9, "labelled": 0, "digest": 1}
    write(tables, "performance", **measured, source="batch")
    estimated = {"rows": 9, "expected_loss": None, "labelled_days": 20}
    write(tables, "estimated_performance", **estimated, source="batch", estimated_loss=0.4)

    found = watch(context, NAME)
    assert found.headline == (
        "Version 2 serves since 2013-12-31 12:00 UTC (promotion: verdict PASS); 1 incident is open, none of them not "
        "acknowledged; no version is being rolled out."
    )
    (incident,) = incidents(found).tables["open"].to_dict("records")
    assert incident["what"] == "data: drift rain"
    assert incident["acknowledged"] == "yes"
    assert signals(found).notes == [f"Drift in the 7 days to {DAY}: rain."]
    assert list(signals(found).tables["other alarms, newest first"]["kind"]) == ["nulls"]
    (line,) = performance(found).tables["newest"].to_dict("records")
    assert (line["days"], line["estimated"], line["with outcome"]) == (0, 0.4, 0)
    assert [*performance(found).choices] == ["version 2"]
    assert list(decisions(found).tables["decisions"]["why"]) == ["verdict PASS"]


def test_a_schema_without_any_table_has_nothing_but_reasons(tables: Tables) -> None:
    found = watch(make_context(as_of=NOW, tables=tables.of("spark_catalog.nothing")), NAME)
    assert {type(table) for table in found.tables.values()} == {UserError}
    assert found.headline.startswith("No version serves yet; whether anything is wrong was not measured;")


def test_rows_are_counted_of_the_tables_that_are_there(tables: Tables) -> None:
    before = Before(spark=tables.spark, schema=tables.schema)
    found = look.data(make_context(as_of=NOW, tables=before), tables.schema)
    assert found.notes == ["Not there yet, the features job makes them: signals."]
    counted = set(found.tables["rows"]["table"])
    assert "signals" not in counted
    assert {"incidents", "profiles", "decisions"} <= counted
