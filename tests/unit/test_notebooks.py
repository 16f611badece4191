"""Notebooks without running them: how they are taken to Jupyter, and that they hold no logic."""

import ast
import inspect
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from flight_delays.core.errors import UserError
from flight_delays.local.bundle import load_bundle
from flight_delays.local.cli import app
from flight_delays.local.notebook import HEADER, Widgets, to_ipynb
from flight_delays.local.plan import Plan, make_plan
from flight_delays.local.references import Resolver
from flight_delays.local.target import local_calls, option_values
from flight_delays.views import look

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.py"))
NAMES = [file.stem for file in FILES]
SEPARATOR = "\n\n# COMMAND ----------\n\n"
MARKDOWN, CODE = "markdown", "code"
# Widgets that are no option of a task.
OF_NOTEBOOKS_ALONE = {"trial_days"}


def converted(*cells: str) -> list[tuple[str, str]]:
    """Kind and source of each cell but the first."""
    _, *others = to_ipynb(f"{HEADER}\n{SEPARATOR.join(cells)}\n", {}, {}).cells
    return [(cell.cell_type, cell.source) for cell in others]


@pytest.mark.parametrize(
    ("cell", "kind", "source"),
    [
        ("# MAGIC %md\n# MAGIC # Title\n# MAGIC\n# MAGIC Words.", MARKDOWN, "# Title\n\nWords."),
        ("# MAGIC %md Words, on **one** line.", MARKDOWN, "Words, on **one** line."),
        ("# MAGIC %md\n# MAGIC - a\n# MAGIC   - b", MARKDOWN, "- a\n  - b"),
        ("# MAGIC %load_ext autoreload\n# MAGIC %autoreload 2", CODE, "%load_ext autoreload\n%autoreload 2"),
        ("a = 1\n\n\nb = 2", CODE, "a = 1\n\n\nb = 2"),
        ("show(\n    a,\n)", CODE, "show(\n    a,\n)"),
        ("# MAGIC %pip install x\na = 1", CODE, "a = 1"),
        ("# a comment\na = '# COMMAND ----------'", CODE, "# a comment\na = '# COMMAND ----------'"),
    ],
)
def test_a_cell_becomes_jupyters(cell: str, kind: str, source: str) -> None:
    assert converted(cell) == [(kind, source)]


def test_cells_keep_their_order_and_those_for_a_workspace_alone_or_empty_are_dropped() -> None:
    cells = ["# MAGIC %md One", "# MAGIC %pip install --editable ..", "# MAGIC %restart_python", "two", "", "three"]
    assert converted(*cells) == [(MARKDOWN, "One"), (CODE, "two"), (CODE, "three")]


def test_the_first_cell_makes_what_a_workspace_provides() -> None:
    widgets = {"schema": "c.s", "note": 'it\'s "quoted"\n'}
    environment = {"FLIGHT_DELAYS_LOCAL_DIR": "/local dir"}
    notebook = to_ipynb(f"{HEADER}\ndisplay(1)", environment, widgets)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    magic, code = notebook.cells[0].source.split("\n", 1)
    assert magic == "%matplotlib inline"
    imported, assigned = ast.parse(code).body
    assert ast.unparse(imported) == "from flight_delays.local.notebook import workspace"
    assert isinstance(assigned, ast.Assign)
    assert ast.unparse(assigned.targets[0]) == "(dbutils, display, spark)"
    assert isinstance(assigned.value, ast.Call)
    assert [ast.literal_eval(argument) for argument in assigned.value.args] == [environment, widgets]


@pytest.mark.parametrize("source", ["", "import pandas\n", f"\n{HEADER}\n", '{"cells": []}'])
def test_what_is_no_databricks_notebook_is_refused(source: str) -> None:
    with pytest.raises(UserError) as refused:
        to_ipynb(source, {}, {})
    assert str(refused.value) == "no Databricks notebook: its first line must be '# Databricks notebook source'"


