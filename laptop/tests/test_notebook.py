"""Notebooks of a bundle: how their cells are taken to Jupyter, and how they run; no Spark."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from bundle_laptop.dbutils import give, values_in
from bundle_laptop.errors import LaptopError
from bundle_laptop.notebook import HEADER, Ended, kernel_in, read_notebook, run_notebook, widgets_of
from bundle_laptop.world import entered, made

SEPARATOR = "\n\n# COMMAND ----------\n\n"
MARKDOWN, CODE = "markdown", "code"


def source(*cells: str) -> str:
    return f"{HEADER}\n{SEPARATOR.join(cells)}\n"


def read(file: Path, text: str) -> list[tuple[str, str]]:
    """Kind and source of each cell but the first."""
    file.write_text(text, encoding="utf-8")
    notebook = read_notebook(file)
    nbformat.validate(notebook)
    assert "import dbutils, display, spark, sql, table" in notebook.cells[0].source
    return [(cell.cell_type, cell.source) for cell in notebook.cells[1:]]


@pytest.mark.parametrize(
    ("cell", "kind", "code"),
    [
        ("# MAGIC %md\n# MAGIC # Title\n# MAGIC\n# MAGIC Words.", MARKDOWN, "# Title\n\nWords."),
        ("# MAGIC %md Words, on **one** line.", MARKDOWN, "Words, on **one** line."),
        ("# MAGIC %md\n# MAGIC - a\n# MAGIC   - b", MARKDOWN, "- a\n  - b"),
        ("# MAGIC %md-sandbox <b>x</b>", MARKDOWN, "<b>x</b>"),
        ("# MAGIC %load_ext autoreload\n# MAGIC %autoreload 2", CODE, "%load_ext autoreload\n%autoreload 2"),
        ("a = 1\n\n\nb = 2", CODE, "a = 1\n\n\nb = 2"),
        ("show(\n    a,\n)", CODE, "show(\n    a,\n)"),
        ("# MAGIC %pip install x\na = 1", CODE, "a = 1"),
        ("# MAGIC %python\n# MAGIC a = 1", CODE, "a = 1"),
        ("# DBTITLE 1,One\na = 1", CODE, "a = 1"),
        ("# DBTITLE 1,One\n# MAGIC %sql\n# MAGIC SELECT 1", CODE, "display(spark.sql('SELECT 1'))"),
        ("# MAGIC %sql SELECT 'a';", CODE, "display(spark.sql(\"SELECT 'a'\"))"),
        (
            "# MAGIC %sql\n# MAGIC SELECT 1 -- one\n# MAGIC FROM t",
            CODE,
            "display(spark.sql('SELECT 1 -- one\\nFROM t'))",
        ),
        ("# a comment\na = '# COMMAND ----------'", CODE, "# a comment\na = '# COMMAND ----------'"),
    ],
)
def test_a_cell_becomes_jupyters(tmp_path: Path, cell: str, kind: str, code: str) -> None:
    assert read(tmp_path / "a.py", source(cell)) == [(kind, code)]


def test_cells_keep_their_order_and_those_for_a_workspace_alone_or_empty_are_dropped(tmp_path: Path) -> None:
    cells = ["# MAGIC %md One", "# MAGIC %pip install --editable ..", "# MAGIC %restart_python", "two", "", "three"]
    assert read(tmp_path / "a.py", source(*cells)) == [(MARKDOWN, "One"), (CODE, "two"), (CODE, "three")]


def jupyter(*cells: tuple[str, str]) -> str:
    make = {MARKDOWN: nbformat.v4.new_markdown_cell, CODE: nbformat.v4.new_code_cell, "raw": nbformat.v4.new_raw_cell}
    return str(nbformat.writes(nbformat.v4.new_notebook(cells=[make[kind](text) for kind, text in cells])))


def test_jupyters_own_format_is_read_too(tmp_path: Path) -> None:
    given = [(MARKDOWN, "# Title"), (CODE, "%sql\nSELECT 1"), ("raw", "no code"), (CODE, "%pip install x"), (CODE, "a")]
    expected = [(MARKDOWN, "# Title"), (CODE, "display(spark.sql('SELECT 1'))"), (CODE, "a")]
    assert read(tmp_path / "a.ipynb", jupyter(*given)) == expected


@pytest.mark.parametrize("argument", ["./sub/b", "sub/b.py", '"sub/b"', "sub/c"])
def test_run_takes_the_cells_of_another_notebook(tmp_path: Path, argument: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.py").write_text(source("inner", "# MAGIC %run ./c"))
    (tmp_path / "sub/c.ipynb").write_text(jupyter((CODE, "innermost")))
    found = [code for _, code in read(tmp_path / "a.py", source("first", f"# MAGIC %run {argument}", "last"))]
    assert found == ["first", *(["inner"] if "/b" in argument else []), "innermost", "last"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.py", "", "a.py: no Databricks notebook: its first line must be '# Databricks notebook source'"),
        ("a.py", f"\n{HEADER}\n", "a.py: no Databricks notebook: its first line must be"),
        ("a.ipynb", "{", "a.ipynb: no Jupyter notebook: "),
        (
            "a.py",
            source("# MAGIC %scala\n# MAGIC x"),
            "a.py: a cell with %scala is not supported on a laptop; write it",
        ),
        ("a.py", source("# MAGIC %sh ls"), "a.py: a cell with %sh is not supported on a laptop; write it in Python"),
        ("a.py", source("# MAGIC %run ./b"), "a.py: %run ./b: there is no such notebook beside it"),
    ],
)
def test_what_a_laptop_cannot_run_is_refused(tmp_path: Path, name: str, text: str, line: str) -> None:
    with pytest.raises(LaptopError) as refused:
        read(tmp_path / name, text)
    assert str(refused.value).startswith(line)


def test_widgets_are_those_that_cells_declare_in_plain(tmp_path: Path) -> None:
    cells = (
        'dbutils.widgets.text("day", "1")\ndbutils.widgets.dropdown(name=\'size\', defaultValue="s", choices=[])',
        'dbutils.widgets.combobox( "a b", "")\ndbutils.widgets.get("got")',
        '# MAGIC %md dbutils.widgets.text("no", "")',
    )
    (tmp_path / "a.py").write_text(source(*cells))
    assert widgets_of(read_notebook(tmp_path / "a.py")) == ["day", "size", "a b"]


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a notebook of these cells, with these widgets, in a world; all in one kernel."""
    root = tmp_path_factory.mktemp("notebooks")
    with entered(made(root / "dev")), kernel_in(root) as kernel:

        def run(*cells: str, **parameters: str) -> Ended:
            (root / "a.py").write_text(source(*cells))
            give(root / "task", parameters, {"load": {"rows": 3}})
            return run_notebook(root / "a.py", root / "pages/a.html", root / "task", kernel)

        yield run


