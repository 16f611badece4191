"""Synced tables and their pipelines: https://docs.databricks.com/api/workspace/database

An update copies the newest version of the source table whole, if there is a newer one, to a table of the online store
that is named as the last part of the synced table's name. It runs when it is asked for, whatever the scheduling policy;
creating a synced table starts none, for its source need not exist yet. Database instances are names and no more.
"""

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import Field

from bundle_laptop.api.online_store import OnlineStore, OnlineTable, PostgresqlStore, SqliteStore
from bundle_laptop.api.state import StateFile
from bundle_laptop.api.tables import location
from bundle_laptop.api.web import ApiError, Body, Request, Route, Tree, missing
from bundle_laptop.errors import LaptopError

if TYPE_CHECKING:
    import pyarrow as pa

_DATABASE, _PIPELINES = "/api/2.0/database", "/api/2.0/pipelines"
_LOG = logging.getLogger(__name__)
_FULL_NAME = r"^[^.\s]+\.[^.\s]+\.[^.\s]+$"


@dataclass(frozen=True, kw_only=True)
class SyncedTable:
    """What is copied where; names are <catalog>.<schema>.<table>."""

    name: str
    source: str
    primary_key: tuple[str, ...]
    timeseries_key: str | None = None


def online_store_at(folder: Path, address: str | None) -> OnlineStore:
    """The online store of a world. Raises LaptopError for an address of another kind."""
    if address is None:
        return SqliteStore(folder / "online.db")
    if address.startswith(("postgresql://", "postgres://")):
        return PostgresqlStore(address)
    raise LaptopError("the online store's address is not postgresql://<user>:<password>@<host>/<database>")


