"""What every task is given."""

from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from flight_delays.platform.job_context import TaskValues
from flight_delays.platform.registry import Registry
from flight_delays.platform.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Context:
    """Adapters and the moment that counts as now. `as_of` has a time zone; nothing known later is used."""

    tables: Tables
    registry: Registry
    task_values: TaskValues
    console: Console
    as_of: datetime
