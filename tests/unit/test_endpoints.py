"""What the release job asks of an endpoint, over HTTP and through the SDK, with whatever may go wrong on the way."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import ServedEntityInput, ServingEndpointDetailed
from tests.contexts import Time, client_at

from bundle_laptop.api import Faults, serve_workspace
from bundle_laptop.api.scoring import Scored
from bundle_laptop.pytest_plugin import LaptopWorkspace
from flight_delays.core.errors import UserError
from flight_delays.core.traffic import Served
from flight_delays.platform.endpoints import Endpoints, connect

MODEL = "dev.flights.delay"
BROKEN, SLOW = 8, 9
UPDATE = {"method": "PUT", "path": "/serving-endpoints/delay/config"}
LOOK = {"method": "GET", "path": "/serving-endpoints/delay"}
FAILS = {"action": "fail", "times": None}
LOST = {"action": "cut"}  # carried out, and the answer is never sent
STORE = {"FLIGHT_DELAYS_ONLINE_STORE": "{{secrets/scope/online-store}}"}


@dataclass
class World:
    """An endpoint that serves version 1, faults on the way to it, and a release that talks to it."""

    endpoints: Endpoints
    faults: Faults
    time: Time
    may_load: Event
    told: list[str] = field(default_factory=list)
    before: int = 0

    @property
    def client(self) -> WorkspaceClient:
        return self.endpoints.client

    def configure(self, *wanted: Served, limit_s: float = 3600, size: str = "Small", **changes: Any) -> None:
        replace(self.endpoints, **changes).configure(
            "delay",
            wanted,
            workload_size=size,
            scale_to_zero=True,
            environment=STORE,
            progress=self.told.append,
            limit_s=limit_s,
        )

    def new_client(self, **config: Any) -> WorkspaceClient:
        return client_at(str(self.client.config.host), self.time, **config)

    def start_update(self, version: int) -> None:
        """Somebody else's."""
        entity = ServedEntityInput(name="champion", entity_name=MODEL, entity_version=str(version))
        self.client.serving_endpoints.update_config("delay", served_entities=[entity])

    def is_updating(self) -> bool:
        return str(self.client.serving_endpoints.get("delay").state.config_update.value) == "IN_PROGRESS"

    @property
    def asked(self) -> list[str]:
        return [f"{one.method} {one.path.rpartition('/')[2]}" for one in self.faults.requests[self.before :]]


def served(version: int, percentage: int = 100, name: str = "champion") -> Served:
    return Served(name=name, model_name=MODEL, model_version=version, percentage=percentage)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    may_load, faults, time = Event(), Faults(), Time()

    def load(_: str, version: int, __: Mapping[str, str]) -> Callable[[bytes, str], Scored]:
        if version == BROKEN:
            raise UserError("it has no golden requests")
        assert version != SLOW or may_load.wait(20)
        answers = {
            b"instances": '{"predictions": [0.5]}',
            b"dataframe_records": f'{{"predictions": [{{"probability": 0.25, "version": {version}}}]}}',
        }
        refused = Scored(status=400, content_type="application/json", text='{"message": "give dataframe_records"}')

        def score(body: bytes, _: str) -> Scored:
            found = [text for form, text in answers.items() if form in body]
            return Scored(status=200, content_type="application/json", text=found[0]) if found else refused

        return score

    with serve_workspace(tmp_path, faults=faults, loader=load) as address:
        client = client_at(address, time)
        client.secrets.create_scope("scope")
        client.secrets.put_secret("scope", "online-store", string_value="sqlite:////online.db")
        client.serving_endpoints.create("delay")
        world = World(Endpoints(client=client, clock=time.time, sleep=time.sleep), faults, time, may_load)
        world.configure(served(1))
        world.told.clear()
        world.before, time.now = len(faults.requests), 0
        try:
            yield world
        finally:
            may_load.set()


BOTH = served(1, 90), served(2, 10, "challenger")


def test_champion_and_challenger_are_set_by_one_call_with_all_that_they_need(world: World) -> None:
    world.configure(*BOTH)
    assert world.endpoints.configuration("delay") == BOTH
    assert world.asked.count("PUT config") == 1
    for entity in world.client.serving_endpoints.get("delay").config.served_entities:
        assert (entity.workload_size, entity.scale_to_zero_enabled, entity.environment_vars) == ("Small", True, STORE)


