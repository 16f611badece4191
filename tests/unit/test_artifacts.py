"""What older commits deployed is removed once nothing needs it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from databricks.sdk import WorkspaceClient

from flight_delays.platform.artifacts import remove_old, superseded

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "/Users/deployer/.bundle/flight_delays/prod/artifacts"
BUNDLE = {"workspace": {"artifact_path": f"/Workspace{ROOT}/c3"}, "resources": {"jobs": {"f": {"name": "features"}}}}


def day(number: int) -> datetime:
    return START + timedelta(days=number)


@pytest.mark.parametrize(
    ("deployed", "in_use", "before", "found"),
    [
        ({}, [], 9, []),
        ({"a": 1}, [], 9, []),
        ({"a": 1, "b": 2}, [], 2, []),
        ({"a": 1, "b": 2}, [], 3, ["a"]),
        ({"b": 2, "c": 5, "a": 1}, [], 4, ["a"]),
        ({"b": 2, "c": 5, "a": 1}, [], 9, ["a", "b"]),
        ({"b": 2, "c": 5, "a": 1}, ["b"], 9, ["a"]),
    ],
    ids=["none", "one", "at the moment", "before it", "the one after is younger", "all but the last", "in use"],
)
def test_a_folder_goes_when_a_later_one_took_its_place_before_that_moment(
    deployed: dict[str, int], in_use: list[str], before: int, found: list[str]
) -> None:
    assert superseded({name: day(number) for name, number in deployed.items()}, in_use, day(before)) == found


class Workspace(BaseHTTPRequestHandler):
    """Files, jobs and runs, as far as they are asked for: https://docs.databricks.com/api/workspace"""

    files: dict[str, datetime]
    needed_by_the_job: str
    begun: list[datetime]
    deleted: list[str]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        answer = getattr(self, address.path.rpartition("/2.")[2][2:].replace("/", "_"), None)
        self.answer(answer(**query) if answer else {"error_code": "NOT_FOUND", "message": "no"}, 200 if answer else 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/api/2.0/workspace/delete"
        assert asked["recursive"] is True
        self.deleted.append(asked["path"])
        self.answer({})

    def workspace_list(self, path: str, **_: str) -> dict[str, Any]:
        if path == f"/Workspace{ROOT}":
            return {
                "objects": [{"object_type": "DIRECTORY", "path": f"{ROOT}/{name}"} for name in [*self.files, "new"]]
            }
        if path.endswith("/.internal"):
            name = path.split("/")[-2]
            moment = int(self.files[name].timestamp() * 1000)
            return {"objects": [{"object_type": "FILE", "path": f"{path}/a.whl", "modified_at": moment}]}
        return {"objects": [{"object_type": "DIRECTORY", "path": f"{path}/.internal"}] * (not path.endswith("/new"))}

    def jobs_list(self, name: str, **_: str) -> dict[str, Any]:
        assert name == "features"
        return {"jobs": [{"job_id": 7, "settings": {"name": name}}]}

    def jobs_get(self, job_id: str, **_: str) -> dict[str, Any]:
        wheel = f"/Workspace{ROOT}/{self.needed_by_the_job}/.internal/a.whl"
        return {
            "job_id": int(job_id),
            "settings": {"environments": [{"environment_key": "wheel", "spec": {"dependencies": [wheel]}}]},
        }

    def jobs_runs_list(self, active_only: str, **_: str) -> dict[str, Any]:
        assert active_only == "true"
        runs = [{"run_id": 1, "start_time": int(moment.timestamp() * 1000)} for moment in self.begun]
        return {"runs": [*runs, {"run_id": 2}]}

    def answer(self, body: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkspaceClient]:
    monkeypatch.setattr(Workspace, "files", {f"c{number}": day(number) for number in range(4)}, raising=False)
    monkeypatch.setattr(Workspace, "deleted", [], raising=False)
    monkeypatch.setattr(Workspace, "begun", [], raising=False)
    monkeypatch.setattr(Workspace, "needed_by_the_job", "c3", raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Workspace)
    Thread(target=server.serve_forever, daemon=True).start()
    yield WorkspaceClient(host=f"http://127.0.0.1:{server.server_port}", token="a-token", auth_type="pat")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("needed_by_the_job", "begun", "before", "removed"),
    [
        ("c3", [], 9, ["c0", "c1", "c2"]),
        ("c3", [], 0, []),
        ("c3", [8], 9, ["c0", "c1", "c2"]),
        ("c3", [2.5, 8], 9, ["c0", "c1"]),
        ("c1", [], 9, ["c0", "c2"]),
    ],
    ids=["nothing runs", "all are young", "a later run", "a run that began before c3", "a deploy that failed half-way"],
)
def test_what_no_job_and_no_run_in_progress_needs_is_removed(
    client: WorkspaceClient,
    monkeypatch: pytest.MonkeyPatch,
    needed_by_the_job: str,
    begun: list[float],
    before: int,
    removed: list[str],
) -> None:
    monkeypatch.setattr(Workspace, "needed_by_the_job", needed_by_the_job)
    monkeypatch.setattr(Workspace, "begun", [START + timedelta(days=each) for each in begun])
    found = remove_old(client, BUNDLE, day(before))
    assert found == Workspace.deleted == [f"{ROOT}/{name}" for name in removed]


def test_where_no_commit_is_known_nothing_is_removed(client: WorkspaceClient) -> None:
    assert remove_old(client, {"workspace": {"artifact_path": f"/Workspace{ROOT}/"}}, day(9)) == []
