"""Alerts: what a query's result makes of each condition, and what is refused before anything runs."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bundle_laptop.alerts import Alert, AlertState, Evaluation
from bundle_laptop.calls import TaskError
from bundle_laptop.errors import LaptopError

OK, TRIGGERED = AlertState.OK, AlertState.TRIGGERED
QUERY = "SELECT 1 AS n"
EVALUATION = {
    "source": {"name": "n"},
    "comparison_operator": "GREATER_THAN",
    "threshold": {"value": {"double_value": 2}},
    "empty_result_state": "OK",
}
PATH = "resources/a.alert.yml: resources.alerts.a"


def evaluation(op: str, value: object = 2, **rest: Any) -> Evaluation:
    kind = {str: "string_value", bool: "bool_value"}.get(type(value), "double_value")
    threshold = {} if op.endswith("NULL") else {"threshold": {"value": {kind: value}}}
    return Evaluation.model_validate(
        {"source": {"name": "n"}, "comparison_operator": op, **threshold, "empty_result_state": "OK", **rest}
    )


@pytest.mark.parametrize(
    ("op", "sign", "below", "at", "above"),
    [
        ("LESS_THAN", "<", True, False, False),
        ("LESS_THAN_OR_EQUAL", "<=", True, True, False),
        ("GREATER_THAN", ">", False, False, True),
        ("GREATER_THAN_OR_EQUAL", ">=", False, True, True),
        ("EQUAL", "=", False, True, False),
        ("NOT_EQUAL", "!=", True, False, True),
    ],
)
def test_a_comparison_is_met_below_at_or_above_the_threshold(
    op: str, sign: str, below: bool, at: bool, above: bool
) -> None:
    for value, met in ((1, below), (2, at), (Decimal("2.5"), above)):
        state, why = evaluation(op).state([{"n": value}, {"n": 100}])
        assert (state, why) == ((TRIGGERED, f"{value} {sign} 2") if met else (OK, ""))


@pytest.mark.parametrize(
    ("op", "of_null", "of_a_value"),
    [
        ("IS_NULL", TRIGGERED, OK),
        ("IS_NOT_NULL", OK, TRIGGERED),
        ("LESS_THAN", OK, TRIGGERED),
        ("NOT_EQUAL", OK, TRIGGERED),
    ],
)
def test_null_meets_no_comparison_but_is_null(op: str, of_null: AlertState, of_a_value: AlertState) -> None:
    assert evaluation(op).state([{"n": None}])[0] is of_null
    assert evaluation(op).state([{"n": 0}])[0] is of_a_value


@pytest.mark.parametrize("state", AlertState)
def test_an_empty_result_is_in_the_state_that_the_alert_says(state: AlertState) -> None:
    assert evaluation("IS_NULL", empty_result_state=state).state([]) == (state, "no rows")


@pytest.mark.parametrize(
    ("limit", "value", "met"),
    [("late", "late", True), ("late", "on time", False), (True, True, True), (False, True, False), (2.5, 2.5, True)],
)
def test_texts_and_truths_are_compared_with_their_like(limit: object, value: object, met: bool) -> None:
    assert evaluation("EQUAL", limit).state([{"n": value}])[0] is (TRIGGERED if met else OK)


@pytest.mark.parametrize(("limit", "value"), [(2, "2"), (2, True), ("2", 2), (True, 1), (True, "true")])
def test_what_is_unlike_the_threshold_fails_the_evaluation(limit: object, value: object) -> None:
    with pytest.raises(TaskError, match=r"n is .*, which can't be compared with ") as error:
        evaluation("EQUAL", limit).state([{"n": value}])
    assert error.value.by_user


def test_a_column_that_the_query_lacks_fails_the_evaluation() -> None:
    with pytest.raises(TaskError, match="the query has no column n; it has: a, b"):
        evaluation("EQUAL").state([{"a": 1, "b": 2}])


@pytest.mark.parametrize(
    ("aggregation", "selected"),
    [("SUM", "SUM(`a``b`)"), ("COUNT", "COUNT(`a``b`)"), ("COUNT_DISTINCT", "COUNT(DISTINCT `a``b`)")],
)
def test_an_aggregation_is_a_query_around_the_alerts_own(aggregation: str, selected: str) -> None:
    source = {"name": "a`b", "aggregation": aggregation}
    alert = Alert(query_text="SELECT 1 AS x -- one", evaluation=evaluation("EQUAL", source=source))
    assert alert.query == f"WITH q AS (\nSELECT 1 AS x -- one\n) SELECT {selected} AS `a``b` FROM q"


@pytest.mark.parametrize("op", ["STARTS_WITH", "", "GREATER"])
def test_an_unknown_operator_is_refused(op: str) -> None:
    with pytest.raises(ValidationError, match="comparison_operator"):
        evaluation(op)


@pytest.fixture
def _a_job(project: Any, toys: Path) -> None:  # noqa: ARG001
    project.add_job("j", {"task_key": "t", "alert_task": {"alert_id": "${resources.alerts.a.id}"}})


def write_alert(project: Any, **rest: Any) -> None:
    alert = {"query_text": QUERY, "evaluation": EVALUATION, **rest}
    project.write("resources/a.alert.yml", {"resources": {"alerts": {"a": alert}}})


@pytest.mark.usefixtures("_a_job")
def test_what_only_a_workspace_needs_of_an_alert_is_not_even_resolved(project: Any) -> None:
    unknown = "${var.nothing}"
    others = ("display_name", "parent_path", "custom_summary", "custom_description")
    write_alert(project, warehouse_id=unknown, schedule={"timezone_id": unknown}, **dict.fromkeys(others, unknown))
    task = {"alert_id": "${resources.alerts.a.id}", "warehouse_id": unknown, "subscribers": [{"user_name": "ada"}]}
    project.add_job("j", {"task_key": "t", "alert_task": task})
    plan = project.plan()
    assert list(plan.alerts) == ["a"]
    assert [*map(str, plan.jobs["j"].tasks["t"].alert_task.subscribers)] == ["ada"]


@pytest.mark.usefixtures("_a_job")
@pytest.mark.parametrize(
    ("changes", "rest", "line"),
    [
        ({"comparison_operator": "LIKE"}, {}, ".evaluation.comparison_operator: Input should be 'LESS_THAN', "),
        ({"comparison_operator": "IS_NULL"}, {}, ".evaluation: IS_NULL takes no threshold"),
        ({"threshold": None}, {}, ".evaluation: GREATER_THAN needs a threshold"),
        ({"threshold": {"column": {"name": "m"}}}, {}, ".evaluation.threshold.value: is missing"),
        ({"threshold": {"value": {}}}, {}, ".evaluation.threshold.value: needs one of double_value, string_value, "),
        ({"source": {"name": "n", "display": "N"}}, {}, ".evaluation.source.display: not supported on a laptop"),
        ({"source": {"name": "n", "aggregation": "MODE"}}, {}, ".evaluation.source.aggregation: Input should be 'SUM'"),
        ({"empty_result_state": "FINE"}, {}, ".evaluation.empty_result_state: Input should be 'OK', 'TRIGGERED'"),
        ({}, {"query_text": ""}, ".query_text: String should have at least 1 character"),
        ({}, {"file_path": "a.dbalert.json"}, ".file_path: not supported on a laptop"),
        ({}, {"parameters": []}, ".parameters: not supported on a laptop"),
        ({"notification": {"webhook": "x"}}, {}, ".evaluation.notification.webhook: not supported on a laptop"),
    ],
)
def test_an_alert_that_a_laptop_cannot_evaluate_is_refused(
    project: Any, changes: dict[str, Any], rest: dict[str, Any], line: str
) -> None:
    write_alert(project, evaluation={**EVALUATION, **changes}, **rest)
    with pytest.raises(LaptopError) as refused:
        project.plan()
    assert str(refused.value).startswith(PATH + line)


def test_a_state_for_an_empty_result_must_be_said() -> None:
    """Databricks does not say which one counts otherwise."""
    with pytest.raises(ValidationError, match="empty_result_state"):
        Evaluation.model_validate({name: it for name, it in EVALUATION.items() if name != "empty_result_state"})


@pytest.mark.parametrize(
    ("alert_task", "line"),
    [
        ({"alert_id": "b"}, "resources.alerts.b: no such alert; there are: a"),
        ({"workspace_path": "/Workspace/a"}, "resources.jobs.j.tasks.t.alert_task.alert_id: is missing"),
        ({"alert_id": "a", "parameters": {}}, "resources.jobs.j.tasks.t.alert_task.parameters: not supported on a"),
        (
            {"alert_id": "${resources.alerts.b.id}"},
            "resources.jobs.j.tasks.t.alert_task.alert_id: ${resources.alerts.b.id}: there is no b in resources.alerts",
        ),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_task_evaluates_an_alert_of_the_bundle(project: Any, alert_task: dict[str, Any], line: str) -> None:
    write_alert(project)
    project.add_job("j", {"task_key": "t", "alert_task": alert_task})
    with pytest.raises(LaptopError) as refused:
        project.plan()
    assert line in str(refused.value)


def test_each_task_of_a_job_evaluates_its_alert_and_only_a_failed_evaluation_fails(
    project: Any,
    spark: object,  # noqa: ARG001
) -> None:
    def alert(query: str, **changes: Any) -> dict[str, Any]:
        return {"query_text": query, "evaluation": {**EVALUATION, **changes}}

    told = {"notification": {"subscriptions": [{"user_email": "ada@example.com"}, {"destination_id": "4"}]}}
    count = {"source": {"name": "n", "aggregation": "COUNT"}}
    alerts = {
        "ok": alert("SELECT 2 AS n"),
        "met": alert("SELECT CAST(3 AS BIGINT) AS n UNION ALL SELECT 1", **told),
        "counted": alert("SELECT * FROM VALUES (1), (2), (null), (4) AS t(n)", **count),
        "counted_none": alert("SELECT 1 AS n WHERE false", **count),
        "none": alert("SELECT 1 AS n WHERE false", empty_result_state="TRIGGERED"),
        "wrong": alert("SELECT n FROM nowhere"),
        "error": alert("SELECT 1 AS n WHERE false", empty_result_state="ERROR"),
    }
    project.write("resources/alerts.yml", {"resources": {"alerts": alerts}})
    tasks = [{"task_key": f"t_{key}", "alert_task": {"alert_id": f"${{resources.alerts.{key}.id}}"}} for key in alerts]
    tasks[2]["alert_task"]["subscribers"] = [{"user_name": "bob@example.com"}]  # type: ignore[index]
    project.add_job("j", *tasks)
    with project.opened() as (session, printed):
        (result,) = session.run(["j"], {})
    assert {task.name: (str(task.state), task.note.partition(" [")[0]) for task in result.inner} == {
        "t_ok": ("SUCCESS", "OK"),
        "t_met": ("SUCCESS", "TRIGGERED: 3 > 2"),
        "t_counted": ("SUCCESS", "TRIGGERED: 3 > 2"),
        "t_counted_none": ("SUCCESS", "OK"),
        "t_none": ("SUCCESS", "TRIGGERED: no rows"),
        "t_wrong": ("FAILED", "query_text:"),
        "t_error": ("FAILED", "ERROR: no rows"),
    }
    assert [line for line in printed.getvalue().splitlines() if "would tell" in line] == [
        "j > t_met: a workspace would tell ada@example.com, destination 4",
        "j > t_counted: a workspace would tell bob@example.com",
        "j > t_none: a workspace would tell nobody",
    ]
