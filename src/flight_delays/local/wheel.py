"""Calls a wheel's entry point as a Databricks task does: in this process, by name, arguments in sys.argv."""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution

from flight_delays.core.errors import UserError


def find_entry_point(package: str, name: str) -> EntryPoint | None:
    """The entry point of an installed package, in any group, as Databricks looks it up."""
    try:
        entry_points = distribution(package).entry_points
    except PackageNotFoundError:
        return None
    return next((entry_point for entry_point in entry_points if entry_point.name == name), None)


def call(entry_point: EntryPoint, parameters: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Why the task failed, in one line; None: it returned. What is no UserError is a bug: its traceback is printed."""
    argv = sys.argv
    sys.argv = [entry_point.name, *parameters]
    try:
        with environment_of(environment):
            entry_point.load()()
    except UserError as error:
        return str(error)
    except SystemExit as error:
        return f"exited with {error.code}: an entry point has to return, a workspace takes any exit for a failure"
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        sys.argv = argv
    return None


@contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
