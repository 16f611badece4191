"""The order of tasks and their states, against Databricks' documentation of run_if."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle_laptop.graph import (
    Op,
    RunIf,
    State,
    cycle_in,
    decide,
    holds,
    job_failed,
    ordered,
    undecided,
    upstream_of,
)

S, F, U, X = State.SUCCESS, State.FAILED, State.UPSTREAM_FAILED, State.EXCLUDED
RUNS = None


@pytest.mark.parametrize(
    ("run_if", "upstream", "expected"),
    [
        (RunIf.ALL_SUCCESS, [], RUNS),
        (RunIf.ALL_SUCCESS, [S, S], RUNS),
        (RunIf.ALL_SUCCESS, [S, F], U),
        (RunIf.ALL_SUCCESS, [S, U], U),
        (RunIf.ALL_SUCCESS, [F, X], U),
        (RunIf.ALL_SUCCESS, [X, X], X),
        (RunIf.ALL_DONE, [F, S], RUNS),
        (RunIf.ALL_DONE, [F, U], RUNS),
        (RunIf.ALL_DONE, [X], X),
        (RunIf.NONE_FAILED, [S, X], RUNS),
        (RunIf.NONE_FAILED, [S, F], U),
        (RunIf.NONE_FAILED, [X], X),
        (RunIf.AT_LEAST_ONE_SUCCESS, [S, F], RUNS),
        (RunIf.AT_LEAST_ONE_SUCCESS, [F, U], U),
        (RunIf.ALL_FAILED, [F, U], RUNS),
        (RunIf.ALL_FAILED, [F, S], X),
        (RunIf.ALL_FAILED, [F, X], X),
        (RunIf.AT_LEAST_ONE_FAILED, [S, F], RUNS),
        (RunIf.AT_LEAST_ONE_FAILED, [S, U], RUNS),
        (RunIf.AT_LEAST_ONE_FAILED, [S, S], X),
        (RunIf.AT_LEAST_ONE_FAILED, [X, X], X),
    ],
)
def test_a_task_runs_or_is_skipped_as_its_run_if_says(
    run_if: RunIf, upstream: list[State], expected: State | None
) -> None:
    assert decide(run_if, upstream) is expected


@pytest.mark.parametrize(
    ("op", "left", "right", "expected"),
    [
        (Op.EQUAL_TO, "PASS", "PASS", True),
        (Op.EQUAL_TO, "12.0", "12", False),
        (Op.NOT_EQUAL, "12.0", "12", True),
        (Op.GREATER_THAN, "9", "10", False),
        (Op.GREATER_THAN, "10", "10", False),
        (Op.GREATER_THAN, "11", "10", True),
        (Op.GREATER_THAN_OR_EQUAL, "12.0", "12", True),
        (Op.GREATER_THAN_OR_EQUAL, "10.0", "12", False),
        (Op.LESS_THAN, "9", "10", True),
        (Op.LESS_THAN, "10", "10", False),
        (Op.LESS_THAN_OR_EQUAL, "10", "10.0", True),
        (Op.LESS_THAN_OR_EQUAL, "10.1", "10", False),
    ],
)
def test_equality_compares_texts_and_order_compares_numbers(op: Op, left: str, right: str, expected: bool) -> None:
    assert holds(op, left, right) is expected


def test_an_ordered_comparison_of_what_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="PASS"):
        holds(Op.LESS_THAN, "PASS", "1")


def test_a_cycle_is_found_and_named() -> None:
    assert set(cycle_in({"a": ["b"], "b": ["c"], "c": ["a"], "d": []})) == {"a", "b", "c"}
    assert cycle_in({"a": [], "b": ["a"]}) == ()


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        ({"a": S, "b": S, "c": S}, False),
        ({"a": F, "b": S, "c": S}, False),  # handled by the leaves
        ({"a": S, "b": X, "c": S}, False),
        ({"a": S, "b": F, "c": S}, True),
        ({"a": F, "b": U, "c": S}, True),
    ],
)
def test_a_job_fails_if_and_only_if_one_of_its_leaves_does(states: dict[str, State], failed: bool) -> None:
    assert job_failed({"a": [], "b": ["a"], "c": ["a"]}, states) is failed


@pytest.mark.parametrize(
    ("graph", "run_if", "outcomes", "unclear"),
    [
        ({"if": [], "a": ["if"]}, {}, {"a": {"if"}}, None),
        ({"if": [], "a": ["if"], "b": ["a"]}, {}, {"a": {"if"}}, None),
        ({"if": [], "x": [], "a": ["if", "x"]}, {}, {"a": {"if"}}, "a"),
        ({"if": [], "a": ["if"], "x": [], "b": ["a", "x"]}, {}, {"a": {"if"}}, "b"),
        ({"if": [], "a": ["if"], "x": [], "b": ["a", "x"]}, {"b": RunIf.NONE_FAILED}, {"a": {"if"}}, None),
        ({"if": [], "a": ["if"], "x": [], "b": ["a", "x"]}, {"b": RunIf.AT_LEAST_ONE_SUCCESS}, {"a": {"if"}}, "b"),
        ({"x": [], "a": ["x"], "b": ["a", "x"]}, {"a": RunIf.ALL_FAILED}, {}, "b"),
    ],
)
def test_what_databricks_leaves_open_about_excluded_dependencies_is_noticed(
    graph: dict[str, list[str]], run_if: dict[str, RunIf], outcomes: dict[str, set[str]], unclear: str | None
) -> None:
    all_run_if = {task: run_if.get(task, RunIf.ALL_SUCCESS) for task in graph}
    assert undecided(graph, all_run_if, {task: frozenset(outcomes.get(task, ())) for task in graph}) == unclear


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"t{index}" for index in range(draw(st.integers(1, 12)))]
    edges = {
        name: draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        for index, name in enumerate(names)
    }
    return {name: edges[name] for name in draw(st.permutations(names))}


@given(graphs(), st.data())
def test_a_task_comes_after_its_dependencies_and_never_runs_below_a_failure(
    graph: dict[str, list[str]], data: st.DataObject
) -> None:
    order = ordered(graph)
    assert sorted(order) == sorted(graph)
    assert all(order.index(other) < order.index(task) for task, upstream in graph.items() for other in upstream)

    failing = data.draw(st.sets(st.sampled_from(sorted(graph))))
    states: dict[str, State] = {}
    for task in order:
        skipped = decide(RunIf.ALL_SUCCESS, [states[other] for other in graph[task]])
        states[task] = skipped or (F if task in failing else S)
    ran = {task for task, state in states.items() if state is not U}
    assert ran == {task for task in graph if not upstream_of(graph, task) & failing}
    assert job_failed(graph, states) is bool(failing)
