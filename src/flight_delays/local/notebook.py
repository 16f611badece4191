"""Notebooks in Databricks' source format, on a laptop: run from top to bottom, kept as .ipynb and as a page to look at.

Stated differences from a workspace:
- `%pip` and `%restart_python` do nothing: the package is installed, and from this checkout;
- `dbutils` has widgets only; one named like an option of the bundle's tasks (`schema`, `as_of`, ...) has its value;
- `display` shows the first 1,000 rows of a Spark DataFrame.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from IPython.display import display as display_in_cell
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from pyspark.sql import DataFrame, SparkSession

from flight_delays.core.errors import UserError
from flight_delays.local.wheel import environment_of

HEADER = "# Databricks notebook source"
_SEPARATOR = re.compile(r"^# COMMAND -+$", re.MULTILINE)
_WORKSPACE_ONLY = ("%pip", "%restart_python")
_MAX_ROWS = 1_000


@dataclass(frozen=True)
class Widgets:
    """Databricks' `dbutils.widgets`: the values given, or the notebook's own defaults."""

    given: Mapping[str, str]
    defaults: dict[str, str]

    def text(self, name: str, default: str, label: str = "") -> None:  # noqa: ARG002
        """Declare a widget."""
        self.defaults[name] = default

    def get(self, name: str) -> str:
        """The widget's value. Raises UserError for one that was not declared."""
        if name not in self.defaults:
            raise UserError(f"widget {name} is not declared; add dbutils.widgets.text({name!r}, ...)")
        return self.given.get(name, self.defaults[name])


@dataclass(frozen=True)
class Utilities:
    """What notebooks here use of Databricks' `dbutils`."""

    widgets: Widgets


def workspace(
    environment: Mapping[str, str], widgets: Mapping[str, str]
) -> tuple[Utilities, Callable[[object], None], SparkSession]:
    """`dbutils`, `display` and `spark`, which a workspace gives every notebook. Called by its first cell."""
    from flight_delays.platform.session import spark_session

    os.environ.update(environment)
    return Utilities(Widgets(widgets, {})), display, spark_session()


def display(shown: object) -> None:
    """Show a table or a picture; of a Spark DataFrame the first rows."""
    display_in_cell(shown.limit(_MAX_ROWS).toPandas() if isinstance(shown, DataFrame) else shown)


def to_ipynb(source: str, environment: Mapping[str, str], widgets: Mapping[str, str]) -> nbformat.NotebookNode:
    """A Databricks source notebook as Jupyter's, its first cell in place of what a workspace provides.

    Raises UserError for what is no such notebook.
    """
    if not source.startswith(HEADER):
        raise UserError(f"no Databricks notebook: its first line must be {HEADER!r}")
    new = nbformat.v4
    first = (
        "%matplotlib inline\n"
        "from flight_delays.local.notebook import workspace\n\n"
        f"dbutils, display, spark = workspace({dict(environment)!r}, {dict(widgets)!r})"
    )
    cells = [new.new_code_cell(first)]
    for text in _SEPARATOR.split(source.removeprefix(HEADER)):
        lines = [re.sub(r"^# MAGIC ?", "", line) for line in text.strip().splitlines()]
        cell = "\n".join(line for line in lines if not line.startswith(_WORKSPACE_ONLY)).strip()
        if cell.startswith("%md"):
            cells.append(new.new_markdown_cell(cell.removeprefix("%md").strip()))
        elif cell:
            cells.append(new.new_code_cell(cell))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook: nbformat.NotebookNode = new.new_notebook(cells=cells, metadata=metadata)
    return notebook


def run_notebooks(
    files: list[Path],
    folder: Path,
    environment: Mapping[str, str],
    widgets: Mapping[str, str],
    progress: Callable[[str], None],
) -> list[Path]:
    """Run notebooks one after the other in one kernel; each page and .ipynb is in `folder`, also of one that failed.

    `environment` names the local world, if it is one. Raises UserError with the error of the first cell that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    with environment_of(environment), kernel_in(files[0].parent) as kernel:
        for file in files:
            notebook = to_ipynb(file.read_text(encoding="utf-8"), environment, widgets)
            notebook.cells[0].source = "%reset -f\n" + notebook.cells[0].source
            progress(f"{file.stem}: {len(notebook.cells)} cells")
            try:
                NotebookClient(notebook, km=kernel, timeout=None).execute()
            except CellExecutionError as error:
                why = str(error.evalue).strip().partition("\n")[0]
                raise UserError(f"{file.name}: {error.ename}: {why}; see {folder / file.stem}.html") from error
            finally:
                pages.append(_save(notebook, folder / file.stem))
    return pages


@contextmanager
def kernel_in(folder: Path) -> Iterator[KernelManager]:
    """A running Python kernel whose working directory is `folder`; killed at the end."""
    # Sockets in files: no port to be taken. Their folder is named in full, since the kernel works in another one.
    with tempfile.TemporaryDirectory() as sockets:
        kernel = KernelManager(kernel_name="python3", transport="ipc", connection_file=f"{sockets}/kernel.json")
        kernel.start_kernel(cwd=str(folder))
        try:
            yield kernel
        finally:
            kernel.shutdown_kernel(now=True)


def _save(notebook: nbformat.NotebookNode, path: Path) -> Path:
    nbformat.write(notebook, path.with_suffix(".ipynb"))
    # Nothing is fetched when the page is opened.
    page, _ = HTMLExporter(require_js_url="", mathjax_url="", mermaid_js_url="").from_notebook_node(notebook)
    path.with_suffix(".html").write_text(page, encoding="utf-8")
    return path.with_suffix(".html")
