"""Notebooks of a bundle, in Databricks' source format or Jupyter's: run in a kernel, kept as .ipynb and as a page.

Stated differences from a workspace: `%pip` and `%restart_python` do nothing, since the environment is this one; `%sql`
shows what it finds; `%run` runs a notebook of the bundle; other languages are refused.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import nbformat
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from bundle_laptop.dbutils import TASK
from bundle_laptop.errors import LaptopError
from bundle_laptop.world import FOLDER_VARIABLE, environment_of

HEADER = "# Databricks notebook source"
_SEPARATOR = re.compile(r"^# COMMAND -+$", re.MULTILINE)
_IGNORED = ("%pip", "%restart_python")
_REFUSED = ("%scala", "%r", "%sh", "%fs")
_FIRST = "%matplotlib inline\nfrom bundle_laptop.kernel import dbutils, display, spark, sql, table"
_DECLARED = re.compile(r"""widgets\.(?:text|dropdown|combobox|multiselect)\(\s*(?:name=)?["']([^"']+)["']""")


@dataclass(frozen=True)
class Ended:
    """How a notebook ended: the text that it gave to dbutils.notebook.exit, or why it failed; and its page."""

    page: Path
    result: str = ""
    failure: str | None = None


def read_notebook(file: Path) -> nbformat.NotebookNode:
    """A notebook as Jupyter's, its first cell giving what a workspace provides.

    Raises LaptopError for what is no notebook, and for a cell that a laptop can't run.
    """
    new = nbformat.v4
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook: nbformat.NotebookNode = new.new_notebook(cells=[new.new_code_cell(_FIRST)], metadata=metadata)
    for text in _sources(file):
        command, _, rest = text.partition("\n")
        word, _, argument = command.partition(" ")
        if word in ("%md", "%md-sandbox"):
            notebook.cells.append(new.new_markdown_cell(f"{argument}\n{rest}".strip()))
        elif word == "%sql":
            query = f"{argument} {rest}".strip().rstrip(";")
            notebook.cells.append(new.new_code_cell(f"display(spark.sql({query!r}))"))
        elif word == "%run":
            notebook.cells += read_notebook(_run_path(file, argument)).cells[1:]
        elif word in _REFUSED:
            raise LaptopError(f"{file.name}: a cell with {word} is not supported on a laptop; write it in Python")
        else:
            lines = (rest if word == "%python" else text).splitlines()
            if code := "\n".join(line for line in lines if not line.startswith(_IGNORED)).strip():
                notebook.cells.append(new.new_code_cell(code))
    return notebook


def _sources(file: Path) -> Iterator[str]:
    """The text of each cell, Markdown beginning with %md."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        try:
            cells = nbformat.reads(text, as_version=4).cells
        except ValueError as error:
            raise LaptopError(f"{file.name}: no Jupyter notebook: {error}") from None
        kinds = {"markdown": "%md ", "code": ""}
        yield from ((kinds[cell.cell_type] + cell.source).strip() for cell in cells if cell.cell_type in kinds)
        return
    if not text.startswith(HEADER):
        raise LaptopError(f"{file.name}: no Databricks notebook: its first line must be {HEADER!r}")
    for part in _SEPARATOR.split(text.removeprefix(HEADER)):
        lines = [line for line in part.strip().splitlines() if not line.startswith("# DBTITLE ")]
        yield "\n".join(re.sub(r"^# MAGIC ?", "", line) for line in lines).strip()


def _run_path(file: Path, argument: str) -> Path:
    given = file.parent / argument.strip().strip("\"'")
    for ending in ("", ".py", ".ipynb"):
        if (found := given.with_name(given.name + ending)).is_file():
            return found
    raise LaptopError(f"{file.name}: %run {argument}: there is no such notebook beside it")


def widgets_of(notebook: nbformat.NotebookNode) -> list[str]:
    """The names of the widgets that its cells declare in plain."""
    return [name for cell in notebook.cells if cell.cell_type == "code" for name in _DECLARED.findall(cell.source)]


def run_notebook(file: Path, page: Path, task: Path, kernel: AsyncKernelManager) -> Ended:
    """Run a notebook and keep it at `page` (.html), and beside it as .ipynb, also if it failed.

    `task` is the folder by which it is told its parameters. Raises LaptopError for what is no notebook.
    """
    notebook = read_notebook(file)
    world = {FOLDER_VARIABLE: os.environ.get(FOLDER_VARIABLE, ""), TASK: str(task)}
    notebook.cells[0].source = f"%reset -f\nimport os\nos.environ.update({world!r})\n{notebook.cells[0].source}"
    result, failure = "", None
    try:
        _execute(NotebookClient(notebook, km=kernel, timeout=None))
    except CellExecutionError as error:
        if error.ename == "NotebookExit":
            result = str(error.evalue)
        else:
            failure = f"{error.ename}: {str(error.evalue).strip().partition(chr(10))[0]}"
    except DeadKernelError:
        failure = "its Python ended"
    page.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, page.with_suffix(".ipynb"))
    # Nothing is fetched when the page is opened.
    shown, _ = HTMLExporter(require_js_url="", mathjax_url="", mermaid_js_url="").from_notebook_node(notebook)
    page.write_text(shown, encoding="utf-8")
    return Ended(page=page, result=result, failure=failure)


def _execute(client: NotebookClient) -> None:
    """In a thread of its own: in the main one nbclient would take Ctrl-C, and wait for the end of the cell."""
    ended: Future[None] = Future()

    def execute() -> None:
        try:
            client.execute()
            ended.set_result(None)
        except Exception as error:
            ended.set_exception(error)
        finally:
            if client.kc:
                client.kc.stop_channels()

    Thread(target=execute, daemon=True).start()
    ended.result()


@contextmanager
def kernel_in(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[AsyncKernelManager]:
    """A running Python kernel whose working directory is `folder`; killed at the end."""
    # Sockets in files: no port to be taken. Their folder is named in full, since the kernel works in another one.
    with tempfile.TemporaryDirectory() as sockets, environment_of(environment or {}):
        # A blocking one would wait for ever for a kernel that has died.
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", connection_file=f"{sockets}/kernel.json")
        run_sync(kernel.start_kernel)(cwd=str(folder), env={**os.environ})
        try:
            yield kernel
        finally:
            run_sync(kernel.shutdown_kernel)(now=True)