def sync(folder: Path, table: SyncedTable, store: OnlineStore, *, again: bool = False) -> tuple[int, int]:
    """Copy the source, unless its version was copied already and not `again`; the version and its time in ms."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        source = DeltaTable(location(folder, table.source))
    except TableNotFoundError:
        raise LaptopError(f"there is no table {table.source} yet; run the job that writes it") from None
    columns = [field.name for field in source.schema().fields]
    unknown = [name for name in (*table.primary_key, table.timeseries_key) if name and name not in columns]
    if unknown:
        raise LaptopError(f"{table.source} has no column {unknown[0]}; it has {', '.join(columns)}")
    online, version = table.name.rpartition(".")[2], source.version()
    made_of = f"{source.metadata().id} {version} {asdict(table)}"
    if again or store.made_of(online) != made_of:
        target = OnlineTable(name=online, key=table.primary_key, newest_by=table.timeseries_key)
        store.replace(target, _read(source), made_of)
    return version, int(source.history(1)[0]["timestamp"])


def _read(source: Any) -> "pa.RecordBatchReader":  # noqa: ANN401 (a DeltaTable, which is imported late)
    """All rows in batches, with deletion vectors and column mapping applied; texts as plain Arrow strings."""
    import pyarrow as pa

    schema, reader = pa.schema(source.schema().to_arrow()), pa.RecordBatchReader.from_stream(source.scan())
    return pa.RecordBatchReader.from_batches(schema, (batch.select(schema.names).cast(schema) for batch in reader))


class _PipelineSpec(Body):
    storage_catalog: str | None = None
    storage_schema: str | None = None
    budget_policy_id: str | None = None


class _Spec(Body):
    source_table_full_name: str = Field(pattern=_FULL_NAME)
    primary_key_columns: tuple[str, ...] = Field(min_length=1)
    timeseries_key: str | None = None
    scheduling_policy: Literal["SNAPSHOT", "TRIGGERED", "CONTINUOUS"] = "SNAPSHOT"
    create_database_objects_if_missing: bool = False
    existing_pipeline_id: str | None = None
    new_pipeline_spec: _PipelineSpec | None = None
    accelerated_sync: bool = False


class _NewTable(Body):
    name: str = Field(pattern=_FULL_NAME)
    database_instance_name: str | None = None
    logical_database_name: str | None = None
    spec: _Spec


class _NewInstance(Body):
    name: str = Field(min_length=1)
    capacity: str | None = None
    enable_pg_native_login: bool | None = None
    enable_readable_secondaries: bool | None = None
    node_count: int | None = None
    retention_window_in_days: int | None = None
    stopped: bool | None = None
    usage_policy_id: str | None = None


class _StartUpdate(Body):
    full_refresh: bool = False
    cause: str | None = None
    development: bool | None = None


@dataclass(kw_only=True)
class _Update:
    id: str
    pipeline: str
    created: int
    state: str = "QUEUED"


class SyncedTables:
    """The synced tables of one world. Updates run one after the other and end with the server."""

    def __init__(self, folder: Path, store: OnlineStore) -> None:
        self._folder, self._store = folder, store
        self._tables = StateFile(folder / "api" / "synced_tables.json", "synced table")
        self._instances = StateFile(folder / "api" / "database_instances.json", "database instance")
        self._updates: dict[str, _Update] = {}
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="synced-tables")

    def close(self) -> None:
        """Wait for the update under way."""
        self._thread.shutdown(cancel_futures=True)

    def routes(self) -> list[Route]:
        """What this answers."""
        tables, instances = f"{_DATABASE}/synced_tables", f"{_DATABASE}/instances"
        return [
            ("POST", tables, self._create),
            ("GET", tables + "/{name}", lambda request: self._shown(self._tables.entry(request["name"]))),
            ("DELETE", tables + "/{name}", self._delete),
            ("GET", instances, lambda _: {"database_instances": list(self._instances.read().values())}),
            ("POST", instances, self._create_instance),
            ("GET", instances + "/{name}", lambda request: self._instances.entry(request["name"])),
            ("DELETE", instances + "/{name}", self._delete_instance),
            ("POST", _PIPELINES + "/{pipeline}/updates", self._start),
            ("GET", _PIPELINES + "/{pipeline}/updates/{update}", self._get_update),
        ]

    def _create(self, request: Request) -> Tree:
        body = request.body(_NewTable)
        pipeline = body.spec.existing_pipeline_id or str(uuid5(NAMESPACE_URL, body.name))
        entry = {"table": body.model_dump(exclude_none=True), "pipeline_id": pipeline}
        self._tables.add(body.name, entry)
        return self._shown(entry)

    def _delete(self, request: Request) -> Tree:
        name = request["name"]
        self._tables.remove(name)
        if request.flag("purge_data"):
            self._store.drop(name.rpartition(".")[2])
        return {}

    def _shown(self, entry: Tree) -> Tree:
        pipeline, table = entry["pipeline_id"], entry["table"]
        running = any(update.state in ("QUEUED", "RUNNING") for update in self._of(pipeline))
        last, failure = entry.get("last_sync"), entry.get("failure")
        online = "SYNCED_TABLE_ONLINE" if last else "SYNCED_TABLE_OFFLINE"
        if running:
            state = "SYNCED_TABLE_ONLINE_TRIGGERED_UPDATE" if last else "SYNCED_TABLE_PROVISIONING_INITIAL_SNAPSHOT"
        elif failure:
            state = f"{online}_PIPELINE_FAILED" if last else f"{online}_FAILED"
        else:
            state = f"{online}_NO_PENDING_UPDATE" if last else "SYNCED_TABLE_PROVISIONING"
        status = {"detailed_state": state, "message": failure or "", "pipeline_id": pipeline}
        return {
            **table,
            "effective_database_instance_name": table.get("database_instance_name"),
            "effective_logical_database_name": table.get("logical_database_name"),
            "unity_catalog_provisioning_state": "ACTIVE",
            "data_synchronization_status": {**status, **({"last_sync": last} if last else {})},
        }

    def _of(self, pipeline: str) -> Iterable[_Update]:
        return [update for update in list(self._updates.values()) if update.pipeline == pipeline]

    def _start(self, request: Request) -> Tree:
        body, pipeline = request.body(_StartUpdate), request["pipeline"]
        if not self._names_of(pipeline):
            raise missing(f"there is no pipeline {pipeline}")
        with self._lock:
            for update in self._of(pipeline):
                if update.state in ("QUEUED", "RUNNING"):
                    raise ApiError(409, "RESOURCE_CONFLICT", f"An active update {update.id} already exists.")
            update = _Update(id=str(uuid4()), pipeline=pipeline, created=int(datetime.now(tz=UTC).timestamp() * 1000))
            self._updates[update.id] = update
        self._thread.submit(self._run, update, again=body.full_refresh)
        return {"update_id": update.id}

    def _get_update(self, request: Request) -> Tree:
        update = self._updates.get(request["update"])
        if update is None or update.pipeline != request["pipeline"]:
            raise missing(f"pipeline {request['pipeline']} has no update {request['update']}")
        shown = {"update_id": update.id, "pipeline_id": update.pipeline, "state": update.state}
        return {"update": {**shown, "creation_time": update.created}}

    def _names_of(self, pipeline: str) -> list[str]:
        return [name for name, entry in self._tables.read().items() if entry["pipeline_id"] == pipeline]

    def _run(self, update: _Update, *, again: bool) -> None:
        update.state, ended = "RUNNING", "FAILED"
        try:
            outcomes = {name: self._sync(name, again=again) for name in self._names_of(update.pipeline)}
            self._tables.change(lambda tables: _record(tables, outcomes))
            ended = "FAILED" if any("failure" in outcome for outcome in outcomes.values()) else "COMPLETED"
        finally:
            update.state = ended

    def _sync(self, name: str, *, again: bool) -> Tree:
        spec, started = self._tables.entry(name)["table"]["spec"], _now()
        table = SyncedTable(
            name=name,
            source=spec["source_table_full_name"],
            primary_key=tuple(spec["primary_key_columns"]),
            timeseries_key=spec.get("timeseries_key"),
        )
        try:
            version, committed = sync(self._folder, table, self._store, again=again)
        except Exception as error:  # whatever a table or a store may raise
            why = str(error) if isinstance(error, LaptopError) else f"{type(error).__name__}: {error}"
            _LOG.error("synced table %s is not updated: %s", name, why)
            return {"failure": why}
        commit = datetime.fromtimestamp(committed / 1000, tz=UTC).isoformat()
        info = {"delta_commit_version": version, "delta_commit_timestamp": commit}
        times = {"sync_start_timestamp": started, "sync_end_timestamp": _now()}
        return {"last_sync": {"delta_table_sync_info": info, **times}}

    def _create_instance(self, request: Request) -> Tree:
        body = request.body(_NewInstance)
        instance = {**body.model_dump(exclude_none=True), "uid": str(uuid4()), "state": "AVAILABLE", "creator": "local"}
        return self._instances.add(body.name, instance)

    def _delete_instance(self, request: Request) -> Tree:
        self._instances.remove(request["name"])
        return {}


def _record(tables: Tree, outcomes: Mapping[str, Tree]) -> None:
    for name, outcome in outcomes.items():
        if name in tables:  # it may have been deleted meanwhile
            tables[name] = {**tables[name], "failure": None, **outcome}


def _now() -> str:
    return datetime.now(tz=UTC).isoformat()
