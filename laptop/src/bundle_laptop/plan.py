"""What will run: the jobs asked for and those that they run, checked whole before anything is started."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bundle_laptop.alerts import KEYS_WITHOUT_EFFECT as ALERT_KEYS_WITHOUT_EFFECT
from bundle_laptop.alerts import Alert
from bundle_laptop.bundle import Bundle, KeyPath
from bundle_laptop.calls import find_entry_point
from bundle_laptop.expressions import Expression, expressions
from bundle_laptop.graph import cycle_in, undecided, upstream_of
from bundle_laptop.model import JOB_KEYS_WITHOUT_EFFECT, KINDS, TASK_KEYS_WITHOUT_EFFECT, Job, Task
from bundle_laptop.references import Resolver
from bundle_laptop.yaml_file import Json, Tree

NOTEBOOK_ENDINGS = (".py", ".ipynb")
# `branch` and `postgres_database` say where in Lakebase a table is synced to: here there is one online store.
_NOT_DEPLOYED = ("lifecycle", "permissions", "grants", "branch", "postgres_database")
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What the jobs need to exist: full names, and of endpoints and synced tables what the bundle says of them."""

    schemas: tuple[str, ...] = ()
    registered_models: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    volumes: tuple[Path, ...] = ()
    endpoints: tuple[Tree, ...] = ()
    secret_scopes: tuple[str, ...] = ()
    synced_tables: tuple[Tree, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Checked jobs by key: those asked for and those that they run; and the alerts that these evaluate."""

    bundle: Bundle
    jobs: Mapping[str, Job]
    alerts: Mapping[str, Alert]
    deployment: Deployment


def task_path(job: str, task: str) -> KeyPath:
    """Where a task stands in the bundle."""
    return ("resources", "jobs", job, "tasks", task)


def make_plan(resolver: Resolver, names: Iterable[str]) -> Plan:
    """Resolve and check jobs. Raises LaptopError for the first thing that a workspace would do and a laptop cannot."""
    jobs: dict[str, Job] = {}
    for name in names:
        _add(resolver, name, jobs, ())
    alerts = {key: _alert(resolver, key) for job in jobs.values() for key in job.alerts}
    return Plan(bundle=resolver.bundle, jobs=jobs, alerts=alerts, deployment=_deployment(resolver))


def check_parameters(plan: Plan, job: str, given: Mapping[str, str]) -> None:
    """Raises LaptopError for a parameter that the job lacks, or a value that a workspace would fill in."""
    for name, value in given.items():
        path: KeyPath = ("resources", "jobs", job, "parameters", name)
        if name not in plan.jobs[job].parameters:
            known = ", ".join(plan.jobs[job].parameters) or "none"
            raise plan.bundle.error(path, f"no such parameter of job {job}; it has: {known}")
        _expressions(plan.bundle, path, value, only_facts=True)


def _add(resolver: Resolver, name: str, jobs: dict[str, Job], callers: tuple[str, ...]) -> None:
    bundle, path = resolver.bundle, ("resources", "jobs", name)
    known = bundle.map_at(("resources", "jobs"))
    if name not in known:
        raise bundle.error(path, f"no such job; there are: {', '.join(sorted(known)) or 'none'}")
    if name in callers:
        raise bundle.error(path, f"runs itself: {' -> '.join([*callers, name])}")
    if name in jobs:
        return
    job = _parse(resolver, name)
    _check_graph(bundle, name, job)
    for key, parameter in job.parameters.items():
        _expressions(bundle, (*path, "parameters", key, "default"), parameter.default, only_facts=True)
    for key, task in job.tasks.items():
        here = task_path(name, key)
        _check_task(bundle, here, task)
        for place, text in _texts(task):
            _check_text(bundle, name, job, key, (*here, *place), text)
        for called in [task, task.for_each_task.task] if task.for_each_task else [task]:
            if run_job := called.run_job_task:
                _add(resolver, run_job.job_id, jobs, (*callers, name))
                there = (*here, "run_job_task", "job_parameters")
                _check_passed(bundle, there, job, jobs[run_job.job_id], run_job.job_parameters)
    jobs[name] = job


def _parse(resolver: Resolver, name: str) -> Job:
    bundle, path = resolver.bundle, ("resources", "jobs", name)
    # What has no effect here is not even resolved: it may need variables that a laptop lacks.
    raw: Tree = {key: value for key, value in bundle.map_at(path).items() if key not in JOB_KEYS_WITHOUT_EFFECT}
    raw["tasks"] = {task: _with_effect(its) for task, its in bundle.map_at((*path, "tasks")).items()}
    return _validated(resolver, Job, raw, path)


def _alert(resolver: Resolver, name: str) -> Alert:
    bundle, path = resolver.bundle, ("resources", "alerts", name)
    known = bundle.map_at(("resources", "alerts"))
    if name not in known:
        raise bundle.error(path, f"no such alert; there are: {', '.join(sorted(known)) or 'none'}")
    raw: Tree = {key: value for key, value in bundle.map_at(path).items() if key not in ALERT_KEYS_WITHOUT_EFFECT}
    return _validated(resolver, Alert, raw, path)


def _validated(resolver: Resolver, model: type[_M], raw: Tree, path: KeyPath) -> _M:
    try:
        return model.model_validate(resolver.resolve(raw, path))
    except ValidationError as invalid:
        error = invalid.errors()[0]
        problem = {"extra_forbidden": "not supported on a laptop", "missing": "is missing"}
        said = problem.get(error["type"], error["msg"]).removeprefix("Value error, ")
        raise resolver.bundle.error((*path, *error["loc"]), said) from None


def _with_effect(task: Json) -> Json:
    if not isinstance(task, dict):
        return task
    rest = {key: value for key, value in task.items() if key not in TASK_KEYS_WITHOUT_EFFECT}
    if isinstance(alert := rest.get("alert_task"), dict):
        rest["alert_task"] = {key: value for key, value in alert.items() if key != "warehouse_id"}
    if isinstance(loop := rest.get("for_each_task"), dict):
        rest["for_each_task"] = {**loop, "task": _with_effect(loop.get("task"))}
    return rest


def _check_graph(bundle: Bundle, name: str, job: Job) -> None:
    for key, task in job.tasks.items():
        here = (*task_path(name, key), "depends_on")
        for dependency in task.depends_on:
            other = job.tasks.get(dependency.task_key)
            if other is None:
                raise bundle.error(here, f"there is no task {dependency.task_key}")
            if dependency.outcome and other.condition_task is None:
                raise bundle.error(here, f"{dependency.task_key} is no condition task and has no outcome")
    if cycle := cycle_in(job.graph):
        raise bundle.error((*task_path(name, cycle[0]), "depends_on"), f"tasks in a circle: {' -> '.join(cycle)}")
    outcomes = {k: frozenset(d.task_key for d in task.depends_on if d.outcome) for k, task in job.tasks.items()}
    if unclear := undecided(job.graph, {key: task.run_if for key, task in job.tasks.items()}, outcomes):
        problem = (
            "some but not all dependencies may be excluded: Databricks does not say what "
            f"{job.tasks[unclear].run_if} then does; depend on the condition alone, or use NONE_FAILED"
        )
        raise bundle.error((*task_path(name, unclear), "run_if"), problem)


def _check_task(bundle: Bundle, here: KeyPath, task: Task) -> None:
    if sum(getattr(task, kind) is not None for kind in KINDS) != 1:
        raise bundle.error(here, f"needs one of {', '.join(KINDS)}")
    if (wheel := task.python_wheel_task) and not find_entry_point(wheel.package_name, wheel.entry_point):
        problem = f"{wheel.package_name} {wheel.entry_point}: no such entry point is installed; install the package"
        raise bundle.error((*here, "python_wheel_task", "entry_point"), problem)
    if python := task.spark_python_task:
        bundle.file_at((*here, "spark_python_task", "python_file"), python.python_file)
    if notebook := task.notebook_task:
        bundle.file_at((*here, "notebook_task", "notebook_path"), notebook.notebook_path, NOTEBOOK_ENDINGS)
    if loop := task.for_each_task:
        _check_task(bundle, (*here, "for_each_task", "task"), loop.task)
        if loop.task.for_each_task or loop.task.condition_task:
            raise bundle.error((*here, "for_each_task", "task"), "must be a task that runs code or a job")


def _texts(value: object) -> Iterator[tuple[KeyPath, str]]:
    """Every text of a task, with its path in the task."""
    if isinstance(value, str):
        yield (), value
    elif isinstance(value, BaseModel | dict):
        for key, item in value.items() if isinstance(value, dict) else value:
            yield from (((key, *path), text) for path, text in _texts(item))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from (((index, *path), text) for path, text in _texts(item))


def _check_text(bundle: Bundle, name: str, job: Job, task: str, path: KeyPath, text: str) -> None:
    for kind, parameter, other in _expressions(bundle, path, text):
        if kind == "parameter" and parameter not in job.parameters:
            raise bundle.error(path, f"job {name} has no parameter {parameter}; add it to parameters")
        if kind == "value" and other not in upstream_of(job.graph, task):
            raise bundle.error(path, f"{other} is not upstream of {task}; add it to depends_on")
        if kind == "value" and not job.tasks[other].runs_code:
            raise bundle.error(path, f"{other} runs no code and sets no values")
        if kind == "input" and path[5:7] != ("for_each_task", "task"):
            raise bundle.error(path, "only the task of a for_each_task has an input")
    if path[5:] == ("for_each_task", "inputs") and "{{" not in text and list_in(text) is None:
        raise bundle.error(path, "must be a list as JSON")


def list_in(text: str) -> list[Json] | None:
    """The list that a text is as JSON, if it is one."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


def _expressions(bundle: Bundle, path: KeyPath, text: str, *, only_facts: bool = False) -> list[Expression]:
    try:
        found = list(expressions(text))
    except ValueError as error:
        raise bundle.error(path, str(error)) from None
    if only_facts and any(expression.kind != "fact" for expression in found):
        raise bundle.error(path, f"{text} is not supported here on a laptop")
    return found


def _check_passed(bundle: Bundle, path: KeyPath, job: Job, other: Job, given: Mapping[str, str]) -> None:
    for key, value in given.items():
        if key not in other.parameters:
            known = ", ".join(other.parameters) or "none"
            raise bundle.error((*path, key), f"no such parameter of the job; it has: {known}")
        if key in job.parameters and value != f"{{{{job.parameters.{key}}}}}":
            problem = f"a workspace overrides it with the calling job's own {key}; set {{{{job.parameters.{key}}}}}"
            raise bundle.error((*path, key), problem)


def _deployment(resolver: Resolver) -> Deployment:
    def needed(kind: str) -> list[str]:
        return sorted(key for other, key in resolver.needed if other == kind)

    def found(kind: str, field: str) -> tuple[str, ...]:
        references = [f"${{resources.{kind}.{key}.{field}}}" for key in needed(kind)]
        return tuple(str(resolver.resolve(reference, ("resources", kind))) for reference in references)

    def whole(kind: str, keys: Iterable[str]) -> tuple[Tree, ...]:
        trees = []
        for path in [("resources", kind, key) for key in keys]:
            its = {name: value for name, value in resolver.bundle.map_at(path).items() if name not in _NOT_DEPLOYED}
            if isinstance(tree := resolver.resolve(its, path), dict):
                trees.append(tree)
        return tuple(trees)

    endpoints = whole("model_serving_endpoints", needed("model_serving_endpoints"))
    if endpoints:  # what an endpoint serves may name any of the bundle's secrets, also where its jobs do not
        resolver.needed.update(("secret_scopes", key) for key in resolver.bundle.map_at(("resources", "secret_scopes")))
    return Deployment(
        synced_tables=whole("postgres_synced_tables", resolver.bundle.map_at(("resources", "postgres_synced_tables"))),
        registered_models=found("registered_models", "id"),
        volumes=tuple(map(Path, found("volumes", "volume_path"))),
        experiments=found("experiments", "name"),
        endpoints=endpoints,
        secret_scopes=found("secret_scopes", "name"),
        # Last: models, volumes and endpoints may need a schema that no task names.
        schemas=found("schemas", "id"),
    )
