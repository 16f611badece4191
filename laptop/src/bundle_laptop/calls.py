"""Runs the code of a task as Databricks does: in this process, by name, arguments in sys.argv."""

import runpy
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import chdir, contextmanager
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from pathlib import Path

from bundle_laptop.dbutils import namespace


class TaskError(Exception):
    """Why a task failed, in one line. What a person has to fix (`by_user`) is not worth another attempt."""

    def __init__(self, why: str, *, by_user: bool = False) -> None:
        super().__init__(why)
        self.by_user = by_user


def find_entry_point(package: str, name: str) -> EntryPoint | None:
    """The entry point of an installed package, in any group, as Databricks looks it up."""
    try:
        entry_points = distribution(package).entry_points
    except PackageNotFoundError:
        return None
    return next((entry_point for entry_point in entry_points if entry_point.name == name), None)


def call_entry_point(package: str, name: str, arguments: Sequence[str], user_errors: Collection[str]) -> None:
    """Call it. Raises TaskError if it fails; `user_errors` are the names of classes whose errors need no traceback."""
    entry_point = find_entry_point(package, name)
    if entry_point is None:
        raise TaskError(f"{package} {name}: no such entry point is installed")
    with called_as(name, arguments):
        _call(lambda: entry_point.load()(), user_errors)


def call_file(file: Path, arguments: Sequence[str], user_errors: Collection[str]) -> None:
    """Run a Python file as a program, in this process and its own folder, with a notebook's namespace.

    Raises TaskError if it fails.
    """
    with called_as(str(file), arguments), chdir(file.parent), _importing_from(file.parent):
        _call(lambda: runpy.run_path(str(file), namespace(), "__main__"), user_errors)


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Modules of a folder can be imported; they are forgotten: the next task's may have the same names."""
    sys.path.insert(0, str(folder))
    before = {*sys.modules}
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        own = {path.stem for path in folder.iterdir()}
        for name in sys.modules.keys() - before:
            file = getattr(sys.modules[name], "__file__", None)
            if name.partition(".")[0] in own and file and Path(file).is_relative_to(folder):
                del sys.modules[name]


@contextmanager
def called_as(name: str, arguments: Sequence[str]) -> Iterator[None]:
    """The command line of a program, for a while."""
    argv = sys.argv
    sys.argv = [name, *arguments]
    try:
        yield
    finally:
        sys.argv = argv


def _call(code: Callable[[], object], user_errors: Collection[str]) -> None:
    status = "FAILED"
    try:
        code()
        status = "FINISHED"
    except SystemExit as error:
        why = f"exited with {error.code}: code has to return, a workspace takes any exit for a failure"
        raise TaskError(why) from None
    except Exception as error:
        if is_by_user(error, user_errors):
            raise TaskError(str(error), by_user=True) from None
        traceback.print_exc()
        raise TaskError(f"{type(error).__name__}: {error}".splitlines()[0]) from None
    finally:
        if mlflow := sys.modules.get("mlflow"):  # a run that is left open ends with its task, as with a process
            mlflow.end_run(status)


def is_by_user(error: Exception, user_errors: Collection[str]) -> bool:
    """Whether its class, or one that it comes from, is named."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in user_errors for kind in type(error).__mro__)
