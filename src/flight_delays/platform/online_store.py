"""The online store: a sqlite file that is filled here, or a table that the workspace syncs."""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidState, NotFound, ResourceConflict
from databricks.sdk.service.pipelines import UpdateInfoState

from flight_delays.core.columns import UTC_TIME
from flight_delays.core.errors import UserError
from flight_delays.core.stream import TableVersion
from flight_delays.platform.sdk_errors import REFUSED, one_line

LIMIT_S, _WAIT_S = 1500, 5.0  # less than the task may take, so that it ends in one line
_FILLED = "filled"  # a table of the file: up to which version of which Delta table each of the others is filled


def fill_sqlite(
    file: Path,
    table: str,
    chunks: Iterable[pa.Table],
    *,
    columns: Sequence[str],
    key: str,
    newest_by: Sequence[str],
    to: TableVersion | None = None,
    onto: bool = False,
) -> int:
    """Make a table of `file` anew: of each `key` in `chunks` the row with the largest `newest_by`, of equals the last.

    With `onto` the rows that it has stay, and count too. `filled_to` then tells `to`. The file's other tables stay.
    Times are kept as ISO 8601 text in UTC. A reader gets the old file or the new one, whole; of two that write at the
    same time one would be lost. Returns the table's rows. Raises UserError for a file that is no sqlite database.
    """
    names, values = ", ".join(columns), ", ".join("?" * len(columns))
    newer = ", ".join(f"{column} = excluded.{column}" for column in columns)
    insert = (
        f"INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {newer} "
        f"WHERE ({', '.join(f'excluded.{name}' for name in newest_by)}) >= ({', '.join(newest_by)})"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="online-", dir=file.parent) as folder:
        made = Path(folder) / file.name
        with closing(sqlite3.connect(made)) as store:
            _copy(file, store)
            store.execute("PRAGMA journal_mode = OFF")  # nobody reads it before it is done
            store.execute("PRAGMA cache_size = -100000")  # 100 MB: keys come in any order
            if not onto:
                store.execute(f"DROP TABLE IF EXISTS {table}")
            store.execute(f"CREATE TABLE IF NOT EXISTS {table} ({names}, PRIMARY KEY ({key}))")
            for chunk in chunks:
                store.executemany(insert, zip(*(_values(chunk[column]) for column in columns), strict=True))
            store.execute(f"CREATE TABLE IF NOT EXISTS {_FILLED} (name PRIMARY KEY, id, version)")
            if to is None:
                store.execute(f"DELETE FROM {_FILLED} WHERE name = ?", (table,))
            else:
                store.execute(f"INSERT OR REPLACE INTO {_FILLED} VALUES (?, ?, ?)", (table, to.id, to.version))
            store.commit()
            (kept,) = store.execute(f"SELECT count(*) FROM {table}").fetchone()
        made.replace(file)
    return int(kept)


def filled_to(file: Path, table: str, *, columns: Sequence[str]) -> TableVersion | None:
    """What the last `fill_sqlite` of these columns of a table was told; None if there was none, or it was not told."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as store:
            there = tuple(name for _, name, *_ in store.execute(f"PRAGMA table_info({table})"))
            told = store.execute(f"SELECT id, version FROM {_FILLED} WHERE name = ?", (table,)).fetchone()
    except sqlite3.Error:
        return None
    return TableVersion(id=told[0], version=told[1]) if told and there == tuple(columns) else None


def _copy(file: Path, to: sqlite3.Connection) -> None:
    """All tables of `file`, if it is there."""
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as old:
            old.backup(to)
    except sqlite3.Error as error:
        raise UserError(f"{file} cannot be read: {error}; delete it, then run the features job again") from error


def _values(column: pa.ChunkedArray) -> list[object]:
    if pa.types.is_floating(column.type):
        floats: list[object] = column.to_numpy().tolist()  # fast; what is missing is NaN, which sqlite takes for null
        return floats
    if pa.types.is_timestamp(column.type):
        texts = column.cast(UTC_TIME, safe=False).cast(pa.timestamp("s"), safe=False).cast(pa.string())
        column = pc.binary_replace_slice(texts, 10, 11, "T")
    elif pa.types.is_date(column.type):
        column = column.cast(pa.string())
    others: list[object] = column.to_pylist()
    return others


def refresh(
    client: WorkspaceClient,
    synced_table: str,
    *,
    progress: Callable[[str], None],
    limit_s: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Start the pipeline of a synced table and wait until it is done.

    An update under way is waited for: it may have begun before the table's newest rows were written. Throttling, server
    errors and time-outs are tried again until `limit_s` has passed. Raises UserError for what remains.
    """
    deadline, pipeline, update, told = clock() + limit_s, "", "", ""

    def failed(why: str) -> UserError:
        return UserError(f"{synced_table} is not refreshed: {why}")

    while True:
        try:
            if not pipeline:
                status = client.database.get_synced_database_table(synced_table).data_synchronization_status
                pipeline = (status.pipeline_id if status else None) or ""
            if not pipeline:
                state = "its pipeline is being made"
            elif not update:
                update, state = client.pipelines.start_update(pipeline).update_id or "", "the update was started"
            else:
                found = client.pipelines.get_update(pipeline, update).update
                match found.state if found else None:
                    case UpdateInfoState.COMPLETED:
                        return
                    case UpdateInfoState.FAILED | UpdateInfoState.CANCELED as end:
                        raise failed(
                            f"update {update} of pipeline {pipeline} {end.value}; see its page, then run it again"
                        )
                    case now:
                        state = f"the update is {now.value if now else 'not known yet'}"
        except (ResourceConflict, InvalidState):
            state = "another update is under way"
        except REFUSED as error:
            fix = "deploy the bundle with online_store: true" if isinstance(error, NotFound) else "fix that"
            raise failed(f"{one_line(error)}; {fix}, then run it again") from error
        except OSError as error:
            state = one_line(error)
        if state != told:
            progress(f"{synced_table}: {state}")
            told = state
        if clock() + _WAIT_S > deadline:
            raise failed(f"{state} (waited for {limit_s:g} s); run it again")
        sleep(_WAIT_S)
