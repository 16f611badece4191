"""Create the tables that do not exist yet, and the columns that they lack."""

from pyspark.sql.pandas.types import from_arrow_schema

from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Adapters
from flight_delays.platform.delta import Tables
from flight_delays.platform.event_source import bodies


def run(adapters: Adapters) -> None:
    """Apply the files of SQL to the target schema; a table that exists gets columns that it lacks, nothing else."""
    found = create(adapters.tables, adapters.use_case)
    adapters.console.print(f"{len(found)} tables and views in {adapters.tables.schema}: {', '.join(found)}")


def create(tables: Tables, use_case: UseCase) -> list[str]:
    """All tables and views of a use case; their names."""
    found = tables.apply_ddl(use_case.sql)
    tables.widen("stream_events", from_arrow_schema(bodies(use_case)), comment="What the event tells of a raw row")
    return found
