"""The synced table of the online store is refreshed, over HTTP and through the SDK, whatever goes wrong on the way."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.service.pipelines import GetUpdateResponse, UpdateInfo, UpdateInfoState
from databricks.sdk.service.postgres import SyncedTable, SyncedTableSyncedTableSpec, SyncedTableSyncedTableStatus
from deltalake import write_deltalake
from tests.contexts import Time, client_at

from bundle_laptop.api import Faults, serve_workspace
from flight_delays.core.errors import UserError
from flight_delays.platform.online_store import refresh

TABLE, SOURCE = "main.flights.features_online", "main.flights.features"
FIND = {"method": "GET", "path": "/postgres/synced_tables/"}
START = {"method": "POST", "path": "/pipelines/.*/updates$"}
LOOK = {"method": "GET", "path": "/pipelines/.*/updates/"}
FAIL, TELLS = {"action": "fail"}, "fail, injected by the laptop's faults"


@dataclass(frozen=True, kw_only=True)
class World:
    """A workspace with one synced table, a table that it is of, and faults on the way to it."""

    folder: Path
    address: str
    faults: Faults

    def write(self, *ids: str) -> None:
        write_deltalake(self.source, pa.table({"entity_id": ids}), mode="append")

    @property
    def source(self) -> Path:
        return self.folder / "warehouse/flights.db/features"

    def synced(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "online.db")) as store:
            return [row[0] for row in store.execute("SELECT entity_id FROM features_online ORDER BY 1")]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    faults = Faults()
    with serve_workspace(tmp_path, faults=faults) as address:
        world = World(folder=tmp_path, address=address, faults=faults)
        spec = SyncedTableSyncedTableSpec(source_table_full_name=SOURCE, primary_key_columns=["entity_id"])
        client_at(address, Time()).postgres.create_synced_table(SyncedTable(spec=spec), TABLE).wait()
        world.write("a", "b")
        yield world


def refreshed(client: WorkspaceClient, limit_s: float = 10) -> list[str]:
    """What was told meanwhile."""
    told: list[str] = []
    time = Time()
    refresh(client, TABLE, progress=told.append, limit_s=limit_s, clock=time.time, sleep=time.sleep)
    assert all(line.startswith(f"{TABLE}: ") for line in told)
    return [line.removeprefix(f"{TABLE}: ") for line in told]


def test_all_rows_that_were_there_are_online_when_it_is_done(world: World) -> None:
    client = client_at(world.address, Time())
    assert refreshed(client, 600)[0] == "the update was started"
    assert world.synced() == ["a", "b"]
    world.write("c")
    refreshed(client, 600)
    assert world.synced() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([START | {"action": "conflict", "times": 2}], ["another update is under way", "the update was started"]),
        ([FIND | FAIL, START | FAIL], [TELLS, "the update was started"]),
        ([LOOK | FAIL], ["the update was started", TELLS]),
        ([START | {"action": "throttle", "retry_after": 1}], ["the update was started"]),
        ([where | {"action": "cut_before"} for where in (FIND, START, LOOK)], ["the update was started"]),
        ([FIND | {"action": "cut"}, LOOK | {"action": "cut"}], ["the update was started"]),
    ],
)
def test_what_passes_is_waited_out(world: World, faults: list[dict[str, Any]], told: list[str]) -> None:
    for fault in faults:
        world.faults.add(**fault)
    found = refreshed(client_at(world.address, Time()), 600)
    assert [line for line in found if "the update is " not in line] == told
    assert world.synced() == ["a", "b"]


def test_an_answer_that_is_lost_is_asked_for_again(world: World) -> None:
    world.faults.add(**START, action="cut")  # so an update is under way, or done, that nobody knows of
    refreshed(client_at(world.address, Time()), 600)
    assert world.synced() == ["a", "b"]


AGAIN = "(waited for 10 s); run it again"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (START | {"action": "conflict"}, f"another update is under way {AGAIN}"),
        (START | FAIL, f"{TELLS} {AGAIN}"),
        (FIND | FAIL | {"status": 503}, f"{TELLS} {AGAIN}"),
        (START | {"action": "throttle"}, f"throttle, injected by the laptop's faults {AGAIN}"),
        (LOOK | FAIL, f"{TELLS} {AGAIN}"),
    ],
)
def test_what_does_not_pass_is_given_up_after_the_time_limit(world: World, fault: dict[str, Any], says: str) -> None:
    world.faults.add(**fault, times=None)
    with pytest.raises(UserError) as error:
        refreshed(client_at(world.address, Time()))
    assert str(error.value) == f"{TABLE} is not refreshed: {says}"


def test_an_update_that_fails_is_one_line(world: World) -> None:
    shutil.rmtree(world.source)
    with pytest.raises(
        UserError, match=rf"^{TABLE} is not refreshed: update [\w-]+ of pipeline [\w-]+ FAILED; see its "
    ):
        refreshed(client_at(world.address, Time()), 600)


def test_a_table_that_is_not_there_is_one_line(world: World) -> None:
    client = client_at(world.address, Time())
    client.postgres.delete_synced_table(f"synced_tables/{TABLE}").wait()
    with pytest.raises(UserError) as error:
        refreshed(client)
    assert str(error.value) == (
        f"{TABLE} is not refreshed: there is no synced table {TABLE}; "
        "deploy the bundle with online_database: ${var.lakebase}, then run it again"
    )


def test_a_workspace_that_is_not_there_is_given_up_after_the_time_limit(tmp_path: Path) -> None:
    with serve_workspace(tmp_path) as address:
        client = client_at(address, Time())
    with pytest.raises(UserError, match=rf"^{TABLE} is not refreshed: .*Connection refused.* \(waited for 10 s\)"):
        refreshed(client)


def saying(*states: str, pipelines: tuple[str | None, ...] = ("p1",), refusal: Exception | None = None) -> Any:
    """A client of a workspace that says what the laptop's never does; the last again and again."""
    state, pipeline = chain(states, repeat(states[-1])), chain(pipelines, repeat(pipelines[-1]))

    def find(_: str) -> SyncedTable:
        if refusal:
            raise refusal
        return SyncedTable(status=SyncedTableSyncedTableStatus(pipeline_id=next(pipeline)))

    def look(*_: str) -> GetUpdateResponse:
        return GetUpdateResponse(update=UpdateInfo(state=UpdateInfoState(next(state))))

    start = SimpleNamespace(update_id="u1")
    return SimpleNamespace(
        postgres=SimpleNamespace(get_synced_table=find),
        pipelines=SimpleNamespace(start_update=lambda _: start, get_update=look),
    )


