"""Runs planned jobs, task after task, in this process."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flight_delays.local.bundle import KeyPath
from flight_delays.local.expressions import (
    MAX_VALUE_BYTES,
    Expression,
    ParameterOf,
    ValueOf,
    as_parameter,
    fill_in,
    trigger_time,
)
from flight_delays.local.graph import State, decide, holds, job_failed
from flight_delays.local.model import MAX_RETRY_WAIT_S, ConditionTask, Dependency, Job, RunJobTask, Task, WheelTask
from flight_delays.local.plan import Plan, execution_order, graph_of, task_path
from flight_delays.local.results import Result, ended_line, live_line
from flight_delays.local.wheel import call, find_entry_point
from flight_delays.local.yaml_file import Json
from flight_delays.platform.runtime import LOCAL_DIR, TASK_VALUES


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What all runs share."""

    plan: Plan
    local_dir: Path
    console: Console

    def run(self, job: str, parameters: Mapping[str, str], label: str | None = None) -> Result:
        """Run one job, its parameters' defaults overridden by `parameters`."""
        return _JobRun(self, job, self.plan.jobs[job], parameters, label or job).result()


MAX_NOTED_CHARACTERS = 16  # of a task value that the table shows


class _TaskError(Exception):
    """Why, in one line."""


@dataclass(frozen=True)
class _JobRun:
    runner: Runner
    name: str
    job: Job
    given: Mapping[str, str]
    label: str
    triggered: str = field(default_factory=lambda: trigger_time(datetime.now(tz=UTC)))
    done: dict[str, Result] = field(default_factory=dict)

    def result(self) -> Result:
        started = time.monotonic()
        for key in execution_order(self.job):
            self.done[key] = self._end_of(key)
            ended_line(self.runner.console, f"{self.label} > {key}", self.done[key])
        states = {key: result.state for key, result in self.done.items()}
        failed = job_failed(graph_of(self.job), states)
        handled = [] if failed else [key for key, state in states.items() if state.is_failure]
        return Result(
            name=self.name,
            state=State.FAILED if failed else State.SUCCESS,
            attempts=1,
            seconds=time.monotonic() - started,
            note=f"succeeded with failures: {', '.join(handled)}" if handled else "",
            inner=tuple(self.done.values()),
        )

    def _end_of(self, key: str) -> Result:
        task = self.job.tasks[key]
        skipped = decide(task.run_if, [self._state_for(dependency) for dependency in task.depends_on])
        if skipped is not None:
            return Result(name=key, state=skipped, note="" if skipped is State.EXCLUDED else "not run")
        started, attempts, result = time.monotonic(), 0, Result(name=key, state=State.FAILED)
        while result.state is State.FAILED and attempts <= task.max_retries:
            if attempts:
                note = f"attempt {attempts} of {task.max_retries + 1} failed: {result.note}"
                ended_line(self.runner.console, f"{self.label} > {key}", replace(result, note=note))
                time.sleep(min(task.min_retry_interval_millis / 1000, MAX_RETRY_WAIT_S))
            attempts += 1
            try:
                result = self._attempt(key, task)
            except _TaskError as failure:
                result = Result(name=key, state=State.FAILED, note=str(failure))
        return replace(result, attempts=attempts, seconds=time.monotonic() - started)

    def _state_for(self, dependency: Dependency) -> State:
        result = self.done[dependency.task_key]
        other_way = result.state is State.SUCCESS and dependency.outcome not in (None, result.outcome)
        return State.EXCLUDED if other_way else result.state

    def _attempt(self, key: str, task: Task) -> Result:
        path = task_path(self.name, key)
        if task.python_wheel_task:
            return self._call(key, task.python_wheel_task, (*path, "python_wheel_task", "parameters"))
        if task.condition_task:
            return self._compare(key, task.condition_task, (*path, "condition_task"))
        if task.run_job_task:
            return self._run_job(key, task.run_job_task, (*path, "run_job_task", "job_parameters"))
        raise AssertionError("the plan lets no other kind of task through")

    def _call(self, key: str, wheel: WheelTask, path: KeyPath) -> Result:
        parameters = [self._fill_in(text, path) for text in wheel.parameters]
        entry_point = find_entry_point(wheel.package_name, wheel.entry_point)
        if entry_point is None:
            raise _TaskError(f"{wheel.package_name} {wheel.entry_point}: no such entry point is installed")
        self.runner.local_dir.mkdir(parents=True, exist_ok=True)
        file = self.runner.local_dir / "task_values.json"
        file.unlink(missing_ok=True)
        with live_line(self.runner.console, f"{self.label} > {key}"):
            why = call(entry_point, parameters, {LOCAL_DIR: str(self.runner.local_dir), TASK_VALUES: str(file)})
        if why is not None:
            raise _TaskError(why)
        values: dict[str, Json] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        for name, value in values.items():
            if len(json.dumps(value).encode()) > MAX_VALUE_BYTES:
                raise _TaskError(f"task value {name} has more than {MAX_VALUE_BYTES // 1024} KiB as JSON")
        short = [f"{name} {value}" for name, value in values.items() if len(str(value)) <= MAX_NOTED_CHARACTERS]
        return Result(name=key, state=State.SUCCESS, values=values, note=", ".join(short))

    def _compare(self, key: str, condition: ConditionTask, path: KeyPath) -> Result:
        left, right = self._fill_in(condition.left, path), self._fill_in(condition.right, path)
        try:
            outcome = str(holds(condition.op, left, right)).lower()
        except ValueError:
            raise _TaskError(f"{condition.op} compares numbers, got {left!r} and {right!r}") from None
        return Result(name=key, state=State.SUCCESS, outcome=outcome, note=f"{left} {condition.op} {right}: {outcome}")

    def _run_job(self, key: str, task: RunJobTask, path: KeyPath) -> Result:
        # As documented, a job's parameters are pushed down to a job that has parameters of the same name.
        known = self.runner.plan.jobs[task.job_id].parameters
        pushed = {name: value for name, value in self._parameters().items() if name in known}
        given = {name: self._fill_in(text, path) for name, text in task.job_parameters.items()}
        result = self.runner.run(task.job_id, {**given, **pushed}, f"{self.label} > {key}")
        return replace(result, name=key, note=f"job {task.job_id}" + (f", {result.note}" if result.note else ""))

    def _parameters(self) -> dict[str, str]:
        defaults = {name: parameter.default for name, parameter in self.job.parameters.items()}
        return {name: fill_in(text, lambda _: self.triggered) for name, text in {**defaults, **self.given}.items()}

    def _fill_in(self, text: str, path: KeyPath) -> str:
        def value(expression: Expression) -> str:
            match expression:
                case ParameterOf(name):
                    return self._parameters()[name]
                case ValueOf(task, name):
                    return self._task_value(task, name, path)
            return self.triggered

        return fill_in(text, value)

    def _task_value(self, task: str, name: str, path: KeyPath) -> str:
        values = self.done[task].values
        if name not in values:
            raise _TaskError(str(self.runner.plan.bundle.error(path, f"task {task} did not set its value {name}")))
        try:
            return as_parameter(values[name])
        except ValueError as error:
            raise _TaskError(str(self.runner.plan.bundle.error(path, f"value {name} of task {task} {error}"))) from None