def test_a_widget_has_the_value_given_or_else_its_default() -> None:
    widgets = Widgets({"schema": "c.s", "empty": ""}, {})
    widgets.text("schema", "", "Schema")
    widgets.text("days", "28")
    widgets.text("empty", "default")
    assert [widgets.get(name) for name in ("schema", "days", "empty")] == ["c.s", "28", ""]


def test_a_widget_has_to_be_declared_as_in_a_workspace() -> None:
    widgets = Widgets({"schema": "c.s"}, {})
    with pytest.raises(UserError) as refused:
        widgets.get("schema")
    assert str(refused.value) == "widget schema is not declared; add dbutils.widgets.text('schema', ...)"


def planned(**variables: str) -> Plan:
    bundle = load_bundle(ROOT, "dev")
    return make_plan(bundle, Resolver(bundle, Path("/local"), variables), bundle.map_at(("resources", "jobs")))


def options(plan: Plan) -> set[str]:
    """Every option that the bundle gives to a task, whether or not its value is known before a run."""
    return {
        parameter.removeprefix("--").partition("=")[0].replace("-", "_")
        for job in plan.jobs.values()
        for task in job.tasks.values()
        if task.python_wheel_task
        for parameter in task.python_wheel_task.parameters
        if parameter.startswith("--")
    }


def test_the_bundle_gives_widgets_their_values_except_those_that_only_a_run_knows() -> None:
    plan = planned()
    values = option_values(local_calls(plan))
    expected = {
        "schema": "spark_catalog.dev_local_flights",
        "raw_schema": "spark_catalog.dev_local_flights",
        "model_name": "spark_catalog.dev_local_flights.dev_local_delay",
        "as_of": "2014-01-02T00:00:00Z",
        "online_store": "true",
    }
    assert {name: values[name] for name in expected} == expected
    assert {"model_version", "verdict_id"} <= options(plan) - set(values)


def test_a_value_that_is_a_runs_start_is_now() -> None:
    before = datetime.now(tz=UTC).replace(microsecond=0)
    as_of = option_values(local_calls(planned(as_of="{{job.trigger.time.iso_datetime}}")))["as_of"]
    assert before <= datetime.fromisoformat(as_of) <= datetime.now(tz=UTC)


def refused(*arguments: str, root: Path = ROOT) -> str:
    result = CliRunner().invoke(app, ["notebook", *arguments, "--root", str(root)])
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_with_a_workspaces_spark_the_databricks_cli_is_asked_for_the_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("features").startswith("the names in a workspace take the Databricks CLI")
    cli = tmp_path / "databricks"
    cli.write_text(f"#!{sys.executable}\nimport sys\nsys.exit(f'Error: {{sys.argv[1:]}}')")
    cli.chmod(0o755)
    asked = ["bundle", "validate", "--target", "dev", "--output", "json", "--var=schema=mine"]
    assert refused("features", "--var=schema=mine") == f"databricks bundle validate --target dev: {asked}"


def test_an_unknown_notebook_is_one_line_with_those_there_are() -> None:
    assert refused("features", "nosuch") == f"notebooks/nosuch.py does not exist; there are {', '.join(NAMES)}"
    assert refused("features", "--widget", "days") == "--widget days: must be name=value"


@pytest.mark.parametrize("arguments", [[], ["nosuch"]])
def test_a_project_without_notebooks_says_so(tmp_path: Path, arguments: list[str]) -> None:
    assert refused(*arguments, root=tmp_path) == "notebooks/*.py: there is no notebook"


def test_there_is_a_notebook_per_step_and_nothing_else_is_kept_with_them() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "notebooks"], capture_output=True, text=True, check=True
    )
    assert {"data_overview", "features", "training", "verdict", "predictions", "exploration"} <= set(NAMES)
    # An .ipynb would bring its output along.
    assert {Path(file).suffix for file in listed.stdout.split()} <= {".py", ".toml"}


def cells_of(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0] == HEADER
    return [cell.strip("\n") for cell in text.removeprefix(HEADER).split("# COMMAND ----------")]


def code_of(file: Path) -> ast.Module:
    return ast.parse("\n".join(cell for cell in cells_of(file) if not cell.startswith("# MAGIC")))


