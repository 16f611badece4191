"""Raw tables as Arrow: by Spark, or from a folder of Delta tables, which needs none."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flight_delays.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa


def reader_of(place: str) -> "Callable[[str], pa.Table]":
    """How to read a table of `place`, a folder or <catalog>.<schema>. It raises UserError for one that is missing."""
    if not Path(place).is_absolute():
        from flight_delays.platform.delta import Tables
        from flight_delays.platform.session import spark_session

        tables = Tables(spark=spark_session(), schema=place)
        return lambda table: tables.read(table).toArrow()

    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    def read(table: str) -> "pa.Table":
        try:
            rows: pa.Table = DeltaTable(Path(place) / table).to_pyarrow_table()
        except TableNotFoundError:
            raise UserError(f"{place} has no table {table}; run the features job") from None
        return rows

    return read
