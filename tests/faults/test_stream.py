"""The stream, crashed at every step: no flight lost, none scored twice, no micro-batch with two versions."""

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from rich.console import Console
from tests.streams import Harness, case, history

from flight_delays.platform.context import Context
from flight_delays.platform.job_context import PrintedTaskValues
from flight_delays.platform.registry import Registry
from flight_delays.platform.scorer import read_scorer
from flight_delays.platform.tables import Tables
from flight_delays.use_case import USE_CASE

CRASHES = (
    *("state", "state", "kept apart", "landed", "recorded"),
    *("predicted", "predicted", "precomputed", "told", "told"),
)
pytestmark = pytest.mark.usefixtures("_interpreted")
START, END = datetime(2013, 1, 3, 11, tzinfo=UTC), datetime(2013, 1, 3, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def tables(spark: SparkSession) -> Iterator[Tables]:
    """Tables of a schema of their own."""
    spark.sql("CREATE SCHEMA spark_catalog.streamed")
    tables = Tables(spark=spark, schema="spark_catalog.streamed", unity_catalog=False)
    tables.apply_ddl(USE_CASE.sql)
    yield tables
    spark.sql("DROP SCHEMA spark_catalog.streamed CASCADE")


@pytest.fixture(scope="module")
def events(tables: Tables) -> Mapping[str, pd.DataFrame]:
    """Four hours of a real morning."""
    return history(tables, START, END)


@pytest.fixture
def harness(tables: Tables, registry: Registry, new_version: Callable[..., int]) -> Harness:
    console = Console(file=io.StringIO())
    values = PrintedTaskValues(console)
    context = Context(
        use_case=USE_CASE, tables=tables, registry=registry, task_values=values, console=console, as_of=END
    )
    numbers = (new_version("streamed"), new_version("streamed", wrong=True))
    registry.set_alias("streamed", "champion", numbers[0])
    versions = {number: read_scorer(registry, "streamed", number) for number in numbers}
    return Harness(context=context, model_name="streamed", versions=versions)


def test_crashed_anywhere_and_replayed_the_stream_ends_with_the_batch_result_at_the_recorded_versions(
    harness: Harness, events: Mapping[str, pd.DataFrame], pytestconfig: pytest.Config
) -> None:
    cases, first_seed = (int(pytestconfig.getoption(name)) for name in ("--stream-cases", "--stream-seed"))
    crashes = 0
    for seed in range(first_seed, first_seed + cases):
        harness.empty()
        query, this = f"case {seed}", case(events, seed, batches=2)
        crashes += harness.run(query, this, CRASHES if cases == 1 else None)
        found, expected = harness.predictions(), harness.expected(query)
        assert found["entity_id"].is_unique, f"seed {seed}"
        pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-9, check_dtype=False, obj=f"seed {seed}")
        assert told(harness, query) == this.injected, f"seed {seed}"
    assert crashes == 2 * len(CRASHES) == 20 or cases > 1


def told(harness: Harness, query: str) -> dict[str, int]:
    """What stream_progress counted."""
    rows = harness.context.tables.read("stream_progress").where(f"query_id = '{query}'").toPandas()
    counted = rows[["out_of_order", "duplicates", "late"]].sum().astype(int)
    return counted.rename({"duplicates": "duplicated"}).to_dict()
