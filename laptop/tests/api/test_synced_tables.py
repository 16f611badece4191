"""Synced tables and their pipelines, as the unmodified WorkspaceClient uses them, in both kinds of online store."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, ResourceConflict
from databricks.sdk.service.postgres import (
    NewPipelineSpec,
    SyncedTable,
    SyncedTableSyncedTableSpec,
    SyncedTableSyncedTableSpecSyncedTableSchedulingPolicy,
)
from deltalake import DeltaTable, write_deltalake

from bundle_laptop.api import synced_tables
from bundle_laptop.api.online_store import OnlineTable, online_store_at
from bundle_laptop.api.synced_tables import Spec, sync
from bundle_laptop.errors import LaptopError

NAME, SOURCE = "main.flights.features_online", "main.flights.features"
TRIGGERED = SyncedTableSyncedTableSpecSyncedTableSchedulingPolicy.TRIGGERED
EARLY, LATE = datetime(2013, 1, 15, 16, tzinfo=UTC), datetime(2013, 1, 15, 17, 30, 15, 250_000, tzinfo=UTC)


@dataclass(frozen=True)
class Store:
    """One of both kinds; `address` is None for the world's own file."""

    address: str | None
    read: Callable[[Path, str], list[tuple[Any, ...]]]


def read_sqlite(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "online.db")) as store:
        return store.execute(query).fetchall()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a server of its own; skips where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="online-"))  # pytest's own is too long a name for a socket
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = "nobody"
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(found[-1].with_name(program)), *arguments, f"--pgdata={folder / 'data'}"]
        subprocess.run(command, user=user, cwd=folder, stdout=subprocess.DEVNULL, check=True)

    try:
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "start", "--wait", f"--log={folder / 'log'}", f"--options={options}")
        yield f"postgresql://postgres@/postgres?host={folder}"
        run("pg_ctl", "stop", "--mode=fast", "--wait")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "sqlite":
        return Store(None, read_sqlite)
    address = request.getfixturevalue("postgresql")
    with psycopg.connect(address) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def read(_: Path, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(address) as connection:
            return connection.execute(query).fetchall()

    return Store(address, read)


@pytest.fixture
def workspace(serve: Any, store: Store) -> Iterator[Any]:
    with serve(online_store=store.address) as workspace:
        yield workspace


@pytest.fixture
def client(workspace: Any) -> WorkspaceClient:
    found: WorkspaceClient = workspace.client
    return found


def write(folder: Path, *rows: tuple[str | None, datetime | None, float], mode: str = "append") -> None:
    schema = pa.schema([("id", pa.string()), ("known_at", pa.timestamp("us", tz="UTC")), ("hours", pa.float64())])
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)
    write_deltalake(folder / "warehouse/flights.db/features", table, mode=mode)


def spec(**more: Any) -> SyncedTableSyncedTableSpec:
    given = {
        "source_table_full_name": SOURCE,
        "primary_key_columns": ["id"],
        "timeseries_key": "known_at",
        "scheduling_policy": TRIGGERED,
        "branch": "projects/online/branches/production",
        "postgres_database": "flights",
        "create_database_objects_if_missing": True,
        "new_pipeline_spec": NewPipelineSpec(storage_catalog="main", storage_schema="flights"),
    }
    return SyncedTableSyncedTableSpec(**{**given, **more})


def create(client: WorkspaceClient, name: str = NAME, **more: Any) -> str:
    """The id of its pipeline."""
    made = client.postgres.create_synced_table(SyncedTable(spec=spec(**more)), name).wait()
    assert client.postgres.get_synced_table(f"synced_tables/{name}") == made
    pipeline: str = made.status.pipeline_id
    return pipeline


def update(client: WorkspaceClient, pipeline: str, **options: Any) -> str:
    """How it ends."""
    started = client.pipelines.start_update(pipeline, **options).update_id
    deadline = monotonic() + 30
    while (found := client.pipelines.get_update(pipeline, started).update).state.value in ("QUEUED", "RUNNING"):
        assert monotonic() < deadline
        sleep(0.01)
    state: str = found.state.value
    return state


def status(client: WorkspaceClient, name: str = NAME) -> Any:
    return client.postgres.get_synced_table(f"synced_tables/{name}").status


