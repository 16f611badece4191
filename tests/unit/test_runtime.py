"""Where a task runs, and where it leaves its values."""

import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

import databricks
import mlflow
import pytest
from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.platform import runtime
from flight_delays.platform.job_context import (
    FileTaskValues,
    PrintedTaskValues,
    WorkspaceTaskValues,
    task_values,
)
from flight_delays.platform.registry import connect
from flight_delays.platform.runtime import Place, place
from flight_delays.platform.session import spark_session

ROOT = Path(__file__).parents[2]
WORKSPACE = "DATABRICKS_RUNTIME_VERSION"
# What of Databricks Connect is used, taking notes; the real one cannot be installed beside local Spark.
DATABRICKS_CONNECT = """
import shutil

class Session:
    def __init__(self):
        self.settings, self.code = {}, []
        self.conf = self

    def set(self, key, value):
        self.settings[key] = value

    def addArtifacts(self, uri, *, pyfile):
        assert pyfile
        self.code.append(shutil.copy(uri.removeprefix("file://"), "."))

class DatabricksEnv:
    def withDependencies(self, dependencies):
        self.dependencies = dependencies
        return self

class Builder:
    session = Session()

    def sdkConfig(self, config):
        self.session.config = config
        return self

    def withEnvironment(self, environment):
        self.session.libraries = environment.dependencies
        return self

    def getOrCreate(self):
        if self.session.config.cluster_id == "old":
            raise Exception("Unsupported combination:\\n\\t15.4 < 17.3")
        return self.session

class DatabricksSession:
    builder = Builder()
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", os.devnull)
    for name in (runtime.LOCAL_DIR, runtime.LOCAL_SPARK, runtime.TASK_VALUES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "installed" / "connect").mkdir(parents=True)
    (tmp_path / "installed" / "connect" / "__init__.py").write_text(DATABRICKS_CONNECT)
    monkeypatch.setattr(databricks, "__path__", [*databricks.__path__, str(tmp_path / "installed")])
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("databricks.connect", None)


class Answer(BaseHTTPRequestHandler):
    """Whoever asks exists."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def _signed_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("DATABRICKS_TOKEN", "token")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield
        server.shutdown()


@pytest.mark.usefixtures("_connected")
def test_databricks_connect_makes_a_laptop_one_of_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() is Place.CONNECTED
    monkeypatch.setenv(WORKSPACE, "18.0")
    assert place() is Place.RUNTIME


def test_without_databricks_connect_a_laptop_is_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() is Place.LOCAL
    monkeypatch.setenv(runtime.LOCAL_DIR, ".local/dev")
    assert place() is Place.LOCAL


@pytest.mark.usefixtures("_connected")
def test_a_local_run_with_databricks_connect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.LOCAL_DIR, ".local/dev")
    for refuses in (place, spark_session, connect):
        with pytest.raises(
            UserError, match=r"^a local run needs Spark of its own, .*; use the \.venv that dev\.py makes$"
        ):
            refuses()


@pytest.mark.usefixtures("_connected", "_signed_in")
@pytest.mark.parametrize(
    ("named", "cluster", "serverless"), [(None, None, "auto"), ("0101-cluster", "0101-cluster", None)]
)
def test_a_session_is_on_the_cluster_that_is_named_or_else_serverless(
    monkeypatch: pytest.MonkeyPatch, named: str | None, cluster: str | None, serverless: str | None
) -> None:
    if named:
        monkeypatch.setenv("DATABRICKS_CLUSTER_ID", named)
    session = spark_session()
    assert (session.config.cluster_id, session.config.serverless_compute_id) == (cluster, serverless)
    assert session.settings == {"spark.sql.session.timeZone": "UTC"}


