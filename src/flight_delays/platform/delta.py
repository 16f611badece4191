"""Delta tables of one schema: read, merge, create. Safe to do twice."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType, StructType

from flight_delays.core.errors import UserError
from flight_delays.core.stream import TableVersion
from flight_delays.platform.ddl import columns, declarations, is_view, quoted

_UNITY_CATALOG_ONLY = "-- Unity Catalog only"
_CONSTRAINT = re.compile(r"ALTER TABLE (\S+)\s+(ADD|DROP) CONSTRAINT (\w+)", re.IGNORECASE)
_GONE = (
    *("FILE_NOT_EXIST", "FILE_NOT_FOUND", "FileNotFoundException"),
    *("DELTA_VERSION_NOT_FOUND", "DELTA_UNSUPPORTED_TIME_TRAVEL"),
)
_END_OF_STATEMENT = re.compile(r";\s*(?:\n|$)")  # a semicolon inside a line is text


@dataclass(frozen=True)
class Merged:
    """Rows that a merge wrote."""

    inserted: int
    updated: int


@dataclass(frozen=True)
class Tables:
    """The tables of `schema`, a two-level name `<catalog>.<schema>`."""

    spark: SparkSession
    schema: str

    @property
    def unity_catalog(self) -> bool:
        """Whether the catalog knows keys and what else only Unity Catalog does: Spark's own and Hive's don't."""
        return self.schema.partition(".")[0] not in ("spark_catalog", "hive_metastore")

    def name(self, table: str) -> str:
        """A table's full name in SQL, in backticks: catalog and schema may hold dashes."""
        return quoted(f"{self.schema}.{table}")

    def of(self, schema: str) -> "Tables":
        """The tables of another schema."""
        return replace(self, schema=schema)

    def read(self, table: str, *, version: int | None = None) -> DataFrame:
        """The table or view, at a Delta version if one is given. Raises UserError if it does not exist."""
        at = "" if version is None else f" VERSION AS OF {version}"
        try:
            frame = self.spark.sql(f"SELECT * FROM {self.name(table)}{at}")
            frame.schema  # noqa: B018  # Spark Connect resolves a name only when asked
        except AnalysisException as error:
            if "TABLE_OR_VIEW_NOT_FOUND" not in str(error) and "SCHEMA_NOT_FOUND" not in str(error):
                raise
            raise UserError(f"table {self.schema}.{table} does not exist; run the features job first") from error
        return frame

    def version(self, table: str) -> int:
        """The table's current Delta version."""
        return int(self._last_commit(table)["version"])

    def identity(self, table: str) -> TableVersion:
        """The table's current version, and which table that is: one that was made anew has another id."""
        return TableVersion(id=self.table_id(table), version=self.version(table))

    def table_id(self, table: str) -> str:
        """Which table that is, whatever its version."""
        return str(self._detail(table)["id"])

    def _detail(self, table: str) -> Row:
        (detail,) = self.spark.sql(f"DESCRIBE DETAIL {self.name(table)}").collect()
        return detail

    def changes(self, table: str, *, first: int, last: int) -> DataFrame | None:
        """Rows that Delta versions `first` to `last` inserted, or updated to, by the table's change data feed.

        None if they are not known any more: older than the table's retention.
        """
        try:
            frame = self.spark.sql(f"SELECT * FROM table_changes('{self.name(table)}', {first}, {last})")
            frame.isEmpty()  # what is not known any more is noticed when it is read
        except PySparkException:
            return None
        changed = frame.where("_change_type IN ('insert', 'update_postimage')")
        return changed.drop("_change_type", "_commit_version", "_commit_timestamp")

    def append_once(self, table: str, rows: DataFrame, *, writer: str, number: int, tag: str | None = None) -> None:
        """Append what `writer` writes as its `number`; again, or a lower number, is skipped by Delta without a word.

        `tag` is kept with the commit. Source: idempotent writes in foreachBatch,
        https://docs.delta.io/latest/delta-streaming.html#idempotent-table-writes-in-foreachbatch
        """
        options = {"txnAppId": writer, "txnVersion": str(number), **({"userMetadata": tag} if tag else {})}
        # One file; columns go by their names, and reading those of the table would take as long as planning the rest.
        rows.coalesce(1).write.format("delta").mode("append").options(**options).saveAsTable(self.name(table))

    def last_tag(self, table: str) -> str | None:
        """The tag of the table's last commit."""
        tag: str | None = self._last_commit(table)["userMetadata"]
        return tag

    def _last_commit(self, table: str) -> Row:
        (commit,) = self.spark.sql(f"DESCRIBE HISTORY {self.name(table)} LIMIT 1").collect()
        return commit

    def upsert(self, table: str, rows: DataFrame, *, key: Sequence[str]) -> Merged:
        """Insert rows of a new key, update those whose values differ, leave the rest untouched.

        Only new and changed rows are written, and nothing if there are none: a MERGE rewrites every file that holds a
        row of the same key, changed or not. `rows` are computed up to three times, so they must come out the same.
        """
        target = self.read(table)
        if lacking := [name for name in rows.columns if name not in target.columns]:
            raise UserError(
                f"table {self.schema}.{table} has no column {lacking[0]}: declare it in the table's SQL, and run the "
                "features job, whose first task adds it"
            )
        if self._detail(table)["numFiles"] == 0:
            return Merged(inserted=self.append(table, rows), updated=0)
        others = [column for column in rows.columns if column not in key]
        known = target.select(*key, digest(target, others).alias("_known"))
        changed = (
            rows.withColumn("_digest", digest(rows, others))
            .join(known, [*key], "left")
            .where("_known IS DISTINCT FROM _digest")
        )
        new = F.col("_known").isNull()
        (counts,) = changed.agg(F.count_if(new).alias("inserted"), F.count_if(~new).alias("updated")).collect()
        written = Merged(inserted=counts["inserted"], updated=counts["updated"])
        if written.updated:
            self._merge(table, changed.select(*rows.columns), key, "WHEN MATCHED THEN UPDATE SET *")
        elif written.inserted:
            self.append(table, changed.select(*rows.columns))
        return written

    def append(self, table: str, rows: DataFrame) -> int:
        """Append rows; how many there were."""
        written = Observation()
        counted = rows.select(*self.read(table).columns).observe(written, F.count(F.lit(1)).alias("rows"))
        counted.write.format("delta").mode("append").saveAsTable(self.name(table))
        return int(written.get["rows"])

    def append_new(self, table: str, rows: DataFrame, *, key: Sequence[str]) -> Merged:
        """Insert rows of a new key; what was written once stays as it was written."""
        return self._merge(table, rows, key, "")

    def complete(self, table: str, rows: DataFrame, *, key: Sequence[str]) -> Merged:
        """Insert rows of a new key; of others, update the values that are told, leaving those that are null here."""
        told = {name: f"coalesce(source.`{name}`, target.`{name}`)" for name in rows.columns if name not in key}
        same = " AND ".join(f"target.`{name}` <=> {value}" for name, value in told.items())
        update = ", ".join(f"target.`{name}` = {value}" for name, value in told.items())
        return self._merge(table, rows, key, f"WHEN MATCHED AND NOT ({same}) THEN UPDATE SET {update}")

    def decision(self, table: str, row: Mapping[str, object]) -> DataFrame:
        """A row of a log, recorded now, which is the only use of the clock; a column that it does not name is null."""
        columns = [field for field in self.read(table).schema if field.name != "recorded_at"]
        rows = self.spark.createDataFrame([{field.name: row.get(field.name) for field in columns}], StructType(columns))
        return rows.withColumn("recorded_at", F.current_timestamp())

    def _merge(self, table: str, rows: DataFrame, key: Sequence[str], when_matched: str) -> Merged:
        view = f"merge_{uuid4().hex}"
        rows.createOrReplaceTempView(view)
        try:
            on = " AND ".join(f"target.`{column}` = source.`{column}`" for column in key)
            (counts,) = self.spark.sql(
                f"MERGE INTO {self.name(table)} AS target USING {view} AS source ON {on} "
                f"{when_matched} WHEN NOT MATCHED THEN INSERT *"
            ).collect()
        finally:
            self.spark.catalog.dropTempView(view)
        return Merged(inserted=counts["num_inserted_rows"], updated=counts["num_updated_rows"])

    def optimize(self, table: str, *, where: str, zorder: str) -> None:
        """Compact the partitions that `where` selects and order them by a column."""
        self.spark.sql(f"OPTIMIZE {self.name(table)} WHERE {where} ZORDER BY ({zorder})")

    def apply_ddl(self, use_case: Path) -> list[str]:
        """Create what sql/ and the use case's folder declare: tables that do not exist, columns that they lack.

        Returns the names of all tables. What a table has stays as it is. Raises UserError for a column that is lacking
        and may not be null.
        """
        declared = declarations(use_case)
        for name, text in declared.items():
            for statement in self._statements(text):
                constraint = _CONSTRAINT.search(statement)
                if constraint is None or self._has_constraint(constraint[1], constraint[3]) == (
                    constraint[2] == "DROP"
                ):
                    self.spark.sql(statement)
            if not is_view(text):
                self._add_columns(name, text)
        return [*declared]

    def widen(self, table: str, columns: StructType, *, comment: str) -> None:
        """Add the struct columns that the table lacks, and the fields that its own lack, with a comment each."""
        there = {field.name: field.dataType for field in self.read(table).schema}
        for column in columns:
            known = there.get(column.name)
            added = [(column.name, column.dataType)]
            if isinstance(known, StructType) and isinstance(column.dataType, StructType):
                new = [field for field in column.dataType if field.name not in known.names]
                added = [(f"{column.name}.{field.name}", field.dataType) for field in new]
            self._add(table, [(name, kind.simpleString(), comment) for name, kind in added])

    def _add_columns(self, table: str, text: str) -> None:
        """Those that the SQL declares and the table lacks, at its end."""
        there = {*self.read(table).columns}
        lacking = [column for column in columns(text) if column[0] not in there]
        for name, _, null, _ in lacking:
            if not null:
                raise UserError(f"{self.schema}.{table} lacks {name}, NOT NULL: let it be null, or start a new schema")
        self._add(table, [(name, kind, what) for name, kind, _, what in lacking])

    def _add(self, table: str, columns: list[tuple[str, str, str]]) -> None:
        """Columns by name, type and comment."""
        if columns:
            added = ", ".join(
                "{} {} COMMENT '{}'".format(name, kind, what.replace("'", "''")) for name, kind, what in columns
            )
            self.spark.sql(f"ALTER TABLE {self.name(table)} ADD COLUMNS ({added})")

    def _statements(self, text: str) -> list[str]:
        lines = (
            line.removesuffix(_UNITY_CATALOG_ONLY)
            for line in text.splitlines()
            if self.unity_catalog or not line.endswith(_UNITY_CATALOG_ONLY)
        )
        text = "\n".join(lines).replace("{schema}", quoted(self.schema))
        return [statement for statement in _END_OF_STATEMENT.split(text) if statement.strip()]

    def _has_constraint(self, table: str, name: str) -> bool:
        properties = self.spark.sql(f"SHOW TBLPROPERTIES {table}").collect()
        return any(row["key"].lower() == f"delta.constraints.{name.lower()}" for row in properties)


def is_gone(error: PySparkException) -> bool:
    """Whether the version that was to be read, or files of it, are not there any more."""
    return any(word in str(error) for word in _GONE)


def digest(rows: DataFrame, columns: Sequence[str]) -> Column:
    """64 bits of the values. Their places are digested too: a null leaves no trace in what Spark digests.

    It digests no maps: of one, its entries are taken, by key.
    """
    maps = {field.name for field in rows.schema if isinstance(field.dataType, MapType)}
    values = {name: F.col(f"`{name}`") for name in columns}
    values |= {name: F.array_sort(F.map_entries(values[name])) for name in columns if name in maps}
    return F.xxhash64(*(part for at, name in enumerate(columns) for part in (F.lit(at), values[name])))


def collected(frame: DataFrame) -> list[dict[str, Any]]:
    """All rows, few of them; times in UTC whatever this machine's zone is, maps as dicts."""
    rows: list[dict[str, Any]] = frame.toArrow().to_pylist(maps_as_pydicts="strict")
    return rows
