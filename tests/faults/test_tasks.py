"""Tasks on Delta tables, killed before each of their writes and run again: the rows are those of undisturbed runs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from tests.contexts import make_context
from tests.faults.seams import Killer, killed
from tests.worlds import assert_same_rows, contents, copied

from flight_delays.core.settings import Features, Labels, Performance, ScoreBatch, ScoreShadow
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables
from flight_delays.platform.registry import Registry
from flight_delays.tasks import features, ingest, labels, performance, score_batch, score_shadow

MODEL = "of the tasks"


def landed(context: Context) -> None:
    ingest.run(context)


def built(context: Context) -> None:
    features.run(context, Features(raw_schema=context.tables.schema))


def labelled(context: Context) -> None:
    labels.run(context, Labels(raw_schema=context.tables.schema))


def scored(context: Context) -> None:
    score_batch.run(context, ScoreBatch(model_name=MODEL, online_store=False))


def shadowed(context: Context) -> None:
    score_shadow.run(context, ScoreShadow(model_name=MODEL))


def measured(context: Context) -> None:
    performance.run(context, Performance(model_name=MODEL))


TASKS = (landed, built, labelled, scored, shadowed, measured)
DAYS = (datetime(2013, 1, 1, 18, tzinfo=UTC), datetime(2013, 1, 2, 3, tzinfo=UTC))


def test_tasks_killed_before_every_write_end_with_the_rows_of_tasks_that_nobody_disturbed(
    new_tables: Callable[[str], Tables],
    registry: Registry,
    new_version: Callable[..., int],
) -> None:
    """On a second day, which adds rows to all tables and changes some."""
    for alias in ("champion", "challenger"):
        registry.set_alias(MODEL, alias, new_version(MODEL, until=date(2013, 1, 1)))
    first, second = DAYS
    undisturbed = make_context(as_of=first, tables=new_tables("undisturbed"), registry=registry)
    for task in TASKS:
        task(undisturbed)
    undisturbed = replace(undisturbed, as_of=second)
    disturbed = replace(undisturbed, tables=copied(undisturbed.tables, "disturbed"))
    seen: list[tuple[str, str]] = []
    for task in TASKS:
        task(undisturbed)
        name = task.__name__
        while write := killed(lambda writes, name=name: (name, writes[-1]) not in seen, task, disturbed):
            seen.append((name, write))
    assert_same_rows(*(contents(one.tables.spark, one.tables.schema) for one in (disturbed, undisturbed)))
    assert [write for _, write in seen] == [
        *(f"upsert {table}" for table in ("raw_flights", "raw_weather", "raw_planes", "features", "labels")),
        *("append predictions", "optimize predictions", "append runs"),
        *("append shadow_predictions", "optimize shadow_predictions", "append runs"),
        "upsert performance",
    ]


def test_every_function_of_an_adapter_is_known_to_write_or_not_to() -> None:
    reads = {"of", "name", "read", "version", "identity", "table_id", "changes", "last_tag", "decision"}
    public = {name for name in vars(Tables) if not name.startswith("_")} - {"spark", "schema", "unity_catalog"}
    assert public == reads | Killer.TABLES