def hours(workspace: Any, store: Store, table: str = "features_online") -> list[tuple[Any, ...]]:
    return store.read(workspace.folder, f"SELECT id, hours FROM {table} ORDER BY id")


def test_of_each_key_the_row_with_the_newest_time_is_kept(
    workspace: Any, client: WorkspaceClient, store: Store
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0), ("b", LATE, 2.0), ("a", LATE, 3.0), ("c", None, 4.0))
    write(workspace.folder, ("b", EARLY, 5.0), ("c", EARLY, 6.0), (None, LATE, 7.0))
    assert update(client, create(client)) == "COMPLETED"
    assert hours(workspace, store) == [("a", 3.0), ("b", 2.0), ("c", 6.0)]
    assert status(client).detailed_state.value == "SYNCED_TABLE_ONLINE_NO_PENDING_UPDATE"
    assert status(client).last_sync.delta_table_sync_info.delta_commit_version == 1


def test_an_update_brings_what_was_written_and_deleted_since(
    workspace: Any, client: WorkspaceClient, store: Store
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0), ("b", EARLY, 2.0))
    pipeline = create(client)
    update(client, pipeline)
    write(workspace.folder, ("c", EARLY, 3.0))
    DeltaTable(workspace.folder / "warehouse/flights.db/features").delete("id = 'a'")
    assert hours(workspace, store) == [("a", 1.0), ("b", 2.0)]
    assert update(client, pipeline) == "COMPLETED"
    assert hours(workspace, store) == [("b", 2.0), ("c", 3.0)]


