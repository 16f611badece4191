"""The serving-endpoints API, over HTTP, as the unmodified WorkspaceClient uses it. Versions are loaded by a fake."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    InvalidState,
    NotFound,
    OperationFailed,
    ResourceAlreadyExists,
    ResourceConflict,
)
from databricks.sdk.service.serving import (
    AiGatewayConfig,
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
from deltalake import DeltaTable, write_deltalake

from bundle_laptop.api.endpoints import MAX_BODY_BYTES, choose
from bundle_laptop.api.scoring import Scored
from bundle_laptop.errors import LaptopError

MODEL = "main.flights.delay"
REFERENCE = "{{secrets/flights/store}}"
BROKEN, SLOW = 8, 9
PATIENCE_S = 20


@dataclass
class Models:
    """A registry. Version BROKEN cannot be loaded; SLOW is loaded once `may_load` is set."""

    loaded: list[tuple[str, int, Mapping[str, str]]] = field(default_factory=list)
    loading: Event = field(default_factory=Event)
    may_load: Event = field(default_factory=Event)
    asked: Event = field(default_factory=Event)
    may_answer: Event = field(default_factory=Event)

    def __call__(self, name: str, version: int, environment: Mapping[str, str]) -> Callable[[bytes, str], Scored]:
        self.loaded.append((name, version, environment))
        if version == BROKEN:
            raise OSError(f"no such store:\n{dict(environment)}")
        if version == SLOW:
            self.loading.set()
            assert self.may_load.wait(PATIENCE_S)

        def score(body: bytes, _: str) -> Scored:
            if body == b"slowly":
                self.asked.set()
                assert self.may_answer.wait(PATIENCE_S)
            if body == b"fail":
                raise TypeError("not JSON serializable")
            return Scored(status=200, content_type="application/json", text=f'{{"predictions": [{version}]}}')

        return score


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models()
    yield models
    models.may_load.set()
    models.may_answer.set()


@pytest.fixture
def start(serve: Any, models: Models) -> Callable[..., AbstractContextManager[Any]]:
    """Serves the world with the fake registry; requests are shared out as if drawn evenly."""

    def started(**options: Any) -> Any:
        draws = cycle(number / 100 for number in range(100))
        return serve(**{"loader": models, "draw": lambda: next(draws), **options})

    return started


@pytest.fixture
def workspace(start: Any) -> Iterator[Any]:
    with start() as workspace:
        yield workspace


@pytest.fixture
def client(workspace: Any) -> WorkspaceClient:
    found: WorkspaceClient = workspace.client
    return found


def entity(name: str, version: int, **more: Any) -> ServedEntityInput:
    size = {"workload_size": "Small", "scale_to_zero_enabled": True}
    return ServedEntityInput(name=name, entity_name=MODEL, entity_version=str(version), **{**size, **more})


def split(**shares: int) -> TrafficConfig:
    return TrafficConfig([Route(served_model_name=name, traffic_percentage=share) for name, share in shares.items()])


def create(client: WorkspaceClient, version: int = 1) -> ServingEndpointDetailed:
    config = EndpointCoreConfigInput(
        name="delay", served_entities=[entity("champion", version)], traffic_config=split(champion=100)
    )
    client.serving_endpoints.create("delay", config=config)
    return settled(client)


def update(client: WorkspaceClient, *entities: ServedEntityInput, **shares: int) -> ServingEndpointDetailed:
    traffic = split(**shares) if shares else None
    client.serving_endpoints.update_config("delay", served_entities=list(entities), traffic_config=traffic)
    return settled(client)


def settled(client: WorkspaceClient) -> ServingEndpointDetailed:
    """The endpoint once its update is done; the SDK's own wait asks every second or two."""
    deadline = monotonic() + PATIENCE_S
    while (found := client.serving_endpoints.get("delay")).state.config_update.value == "IN_PROGRESS":
        assert monotonic() < deadline
        sleep(0.01)
    return found


