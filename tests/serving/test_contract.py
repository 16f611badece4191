"""The same requests to this project's service, to a version's image and to MLflow's own server, over HTTP."""

import json
from collections.abc import Iterator

import pytest
import requests
from mlflow.pyfunc import PyFuncModel, scoring_server
from tests.serving.conftest import RunningImage
from tests.serving.live import JSON, PATIENCE_S, entity, listening, live
from tests.unit.test_scoring_request import ROW, WAYS

from flight_delays.platform.azure_ml import ROUTES
from flight_delays.serving.service import LoadedModel

ROWS = [ROW, ROW | {"carrier": "Å", "weather_visib": None}]
DOCUMENTED = ("2013-01-15T17:00:00", "2013-01-15T17:00:00.5")


@pytest.fixture(scope="module")
def servers(
    models: dict[str, PyFuncModel], loaded_models: dict[str, LoadedModel], running_image: RunningImage
) -> Iterator[tuple[str, str, str]]:
    """Addresses: ours, the image's, MLflow's."""
    with (
        live(entity("champion", loaded_models["champion"])) as ours,
        listening(scoring_server.init(models["champion"])) as theirs,
    ):
        yield ours.url, running_image.url, theirs


def ask(address: str, body: object) -> requests.Response:
    return requests.post(f"{address}/invocations", data=json.dumps(body), headers=JSON, timeout=PATIENCE_S)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("time", DOCUMENTED)
def test_all_servers_answer_the_documented_request_alike(servers: tuple[str, str, str], way: str, time: str) -> None:
    ours, image, theirs = (
        ask(address, WAYS[way]([row | {"sched_dep_ts": time} for row in ROWS])) for address in servers
    )
    assert (ours.status_code, image.status_code, theirs.status_code) == (200, 200, 200)
    assert ours.json() == image.json() == theirs.json()


@pytest.mark.filterwarnings("ignore:no explicit representation of timezones")
@pytest.mark.parametrize("way", WAYS)
def test_a_time_with_a_zone_is_not_the_documented_form_because_mlflow_refuses_it(
    servers: tuple[str, str, str], way: str
) -> None:
    ours, image, theirs = (
        ask(address, WAYS[way]([ROW | {"sched_dep_ts": "2013-01-15T17:00:00Z"}])) for address in servers
    )
    assert (ours.status_code, image.status_code) == (200, 200)
    assert ours.json() == image.json()
    assert theirs.status_code == (200 if way in ("by column", "inputs", "instances") else 400)
    if theirs.status_code == 200:
        assert ours.json() == theirs.json()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": []},
        WAYS["records"]([{name: value for name, value in ROW.items() if name != "carrier"}]),
        WAYS["records"]([ROW | {"distance": "far"}]),
        WAYS["records"]([ROW | {"sched_dep_ts": "soon"}]),
    ],
    ids=["no form", "no rows", "a column is missing", "a text for a number", "no time"],
)
def test_what_all_servers_refuse_is_the_callers_fault(servers: tuple[str, str, str], body: object) -> None:
    ours, image, theirs = (ask(address, body) for address in servers)
    assert (ours.status_code, image.status_code) == (400, 400)
    assert 400 <= theirs.status_code < 500
    assert ours.json() == image.json()
    assert ours.json()["error_code"]


def test_what_azure_ml_asks_of_a_container_is_answered_without_a_token(loaded_models: dict[str, LoadedModel]) -> None:
    alive, ready, score = (ROUTES[f"{route}Route"]["path"] for route in ("liveness", "readiness", "scoring"))
    with live() as loading:
        assert [loading.get(path).status_code for path in (alive, ready)] == [200, 503]
    with live(entity("champion", loaded_models["champion"])) as service:
        assert [service.get(path).status_code for path in (alive, ready)] == [200, 200]
        body, named = json.dumps(WAYS["split"](ROWS)).encode(), {"azureml-model-deployment": "champion"}
        answer = service.post(body, score, **named, authorization="Bearer what the endpoint has checked")
    assert (answer.status_code, answer.headers["served-model-name"]) == (200, "champion")
    assert len(answer.json()["predictions"]) == len(ROWS)
