"""What tasks and notebooks find in a workspace's runtime: dbutils, display and spark.

Stated differences: of `dbutils` there are widgets, task values, notebook.exit, and what databricks-sdk itself does over
the workspace's API (secrets, and fs on volumes); `display` shows the first 1,000 rows of a Spark DataFrame.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from bundle_laptop.yaml_file import Json

if TYPE_CHECKING:
    from databricks.sdk.dbutils import RemoteDbUtils
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
    file = folder / _SET
    values: dict[str, Json] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return values


class NotebookExit(Exception):  # noqa: N818  # no error
    """Ends a notebook; its text is the notebook's result."""


class Widgets:
    """dbutils.widgets: the task's parameters, or else what the notebook declares."""

    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str = "", label: str = "") -> None:  # noqa: ARG002, N803
        """Declare a widget."""
        self._defaults[name] = defaultValue

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str] = (), label: str = "") -> None:  # noqa: ARG002, N803
        """Declare a widget."""
        self._defaults[name] = defaultValue

    combobox = multiselect = dropdown

    def get(self, name: str) -> str:
        """The widget's value. Raises ValueError for one that is neither given nor declared."""
        found = self.getAll()
        if name not in found:
            raise ValueError(f"widget {name} is not declared; add dbutils.widgets.text({name!r}, ...)")
        return found[name]

    def getAll(self) -> dict[str, str]:  # noqa: N802
        """All values by name."""
        return {**self._defaults, **cast(dict[str, str], _given()["parameters"])}

    def remove(self, name: str) -> None:
        """Forget a declaration."""
        self._defaults.pop(name, None)

    def removeAll(self) -> None:  # noqa: N802
        """Forget all declarations."""
        self._defaults.clear()


class TaskValues:
    """dbutils.jobs.taskValues. Outside of a job, as in a workspace: `set` does nothing, `get` gives `debugValue`."""

    def set(self, key: str, value: Json) -> None:
        """Make `value` known to later tasks as {{tasks.<this task>.values.<key>}}."""
        if TASK in os.environ:
            file = Path(os.environ[TASK]) / _SET
            file.write_text(json.dumps({**values_in(file.parent), key: value}), encoding="utf-8")

    def get(self, taskKey: str, key: str, default: Json = None, debugValue: Json = None) -> Json:  # noqa: N803
        """What an earlier task has set. Raises ValueError if there is nothing, and no default."""
        values = cast(dict[str, dict[str, Json]], _given()["values"]) if TASK in os.environ else {taskKey: {}}
        fallback = default if TASK in os.environ else debugValue
        if fallback is None and key not in values.get(taskKey, {}):
            raise ValueError(f"task {taskKey} has set no value {key}, and there is no default")
        return values.get(taskKey, {}).get(key, fallback)


class Notebook:
    """dbutils.notebook."""

    def exit(self, value: str = "") -> None:
        """End the notebook with a result."""
        raise NotebookExit(value)


class DbUtils:
    """dbutils."""

    def __init__(self) -> None:
        self.widgets, self.notebook, self.jobs = Widgets(), Notebook(), SimpleNamespace(taskValues=TaskValues())

    @cached_property
    def _sdk(self) -> "RemoteDbUtils":
        from databricks.sdk.dbutils import RemoteDbUtils

        return RemoteDbUtils()

    def __getattr__(self, name: str) -> object:
        if name in ("fs", "secrets"):
            return getattr(self._sdk, name)
        raise AttributeError(f"dbutils.{name} is not supported on a laptop")


class _Spark:
    """The session, started by whatever is first asked of it."""

    def __getattr__(self, name: str) -> object:
        return getattr(_session(), name)


def namespace() -> dict[str, object]:
    """What a notebook finds in its namespace."""
    spark = _Spark()
    return {
        "dbutils": DbUtils(),
        "display": display,
        "spark": spark,
        "sql": lambda query: _session().sql(query),
        "table": lambda name: _session().table(name),
    }


def display(shown: object) -> None:
    """Show a table or a picture; of a Spark DataFrame the first rows."""
    from IPython.display import display as display_in_cell

    limited = getattr(shown, "limit", None)  # Spark's, classic or Connect, has both
    display_in_cell(limited(_MAX_ROWS).toPandas() if limited and hasattr(shown, "toPandas") else shown)


def _session() -> "SparkSession":
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()


def _given() -> Mapping[str, Json]:
    if TASK not in os.environ:
        return {"parameters": {}, "values": {}}
    given: dict[str, Json] = json.loads((Path(os.environ[TASK]) / _GIVEN).read_text(encoding="utf-8"))
    return given
