"""Task values: what one task of a job tells the next."""

from typing import Protocol


class TaskValues(Protocol):
    """Where a task leaves its values."""

    def set(self, key: str, value: str) -> None:
        """Make `value` known to later tasks as {{tasks.<this task>.values.<key>}}."""


class JobTaskValues:
    """Those of the job that runs this process; where none does, setting one does nothing."""

    def set(self, key: str, value: str) -> None:
        """Through dbutils, as in a notebook."""
        from databricks.sdk.runtime import dbutils

        dbutils.jobs.taskValues.set(key=key, value=value)
