"""Where synced tables go: a sqlite file or a PostgreSQL database. A reader finds a table's old rows or its new ones."""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bundle_laptop.errors import LaptopError

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_SYNCED = "laptop_synced"  # a table of the sqlite file: what each of the others was made of


@dataclass(frozen=True, kw_only=True)
class OnlineTable:
    """A table to make. Of rows with the same `key` it keeps one with the largest `newest_by`; without, they fail."""

    name: str
    key: tuple[str, ...]
    newest_by: str | None


class OnlineStore(Protocol):
    """What both kinds do."""

    def made_of(self, table: str) -> str | None:
        """What the table's last `replace` was told; None if there is no table."""

    def replace(self, table: OnlineTable, rows: "pa.RecordBatchReader", made_of: str) -> None:
        """Make a table anew. Raises LaptopError for two rows with the same key that nothing tells apart."""

    def drop(self, table: str) -> None:
        """Remove a table, if it is there."""


class SqliteStore:
    """A file, which is replaced by another; its other tables stay. Times are ISO 8601 text in UTC, decimals
    are floats, lists and structs are JSON."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def made_of(self, table: str) -> str | None:
        """See OnlineStore."""
        try:
            with closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)) as store:
                there = store.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
                told = store.execute(f"SELECT made_of FROM {_SYNCED} WHERE name = ?", (table,)).fetchone()
        except sqlite3.Error:
            return None
        return told[0] if told and there else None

    def replace(self, table: OnlineTable, rows: "pa.RecordBatchReader", made_of: str) -> None:
        """See OnlineStore."""
        with self._rewritten() as store:
            store.execute(f"DROP TABLE IF EXISTS {_quoted(table.name)}")
            names, key = [_quoted(name) for name in rows.schema.names], ", ".join(map(_quoted, table.key))
            store.execute(f"CREATE TABLE {_quoted(table.name)} ({', '.join(names)}, PRIMARY KEY ({key}))")
            insert = f"INSERT INTO {_quoted(table.name)} VALUES ({', '.join('?' * len(names))})"
            if table.newest_by:
                newest, all_new = _quoted(table.newest_by), ", ".join(f"{name} = excluded.{name}" for name in names)
                is_newer = f"{newest} IS NULL OR excluded.{newest} >= {newest}"
                insert += f" ON CONFLICT ({key}) DO UPDATE SET {all_new} WHERE {is_newer}"
            for batch in _with_keys(rows, table.key):
                columns = (_sqlite_values(column) for column in batch.columns)
                try:
                    store.executemany(insert, zip(*columns, strict=True))
                except sqlite3.IntegrityError as error:
                    raise _duplicates(table, str(error)) from None
            store.execute(f"CREATE TABLE IF NOT EXISTS {_SYNCED} (name PRIMARY KEY, made_of)")
            store.execute(f"INSERT OR REPLACE INTO {_SYNCED} VALUES (?, ?)", (table.name, made_of))

    def drop(self, table: str) -> None:
        """See OnlineStore."""
        if self._file.exists():
            with self._rewritten() as store:
                store.execute(f"DROP TABLE IF EXISTS {_quoted(table)}")

    @contextmanager
    def _rewritten(self) -> Iterator[sqlite3.Connection]:
        """A copy of the file, which takes its place unless the block raises."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="online-", dir=self._file.parent) as folder:
            made = Path(folder) / self._file.name
            with closing(sqlite3.connect(made)) as store:
                if self._file.exists():
                    self._copy_to(store)
                store.execute("PRAGMA journal_mode = OFF")  # nobody reads it before it is done
                store.execute("PRAGMA cache_size = -100000")  # 100 MB: keys come in any order
                yield store
                store.commit()
            made.replace(self._file)

    def _copy_to(self, store: sqlite3.Connection) -> None:
        try:
            with closing(sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)) as old:
                old.backup(store)
        except sqlite3.Error as error:
            raise LaptopError(f"{self._file} cannot be read: {error}; delete it, then sync again") from error


