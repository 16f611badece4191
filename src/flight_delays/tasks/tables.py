"""Create the tables that do not exist yet."""

from flight_delays.tasks.context import Context


def run(context: Context) -> None:
    """Apply sql/*.sql to the target schema; existing tables stay as they are."""
    tables = context.tables.apply_ddl()
    context.console.print(f"{len(tables)} tables in {context.tables.schema}: {', '.join(tables)}")