def served(endpoint: ServingEndpointDetailed) -> dict[str, tuple[str, int]]:
    """Version and share by name."""
    shares = {route.served_entity_name: route.traffic_percentage for route in endpoint.config.traffic_config.routes}
    return {each.name: (each.entity_version, shares[each.name]) for each in endpoint.config.served_entities}


def state(endpoint: ServingEndpointDetailed) -> tuple[str, str]:
    return endpoint.state.ready.value, endpoint.state.config_update.value


def answered(client: WorkspaceClient, times: int = 1) -> dict[int, int]:
    """How many of so many requests each version answers."""
    found = [client.serving_endpoints.query("delay", inputs=[1]).predictions for _ in range(times)]
    return dict(Counter(version for (version,) in found))


def rows(folder: Path, schema: str, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        DeltaTable(folder / "warehouse" / f"{schema}.db" / table).to_pyarrow_table().to_pylist()
    )
    return found


def test_an_endpoint_is_created_before_it_serves_anything(client: WorkspaceClient) -> None:
    tags = [EndpointTag("project", "flights")]
    client.serving_endpoints.create("delay", tags=tags, description="Late?", budget_policy_id="b")
    found = client.serving_endpoints.get("delay")
    assert (found.name, found.description, found.tags, found.config) == ("delay", "Late?", tags, None)
    assert (found.budget_policy_id, state(found)) == ("b", ("NOT_READY", "NOT_UPDATING"))
    with pytest.raises(InvalidState, match=r"^serving endpoint delay serves no version; release one$"):
        client.serving_endpoints.query("delay", inputs=[1])


def test_a_configuration_serves_once_it_is_loaded(client: WorkspaceClient, models: Models) -> None:
    endpoint = create(client)
    assert state(endpoint) == ("READY", "NOT_UPDATING")
    assert (served(endpoint), endpoint.config.config_version) == ({"champion": ("1", 100)}, 1)
    (kept,) = endpoint.config.served_entities
    assert (kept.entity_name, kept.workload_size, kept.scale_to_zero_enabled) == (MODEL, "Small", True)
    assert kept.state.deployment.value == "DEPLOYMENT_READY"
    assert [each.name for each in client.serving_endpoints.list()] == ["delay"]

    updated = update(client, entity("champion", 1), entity("challenger", 2), champion=90, challenger=10)
    assert served(updated) == {"champion": ("1", 90), "challenger": ("2", 10)}
    assert updated.config.config_version == 2
    assert answered(client, 100) == {1: 90, 2: 10}
    assert [version for _, version, _ in models.loaded] == [1, 2]  # what serves already is not loaded again


def test_the_clients_own_waits_end(client: WorkspaceClient) -> None:
    client.serving_endpoints.create_and_wait("delay")
    entities = [entity("champion", 1)]
    done = client.serving_endpoints.update_config_and_wait("delay", served_entities=entities)
    assert served(done) == {"champion": ("1", 100)}
    with pytest.raises(OperationFailed):
        client.serving_endpoints.update_config_and_wait("delay", served_entities=[entity("champion", BROKEN)])


@pytest.mark.parametrize(("draw", "name"), [(0.0, "a"), (0.2999, "a"), (0.3, "b"), (0.999999, "b")])
def test_traffic_is_shared_out_by_percentage(draw: float, name: str) -> None:
    assert choose({"none": 0, "a": 30, "b": 70, "nor": 0}, draw) == name


def test_an_entity_is_named_after_its_model_and_version_unless_it_has_a_name(client: WorkspaceClient) -> None:
    unnamed = ServedEntityInput(entity_name=MODEL, entity_version="3")
    config = EndpointCoreConfigInput(name="delay", served_entities=[unnamed])
    client.serving_endpoints.create("delay", config=config)
    assert served(settled(client)) == {"delay-3": ("3", 100)}


