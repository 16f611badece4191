"""What every task is given."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console

from flight_delays.core.errors import UserError
from flight_delays.core.settings import AsOf, InSchema, made
from flight_delays.core.use_case import UseCase
from flight_delays.platform.approvals import Approvals
from flight_delays.platform.approvals import connect as connect_approvals
from flight_delays.platform.dataset import Labelled
from flight_delays.platform.decision_log import Decisions
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.endpoints import connect as connect_endpoints
from flight_delays.platform.registry import Registry, connect
from flight_delays.platform.serving_platform import PLATFORMS, Connect, ServingPlatform
from flight_delays.platform.session import spark_session


def now() -> datetime:
    """The clock's time, UTC."""
    return datetime.now(UTC)


class TaskValues:
    """What a task of a job tells the next ones: {{tasks.<this task>.values.<key>}}. Where no job runs, nothing."""

    def set(self, key: str, value: str) -> None:
        """Through dbutils, as in a notebook."""
        from databricks.sdk.runtime import dbutils

        dbutils.jobs.taskValues.set(key=key, value=value)


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """The use case, and all that a task reads and writes.

    Few tasks need `endpoints` or `approvals`, and not everybody may see them: who asks connects. `clock` tells when
    something happened, like that an endpoint began to serve a version; it is no "now" to decide by.
    """

    use_case: UseCase
    tables: Tables
    labelled: Labelled
    decisions: Decisions
    registry: Registry
    task_values: TaskValues
    console: Console
    endpoints: Callable[[], Endpoints] = connect_endpoints
    approvals: Callable[[], Approvals] = connect_approvals
    platforms: Mapping[str, Connect] = field(default_factory=lambda: PLATFORMS)
    clock: Callable[[], datetime] = now

    def serving(self, endpoint: str) -> ServingPlatform:
        """Where an endpoint is: by the scheme of its address, without one in the workspace's Model Serving.

        Raises UserError for an unknown scheme.
        """
        scheme, is_address, _ = endpoint.partition("://")
        if not is_address:
            return self.endpoints()
        if scheme not in self.platforms:
            raise UserError(
                f"endpoint {endpoint}: {scheme} is no platform that serves; take the name of an endpoint in the "
                f"workspace, or an address that begins with {' or '.join(f'{one}://' for one in self.platforms)}"
            )
        return self.platforms[scheme](self.registry)


@dataclass(frozen=True, kw_only=True)
class Context(Adapters):
    """Adapters and the moment that counts as now. `as_of` has a time zone; nothing known later is used."""

    as_of: datetime


def open_context(use_case: UseCase, schema: str, as_of: str | datetime) -> Context:
    """The context of this process: `schema` is <catalog>.<schema>, `as_of` a time, or an ISO 8601 text.

    Raises UserError for a time or a schema that is none.
    """
    scope = made(AsOf, {"schema": schema, "as_of": as_of})
    return Context(**vars(open_adapters(use_case, schema)), as_of=scope.as_of)


def open_adapters(use_case: UseCase, schema: str) -> Adapters:
    """The adapters of this process: `schema` is <catalog>.<schema>. Raises UserError for a schema that is none."""
    made(InSchema, {"schema": schema})
    console = Console(width=None if sys.stdout.isatty() else 140)
    tables = Tables(spark=spark_session(), schema=schema)
    return Adapters(
        use_case=use_case,
        tables=tables,
        labelled=Labelled(tables),
        decisions=Decisions(tables),
        registry=connect(),
        task_values=TaskValues(),
        console=console,
    )
