"""Delta tables: merges that can be done twice, tables that sql/ declares."""

import re
from pathlib import Path

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import IntegerType, StructField, StructType

from flight_delays.core.errors import UserError
from flight_delays.platform.ddl import declarations, is_view
from flight_delays.platform.delta import Merged, Tables
from flight_delays.use_case import USE_CASE

DECLARED = [name for name, sql in declarations(USE_CASE.sql).items() if not is_view(sql)]
VIEWS = [name for name, sql in declarations(USE_CASE.sql).items() if is_view(sql)]
SCHEMA = "id int, part string, value double"
BEFORE = [(1, "a", 1.0), (2, "a", None), (3, "a", 3.0)]


@pytest.fixture
def merged(tables: Tables, request: pytest.FixtureRequest) -> str:
    """A table of the test's own with the rows BEFORE."""
    name = request.node.originalname
    tables.spark.createDataFrame(BEFORE, SCHEMA).write.format("delta").saveAsTable(f"{tables.schema}.{name}")
    return str(name)


def rows(tables: Tables, *values: tuple[object, ...]) -> DataFrame:
    return tables.spark.createDataFrame(values, SCHEMA)


def content(tables: Tables, table: str) -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in tables.read(table).collect())


def test_an_upsert_inserts_updates_and_leaves_equal_rows_untouched(tables: Tables, merged: str) -> None:
    new = rows(tables, (1, "a", 1.0), (2, "a", 2.0), (3, "a", None), (4, "a", None))
    assert tables.upsert(merged, new, key=["id", "part"]) == Merged(inserted=1, updated=2)
    after = content(tables, merged)
    assert after == [(1, "a", 1.0), (2, "a", 2.0), (3, "a", None), (4, "a", None)]

    assert tables.upsert(merged, new, key=["id", "part"]) == Merged(inserted=0, updated=0)
    assert content(tables, merged) == after


def written(tables: Tables, table: str) -> list[str]:
    """What wrote the table, commit after commit."""
    history = tables.spark.sql(f"DESCRIBE HISTORY {tables.schema}.{table}").orderBy("version")
    return [row["operation"] for row in history.collect()]


def test_an_upsert_writes_no_more_than_is_new_or_changed(tables: Tables, merged: str) -> None:
    key = ["id", "part"]
    made = written(tables, merged)
    tables.upsert(merged, rows(tables, *BEFORE), key=key)
    assert written(tables, merged) == made  # nothing differs: no commit
    tables.upsert(merged, rows(tables, *BEFORE, (4, "a", None)), key=key)
    assert written(tables, merged) == [*made, "WRITE"]  # new rows alone are appended
    tables.upsert(merged, rows(tables, *BEFORE, (4, "a", 4.0)), key=key)
    assert written(tables, merged) == [*made, "WRITE", "MERGE"]
    assert content(tables, merged) == [*BEFORE, (4, "a", 4.0)]


def test_an_upsert_into_an_empty_table_is_an_append(tables: Tables) -> None:
    tables.spark.sql(f"CREATE TABLE {tables.schema}.at_first (id INT, part STRING, value DOUBLE) USING delta")
    assert tables.upsert("at_first", rows(tables, *BEFORE), key=["id", "part"]) == Merged(inserted=3, updated=0)
    assert written(tables, "at_first") == ["CREATE TABLE", "WRITE"]
    assert tables.upsert("at_first", rows(tables, *BEFORE).where("false"), key=["id"]) == Merged(inserted=0, updated=0)


def test_a_value_that_moves_to_a_column_that_was_null_is_a_change(tables: Tables) -> None:
    pairs = "id int, one double, other double"
    tables.spark.createDataFrame([(1, 5.0, None), (2, None, None)], pairs).write.format("delta").saveAsTable(
        f"{tables.schema}.moving"
    )
    moved = tables.spark.createDataFrame([(1, None, 5.0), (2, None, None)], pairs)
    assert tables.upsert("moving", moved, key=["id"]) == Merged(inserted=0, updated=1)
    assert content(tables, "moving") == [(1, None, 5.0), (2, None, None)]


def test_what_was_appended_once_is_never_overwritten(tables: Tables, merged: str) -> None:
    new = rows(tables, (1, "a", 9.0), (1, "b", 1.0), (2, "a", 9.0))
    assert tables.append_new(merged, new, key=["id", "part"]) == Merged(inserted=1, updated=0)
    assert tables.append_new(merged, new, key=["id", "part"]) == Merged(inserted=0, updated=0)
    assert content(tables, merged) == [(1, "a", 1.0), (1, "b", 1.0), (2, "a", None), (3, "a", 3.0)]


