"""Pure: the order of tasks, and the state of each from its upstream states, as Databricks documents them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

Graph = Mapping[str, Sequence[str]]
"""Task to the tasks that it depends on."""


class State(StrEnum):
    """How a task ended. An excluded task was skipped, and counts as successful for the job."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    UPSTREAM_FAILED = "UPSTREAM_FAILED"
    EXCLUDED = "EXCLUDED"

    @property
    def is_failure(self) -> bool:
        """Whether run_if counts it as failed."""
        return self in (State.FAILED, State.UPSTREAM_FAILED)


class RunIf(StrEnum):
    """When a task runs, given how its dependencies ended."""

    ALL_SUCCESS = "ALL_SUCCESS"
    ALL_DONE = "ALL_DONE"
    NONE_FAILED = "NONE_FAILED"
    AT_LEAST_ONE_SUCCESS = "AT_LEAST_ONE_SUCCESS"
    ALL_FAILED = "ALL_FAILED"
    AT_LEAST_ONE_FAILED = "AT_LEAST_ONE_FAILED"


class Op(StrEnum):
    """Operator of a condition task."""

    EQUAL_TO = "EQUAL_TO"
    NOT_EQUAL = "NOT_EQUAL"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_OR_EQUAL = "GREATER_THAN_OR_EQUAL"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_OR_EQUAL = "LESS_THAN_OR_EQUAL"


_FAILURE_HANDLERS = (RunIf.ALL_FAILED, RunIf.AT_LEAST_ONE_FAILED)


def ordered(graph: Graph) -> tuple[str, ...]:
    """Every task after those it depends on. Raises graphlib.CycleError (see `cycle_in`)."""
    return tuple(TopologicalSorter(graph).static_order())


def cycle_in(graph: Graph) -> tuple[str, ...]:
    """The tasks of one cycle, first and last the same; empty if there is none."""
    try:
        ordered(graph)
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def upstream_of(graph: Graph, task: str) -> frozenset[str]:
    """All tasks that must have ended before `task` starts."""
    direct = frozenset(graph[task])
    return direct.union(*(upstream_of(graph, other) for other in direct))


def decide(run_if: RunIf, upstream: Sequence[State]) -> State | None:
    """The state of a task that does not run; None: it runs.

    An upstream condition task whose outcome is not the wanted one counts as EXCLUDED.
    """
    if not upstream:
        return None
    if set(upstream) == {State.EXCLUDED}:
        return State.EXCLUDED
    failed = [state.is_failure for state in upstream]
    met = {
        RunIf.ALL_SUCCESS: not any(failed),
        RunIf.NONE_FAILED: not any(failed),
        RunIf.AT_LEAST_ONE_SUCCESS: State.SUCCESS in upstream,
        RunIf.ALL_DONE: True,
        RunIf.ALL_FAILED: all(failed),
        RunIf.AT_LEAST_ONE_FAILED: any(failed),
    }
    if met[run_if]:
        return None
    return State.EXCLUDED if run_if in _FAILURE_HANDLERS else State.UPSTREAM_FAILED


def undecided(graph: Graph, run_if: Mapping[str, RunIf], outcomes: Mapping[str, frozenset[str]]) -> str | None:
    """A task whose run_if leaves open what happens when some, but not all, of its dependencies are excluded.

    ALL_SUCCESS asks for dependencies that "have run", yet an excluded one "is treated as successful": Databricks does
    not say which holds. `outcomes` has the dependencies for which a task wants a certain outcome.
    """
    may_be_excluded: set[str] = set()
    for task in ordered(graph):
        open_ones = [other for other in graph[task] if other in outcomes[task] or other in may_be_excluded]
        if len(graph[task]) > 1 and open_ones and run_if[task] in (RunIf.ALL_SUCCESS, RunIf.AT_LEAST_ONE_SUCCESS):
            return task
        if graph[task] and (len(open_ones) == len(graph[task]) or run_if[task] in _FAILURE_HANDLERS):
            may_be_excluded.add(task)
    return None


def job_failed(graph: Graph, states: Mapping[str, State]) -> bool:
    """A job fails if a leaf (a task on which none depends) failed; a failure that a later task handled is none."""
    inner = {other for upstream in graph.values() for other in upstream}
    return any(states[task].is_failure for task in graph if task not in inner)


def holds(op: Op, left: str, right: str) -> bool:
    """A condition: equality compares strings, order compares numbers. Raises ValueError for what is no number."""
    if op in (Op.EQUAL_TO, Op.NOT_EQUAL):
        return (left == right) is (op is Op.EQUAL_TO)
    a, b = float(left), float(right)
    return {
        Op.GREATER_THAN: a > b,
        Op.GREATER_THAN_OR_EQUAL: a >= b,
        Op.LESS_THAN: a < b,
        Op.LESS_THAN_OR_EQUAL: a <= b,
    }[op]
