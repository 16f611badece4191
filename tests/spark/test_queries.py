"""The queries of the dashboard and of the alert, on a handful of rows."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
import yaml
from tests.deployed import ROOT

from bundle_laptop.alerts import Alert, AlertState
from flight_delays.platform.delta import Tables

ALERT = yaml.safe_load((ROOT / "resources" / "incidents.alert.yml").read_text())["resources"]["alerts"][
    "open_incidents"
]
DASHBOARD = json.loads((ROOT / "resources" / "health.lvdash.json").read_text(encoding="utf-8"))
QUERIES = {one["name"]: "".join(one["queryLines"]) for one in DASHBOARD["datasets"]}
TIME = datetime(2013, 3, 1, 12, tzinfo=UTC)
OF_A_DAY = {"source": "batch", "complete": True, "rows": 10, "labelled": 8, "digest": 0, "as_of": TIME}


def decision(number: int, kind: str, version: int, reasons: list[str], **rest: Any) -> dict[str, Any]:
    same = {"model_name": "m", "outcome": "DONE", "evidence": "{}", "policy": "{}", "as_of": TIME}
    key = {"decision_id": f"d{number}", "recorded_at": datetime(2013, 3, number, tzinfo=UTC)}
    return same | key | {"kind": kind, "model_version": version, "reasons": reasons, **rest}


def incident(key: str, number: int, event: str, subjects: list[str]) -> dict[str, Any]:
    same = {"model_name": "m", "model_version": 2, "family": "data", "since": date(2013, 3, 1), "as_of": TIME}
    said = {"event": event, "subjects": subjects, "reason": f"{key} {event}", "day": date(2013, 3, 2 + number)}
    return same | said | {"incident_id": key, "number": number, "recorded_at": TIME}


def signal(subject: str, day: int, outcome: str, p_value: float | None) -> dict[str, Any]:
    same = {"model_name": "m", "model_version": 2, "kind": "drift", "days": 7, "reason": "why", "as_of": TIME}
    return same | {"subject": subject, "day": date(2013, 3, day), "outcome": outcome, "p_value": p_value}


def of_a_day(version: int, day: int, loss: float | None, **rest: Any) -> dict[str, Any]:
    key = {"model_name": "m", "model_version": version, "day": date(2013, 3, day), "dimension": "all", "slice": "all"}
    return OF_A_DAY | key | {"loss": loss, **rest}


def estimate(version: int, day: int, **losses: float) -> dict[str, Any]:
    key = {"model_name": "m", "model_version": version, "source": "batch", "day": date(2013, 3, day)}
    return key | {"rows": 10, "labelled_days": 3, "as_of": TIME, **losses}


ROWS = {
    "decisions": [
        decision(1, "promotion", 1, ["first"]),
        decision(2, "promotion", 2, ["PASS", "approved"], other_version=1, allowed_by="v"),
        decision(3, "verdict", 3, [], outcome="FAIL"),
    ],
    "incidents": [
        incident("open", 0, "OPENED", ["drift: a"]),
        incident("open", 1, "GREW", ["drift: a", "drift: b"]),
        incident("known", 0, "OPENED", ["drift: c"]),
        incident("known", 1, "ACKNOWLEDGED", []),
        incident("over", 0, "OPENED", ["drift: d"]),
        incident("over", 1, "RESOLVED", []),
    ],
    "signals": [
        signal("a", 2, "ALARM", 0.001),
        signal("a", 1, "OK", 0.5),
        signal("b", 2, "UNKNOWN", None),
        signal("c", 2, "OK", 0.25),
    ],
    "performance": [
        *(of_a_day(2, day, 0.25) for day in range(1, 15)),
        of_a_day(2, 15, 0.5, complete=False, labelled=2),
        of_a_day(1, 1, 0.75),
        of_a_day(1, 2, None, source="shadow", labelled=0),
    ],
    "estimated_performance": [
        estimate(2, 14, expected_loss=0.25, estimated_loss=0.5),
        estimate(2, 15, expected_loss=0.25),
        estimate(1, 14, expected_loss=0.75),
    ],
}


def insert(tables: Tables, rows: dict[str, list[dict[str, Any]]]) -> None:
    for table, its in rows.items():
        schema = tables.read(table).schema
        values = [tuple(row.get(name) for name in schema.names) for row in its]
        tables.spark.createDataFrame(values, schema).write.format("delta").mode("append").saveAsTable(
            tables.name(table)
        )


def asked(tables: Tables, name: str) -> list[dict[str, Any]]:
    """What a query of the dashboard gives in this schema, which its tables are named without."""
    before = tables.spark.catalog.currentDatabase()
    tables.spark.catalog.setCurrentDatabase(tables.schema.partition(".")[2])
    try:
        return [row.asDict() for row in tables.spark.sql(QUERIES[name]).collect()]
    finally:
        tables.spark.catalog.setCurrentDatabase(before)


@pytest.fixture(scope="module")
def filled(new_tables: Callable[[str], Tables]) -> Tables:
    tables = new_tables("health")
    insert(tables, ROWS)
    return tables


@pytest.fixture(scope="module")
def empty(new_tables: Callable[[str], Tables]) -> Tables:
    return new_tables("health_at_first")


def test_the_champion_is_that_of_the_newest_promotion_or_rollback(filled: Tables) -> None:
    (row,) = asked(filled, "champion")
    assert (row["model_version"], row["replaced"], row["why"]) == (2, 1, "PASS; approved")


def test_incidents_count_until_they_are_resolved_and_are_unattended_until_acknowledged(filled: Tables) -> None:
    (counts,) = asked(filled, "counts")
    assert counts == {"open": 2, "unattended": 1, "alarms": 1, "measured_until": date(2013, 3, 14)}
    assert [(row["acknowledged"], row["affected"], row["reason"]) for row in asked(filled, "incidents")] == [
        ("no", "drift: a, drift: b", "open GREW"),
        ("yes", "drift: c", "known OPENED"),
    ]


def test_losses_are_of_every_version_by_day(filled: Tables) -> None:
    found = {(row["forecasts"], row["day"].day): (row["loss"], row["coverage"]) for row in asked(filled, "losses")}
    assert len(found) == 17
    assert found["version 2, batch", 15] == (0.5, 0.2)
    assert found["version 1, batch", 1] == (0.75, 0.8)
    assert found["version 1, shadow", 2] == (None, 0)


def test_means_have_limits_from_14_days_on_and_are_of_the_champion(filled: Tables) -> None:
    found = {(row["series"], row["day"].day): row["loss"] for row in asked(filled, "means")}
    assert {series for series, day in found if day == 13} == {"batch: 28-day mean"}
    assert {series: loss for (series, day), loss in found.items() if day == 14} == pytest.approx(
        {"batch: 28-day mean": 0.25, "batch: lower limit": 0.25, "batch: upper limit": 0.25}
    )


def test_an_estimate_stands_beside_the_loss_of_a_complete_day_alone(filled: Tables) -> None:
    found = {(row["day"].day, row["series"]): row["loss"] for row in asked(filled, "estimates")}
    assert found == {
        (14, "batch: expected"): 0.25,
        (14, "batch: estimated"): 0.5,
        (14, "batch: realised"): 0.25,
        (15, "batch: expected"): 0.25,
    }


def test_signals_are_newest_first_and_what_is_not_measured_is_not_ok(filled: Tables) -> None:
    assert [(row["day"].day, row["signal"], row["severity"]) for row in asked(filled, "signals")] == [
        (2, "drift: a, 7 days", 2),
        (2, "drift: b, 7 days", 1),
        (2, "drift: c, 7 days", 0),
        (1, "drift: a, 7 days", 0),
    ]


def test_decisions_are_newest_first_with_their_reasons(filled: Tables) -> None:
    found = [(row["decision_id"], row["outcome"], row["reasons"]) for row in asked(filled, "decisions")]
    assert found == [("d3", "FAIL", ""), ("d2", "DONE", "PASS; approved"), ("d1", "DONE", "first")]


@pytest.mark.parametrize("name", QUERIES)
def test_before_there_are_rows_a_query_shows_nothing_or_none(empty: Tables, name: str) -> None:
    rows = asked(empty, name)
    assert rows == ([{"open": 0, "unattended": 0, "alarms": 0, "measured_until": None}] if name == "counts" else [])


def test_the_alert_is_triggered_by_an_incident_that_nobody_looks_after(
    filled: Tables, empty: Tables, new_tables: Callable[[str], Tables]
) -> None:
    assert alert_in(filled).evaluated(filled.spark) == (AlertState.TRIGGERED, "1 > 0")
    assert alert_in(empty).evaluated(empty.spark) == (AlertState.OK, "")
    attended = new_tables("health_attended")
    insert(attended, {"incidents": [row for row in ROWS["incidents"] if row["incident_id"] != "open"]})
    assert alert_in(attended).evaluated(attended.spark) == (AlertState.OK, "")


def alert_in(tables: Tables) -> Alert:
    catalog, _, schema = tables.schema.partition(".")
    query = ALERT["query_text"].replace("${var.catalog}", catalog).replace("${resources.schemas.flights.name}", schema)
    return Alert.model_validate({"query_text": query, "evaluation": ALERT["evaluation"]})
