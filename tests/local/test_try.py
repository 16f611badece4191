"""`flight-delays try` on what the jobs have left."""

import io
import json

import pytest
from pyspark.sql import SparkSession
from rich.console import Console
from tests.worlds import MODEL, SCHEMA, World

from flight_delays.core.errors import UserError
from flight_delays.core.moments import moment_of
from flight_delays.local.cli import tried
from flight_delays.platform.tables import Tables
from flight_delays.tasks.try_out import HISTORY, run
from flight_delays.use_case import USE_CASE


def test_the_code_as_it_was_trained_is_the_champions_equal(world: World, spark: SparkSession) -> None:
    said = io.StringIO()
    tables = Tables(spark=spark, schema=f"spark_catalog.{SCHEMA}", unity_catalog=False)
    with tried(None, None, world.root) as (_, champion, options, folder):
        run(
            USE_CASE,
            read=lambda table: tables.read(table).toArrow(),
            champion=champion,
            as_of=moment_of(options["as_of"]),
            holdout_days=int(options["holdout_days"]),
            own_parameters=False,
            folder=folder,
            note="",
            console=Console(file=said, width=200),
        )
    (entry,) = (json.loads(line) for line in (folder / HISTORY).read_text().splitlines())
    # Made from the raw tables, in memory, they are the rows that were trained on, in the same order: the same models.
    assert entry["difference"].startswith("0.0000 [")
    assert champion is not None
    assert f"Against {MODEL} version {champion.number}: no difference shown" in said.getvalue()


def test_a_target_without_a_model_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_VAR_service_principal", "0a1b2c3d")
    with pytest.raises(UserError, match=r"registered model .* does not exist"), tried(None, "staging", world.root):
        pass


def test_a_target_without_tables_is_one_line(world: World) -> None:
    """The tests' own session keeps its tables elsewhere."""
    with (
        tried(None, None, world.root) as (read, *_),
        pytest.raises(UserError, match=r"table .*raw_flights does not exist; run flight-delays local run features"),
    ):
        read("raw_flights")