notebooks = pytest.mark.parametrize("file", FILES, ids=NAMES)


@notebooks
def test_a_notebook_says_what_it_is_for_then_takes_the_package_as_it_stands(file: Path) -> None:
    cells = cells_of(file)
    assert re.match(r"# MAGIC %md\n# MAGIC # \w", cells[0])
    assert cells[1:4] == [
        "# MAGIC %pip install --quiet --editable ..",
        "# MAGIC %restart_python",
        "# MAGIC %load_ext autoreload\n# MAGIC %autoreload 2",
    ]
    assert all(cell.startswith("# MAGIC %md ") for cell in cells[4:] if "# MAGIC" in cell)


@notebooks
def test_no_cell_is_empty(file: Path) -> None:
    assert len(cells_of(file)) > 6
    assert all(re.sub(r"# MAGIC|%md", "", cell).strip() for cell in cells_of(file))


def calls(code: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a function by its name, in the order of the text."""
    found = [node for node in ast.walk(code) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def first_argument(call: ast.Call) -> str:
    return str(ast.literal_eval(call.args[0]))


@notebooks
def test_widgets_are_declared_before_they_are_used_and_each_is_used(file: Path) -> None:
    code = code_of(file)
    declared = calls(code, "dbutils.widgets.text")
    used = calls(code, "dbutils.widgets.get")
    assert {first_argument(call) for call in declared} == {first_argument(call) for call in used} != set()
    assert max(call.lineno for call in declared) < min(call.lineno for call in used)
    # Nothing else of dbutils: no secrets, no files, no other notebook.
    assert {
        ast.unparse(node)
        for node in ast.walk(code)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "dbutils"
    } == {"dbutils.widgets"}


@notebooks
def test_a_widget_is_an_option_of_the_bundles_tasks_with_no_other_default(file: Path) -> None:
    plan = planned()
    values = option_values(local_calls(plan))
    for call in calls(code_of(file), "dbutils.widgets.text"):
        name, default, label = (ast.literal_eval(argument) for argument in call.args)
        assert name in options(plan) | OF_NOTEBOOKS_ALONE
        assert label
        assert default in {"", values.get(name)} or name in OF_NOTEBOOKS_ALONE


STATEMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
LOGIC = (ast.Lambda, ast.IfExp, ast.BoolOp, ast.BinOp, ast.Compare, ast.NamedExpr, ast.comprehension, ast.Await)


def logic_in(code: ast.Module) -> list[str]:
    """What a notebook shall leave to the package: everything but imports, calls and names for what they return."""
    statements = [node for node in code.body if not isinstance(node, STATEMENTS)]
    return [
        ast.unparse(node) for node in [*statements, *ast.walk(code)] if node in statements or isinstance(node, LOGIC)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "def f(): pass",
        "class C: pass",
        "for x in y: pass",
        "while x: pass",
        "if x: y()",
        "try: x()\nexcept E: pass",
        "with x: pass",
        "x += 1",
        "f = lambda: 1",
        "x = [y for y in z]",
        "show({y: 1 for y in z})",
        "show(y for y in z)",
        "x = y if z else w",
        "x = y or z",
        "x = y + 1",
        "x = df[df.y > 1]",
    ],
)
def test_logic_is_noticed(code: str) -> None:
    assert logic_in(ast.parse(code))


@notebooks
def test_a_notebook_holds_no_logic(file: Path) -> None:
    assert logic_in(code_of(file)) == []


@notebooks
def test_a_notebook_makes_one_look_with_what_it_takes_and_shows_it(file: Path) -> None:
    code = code_of(file)
    looks = [
        node for node in ast.walk(code) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("look.")
    ]
    assert len(looks) == (file.stem != "exploration")
    for call in looks:
        function = getattr(look, ast.unparse(call.func).removeprefix("look."))
        keywords = {str(keyword.arg): keyword.value for keyword in call.keywords}
        inspect.signature(function).bind(*call.args, **keywords)
    assert calls(code, "display")
