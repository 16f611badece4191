"""Databricks' own monitors, asked for over HTTP of a server that follows its API."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from tests.bikes import USE_CASE as BIKES
from tests.contexts import client_at
from tests.unit.test_endpoints import Time

from flight_delays.core.errors import UserError
from flight_delays.platform.data_quality import profile_tables
from flight_delays.use_case import USE_CASE

SCHEMA = "lake.flights"
IDS = {f"{SCHEMA}.features": "id-of-features", f"{SCHEMA}.predictions": "id-of-predictions"}


@dataclass
class Workspace:
    """Its tables and monitors; `refused` is a status and an error code for each new monitor."""

    client: WorkspaceClient = field(init=False)
    tables: dict[str, str] = field(default_factory=lambda: dict(IDS))
    monitors: dict[str, Any] = field(default_factory=dict)
    refused: tuple[int, str] | None = None

    def get(self, path: str) -> tuple[int, Any]:
        kind, name = path.split("/")[-2:]
        if kind == "schemas":
            return 200, {"full_name": name, "schema_id": "id-of-schema"}
        if name in self.tables:
            return 200, {"full_name": name, "table_id": self.tables[name]}
        return 404, {"error_code": "TABLE_DOES_NOT_EXIST", "message": f"Table '{name}' does not exist."}

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        assert path == "/api/data-quality/v1/monitors"
        if self.refused:
            status, code = self.refused
            return status, {"error_code": code, "message": "no"}
        if body["object_id"] in self.monitors:
            return 409, {"error_code": "ALREADY_EXISTS", "message": "A monitor exists."}
        self.monitors[body["object_id"]] = body
        return 200, body


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    found = Workspace()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(*found.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.answer(*found.post(self.path, json.loads(body)))

        def answer(self, status: int, body: Any) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found.client = client_at(f"http://127.0.0.1:{server.server_port}", Time())
        yield found
        server.shutdown()


def test_features_and_predictions_are_profiled_by_day_from_the_first_run_on(workspace: Workspace) -> None:
    first, second = (dict(profile_tables(workspace.client, SCHEMA, USE_CASE.objective)) for _ in range(2))

    assert first == dict.fromkeys(IDS, "is monitored from now on")
    assert second == dict.fromkeys(IDS, "is monitored already")
    day = {"timestamp_column": "prediction_ts", "granularities": ["AGGREGATION_GRANULARITY_1_DAY"]}
    log = {
        **day,
        "problem_type": "INFERENCE_PROBLEM_TYPE_CLASSIFICATION",
        "prediction_column": "prediction",
        "model_id_column": "model_version",
    }
    assert {one: made["data_profiling_config"] for one, made in workspace.monitors.items()} == {
        "id-of-features": {"output_schema_id": "id-of-schema", "time_series": day},
        "id-of-predictions": {"output_schema_id": "id-of-schema", "inference_log": log},
    }
    assert {made["object_type"] for made in workspace.monitors.values()} == {"table"}


def test_the_forecasts_of_a_regression_are_profiled_as_such(workspace: Workspace) -> None:
    list(profile_tables(workspace.client, SCHEMA, BIKES.objective))

    log = workspace.monitors["id-of-predictions"]["data_profiling_config"]["inference_log"]
    assert log["problem_type"] == "INFERENCE_PROBLEM_TYPE_REGRESSION"


def test_a_table_that_is_not_there_yet_is_named(workspace: Workspace) -> None:
    del workspace.tables[f"{SCHEMA}.features"]
    with pytest.raises(UserError, match=r"^lake\.flights\.features cannot be monitored: .*run the features job first$"):
        list(profile_tables(workspace.client, SCHEMA, USE_CASE.objective))


@pytest.mark.parametrize("refused", [(403, "PERMISSION_DENIED"), (400, "INVALID_PARAMETER_VALUE"), (500, "INTERNAL")])
def test_what_the_workspace_refuses_is_one_line(workspace: Workspace, refused: tuple[int, str]) -> None:
    workspace.refused = refused
    with pytest.raises(
        UserError, match=r"^lake\.flights\.features cannot be monitored: no.*; fix that and run it again$"
    ):
        list(profile_tables(workspace.client, SCHEMA, USE_CASE.objective))
