"""What of the SQL that declares tables is run where."""

import re

import pytest

from flight_delays.core.gates import Outcome
from flight_delays.core.retraining import Choice
from flight_delays.core.rollout import Action
from flight_delays.platform.ddl import declarations, is_view
from flight_delays.platform.delta import Tables
from flight_delays.use_case import USE_CASE

TEXT = """CREATE TABLE {schema}.a (
  x INT COMMENT 'one; two'
  , CONSTRAINT pk PRIMARY KEY (x) -- Unity Catalog only
) USING delta;

ALTER TABLE {schema}.a ADD CONSTRAINT positive CHECK (x > 0);
"""
DECLARED = declarations(USE_CASE.sql)
TABLES = [name for name, sql in DECLARED.items() if not is_view(sql)]
VIEWS = [
    *("daily_performance", "late_events", "latest_predictions", "open_incidents", "served_performance"),
    "stream_progress",
]
# What was delivered, more than once maybe, has no key.
LOGS = {"flight_events", "weather_events", "stream_events"}


def statements(text: str, catalog: str = "spark_catalog") -> list[str]:
    return Tables(spark=None, schema=f"{catalog}.sch")._statements(text)


def test_a_file_is_its_statements_in_the_schema_that_is_asked_for() -> None:
    create, alter = statements(TEXT)
    assert create == "CREATE TABLE `spark_catalog`.`sch`.a (\n  x INT COMMENT 'one; two'\n) USING delta"
    assert alter.strip() == "ALTER TABLE `spark_catalog`.`sch`.a ADD CONSTRAINT positive CHECK (x > 0)"


@pytest.mark.parametrize(
    ("catalog", "known"), [("cat", True), ("main", True), ("spark_catalog", False), ("hive_metastore", False)]
)
def test_the_catalogs_name_says_whether_it_is_unity_catalog(catalog: str, known: bool) -> None:
    assert ("PRIMARY KEY" in statements(TEXT, catalog)[0]) == known


def test_unity_catalog_gets_its_own_lines_too() -> None:
    create, alter = statements(TEXT, "cat")
    assert "  , CONSTRAINT pk PRIMARY KEY (x) \n)" in create
    assert alter.strip().startswith("ALTER TABLE `cat`.`sch`.a")


def test_tables_are_declared_before_the_views_of_them() -> None:
    assert [*DECLARED] == [*sorted(TABLES), *VIEWS]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_one_statement_that_may_be_run_again(name: str) -> None:
    (statement,) = statements(DECLARED[name], "cat")
    assert statement.startswith(f"CREATE OR REPLACE VIEW `cat`.`sch`.{name}\nCOMMENT '")
    assert "{schema}" not in statement


@pytest.mark.parametrize("name", TABLES)
def test_every_table_but_a_log_has_a_primary_key_in_unity_catalog_and_only_there(name: str) -> None:
    ours, elsewhere = (statements(DECLARED[name], catalog)[0] for catalog in ("cat", "spark_catalog"))
    assert f"CREATE TABLE IF NOT EXISTS `cat`.`sch`.{name} (" in ours
    assert ("PRIMARY KEY" in ours) == (name not in LOGS)
    assert "PRIMARY KEY" not in elsewhere
    assert ("TIMESERIES" in ours) == (name == "features")
    assert "{schema}" not in ours
    assert "--" not in ours + elsewhere


def test_the_log_of_decisions_takes_every_outcome_that_code_writes() -> None:
    taken = {*re.findall(r"'(\w+)'", DECLARED["decisions"].rpartition("CHECK")[2])}
    assert taken == {"DONE", *map(str, [*Outcome, *Action, *Choice])}
