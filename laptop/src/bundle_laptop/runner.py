"""Runs planned jobs, task after task, in this process; notebooks in a kernel beside it."""

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from rich.console import Console

from bundle_laptop.alerts import AlertState
from bundle_laptop.bundle import KeyPath
from bundle_laptop.calls import TaskError, call_entry_point, call_file
from bundle_laptop.dbutils import TASK, give, values_in
from bundle_laptop.errors import LaptopError
from bundle_laptop.expressions import MAX_VALUE_BYTES, Expression, as_parameter, facts, fill_in
from bundle_laptop.graph import State, decide, holds, job_failed, ordered
from bundle_laptop.model import (
    MAX_RETRY_WAIT_S,
    AlertTask,
    ConditionTask,
    Dependency,
    ForEachTask,
    NotebookTask,
    RunJobTask,
    Task,
)
from bundle_laptop.plan import NOTEBOOK_ENDINGS, Plan, list_in, task_path
from bundle_laptop.results import Result, ended_line, live_line
from bundle_laptop.world import environment_of
from bundle_laptop.yaml_file import Json

MAX_NOTED_CHARACTERS = 16  # of a task value that the table shows
_P = TypeVar("_P", bound=BaseModel)


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
        """Run one job, its parameters' defaults overridden by `parameters`; `label` names one that another runs."""
        run = _JobRun(self, job, parameters, label or job, self.only if label is None else ())
        result = run.result()
        self.on_ended(job, run.run_id, run.started, result)
        return result


