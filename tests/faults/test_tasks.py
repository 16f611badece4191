"""Tasks on Delta tables, killed before each of their writes and run again: the rows are those of undisturbed runs."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contexts import make_context
from tests.faults.seams import Killer, killed_before, writes_of
from tests.worlds import assert_same_rows, contents

from flight_delays.platform.context import Context
from flight_delays.platform.registry import Registry
from flight_delays.platform.runtime import LOCAL_DIR
from flight_delays.platform.tables import Tables
from flight_delays.tasks import features, ingest, labels, publish, score_batch
from flight_delays.tasks import tables as tables_task

MODEL = "of the tasks"


def tables(context: Context) -> None:
    tables_task.run(context)


def landed(context: Context) -> None:
    ingest.run(context)


def built(context: Context) -> None:
    features.run(context, context.tables)


def labelled(context: Context) -> None:
    labels.run(context, context.tables)


def published(context: Context) -> None:
    publish.run(context, online_store=False)


def scored(context: Context) -> None:
    score_batch.run(context, model_name=MODEL, window=score_batch.Window(), online_store=False)


TASKS = (tables, landed, built, labelled, published, scored)
DAYS = (datetime(2013, 1, 2, 12, tzinfo=UTC), datetime(2013, 1, 3, 12, tzinfo=UTC))


@pytest.fixture
def context(
    new_tables: Callable[[str], Tables],
    registry: Registry,
    new_version: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, datetime], Context]:
    """Of tables of their own, and a champion for all of them."""
    monkeypatch.setenv(LOCAL_DIR, str(tmp_path))
    registry.set_alias(MODEL, "champion", new_version(MODEL))
    return lambda name, day: make_context(as_of=day, tables=new_tables(name), registry=registry)


def test_tasks_killed_before_every_write_on_two_days_end_with_the_rows_of_tasks_that_nobody_disturbed(
    context: Callable[[str, datetime], Context],
) -> None:
    """The first day writes into empty tables; the second adds rows and changes some."""
    seen = set[str]()
    for day in DAYS:
        undisturbed, disturbed = context("undisturbed", day), context("disturbed", day)
        for task in TASKS:
            writes = writes_of(task, undisturbed)
            seen |= {f"{task.__name__}: {write}" for write in writes}
            for number, write in enumerate(writes, 1):
                assert killed_before(number, task, disturbed) == write
            task(disturbed)
        assert_same_rows(contents(disturbed.tables.read), contents(undisturbed.tables.read))
    assert seen == {
        "tables: apply_ddl",
        "tables: widen",
        "landed: upsert",
        "landed: append_new",
        "landed: set",
        "built: upsert",
        "labelled: upsert",
        "published: set",
        "scored: append",
        "scored: optimize",
        "scored: set",
    }


def test_every_function_of_an_adapter_is_known_to_write_or_not_to() -> None:
    reads = {"of", "read", "version", "identity", "table_id", "changes", "last_tag", "decision"}
    public = {name for name in vars(Tables) if not name.startswith("_")} - {"spark", "schema", "unity_catalog"}
    assert public == reads | Killer.TABLES
