"""What `stream status` shows of the tables that a stream writes."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contexts import make_context, printed

from flight_delays.core.errors import UserError
from flight_delays.core.settings import StreamStatus
from flight_delays.platform.delta import Tables
from flight_delays.tasks import stream_control

SCHEMA = "spark_catalog.stream_status"
AS_OF = datetime(2013, 7, 1, tzinfo=UTC)  # not asked for
# Micro-batch, fate, when it was sent.
EVENTS = [
    (0, "on_time", "12:00:00"),
    (0, "on_time", "12:00:01"),
    (1, "on_time", "12:00:10"),
    (1, "out_of_order", "12:00:09"),
    (1, "duplicate", "12:00:11"),
    (1, "late", "12:00:12"),
    (1, "malformed", "12:00:13"),
]
RECORDED = {0: "12:00:05", 1: "12:00:15"}


@pytest.fixture(scope="module")
def tables(new_tables: Callable[[str], Tables]) -> Tables:
    """Two micro-batches of query q, and one of another."""
    tables = new_tables("stream_status")
    spark = tables.spark

    def insert(table: str, columns: str, rows: list[str]) -> None:
        spark.sql(f"INSERT INTO {SCHEMA}.{table} ({columns}) VALUES {', '.join(rows)}")

    insert(
        "stream_events",
        "query_id, batch_id, source, fate, sent_at, reasons",
        [f"('{query}', {batch}, 'flight_events', '{fate}', timestamp'2013-07-01 {sent}', array())"
         for query, events in (("q", EVENTS), ("other", EVENTS[:1])) for batch, fate, sent in events],
    )  # fmt: skip
    insert(
        "runs",
        "run_id, source, query_id, batch_id, model_name, model_version, table_ids, table_versions, landed, newest, "
        "watermark_seconds, as_of, recorded_at",
        [f"('{query}/{batch}', 'stream', '{query}', {batch}, 'm', 3, map(), map(), -1, "
         f"map('flight_events', timestamp'2013-07-01 11:30:00'), 7200, timestamp'2013-07-01 11:30:00', "
         f"timestamp'2013-07-01 {at}')"
         for query in ("q", "other") for batch, at in RECORDED.items()],
    )  # fmt: skip
    insert(
        "predictions",
        "prediction_id, entity_id, prediction_ts, model_name, model_version, scored_at, scored_date, probability, "
        "prediction, source, run_id",
        [f"('{source}{number}', 'entity-{number}', timestamp'2013-07-01 10:0{number}:00', 'm', 3, "
         f"timestamp'2013-07-01 11:{number}0:00', date'2013-07-01', 0.{number}, 0, '{source}', 'q/1')"
         for source, numbers in (("stream", range(6)), ("batch", range(5, 6))) for number in numbers],
    )  # fmt: skip
    return tables


@pytest.fixture
def status(tables: Tables, tmp_path: Path) -> Callable[..., tuple[str, list[list[str]]]]:
    """Asks for it; the outcome, and what was printed as words by line."""
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "metadata").write_text('{"id": "q"}')

    def ask(checkpoint: str = "q", *, max_lag_seconds: float = 6, last: int = 10) -> tuple[str, list[list[str]]]:
        found = make_context(as_of=AS_OF, tables=tables)
        outcome = stream_control.status(
            found, StreamStatus(checkpoint=str(tmp_path / checkpoint), max_lag_seconds=max_lag_seconds, last=last)
        )
        return outcome, [line.replace("│", " ").split() for line in printed(found).splitlines()]

    return ask


def test_each_micro_batch_of_the_query_is_a_line_and_so_are_its_newest_predictions(status) -> None:
    outcome, printed = status()
    at = ["2013-07-01", "09:30"]
    # batch, version, events, out of order, duplicates, late, malformed, scored, watermark, lag: from 12:00:09 to :15
    assert ["0", "3", "2", "0", "0", "0", "0", "0", *at, "5.0"] in printed
    assert ["1", "3", "5", "1", "1", "1", "1", "6", *at, "6.0"] in printed
    assert ["0.5", "events/s", "over", "these", "micro-batches"] in printed
    shown = [line for line in printed if line and line[0].startswith("entity-")]
    assert shown == [
        [f"entity-{number}", "2013-07-01", f"10:0{number}", f"0.{number}000", "3"] for number in (5, 4, 3, 2, 1)
    ]
    assert outcome == "PASS"


@pytest.mark.parametrize(("max_lag_seconds", "outcome"), [(5.9, "FAIL"), (6, "PASS"), (6.1, "PASS")])
def test_a_stream_is_healthy_while_its_lag_is_at_most_what_is_allowed(
    status, max_lag_seconds: float, outcome: str
) -> None:
    assert status(max_lag_seconds=max_lag_seconds)[0] == outcome


def test_as_many_micro_batches_are_shown_as_are_asked_for(status) -> None:
    _, printed = status(last=1)
    assert [line[0] for line in printed if line and line[0] in {"0", "1"}] == ["1"]
    assert not [line for line in printed if "events/s" in line]


def test_without_a_micro_batch_it_is_inconclusive_and_without_a_checkpoint_refused(status, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "metadata").write_text('{"id": "new"}')
    assert status("new")[0] == "INCONCLUSIVE"
    with pytest.raises(UserError, match="none does not exist: the stream was never started"):
        status("none")
