"""What the release job asks of an endpoint, over HTTP and through the SDK, with whatever may go wrong on the way."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.clock import Clock
from databricks.sdk.config import Config
from databricks.sdk.service.serving import ServedEntityInput
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import Served
from flight_delays.local.control_plane import control_plane, listening
from flight_delays.local.live_endpoints import LiveEndpoints
from flight_delays.platform.endpoints import Endpoints, connect
from flight_delays.platform.runtime import CONTROL_PLANE
from flight_delays.serving.service import Service

MODEL = "dev.flights.delay"
BROKEN, SLOW = 8, 9
CONFIG, ENDPOINT = ("PUT", "/api/2.0/serving-endpoints/delay/config"), ("GET", "/api/2.0/serving-endpoints/delay")
LOST = 0
"""Stands for: the request is carried out, and its answer never sent."""


@dataclass
class Time(Clock):
    """Passes only while somebody sleeps, then at once."""

    now: float = 0.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Faulty:
    """In front of the control plane: the next answers to a method and path, the last of them for ever if it is -status.

    Others, and those after the last, are answered by the control plane.
    """

    app: ASGIApp
    faults: dict[tuple[str, str], list[int | dict[str, Any]]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        waiting = self.faults.get((scope["method"], scope["path"]), [])
        fault = waiting[0] if waiting else None
        if waiting and not (isinstance(fault, int) and fault < 0):
            waiting.pop(0)
        self.seen.append(f"{scope['method']} {scope['path'].rpartition('/')[2]}")
        if fault is None:
            await self.app(scope, receive, send)
        elif isinstance(fault, dict):
            await JSONResponse(fault)(scope, receive, send)
        elif fault == LOST:

            async def nobody(_: Any) -> None:
                pass

            await self.app(scope, receive, nobody)
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            status = abs(fault)
            await JSONResponse({"error_code": f"E{status}", "message": f"trouble {status}"}, status)(
                scope, receive, send
            )


@dataclass
class World:
    """An endpoint that serves version 1, faults on the way to it, and a release that talks to it."""

    plane: LiveEndpoints
    faulty: Faulty
    time: Time
    endpoints: Endpoints
    may_load: Event
    told: list[str] = field(default_factory=list)

    def configure(self, *wanted: Served, limit_s: float = 3600, size: str = "Small", **endpoints: Any) -> None:
        replace(self.endpoints, **endpoints).configure(
            "delay",
            wanted,
            workload_size=size,
            scale_to_zero=True,
            environment={"FLIGHT_DELAYS_ONLINE_STORE": "{{secrets/scope/online-store}}"},
            progress=self.told.append,
            limit_s=limit_s,
        )

    def updates(self) -> int:
        return self.faulty.seen.count("PUT config")


def served(version: int, percentage: int = 100, name: str = "champion") -> Served:
    return Served(name=name, model_name=MODEL, model_version=version, percentage=percentage)


def scoring_app(service: Service) -> FastAPI:
    app = FastAPI()

    @app.post("/invocations")
    def invocations(body: dict[str, Any]) -> JSONResponse:
        if "records" in body:
            return JSONResponse({"error_code": "INVALID_PARAMETER_VALUE", "message": "give dataframe_records"}, 400)
        if "instances" in body:
            return JSONResponse({"predictions": [0.5]})
        rows = [{"probability": 0.25, "version": service.entities[0].version}] * len(body["dataframe_records"])
        return JSONResponse(
            {"predictions": rows},
            headers={"served-model-name": service.entities[0].name, "x-request-id": "request"},
        )

    return app


def client_of(address: str | None, time: Time, **config: Any) -> WorkspaceClient:
    signed_in = {"host": address, "token": "any", "auth_type": "pat", "profile": ""}
    return WorkspaceClient(config=Config(**signed_in, clock=time, retry_timeout_seconds=5, **config))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    may_load = Event()

    def load(_: str, version: int, __: Mapping[str, str]) -> Any:
        if version == BROKEN:
            raise UserError("it has no golden requests")
        if version == SLOW:
            assert may_load.wait(20)
        return object()

    secrets = {"scope/online-store": "sqlite:////online.db"}
    plane = LiveEndpoints(tmp_path, load, scoring_app, secrets, lambda _: None)
    faulty, time = Faulty(control_plane(plane)), Time()
    with listening(faulty) as address:
        client = client_of(address, time)
        client.serving_endpoints.create("delay")
        world = World(plane, faulty, time, Endpoints(client=client, clock=time.time, sleep=time.sleep), may_load)
        world.configure(served(1))
        faulty.seen.clear()
        world.told.clear()
        time.now = 0
        try:
            yield world
        finally:
            may_load.set()


def test_champion_and_challenger_are_set_by_one_call_with_all_that_they_need(world: World) -> None:
    world.configure(served(1, 90), served(2, 10, "challenger"))
    assert world.endpoints.configuration("delay") == (served(1, 90), served(2, 10, "challenger"))
    assert world.updates() == 1
    live = world.endpoints.client.serving_endpoints.get("delay").config
    for entity in live.served_entities:
        assert (entity.workload_size, entity.scale_to_zero_enabled) == ("Small", True)
        assert entity.environment_vars == {"FLIGHT_DELAYS_ONLINE_STORE": "{{secrets/scope/online-store}}"}


def test_what_serves_already_is_not_set_again(world: World) -> None:
    world.configure(served(1))
    assert (world.faulty.seen, world.told) == (["GET delay"], [])


def test_another_size_is_set(world: World) -> None:
    world.configure(served(1), size="Large")
    assert world.updates() == 1
    assert world.endpoints.client.serving_endpoints.get("delay").config.served_entities[0].workload_size == "Large"


def test_an_endpoint_without_a_configuration_serves_nothing(world: World) -> None:
    world.endpoints.client.serving_endpoints.create("empty")
    assert world.endpoints.configuration("empty") == ()


def test_what_is_no_configuration_is_never_sent(world: World) -> None:
    with pytest.raises(ValueError, match=r"^the traffic does not sum to 100 %"):
        world.configure(served(2, 90))
    assert world.faulty.seen == []


def test_an_update_under_way_is_waited_for_and_then_ours_is_sent(world: World) -> None:
    slow = ServedEntityInput(name="champion", entity_name=MODEL, entity_version=str(SLOW))
    world.endpoints.client.serving_endpoints.update_config("delay", served_entities=[slow])

    def sleep(seconds: float) -> None:
        world.may_load.set()
        world.time.sleep(seconds)

    world.configure(served(2), sleep=sleep)
    assert "endpoint delay: an update is in progress" in world.told
    assert world.endpoints.configuration("delay") == (served(2),)
    assert world.updates() == 2


@pytest.mark.parametrize(
    "faults",
    [
        {CONFIG: [429]},
        {CONFIG: [429, 429, 429, 429, 429, 429]},
        {CONFIG: [503]},
        {CONFIG: [500, 502, 504, 500]},
        {CONFIG: [409]},
        {CONFIG: [LOST]},
        {ENDPOINT: [500, 429, 503, 409, LOST, 502]},
        {ENDPOINT: [500] * 20, CONFIG: [409, 500, LOST, 429]},
    ],
)
def test_what_passes_is_waited_out(world: World, faults: dict[tuple[str, str], list[Any]]) -> None:
    world.faulty.faults = {where: list(answers) for where, answers in faults.items()}
    impatient = client_of(world.endpoints.client.config.host, world.time, http_timeout_seconds=0.5)
    world.configure(served(1, 90), served(2, 10, "challenger"), client=impatient)
    assert not any(world.faulty.faults.values())
    assert world.endpoints.configuration("delay") == (served(1, 90), served(2, 10, "challenger"))


WANTED = "endpoint delay does not serve champion version 2 at 100 %: "
MEND = "; still serving: champion version 1 at 100 %; mend that and run the release job again"


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ({CONFIG: [-500]}, "trouble 500 (tried for 60 s)"),
        ({CONFIG: [-503]}, "trouble 503 (tried for 60 s)"),
        ({CONFIG: [-429]}, "trouble 429 (tried for 60 s)"),
        ({CONFIG: [-409]}, "trouble 409 (tried for 60 s)"),
        ({CONFIG: [400]}, "trouble 400"),
        ({CONFIG: [403]}, "trouble 403. Config: "),
        ({CONFIG: [404]}, "trouble 404"),
    ],
)
def test_what_does_not_pass_ends_in_one_line_and_nothing_is_set(
    world: World, faults: dict[tuple[str, str], list[Any]], why: str
) -> None:
    world.faulty.faults = faults
    before = world.plane.get("delay")
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    if "Config" in why:
        assert str(error.value).startswith(WANTED + why)
        assert str(error.value).endswith(MEND)
        assert "\n" not in str(error.value)
    else:
        assert str(error.value) == WANTED + why + MEND
    assert world.plane.get("delay") == before
    assert world.time.now < 60 + 2 * 5 + 5  # what the SDK's own patience may add


def test_an_endpoint_that_cannot_be_looked_at_is_said_to_serve_nobody_knows_what(world: World) -> None:
    world.faulty.faults = {ENDPOINT: [-500]}
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    assert str(error.value) == WANTED + "trouble 500 (tried for 60 s)" + MEND.replace(
        "champion version 1 at 100 %", "unknown"
    )
    assert world.updates() == 0
    with pytest.raises(
        UserError, match=r"^endpoint delay cannot be looked at: trouble 500; mend that and run it again$"
    ):
        world.endpoints.configuration("delay")


def test_answers_that_never_come_end_in_one_line(world: World) -> None:
    impatient = client_of(world.endpoints.client.config.host, world.time, http_timeout_seconds=0.2)
    world.faulty.faults = {ENDPOINT: [LOST] * 100}
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=10, client=impatient)
    assert re.search(
        r"%: HTTPConnectionPool.*Read timed out.* \(tried for 10 s\); still serving: unknown;", str(error.value)
    )
    assert "\n" not in str(error.value)
    assert world.updates() == 0


def test_nobody_listening_ends_in_one_line(world: World) -> None:
    with listening(FastAPI()) as address:
        left_alone = client_of(address, world.time)
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=20, client=left_alone)
    assert re.search(r"%: HTTPConnectionPool.* \(tried for 20 s\); still serving: unknown;", str(error.value))
    assert "\n" not in str(error.value)


def test_a_failed_update_says_why_and_what_serves(world: World) -> None:
    with pytest.raises(UserError) as error:
        world.configure(served(BROKEN))
    assert str(error.value) == (
        f"endpoint delay does not serve champion version {BROKEN} at 100 %: the update failed: champion: {MODEL} "
        f"version {BROKEN} cannot be loaded: it has no golden requests{MEND}"
    )
    assert world.updates() == 1
    assert world.endpoints.configuration("delay") == (served(1),)
    assert world.endpoints.query("delay", {"dataframe_records": [{}]}).predictions[0]["version"] == 1
    world.configure(served(2))  # an update that failed before is in nobody's way
    assert world.endpoints.configuration("delay") == (served(2),)


def test_an_update_that_never_ends_is_left_alone_after_the_limit(world: World) -> None:
    with pytest.raises(UserError) as error:
        world.configure(served(SLOW), limit_s=60)
    assert str(error.value) == (
        f"endpoint delay does not serve champion version {SLOW} at 100 %: an update is in progress (tried for 60 s)"
        f"{MEND}"
    )
    assert (world.updates(), world.time.now) == (1, pytest.approx(60, abs=6))
    assert world.endpoints.configuration("delay") == (served(1),)


def test_a_change_by_someone_else_is_noticed(world: World) -> None:
    other = ServedEntityInput(name="champion", entity_name=MODEL, entity_version="3", workload_size="Small")

    def sleep(seconds: float) -> None:
        world.time.sleep(seconds)
        while world.plane.get("delay")["state"]["config_update"] == "IN_PROGRESS":
            pass
        world.endpoints.client.serving_endpoints.update_config("delay", served_entities=[other])

    with pytest.raises(UserError) as error:
        world.configure(served(2), sleep=sleep)
    assert str(error.value) == (
        f"{WANTED}it was set to that, but someone else has changed it since; still serving: champion version 3 at 100"
        " %; mend that and run the release job again"
    )


def test_an_unknown_endpoint_is_one_line_that_says_what_to_do(world: World) -> None:
    asks: list[Callable[[], object]] = [
        lambda: world.endpoints.configuration("nobody"),
        lambda: world.endpoints.configure(
            "nobody", [served(1)], workload_size="Small", scale_to_zero=True, environment={}, progress=print
        ),
    ]
    for ask in asks:
        with pytest.raises(UserError, match=r"^endpoint nobody does not exist; deploy the bundle, which creates it$"):
            ask()


def test_what_is_no_version_of_a_model_is_not_taken_for_one(world: World) -> None:
    external = {"name": "delay", "config": {"served_entities": [{"name": "chat", "external_model": {"name": "gpt"}}]}}
    world.faulty.faults = {ENDPOINT: [external]}
    with pytest.raises(UserError, match=r"^endpoint delay serves chat, which is no version of a model; remove it$"):
        world.endpoints.configuration("delay")


def test_a_request_is_answered_with_who_answered_it(world: World) -> None:
    answer = world.endpoints.query("delay", {"dataframe_records": [{}, {}]})
    assert answer.predictions == ({"probability": 0.25, "version": 1},) * 2
    assert (answer.served_name, answer.request_id) == ("champion", "request")
    assert answer.duration_ms == 0  # nobody slept


@pytest.mark.parametrize(
    ("endpoint", "payload", "message"),
    [
        (
            "nobody",
            {"dataframe_records": []},
            "endpoint nobody gave no prediction: there is no serving endpoint nobody; mend the request, or see the "
            "endpoint's page",
        ),
        (
            "delay",
            {"records": []},
            "endpoint delay gave no prediction: give dataframe_records; mend the request, or see the endpoint's page",
        ),
        (
            "delay",
            {"instances": [1]},
            "endpoint delay answers without rows of predictions; it serves another kind of model",
        ),
    ],
)
def test_no_prediction_is_one_line(world: World, endpoint: str, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        world.endpoints.query(endpoint, payload)
    assert str(error.value) == message


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", os.devnull)
    monkeypatch.delenv(CONTROL_PLANE, raising=False)


@pytest.mark.usefixtures("_bare")
def test_a_laptops_control_plane_is_asked_whatever_workspace_a_person_is_signed_in_to(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "databrickscfg"
    profiles.write_text("[work]\nhost = https://adb-1.azuredatabricks.net\ntoken = other\n")
    for name, value in {
        "DATABRICKS_CONFIG_FILE": str(profiles),
        "DATABRICKS_CONFIG_PROFILE": "work",
        "DATABRICKS_HOST": "https://adb-2.azuredatabricks.net",
        "DATABRICKS_TOKEN": "another",
        "DATABRICKS_CLIENT_ID": "someone",
        "DATABRICKS_CLIENT_SECRET": "something",
        "DATABRICKS_AUTH_TYPE": "oauth-m2m",
        "ARM_CLIENT_ID": "azure",
        CONTROL_PLANE: str(world.endpoints.client.config.host),
    }.items():
        monkeypatch.setenv(name, value)
    endpoints = connect()
    assert endpoints.client.config.host == world.endpoints.client.config.host
    assert endpoints.client.config.authenticate() == {"Authorization": "Bearer local"}
    assert endpoints.configuration("delay") == (served(1),)


@pytest.mark.usefixtures("_bare")
def test_without_a_control_plane_the_workspace_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", str(world.endpoints.client.config.host))
    monkeypatch.setenv("DATABRICKS_TOKEN", "mine")
    assert connect().client.config.authenticate() == {"Authorization": "Bearer mine"}


@pytest.mark.usefixtures("_bare")
def test_who_is_signed_in_nowhere_is_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    with pytest.raises(UserError, match=r"^no workspace to ask: .*; sign in with `databricks auth login`$"):
        connect()
