"""Runs planned jobs, task after task, in this process; notebooks in a kernel beside it."""

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bundle_laptop.bundle import KeyPath
from bundle_laptop.calls import Failure, call_entry_point, call_file, find_entry_point
from bundle_laptop.dbutils import TASK, give, values_in
from bundle_laptop.errors import LaptopError
from bundle_laptop.expressions import (
    MAX_VALUE_BYTES,
    Expression,
    Fact,
    InputOf,
    ParameterOf,
    ValueOf,
    as_parameter,
    facts,
    fill_in,
)
from bundle_laptop.graph import State, decide, holds, job_failed
from bundle_laptop.model import (
    MAX_RETRY_WAIT_S,
    ConditionTask,
    Dependency,
    ForEachTask,
    Job,
    NotebookTask,
    RunJobTask,
    Task,
)
from bundle_laptop.plan import Plan, execution_order, graph_of, task_path
from bundle_laptop.results import Result, ended_line, live_line
from bundle_laptop.world import environment_of
from bundle_laptop.yaml_file import Json

MAX_NOTED_CHARACTERS = 16  # of a task value that the table shows


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What all jobs of one run share. `only` are the tasks to run of the jobs asked for; empty: all.

    `on_ended` is told each job's key, the id and the start of its run, and how it ended.
    """

    plan: Plan
    folder: Path
    console: Console
    on_ended: Callable[[str, str, datetime, Result], None]
    user_errors: Collection[str] = ()
    only: Collection[str] = ()

    def run(self, job: str, parameters: Mapping[str, str], label: str | None = None) -> Result:
        """Run one job, its parameters' defaults overridden by `parameters`."""
        only = self.only if label is None else ()
        started, run_id = datetime.now(tz=UTC), str(time.time_ns() // 1_000)
        result = _JobRun(self, job, self.plan.jobs[job], parameters, label or job, only, started, run_id).result()
        self.on_ended(job, run_id, started, result)
        return result


class _TaskError(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


@dataclass(frozen=True)
class _JobRun:
    runner: Runner
    name: str
    job: Job
    given: Mapping[str, str]
    label: str
    only: Collection[str]
    started: datetime
    run_id: str
    done: dict[str, Result] = field(default_factory=dict)

    def result(self) -> Result:
        begun = time.monotonic()
        for key in execution_order(self.job):
            if self.only and key not in self.only:
                self.done[key] = Result(name=key, state=State.EXCLUDED, note="not asked for")
                continue
            self.done[key] = self._end_of(key)
            ended_line(self.runner.console, f"{self.label} > {key}", self.done[key])
        states = {key: result.state for key, result in self.done.items()}
        failed = job_failed(graph_of(self.job), states) or (self.only and State.FAILED in states.values())
        handled = [] if failed else [key for key, state in states.items() if state.is_failure]
        return Result(
            name=self.name,
            state=State.FAILED if failed else State.SUCCESS,
            attempts=1,
            seconds=time.monotonic() - begun,
            note=f"succeeded with failures: {', '.join(handled)}" if handled else "",
            inner=tuple(self.done.values()),
        )

    def _end_of(self, key: str) -> Result:
        task = self.job.tasks[key]
        skipped = None if self.only else decide(task.run_if, [self._state_for(other) for other in task.depends_on])
        if skipped is not None:
            return Result(name=key, state=skipped, note="" if skipped is State.EXCLUDED else "not run")
        return self._tried(key, task, task_path(self.name, key), None)

    def _tried(self, key: str, task: Task, path: KeyPath, given: Json) -> Result:
        begun, attempts, result = time.monotonic(), 0, Result(name=key, state=State.FAILED)
        while result.state is State.FAILED and attempts <= task.max_retries:
            if attempts:
                note = f"attempt {attempts} of {task.max_retries + 1} failed: {result.note}"
                ended_line(self.runner.console, f"{self.label} > {key}", replace(result, note=note))
                time.sleep(min(task.min_retry_interval_millis / 1000, MAX_RETRY_WAIT_S))
            attempts += 1
            try:
                result = self._attempt(key, task, path, given)
            except _TaskError as error:
                result = Result(name=key, state=State.FAILED, note=str(error))
                if error.failure.by_user:
                    break
        return replace(result, attempts=attempts, seconds=time.monotonic() - begun)

    def _state_for(self, dependency: Dependency) -> State:
        result = self.done[dependency.task_key]
        other_way = result.state is State.SUCCESS and dependency.outcome not in (None, result.outcome)
        return State.EXCLUDED if other_way else result.state

    def _attempt(self, key: str, task: Task, path: KeyPath, given: Json) -> Result:
        if task.condition_task:
            return self._compare(key, task.condition_task, (*path, "condition_task"))
        if task.run_job_task:
            return self._run_job(key, task.run_job_task, (*path, "run_job_task", "job_parameters"), given)
        if task.for_each_task:
            return self._loop(key, task.for_each_task, (*path, "for_each_task"))
        return self._call(key, task, path, given)

    def _call(self, key: str, task: Task, path: KeyPath, given: Json) -> Result:
        """Code of the task, which may set values and, a notebook, a result."""
        folder = self.runner.folder / "task"
        base = task.notebook_task.base_parameters if task.notebook_task else {}
        here = (*path, "notebook_task", "base_parameters")
        own = {name: self._fill_in(text, (*here, name), key, given) for name, text in base.items()}
        give(folder, {**own, **self._parameters()}, {name: done.values for name, done in self.done.items()})
        with live_line(self.runner.console, f"{self.label} > {key}"), environment_of({TASK: str(folder)}):
            failure, result = self._run_code(key, task, path, folder, given)
        if failure is not None:
            raise _TaskError(failure)
        values = values_in(folder)
        for name, value in values.items():
            if len(json.dumps(value).encode()) > MAX_VALUE_BYTES:
                raise _TaskError(Failure(f"task value {name} has more than {MAX_VALUE_BYTES // 1024} KiB as JSON"))
        short = [f"{name} {value}" for name, value in values.items() if len(str(value)) <= MAX_NOTED_CHARACTERS]
        return Result(name=key, state=State.SUCCESS, values=values, note=", ".join([*short, *filter(None, [result])]))

    def _run_code(self, key: str, task: Task, path: KeyPath, folder: Path, given: Json) -> tuple[Failure | None, str]:
        errors = self.runner.user_errors
        if wheel := task.python_wheel_task:
            here = (*path, "python_wheel_task", "parameters")
            arguments = [self._fill_in(text, here, key, given) for text in wheel.arguments]
            entry_point = find_entry_point(wheel.package_name, wheel.entry_point)
            if entry_point is None:
                return Failure(f"{wheel.package_name} {wheel.entry_point}: no such entry point is installed"), ""
            return call_entry_point(entry_point, arguments, errors), ""
        if python := task.spark_python_task:
            here = (*path, "spark_python_task", "parameters")
            arguments = [self._fill_in(text, here, key, given) for text in python.parameters]
            file = self.runner.plan.bundle.file_at((*path, "spark_python_task", "python_file"), python.python_file)
            return call_file(file, arguments, errors), ""
        if notebook := task.notebook_task:
            return self._run_notebook(key, notebook, path, folder)
        raise AssertionError("the plan lets no other kind of task through")

    def _run_notebook(self, key: str, task: NotebookTask, path: KeyPath, folder: Path) -> tuple[Failure | None, str]:
        from bundle_laptop.notebook import kernel_in, run_notebook  # Jupyter takes a second to import
        from bundle_laptop.spark import keep_views

        if "SPARK_REMOTE" not in os.environ:  # the kernel has a session of its own
            keep_views(self.runner.folder)
        where = (*path, "notebook_task", "notebook_path")
        file = self.runner.plan.bundle.file_at(where, task.notebook_path, (".py", ".ipynb"))
        page = self.runner.folder / "runs" / self.run_id / f"{self.name}.{key}.html"
        try:
            with kernel_in(file.parent) as kernel:
                ended = run_notebook(file, page, folder, kernel)
        except LaptopError as error:
            return Failure(str(error), by_user=True), ""
        return Failure(f"{ended.failure}; see {page}") if ended.failure else None, ended.result

    def _compare(self, key: str, condition: ConditionTask, path: KeyPath) -> Result:
        left, right = (self._fill_in(text, path, key, None) for text in (condition.left, condition.right))
        try:
            outcome = str(holds(condition.op, left, right)).lower()
        except ValueError:
            why = f"{condition.op} compares numbers, got {left!r} and {right!r}"
            raise _TaskError(Failure(why, by_user=True)) from None
        return Result(name=key, state=State.SUCCESS, outcome=outcome, note=f"{left} {condition.op} {right}: {outcome}")

    def _run_job(self, key: str, task: RunJobTask, path: KeyPath, given: Json) -> Result:
        # As documented, a job's parameters are pushed down to a job that has parameters of the same name.
        known = self.runner.plan.jobs[task.job_id].parameters
        pushed = {name: value for name, value in self._parameters().items() if name in known}
        own = {name: self._fill_in(text, path, key, given) for name, text in task.job_parameters.items()}
        result = self.runner.run(task.job_id, {**own, **pushed}, f"{self.label} > {key}")
        return replace(result, name=key, note=f"job {task.job_id}" + (f", {result.note}" if result.note else ""))

    def _loop(self, key: str, task: ForEachTask, path: KeyPath) -> Result:
        text = self._fill_in(task.inputs, (*path, "inputs"), key, None, as_inputs=True)
        try:
            inputs = json.loads(text)
        except ValueError:
            inputs = None
        if not isinstance(inputs, list):
            raise _TaskError(Failure(f"inputs must be a list as JSON, got {text!r}", by_user=True))
        inner = [self._tried(f"{key}[{index}]", task.task, (*path, "task"), each) for index, each in enumerate(inputs)]
        failed = sum(result.state is State.FAILED for result in inner)
        note = f"{len(inner)} inputs" + (f", {failed} failed" if failed else "")
        return Result(name=key, state=State.FAILED if failed else State.SUCCESS, note=note, inner=tuple(inner))

    def _facts(self, task: str) -> dict[str, str]:
        name = self.job.name or self.name
        return facts(job=self.name, name=name, run=self.run_id, task=task, started=self.started)

    def _parameters(self) -> dict[str, str]:
        defaults = {name: parameter.default for name, parameter in self.job.parameters.items()}
        return {name: self._fill_in(text, (), "", None) for name, text in {**defaults, **self.given}.items()}

    def _fill_in(self, text: str, path: KeyPath, task: str, given: Json, *, as_inputs: bool = False) -> str:
        def value(expression: Expression) -> str:
            match expression:
                case ParameterOf(name):
                    return self._parameters()[name]
                case ValueOf(other, name):
                    found = self.done[other].values.get(name)
                    if as_inputs and isinstance(found, list):
                        return json.dumps(found)
                    return self._text_of(self.done[other].values, name, f"task {other}", path)
                case InputOf(None):
                    return given if isinstance(given, str) else json.dumps(given)
                case InputOf(name):
                    return self._text_of(given if isinstance(given, dict) else {}, str(name), "the input", path)
                case Fact(name):
                    return self._facts(task)[name]

        return fill_in(text, value)

    def _text_of(self, values: Mapping[str, Json], name: str, whose: str, path: KeyPath) -> str:
        bundle = self.runner.plan.bundle
        if name not in values:
            raise _TaskError(Failure(str(bundle.error(path, f"{whose} did not set its value {name}"))))
        try:
            return as_parameter(values[name])
        except ValueError as error:
            raise _TaskError(Failure(str(bundle.error(path, f"value {name} of {whose} {error}")))) from None