def test_a_store_that_was_lost_is_made_again(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    pipeline = create(client)
    update(client, pipeline)
    if store.address:
        with psycopg.connect(store.address) as connection:
            connection.execute("DROP TABLE features_online")
    else:
        (workspace.folder / "online.db").unlink()
    assert update(client, pipeline, full_refresh=True) == "COMPLETED"
    assert hours(workspace, store) == [("a", 1.0)]


def test_other_tables_stay_and_may_share_a_pipeline(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    pipeline = create(client)
    assert create(client, "main.flights.second", existing_pipeline_id=pipeline, new_pipeline_spec=None) == pipeline
    update(client, pipeline)
    third = create(client, "main.flights.third")
    update(client, third)
    for table in ("features_online", "second", "third"):
        assert hours(workspace, store, table) == [("a", 1.0)]


def test_a_key_of_several_columns_and_no_time(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write(workspace.folder, ("a", EARLY, 1.0), ("a", LATE, 2.0))
    assert update(client, create(client, primary_key_columns=["id", "known_at"], timeseries_key=None)) == "COMPLETED"
    assert hours(workspace, store) == [("a", 1.0), ("a", 2.0)]


def failed(client: WorkspaceClient, pipeline: str) -> str:
    assert update(client, pipeline) == "FAILED"
    message: str = status(client).message
    return message


def test_rows_with_the_same_key_that_nothing_tells_apart_fail_and_leave_the_old_rows(
    workspace: Any, client: WorkspaceClient, store: Store
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    pipeline = create(client, timeseries_key=None)
    update(client, pipeline)
    write(workspace.folder, ("a", LATE, 2.0))
    message = failed(client, pipeline)
    assert message.startswith("features_online: two rows have the same id (")
    assert message.endswith("; give a timeseries_key, or make the key unique")
    assert status(client).detailed_state.value == "SYNCED_TABLE_ONLINE_PIPELINE_FAILED"
    assert hours(workspace, store) == [("a", 1.0)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"source_table_full_name": "main.flights.none"}, "there is no table main.flights.none yet; run the job that"),
        ({"primary_key_columns": ["key"]}, f"{SOURCE} has no column key; it has id, known_at, hours"),
        ({"timeseries_key": "at"}, f"{SOURCE} has no column at; it has id, known_at, hours"),
    ],
)
def test_what_cannot_be_synced_says_why(
    workspace: Any, client: WorkspaceClient, more: dict[str, Any], message: str
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    assert failed(client, create(client, **more)).startswith(message)
    assert status(client).detailed_state.value == "SYNCED_TABLE_OFFLINE_FAILED"


def test_a_source_that_comes_later_is_synced_then(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    pipeline = create(client)
    assert status(client).detailed_state.value == "SYNCED_TABLE_PROVISIONING"
    assert "there is no table" in failed(client, pipeline)
    write(workspace.folder, ("a", EARLY, 1.0))
    assert update(client, pipeline) == "COMPLETED"
    assert (hours(workspace, store), status(client).message) == ([("a", 1.0)], "")


def test_an_empty_source_is_an_empty_table(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write(workspace.folder)
    assert update(client, create(client)) == "COMPLETED"
    assert hours(workspace, store) == []


TYPES = pa.table(
    {
        "key": pa.array([1, 2], pa.int64()),
        "small": pa.array([-3, None], pa.int16()),
        "yes": pa.array([True, None]),
        "text": pa.array(['"a", b\n', ""]),
        "bytes": pa.array([b"\0\xff", None], pa.binary()),
        "day": pa.array([date(2013, 1, 15), None]),
        "at": pa.array([LATE, EARLY], pa.timestamp("us", tz="UTC")),
        "local": pa.array([LATE.replace(tzinfo=None), None], pa.timestamp("us")),
        "price": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
        "ratio": pa.array([0.1, None], pa.float32()),
        "list": pa.array([[1, 2], None], pa.list_(pa.int64())),
        "struct": pa.array([{"a": "ü"}, None], pa.struct([("a", pa.string())])),
        'odd "name, x': pa.array([1.5, None]),
    }
)
KEPT_BY_SQLITE = [
    (1, -3, 1, '"a", b\n', b"\0\xff", "2013-01-15", "2013-01-15T17:30:15.250000", "2013-01-15T17:30:15.250000", 1.5,
     pytest.approx(0.1), "[1, 2]", '{"a": "\\u00fc"}', 1.5),
    (2, None, None, "", None, None, "2013-01-15T16:00:00", None, None, None, None, None, None),
]  # fmt: skip
KEPT_BY_POSTGRESQL = [
    (1, -3, True, '"a", b\n', b"\0\xff", date(2013, 1, 15), LATE, LATE.replace(tzinfo=None), Decimal("1.50"),
     pytest.approx(0.1), [1, 2], {"a": "ü"}, 1.5),
    (2, None, None, "", None, None, EARLY, None, None, None, None, None, None),
]  # fmt: skip


def test_every_type_is_kept(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write_deltalake(workspace.folder / "warehouse/flights.db/features", TYPES)
    pipeline = create(client, primary_key_columns=["key"], timeseries_key="at")
    assert update(client, pipeline) == "COMPLETED"
    found = store.read(workspace.folder, "SELECT * FROM features_online ORDER BY key")
    assert found == (KEPT_BY_POSTGRESQL if store.address else KEPT_BY_SQLITE)


def test_a_key_is_found_by_an_index(workspace: Any, client: WorkspaceClient, store: Store) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    update(client, create(client))
    if store.address:
        found = store.read(workspace.folder, "SELECT indexdef FROM pg_indexes WHERE tablename = 'features_online'")
        assert found[0][0].endswith("USING btree (id)")
    else:
        ((*_, plan),) = read_sqlite(
            workspace.folder, "EXPLAIN QUERY PLAN SELECT * FROM features_online WHERE id IN ('a')"
        )
        assert plan == "SEARCH features_online USING INDEX sqlite_autoindex_features_online_1 (id=?)"


@pytest.mark.parametrize("failing", [False, True])
def test_a_reader_has_the_old_rows_until_it_has_the_new_ones(
    workspace: Any, client: WorkspaceClient, store: Store, failing: bool
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    update(client, create(client))
    seen: list[Any] = []

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": ["a"], "hours": [2.0]})
        seen.extend(hours(workspace, store))
        if failing:
            raise RuntimeError("the table is gone")
        yield pa.record_batch({"id": ["b"], "hours": [3.0]})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("id", pa.string()), ("hours", pa.float64())]), batches())
    online = online_store_at(workspace.folder, store.address)
    try:
        online(OnlineTable(name="features_online", key=("id",), newest_by=None), reader)
    except RuntimeError:
        assert failing
    assert seen == [("a", 1.0)]
    assert hours(workspace, store) == ([("a", 1.0)] if failing else [("a", 2.0), ("b", 3.0)])
    assert sorted(path.name for path in workspace.folder.iterdir() if "online" in path.name) == (
        [] if store.address else ["online.db"]
    )


def test_a_file_that_is_no_database_is_said_to_be_and_left(tmp_path: Path) -> None:
    write(tmp_path, ("a", EARLY, 1.0))
    (tmp_path / "online.db").write_text("no database " * 100)
    spec = Spec(source_table_full_name=SOURCE, primary_key_columns=("id",))
    with pytest.raises(LaptopError, match=r"online.db cannot be written: file is not a database; delete it, then sync"):
        sync(tmp_path, NAME, spec, online_store_at(tmp_path, None))
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse", "online.db"]


def test_a_store_that_is_down_is_one_line_without_its_password(serve: Any) -> None:
    with serve(online_store="postgresql://reader:hush@127.0.0.1:1/none") as workspace:
        write(workspace.folder, ("a", EARLY, 1.0))
        message = failed(workspace.client, create(workspace.client))
        assert message == "the online store failed: OperationalError"


def test_only_one_update_of_a_pipeline_runs(client: WorkspaceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Event()

    def wait(*_: Any) -> dict[str, Any]:
        assert go.wait(20)
        return {}

    monkeypatch.setattr(synced_tables, "sync", wait)
    pipeline = create(client)
    started = client.pipelines.start_update(pipeline).update_id
    assert client.pipelines.get_update(pipeline, started).update.state.value in ("QUEUED", "RUNNING")
    assert status(client).detailed_state.value == "SYNCED_TABLE_PROVISIONING_INITIAL_SNAPSHOT"
    with pytest.raises(ResourceConflict, match=rf"^An active update {started} already exists\.$"):
        client.pipelines.start_update(pipeline)
    go.set()


def test_a_deleted_synced_table_is_gone_and_its_rows_stay(
    workspace: Any, client: WorkspaceClient, store: Store
) -> None:
    write(workspace.folder, ("a", EARLY, 1.0))
    update(client, create(client))
    client.postgres.delete_synced_table(f"synced_tables/{NAME}").wait()
    assert hours(workspace, store) == [("a", 1.0)]
    with pytest.raises(NotFound, match=rf"^there is no synced table {NAME}$"):
        client.postgres.get_synced_table(f"synced_tables/{NAME}")


def test_synced_tables_outlive_the_server(serve: Any) -> None:
    with serve() as workspace:
        write(workspace.folder, ("a", EARLY, 1.0))
        pipeline = create(workspace.client)
        update(workspace.client, pipeline)
        before = workspace.client.postgres.get_synced_table(f"synced_tables/{NAME}")
    with serve() as workspace:
        assert workspace.client.postgres.get_synced_table(f"synced_tables/{NAME}") == before
        assert update(workspace.client, pipeline) == "COMPLETED"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda c: create(c, primary_key_columns=[]),
            InvalidParameterValue,
            "spec.primary_key_columns: Field required",
        ),
        (lambda c: create(c, "features"), InvalidParameterValue, "synced_table_id must be <catalog>.<schema>.<table>"),
        (lambda c: c.pipelines.start_update("none"), NotFound, "there is no pipeline none"),
        (lambda c: c.pipelines.start_update("none", validate_only=True), InvalidParameterValue, "validate_only: the"),
        (lambda c: c.pipelines.get_update("none", "u"), NotFound, "pipeline none has no update u"),
        (lambda c: c.postgres.delete_synced_table("synced_tables/none"), NotFound, "there is no synced table none"),
    ],
)
def test_a_wrong_request_is_refused(serve: Any, call: Any, error: type[Exception], message: str) -> None:
    with serve() as workspace, pytest.raises(error) as raised:
        call(workspace.client)
    assert str(raised.value).startswith(message)


def test_times_of_a_sync_are_those_of_the_commit_and_of_the_copy(serve: Any) -> None:
    with serve() as workspace:
        write(workspace.folder, ("a", EARLY, 1.0))
        update(workspace.client, create(workspace.client))
        found = status(workspace.client).last_sync
        texts = (found.delta_table_sync_info.delta_commit_time, found.sync_start_time, found.sync_end_time)
        times = [text.ToDatetime() for text in texts]
        assert times == sorted(times)
        assert times[-1] - times[0] < timedelta(minutes=1)
