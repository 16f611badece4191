"""Synced tables of Lakebase and their pipelines: https://docs.databricks.com/api/workspace/postgres

An update copies the newest version of the source table whole to a table of the online store that is named as the last
part of the synced table's name. It runs when it is asked for, whatever the scheduling policy; creating a synced table
starts none, for its source need not exist yet. A deleted synced table leaves its rows in the store.
"""

import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Literal
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import Field

from bundle_laptop.api.online_store import OnlineStore, OnlineTable
from bundle_laptop.api.state import StateFile
from bundle_laptop.api.tables import location
from bundle_laptop.api.web import ApiError, Body, Request, Route, Tree, invalid, missing
from bundle_laptop.errors import LaptopError

_TABLES, _UPDATES = "/api/2.0/postgres/synced_tables", "/api/2.0/pipelines/{pipeline}/updates"
_LOG = logging.getLogger(__name__)
_FULL_NAME = r"^[^.\s]+\.[^.\s]+\.[^.\s]+$"


class Spec(Body):
    """What is copied, and how."""

    source_table_full_name: str = Field(pattern=_FULL_NAME)
    primary_key_columns: tuple[str, ...] = Field(min_length=1)
    timeseries_key: str | None = None
    scheduling_policy: Literal["SNAPSHOT", "TRIGGERED", "CONTINUOUS"] = "SNAPSHOT"
    create_database_objects_if_missing: bool = True
    branch: str | None = None
    postgres_database: str | None = None
    existing_pipeline_id: str | None = None
    new_pipeline_spec: Tree | None = None
    accelerated_sync: bool = False


class _NewTable(Body):
    spec: Spec


class _StartUpdate(Body):
    full_refresh: bool = False
    cause: str | None = None
    development: bool | None = None


def sync(folder: Path, name: str, spec: Spec, store: OnlineStore) -> Tree:
    """Copy the source; its version and the version's time. Raises LaptopError for what cannot be copied."""
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        source = DeltaTable(location(folder, spec.source_table_full_name))
    except TableNotFoundError:
        raise LaptopError(f"there is no table {spec.source_table_full_name} yet; run the job that writes it") from None
    schema = pa.schema(source.schema().to_arrow())
    for column in (*spec.primary_key_columns, spec.timeseries_key):
        if column and column not in schema.names:
            known = ", ".join(schema.names)
            raise LaptopError(f"{spec.source_table_full_name} has no column {column}; it has {known}")
    # With deletion vectors and column mapping applied; texts become plain Arrow strings.
    reader = pa.RecordBatchReader.from_stream(source.scan())
    batches = (batch.select(schema.names).cast(schema) for batch in reader)
    table = OnlineTable(name=name.rpartition(".")[2], key=spec.primary_key_columns, newest_by=spec.timeseries_key)
    store(table, pa.RecordBatchReader.from_batches(schema, batches))
    committed = datetime.fromtimestamp(source.history(1)[0]["timestamp"] / 1000, tz=UTC)
    return {"delta_commit_version": source.version(), "delta_commit_time": committed.isoformat()}


