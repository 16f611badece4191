"""Requests and responses, to a Delta table with the columns of Databricks' inference tables.

They wait in memory, bounded by rows and bytes, for a thread that appends them: a request waits for nothing. What does
not fit is dropped and counted; a crash loses at most what waits. Source of the columns:
https://learn.microsoft.com/azure/databricks/ai-gateway/inference-tables
"""

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Condition, Thread
from time import monotonic

import numpy as np
from arro3.core import Array, DataType, Table, list_array
from deltalake import write_deltalake

MAX_BYTES = 64 * 1024 * 1024
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One request and its response; `time` has a time zone."""

    id: str
    client_id: str | None
    time: datetime
    status: int
    duration_ms: float
    request: bytes
    response: bytes
    entity_id: str


class PayloadLog:
    """Appends what it is given to the Delta table at `table`, a path or an address, every `every_s` seconds."""

    def __init__(self, table: str, *, every_s: float = 5, max_rows: int = 10_000, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = 0
        self._table, self._every_s, self._max_rows, self._max_bytes = table, every_s, max_rows, max_bytes
        self._waiting: deque[Payload] = deque()
        self._bytes = 0
        self._changed = Condition()
        self._hurry = self._closed = False
        self._thread = Thread(target=self._run, name="payload-log", daemon=True)
        self._thread.start()

    def add(self, payload: Payload) -> None:
        """Take it, or drop and count it where there is no room."""
        size = len(payload.request) + len(payload.response)
        with self._changed:
            if len(self._waiting) >= self._max_rows or self._bytes + size > self._max_bytes:
                self.dropped += 1
                return
            self._waiting.append(payload)
            self._bytes += size

    @property
    def waiting(self) -> int:
        """Rows in memory."""
        return len(self._waiting)

    def flush(self, timeout_s: float = 30) -> bool:
        """Write what waits; whether that succeeded in time."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self, timeout_s: float = 30) -> None:
        """Write what waits and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._waiting:
            _LOG.error("%d rows of %s were not written in time and are lost", len(self._waiting), self._table)

    def _run(self) -> None:
        while True:
            with self._changed:
                until = monotonic() + self._every_s
                while not (self._closed or self._hurry) and (left := until - monotonic()) > 0:
                    self._changed.wait(left)
                self._hurry, closed = False, self._closed
                batch = list(self._waiting)
            written = not batch or self._write(batch)
            with self._changed:
                if written:
                    for payload in batch:
                        self._waiting.popleft()
                        self._bytes -= len(payload.request) + len(payload.response)
                self._changed.notify_all()
            if closed:
                return

    def _write(self, batch: list[Payload]) -> bool:
        try:
            write_deltalake(self._table, _rows(batch), mode="append")
        except Exception:  # whatever a store may raise: the rows are kept for the next time
            _LOG.exception("%d rows were not written to %s and are kept", len(batch), self._table)
            return False
        return True


def _rows(batch: list[Payload]) -> Table:
    """In the Arrow that deltalake brings: pyarrow would be the largest package of an image."""
    rows = len(batch)
    # To the hour that UTC says, whatever zone a time has: NumPy's times have none.
    times = np.array([payload.time.astimezone(UTC).replace(tzinfo=None) for payload in batch], dtype="datetime64[us]")

    def texts(values: list[str | None]) -> Array:
        return Array(values, DataType.string())

    no_codes = list_array(Array.from_numpy(np.zeros(rows + 1, dtype="int32")), texts([]))
    return Table.from_pydict(
        {
            "request_date": Array.from_numpy(times.astype("datetime64[D]")),
            "databricks_request_id": texts([payload.id for payload in batch]),
            "client_request_id": texts([payload.client_id for payload in batch]),
            "request_time": Array.from_numpy(times).cast(DataType.timestamp("us", tz="UTC")),
            "status_code": Array([payload.status for payload in batch], DataType.int32()),
            "sampling_fraction": Array([1.0] * rows, DataType.float64()),
            "execution_duration_ms": Array([round(payload.duration_ms) for payload in batch], DataType.int64()),
            "request": texts([payload.request.decode(errors="replace") for payload in batch]),
            "response": texts([payload.response.decode(errors="replace") for payload in batch]),
            "served_entity_id": texts([payload.entity_id for payload in batch]),
            "logging_error_codes": no_codes,
            "requester": texts([None] * rows),
        }
    )
