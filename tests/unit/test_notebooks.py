"""Notebooks without running them: they take what the bundle's tasks take, and hold no logic."""

import ast
import inspect
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tests.deployed import all_jobs

from bundle_laptop.bundle import load_bundle
from bundle_laptop.completed import with_kinds
from bundle_laptop.options import option_values
from bundle_laptop.plan import make_plan
from bundle_laptop.references import Resolver
from bundle_laptop.settings import read_settings
from flight_delays.views import look

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.py"))
NAMES = [file.stem for file in FILES]
HEADER = "# Databricks notebook source"
# Widgets that are no option of a task.
OF_NOTEBOOKS_ALONE = {"trial_days"}


@cache
def options() -> dict[str, str]:
    """What the bundle gives its tasks, on a laptop."""
    bundle, given = load_bundle(ROOT, "dev"), read_settings(ROOT).variables
    bundle = bundle.with_tree({**bundle.tree, "resources": {**bundle.map_at(("resources",)), "jobs": all_jobs()}})
    resolver = with_kinds(Resolver(bundle=bundle, folder=Path("/world"), variables={}, configured=given))
    return option_values(make_plan(resolver, resolver.bundle.map_at(("resources", "jobs"))))


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
    for call in calls(code_of(file), "dbutils.widgets.text"):
        name, default, label = (ast.literal_eval(argument) for argument in call.args)
        assert label
        assert name in OF_NOTEBOOKS_ALONE or default in {"", options()[name]}


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
