"""What stands behind a port in tests answers as the real one does."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest
from tests.contexts import MemoryDecisions, MemoryRows

from flight_delays.platform.dataset import Labelled
from flight_delays.platform.decision_log import Decision, Decisions
from flight_delays.platform.delta import Tables

FIRST = Decision(
    decision_id="first",
    kind="verdict",
    model_name="ports",
    model_version=2,
    other_version=None,
    outcome="PASS",
    reasons=("PASS calibrated: 0.01, at most 0.02", "and it's fast"),
    evidence='{"days": 14}',
    policy='{"margin": 0.1}',
    as_of=datetime(2013, 2, 21, 12, 30, tzinfo=UTC),
)
DECISIONS = (
    FIRST,
    replace(FIRST, decision_id="second", kind="promotion", other_version=1, outcome="DONE", allowed_by="first"),
    replace(FIRST, decision_id="third", model_version=3, reasons=()),
    replace(FIRST, outcome="FAIL"),  # the id is there: nothing is added
)


@pytest.mark.parametrize("memory", [True, False], ids=["in memory", "a table"])
def test_decisions_are_added_once_and_found_by_their_values_the_first_first(tables: Tables, memory: bool) -> None:
    log: Any = MemoryDecisions() if memory else Decisions(tables)
    for decision in DECISIONS:
        log.append(decision)
    first, second, third, _ = DECISIONS
    assert log.find(model_name="ports") == [first, second, third]
    assert log.find(model_name="ports", kind="verdict") == [first, third]
    assert log.find(decision_id="second") == [second]
    assert log.find(model_name="ports", model_version=3, kind="promotion") == []


@pytest.mark.parametrize(
    ("as_of", "first", "end", "rows"),
    [
        (datetime(2013, 2, 21, tzinfo=UTC), None, date(2013, 2, 20), 50 * 20),
        (datetime(2013, 2, 21, tzinfo=UTC), date(2013, 2, 18), date(2013, 2, 19), 20),
        (datetime(2013, 2, 19, 15, 59, 59, tzinfo=UTC), None, date(2013, 2, 20), 49 * 20),  # labels a second later
        (datetime(2013, 2, 19, 16, tzinfo=UTC), None, date(2013, 2, 20), 50 * 20),
        (datetime(2012, 1, 1, tzinfo=UTC), None, date(2013, 2, 20), 0),
    ],
)
def test_labelled_rows_are_those_of_the_days_that_were_known_in_one_order(
    new_tables: Callable[[str], Tables],
    write_flights: Callable[[Tables], None],
    flights: pd.DataFrame,
    as_of: datetime,
    first: date | None,
    end: date,
    rows: int,
) -> None:
    tables = new_tables("ports")
    if tables.read("features").isEmpty():
        write_flights(tables)
    found = Labelled(tables).read(as_of=as_of, first=first, end=end)
    fake = MemoryRows(flights.sample(frac=1, random_state=1)).read(as_of=as_of, first=first, end=end)
    assert len(found.rows) == rows
    named = [*fake.rows.columns]
    pd.testing.assert_frame_equal(found.rows[named], fake.rows, check_dtype=False)
    assert found.versions == {"spark_catalog.ports.features": 1, "spark_catalog.ports.labels": 1}