class PostgresqlStore:
    """A database, with tables in the schema that the address leads to. Grants on a table end with its rows."""

    def __init__(self, address: str) -> None:
        self._address = address

    def made_of(self, table: str) -> str | None:
        """See OnlineStore."""
        with self._connected() as store:
            found = store.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (_quoted(table),)).fetchone()
        return found[0] if found else None

    def replace(self, table: OnlineTable, rows: "pa.RecordBatchReader", made_of: str) -> None:
        """See OnlineStore."""
        import psycopg

        name, staged, made = map(_quoted, (table.name, f"{table.name}_staged", f"{table.name}_made"))
        key, columns = (
            ", ".join(map(_quoted, table.key)),
            [f"{_quoted(each.name)} {_type(each.type)}" for each in rows.schema],
        )
        newest = f", {_quoted(table.newest_by)} DESC NULLS LAST" if table.newest_by else ""
        distinct = f"DISTINCT ON ({key})" if table.newest_by else ""
        with self._connected() as store:
            store.execute(f"CREATE TEMPORARY TABLE {staged} ({', '.join(columns)}) ON COMMIT DROP")
            with store.cursor().copy(f"COPY {staged} FROM STDIN (FORMAT csv)") as copy:
                for batch in _with_keys(rows, table.key):
                    copy.write(_csv(batch))
            store.execute(f"CREATE TABLE {made} AS SELECT {distinct} * FROM {staged} ORDER BY {key}{newest}")
            try:
                store.execute(f"ALTER TABLE {made} ADD PRIMARY KEY ({key})")
            except psycopg.errors.UniqueViolation as error:
                raise _duplicates(table, str(error)) from None
            store.execute(f"COMMENT ON TABLE {made} IS {_literal(made_of)}")
            store.execute("SET LOCAL lock_timeout = '60s'")
            store.execute(f"DROP TABLE IF EXISTS {name}")
            store.execute(f"ALTER TABLE {made} RENAME TO {name}")

    def drop(self, table: str) -> None:
        """See OnlineStore."""
        with self._connected() as store:
            store.execute(f"DROP TABLE IF EXISTS {_quoted(table)}")

    @contextmanager
    def _connected(self) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
        """A connection with one transaction. Raises LaptopError; the address, which may hold a password, stays out."""
        import psycopg

        try:
            with psycopg.connect(self._address, connect_timeout=10) as connection:
                yield connection
        except psycopg.Error as error:
            said = error.diag.message_primary or type(error).__name__
            raise LaptopError(f"the online store failed: {said}") from error


def _with_keys(rows: "pa.RecordBatchReader", key: Iterable[str]) -> "Iterator[pa.RecordBatch]":
    """The batches without rows that have no key, which are not synced."""
    import pyarrow.compute as pc

    for batch in rows:
        for name in key:
            if batch[name].null_count:
                batch = batch.filter(pc.is_valid(batch[name]))
        if batch.num_rows:
            yield batch


def _duplicates(table: OnlineTable, said: str) -> LaptopError:
    what = f"{table.name}: two rows have the same {', '.join(table.key)}"
    return LaptopError(f"{what} ({' '.join(said.split())}); give a timeseries_key, or make the key unique")


def _sqlite_values(column: "pa.Array") -> list[object]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        floats: list[object] = column.to_numpy(zero_copy_only=False).tolist()  # fast; sqlite takes NaN for null
        return floats
    if pa.types.is_timestamp(column.type):
        text = column.cast(pa.timestamp("us"), safe=False).cast(pa.string())
        column = pc.replace_substring_regex(pc.binary_replace_slice(text, 10, 11, "T"), r"\.0+$", "")
    elif pa.types.is_date(column.type):
        column = column.cast(pa.string())
    elif pa.types.is_nested(column.type):
        return [_json(value) for value in column.to_pylist()]
    others: list[object] = column.to_pylist()
    return others


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str)


def _type(kind: "pa.DataType") -> str:
    """As https://docs.databricks.com/oltp/instances/sync-data/sync-table maps types."""
    import pyarrow as pa

    names = {
        pa.bool_(): "BOOLEAN",
        pa.int8(): "SMALLINT",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "REAL",
        pa.float64(): "DOUBLE PRECISION",
        pa.date32(): "DATE",
    }
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        return f"NUMERIC({kind.precision}, {kind.scale})"
    if pa.types.is_nested(kind):
        return "JSONB"
    return names.get(kind, "BYTEA" if "binary" in str(kind) else "TEXT")


def _csv(batch: "pa.RecordBatch") -> bytes:
    """As COPY takes it: null is nothing, an empty text is quoted."""
    import pyarrow as pa
    from pyarrow.csv import WriteOptions, write_csv

    columns = []
    for column in batch.columns:
        if pa.types.is_nested(column.type):
            column = pa.array([_json(value) for value in column.to_pylist()], pa.string())
        elif "binary" in str(column.type):
            column = pa.array([None if value is None else "\\x" + value.hex() for value in column.to_pylist()])
        columns.append(column)
    sink = pa.BufferOutputStream()
    write_csv(pa.record_batch(columns, batch.schema.names), sink, WriteOptions(include_header=False))
    return bytes(sink.getvalue())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