def printed(ended: Ended) -> str:
    cells = nbformat.read(ended.page.with_suffix(".ipynb"), as_version=4).cells
    return "".join(output.get("text", "") for cell in cells if cell.cell_type == CODE for output in cell.outputs)


def test_what_a_notebook_shows_is_kept_as_a_page_and_beside_it_as_a_notebook(run: Run) -> None:
    ended = run(
        "# MAGIC %md # Title", "import pandas as pd\ndisplay(pd.DataFrame({'word': ['tiny']}))", "print('said')"
    )
    assert (ended.failure, ended.result, printed(ended)) == (None, "", "said\n")
    page = ended.page.read_text(encoding="utf-8")
    assert all(shown in page for shown in ("Title", "<td>tiny</td>", "said"))
    assert 'src="http' not in page  # nothing is fetched


def test_a_page_shows_a_text_whole_and_no_warning_that_it_has_no_widgets(run: Run) -> None:
    text = "a text longer than pandas shows by itself, which are 50 characters"
    ended = run(
        "import sys\nsys.modules['ipywidgets'] = None\nfrom tqdm.auto import tqdm",
        f"import pandas as pd\ndisplay(pd.DataFrame({{'text': ['{text}']}}))",
    )
    assert printed(ended) == ""
    assert f"<td>{text}</td>" in ended.page.read_text(encoding="utf-8")


def test_a_notebook_has_its_parameters_as_widgets_and_values_of_other_tasks(run: Run) -> None:
    ended = run(
        "from databricks.sdk.runtime import dbutils as imported",
        "dbutils.widgets.text('day', 'sunday')\ndbutils.widgets.text('size', 'small')",
        "print(dbutils.widgets.get('day'), dbutils.widgets.get('size'), imported.widgets.get('day'))",
        "dbutils.jobs.taskValues.set('rows', 1 + dbutils.jobs.taskValues.get('load', 'rows'))",
        day="monday",
    )
    assert (ended.failure, printed(ended)) == (None, "monday small monday\n")
    assert values_in(ended.page.parents[1] / "task") == {"rows": 4}


@pytest.mark.parametrize(("given", "result"), [("'a\\nb'", "a\nb"), ("", "")])
def test_exit_ends_a_notebook_with_its_result(run: Run, given: str, result: str) -> None:
    ended = run(f"dbutils.notebook.exit({given})", "print('after')")
    assert (ended.failure, ended.result, printed(ended)) == (None, result, "")


def test_a_notebook_that_fails_says_why_in_one_line_and_keeps_what_it_showed(run: Run) -> None:
    ended = run("print('so far')", "raise ValueError('one\\ntwo')", "print('after')")
    assert ended.failure == "ValueError: one"
    assert printed(ended) == "so far\n"
    assert "so far" in ended.page.read_text(encoding="utf-8")


def test_a_notebook_starts_from_nothing_though_it_shares_its_python(run: Run) -> None:
    run("left = 1")
    assert run("print(left)").failure == "NameError: name 'left' is not defined"


def test_a_notebook_whose_python_ends_has_failed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source("print('so far')", "import os\nos._exit(7)"))
    give(tmp_path / "task", {}, {})
    with entered(tmp_path), kernel_in(tmp_path) as kernel:
        ended = run_notebook(tmp_path / "a.py", tmp_path / "a.html", tmp_path / "task", kernel)
    assert ended.failure == "its Python ended"
    assert "so far" in ended.page.read_text(encoding="utf-8")


def test_a_kernel_works_in_the_folder_of_its_notebook_and_ends_with_the_context(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source("import json, os, pathlib", "print(json.dumps([os.getcwd(), os.getpid()]))"))
    with kernel_in(tmp_path) as kernel:
        ended = run_notebook(tmp_path / "a.py", tmp_path / "a.html", tmp_path / "task", kernel)
        folder, process = json.loads(printed(ended))
        assert folder == str(tmp_path)
    assert not Path(f"/proc/{process}").exists()