@pytest.mark.usefixtures("_connected", "_signed_in")
def test_workers_get_the_wheels_libraries_and_the_code_as_it_is_now() -> None:
    assert spark_session().libraries == requires("flight-delays")
    first, again = spark_session().code
    assert first == again
    with ZipFile(first) as archive:
        scorer = archive.read("flight_delays/platform/scorer.py")
        assert {name.partition("/")[0] for name in archive.namelist()} == {"flight_delays"}
        assert {file.date_time for file in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # the same at any time
    assert scorer == (ROOT / "src/flight_delays/platform/scorer.py").read_bytes()


@pytest.mark.usefixtures("_connected", "_signed_in")
def test_compute_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CLUSTER_ID", "old")
    with pytest.raises(
        UserError, match=r"^no session on a workspace's compute: Unsupported combination: 15\.4 < 17\.3; "
    ):
        spark_session()


@pytest.mark.usefixtures("_connected")
def test_who_is_not_signed_in_is_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    with pytest.raises(UserError) as error:
        spark_session()
    assert str(error.value).startswith("no session on a workspace's compute: ")
    assert "sign in with `databricks auth login`" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_connected", "_signed_in")
def test_a_connected_laptop_has_the_workspaces_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, "")
    before = mlflow.get_tracking_uri()
    try:
        connect()
        assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == ("databricks", "databricks-uc")
    finally:
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri("")


@pytest.mark.usefixtures("_connected")
def test_task_values_of_a_connected_laptop_are_printed() -> None:
    console = Console()
    assert task_values(console) == PrintedTaskValues(console)


def test_databricks_connect_is_declared_to_conflict_with_local_spark() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    holders = {
        name
        for name, group in project["dependency-groups"].items()
        if any(isinstance(entry, str) and entry.startswith(("pyspark", "delta-spark")) for entry in group)
    }
    including = {name for name, group in project["dependency-groups"].items() if {"include-group": "local"} in group}
    pairs = [{entry["group"] for entry in pair} for pair in project["tool"]["uv"]["conflicts"]]
    assert (holders, including) == ({"local"}, {"dev"})
    assert all({"workspace", name} in pairs for name in holders | including)


def test_a_file_of_task_values_keeps_the_earlier_ones_and_takes_the_last_of_a_key(tmp_path: Path) -> None:
    values = FileTaskValues(tmp_path / "values.json")
    for key, value in (("verdict", "FAIL"), ("model_version", "3"), ("verdict", "PASS")):
        values.set(key, value)
    assert json.loads(values.path.read_text()) == {"verdict": "PASS", "model_version": "3"}


def test_task_values_of_no_job_are_printed() -> None:
    console = Console(file=io.StringIO())
    PrintedTaskValues(console).set("model_version", "3")
    assert console.file.getvalue() == "model_version: 3\n"


def test_task_values_go_where_the_job_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = Console()
    assert task_values(console) == PrintedTaskValues(console)
    monkeypatch.setenv(runtime.TASK_VALUES, str(tmp_path / "values.json"))
    assert task_values(console) == FileTaskValues(tmp_path / "values.json")
    monkeypatch.setenv(WORKSPACE, "18.0")
    assert isinstance(task_values(console), WorkspaceTaskValues)


def test_the_local_world_is_the_folder_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert runtime.local_dir() == Path.cwd() / ".local/dev"
    monkeypatch.setenv(runtime.LOCAL_DIR, str(tmp_path / "x" / ".."))
    monkeypatch.setenv(runtime.TASK_VALUES, "values.json")
    assert runtime.local_dir() == tmp_path
    assert runtime.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_misspelt_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHT_DELAYS_LOCALDIR", "/tmp/elsewhere")  # noqa: S108
    for refuses in (runtime.local_dir, connect):
        with pytest.raises(UserError, match=r"^unknown environment variable FLIGHT_DELAYS_LOCALDIR; known are .*$"):
            refuses()


def test_no_variable_of_this_projects_own_is_taken_for_misspelt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    ours = {*re.findall(r"\"(FLIGHT_DELAYS_[A-Z_]+)\"", code)}
    assert {"FLIGHT_DELAYS_USE_CASE", runtime.LOCAL_DIR} <= ours
    for name in ours:
        monkeypatch.setenv(name, str(tmp_path))
    assert runtime.local_dir() == tmp_path


def test_a_laptop_has_spark_connect_unless_it_is_asked_for_classic_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.local_spark() == "connect"
    monkeypatch.setenv(runtime.LOCAL_SPARK, "classic")
    assert runtime.local_spark() == "classic"
    monkeypatch.setenv(runtime.LOCAL_SPARK, "livy")
    with pytest.raises(UserError, match=r"^FLIGHT_DELAYS_LOCAL_SPARK is 'livy'; set it to connect or classic$"):
        runtime.local_spark()
