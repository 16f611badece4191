"""Versions of real, tiny models, loaded from MLflow's registry and asked over HTTP."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

import mlflow
import pandas as pd
import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.serving import DataframeSplitInput, EndpointCoreConfigInput, ServedEntityInput
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, DataType, Schema

MODEL = "main.flights.delay"
CODE = """
import os
import mlflow
import pandas as pd

class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.store = os.environ.get("STORE", "nothing")
        if self.store == "broken":
            raise ConnectionError("the store is " + self.store)

    def predict(self, context, model_input: pd.DataFrame, params=None):
        if (model_input["hours"] < 0).any():
            raise ValueError("hours below 0")
        late = model_input["hours"] * 2 + (params or {}).get("add", 0)
        return pd.DataFrame({"late": late, "store": [self.store] * len(late)})

mlflow.models.set_model(Model())
"""
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.double, "hours"), ColSpec(DataType.string, "carrier", required=False)]),
    outputs=Schema([ColSpec(DataType.double, "late"), ColSpec(DataType.string, "store")]),
)
HOURS = "/serving-endpoints/delay/invocations"


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry with one version of MODEL."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "model.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        experiment = mlflow.create_experiment("models", artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(folder / "model.py"),
                signature=SIGNATURE,
                registered_model_name=MODEL,
                pip_requirements=["mlflow"],
            )
        yield uri


@pytest.fixture
def workspace(serve: Any, registry: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with serve() as workspace:
        yield workspace


def release(client: Any, version: int = 1, **variables: str) -> Any:
    entity = ServedEntityInput(
        name="champion", entity_name=MODEL, entity_version=str(version), environment_vars=variables or None
    )
    config = EndpointCoreConfigInput(name="delay", served_entities=[entity])
    client.serving_endpoints.create("delay", config=config)
    while (found := client.serving_endpoints.get("delay")).state.config_update.value == "IN_PROGRESS":
        sleep(0.02)
    return found


@pytest.fixture(scope="module")
def served(serve_for_module: Any, registry: str) -> Iterator[Any]:  # noqa: ARG001 (which the environment names)
    """A workspace whose endpoint serves version 1, for tests that only ask."""
    with serve_for_module() as workspace:
        release(workspace.client)
        yield workspace


def test_a_registered_version_answers_in_every_format_of_the_protocol(served: Any) -> None:
    api = served.client.serving_endpoints
    split = DataframeSplitInput(columns=["hours"], data=[[1.0], [2.0]])
    expected = [{"late": 2.0, "store": "nothing"}, {"late": 4.0, "store": "nothing"}]
    assert api.query("delay", dataframe_split=split).predictions == expected
    assert api.query("delay", dataframe_records=[{"hours": 1.0}, {"hours": 2.0}]).predictions == expected
    assert api.query("delay", inputs={"hours": [1.0, 2.0]}).predictions == expected
    csv = served.send("POST", HOURS, data="hours\n1\n2\n", headers={"Content-Type": "text/csv"})
    assert csv.json()["predictions"] == expected
    assert csv.headers["served-model-name"] == "champion"
    assert csv.headers["Content-Type"] == "application/json"


@pytest.fixture(scope="module")
def mlflows_own_app(registry: str) -> Any:  # noqa: ARG001
    """The app of `mlflow models serve`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # which it would set for good
        return scoring_server.init(mlflow.pyfunc.load_model(f"models:/{MODEL}/1"))


def asked(app: Any, body: bytes, content_type: str) -> tuple[int, str]:
    """Status and text of an app's answer, without a server."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode())],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def without_traceback(text: str) -> object:
    try:
        return {name: value for name, value in json.loads(text).items() if name != "stack_trace"}
    except ValueError:
        return text


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"inputs": {"hours": [1.0]}, "client_request_id": "mine"}', "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b'{"inputs": [], "instances": []}', "application/json"),
        (b'{"dataframe_records": [{"carrier": "UA"}]}', "application/json"),
        (b'{"dataframe_records": [{"hours": "many"}]}', "application/json"),
        (b'{"dataframe_records": [{"hours": -1.0}]}', "application/json"),
        (b'{"dataframe_split": {"columns": ["hours"]}}', "application/json"),
        (b"\xff", "application/json"),
        (b"hours\n1\n", "text/csv; charset=latin-1"),
        (b"hours\n1\n", "text/plain"),
        (b"hours\n1\n", "text/csv; header=present"),
    ],
)
def test_what_mlflow_refuses_is_refused_in_its_words(
    served: Any, mlflows_own_app: Any, body: bytes, content_type: str
) -> None:
    status, text = asked(mlflows_own_app, body, content_type)
    found = served.send("POST", HOURS, data=body, headers={"Content-Type": content_type})
    assert (found.status_code, without_traceback(found.text)) == (status, without_traceback(text))


def test_a_client_is_told_what_is_missing(served: Any) -> None:
    with pytest.raises(BadRequest, match=r"Model is missing inputs \['hours'\]"):
        served.client.serving_endpoints.query("delay", dataframe_records=[{"carrier": "UA"}])


def test_a_request_without_a_content_type_is_refused(served: Any) -> None:
    answer = served.send("POST", HOURS, data=b"hours\n1\n")
    assert answer.status_code == 415


def test_the_environment_is_the_models_while_it_is_loaded_and_not_afterwards(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE", "of this process")
    workspace.client.secrets.create_scope("flights")
    workspace.client.secrets.put_secret("flights", "store", string_value="of the secret")
    release(workspace.client, STORE="{{secrets/flights/store}}", OTHER="1")
    (row,) = workspace.client.serving_endpoints.query("delay", inputs={"hours": [1.0]}).predictions
    assert row["store"] == "of the secret"
    assert (os.environ["STORE"], os.environ.get("OTHER")) == ("of this process", None)


@pytest.mark.parametrize(
    ("version", "variables", "message"),
    [
        (1, {"STORE": "broken"}, f"champion: {MODEL} version 1 cannot be loaded: ConnectionError: the store is broken"),
        (7, {}, f"champion: {MODEL} version 7 cannot be loaded: MlflowException: "),
    ],
)
def test_a_version_that_cannot_be_loaded_says_why(
    workspace: Any, version: int, variables: dict[str, str], message: str
) -> None:
    (entity,) = release(workspace.client, version, **variables).pending_config.served_entities
    assert entity.state.deployment_state_message.startswith(message)
    assert "STORE" not in os.environ


def test_numbers_come_as_pandas_writes_them(served: Any, tmp_path: Path) -> None:
    pd.DataFrame({"hours": [1.5]}).to_parquet(tmp_path / "rows")
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    answer = served.send("POST", HOURS, data=(tmp_path / "rows").read_bytes(), headers=headers)
    assert answer.json() == {"predictions": [{"late": 3.0, "store": "nothing"}]}