def test_each_state_is_told_once() -> None:
    client = saying("WAITING_FOR_RESOURCES", "RUNNING", "RUNNING", "COMPLETED", pipelines=(None, "", "p1"))
    assert refreshed(client, 60) == [
        "its pipeline is being made",
        "the update was started",
        "the update is WAITING_FOR_RESOURCES",
        "the update is RUNNING",
    ]


DEPLOY = "deploy the bundle with online_database: ${var.lakebase}, then run it again"


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (saying("FAILED"), "update u1 of pipeline p1 FAILED; see its page, then run it again"),
        (saying("RUNNING", "CANCELED"), "update u1 of pipeline p1 CANCELED; see its page, then run it again"),
        (saying("RUNNING"), f"the update is RUNNING {AGAIN}"),
        (saying("RUNNING", pipelines=(None,)), f"its pipeline is being made {AGAIN}"),
        (saying("RUNNING", refusal=NotFound("no such\n  table")), f"no such table; {DEPLOY}"),
        *((saying("RUNNING", refusal=error("no")), "no; fix that, then run it again")
          for error in (PermissionDenied, Unauthenticated, BadRequest)),
    ],
)  # fmt: skip
def test_what_keeps_a_table_from_being_refreshed_is_said_in_one_line(client: Any, says: str) -> None:
    with pytest.raises(UserError) as error:
        refreshed(client)
    assert re.sub(r"\s+", " ", str(error.value)) == str(error.value) == f"{TABLE} is not refreshed: {says}"