def test_a_version_is_read_as_it_was(tables: Tables, merged: str) -> None:
    version = tables.version(merged)
    tables.append_new(merged, rows(tables, (4, "a", 4.0)), key=["id"])
    assert tables.version(merged) == version + 1
    assert_df_equality(tables.read(merged, version=version), rows(tables, *BEFORE), ignore_row_order=True)
    assert tables.read(merged).count() == 4


@pytest.mark.parametrize("schema", ["spark_catalog.shared", "spark_catalog.nowhere"])
def test_a_missing_table_is_one_line_that_says_which_job_makes_it(spark: SparkSession, schema: str) -> None:
    with pytest.raises(UserError) as error:
        Tables(spark=spark, schema=schema).read("nothing")
    assert str(error.value) == f"table {schema}.nothing does not exist; run the features job first"


def test_every_declared_table_exists_and_declaring_it_again_changes_nothing(tables: Tables) -> None:
    before = {table: tables.version(table) for table in DECLARED}
    assert (len(before), len(VIEWS)) == (18, 6)
    assert tables.apply_ddl(USE_CASE.sql) == [*DECLARED, *VIEWS]
    assert {table: tables.version(table) for table in DECLARED} == before


def test_a_log_of_decisions_made_before_there_were_rollouts_takes_them(tables: Tables) -> None:
    log = f"{tables.schema}.decisions"
    tables.spark.sql(f"ALTER TABLE {log} DROP CONSTRAINT allowed_outcomes")
    tables.spark.sql(f"ALTER TABLE {log} ADD CONSTRAINT known_outcome CHECK (outcome IN ('PASS', 'DONE'))")
    tables.apply_ddl(USE_CASE.sql)
    kept = [
        row["key"] for row in tables.spark.sql(f"SHOW TBLPROPERTIES {log}").collect() if "constraints" in row["key"]
    ]
    assert kept == ["delta.constraints.allowed_outcomes"]


@pytest.mark.parametrize("table", DECLARED)
def test_every_table_and_every_column_of_it_says_what_it_is(tables: Tables, table: str) -> None:
    columns = tables.spark.catalog.listColumns(f"{tables.schema}.{table}")
    assert columns
    assert [column.name for column in columns if not column.description] == []
    assert tables.spark.sql(f"DESCRIBE DETAIL {tables.schema}.{table}").collect()[0]["description"]


PREDICTION = {
    "prediction_id": "'bad'",
    "entity_id": "'e'",
    "prediction_ts": "timestamp '2013-01-01 00:00'",
    "model_name": "'m'",
    "model_version": "1",
    "scored_at": "timestamp '2013-01-01 00:00'",
    "scored_date": "date '2013-01-01'",
    "probability": "0.5D",
    "prediction": "1D",
    "response_time_ms": "cast(null AS double)",
    "source": "'batch'",
    "run_id": "'r'",
}
DECISION = {
    "decision_id": "'bad'",
    "kind": "'verdict'",
    "model_name": "'m'",
    "model_version": "1",
    "other_version": "cast(null AS int)",
    "outcome": "'PASS'",
    "reasons": "array('why')",
    "evidence": "'{}'",
    "policy": "'{}'",
    "allowed_by": "cast(null AS string)",
    "as_of": "timestamp '2013-01-03 00:00'",
    "recorded_at": "current_timestamp()",
}
LABEL = {
    "entity_id": "'bad'",
    "day": "date '2013-01-01'",
    "label": "1D",
    "known_at": "timestamp '2013-01-01 00:00'",
}


@pytest.mark.parametrize(
    ("table", "good", "column", "value"),
    [
        ("predictions", PREDICTION, "probability", "1.0001D"),
        ("predictions", PREDICTION, "probability", "-0.0001D"),
        ("predictions", PREDICTION, "probability", "double('NaN')"),
        ("predictions", PREDICTION, "source", "'guess'"),
        ("predictions", PREDICTION, "model_version", "cast(null AS int)"),
        ("predictions", PREDICTION, "prediction", "cast(null AS double)"),
        ("decisions", DECISION, "outcome", "'MAYBE'"),
        ("decisions", DECISION, "outcome", "cast(null AS string)"),
        ("decisions", DECISION, "kind", "cast(null AS string)"),
        ("labels", LABEL, "label", "cast(null AS double)"),
        ("labels", LABEL, "known_at", "cast(null AS timestamp)"),
    ],
)
def test_a_table_refuses_a_row_that_cannot_be(
    tables: Tables, table: str, good: dict[str, str], column: str, value: str
) -> None:
    def row(**changes: str) -> DataFrame:
        return tables.spark.range(1).selectExpr(*(f"{sql} AS {name}" for name, sql in {**good, **changes}.items()))

    assert row().columns == tables.read(table).columns
    with pytest.raises(Exception, match=r"(?i)check constraint|not null"):
        tables.append_new(table, row(**{column: value}), key=[row().columns[0]])
    assert tables.read(table).where(f"{row().columns[0]} = 'bad'").count() == 0


