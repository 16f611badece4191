"""Who gets in, what they find, and how the server starts and stops."""

import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound

from bundle_laptop.api import environment, running_address
from bundle_laptop.errors import LaptopError


def test_a_client_finds_the_workspace_by_the_environment_and_is_local(workspace: Any) -> None:
    client = WorkspaceClient()
    assert client.config.host == workspace.address
    assert client.current_user.me().user_name == "local"
    assert client.get_workspace_id() == 1


@pytest.mark.parametrize("path", ["/api/2.0/serving-endpoints", "/serving-endpoints/delay/invocations", "/nowhere"])
@pytest.mark.parametrize("header", [None, "Basic eDp5", "Bearer "])
def test_who_brings_no_bearer_token_is_let_in_nowhere(workspace: Any, path: str, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    answer = requests.post(workspace.address + path, headers=headers, json={}, timeout=20)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_a_route_that_the_laptop_lacks_is_said_to_be_so(workspace: Any) -> None:
    message = r"^GET /api/2.1/clusters/list: the laptop's workspace API has no such route$"
    with pytest.raises(NotFound, match=message):
        list(workspace.client.clusters.list())


@pytest.mark.parametrize("text", ["{", "", "[]", "null", '{"name": NaN}'])
def test_a_body_that_is_no_json_map_is_refused(workspace: Any, text: str) -> None:
    answer = workspace.send("POST", "/api/2.0/serving-endpoints", data=text)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "\n" not in answer.json()["message"]


def test_a_failure_of_the_api_itself_is_an_internal_error(workspace: Any) -> None:
    (workspace.folder / "volumes").write_text("in the way")
    answer = workspace.send("PUT", "/api/2.0/fs/files/Volumes/a/b/c/d", data=b"x")
    assert answer.status_code == 400
    (workspace.folder / "api/secrets.json").write_text('{"scope": 1}')
    answer = workspace.send("GET", "/api/2.0/secrets/list?scope=scope")
    assert (answer.status_code, answer.json()["error_code"]) == (500, "INTERNAL_ERROR")


def test_a_state_file_that_is_no_json_is_said_to_be_so(workspace: Any) -> None:
    (workspace.folder / "api/jobs.json").write_text("{")
    answer = workspace.send("GET", "/api/2.2/jobs/list")
    assert answer.status_code == 400
    assert "jobs.json: invalid JSON (" in answer.json()["message"]


def test_bodies_come_in_chunks_too(workspace: Any) -> None:
    parts = [b"first ", b"x" * 3_000_000, b" last"]
    path = "/api/2.0/fs/files/Volumes/main/flights/raw/file"
    assert workspace.send("PUT", path, data=iter(parts)).status_code == 204
    assert workspace.send("GET", path).content == b"".join(parts)


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: many", b"Transfer-Encoding: chunked", b"Content-Length: 10"],
    ids=["no number", "no chunk", "too short"],
)
def test_a_body_without_an_end_is_refused(workspace: Any, headers: bytes) -> None:
    answer = workspace.raw(b"POST /x HTTP/1.1\r\nAuthorization: Bearer any\r\n" + headers + b"\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer


def test_many_clients_are_served_at_the_same_time(workspace: Any) -> None:
    workspace.faults.add(action="hang", path="/hang", seconds=0.3, times=None)
    with ThreadPoolExecutor(20) as threads:
        started = time.monotonic()
        answers = list(threads.map(lambda _: workspace.send("GET", "/hang").status_code, range(20)))
    assert answers == [404] * 20
    assert time.monotonic() - started < 3


def test_a_port_that_is_taken_is_one_line(serve: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        starting: AbstractContextManager[Any] = serve(port=port)
        message = rf"^port {port} of 127\.0\.0\.1 cannot be had: .*; give another$"
        with pytest.raises(LaptopError, match=message), starting:
            pass


def test_a_given_port_is_used_again_right_after_a_stop(serve: Any) -> None:
    with serve() as first:
        assert first.client.current_user.me().user_name == "local"
    with serve(port=int(first.address.rpartition(":")[2])) as second:
        assert second.address == first.address
        assert second.client.current_user.me().user_name == "local"


def test_a_world_is_served_once_and_tells_where(serve: Any, tmp_path: Path) -> None:
    assert running_address(tmp_path / "dev") is None
    with serve() as workspace:
        assert running_address(workspace.folder) == workspace.address
        starting: AbstractContextManager[Any] = serve()
        with pytest.raises(LaptopError, match=rf"^dev is served already, at {workspace.address}; end that"), starting:
            pass
    assert running_address(workspace.folder) is None
    (workspace.folder / "api/address").write_text(workspace.address)  # as a killed server leaves it
    with serve():
        pass


@pytest.mark.parametrize("store", ["mysql://store", "online.db"])
def test_an_online_store_of_another_kind_is_one_line(serve: Any, store: str) -> None:
    starting: AbstractContextManager[Any] = serve(online_store=store)
    with pytest.raises(LaptopError, match=r"^the online store's address is not postgresql://"), starting:
        pass


def test_nothing_is_left_running_after_a_stop(serve: Any) -> None:
    before = set(threading.enumerate())
    with serve() as workspace, requests.Session() as idle:
        idle.get(f"{workspace.address}/.well-known/databricks-config", timeout=20)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def test_importing_and_starting_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib
import bundle_laptop.pytest_plugin
assert not any(name.startswith(("bundle_laptop.api", "databricks")) for name in sys.modules)
from bundle_laptop.api import serve_workspace
with serve_workspace(pathlib.Path({str(tmp_path / "dev")!r})):
    heavy = ("mlflow", "deltalake", "pyarrow", "pandas", "numpy", "pyspark", "databricks.sdk", "fastapi")
    print([name for name in heavy if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


def test_the_environment_leaves_nothing_of_a_persons_own_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = {"debug_headers", "debug_truncate_bytes", "rate_limit"}
    harmless |= {attribute.name for attribute in Config.attributes() if attribute.name.startswith("disable_")}
    kept = {"DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_AUTH_TYPE", "DATABRICKS_CONFIG_FILE"}
    theirs = {
        name
        for attribute in Config.attributes()
        for name in (attribute.env, *attribute.env_aliases)
        if name and attribute.name not in harmless
    }
    for name in theirs:
        monkeypatch.setenv(name, "theirs")
    variables = environment("http://127.0.0.1:1")
    assert {name for name in theirs if variables[name] is None} == theirs - kept


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        (None, None, "127.0.0.1,localhost"),
        ("", "", "127.0.0.1,localhost"),
        ("example.org", None, "example.org,127.0.0.1,localhost"),
        ("a, b", "b,c", "a,b,c,127.0.0.1,localhost"),
        ("localhost", None, "localhost,127.0.0.1"),
        ("*", "a", "*"),
    ],
)
def test_loopback_goes_through_no_proxy_and_other_exceptions_stay(
    monkeypatch: pytest.MonkeyPatch, upper: str | None, lower: str | None, expected: str
) -> None:
    for name, value in (("NO_PROXY", upper), ("no_proxy", lower)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    variables = environment("http://127.0.0.1:1")
    assert (variables["NO_PROXY"], variables["no_proxy"]) == (expected, expected)


def test_a_persons_profile_cluster_and_proxy_do_not_matter(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = tmp_path / "databrickscfg"
    profile.write_text("[DEFAULT]\nhost = https://adb-1.azuredatabricks.net\ntoken = theirs\n[own]\nclient_id = me\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(profile))
    for name in ("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "ARM_CLIENT_ID", "DATABRICKS_CLUSTER_ID"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "own")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve() as workspace:
        client = WorkspaceClient()
        assert (client.config.host, client.config.auth_type) == (workspace.address, "pat")
        assert client.config.cluster_id is None
        assert client.current_user.me().user_name == "local"
