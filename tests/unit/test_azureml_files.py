"""The files for Azure ML are what its own client takes, and the same that a release makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import load_environment, load_online_deployment, load_online_endpoint
from azure.ai.ml.exceptions import ValidationException
from marshmallow import ValidationError

from flight_delays.platform.azure_ml import ROUTES, SIZES, Build, deployment_body

FOLDER = Path(__file__).parents[2] / "deploy" / "azureml"
LOADERS: dict[str, Callable[..., Any]] = {
    "endpoint.yml": load_online_endpoint,
    "environment.yml": load_environment,
    "deployment.yml": load_online_deployment,
}


def loaded(file: str, **override: object) -> Any:
    return LOADERS[file](FOLDER / file, params_override=[{name: value} for name, value in override.items()])


def lower(given: Any) -> Any:
    """The API takes its own words in any case."""
    if isinstance(given, dict):
        return {key: lower(value) for key, value in given.items()}
    return given.lower() if isinstance(given, str) and given.lower() in ("enabled", "disabled", "linux") else given


def test_the_folder_holds_nothing_else() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*LOADERS}


@pytest.mark.parametrize("name", ["champion", "challenger"])
@pytest.mark.parametrize("size", SIZES)
def test_a_deployment_by_hand_is_the_one_that_a_release_makes(name: str, size: str) -> None:
    instance_type, count = SIZES[size]
    file = loaded(
        "deployment.yml",
        name=name,
        instance_type=instance_type,
        instance_count=count,
        environment_variables={"FLIGHT_DELAYS_SERVED": f"{name}=/opt/model", "FLIGHT_DELAYS_SERVING_AUTH": "off"},
    )
    theirs = file._to_rest_object(location="westeurope").as_dict()
    theirs["properties"].pop("properties")
    build = Build(
        tags=tuple(file.tags.items()),
        environment="1",
        instance_type=instance_type,
        variables=(("FLIGHT_DELAYS_SERVING_AUTH", "off"),),
    )
    ours = deployment_body(name, build, "scoring:1", instances=count, location="westeurope")
    assert lower(ours) == lower(theirs)


def test_the_environment_by_hand_has_the_routes_that_a_release_gives() -> None:
    assert loaded("environment.yml")._to_rest_object().as_dict()["properties"]["inferenceConfig"] == ROUTES


def test_the_endpoint_has_no_keys_and_says_nothing_about_traffic() -> None:
    endpoint = loaded("endpoint.yml", name="another")
    assert (endpoint.name, endpoint.auth_mode, endpoint.traffic) == ("another", "aad_token", {})


@pytest.mark.parametrize(
    ("file", "override", "says"),
    [
        ("endpoint.yml", {"auth_mode": "nobody"}, "auth_mode"),
        ("endpoint.yml", {"traffic": {"champion": "all"}}, "traffic"),
        ("endpoint.yml", {"trafic": {"champion": 100}}, "trafic"),
        ("environment.yml", {"inference_config": {"liveness_route": {"path": "/ping", "port": "http"}}}, "port"),
        ("environment.yml", {"inference_config": {"liveness": {"path": "/ping", "port": 8080}}}, "liveness"),
        ("deployment.yml", {"instance_count": "many"}, "instance_count"),
        ("deployment.yml", {"liveness_probe": {"period": "often"}}, "period"),
        ("deployment.yml", {"egress_public_network_access": "perhaps"}, "egress_public_network_access"),
        ("deployment.yml", {"app_insights": True}, "app_insights"),
        ("deployment.yml", {"request_settings": {"request_timeout_ms": "long"}}, "request_timeout_ms"),
    ],
)
def test_what_is_wrong_in_a_file_is_found(file: str, override: dict[str, object], says: str) -> None:
    with pytest.raises((ValidationError, ValidationException)) as error:
        loaded(file, **override)
    assert says in str(error.value)
