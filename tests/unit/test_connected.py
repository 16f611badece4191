"""A laptop with Databricks Connect has a workspace's Spark; and where task values go."""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.contexts import have_databricks_connect

from bundle_laptop.dbutils import TASK, give, values_in
from bundle_laptop.world import entered, environment_of
from flight_delays.core.errors import UserError
from flight_delays.platform.context import TaskValues
from flight_delays.platform.session import is_connected, spark_session

ROOT = Path(__file__).parents[2]
# What of Databricks Connect is used, taking notes.
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

pytestmark = pytest.mark.usefixtures("laptop_workspace")  # signed in


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a process with Databricks Connect."""
    have_databricks_connect(monkeypatch, tmp_path, DATABRICKS_CONNECT)
    monkeypatch.chdir(tmp_path)
    yield monkeypatch
    sys.modules.pop("databricks.connect", None)


def test_databricks_connect_makes_a_laptop_one_of_a_workspace(connected: pytest.MonkeyPatch) -> None:
    assert is_connected()
    connected.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")  # which has it too
    assert not is_connected()


def test_without_databricks_connect_a_process_has_the_spark_that_it_finds() -> None:
    assert not is_connected()


@pytest.mark.parametrize(
    ("named", "cluster", "serverless"), [(None, None, "auto"), ("0101-cluster", "0101-cluster", None)]
)
def test_a_session_is_on_the_cluster_that_is_named_or_else_serverless(
    connected: pytest.MonkeyPatch, named: str | None, cluster: str | None, serverless: str | None
) -> None:
    if named:
        connected.setenv("DATABRICKS_CLUSTER_ID", named)
    session = spark_session()
    assert (session.config.cluster_id, session.config.serverless_compute_id) == (cluster, serverless)
    assert session.settings == {"spark.sql.session.timeZone": "UTC"}


@pytest.mark.usefixtures("connected")
def test_workers_get_the_wheels_libraries_and_the_code_as_it_is_now() -> None:
    assert spark_session().libraries == requires("flight-delays")
    first, again = spark_session().code
    assert first == again
    with ZipFile(first) as archive:
        scorer = archive.read("flight_delays/platform/scorer.py")
        assert {name.partition("/")[0] for name in archive.namelist()} == {"flight_delays"}
        assert {file.date_time for file in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # the same at any time
    assert scorer == (ROOT / "src/flight_delays/platform/scorer.py").read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("DATABRICKS_CLUSTER_ID", "old", "Unsupported combination: 15.4 < 17.3; "),
        ("DATABRICKS_TOKEN", "", "default auth: cannot configure default credentials"),
    ],
)
def test_what_keeps_a_laptop_from_a_session_is_one_line(
    connected: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    connected.setenv(name, value)
    with pytest.raises(UserError) as error:
        spark_session()
    assert str(error.value).startswith(f"no session on a workspace's compute: {why}")
    assert "; sign in with `databricks auth login`" in str(error.value)
    assert "\n" not in str(error.value)


def test_databricks_connect_is_declared_to_conflict_with_the_laptop_which_has_a_spark_of_its_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {
        name: {
            group
            for group, entries in project["dependency-groups"].items()
            if any(isinstance(entry, str) and entry.startswith(name) for entry in entries)
        }
        for name in ("bundle-laptop", "databricks-connect", "pyspark")
    }
    assert groups == {"bundle-laptop": {"dev"}, "databricks-connect": {"workspace"}, "pyspark": set()}
    assert {"dev", "workspace"} in [{entry["group"] for entry in pair} for pair in project["tool"]["uv"]["conflicts"]]


def test_task_values_go_to_the_job_that_runs_this_process_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    give(tmp_path / "task", {}, {})
    with entered(tmp_path), environment_of({TASK: str(tmp_path / "task")}):
        for key, value in (("verdict", "FAIL"), ("model_version", "3"), ("verdict", "PASS")):
            TaskValues().set(key, value)
    assert values_in(tmp_path / "task") == {"verdict": "PASS", "model_version": "3"}


def test_who_runs_a_task_without_a_job_sets_a_value_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "databricks.sdk.runtime", raising=False)
    TaskValues().set("verdict", "PASS")