class _JobRun:
    def __init__(self, runner: Runner, key: str, given: Mapping[str, str], label: str, only: Collection[str]) -> None:
        self.runner, self.key, self.job, self.label, self.only = runner, key, runner.plan.jobs[key], label, only
        self.started, self.run_id = datetime.now(tz=UTC), str(time.time_ns() // 1_000)
        self.done: dict[str, Result] = {}
        self.parameters: dict[str, str] = {}  # until they are filled in, they may refer to facts only
        defaults = {name: parameter.default for name, parameter in self.job.parameters.items()}
        self.parameters = {name: self._fill_in(text, (), "") for name, text in {**defaults, **given}.items()}

    def result(self) -> Result:
        begun = time.monotonic()
        for key in ordered(self.job.graph):
            if self.only and key not in self.only:
                self.done[key] = Result(name=key, state=State.EXCLUDED, note="not asked for")
                continue
            self.done[key] = self._end_of(key, self.job.tasks[key])
            ended_line(self.runner.console, f"{self.label} > {key}", self.done[key])
        states = {key: result.state for key, result in self.done.items()}
        failed = job_failed(self.job.graph, states) or (self.only and State.FAILED in states.values())
        handled = [] if failed else [key for key, state in states.items() if state.is_failure]
        return Result(
            name=self.key,
            state=State.FAILED if failed else State.SUCCESS,
            attempts=1,
            seconds=time.monotonic() - begun,
            note=f"succeeded with failures: {', '.join(handled)}" if handled else "",
            inner=tuple(self.done.values()),
        )

    def _end_of(self, key: str, task: Task) -> Result:
        skipped = None if self.only else decide(task.run_if, [self._state_for(other) for other in task.depends_on])
        if skipped is not None:
            return Result(name=key, state=skipped, note="" if skipped is State.EXCLUDED else "not run")
        return self._tried(key, task, task_path(self.key, key), None)

    def _state_for(self, dependency: Dependency) -> State:
        result = self.done[dependency.task_key]
        other_way = result.state is State.SUCCESS and dependency.outcome not in (None, result.outcome)
        return State.EXCLUDED if other_way else result.state

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
            except TaskError as error:
                result = Result(name=key, state=State.FAILED, note=str(error))
                if error.by_user:
                    break
        return replace(result, attempts=attempts, seconds=time.monotonic() - begun)

    def _attempt(self, key: str, task: Task, path: KeyPath, given: Json) -> Result:
        if task.for_each_task:
            return self._loop(key, task.for_each_task, (*path, "for_each_task"))
        if task.condition_task:
            return self._compare(key, self._filled(task.condition_task, (*path, "condition_task"), key, given))
        if task.run_job_task:
            return self._run_job(key, self._filled(task.run_job_task, (*path, "run_job_task"), key, given))
        if task.alert_task:
            return self._evaluate(key, self._filled(task.alert_task, (*path, "alert_task"), key, given))
        return self._run_code(key, self._filled(task, path, key, given), path)

    def _run_code(self, key: str, task: Task, path: KeyPath) -> Result:
        """Code of the task, which may set values and, a notebook, a result."""
        folder, errors, result = self.runner.folder / "task", self.runner.user_errors, ""
        own = task.notebook_task.base_parameters if task.notebook_task else {}
        give(folder, {**own, **self.parameters}, {name: done.values for name, done in self.done.items()})
        with live_line(self.runner.console, f"{self.label} > {key}"), environment_of({TASK: str(folder)}):
            if wheel := task.python_wheel_task:
                call_entry_point(wheel.package_name, wheel.entry_point, wheel.arguments, errors)
            elif python := task.spark_python_task:
                where = (*path, "spark_python_task", "python_file")
                call_file(self.runner.plan.bundle.file_at(where, python.python_file), python.parameters, errors)
            elif task.notebook_task:
                result = self._run_notebook(key, task.notebook_task, path, folder)
        values = values_in(folder)
        for name, value in values.items():
            if len(json.dumps(value).encode()) > MAX_VALUE_BYTES:
                raise TaskError(f"task value {name} has more than {MAX_VALUE_BYTES // 1024} KiB as JSON")
        notes = [f"{name} {value}" for name, value in values.items() if len(str(value)) <= MAX_NOTED_CHARACTERS]
        return Result(name=key, state=State.SUCCESS, values=values, note=", ".join(filter(None, [*notes, result])))

    def _run_notebook(self, key: str, task: NotebookTask, path: KeyPath, folder: Path) -> str:
        from bundle_laptop.notebook import kernel_in, run_notebook  # Jupyter takes a second to import
        from bundle_laptop.spark import keep_views

        if "SPARK_REMOTE" not in os.environ:  # the kernel has a session of its own
            keep_views(self.runner.folder)
        where = (*path, "notebook_task", "notebook_path")
        file = self.runner.plan.bundle.file_at(where, task.notebook_path, NOTEBOOK_ENDINGS)
        page = self.runner.folder / "runs" / self.run_id / f"{self.key}.{key}.html"
        try:
            with kernel_in(file.parent) as kernel:
                ended = run_notebook(file, page, folder, kernel)
        except LaptopError as error:
            raise TaskError(str(error), by_user=True) from None
        if ended.failure:
            raise TaskError(f"{ended.failure}; see {page}")
        return ended.result

    def _compare(self, key: str, task: ConditionTask) -> Result:
        try:
            outcome = str(holds(task.op, task.left, task.right)).lower()
        except ValueError:
            why = f"{task.op} compares numbers, got {task.left!r} and {task.right!r}"
            raise TaskError(why, by_user=True) from None
        note = f"{task.left} {task.op} {task.right}: {outcome}"
        return Result(name=key, state=State.SUCCESS, outcome=outcome, note=note)

    def _evaluate(self, key: str, task: AlertTask) -> Result:
        from pyspark.sql import SparkSession

        alert, label = self.runner.plan.alerts[task.alert_id], f"{self.label} > {key}"
        with live_line(self.runner.console, label):
            state, why = alert.evaluated(SparkSession.builder.getOrCreate())
        note = f"{state}: {why}" if why else str(state)
        if state is AlertState.ERROR:
            raise TaskError(note, by_user=True)
        if state is AlertState.TRIGGERED:
            told = ", ".join(map(str, task.subscribers or alert.evaluation.notification.subscriptions))
            line = f"{label}: a workspace would tell {told or 'nobody'}"
            self.runner.console.print(line, markup=False, highlight=False, soft_wrap=True)
        return Result(name=key, state=State.SUCCESS, note=note)

    def _run_job(self, key: str, task: RunJobTask) -> Result:
        # As documented, a job's parameters are pushed down to a job that has parameters of the same name.
        known = self.runner.plan.jobs[task.job_id].parameters
        pushed = {name: value for name, value in self.parameters.items() if name in known}
        result = self.runner.run(task.job_id, {**task.job_parameters, **pushed}, f"{self.label} > {key}")
        return replace(result, name=key, note=f"job {task.job_id}" + (f", {result.note}" if result.note else ""))

    def _loop(self, key: str, task: ForEachTask, path: KeyPath) -> Result:
        text = self._fill_in(task.inputs, (*path, "inputs"), key)
        inputs = list_in(text)
        if inputs is None:
            raise TaskError(f"inputs must be a list as JSON, got {text!r}", by_user=True)
        inner = [self._tried(f"{key}[{index}]", task.task, (*path, "task"), each) for index, each in enumerate(inputs)]
        failed = sum(result.state is State.FAILED for result in inner)
        note = f"{len(inner)} inputs" + (f", {failed} failed" if failed else "")
        return Result(name=key, state=State.FAILED if failed else State.SUCCESS, note=note, inner=tuple(inner))

    def _filled(self, part: _P, path: KeyPath, task: str, given: Json) -> _P:
        """A part of the job, which stands at `path`, with the expressions in its texts replaced."""

        def filled(value: object, path: KeyPath) -> object:
            if isinstance(value, dict):
                return {key: filled(item, (*path, key)) for key, item in value.items()}
            if isinstance(value, tuple):
                return [filled(item, (*path, index)) for index, item in enumerate(value)]
            return self._fill_in(value, path, task, given) if isinstance(value, str) else value

        return type(part).model_validate(filled(part.model_dump(), path))

    def _fill_in(self, text: str, path: KeyPath, task: str, given: Json = None) -> str:
        def value(expression: Expression) -> str:
            kind, name, other = expression
            if kind == "parameter":
                return self.parameters[name]
            if kind == "fact":
                job_name, started = self.job.name or self.key, self.started
                return facts(job=self.key, name=job_name, run=self.run_id, task=task, started=started)[name]
            if kind == "input" and not name:
                return given if isinstance(given, str) else json.dumps(given)
            if kind == "input":
                return self._text_of(given if isinstance(given, dict) else {}, name, "the input", path)
            values = self.done[other].values
            if path[-1:] == ("inputs",) and isinstance(values.get(name), list):
                return json.dumps(values[name])
            return self._text_of(values, name, f"task {other}", path)

        return fill_in(text, value)

    def _text_of(self, values: Mapping[str, Json], name: str, whose: str, path: KeyPath) -> str:
        bundle = self.runner.plan.bundle
        if name not in values:
            raise TaskError(str(bundle.error(path, f"{whose} did not set its value {name}")))
        try:
            return as_parameter(values[name])
        except ValueError as error:
            raise TaskError(str(bundle.error(path, f"value {name} of {whose} {error}"))) from None
