"""Where a task runs, and where it leaves its values."""

import io
import json
from pathlib import Path

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

WORKSPACE = "DATABRICKS_RUNTIME_VERSION"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (WORKSPACE, runtime.LOCAL_DIR, runtime.LOCAL_SPARK, runtime.TASK_VALUES):
        monkeypatch.delenv(name, raising=False)


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


def test_a_laptop_has_spark_connect_unless_it_is_asked_for_classic_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.local_spark() == "connect"
    monkeypatch.setenv(runtime.LOCAL_SPARK, "classic")
    assert runtime.local_spark() == "classic"
    monkeypatch.setenv(runtime.LOCAL_SPARK, "livy")
    with pytest.raises(UserError, match=r"^FLIGHT_DELAYS_LOCAL_SPARK is 'livy'; set it to connect or classic$"):
        runtime.local_spark()
