"""SIGKILL of a process in the middle of a job; each write on its own: the other files here."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from tests.raw import raw_tables
from tests.worlds import folder_of, make_world

from flight_delays.core.columns import to_pandas
from flight_delays.platform.delta import Tables

MIDNIGHT, AS_OF = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 3, 12, tzinfo=UTC)


def test_a_job_killed_in_its_middle_and_run_again_ends_with_the_rows_that_were_delivered(
    template: Tables, tmp_path: Path
) -> None:
    """In ingest: the flights are landed, the aircraft are not."""
    killed, as_of = make_world(tmp_path), {"as_of": AS_OF.isoformat()}
    shutil.copytree(folder_of(template.spark, template.schema), killed.warehouse)
    before = {table: killed.commits(table) for table in ("raw_flights", "raw_planes")}
    killed.kill_when(lambda: killed.commits("raw_flights") > before["raw_flights"], "features", **as_of)
    assert killed.commits("raw_planes") == before["raw_planes"]
    killed.finish("features", only="ingest", **as_of)
    raw = {name: known(rows) for name, rows in raw_tables(MIDNIGHT, AS_OF).items()}
    for table, rows in raw.items():
        found = DeltaTable(killed.warehouse / table).to_pyarrow_table()
        pd.testing.assert_frame_equal(in_order(found), in_order(rows.select(found.column_names)), obj=table)


def known(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.less_equal(rows["known_at"], pa.scalar(AS_OF)))


def in_order(rows: pa.Table) -> pd.DataFrame:
    return to_pandas(rows.sort_by([(name, "ascending") for name in rows.column_names]))
