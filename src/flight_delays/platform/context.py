"""What every task is given."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.core.moments import moment_of
from flight_delays.core.use_case import UseCase
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.endpoints import connect as connect_endpoints
from flight_delays.platform.job_context import PrintedTaskValues, TaskValues, task_values
from flight_delays.platform.registry import Registry, connect
from flight_delays.platform.runtime import Place, place
from flight_delays.platform.session import spark_session
from flight_delays.platform.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Context:
    """The use case, adapters and the moment that counts as now. `as_of` has a time zone; nothing known later is used.

    Few tasks need `endpoints`, and not everybody may see them: who asks connects.
    """

    use_case: UseCase
    tables: Tables
    registry: Registry
    task_values: TaskValues
    console: Console
    as_of: datetime
    endpoints: Callable[[], Endpoints] = connect_endpoints


def open_context(use_case: UseCase, schema: str, as_of: str) -> Context:
    """The context of this process: `schema` is <catalog>.<schema>, `as_of` an ISO 8601 time.

    Raises UserError for a time or a schema that is none.
    """
    moment = moment_of(as_of)
    if len([part for part in schema.split(".") if part]) != 2:
        raise UserError(f"schema is {schema!r}, not <catalog>.<schema>; `databricks bundle summary` names yours")
    console = Console(width=None if sys.stdout.isatty() else 140)
    return Context(
        use_case=use_case,
        tables=Tables(spark=spark_session(), schema=schema, unity_catalog=place() is not Place.LOCAL),
        registry=connect(),
        task_values=task_values(console),
        console=console,
        as_of=moment,
    )


def context_within(use_case: UseCase, tables: Tables, registry: Registry) -> Context:
    """The context of a process that Spark has started for a task, whose own words and values nobody reads."""
    console = Console(quiet=True)
    return Context(
        use_case=use_case,
        tables=tables,
        registry=registry,
        task_values=PrintedTaskValues(console),
        console=console,
        as_of=datetime.now(UTC),
    )
