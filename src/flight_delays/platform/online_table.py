"""A table of the online store, read by entity. It travels with each version, so it imports nothing of this project."""

import asyncio
import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import conninfo_to_dict

# Environment of whoever loads the model: where the online store is (a URL: sqlite:////path or postgresql://...), how
# long a request may wait for it, and what it then gets: `default` (each column's stated one) or `error`.
ONLINE_STORE = "FLIGHT_DELAYS_ONLINE_STORE"
ONLINE_STORE_LIMIT_MS = "FLIGHT_DELAYS_ONLINE_STORE_LIMIT_MS"
ONLINE_STORE_FAILURE = "FLIGHT_DELAYS_ONLINE_STORE_FAILURE"
ONLINE_TABLE = "features_online"
STORE_CONNECTIONS = 4

Value: TypeAlias = float | int | str | datetime | None
"""What an online store holds; sqlite has times as ISO 8601 text in UTC."""
T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Found: TypeAlias = dict[str, tuple[Value, ...]]
Connection: TypeAlias = psycopg.AsyncConnection[Row]


class NoTableError(ConnectionError):
    """The online store answers, and has not got the table."""


class OnlineStore:
    """A table of a sqlite file or a PostgreSQL database, by entity_id; any thread and any event loop may ask.

    `columns` of `table` are found. Each event loop keeps a few connections: a store that hangs holds up no more.
    """

    def __init__(self, url: str, limit_s: float, *, table: str, columns: Sequence[str]) -> None:
        if not 0.001 <= limit_s <= 60:
            raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_s * 1000:g}; set it to 1 to 60000 milliseconds")
        self._url, self._limit_s, self._is_file = url, limit_s, url.startswith("sqlite:///")
        self._file = Path(url.removeprefix("sqlite:///"))
        self._select = f"SELECT entity_id, {', '.join(columns)} FROM {table} WHERE entity_id"
        try:
            if self._is_file:
                self._url = f"{self._file.as_uri()}?mode=ro"
            elif not url.startswith("postgresql://") or not conninfo_to_dict(url):
                raise ValueError
        except (ValueError, psycopg.ProgrammingError):
            # Neither the URL nor what its reader says of it: they may hold a password.
            raise ValueError(
                f"{ONLINE_STORE} is neither sqlite:////<path> nor postgresql://<user>:<password>@<host>/<database>, "
                "with special characters as %XX"
            ) from None
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()
        self._opened: tuple[tuple[int, int], sqlite3.Connection] | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wait(self, asked: Coroutine[Any, Any, T]) -> T:
        """What comes of asking, for a caller without an event loop: in one of the store's own."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                own = self._loop, self._pools.setdefault(self._loop, _Pool())
                threading.Thread(target=_run, args=own, name="online-store", daemon=True).start()
                weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def find(self, ids: list[str]) -> Found:
        """The values of each id that is there. Raises ConnectionError if that fails or takes too long."""
        failure = ConnectionError
        # What takes too long is left to its own time limit: a connection that was cancelled could not be used again.
        asked = asyncio.ensure_future(self._ask_sqlite(ids) if self._is_file else self._ask_postgresql(ids))
        await asyncio.wait([asked], timeout=self._limit_s)
        try:
            if not asked.done():
                asked.add_done_callback(lambda late: late.exception())
                raise TimeoutError
            return {row[0]: row[1:] for row in asked.result()}
        except (TimeoutError, psycopg.errors.QueryCanceled):
            why = f"took more than {self._limit_s * 1000:g} ms"
        except (sqlite3.Error, psycopg.Error, OSError) as error:
            # PostgreSQL's words, and so the error itself, may hold a password that was not written as a URL wants it.
            why = f"failed: {error if isinstance(error, sqlite3.Error) else type(error).__name__}"
            if isinstance(error, psycopg.errors.UndefinedTable) or str(error).startswith("no such table: "):
                failure = NoTableError
        raise failure(f"the online store {why}")

    async def _ask_sqlite(self, ids: list[str]) -> list[Row]:
        query = f"{self._select} IN (SELECT value FROM json_each(?))"
        until = time.monotonic() + self._limit_s
        while True:
            try:
                return self._sqlite().execute(query, (json.dumps(ids),)).fetchall()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                await asyncio.sleep(0.005)

    def _sqlite(self) -> sqlite3.Connection:
        """Opened anew where another file has taken the place of the one that was read until now."""
        try:
            status = self._file.stat()
            found = status.st_dev, status.st_ino
        except OSError:
            found = 0, 0  # sqlite says what is wrong
        if self._opened is None or self._opened[0] != found:
            self._opened = found, sqlite3.connect(self._url, uri=True, timeout=0, check_same_thread=False)
        return self._opened[1]

    async def _ask_postgresql(self, ids: list[str]) -> list[Row]:
        query = f"{self._select} = ANY(%s)"
        # What is no text in PostgreSQL is nobody's id either, rather than a failure.
        ids = [key for key in ids if "\0" not in key and key == key.encode(errors="ignore").decode()]
        pool = self._pools.setdefault(asyncio.get_running_loop(), _Pool())
        async with pool.places:
            kept = pool.free.pop() if pool.free else None
            if kept is not None:
                try:
                    return await self._rows(pool, kept, query, ids)
                except psycopg.errors.QueryCanceled:
                    raise
                except psycopg.Error:  # it has broken since: once more on a new one
                    await kept.close()
            # Without the second time-out one that is cut in silence would be waited on for a quarter of an hour.
            kept = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=2, tcp_user_timeout=2000, prepare_threshold=1
            )
            await kept.execute(f"SET statement_timeout = {round(self._limit_s * 1000)}")
            return await self._rows(pool, kept, query, ids)

    @staticmethod
    async def _rows(pool: "_Pool", kept: Connection, query: str, ids: list[str]) -> list[Row]:
        """What it answers; kept for the next one unless it is broken."""
        try:
            return await (await kept.execute(query, (ids,))).fetchall()
        finally:
            if not kept.broken:
                pool.free.append(kept)


@dataclass(frozen=True)
class _Pool:
    """Connections of one event loop."""

    free: list[Connection] = field(default_factory=list)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STORE_CONNECTIONS))


def _run(loop: asyncio.AbstractEventLoop, pool: _Pool) -> None:
    """Until it is stopped; then what was opened in it is closed."""
    loop.run_forever()
    for kept in pool.free:
        loop.run_until_complete(kept.close())
    loop.close()


def online_store(environment: Mapping[str, str], *, table: str, columns: Sequence[str]) -> OnlineStore | None:
    """The store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
    limit_ms, url = environment.get(ONLINE_STORE_LIMIT_MS, "100"), environment.get(ONLINE_STORE)
    try:
        limit_s = float(limit_ms) / 1000
    except ValueError:
        raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_ms!r}; set it to 1 to 60000 milliseconds") from None
    return OnlineStore(url, limit_s, table=table, columns=columns) if url else None