def test_changes_are_what_was_inserted_or_updated_to_and_none_if_they_are_not_known_any_more(tables: Tables) -> None:
    name = f"{tables.schema}.changing"
    for statement in (
        f"CREATE TABLE {name} (a INT, b INT) USING delta",
        f"INSERT INTO {name} VALUES (1, 1), (2, 2)",
        f"ALTER TABLE {name} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)",
        f"INSERT INTO {name} VALUES (3, NULL)",
        f"UPDATE {name} SET b = 20 WHERE a = 2",
        f"DELETE FROM {name} WHERE a = 1",
    ):
        tables.spark.sql(statement)
    changed = tables.changes("changing", first=3, last=5)
    assert changed is not None
    assert {tuple(row) for row in changed.collect()} == {(3, None), (2, 20)}
    assert tables.changes("changing", first=1, last=5) is None  # version 1 was written without a change data feed
    tables.spark.sql(f"DROP TABLE {name}")


class Renaming:
    """A session that knows the tests' schema by a name of Unity Catalog, which Spark's own catalog would refuse."""

    def __init__(self, tables: Tables) -> None:
        self.known = tables

    def sql(self, text: str) -> DataFrame:
        assert "my-" in text
        return self.known.spark.sql(text.replace("`my-catalog`.`my-schema`", self.known.schema))

    def __getattr__(self, name: str) -> object:
        return getattr(self.known.spark, name)


def test_catalog_and_schema_may_have_dashes(tables: Tables) -> None:
    dashed = Tables(spark=Renaming(tables), schema="my-catalog.my-schema")  # type: ignore[arg-type]
    assert dashed.name("t") == "`my-catalog`.`my-schema`.`t`"
    made = f"{tables.schema}.dashed"
    tables.spark.createDataFrame(BEFORE, SCHEMA).write.format("delta").saveAsTable(made)
    tables.spark.sql(f"ALTER TABLE {made} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    key = ["id", "part"]
    assert dashed.upsert("dashed", rows(tables, (1, "a", 9.0)), key=key) == Merged(inserted=0, updated=1)
    assert dashed.append_new("dashed", rows(tables, (7, "a", None)), key=key).inserted == 1
    assert dashed.complete("dashed", rows(tables, (7, "a", 7.0)), key=key).updated == 1
    dashed.widen("dashed", StructType([StructField("more", StructType([StructField("a", IntegerType())]))]), comment="")
    dashed.optimize("dashed", where="true", zorder="id")
    changed = dashed.changes("dashed", first=2, last=dashed.version("dashed"))
    assert changed is not None
    assert (changed.count(), dashed.identity("dashed").id) == (3, tables.table_id("dashed"))
    assert dashed.last_tag("dashed") is None
    declared = [one for text in declarations(USE_CASE.sql).values() for one in dashed._statements(text)]
    assert not [one for one in declared if re.search(r"(?<!`)my-|my-\w+(?!`)\b", one)]


def test_columns_that_the_sql_has_come_to_declare_are_added_and_rows_stay(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("CREATE SCHEMA spark_catalog.grown")
    grown = Tables(spark=spark, schema="spark_catalog.grown")
    sql = (
        "CREATE TABLE IF NOT EXISTS {schema}.raw_things (\n  id STRING NOT NULL COMMENT 'Thing'MORE\n) USING delta\n"
        "COMMENT 'Things';\n"
    )
    file = tmp_path / "raw_things.sql"
    file.write_text(sql.replace("MORE", ""))
    grown.apply_ddl(tmp_path)
    spark.sql("INSERT INTO spark_catalog.grown.raw_things VALUES ('a')")
    file.write_text(sql.replace("MORE", ",\n  size DOUBLE COMMENT 'The thing''s size'"))
    for _ in range(2):
        grown.apply_ddl(tmp_path)
        assert content(grown, "raw_things") == [("a", None)]
    (size,) = spark.sql("DESCRIBE spark_catalog.grown.raw_things").where("col_name = 'size'").collect()
    assert (size["data_type"], size["comment"]) == ("double", "The thing's size")
    file.write_text(sql.replace("MORE", ",\n  weight DOUBLE NOT NULL COMMENT 'Weight'"))
    with pytest.raises(UserError, match="raw_things lacks weight, NOT NULL: let it be null, or start a new schema"):
        grown.apply_ddl(tmp_path)


def test_rows_with_a_column_that_the_table_lacks_are_refused_in_one_line(tables: Tables, merged: str) -> None:
    more = rows(tables, (4, "a", 4.0)).selectExpr("*", "1.0 AS weight")
    with pytest.raises(UserError, match=f"{merged} has no column weight: declare it in the table's SQL"):
        tables.upsert(merged, more, key=["id", "part"])
