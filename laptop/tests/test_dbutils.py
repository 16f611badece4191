"""What a task finds by `from databricks.sdk.runtime import dbutils`, as in a workspace."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle_laptop.api import environment, serve_workspace
from bundle_laptop.dbutils import TASK, NotebookExit, give, values_in
from bundle_laptop.world import entered, environment_of, made


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Any]:
    """The module, in a world and outside of a job."""
    with entered(made(tmp_path / "dev")), environment_of({TASK: None}):
        yield importlib.import_module("databricks.sdk.runtime")


@pytest.fixture
def task(tmp_path: Path, runtime: Any) -> Iterator[Path]:  # noqa: ARG001
    """The folder by which a task is told `day`, and that the task `load` has set `rows` and nothing else."""
    folder = tmp_path / "dev/task"
    give(folder, {"day": "monday", "empty": ""}, {"load": {"rows": 3, "none": None}})
    with environment_of({TASK: str(folder)}):
        yield folder


def test_values_that_a_task_sets_are_kept_and_the_last_of_a_key_counts(runtime: Any, task: Path) -> None:
    values = runtime.dbutils.jobs.taskValues
    assert values_in(task) == {}
    for key, value in (("verdict", "FAIL"), ("rows", [1, {"a": None}]), ("verdict", "PASS")):
        values.set(key=key, value=value)
    assert values_in(task) == {"verdict": "PASS", "rows": [1, {"a": None}]}
    with pytest.raises(TypeError):
        values.set(key="x", value=object())
    assert "x" not in values_in(task)
    give(task, {}, {})
    assert values_in(task) == {}


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ({"key": "rows"}, 3),
        ({"key": "rows", "default": 7, "debugValue": 8}, 3),
        ({"key": "none"}, None),
        ({"key": "other", "default": 7, "debugValue": 8}, 7),
        ({"key": "other", "default": ""}, ""),
    ],
)
@pytest.mark.usefixtures("task")
def test_a_value_is_what_the_other_task_has_set_or_the_default(runtime: Any, asked: Any, value: object) -> None:
    assert runtime.dbutils.jobs.taskValues.get(taskKey="load", **asked) == value


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize(("other", "key"), [("load", "other"), ("nope", "rows")])
def test_a_value_that_nobody_has_set_is_an_error(runtime: Any, other: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"^task {other} has set no value {key}, and there is no default$"):
        runtime.dbutils.jobs.taskValues.get(other, key, debugValue=1)


def test_outside_of_a_job_setting_does_nothing_and_what_is_got_is_the_debug_value(runtime: Any) -> None:
    values = runtime.dbutils.jobs.taskValues
    values.set("rows", 1)
    assert values.get("load", "rows", default=7, debugValue=8) == 8
    with pytest.raises(ValueError):
        values.get("load", "rows", default=7)


def test_a_widget_has_the_value_given_or_else_the_declared_one(runtime: Any, task: Path) -> None:  # noqa: ARG001
    widgets = runtime.dbutils.widgets
    assert widgets.get("day") == "monday"
    widgets.text("day", "sunday", "Day")
    widgets.text("rows", "28")
    widgets.text("empty", "declared")
    widgets.dropdown("size", "small", ["small", "large"])
    widgets.multiselect(name="sizes", defaultValue="s", choices=["s", "l"], label="Sizes")
    assert widgets.getAll() == {"day": "monday", "empty": "", "rows": "28", "size": "small", "sizes": "s"}
    widgets.remove("rows")
    widgets.removeAll()
    assert widgets.getAll() == {"day": "monday", "empty": ""}


def test_a_widget_has_to_be_given_or_declared(runtime: Any) -> None:
    with pytest.raises(ValueError) as refused:
        runtime.dbutils.widgets.get("day")
    assert str(refused.value) == "widget day is not declared; add dbutils.widgets.text('day', ...)"


def test_exit_ends_the_notebook_with_its_text(runtime: Any) -> None:
    with pytest.raises(NotebookExit, match=r"^done$"):
        runtime.dbutils.notebook.exit("done")


def test_files_and_secrets_are_the_workspaces(tmp_path: Path, runtime: Any) -> None:
    with serve_workspace(tmp_path / "dev") as address, environment_of(environment(address)):
        dbutils = runtime.dbutils
        dbutils.fs.put("/Volumes/main/words/files/a.txt", "said", overwrite=True)
        assert (tmp_path / "dev/volumes/main/words/files/a.txt").read_text() == "said"
        assert [file.name for file in dbutils.fs.ls("/Volumes/main/words/files")] == ["a.txt"]
        assert dbutils.secrets.listScopes() == []


@pytest.mark.parametrize("name", ["library", "data", "credentials"])
def test_what_a_laptop_lacks_is_said_to_be_so(runtime: Any, name: str) -> None:
    with pytest.raises(AttributeError, match=f"^dbutils.{name} is not supported on a laptop$"):
        getattr(runtime.dbutils, name)


def test_spark_display_sql_and_table_are_there_and_none_of_them_starts_spark(runtime: Any) -> None:
    assert all(callable(getattr(runtime, name)) for name in ("display", "sql", "table"))
    assert runtime.spark is not None
