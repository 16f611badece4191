"""Requests to endpoints and their answers, in Delta tables with the columns of Databricks' inference tables.

https://learn.microsoft.com/azure/databricks/ai-gateway/inference-tables
"""

import json
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from bundle_laptop.api import tables
from bundle_laptop.api.web import Tree

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LOGGED_BYTES = 1024 * 1024
"""A longer request or response is left out of its row, and the row says so."""

_LOG = logging.getLogger(__name__)


def schema() -> "pa.Schema":
    """The columns of an inference table."""
    import pyarrow as pa

    return pa.schema(
        [
            ("request_date", pa.date32()),
            ("databricks_request_id", pa.string()),
            ("client_request_id", pa.string()),
            ("request_time", pa.timestamp("us", tz="UTC")),
            ("status_code", pa.int32()),
            ("sampling_fraction", pa.float64()),
            ("execution_duration_ms", pa.int64()),
            ("request", pa.string()),
            ("response", pa.string()),
            ("served_entity_id", pa.string()),
            ("logging_error_codes", pa.list_(pa.string())),
            ("requester", pa.string()),
        ]
    )


def row_of(
    *, request_id: str, time: datetime, status: int, duration_ms: float, request: bytes, response: bytes, entity_id: str
) -> Tree:
    """The row of one request; `time` has a time zone."""
    too_long = {"REQUEST": len(request) > MAX_LOGGED_BYTES, "RESPONSE": len(response) > MAX_LOGGED_BYTES}
    return {
        "request_date": time.date(),
        "databricks_request_id": request_id,
        "client_request_id": _client_request_id(request),
        "request_time": time,
        "status_code": status,
        "sampling_fraction": 1.0,
        "execution_duration_ms": round(duration_ms),
        "request": None if too_long["REQUEST"] else request.decode(errors="replace"),
        "response": None if too_long["RESPONSE"] else response.decode(errors="replace"),
        "served_entity_id": entity_id,
        "logging_error_codes": [f"MAX_{what}_SIZE_EXCEEDED" for what, is_long in too_long.items() if is_long],
        "requester": "local",
    }


class PayloadLog:
    """Appends rows to their tables within `every_s` seconds, in order; those that fail are tried again."""

    def __init__(self, folder: Path, *, every_s: float = 0.5) -> None:
        self._folder, self._every_s = folder, every_s
        self._waiting: deque[tuple[str, Tree]] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="payload-log", daemon=True)
        self._thread.start()

    def create(self, table: str) -> None:
        """Make the table, unless there is one."""
        tables.create(self._folder, table, schema(), "Requests to the endpoint, as Databricks logs them")

    def add(self, table: str, row: Tree) -> None:
        """Append it soon; who calls does not wait."""
        with self._changed:
            self._waiting.append((table, row))
            self._changed.notify_all()

    def close(self, timeout_s: float = 30) -> None:
        """Write what waits and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._waiting:
            _LOG.error("%d requests to endpoints were not written to their tables and are lost", len(self._waiting))

    def _run(self) -> None:
        closed = False
        while not closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(lambda: self._closed, self._every_s)
                batch, closed = list(self._waiting), self._closed
            written = {table for table in dict.fromkeys(table for table, _ in batch) if self._write(table, batch)}
            with self._changed:
                later = list(self._waiting)[len(batch) :]
                self._waiting = deque([*(row for row in batch if row[0] not in written), *later])

    def _write(self, table: str, batch: Sequence[tuple[str, Tree]]) -> bool:
        import pyarrow as pa

        rows = [row for name, row in batch if name == table]
        try:
            tables.append(self._folder, table, pa.Table.from_pylist(rows, schema()))
        except Exception:  # whatever a table may raise
            _LOG.exception("%d requests were not written to %s and are tried again", len(rows), table)
            return False
        return True


def _client_request_id(request: bytes) -> str | None:
    if b'"client_request_id"' not in request:
        return None
    try:
        found = json.loads(request).get("client_request_id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