class SyncedTables:
    """The synced tables of one world. Updates run one after the other and end with the server."""

    def __init__(self, folder: Path, store: OnlineStore) -> None:
        self._folder, self._store = folder, store
        self._tables = StateFile(folder / "api" / "synced_tables.json", "synced table")
        self._updates: dict[str, tuple[str, Future[bool]]] = {}  # by id: the pipeline, and whether it succeeded
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="synced-tables")

    def close(self) -> None:
        """Wait for the update under way."""
        self._thread.shutdown(cancel_futures=True)

    def routes(self) -> list[Route]:
        """What this answers."""
        return [
            ("POST", _TABLES, self._create),
            ("GET", _TABLES + "/{name}", lambda request: self._shown(self._tables.entry(request["name"]))),
            ("GET", _TABLES + "/{name}/operations/create", lambda request: self._created(request["name"])),
            ("GET", _TABLES + "/{name}/operations/delete", lambda request: _done(request["name"], "delete")),
            ("DELETE", _TABLES + "/{name}", self._delete),
            ("POST", _UPDATES, self._start),
            ("GET", _UPDATES + "/{update}", self._get_update),
        ]

    def _create(self, request: Request) -> Tree:
        body, name = request.body(_NewTable), request.query.get("synced_table_id", "")
        if not re.fullmatch(_FULL_NAME, name):
            raise invalid("synced_table_id must be <catalog>.<schema>.<table>")
        pipeline = body.spec.existing_pipeline_id or str(uuid5(NAMESPACE_URL, name))
        spec = body.spec.model_dump(mode="json", exclude_none=True)
        self._tables.add(name, {"name": f"synced_tables/{name}", "spec": spec, "pipeline_id": pipeline})
        return self._created(name)

    def _created(self, name: str) -> Tree:
        return _done(name, "create", self._shown(self._tables.entry(name)))

    def _delete(self, request: Request) -> Tree:
        self._tables.remove(request["name"])
        return _done(request["name"], "delete")

    def _shown(self, entry: Tree) -> Tree:
        pipeline, last, failure = entry["pipeline_id"], entry.get("last_sync"), entry.get("failure")
        if self._active(pipeline):
            state = "ONLINE_TRIGGERED_UPDATE" if last else "PROVISIONING_INITIAL_SNAPSHOT"
        elif failure:
            state = "ONLINE_PIPELINE_FAILED" if last else "OFFLINE_FAILED"
        else:
            state = "ONLINE_NO_PENDING_UPDATE" if last else "PROVISIONING"
        status = {"detailed_state": f"SYNCED_TABLE_{state}", "message": failure or "", "pipeline_id": pipeline}
        status |= {"last_sync": last} if last else {}
        return {"name": entry["name"], "spec": entry["spec"], "status": status}

    def _active(self, pipeline: str) -> str | None:
        """The id of the pipeline's update that has not ended."""
        updates = list(self._updates.items())
        return next((key for key, (its, update) in updates if its == pipeline and not update.done()), None)

    def _start(self, request: Request) -> Tree:
        request.body(_StartUpdate)
        pipeline, update = request["pipeline"], str(uuid4())
        if not self._names_of(pipeline):
            raise missing(f"there is no pipeline {pipeline}")
        with self._lock:
            if active := self._active(pipeline):
                raise ApiError(409, "RESOURCE_CONFLICT", f"An active update {active} already exists.")
            self._updates[update] = (pipeline, self._thread.submit(self._run, pipeline))
        return {"update_id": update}

    def _get_update(self, request: Request) -> Tree:
        pipeline, found = self._updates.get(request["update"], (None, None))
        if found is None or pipeline != request["pipeline"]:
            raise missing(f"pipeline {request['pipeline']} has no update {request['update']}")
        if found.done():
            state = "COMPLETED" if found.exception() is None and found.result() else "FAILED"
        else:
            state = "RUNNING" if found.running() else "QUEUED"
        return {"update": {"update_id": request["update"], "pipeline_id": pipeline, "state": state}}

    def _names_of(self, pipeline: str) -> list[str]:
        return [name for name, entry in self._tables.read().items() if entry["pipeline_id"] == pipeline]

    def _run(self, pipeline: str) -> bool:
        """Sync the pipeline's tables; whether all succeeded."""
        outcomes = {name: self._sync(name) for name in self._names_of(pipeline)}

        def record(tables: Tree) -> None:
            for name in outcomes.keys() & tables.keys():  # one may have been deleted meanwhile
                tables[name] = {**tables[name], "failure": None, **outcomes[name]}

        self._tables.change(record)
        return not any("failure" in outcome for outcome in outcomes.values())

    def _sync(self, name: str) -> Tree:
        started = _now()
        try:
            spec = Spec.model_validate(self._tables.entry(name)["spec"])
            info = sync(self._folder, name, spec, self._store)
        except Exception as error:  # whatever a table or a store may raise
            why = str(error) if isinstance(error, LaptopError) else f"{type(error).__name__}: {error}"
            _LOG.error("synced table %s is not updated: %s", name, why)
            return {"failure": why}
        times = {"sync_start_time": started, "sync_end_time": _now()}
        return {"last_sync": {"delta_table_sync_info": info, **times}}


def _done(name: str, what: str, response: Tree | None = None) -> Tree:
    """An operation on a synced table, which has ended."""
    return {"name": f"synced_tables/{name}/operations/{what}", "done": True, "response": response or {}}


def _now() -> str:
    return datetime.now(tz=UTC).isoformat()
