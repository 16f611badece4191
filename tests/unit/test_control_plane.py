"""The laptop's serving-endpoints API, over HTTP, as the unmodified WorkspaceClient uses it."""

import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    InvalidParameterValue,
    NotFound,
    OperationFailed,
    ResourceAlreadyExists,
    ResourceConflict,
)
from databricks.sdk.service.serving import (
    AiGatewayInferenceTableConfig,
    AiGatewayRateLimit,
    AiGatewayRateLimitRenewalPeriod,
    EndpointCoreConfigInput,
    EndpointTag,
    Route,
    ServedEntityInput,
    ServingEndpointDetailed,
    TrafficConfig,
)
from fastapi import FastAPI, Response

from flight_delays.core.errors import UserError
from flight_delays.local.control_plane import serve_in_background
from flight_delays.local.endpoints_api import ServedEntityRow
from flight_delays.serving.service import Service

MODEL = "spark_catalog.flights.delay"
SECRETS = {"flight-delays-dev/online-store": "postgresql://reader:hush@store/db"}
REFERENCE = "{{secrets/flight-delays-dev/online-store}}"
BROKEN, SLOW = 8, 9


@dataclass
class World:
    """What a control plane is given. Version BROKEN cannot be loaded; SLOW is loaded once `may_load` is set."""

    folder: Path
    loaded: list[tuple[str, int, Mapping[str, str]]] = field(default_factory=list)
    rows: list[ServedEntityRow] = field(default_factory=list)
    apps: list[str] = field(default_factory=list)
    loading: Event = field(default_factory=Event)
    may_load: Event = field(default_factory=Event)
    asked: Event = field(default_factory=Event)
    may_answer: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)
    rows_when_ended: list[int] = field(default_factory=list)

    def load(self, name: str, version: int, environment: Mapping[str, str]) -> Any:
        self.loaded.append((name, version, environment))
        if version == BROKEN:
            raise OSError(f"no such store:\n{environment}")
        if version == SLOW:
            self.loading.set()
            assert self.may_load.wait(20)
            self.ended.wait(0.5)  # time enough for a stop that does not wait for this
        return f"scorer of {version}"

    def make_app(self, service: Service) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.apps.append(f"{service.endpoint} started")
            yield
            self.apps.append(f"{service.endpoint} ended")
            self.rows_when_ended.append(len(self.rows))
            self.ended.set()

        app = FastAPI(lifespan=lifespan)

        @app.post("/invocations")
        def invocations(response: Response) -> dict[str, object]:
            response.headers["served-model-name"] = service.entities[0].name
            served = [{"version": each.version, "percentage": each.percentage} for each in service.entities]
            return {"predictions": served}

        @app.post("/served-models/{name}/invocations")
        def of_one(name: str) -> dict[str, object]:
            self.asked.set()
            assert self.may_answer.wait(20)
            entity = service.named(name)
            return {"predictions": [{"version": entity.version}] if entity else []}

        @app.get("/metrics")
        def metrics() -> Response:
            return Response("requests_total 0\n", media_type="text/plain")

        return app

    def on_served(self, rows: Sequence[ServedEntityRow]) -> None:
        self.rows += rows

    @contextmanager
    def served(self, port: int = 0) -> Iterator[str]:
        with serve_in_background(
            self.folder, self.load, self.make_app, secrets=SECRETS, on_served=self.on_served, port=port
        ) as address:
            try:
                yield address
            finally:
                self.may_load.set()
                self.may_answer.set()


@pytest.fixture
def laptop(tmp_path: Path) -> World:
    return World(tmp_path / "dev")


@pytest.fixture
def address(laptop: World) -> Iterator[str]:
    with laptop.served() as address:
        yield address


def client_of(address: str) -> WorkspaceClient:
    return WorkspaceClient(host=address, token="any", auth_type="pat", profile="")


@pytest.fixture
def client(address: str) -> WorkspaceClient:
    return client_of(address)


