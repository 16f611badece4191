"""The bundle in a folder of its own, its jobs run for real on two months, and its tables compared."""

import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from bundle_laptop.results import Result
from bundle_laptop.session import opened
from flight_delays.core.columns import to_pandas
from flight_delays.platform.ddl import declarations, is_view
from flight_delays.platform.delta import Tables
from flight_delays.use_case import USE_CASE

ROOT = Path(__file__).parents[1]
SCHEMA = "dev_local_flights"
PATIENCE_S = 600
MODEL = f"spark_catalog.{SCHEMA}.dev_local_delay"
TABLES = [name for name, sql in declarations(USE_CASE.sql).items() if not is_view(sql)]
_OF_A_RUN = ("recorded_at", "run_id")  # another in another world, whose tables have other ids
# January and February; the last 14 whole days are held out.
TWO_MONTHS = {"as_of": "2013-03-01T12:00:00Z", "holdout_days": "14", "trials": "1"}


@dataclass(frozen=True)
class World:
    """A copy of the bundle with a commit of its own."""

    root: Path

    def run(self, *jobs: str, **variables: str) -> tuple[list[Result], str]:
        """Run jobs in this process, on the tests' session; their results and what they printed."""
        printed = Console(file=io.StringIO(), width=160)
        with opened(self.root, "dev", {**TWO_MONTHS, **variables}, printed) as session:
            return session.run(jobs, {}), printed.file.getvalue()

    @contextmanager
    def started(self, *jobs: str, only: str = "", **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Start jobs in a process of its own; whatever is left of it is killed at the end."""
        program, given = Path(sys.executable).parent / "laptop", {**TWO_MONTHS, **variables}
        options = [f"--only={only}", *(f"--var={name}={value}" for name, value in given.items())]
        with (self.root / "log.txt").open("a") as output:
            process = subprocess.Popen(
                [program, "run", *jobs, *options, "--root", self.root],
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
                env={**os.environ},
            )
            try:
                yield process
            finally:
                kill(process)

    def finish(self, *jobs: str, only: str = "", **variables: str) -> None:
        """Run jobs, or some of their tasks, in a process of its own, to their end."""
        with self.started(*jobs, only=only, **variables) as process:
            assert process.wait(PATIENCE_S) == 0, (self.root / "log.txt").read_text()[-3000:]

    def kill_when(self, moment: Callable[[], bool], *jobs: str, **variables: str) -> None:
        """Start jobs and kill them, whatever they are doing, as soon as the moment has come."""
        with self.started(*jobs, **variables) as process:
            until = time.monotonic() + PATIENCE_S
            while not moment():
                assert process.poll() is None, (self.root / "log.txt").read_text()[-3000:]
                assert time.monotonic() < until
                time.sleep(0.02)
            kill(process)
            assert process.returncode == -9

    def commits(self, table: str) -> int:
        """Number of versions of a table."""
        return len(list((self.warehouse / table / "_delta_log").glob("*.json")))

    @property
    def folder(self) -> Path:
        """Where a process of its own has its tables, models and runs."""
        return self.root / ".local" / "dev"

    @property
    def warehouse(self) -> Path:
        """Its tables."""
        return self.folder / "warehouse" / f"{SCHEMA}.db"

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """A table that a process of its own has left."""
        return spark.read.format("delta").load(str(self.warehouse / table))


def make_world(root: Path) -> World:
    """The repository's bundle, copied."""
    shutil.copy(ROOT / "databricks.yml", root)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (root / "pyproject.toml").write_text(re.sub("^after_run = .*$", "", settings, flags=re.MULTILINE), encoding="utf-8")
    shutil.copytree(ROOT / "resources", root / "resources")
    shutil.copy(ROOT / "version.py", root)
    git = ["git", "-C", str(root), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "bundle"]):
        subprocess.run([*git, *command], check=True)
    return World(root)


def copied(tables: Tables, name: str) -> Tables:
    """The same tables in another schema, which is made unless it is there."""
    spark, schema = tables.spark, f"spark_catalog.{name}"
    if not spark.catalog.databaseExists(schema):
        folder = shutil.copytree(folder_of(spark, tables.schema), folder_of(spark, schema))
        spark.sql(f"CREATE SCHEMA {schema}")
        for table in TABLES:
            spark.sql(f"CREATE TABLE {schema}.{table} USING delta LOCATION '{folder / table}'")
        for sql in filter(is_view, declarations(USE_CASE.sql).values()):
            spark.sql(sql.replace("{schema}", schema).strip().removesuffix(";"))
    return replace(tables, schema=schema)


def dropped(tables: Tables, table: str) -> None:
    """Drop a table that was copied; its files, which Spark takes for somebody else's, go too."""
    tables.spark.sql(f"DROP TABLE {tables.schema}.{table}")
    shutil.rmtree(folder_of(tables.spark, tables.schema) / table, ignore_errors=True)


def folder_of(spark: SparkSession, schema: str) -> Path:
    """Where the session has the tables of a schema."""
    warehouse = re.sub("^file:/*", "/", str(spark.conf.get("spark.sql.warehouse.dir")))
    return Path(warehouse) / f"{schema.rpartition('.')[-1]}.db"


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def contents(spark: SparkSession, schema: str = f"spark_catalog.{SCHEMA}") -> dict[str, pd.DataFrame]:
    """Every table of the bundle in a schema, read without Spark, sorted and without run metadata."""
    folder = folder_of(spark, schema)
    return {table: _sorted(DeltaTable(folder / table).to_pyarrow_table()) for table in TABLES}


def assert_same_rows(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    """Each table has the same rows, to the last bit."""
    assert left.keys() == right.keys() == set(TABLES)
    for table in TABLES:
        pd.testing.assert_frame_equal(left[table], right[table], check_exact=True, obj=table)


def _sorted(rows: pa.Table) -> pd.DataFrame:
    told = [one.name for one in rows.schema if one.name not in _OF_A_RUN and not pa.types.is_nested(one.type)]
    reasons = {name: rows[name].to_pylist() for name in rows.column_names if name == "reasons"}
    frame = to_pandas(rows.select(told)).assign(**{name: [*map(tuple, one)] for name, one in reasons.items()})
    return frame.sort_values(list(frame.columns), ignore_index=True)