def test_each_configuration_is_recorded_before_it_serves(client: WorkspaceClient, workspace: Any) -> None:
    create(client)
    update(client, entity("champion", 2), entity("challenger", 1), champion=100)
    found = sorted(rows(workspace.folder, "system_serving", "served_entities"), key=lambda row: row["change_time"])
    assert {row["entity_type"] for row in found} == {"CUSTOM_MODEL"}
    assert len({row["served_entity_id"] for row in found}) == 3
    columns = ("endpoint_name", "served_entity_name", "entity_name", "entity_version", "endpoint_config_version")
    assert [tuple(row[column] for column in columns) for row in found] == [
        ("delay", "champion", MODEL, "1", 1),
        ("delay", "champion", MODEL, "2", 2),
        ("delay", "challenger", MODEL, "1", 2),
    ]


def test_what_serves_goes_on_until_an_update_is_loaded_and_no_other_is_taken_meanwhile(
    client: WorkspaceClient, models: Models
) -> None:
    create(client)
    client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
    assert models.loading.wait(PATIENCE_S)
    during = client.serving_endpoints.get("delay")
    assert state(during) == ("READY", "IN_PROGRESS")
    assert (served(during), answered(client)) == ({"champion": ("1", 100)}, {1: 1})
    (pending,) = during.pending_config.served_entities
    assert (pending.entity_version, pending.state.deployment.value) == (str(SLOW), "DEPLOYMENT_CREATING")
    with pytest.raises(ResourceConflict, match=r"^serving endpoint delay is being updated; wait until it is$"):
        client.serving_endpoints.update_config("delay", served_entities=[entity("champion", 2)])
    models.may_load.set()
    after = settled(client)
    assert (served(after), after.pending_config) == ({"champion": (str(SLOW), 100)}, None)
    assert answered(client) == {SLOW: 1}


def test_a_version_that_cannot_be_loaded_changes_nothing_and_says_why_without_a_secret(
    client: WorkspaceClient, workspace: Any
) -> None:
    create(client)
    client.secrets.create_scope("flights")
    client.secrets.put_secret("flights", "store", string_value="postgresql://reader:hush@store/db")
    found = update(client, entity("champion", BROKEN, environment_vars={"STORE": REFERENCE}))
    assert state(found) == ("READY", "UPDATE_FAILED")
    assert (served(found), answered(client)) == ({"champion": ("1", 100)}, {1: 1})
    (failed,) = found.pending_config.served_entities
    assert failed.state.deployment.value == "DEPLOYMENT_FAILED"
    assert failed.state.deployment_state_message == (
        f"champion: {MODEL} version {BROKEN} cannot be loaded: OSError: no such store: {{'STORE': '{REFERENCE}'}}"
    )
    assert [row["entity_version"] for row in rows(workspace.folder, "system_serving", "served_entities")] == ["1"]
    fixed = update(client, entity("champion", 2))
    assert (state(fixed), served(fixed)) == (("READY", "NOT_UPDATING"), {"champion": ("2", 100)})


def test_what_cannot_be_recorded_does_not_serve(client: WorkspaceClient, workspace: Any) -> None:
    create(client)
    table = workspace.folder / "warehouse/system_serving.db/served_entities"
    write_deltalake(table, pa.table({"other": [1]}), mode="overwrite", schema_mode="overwrite")
    assert state(update(client, entity("champion", 2))) == ("READY", "UPDATE_FAILED")
    assert answered(client) == {1: 1}