def entity(name: str, version: int, **more: Any) -> ServedEntityInput:
    return ServedEntityInput(
        name=name,
        entity_name=MODEL,
        entity_version=str(version),
        workload_size="Small",
        scale_to_zero_enabled=True,
        **more,
    )


def split(**shares: int) -> TrafficConfig:
    return TrafficConfig([Route(served_model_name=name, traffic_percentage=share) for name, share in shares.items()])


def create(client: WorkspaceClient, version: int = 1) -> ServingEndpointDetailed:
    config = EndpointCoreConfigInput(
        name="delay", served_entities=[entity("champion", version)], traffic_config=split(champion=100)
    )
    return client.serving_endpoints.create_and_wait("delay", config=config)


def served(endpoint: ServingEndpointDetailed) -> dict[str, tuple[str, int]]:
    """Version and share by name."""
    shares = {route.served_entity_name: route.traffic_percentage for route in endpoint.config.traffic_config.routes}
    return {each.name: (each.entity_version, shares[each.name]) for each in endpoint.config.served_entities}


def state(endpoint: ServingEndpointDetailed) -> tuple[str, str]:
    return endpoint.state.ready.value, endpoint.state.config_update.value


def versions(client: WorkspaceClient) -> list[Any]:
    return [(row["version"], row["percentage"]) for row in client.serving_endpoints.query("delay").predictions]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a control plane whose one endpoint, delay, is there for all tests that only ask in vain."""
    with World(tmp_path_factory.mktemp("standing")).served() as address:
        create(client_of(address))
        yield address


def test_an_endpoint_is_created_before_it_serves_anything(client: WorkspaceClient, laptop: World) -> None:
    tags = [EndpointTag("project", "flight-delays")]
    client.serving_endpoints.create_and_wait("delay", tags=tags, description="Late?")
    found = client.serving_endpoints.get("delay")
    assert (found.name, found.description, found.tags, found.config) == ("delay", "Late?", tags, None)
    assert state(found) == ("NOT_READY", "NOT_UPDATING")
    assert laptop.apps == ["delay started"]


def test_a_configuration_serves_once_it_is_loaded(client: WorkspaceClient, laptop: World) -> None:
    endpoint = create(client)
    assert state(endpoint) == ("READY", "NOT_UPDATING")
    assert (served(endpoint), endpoint.config.config_version) == ({"champion": ("1", 100)}, 1)
    (kept,) = endpoint.config.served_entities
    assert (kept.entity_name, kept.workload_size, kept.scale_to_zero_enabled) == (MODEL, "Small", True)
    assert kept.state.deployment.value == "DEPLOYMENT_READY"
    assert [each.name for each in client.serving_endpoints.list()] == ["delay"]

    updated = client.serving_endpoints.update_config_and_wait(
        "delay",
        served_entities=[entity("champion", 1), entity("challenger", 2)],
        traffic_config=split(champion=90, challenger=10),
    )
    assert served(updated) == {"champion": ("1", 90), "challenger": ("2", 10)}
    assert updated.config.config_version == 2
    assert versions(client) == [(1, 90), (2, 10)]
    assert [version for _, version, _ in laptop.loaded] == [1, 2]  # what serves already is not loaded again


def test_each_configuration_is_written_down_before_it_serves(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    client.serving_endpoints.update_config_and_wait(
        "delay", served_entities=[entity("champion", 2), entity("challenger", 1)], traffic_config=split(champion=100)
    )
    told = [
        (row.endpoint_name, row.served_entity_name, row.entity_name, row.entity_version, row.endpoint_config_version)
        for row in laptop.rows
    ]
    assert told == [
        ("delay", "champion", MODEL, "1", 1),
        ("delay", "champion", MODEL, "2", 2),
        ("delay", "challenger", MODEL, "1", 2),
    ]
    assert {row.entity_type for row in laptop.rows} == {"CUSTOM_MODEL"}
    assert len({row.served_entity_id for row in laptop.rows}) == 3
    assert all(row.change_time.utcoffset() == timedelta(0) for row in laptop.rows)


def test_what_serves_goes_on_until_an_update_is_loaded_and_no_other_is_taken_meanwhile(
    client: WorkspaceClient, laptop: World
) -> None:
    create(client)
    waiting = client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
    assert laptop.loading.wait(20)
    during = client.serving_endpoints.get("delay")
    assert state(during) == ("READY", "IN_PROGRESS")
    assert (served(during), versions(client)) == ({"champion": ("1", 100)}, [(1, 100)])
    (pending,) = during.pending_config.served_entities
    assert (pending.entity_version, pending.state.deployment.value) == (str(SLOW), "DEPLOYMENT_CREATING")
    with pytest.raises(ResourceConflict, match=r"^serving endpoint delay is being updated; wait until it is$"):
        client.serving_endpoints.update_config("delay", served_entities=[entity("champion", 2)])
    laptop.may_load.set()
    after = waiting.result()
    assert (served(after), after.pending_config) == ({"champion": (str(SLOW), 100)}, None)
    assert versions(client) == [(SLOW, 100)]


def test_a_version_that_cannot_be_loaded_changes_nothing_and_says_why_without_a_secret(
    client: WorkspaceClient, laptop: World
) -> None:
    create(client)
    broken = entity("champion", BROKEN, environment_vars={"FLIGHT_DELAYS_ONLINE_STORE": REFERENCE})
    with pytest.raises(OperationFailed):
        client.serving_endpoints.update_config_and_wait("delay", served_entities=[broken])
    found = client.serving_endpoints.get("delay")
    assert state(found) == ("READY", "UPDATE_FAILED")
    assert (served(found), versions(client)) == ({"champion": ("1", 100)}, [(1, 100)])
    (failed,) = found.pending_config.served_entities
    assert failed.state.deployment.value == "DEPLOYMENT_FAILED"
    assert failed.state.deployment_state_message == (
        f"champion: {MODEL} version {BROKEN} cannot be loaded: OSError: no such store: "
        f"{{'FLIGHT_DELAYS_ONLINE_STORE': '{REFERENCE}'}}"
    )
    assert [row.entity_version for row in laptop.rows] == ["1"]
    mended = client.serving_endpoints.update_config_and_wait("delay", served_entities=[entity("champion", 2)])
    assert (state(mended), served(mended)) == (("READY", "NOT_UPDATING"), {"champion": ("2", 100)})


def test_what_cannot_be_written_down_does_not_serve(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    laptop.rows = ()  # takes no rows
    with pytest.raises(OperationFailed):
        client.serving_endpoints.update_config_and_wait("delay", served_entities=[entity("champion", 2)])
    assert versions(client) == [(1, 100)]


def test_a_secret_reaches_the_model_and_never_the_answers(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    environment = {"FLIGHT_DELAYS_ONLINE_STORE": REFERENCE, "FLIGHT_DELAYS_ONLINE_STORE_FAILURE": "error"}
    updated = client.serving_endpoints.update_config_and_wait(
        "delay", served_entities=[entity("champion", 1, environment_vars=environment)]
    )
    assert updated.config.served_entities[0].environment_vars == environment
    resolved = {**environment, "FLIGHT_DELAYS_ONLINE_STORE": SECRETS["flight-delays-dev/online-store"]}
    assert laptop.loaded == [(MODEL, 1, {}), (MODEL, 1, resolved)]
    assert "hush" not in (laptop.folder / "endpoints.json").read_text()


def test_a_start_serves_what_was_served_before_under_the_same_ids(laptop: World) -> None:
    with laptop.served() as address:
        before = create(client_of(address))
        client_of(address).serving_endpoints.patch("delay", add_tags=[EndpointTag("team", "delays")])
    laptop.loaded.clear()
    with laptop.served() as address:
        client = client_of(address)
        after = client.serving_endpoints.get("delay")
        assert (after.config, after.id, state(after)) == (before.config, before.id, ("READY", "NOT_UPDATING"))
        assert (after.tags, versions(client)) == ([EndpointTag("team", "delays")], [(1, 100)])
    assert (laptop.loaded, len(laptop.rows)) == ([(MODEL, 1, {})], 1)
    assert laptop.apps == ["delay started", "delay ended"] * 2


def test_a_start_without_a_version_leaves_its_endpoint_not_ready_until_the_next_release(laptop: World) -> None:
    with laptop.served() as address:
        create(client_of(address))
    file = laptop.folder / "endpoints.json"
    file.write_text(file.read_text().replace('"entity_version": "1"', f'"entity_version": "{BROKEN}"'))
    with laptop.served() as address:
        client = client_of(address)
        found = client.serving_endpoints.get("delay")
        assert state(found) == ("NOT_READY", "NOT_UPDATING")
        assert "cannot be loaded: OSError" in found.config.served_entities[0].state.deployment_state_message
        mended = client.serving_endpoints.update_config_and_wait("delay", served_entities=[entity("champion", 2)])
        assert (state(mended), versions(client)) == (("READY", "NOT_UPDATING"), [(2, 100)])


def test_a_file_of_endpoints_that_is_none_is_one_line(laptop: World) -> None:
    laptop.folder.mkdir()
    (laptop.folder / "endpoints.json").write_text('{"endpoints": [{"name": "delay"}]}')
    with (
        pytest.raises(UserError, match=r"endpoints\.json: not as it was written \(\d errors, .*\); delete it, and"),
        laptop.served(),
    ):
        pass


def test_tags_are_added_changed_and_removed(client: WorkspaceClient) -> None:
    client.serving_endpoints.create_and_wait("delay", tags=[EndpointTag("a", "1"), EndpointTag("b", "2")])
    patched = client.serving_endpoints.patch(
        "delay", add_tags=[EndpointTag("a", "3"), EndpointTag("c", "4")], delete_tags=["b", "unknown"]
    )
    assert patched.tags == [EndpointTag("a", "3"), EndpointTag("c", "4")]
    assert client.serving_endpoints.get("delay").tags == patched.tags


def test_settings_of_the_ai_gateway_are_kept(client: WorkspaceClient) -> None:
    client.serving_endpoints.create_and_wait("delay")
    table = AiGatewayInferenceTableConfig(catalog_name="dev", schema_name="flights", table_name_prefix="delay")
    table.enabled = True
    limit = AiGatewayRateLimit(calls=600, renewal_period=AiGatewayRateLimitRenewalPeriod.MINUTE)
    client.serving_endpoints.put_ai_gateway("delay", inference_table_config=table, rate_limits=[limit])
    kept = client.serving_endpoints.get("delay").ai_gateway
    assert kept.inference_table_config == table
    assert [each.calls for each in kept.rate_limits] == [600]


def test_a_deleted_endpoint_is_gone_and_its_app_has_ended(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    client.serving_endpoints.delete("delay")
    assert list(client.serving_endpoints.list()) == []
    assert laptop.apps == ["delay started", "delay ended"]
    create(client)  # the name is free again


def test_an_endpoint_that_is_deleted_while_it_is_updated_stays_deleted(laptop: World) -> None:
    with laptop.served() as address:
        client = client_of(address)
        create(client)
        client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
        assert laptop.loading.wait(20)
        client.serving_endpoints.delete("delay")
    with laptop.served() as address:
        assert list(client_of(address).serving_endpoints.list()) == []


def test_requests_and_metrics_are_answered_by_the_endpoints_own_app(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    laptop.may_answer.set()
    assert client.api_client.do("POST", "/serving-endpoints/delay/served-models/champion/invocations") == {
        "predictions": [{"version": 1}]
    }
    answer = client.api_client.do(
        "POST", "/serving-endpoints/delay/invocations", response_headers=["served-model-name"]
    )
    assert answer["served-model-name"] == "champion"
    assert client.serving_endpoints.export_metrics("delay").contents.read() == b"requests_total 0\n"


def test_a_stop_waits_for_requests_in_flight_and_for_updates(laptop: World) -> None:
    with ThreadPoolExecutor(1) as thread:
        with laptop.served() as address:
            client = client_of(address)
            create(client)
            client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
            assert laptop.loading.wait(20)
            one = "/serving-endpoints/delay/served-models/champion/invocations"
            answer = thread.submit(client.api_client.do, "POST", one)
            assert laptop.asked.wait(20)
        assert "predictions" in answer.result()
    assert laptop.rows_when_ended == [2]
    with laptop.served() as address:
        assert served(client_of(address).serving_endpoints.get("delay")) == {"champion": (str(SLOW), 100)}


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get("nobody"),
        lambda api: api.delete("nobody"),
        lambda api: api.update_config("nobody", served_entities=[entity("champion", 1)]),
        lambda api: api.patch("nobody", delete_tags=["a"]),
        lambda api: api.put_ai_gateway("nobody"),
        lambda api: api.query("nobody"),
        lambda api: api.export_metrics("nobody"),
    ],
)
def test_an_unknown_endpoint_is_not_found(standing: str, call: Callable[[Any], object]) -> None:
    with pytest.raises(NotFound, match=r"^there is no serving endpoint nobody$"):
        call(client_of(standing).serving_endpoints)


def test_a_name_is_taken_once(standing: str) -> None:
    with pytest.raises(ResourceAlreadyExists, match=r"^serving endpoint delay exists already$"):
        client_of(standing).serving_endpoints.create("delay")
    assert versions(client_of(standing)) == [(1, 100)]


ONE = {"name": "champion", "entity_name": MODEL, "entity_version": "2"}
TWO = {**ONE, "name": "challenger"}


def routes(*shares: tuple[str, object]) -> dict[str, object]:
    return {"routes": [{"served_model_name": name, "traffic_percentage": share} for name, share in shares]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "served_entities: Field required"),
        ({"served_entities": []}, "served_entities: Tuple should have at least 1 item after validation, not 0"),
        (
            {"served_entities": [{**ONE, "entity_version": None}]},
            "served_entities.0.entity_version: Input should be a valid string",
        ),
        (
            {"served_entities": [{"name": "champion", "entity_name": MODEL}]},
            "served_entities.0.entity_version: Field required",
        ),
        (
            {"served_entities": [{**ONE, "entity_version": "latest"}]},
            "served_entities.0.entity_version: String should match pattern '^[1-9][0-9]*$'",
        ),
        (
            {"served_entities": [{**ONE, "external_model": {}}]},
            "served_entities.0.external_model: Extra inputs are not permitted",
        ),
        (
            {"served_entities": [{**ONE, "workload_size": "Huge"}]},
            "served_entities.0.workload_size: Input should be 'Small', 'Medium' or 'Large'",
        ),
        ({"served_entities": [ONE, ONE]}, "served_entities: entity champion is there twice"),
        ({"served_entities": [ONE, TWO]}, "traffic_config: percentages sum to 0, not to 100"),
        (
            {"served_entities": [ONE], "traffic_config": routes(("champion", 99))},
            "traffic_config: percentages sum to 99, not to 100",
        ),
        (
            {"served_entities": [ONE, TWO], "traffic_config": routes(("champion", 100), ("challenger", 1))},
            "traffic_config: percentages sum to 101, not to 100",
        ),
        (
            {"served_entities": [ONE], "traffic_config": routes(("challenger", 100))},
            "traffic_config: there is no served entity challenger",
        ),
        (
            {"served_entities": [ONE], "traffic_config": routes(("champion", 50), ("champion", 50))},
            "traffic_config: route champion is there twice",
        ),
        (
            {"served_entities": [ONE], "traffic_config": routes(("champion", 99.5))},
            "traffic_config.routes.0.traffic_percentage: Input should be a valid integer",
        ),
        (
            {"served_entities": [ONE], "traffic_config": routes(("champion", 101))},
            "traffic_config.routes.0.traffic_percentage: Input should be less than or equal to 100",
        ),
        (
            {"served_entities": [ONE], "traffic_config": routes(("champion", -1))},
            "traffic_config.routes.0.traffic_percentage: Input should be greater than or equal to 0",
        ),
        (
            {"served_entities": [{**ONE, "environment_vars": {"A": "{{secrets/x/y}}"}}]},
            "champion: environment_vars: A: there is no secret {{secrets/x/y}}",
        ),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(standing: str, body: dict[str, Any], message: str) -> None:
    client = client_of(standing)
    with pytest.raises(InvalidParameterValue) as error:
        client.api_client.do("PUT", "/api/2.0/serving-endpoints/delay/config", body=body)
    assert str(error.value) == message
    with pytest.raises(InvalidParameterValue):
        client.api_client.do("POST", "/api/2.0/serving-endpoints", body={"name": "other", "config": body})
    assert [each.name for each in client.serving_endpoints.list()] == ["delay"]
    assert (versions(client), state(client.serving_endpoints.get("delay"))) == ([(1, 100)], ("READY", "NOT_UPDATING"))


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "", {"name": "two words"}, "name: String should match pattern '^[A-Za-z0-9][\\w-]*$'"),
        ("POST", "", {}, "name: Field required"),
        ("POST", "", {"name": "other", "route_optimized": True}, "route_optimized: Extra inputs are not permitted"),
        ("PATCH", "/delay/tags", {"add_tags": [{"value": "1"}]}, "add_tags.0.key: Field required"),
        (
            "PUT",
            "/delay/ai-gateway",
            {"inference_table_config": {"enabled": True}},
            "inference_table_config: give catalog_name and schema_name",
        ),
    ],
)
def test_a_wrong_body_is_refused_in_one_line(
    standing: str, method: str, path: str, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterValue) as error:
        client_of(standing).api_client.do(method, f"/api/2.0/serving-endpoints{path}", body=body)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["{", "", "[]", "null", '{"name": NaN}'])
def test_a_body_that_is_no_json_map_is_refused(standing: str, text: str) -> None:
    headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
    answer = requests.post(f"{standing}/api/2.0/serving-endpoints", data=text, headers=headers, timeout=20)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "\n" not in answer.json()["message"]


def test_a_route_that_the_laptop_lacks_is_said_to_be_so(standing: str) -> None:
    with pytest.raises(NotFound, match=r"^Not Found: the laptop's control plane has no such route$"):
        client_of(standing).serving_endpoints.build_logs("delay", "champion")


@pytest.mark.parametrize("path", ["/api/2.0/serving-endpoints", "/serving-endpoints/delay/invocations"])
@pytest.mark.parametrize("header", [None, "Basic eDp5", "Bearer "])
def test_who_brings_no_bearer_token_is_let_in_nowhere(standing: str, path: str, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    answer = requests.post(standing + path, headers=headers, json={}, timeout=20)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_a_port_that_is_taken_is_one_line(laptop: World) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        starting: AbstractContextManager[str] = laptop.served(port)
        with (
            pytest.raises(UserError, match=rf"^port {port} of 127\.0\.0\.1 cannot be had: .*; give another$"),
            starting,
        ):
            pass


def test_a_given_port_is_used_again_right_after_a_stop(laptop: World) -> None:
    with laptop.served() as address:
        create(client_of(address))
    with laptop.served(int(address.rpartition(":")[2])) as again:
        assert again == address
        assert versions(client_of(again)) == [(1, 100)]


def test_nothing_but_the_file_of_endpoints_is_left_behind(client: WorkspaceClient, laptop: World) -> None:
    create(client)
    assert [each["name"] for each in json.loads((laptop.folder / "endpoints.json").read_text())["endpoints"]] == [
        "delay"
    ]
    assert [path.name for path in laptop.folder.iterdir()] == ["endpoints.json"]
