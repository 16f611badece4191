"""Create the tables that do not exist yet."""

from flight_delays.platform.context import Context


def run(context: Context) -> None:
    """Apply the files of SQL to the target schema; existing tables stay as they are."""
    tables = context.tables.apply_ddl(context.use_case.sql)
    context.console.print(f"{len(tables)} tables in {context.tables.schema}: {', '.join(tables)}")