def test_a_secret_reaches_the_model_and_never_the_answers(
    client: WorkspaceClient, workspace: Any, models: Models
) -> None:
    client.secrets.create_scope("flights")
    client.secrets.put_secret("flights", "store", string_value="hush")
    environment = {"STORE": REFERENCE, "FAILURE": "error"}
    create(client)
    updated = update(client, entity("champion", 1, environment_vars=environment))
    assert updated.config.served_entities[0].environment_vars == environment
    assert models.loaded == [(MODEL, 1, {}), (MODEL, 1, {"STORE": "hush", "FAILURE": "error"})]
    assert "hush" not in (workspace.folder / "api/endpoints.json").read_text()
    client.secrets.put_secret("flights", "store", string_value="new")
    update(client, entity("champion", 1, environment_vars=environment))
    assert models.loaded[2:] == [(MODEL, 1, {"STORE": "new", "FAILURE": "error"})]


def test_a_start_serves_what_was_served_before_under_the_same_ids(start: Any, models: Models) -> None:
    with start() as workspace:
        before = create(workspace.client)
    models.loaded.clear()
    with start() as workspace:
        after = workspace.client.serving_endpoints.get("delay")
        assert (after.config, after.id, state(after)) == (before.config, before.id, ("READY", "NOT_UPDATING"))
        assert answered(workspace.client) == {1: 1}
    assert models.loaded == [(MODEL, 1, {})]
    assert len(rows(workspace.folder, "system_serving", "served_entities")) == 1


def test_after_a_start_only_who_asks_for_a_prediction_waits_for_the_model(start: Any, models: Models) -> None:
    models.may_load.set()
    with start() as workspace:
        create(workspace.client, SLOW)
    models.may_load.clear()
    models.loading.clear()
    models.loaded.clear()
    with start() as workspace, ThreadPoolExecutor(3) as threads:
        client = workspace.client
        assert models.loaded == []
        asked = [threads.submit(answered, client) for _ in range(3)]
        assert models.loading.wait(PATIENCE_S)
        assert state(client.serving_endpoints.get("delay")) == ("READY", "NOT_UPDATING")
        assert not any(each.done() for each in asked)
        models.may_load.set()
        assert [each.result() for each in asked] == [{SLOW: 1}] * 3
    assert len(models.loaded) == 1


def test_a_version_that_is_gone_after_a_start_is_looked_for_again_by_each_request(start: Any, models: Models) -> None:
    with start() as workspace:
        create(workspace.client)
    file = workspace.folder / "api/endpoints.json"
    file.write_text(file.read_text().replace('"entity_version": "1"', f'"entity_version": "{BROKEN}"'))
    models.loaded.clear()
    with start() as workspace:
        client = workspace.client
        for _ in range(2):
            with pytest.raises(InvalidState, match=r"^serving endpoint delay serves no version; champion: .* OSError"):
                client.serving_endpoints.query("delay", inputs=[1])
        assert [version for _, version, _ in models.loaded] == [BROKEN, BROKEN]
        fixed = update(client, entity("champion", 2))
        assert (state(fixed), answered(client)) == (("READY", "NOT_UPDATING"), {2: 1})


