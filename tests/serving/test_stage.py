"""A version on a staging endpoint: the real service over HTTP, behind a platform that notes what is wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from mlflow.pyfunc import PyFuncModel
from tests.serving.live import entity, listening, live

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Stage
from flight_delays.core.traffic import Served
from flight_delays.platform.registry import recorded_answers
from flight_delays.serving.service import LoadedModel
from flight_delays.tasks import stage

GIVEN = Stage(endpoint="azureml://s/g/w/delay", model_name="delay", model_version=3)


class Platform:
    """Its endpoint is at an address that is known."""

    def __init__(self, url: str, path: str = "/invocations") -> None:
        self.url = url + path
        self.wanted: list[Served] = []

    def configuration(self, _: str) -> tuple[Served, ...]:
        return ()

    def configure(self, _: str, wanted: Sequence[Served], **how: Any) -> None:
        self.wanted += wanted
        how["progress"]("deploy champion")

    def address(self, _: str, served: str | None = None) -> tuple[str, dict[str, str]]:
        assert served == "champion"
        return self.url, {}


class Models:
    """A registry of what the fixtures made."""

    def __init__(self, model: PyFuncModel) -> None:
        self.load = lambda *_: model


def staged(platform: Platform, model: PyFuncModel, told: list[str]) -> str:
    registry: Any = Models(model)
    return stage.run(GIVEN, registry, platform, told.append)


def test_a_version_that_answers_as_recorded_passes(
    models: Mapping[str, PyFuncModel], loaded_models: Mapping[str, LoadedModel]
) -> None:
    told: list[str] = []
    with live(entity("champion", loaded_models["champion"])) as service:
        platform = Platform(service.url)
        said = staged(platform, models["champion"], told)
    assert said.startswith("azureml://s/g/w/delay answers all ")
    assert told == ["deploy champion"]
    assert platform.wanted == [Served(name="champion", model_name="delay", model_version=3, percentage=100)]


def test_an_image_with_another_model_does_not_pass(
    models: Mapping[str, PyFuncModel], loaded_models: Mapping[str, LoadedModel]
) -> None:
    with (
        live(entity("champion", loaded_models["challenger"])) as service,
        pytest.raises(UserError, match=r"^azureml://s/g/w/delay does not answer as delay version 3: an answer is off"),
    ):
        staged(Platform(service.url), models["champion"], [])


def test_a_server_that_checks_no_request_does_not_pass(models: Mapping[str, PyFuncModel]) -> None:
    app, recorded = FastAPI(), recorded_answers(models["champion"])
    answers = {"predictions": [{recorded.name: answer} for answer in recorded]}
    app.add_api_route("/invocations", lambda: answers, methods=["POST"])
    with listening(app) as url, pytest.raises(UserError, match=r": a request without \w+ gets status 200, not 400$"):
        staged(Platform(url), models["champion"], [])


def test_an_endpoint_that_serves_nothing_or_has_no_such_route_does_not_pass(models: Mapping[str, PyFuncModel]) -> None:
    with live() as service:
        for path, status in (("/invocations", 503), ("/score", 404)):
            with pytest.raises(UserError, match=rf"its golden requests get status {status}: "):
                staged(Platform(service.url, path), models["champion"], [])
    with pytest.raises(UserError, match=r"^http://127.0.0.1:\d+/invocations gave no answer in JSON: "):
        staged(Platform(service.url), models["champion"], [])  # it has ended
