"""What tasks and notebooks find in a workspace's runtime: dbutils, display and spark.

Stated differences: of `dbutils` there are widgets, task values, notebook.exit, and what databricks-sdk itself does over
the workspace's API (secrets, and fs on volumes); `display` shows the first 1,000 rows of a Spark DataFrame.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from bundle_laptop.yaml_file import Json

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TASK = "LAPTOP_TASK"
"""Names the folder by which a run and its task tell each other parameters and values."""

_GIVEN, _SET = "given.json", "set.json"
_MAX_ROWS = 1_000


def give(folder: Path, parameters: Mapping[str, str], values: Mapping[str, Mapping[str, Json]]) -> None:
    """Tell a task, whose environment will name `folder`, its parameters and the values that other tasks have set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SET).unlink(missing_ok=True)
    given = {"parameters": dict(parameters), "values": {task: dict(its) for task, its in values.items()}}
    (folder / _GIVEN).write_text(json.dumps(given), encoding="utf-8")


def values_in(folder: Path) -> dict[str, Json]:
    """The values that the task has set."""
    return _read(folder / _SET)


def _given(what: str) -> dict[str, dict[str, Json]]:
    found = _read(Path(os.environ[TASK]) / _GIVEN) if TASK in os.environ else {}
    return found.get(what, {})  # type: ignore[return-value]  # as `give` writes it


def _read(file: Path) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


class NotebookExit(Exception):  # noqa: N818  # no error
    """Ends a notebook; its text is the notebook's result."""


class _Widgets:
    """The task's parameters, or else what the notebook declares."""

    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str = "", label: str = "") -> None:  # noqa: ARG002, N803
        self._defaults[name] = defaultValue

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str] = (), label: str = "") -> None:  # noqa: ARG002, N803
        self._defaults[name] = defaultValue

    combobox = multiselect = dropdown

    def get(self, name: str) -> str:
        found = self.getAll()
        if name not in found:
            raise ValueError(f"widget {name} is not declared; add dbutils.widgets.text({name!r}, ...)")
        return found[name]

    def getAll(self) -> dict[str, str]:  # noqa: N802
        return {**self._defaults, **{name: str(value) for name, value in _given("parameters").items()}}

    def remove(self, name: str) -> None:
        self._defaults.pop(name, None)

    def removeAll(self) -> None:  # noqa: N802
        self._defaults.clear()


class _TaskValues:
    """Outside of a job, as in a workspace: `set` does nothing, `get` gives `debugValue`."""

    def set(self, key: str, value: Json) -> None:
        if TASK in os.environ:
            file = Path(os.environ[TASK]) / _SET
            file.write_text(json.dumps({**_read(file), key: value}), encoding="utf-8")

    def get(self, taskKey: str, key: str, default: Json = None, debugValue: Json = None) -> Json:  # noqa: N803
        values, fallback = _given("values").get(taskKey, {}), default if TASK in os.environ else debugValue
        if fallback is None and key not in values:
            raise ValueError(f"task {taskKey} has set no value {key}, and there is no default")
        return values.get(key, fallback)


class _DbUtils:
    def __init__(self) -> None:
        self.widgets = _Widgets()
        self.notebook = SimpleNamespace(exit=_exit)
        self.jobs = SimpleNamespace(taskValues=_TaskValues())

    def __getattr__(self, name: str) -> object:
        if name not in ("fs", "secrets"):
            raise AttributeError(f"dbutils.{name} is not supported on a laptop")
        from databricks.sdk.dbutils import RemoteDbUtils

        return getattr(RemoteDbUtils(), name)


class _Spark:
    """The session, started by whatever is first asked of it."""

    def __getattr__(self, name: str) -> object:
        return getattr(_session(), name)


def namespace() -> dict[str, object]:
    """What a notebook finds in its namespace."""
    return {
        "dbutils": _DbUtils(),
        "display": display,
        "spark": _Spark(),
        "sql": lambda query: _session().sql(query),
        "table": lambda name: _session().table(name),
    }


def display(shown: object) -> None:
    """Show a table or a picture; of a Spark DataFrame the first rows."""
    import pandas as pd
    from IPython.display import display as display_in_cell

    limited = getattr(shown, "limit", None)  # Spark's, classic or Connect, has both
    with pd.option_context("display.max_colwidth", None):  # a workspace shows a text whole
        display_in_cell(limited(_MAX_ROWS).toPandas() if limited and hasattr(shown, "toPandas") else shown)


def _exit(value: str = "") -> NoReturn:
    raise NotebookExit(value)


def _session() -> "SparkSession":
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()
