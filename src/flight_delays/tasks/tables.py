"""Create the tables that do not exist yet, and the columns that they lack."""

from flight_delays.platform.context import Context


def run(context: Context) -> None:
    """Apply the files of SQL to the target schema; a table that exists gets columns that it lacks, nothing else."""
    tables = context.tables.apply_ddl(context.use_case.sql)
    context.console.print(f"{len(tables)} tables in {context.tables.schema}: {', '.join(tables)}")