def test_a_file_of_endpoints_that_is_none_is_one_line(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "dev/api/endpoints.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"delay": {"name": "delay"}}')
    with pytest.raises(LaptopError, match=r"endpoints\.json: not as it was written \(.*\); delete it, then"), start():
        pass


def logged(prefix: str | None = "delay", *, enabled: bool = True) -> AiGatewayInferenceTableConfig:
    return AiGatewayInferenceTableConfig(
        catalog_name="main", schema_name="Flights", table_name_prefix=prefix, enabled=enabled
    )


def create_logged(client: WorkspaceClient, prefix: str | None = "delay", *, enabled: bool = True) -> None:
    table = logged(prefix, enabled=enabled)
    limit = AiGatewayRateLimit(calls=600, renewal_period=AiGatewayRateLimitRenewalPeriod.MINUTE)
    gateway = AiGatewayConfig(inference_table_config=table, rate_limits=[limit])
    client.serving_endpoints.create("delay", ai_gateway=gateway)
    kept = client.serving_endpoints.get("delay").ai_gateway
    assert (kept.inference_table_config, [each.calls for each in kept.rate_limits]) == (table, [600])


@pytest.mark.parametrize(("prefix", "table"), [("asked", "asked_payload"), (None, "delay_payload")])
def test_the_inference_table_exists_before_the_first_request(
    client: WorkspaceClient, workspace: Any, prefix: str | None, table: str
) -> None:
    create_logged(client, prefix)
    assert rows(workspace.folder, "flights", table) == []


def test_requests_are_logged_in_order(start: Any) -> None:
    with start() as workspace:
        create_logged(workspace.client)
        update(workspace.client, entity("champion", 1))
        sent = [{"inputs": [number], "client_request_id": f"mine-{number}"} for number in range(20)]
        answers = [workspace.send("POST", "/serving-endpoints/delay/invocations", json=body) for body in sent]
    found = sorted(rows(workspace.folder, "flights", "delay_payload"), key=lambda row: row["request_time"])
    assert [json.loads(row["request"]) for row in found] == sent
    assert [row["client_request_id"] for row in found] == [body["client_request_id"] for body in sent]
    assert [row["databricks_request_id"] for row in found] == [answer.headers["x-request-id"] for answer in answers]
    (recorded,) = rows(workspace.folder, "system_serving", "served_entities")
    assert {row["served_entity_id"] for row in found} == {recorded["served_entity_id"]}


def test_requests_are_not_logged_where_that_is_off(start: Any) -> None:
    with start() as workspace:
        create_logged(workspace.client, enabled=False)
        update(workspace.client, entity("champion", 1))
        answered(workspace.client)
    assert not (workspace.folder / "warehouse/flights.db").exists()


def test_a_deleted_endpoint_is_gone(client: WorkspaceClient) -> None:
    create(client)
    client.serving_endpoints.delete("delay")
    assert list(client.serving_endpoints.list()) == []
    create(client)  # the name is free again


def test_an_endpoint_that_is_deleted_while_it_is_updated_stays_deleted(start: Any, models: Models) -> None:
    with start() as workspace:
        create(workspace.client)
        workspace.client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
        assert models.loading.wait(PATIENCE_S)
        workspace.client.serving_endpoints.delete("delay")
        models.may_load.set()
    with start() as workspace:
        assert list(workspace.client.serving_endpoints.list()) == []


def test_one_entity_can_be_asked_whatever_its_share(client: WorkspaceClient) -> None:
    create(client)
    update(client, entity("champion", 1), entity("challenger", 2), champion=100)
    path = "/serving-endpoints/delay/served-models/{}/invocations"
    headers = ["served-model-name", "x-request-id", "databricks-request-id"]
    answer = client.api_client.do("POST", path.format("challenger"), body={}, response_headers=headers)
    assert (answer["predictions"], answer["served-model-name"]) == ([2], "challenger")
    assert answer["x-request-id"] == answer["databricks-request-id"] != ""
    with pytest.raises(NotFound, match=r"^serving endpoint delay has no served entity nobody$"):
        client.api_client.do("POST", path.format("nobody"), body={})


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
def test_a_request_has_a_longest_body(client: WorkspaceClient, workspace: Any, size: int, status: int) -> None:
    create(client)
    assert workspace.send("POST", "/serving-endpoints/delay/invocations", data=b"x" * size).status_code == status


def test_an_answer_that_cannot_be_given_is_an_error_and_is_logged(client: WorkspaceClient, workspace: Any) -> None:
    create(client)
    answer = workspace.send("POST", "/serving-endpoints/delay/invocations", data=b"fail")
    message = {"error_code": "INTERNAL_ERROR", "message": "TypeError: not JSON serializable"}
    assert (answer.status_code, answer.json()) == (500, message)


def test_a_stop_waits_for_requests_in_flight_and_for_updates(start: Any, models: Models) -> None:
    with ThreadPoolExecutor(1) as thread:
        with start() as workspace:
            create_logged(workspace.client)
            update(workspace.client, entity("champion", 1))
            workspace.client.serving_endpoints.update_config("delay", served_entities=[entity("champion", SLOW)])
            assert models.loading.wait(PATIENCE_S)
            answer = thread.submit(workspace.send, "POST", "/serving-endpoints/delay/invocations", data=b"slowly")
            assert models.asked.wait(PATIENCE_S)
            models.may_load.set()
            models.may_answer.set()
        assert answer.result().json() == {"predictions": [1]}
    assert len(rows(workspace.folder, "flights", "delay_payload")) == 1
    with start() as workspace:
        assert served(workspace.client.serving_endpoints.get("delay")) == {"champion": (str(SLOW), 100)}


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get("nobody"),
        lambda api: api.delete("nobody"),
        lambda api: api.update_config("nobody", served_entities=[entity("champion", 1)]),
        lambda api: api.query("nobody"),
    ],
)
def test_an_unknown_endpoint_is_not_found(client: WorkspaceClient, call: Callable[[Any], object]) -> None:
    with pytest.raises(NotFound, match=r"^there is no serving endpoint nobody$"):
        call(client.serving_endpoints)


