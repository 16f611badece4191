"""The Delta tables that a workspace itself writes: what endpoints serve, and their requests and answers.

https://learn.microsoft.com/azure/databricks/admin/system-tables/model-serving-cost
https://learn.microsoft.com/azure/databricks/ai-gateway/inference-tables
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from bundle_laptop.api.endpoints_api import Config
from bundle_laptop.api.web import Tree

if TYPE_CHECKING:
    import pyarrow as pa

SERVED_ENTITIES = "spark_catalog.system_serving.served_entities"
MAX_LOGGED_BYTES = 1024 * 1024
"""A longer request or response is left out of its row, and the row says so."""

_LOG = logging.getLogger(__name__)


def location(folder: Path, table: str) -> Path:
    """Where a table, named <catalog>.<schema>.<table>, is in the world; Spark's folders are in lower case."""
    _, schema, name = table.lower().split(".")
    return folder / "warehouse" / f"{schema}.db" / name


def append(folder: Path, table: str, rows: "pa.Table") -> None:
    """Append rows to a table, which is made if it does not exist."""
    from deltalake import write_deltalake

    write_deltalake(location(folder, table), rows, mode="append")


def record_served_entities(folder: Path, endpoint: str, config: Config, version: int, ids: Mapping[str, str]) -> None:
    """Append a configuration to SERVED_ENTITIES: those of its columns that are known on a laptop.

    `ids` are by the entities' names.
    """
    import pyarrow as pa

    now = datetime.now(tz=UTC)
    rows = [
        {
            "served_entity_id": ids[entity.name],
            "endpoint_name": endpoint,
            "served_entity_name": entity.name,
            "entity_type": "CUSTOM_MODEL",
            "entity_name": entity.entity_name,
            "entity_version": entity.entity_version,
            "endpoint_config_version": version,
            "change_time": now,
        }
        for entity in config.served_entities
    ]
    append(folder, SERVED_ENTITIES, pa.Table.from_pylist(rows))


def payload_schema() -> "pa.Schema":
    """The columns of an inference table."""
    import pyarrow as pa

    return pa.schema(
        {
            "request_date": pa.date32(),
            "databricks_request_id": pa.string(),
            "client_request_id": pa.string(),
            "request_time": pa.timestamp("us", tz="UTC"),
            "status_code": pa.int32(),
            "sampling_fraction": pa.float64(),
            "execution_duration_ms": pa.int64(),
            "request": pa.string(),
            "response": pa.string(),
            "served_entity_id": pa.string(),
            "logging_error_codes": pa.list_(pa.string()),
            "requester": pa.string(),
        }
    )


def payload(
    request_id: str, started: float, ended: float, status: int, request: bytes, response: bytes, entity_id: str
) -> Tree:
    """The row of one request; it started and ended at seconds since 1970."""
    texts = {"request": request, "response": response}
    too_long = [name for name, text in texts.items() if len(text) > MAX_LOGGED_BYTES]
    time = datetime.fromtimestamp(started, UTC)
    return {
        "request_date": time.date(),
        "databricks_request_id": request_id,
        "client_request_id": _client_request_id(request),
        "request_time": time,
        "status_code": status,
        "sampling_fraction": 1.0,
        "execution_duration_ms": round((ended - started) * 1000),
        **{name: None if name in too_long else text.decode(errors="replace") for name, text in texts.items()},
        "served_entity_id": entity_id,
        "logging_error_codes": [f"MAX_{name.upper()}_SIZE_EXCEEDED" for name in too_long],
        "requester": "local",
    }


def _client_request_id(request: bytes) -> str | None:
    try:
        found = json.loads(request) if b'"client_request_id"' in request else None
    except ValueError:
        return None
    given = found.get("client_request_id") if isinstance(found, dict) else None
    return given if isinstance(given, str) else None


class PayloadLog:
    """Appends payloads to their tables every `every_s` seconds, in order; those that fail are tried again."""

    def __init__(self, folder: Path, *, every_s: float = 0.5) -> None:
        self._folder, self._every_s = folder, every_s
        self._waiting: dict[str, list[Tree]] = {}  # by table
        self._lock, self._closed = Lock(), Event()
        self._thread = Thread(target=self._run, name="payload-log", daemon=True)
        self._thread.start()

    def create(self, table: str) -> None:
        """Make the table, unless there is one."""
        from deltalake import DeltaTable

        description = "Requests to the endpoint, as Databricks logs them"
        DeltaTable.create(location(self._folder, table), payload_schema(), mode="ignore", description=description)

    def add(self, table: str, row: Tree) -> None:
        """Append it soon; who calls does not wait."""
        with self._lock:
            self._waiting.setdefault(table, []).append(row)

    def close(self, timeout_s: float = 30) -> None:
        """Write what waits and end."""
        self._closed.set()
        self._thread.join(timeout_s)
        if lost := sum(map(len, self._waiting.values())):
            _LOG.error("%d requests to endpoints were not written to their tables and are lost", lost)

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._closed.wait(self._every_s)
            with self._lock:
                waiting, self._waiting = self._waiting, {}
            for table, rows in waiting.items():
                import pyarrow as pa

                try:
                    append(self._folder, table, pa.Table.from_pylist(rows, payload_schema()))
                except Exception:  # whatever a table may raise
                    _LOG.exception("%d requests were not written to %s and are tried again", len(rows), table)
                    with self._lock:
                        self._waiting[table] = [*rows, *self._waiting.get(table, [])]
