"""A table of the online store, read by entity. It travels with each version, so it imports nothing of this project."""

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

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


class NoTableError(ConnectionError):
    """The online store answers, and has not got the table."""


class OnlineStore:
    """A table of a sqlite file or a PostgreSQL database, by entity_id; any thread may ask.

    `columns` of `table` are found. A small pool asks, one connection to PostgreSQL kept per thread: a store that hangs
    holds up no more than that.
    """

    def __init__(self, url: str, limit_s: float, *, table: str, columns: Sequence[str]) -> None:
        if not 0.001 <= limit_s <= 60:
            raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_s * 1000:g}; set it to 1 to 60000 milliseconds")
        self._url, self._limit_s, self._is_file = url, limit_s, url.startswith("sqlite:///")
        self._select = f"SELECT entity_id, {', '.join(columns)} FROM {table} WHERE entity_id"
        try:
            if self._is_file:
                self._url = f"{Path(url.removeprefix('sqlite:///')).as_uri()}?mode=ro"
            elif not url.startswith("postgresql://") or not conninfo_to_dict(url):
                raise ValueError
        except (ValueError, psycopg.ProgrammingError):
            # Neither the URL nor what its reader says of it: they may hold a password.
            raise ValueError(
                f"{ONLINE_STORE} is neither sqlite:////<path> nor postgresql://<user>:<password>@<host>/<database>, "
                "with special characters as %XX"
            ) from None
        self._threads = ThreadPoolExecutor(STORE_CONNECTIONS, thread_name_prefix="online-store")
        self._kept = threading.local()

    def find(self, ids: list[str]) -> dict[str, tuple[Value, ...]]:
        """The values of each id that is there. Raises ConnectionError if that fails or takes too long."""
        failure = ConnectionError
        asked = self._threads.submit(self._ask_sqlite if self._is_file else self._ask_postgresql, ids)
        try:
            return {row[0]: row[1:] for row in asked.result(self._limit_s)}
        except (TimeoutError, psycopg.errors.QueryCanceled):
            asked.cancel()
            why = f"took more than {self._limit_s * 1000:g} ms"
        except (sqlite3.Error, psycopg.Error, OSError) as error:
            # PostgreSQL's words, and so the error itself, may hold a password that was not written as a URL wants it.
            why = f"failed: {error if isinstance(error, sqlite3.Error) else type(error).__name__}"
            if isinstance(error, psycopg.errors.UndefinedTable) or str(error).startswith("no such table: "):
                failure = NoTableError
        raise failure(f"the online store {why}")

    def _ask_sqlite(self, ids: list[str]) -> list[tuple[Any, ...]]:
        # Opened anew, in a third of a millisecond: a kept connection would go on reading a file that was replaced.
        with closing(sqlite3.connect(self._url, uri=True, timeout=self._limit_s)) as opened:
            return opened.execute(f"{self._select} IN (SELECT value FROM json_each(?))", (json.dumps(ids),)).fetchall()

    def _ask_postgresql(self, ids: list[str]) -> list[tuple[Any, ...]]:
        query = f"{self._select} = ANY(%s)"
        # What is no text in PostgreSQL is nobody's id either, rather than a failure.
        ids = [key for key in ids if "\0" not in key and key == key.encode(errors="ignore").decode()]
        kept: psycopg.Connection[tuple[Any, ...]] | None = getattr(self._kept, "connection", None)
        if kept is not None:
            try:
                return kept.execute(query, (ids,)).fetchall()
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.Error:  # it has broken since: once more on a new one
                kept.close()
        # Without the second time-out a connection that is cut in silence would be waited on for a quarter of an hour.
        kept = psycopg.connect(
            self._url, autocommit=True, connect_timeout=2, tcp_user_timeout=2000, prepare_threshold=1
        )
        kept.execute(f"SET statement_timeout = {round(self._limit_s * 1000)}")
        self._kept.connection = kept
        return kept.execute(query, (ids,)).fetchall()


def online_store(environment: Mapping[str, str], *, table: str, columns: Sequence[str]) -> OnlineStore | None:
    """The store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
    limit_ms, url = environment.get(ONLINE_STORE_LIMIT_MS, "100"), environment.get(ONLINE_STORE)
    try:
        limit_s = float(limit_ms) / 1000
    except ValueError:
        raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_ms!r}; set it to 1 to 60000 milliseconds") from None
    return OnlineStore(url, limit_s, table=table, columns=columns) if url else None
