"""Rollouts on endpoints of Azure ML, through the real client and over HTTP, with whatever may go wrong on the way."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from tests.azureml import ADDRESS, DEPLOYMENT, ENDPOINT, IN_WORKSPACE, PATH, Azure, Credential, Fault, Loopback, azure
from tests.contexts import Time

from flight_delays.core.errors import UserError
from flight_delays.core.settings import AzuremlRegister
from flight_delays.core.traffic import Served
from flight_delays.platform.azure_ml import AzureML, connect_as, place_of
from flight_delays.platform.registry import Registry, Version
from flight_delays.platform.serving_platform import PLATFORMS
from flight_delays.tasks import azureml_register

MODEL = "main.flights.delay"
REPOSITORY = "example.azurecr.io/flight-delays@sha256:"
IMAGES = {str(number): f"{REPOSITORY}{number:064}" for number in (1, 2, 3)}
STORE = {"FLIGHT_DELAYS_ONLINE_STORE": "{{secrets/flights/online-store}}"}


def served(version: int, percentage: int = 100, name: str = "champion") -> Served:
    return Served(name=name, model_name=MODEL, model_version=version, percentage=percentage)


def pair(champion: int, challenger: int, percentage: int) -> tuple[Served, Served]:
    return served(champion, 100 - percentage), served(challenger, percentage, "challenger")


@dataclass
class World:
    """An endpoint that serves nothing yet, and a release that talks to it."""

    azure: Azure
    ml: AzureML
    time: Time
    told: list[str] = field(default_factory=list)

    def configure(self, *wanted: Served, size: str = "Small", limit_s: float = 3600, **changes: Any) -> None:
        environment = changes.pop("environment", STORE)
        replace(self.ml, **changes).configure(
            ADDRESS,
            wanted,
            workload_size=size,
            scale_to_zero=False,
            environment=environment,
            progress=self.told.append,
            limit_s=limit_s,
        )

    def start(self, *wanted: Served) -> None:
        """What serves before the test begins."""
        self.configure(*wanted)
        self.forget()

    def forget(self) -> None:
        self.azure.asked.clear()
        self.azure.history.clear()
        self.told.clear()
        self.time.now = 0

    @property
    def serves(self) -> set[Served]:
        return {*self.ml.configuration(ADDRESS)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    def version(_: str, number: str) -> SimpleNamespace:
        return SimpleNamespace(run_id=f"run-{number}", tags={"image": IMAGES[number]} if number in IMAGES else {})

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens: nothing may go there
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client: Any = SimpleNamespace(get_model_version=version)
    with azure() as found:
        found.create_endpoint()
        time = Time()
        ml = connect_as(Credential(), Registry(client=client), Loopback(found.port))
        yield World(found, replace(ml, clock=time.time, sleep=time.sleep), time)


FIRST = ["PUT environments/scoring/versions/", "PUT deployments/champion", "PUT onlineEndpoints/delay"]


def short(changes: list[str]) -> list[str]:
    """Without the versions of environments."""
    return [one[: one.index("versions/") + 9] if "environments/" in one else one for one in changes]


def test_an_endpoint_serves_nothing_before_the_first_release_and_then_a_version(world: World) -> None:
    assert world.serves == set()
    world.configure(served(1))
    assert world.serves == {served(1)}
    assert short(world.azure.changes) == FIRST
    assert world.told[0] == f"endpoint {ADDRESS}: deploy champion"
    assert f"endpoint {ADDRESS}: deploy champion: InProgress" in world.told
    (champion,) = world.azure.deployments().values()
    assert champion["tags"] == {
        "model_name": MODEL,
        "model_version": "1",
        "run_id": "run-1",
        "image": IMAGES["1"],
    }
    assert champion["properties"]["environmentVariables"] == {
        "FLIGHT_DELAYS_SERVED": "champion=/opt/model",
        "FLIGHT_DELAYS_SERVING_AUTH": "off",
        "FLIGHT_DELAYS_ONLINE_STORE": "${{azureml://connections/flights/credentials/online-store}}",
    }
    assert world.azure.endpoint["scoringUri"] == "https://delay.example.com/invocations"


def test_what_serves_already_is_left_alone(world: World) -> None:
    world.start(*pair(1, 2, 10))
    world.configure(*pair(1, 2, 10))
    assert (world.azure.changes, world.told) == ([], [])


@pytest.mark.parametrize(
    ("before", "wanted", "traffic"),
    [
        pytest.param([served(1)], pair(1, 2, 0), [{"champion": 100}], id="shadow"),
        pytest.param(pair(1, 2, 0), pair(1, 2, 5), [{"champion": 95, "challenger": 5}], id="canary"),
        pytest.param(pair(1, 2, 50), [served(1)], [{"champion": 100}], id="rollback"),
        pytest.param(pair(1, 2, 50), [served(2)], [{"challenger": 100}, {"champion": 100}], id="promotion"),
        pytest.param([served(2)], [served(1)], [{"challenger": 100}, {"champion": 100}], id="at once"),
    ],
)
def test_a_release_moves_traffic_and_removes_what_is_no_longer_wanted(
    world: World, before: list[Served], wanted: list[Served], traffic: list[dict[str, int]]
) -> None:
    world.start(*before)
    world.configure(*wanted)
    assert world.serves == {*wanted}
    assert world.azure.history == traffic
    assert world.azure.deployments().keys() == {one.name for one in wanted}


def test_a_challenger_without_a_share_gets_copies_of_half_the_requests_and_none_beside_a_share(world: World) -> None:
    world.start(*pair(1, 2, 0))
    assert (world.azure.endpoint["traffic"], world.azure.endpoint["mirrorTraffic"]) == (
        {"champion": 100},
        {"challenger": 50},
    )
    world.configure(*pair(1, 2, 1))
    assert world.azure.endpoint["mirrorTraffic"] == {}


@pytest.mark.parametrize(
    ("changed", "is_deployed"),
    [({}, False), ({"size": "Large"}, True), ({"environment": {}}, True)],
    ids=["as before", "another size", "another environment"],
)
def test_another_size_or_environment_goes_through_another_deployment(
    world: World, changed: dict[str, Any], is_deployed: bool
) -> None:
    world.start(served(1))
    world.configure(served(1), **changed)
    assert ("PUT deployments/challenger" in world.azure.changes) == is_deployed
    assert world.azure.deployments().keys() == {"champion"}


def test_what_takes_over_has_as_many_instances_as_what_it_takes_over_from(world: World) -> None:
    world.start(served(1))
    world.azure.deployments()["champion"]["sku"]["capacity"] = 7  # autoscale
    world.configure(*pair(1, 2, 10))
    assert {one["sku"]["capacity"] for one in world.azure.deployments().values()} == {7}


PUT = {"method": "PUT", "path": "/deployments/"}
ROUTE = {"method": "PUT", "path": "/onlineEndpoints/delay$"}
LOOK = {"method": "GET", "path": "/onlineEndpoints/delay$"}
POLL = {"method": "GET", "path": "/operations/"}


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(**PUT, status=429, headers={"Retry-After": "40"})],
        [Fault(**PUT, status=409, times=3)],
        [Fault(**PUT, status=500), Fault(**ROUTE, status=503), Fault(**POLL, status=502)],
        [Fault(**PUT)],  # carried out, and the answer is lost
        [Fault(**ROUTE)],
        [Fault(**POLL), Fault(**LOOK)],
        [Fault(method="PUT", path="/environments/"), Fault(method="GET", path="/deployments$", status=500)],
        [Fault(method="DELETE", path="/deployments/", status=409), Fault(method="DELETE", path="/deployments/")],
    ],
)
def test_what_passes_is_waited_out(world: World, faults: list[Fault]) -> None:
    world.start(*pair(3, 2, 10))
    world.azure.faults += faults
    world.configure(served(1))
    assert not [fault for fault in world.azure.faults if fault.times]
    assert world.serves == {served(1)}
    if faults[0].headers:
        assert world.time.now >= 40


WANTED = f"endpoint {ADDRESS} does not serve champion version 2 at 100 %: "
MEND = "; still serving: champion version 1 at 100 %; fix that and run the job again"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(**PUT, status=403, message="no role"), "no role"),
        (Fault(**PUT, status=422, message="no such\ninstance type"), "no such instance type"),
        (Fault(**PUT, status=401, message="expired"), "expired"),
        (Fault(**PUT, status=404, message="no group"), "no group"),
        (Fault(**PUT, status=500, times=99, message="oh"), "oh (tried for 60 s)"),
        (Fault(**PUT, status=429, headers={"Retry-After": "90"}, message="slow"), "slow (tried for 60 s)"),
    ],
)
def test_what_is_refused_or_does_not_pass_is_one_line_and_what_served_still_does(
    world: World, fault: Fault, why: str
) -> None:
    world.start(served(1))
    world.azure.faults.append(fault)
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    assert str(error.value) == WANTED + why + MEND
    assert world.time.now < 70
    assert world.azure.history == []


def test_a_version_that_does_not_start_says_why_and_the_next_run_puts_it_right(world: World) -> None:
    world.start(served(1))
    world.azure.broken[IMAGES["2"]] = "ResourceNotReady:\n the container has crashed"
    for _ in range(2):
        with pytest.raises(UserError) as error:
            world.configure(served(2))
        why = "deploy challenger: failed: ResourceNotReady: the container has crashed"
        assert str(error.value) == WANTED + why + MEND
        assert world.azure.history == []
        assert world.serves == {served(1)}
    world.configure(served(1))  # what a rollout restores
    assert world.azure.deployments().keys() == {"champion"}


def test_a_deployment_that_never_starts_is_left_alone_after_the_limit(world: World) -> None:
    world.start(served(1))
    world.azure.looks = 1000
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=300)
    assert str(error.value) == f"{WANTED}deploy challenger: InProgress (tried for 300 s){MEND}"
    assert world.time.now == pytest.approx(300, abs=6)
    assert len(world.told) == pytest.approx(6, abs=2)  # once a minute is enough


def test_a_change_under_way_is_waited_for(world: World) -> None:
    world.start(served(1))
    world.azure.endpoint["provisioningState"] = "Updating"

    def sleep(seconds: float) -> None:
        world.azure.endpoint["provisioningState"] = "Succeeded" if world.time.now > 10 else "Updating"
        world.time.sleep(seconds)

    world.configure(*pair(1, 2, 0), sleep=sleep)
    assert world.told[0] == f"endpoint {ADDRESS}: a change is under way"
    assert world.serves == {*pair(1, 2, 0)}


def test_a_change_by_someone_else_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start(*pair(1, 2, 10))
    finish = world.azure.finish

    def then_change(operation: dict[str, Any]) -> None:
        finish(operation)
        world.azure.endpoint["traffic"] = {"champion": 30, "challenger": 70}

    monkeypatch.setattr(world.azure, "finish", then_change)
    with pytest.raises(UserError, match=r"someone else has changed it since; still serving: .*version 2 at 70 %"):
        world.configure(*pair(1, 2, 20))


class KilledError(BaseException):
    """The end of a process."""


@pytest.mark.parametrize(
    ("before", "wanted"),
    [([], [served(1)]), (pair(1, 2, 50), [served(2)]), ([served(1)], [served(2)]), ([served(1)], pair(1, 3, 0))],
    ids=["first", "promotion", "at once", "shadow"],
)
def test_killed_anywhere_the_next_run_ends_the_same_and_all_traffic_is_answered(
    world: World, before: list[Served], wanted: list[Served]
) -> None:
    if before:
        world.start(*before)
    for nth in range(1, 30):
        left = [nth]

        def sleep(seconds: float, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise KilledError
            world.time.sleep(seconds)

        try:
            world.configure(*wanted, sleep=sleep)
            break
        except KilledError:
            world.azure.finish_all()
            ready = {
                n
                for n, one in world.azure.deployments().items()
                if one["properties"]["provisioningState"] == "Succeeded"
            }
            assert world.azure.endpoint["traffic"].keys() <= ready
    assert world.serves == {*wanted}
    assert world.azure.deployments().keys() == {one.name for one in wanted}


def test_a_version_without_an_image_is_told_before_anything_is_asked(world: World) -> None:
    with pytest.raises(
        UserError, match=r"^model main.flights.delay version 9 has no image; run the workflow image.yml"
    ):
        world.configure(served(9))
    assert world.azure.asked == []


@pytest.mark.parametrize(
    "address", ["azureml://a/b/c", "azureml://a/b/c/d/e", "azureml://a//c/d", "azureml://a/b/c?/d"]
)
def test_an_address_that_is_none_is_told_how_it_should_be(world: World, address: str) -> None:
    with pytest.raises(UserError, match=r"is no address in Azure ML; write azureml://<subscription>/<resource group>/"):
        world.ml.configuration(address)
    with pytest.raises(UserError, match=r"<workspace>$"):
        place_of("azureml://a/b/c/d", endpoint=False)


def test_an_endpoint_that_is_not_there_is_told_how_to_create_it(world: World) -> None:
    del world.azure.resources[ENDPOINT]
    for ask in (lambda: world.serves, lambda: world.configure(served(1)), lambda: world.ml.address(ADDRESS)):
        with pytest.raises(UserError, match=r"^endpoint delay does not exist in flights; create it by `az ml online-"):
            ask()


def test_a_deployment_that_someone_made_by_hand_is_not_taken_for_a_version(world: World) -> None:
    world.start(served(1))
    world.azure.deployments()["champion"]["tags"] = {}
    for ask in (lambda: world.serves, lambda: world.configure(served(1))):
        with pytest.raises(UserError, match=r"^deployment champion is no version of a model by its tags; delete it$"):
            ask()


@pytest.mark.parametrize(
    ("auth", "token"),
    [
        ("Key", "a key"),
        ("AMLToken", "a token of the workspace"),
        ("AADToken", "token for https://ml.azure.com/.default"),
    ],
)
def test_the_address_signs_in_as_the_endpoint_wants_it(world: World, auth: str, token: str) -> None:
    world.azure.endpoint["authMode"] = auth
    uri, headers = world.ml.address(ADDRESS)
    assert (uri, headers) == ("https://delay.example.com/invocations", {"Authorization": f"Bearer {token}"})
    assert world.ml.address(ADDRESS, "challenger")[1] == headers | {"azureml-model-deployment": "challenger"}


def test_who_is_signed_in_nowhere_is_told_in_one_line(world: World) -> None:
    def get_token(*_: str, **__: Any) -> None:
        raise ClientAuthenticationError("no credential of the chain works.\nAttempted credentials: ...")

    nobody: Any = SimpleNamespace(get_token=get_token)
    ml = connect_as(nobody, world.ml.registry, Loopback(world.azure.port))
    with pytest.raises(
        UserError, match=r"^endpoint .* cannot be looked at: no credential [^\n]* fix that and run it again$"
    ):
        ml.configuration(ADDRESS)
    assert world.azure.asked == []


def test_nobody_listening_is_told_after_half_a_minute(world: World) -> None:
    ml = replace(
        connect_as(Credential(), world.ml.registry, Loopback(9)), clock=world.time.time, sleep=world.time.sleep
    )
    with pytest.raises(UserError, match=r"^endpoint .* cannot be looked at: [^\n]*; fix that and run it again$"):
        ml.configuration(ADDRESS)
    assert 20 < world.time.now <= 30


def test_a_list_of_several_pages_is_read_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start(*pair(1, 2, 10))
    first, second = world.azure.deployments().values()
    rest = "https://management.azure.com/more?api-version=2025-12-01"
    monkeypatch.setattr(world.azure, "_page", lambda: (200, {}, {"value": [first], "nextLink": rest}))
    world.azure.resources["/more"] = {"value": [second]}
    assert world.serves == {*pair(1, 2, 10)}


VERSION = Version(name=MODEL, number=3, run_id="run-3", tags={})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "MLmodel").write_text("flavors")
    (tmp_path / "artifacts" / "a model.txt").write_text("trees")
    return tmp_path


def test_a_version_is_registered_once_with_its_files_and_where_it_comes_from(world: World, files: Path) -> None:
    world.azure.faults.append(Fault(method="PUT", path="/models/main-flights-delay/3/MLmodel", status=503))
    said = [world.ml.register(IN_WORKSPACE, VERSION, "abc", files) for _ in range(2)]
    assert said == [
        "main-flights-delay version 3 is registered in flights.",
        "main-flights-delay version 3 was registered in flights before.",
    ]
    folder = "/models/main-flights-delay/3"
    assert world.azure.blobs == {f"{folder}/MLmodel": b"flavors", f"{folder}/artifacts/a%20model.txt": b"trees"}
    (_, subscription, _, group, *_) = PATH.strip("/").split("/")
    assert world.azure.resources[f"{PATH}/models/main-flights-delay/versions/3"]["properties"] == {
        "modelType": "mlflow_model",
        "modelUri": f"azureml://subscriptions/{subscription}/resourcegroups/{group}/workspaces/flights"
        "/datastores/workspaceblobstore/paths/main-flights-delay/3",
        "tags": {"model_name": MODEL, "model_version": "3", "run_id": "run-3", "model_digest": "abc"},
    }


@pytest.mark.parametrize(
    ("digest", "workspace", "says"),
    [
        ("abc", IN_WORKSPACE, "main-flights-delay version 3 is registered in flights."),
        (None, IN_WORKSPACE, "main.flights.delay version 3 has no digest; register it by the train job"),
        ("abc", "flights", "flights is no address in Azure ML; write azureml://<subscription>/<resource group>/<work"),
    ],
)
def test_the_command_registers_a_version_of_the_registry(
    world: World, files: Path, digest: str | None, workspace: str, says: str
) -> None:
    registry: Any = SimpleNamespace(
        version=lambda *_: VERSION,
        documentation=lambda _: SimpleNamespace(digest=digest),
        download=lambda *_: files,
    )
    given = AzuremlRegister(model_name=MODEL, model_version=3, workspace=workspace)
    try:
        said = azureml_register.run(given, registry, world.ml)
    except UserError as error:
        said = str(error)
    assert said.startswith(says)
    assert bool(world.azure.blobs) == said.endswith("registered in flights.")


def test_a_number_that_other_files_have_taken_is_an_error(world: World, files: Path) -> None:
    world.ml.register(IN_WORKSPACE, VERSION, "abc", files)
    with pytest.raises(UserError, match=r"version 3 is not registered: flights has another model main-flights-delay"):
        world.ml.register(IN_WORKSPACE, VERSION, "def", files)


def test_who_may_not_write_to_the_store_is_told_in_one_line_and_nothing_is_registered(
    world: World, files: Path
) -> None:
    world.azure.faults.append(
        Fault(method="PUT", path="MLmodel", status=403, message="AuthorizationPermissionMismatch")
    )
    with pytest.raises(UserError, match=r"^main.flights.delay version 3 is not registered: [^\n]*Mismatch; fix that"):
        world.ml.register(IN_WORKSPACE, VERSION, "abc", files)
    assert not [path for path in world.azure.resources if "/models/" in path]


def test_azures_packages_are_imported_by_its_adapter_alone_which_only_its_addresses_load() -> None:
    package = Path(__file__).parents[2] / "src"
    importing = {
        file.name
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
        if name.partition(".")[0] == "azure"
    }
    assert importing == {"azure_ml.py"}
    found: Callable[..., Any] = PLATFORMS["azureml"]
    assert isinstance(found(Registry(client=SimpleNamespace())), AzureML)  # type: ignore[arg-type]


def test_the_rules_of_azure_are_kept_in_the_tests() -> None:
    """Else a plan that breaks one would pass."""
    with azure() as found:
        found.create_endpoint()
        deployment: dict[str, Any] = {"name": "champion", "properties": {"provisioningState": "Succeeded"}}
        found.resources[f"{DEPLOYMENT}champion"] = deployment
        found.resources[f"{DEPLOYMENT}late"] = {"name": "late", "properties": {"provisioningState": "Failed"}}
        base = {key: found.resources[ENDPOINT][key] for key in ("location", "identity")}
        wrong: list[tuple[dict[str, int], dict[str, int], str]] = [
            ({"champion": 99}, {}, "add up to"),
            ({"nobody": 100}, {}, "nobody is not ready"),
            ({"late": 100}, {}, "late is not ready"),
            ({"champion": 100}, {"champion": 10}, "without traffic"),
            ({}, {"champion": 51}, "at most 50 %"),
        ]
        for traffic, mirror, why in wrong:
            with pytest.raises(Exception, match=why):
                found.handle("PUT", ENDPOINT, {**base, "properties": {"traffic": traffic, "mirrorTraffic": mirror}})
        found.endpoint["traffic"] = {"champion": 100}
        with pytest.raises(Exception, match="has traffic"):
            found.handle("DELETE", f"{DEPLOYMENT}champion", None)