def test_a_name_is_taken_once(client: WorkspaceClient) -> None:
    create(client)
    with pytest.raises(ResourceAlreadyExists, match=r"^serving endpoint delay exists already$"):
        client.serving_endpoints.create("delay")
    assert answered(client) == {1: 1}


ONE = {"name": "champion", "entity_name": MODEL, "entity_version": "2"}
TWO = {**ONE, "name": "challenger"}


def routes(*shares: tuple[str, object]) -> dict[str, object]:
    return {"routes": [{"served_model_name": name, "traffic_percentage": share} for name, share in shares]}


WRONG_CONFIGURATIONS = [
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
        "served_entities.0.external_model: the laptop's workspace API would do nothing about this field",
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
        {"served_entities": [{**ONE, "environment_vars": {"A": "{{secrets/x/y}}"}}]},
        "champion: environment_vars: A: there is no secret {{secrets/x/y}}",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG_CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_in_one_line(
    client: WorkspaceClient, models: Models, body: dict[str, Any], message: str
) -> None:
    client.serving_endpoints.create("delay")
    with pytest.raises(InvalidParameterValue) as error:
        client.api_client.do("PUT", "/api/2.0/serving-endpoints/delay/config", body=body)
    assert str(error.value) == message
    with pytest.raises(InvalidParameterValue):
        client.api_client.do("POST", "/api/2.0/serving-endpoints", body={"name": "other", "config": body})
    assert [each.name for each in client.serving_endpoints.list()] == ["delay"]
    assert models.loaded == []


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "", {"name": "two words"}, "name: String should match pattern '^[A-Za-z0-9][\\w-]*$'"),
        ("POST", "", {}, "name: Field required"),
        (
            "POST",
            "",
            {"name": "other", "rate_limits": []},
            "rate_limits: the laptop's workspace API would do nothing about this field",
        ),
        (
            "POST",
            "",
            {"name": "other", "ai_gateway": {"inference_table_config": {"enabled": True}}},
            "ai_gateway.inference_table_config: give catalog_name and schema_name",
        ),
    ],
)
def test_a_wrong_body_is_refused_in_one_line(
    client: WorkspaceClient, method: str, path: str, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterValue) as error:
        client.api_client.do(method, f"/api/2.0/serving-endpoints{path}", body=body)
    assert str(error.value) == message


def test_what_the_service_has_no_counterpart_of_is_refused(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match=r"the laptop's workspace API has no such route$"):
        client.serving_endpoints.build_logs("delay", "champion")
    with pytest.raises(BadRequest, match="external_model: the laptop's workspace API would do nothing"):
        client.api_client.do(
            "POST",
            "/api/2.0/serving-endpoints",
            body={"name": "llm", "config": {"served_entities": [{**ONE, "external_model": {"provider": "openai"}}]}},
        )
