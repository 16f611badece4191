"""Task values: what one task of a job tells the next."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from flight_delays.platform.runtime import TASK_VALUES, Place, place


class TaskValues(Protocol):
    """Where a task leaves its values."""

    def set(self, key: str, value: str) -> None:
        """Make `value` known to later tasks as {{tasks.<this task>.values.<key>}}."""


class WorkspaceTaskValues:
    """Databricks' own."""

    def set(self, key: str, value: str) -> None:
        """Through dbutils, as in a notebook."""
        from databricks.sdk.runtime import dbutils

        dbutils.jobs.taskValues.set(key=key, value=value)


@dataclass(frozen=True)
class FileTaskValues:
    """A JSON file that the laptop's runner reads when the task is done."""

    path: Path

    def set(self, key: str, value: str) -> None:
        """Add the value to the file."""
        values = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**values, key: value}))


@dataclass(frozen=True)
class PrintedTaskValues:
    """No job runs this task: a person reads its values."""

    console: Console

    def set(self, key: str, value: str) -> None:
        """Print the value."""
        self.console.print(f"{key}: {value}")


def task_values(console: Console) -> TaskValues:
    """The task values of the job that runs this process."""
    if place() is Place.RUNTIME:
        return WorkspaceTaskValues()
    if TASK_VALUES in os.environ:
        return FileTaskValues(Path(os.environ[TASK_VALUES]))
    return PrintedTaskValues(console)
