"""Where synced tables go: a sqlite file or a PostgreSQL database. A reader finds a table's old rows or its new ones."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bundle_laptop.errors import LaptopError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class OnlineTable:
    """A table to make. Of rows with the same `key` it keeps one with the largest `newest_by`; without, they fail."""

    name: str
    key: tuple[str, ...]
    newest_by: str | None


OnlineStore: TypeAlias = "Callable[[OnlineTable, pa.RecordBatchReader], None]"
"""Makes a table anew. Raises LaptopError for two rows with the same key that nothing tells apart."""


def online_store_at(folder: Path, address: str | None) -> OnlineStore:
    """The online store of a world. Raises LaptopError for an address of another kind."""
    if address is None:
        return partial(_to_sqlite, folder / "online.db")
    if address.startswith(("postgresql://", "postgres://")):
        return partial(_to_postgresql, address)
    raise LaptopError("the online store's address is not postgresql://<user>:<password>@<host>/<database>")


def _to_sqlite(file: Path, table: OnlineTable, rows: "pa.RecordBatchReader") -> None:
    """A copy of the file with the new rows takes its place; its other tables stay.

    Times are ISO 8601 text in UTC, decimals are floats, lists and structs are JSON.
    """
    name, names, key = _quoted(table.name), [_quoted(name) for name in rows.schema.names], _key(table)
    insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(names))})"
    if table.newest_by:
        newest, all_new = _quoted(table.newest_by), ", ".join(f"{name} = excluded.{name}" for name in names)
        is_newer = f"{newest} IS NULL OR excluded.{newest} >= {newest}"
        insert += f" ON CONFLICT ({key}) DO UPDATE SET {all_new} WHERE {is_newer}"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="online-", dir=file.parent) as folder:
        made = Path(folder) / file.name
        if file.exists():
            shutil.copy(file, made)
        try:
            with closing(sqlite3.connect(made)) as store, store:
                store.execute("PRAGMA journal_mode = OFF")  # nobody reads it before it is done
                store.execute("PRAGMA cache_size = -100000")  # 100 MB: keys come in any order
                store.execute(f"DROP TABLE IF EXISTS {name}")
                store.execute(f"CREATE TABLE {name} ({', '.join(names)}, PRIMARY KEY ({key}))")
                for batch in _with_keys(rows, table.key):
                    columns = (_sqlite_values(column) for column in batch.columns)
                    store.executemany(insert, zip(*columns, strict=True))
        except sqlite3.IntegrityError as error:
            raise _duplicates(table, str(error)) from None
        except sqlite3.DatabaseError as error:
            raise LaptopError(f"{file} cannot be written: {error}; delete it, then sync again") from error
        made.replace(file)


def _to_postgresql(address: str, table: OnlineTable, rows: "pa.RecordBatchReader") -> None:
    """In one transaction, in the schema that the address leads to. Grants on a table end with its rows.

    The address, which may hold a password, stays out of what is raised.
    """
    import psycopg

    name, staged, made = map(_quoted, (table.name, f"{table.name}_staged", f"{table.name}_made"))
    key, columns = _key(table), [f"{_quoted(each.name)} {_type(each.type)}" for each in rows.schema]
    newest = f", {_quoted(table.newest_by)} DESC NULLS LAST" if table.newest_by else ""
    distinct = f"DISTINCT ON ({key})" if table.newest_by else ""
    try:
        with psycopg.connect(address, connect_timeout=10) as store:
            store.execute(f"CREATE TEMPORARY TABLE {staged} ({', '.join(columns)}) ON COMMIT DROP")
            with store.cursor().copy(f"COPY {staged} FROM STDIN (FORMAT csv)") as copy:
                for batch in _with_keys(rows, table.key):
                    copy.write(_csv(batch))
            store.execute(f"CREATE TABLE {made} AS SELECT {distinct} * FROM {staged} ORDER BY {key}{newest}")
            store.execute(f"ALTER TABLE {made} ADD PRIMARY KEY ({key})")
            store.execute("SET LOCAL lock_timeout = '60s'")
            store.execute(f"DROP TABLE IF EXISTS {name}")
            store.execute(f"ALTER TABLE {made} RENAME TO {name}")
    except psycopg.errors.UniqueViolation as error:
        raise _duplicates(table, str(error)) from None
    except psycopg.Error as error:
        raise LaptopError(f"the online store failed: {error.diag.message_primary or type(error).__name__}") from error


def _with_keys(rows: "pa.RecordBatchReader", key: Iterable[str]) -> "Iterator[pa.RecordBatch]":
    """The batches without rows that have no key, which are not synced."""
    import pyarrow.compute as pc

    for batch in rows:
        for name in key:
            batch = batch.filter(pc.is_valid(batch[name]))
        if batch.num_rows:
            yield batch


def _duplicates(table: OnlineTable, why: str) -> LaptopError:
    what = f"{table.name}: two rows have the same {', '.join(table.key)}"
    return LaptopError(f"{what} ({' '.join(why.split())}); give a timeseries_key, or make the key unique")


def _sqlite_values(column: "pa.Array") -> list[object]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_nested(kind):
        return [_json(value) for value in column.to_pylist()]
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_timestamp(kind):
        text = column.cast(pa.timestamp("us"), safe=False).cast(pa.string())
        column = pc.replace_substring_regex(pc.binary_replace_slice(text, 10, 11, "T"), r"\.0+$", "")
    elif pa.types.is_date(kind):
        column = column.cast(pa.string())
    if pa.types.is_floating(column.type):  # fast; sqlite takes NaN for null
        column = column.to_numpy(zero_copy_only=False)
    values: list[object] = column.tolist()
    return values


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


def _key(table: OnlineTable) -> str:
    return ", ".join(map(_quoted, table.key))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