def test_what_serves_already_is_not_set_again(world: World) -> None:
    world.configure(served(1))
    assert (world.asked, world.told) == (["GET delay"], [])


def test_another_size_is_set(world: World) -> None:
    world.configure(served(1), size="Large")
    assert world.asked.count("PUT config") == 1
    assert world.client.serving_endpoints.get("delay").config.served_entities[0].workload_size == "Large"


def test_an_endpoint_without_a_configuration_serves_nothing(world: World) -> None:
    world.client.serving_endpoints.create("empty")
    assert world.endpoints.configuration("empty") == ()


def test_an_update_under_way_is_waited_for_and_then_ours_is_sent(world: World) -> None:
    world.start_update(SLOW)

    def sleep(seconds: float) -> None:
        world.may_load.set()
        world.time.sleep(seconds)

    world.configure(served(2), sleep=sleep)
    assert world.told[0] == "endpoint delay: an update is in progress"
    assert world.endpoints.configuration("delay") == (served(2),)
    assert world.asked.count("PUT config") == 2


@pytest.mark.parametrize(
    "faults",
    [
        [UPDATE | {"action": "throttle"}],
        [UPDATE | {"action": "throttle", "retry_after": 3, "times": 6}],
        [UPDATE | {"action": "fail", "status": 503}],
        [UPDATE | {"action": "fail", "status": status} for status in (500, 502, 504, 500)],
        [UPDATE | {"action": "conflict"}],
        [UPDATE | LOST],
        [UPDATE | {"action": "cut_before"}],
        [LOOK | {"action": "hang", "seconds": 1}],
        [LOOK | how for how in ({"action": "fail"}, {"action": "throttle"}, {"action": "conflict"}, LOST)],
        [
            LOOK | {"action": "fail", "times": 20},
            *(UPDATE | how for how in ({"action": "conflict"}, {"action": "fail"}, LOST, {"action": "throttle"})),
        ],
    ],
)
def test_what_passes_is_waited_out(world: World, faults: list[dict[str, Any]]) -> None:
    for fault in faults:
        world.faults.add(**fault)
    world.configure(*BOTH, client=world.new_client(http_timeout_seconds=0.5))
    assert world.faults.take(**UPDATE) is world.faults.take(**LOOK) is None  # each was met
    assert world.endpoints.configuration("delay") == BOTH


WANTED = "endpoint delay does not serve champion version 2 at 100 %: "
MEND = "; still serving: champion version 1 at 100 %; fix that and run the job again"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (FAILS, "fail, injected by the laptop's faults (tried for 60 s)"),
        (FAILS | {"status": 503}, "fail, injected by the laptop's faults (tried for 60 s)"),
        ({"action": "throttle", "times": None}, "throttle, injected by the laptop's faults (tried for 60 s)"),
        ({"action": "conflict", "times": None}, "conflict, injected by the laptop's faults (tried for 60 s)"),
    ],
)
def test_what_does_not_pass_ends_in_one_line_and_nothing_is_set(world: World, fault: dict[str, Any], why: str) -> None:
    world.faults.add(**UPDATE, **fault)
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    assert str(error.value) == WANTED + why + MEND
    assert world.time.now < 60 + 2 * 5 + 5  # what the SDK's own patience may add
    assert world.endpoints.configuration("delay") == (served(1),)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda world: world.client.secrets.delete_secret("scope", "online-store"), "environment_vars: FLIGHT_DELAYS"),
        (lambda world: world.client.secrets.delete_scope("scope"), "environment_vars: FLIGHT_DELAYS_ONLINE_STORE: "),
    ],
)
def test_what_is_refused_is_not_tried_again(world: World, broken: Callable[[World], None], why: str) -> None:
    broken(world)
    with pytest.raises(UserError) as error:
        world.configure(served(2))
    assert str(error.value).startswith(f"{WANTED}champion: {why}")
    assert str(error.value).endswith(MEND)
    assert (world.asked.count("PUT config"), world.time.now) == (1, 0)


def test_an_endpoint_that_cannot_be_looked_at_is_said_to_serve_nobody_knows_what(world: World) -> None:
    world.faults.add(**LOOK, **FAILS)
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    assert str(error.value) == (
        f"{WANTED}fail, injected by the laptop's faults (tried for 60 s); still serving: unknown; fix that and run "
        "the job again"
    )
    assert "PUT config" not in world.asked
    with pytest.raises(UserError, match=r"^endpoint delay cannot be looked at: fail, .*; fix that and run it again$"):
        world.endpoints.configuration("delay")


@pytest.mark.parametrize(
    ("fault", "why"),
    [({"action": "hang"}, "Read timed out"), ({"action": "cut_before"}, "Connection aborted")],
)
def test_answers_that_never_come_end_in_one_line(world: World, fault: dict[str, Any], why: str) -> None:
    world.faults.add(**LOOK, **fault, times=None)
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=10, client=world.new_client(http_timeout_seconds=0.2))
    assert re.search(rf"%: [^\n]*{why}[^\n]* \(tried for 10 s\); still serving: unknown;[^\n]*$", str(error.value))
    assert "PUT config" not in world.asked


def test_nobody_listening_ends_in_one_line(tmp_path: Path) -> None:
    time = Time()
    with serve_workspace(tmp_path) as address:
        left_alone = Endpoints(client=client_at(address, time), clock=time.time, sleep=time.sleep)
    with pytest.raises(UserError, match=r"%: HTTPConnectionPool[^\n]* \(tried for 20 s\); still serving: unknown;"):
        World(left_alone, Faults(), time, Event()).configure(served(2), limit_s=20)


def test_a_failed_update_says_why_and_what_serves(world: World) -> None:
    with pytest.raises(UserError) as error:
        world.configure(served(BROKEN))
    assert str(error.value) == (
        f"endpoint delay does not serve champion version {BROKEN} at 100 %: the update failed: champion: {MODEL} "
        f"version {BROKEN} cannot be loaded: UserError: it has no golden requests{MEND}"
    )
    assert world.asked.count("PUT config") == 1
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
    assert (world.asked.count("PUT config"), world.time.now) == (1, pytest.approx(60, abs=6))
    assert world.endpoints.configuration("delay") == (served(1),)


def test_a_change_by_someone_else_is_noticed(world: World) -> None:
    others = [3]

    def sleep(seconds: float) -> None:
        world.time.sleep(seconds)
        while world.is_updating():
            pass
        if others:
            world.start_update(others.pop())

    with pytest.raises(UserError) as error:
        world.configure(served(2), sleep=sleep)
    assert str(error.value) == (
        f"{WANTED}it was set to that, but someone else has changed it since; still serving: champion version 3 at 100"
        " %; fix that and run the job again"
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


def test_what_is_no_version_of_a_model_is_not_taken_for_one() -> None:
    external = {"name": "delay", "config": {"served_entities": [{"name": "chat", "external_model": {"name": "gpt"}}]}}
    found = SimpleNamespace(get=lambda _: ServingEndpointDetailed.from_dict(external))
    client: Any = SimpleNamespace(serving_endpoints=found)
    with pytest.raises(UserError, match=r"^endpoint delay serves chat, which is no version of a model; remove it$"):
        Endpoints(client=client).configuration("delay")


def test_a_request_is_answered_with_who_answered_it(world: World) -> None:
    answer, other = (world.endpoints.query("delay", {"dataframe_records": [{}]}) for _ in range(2))
    assert answer.predictions == ({"probability": 0.25, "version": 1},)
    assert answer.served_name == "champion"
    assert answer.request_id and answer.request_id != other.request_id
    assert answer.duration_ms == 0  # nobody slept


@pytest.mark.parametrize(
    ("endpoint", "payload", "message"),
    [
        (
            "nobody",
            {"dataframe_records": []},
            "endpoint nobody gave no prediction: there is no serving endpoint nobody; fix the request, or see the "
            "endpoint's page",
        ),
        (
            "delay",
            {"records": []},
            "endpoint delay gave no prediction: give dataframe_records; fix the request, or see the endpoint's page",
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


def test_the_workspace_that_the_environment_names_is_asked(laptop_workspace: LaptopWorkspace) -> None:
    laptop_workspace.client.serving_endpoints.create("delay")
    assert connect().configuration("delay") == ()


def test_who_is_signed_in_nowhere_is_told_how_to(
    laptop_workspace: LaptopWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert laptop_workspace.address
    monkeypatch.delenv("DATABRICKS_TOKEN")
    with pytest.raises(UserError, match=r"^no workspace to ask: .*; sign in with `databricks auth login`$"):
        connect()
