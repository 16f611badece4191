"""`flight-delays <task> --target <name>`: one task alone, with the options that its job gives it in that target.

With local Spark the names are those of `local run`, in the same local world. Otherwise they are the workspace's, as the
Databricks CLI resolves them. An option that only a run can fill in, or that has no value, is left to the person.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from flight_delays.core.errors import UserError
from flight_delays.local import world
from flight_delays.local.bundle import Bundle, load_bundle
from flight_delays.local.deploy import deploy, endpoints
from flight_delays.local.expressions import Expression, ParameterOf, TriggerTime, fill_in, trigger_time
from flight_delays.local.plan import Plan, make_plan, task_path
from flight_delays.local.references import RESOURCE_IDS, Resolver
from flight_delays.local.wheel import environment_of
from flight_delays.platform.runtime import LOCAL_DIR, Place, place

_IN_UNITY_CATALOG = ("registered_models", "schemas", "volumes")  # whose ids follow from their names
_REFERENCE = re.compile(r"\$\{resources\.(\w+)\.([\w-]+)\.(\w+)\}")


@dataclass(frozen=True)
class Call:
    """A wheel task: what it is called with, the subcommand first, and the defaults of its job's parameters."""

    parameters: tuple[str, ...]
    defaults: Mapping[str, str]


class _Wheel(BaseModel):
    parameters: tuple[str, ...] = ()


class _Task(BaseModel):
    python_wheel_task: _Wheel = _Wheel()


class _Parameter(BaseModel):
    name: str
    default: str = ""


class _Job(BaseModel):
    tasks: tuple[_Task, ...] = ()
    parameters: tuple[_Parameter, ...] = ()


class _Answer(BaseModel):
    """What is read of `databricks bundle validate --output json`."""

    resources: dict[str, dict[str, dict[str, object]]] = {}


@contextmanager
def completed(arguments: Sequence[str], check: Callable[..., None]) -> Iterator[list[str]]:
    """A command line without its --target, and with the options that it stands for before those given, which win.

    With local Spark the target's world is prepared, after a `check` of the command line, and kept to this process for
    as long as the context lasts.
    """
    target, (command, *given) = split(arguments)
    if "--help" in given:
        yield [command, *given]
        return
    root, now = world.find_root(Path.cwd()), trigger_time(datetime.now(tz=UTC))
    if place() is not Place.LOCAL:
        yield [command, *options(workspace_calls(validated(root, target, {})), command, now), *given]
        return
    bundle = load_bundle(root, target)
    folder = world.local_dir(root, bundle.target)
    plan = make_plan(bundle, Resolver(bundle, folder, {}), jobs_with(bundle, command))
    filled_in = [command, *options(local_calls(plan), command, now), *given]
    check(*filled_in)
    with world.locked(root, bundle.target), environment_of({LOCAL_DIR: str(folder)}):
        deploy(plan.deployment, folder)
        with endpoints(plan.deployment, folder):
            yield filled_in


@contextmanager
def of_stream(arguments: Sequence[str], commands: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """`stream status --target dev` and the like: of the task score-stream's options, those that the command has.

    A stream may be running meanwhile: on a laptop its world is looked at, not locked.
    """
    target, (group, name, *given) = split(arguments)
    if name not in commands:
        raise UserError(f"stream {name}: there are {', '.join(commands)}")
    root, now, environment = world.find_root(Path.cwd()), trigger_time(datetime.now(tz=UTC)), {}
    if place() is Place.LOCAL:
        bundle = load_bundle(root, target)
        folder = world.local_dir(root, bundle.target)
        environment = {LOCAL_DIR: str(folder)}
        calls = local_calls(make_plan(bundle, Resolver(bundle, folder, {}), jobs_with(bundle, "score-stream")))
    else:
        calls = workspace_calls(validated(root, target, {}))
    kept = [text for text in options(calls, "score-stream", now) if text.partition("=")[0] in commands[name]]
    with environment_of(environment):
        yield [group, name, *kept, *given]


def split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The value of --target, and the other arguments. Raises UserError where there is no value or no task."""
    first = next(index for index, text in enumerate(arguments) if text.partition("=")[0] == "--target")
    _, equals, target = arguments[first].partition("=")
    after = first + (1 if equals else 2)
    target = target if equals else "".join(arguments[first + 1 : after])
    rest = [*arguments[:first], *arguments[after:]]
    if not target or target.startswith("-") or not rest or rest[0].startswith("-"):
        raise UserError("--target takes a name and follows a task: flight-delays features --target dev")
    return target, rest


def options(calls: Sequence[Call], command: str, now: str) -> list[str]:
    """The options of the wheel task that calls `command`, as far as they are known before a run.

    Raises UserError if no task calls it, or if several do with other options.
    """
    found = [_known(call, now) for call in calls if call.parameters[:1] == (command,)]
    if not found:
        known = ", ".join(sorted({call.parameters[0] for call in calls if call.parameters}))
        raise UserError(f"--target: no job runs the task {command}; there are {known}")
    if any(other != found[0] for other in found):
        raise UserError(f"--target: several jobs run the task {command}, with other options; give the options instead")
    return found[0]


def option_values(calls: Sequence[Call]) -> dict[str, str]:
    """What the bundle gives the options of its tasks before a run, by their names in snake case."""
    now = trigger_time(datetime.now(tz=UTC))
    pairs = [text.removeprefix("--").partition("=") for call in calls for text in _known(call, now)]
    return {name.replace("-", "_"): value for name, _, value in pairs if value}


def jobs_with(bundle: Bundle, command: str) -> list[str]:
    """The jobs with a task that calls `command`; all, if there is none."""
    jobs = bundle.map_at(("resources", "jobs"))
    return [
        job
        for job in jobs
        for task in bundle.map_at(("resources", "jobs", job, "tasks"))
        if isinstance(called := bundle.at((*task_path(job, task), "python_wheel_task", "parameters")), list)
        and called[:1] == [command]
    ] or list(jobs)


def local_calls(plan: Plan) -> list[Call]:
    """The wheel tasks of a plan."""
    return [
        Call(task.python_wheel_task.parameters, {name: parameter.default for name, parameter in job.parameters.items()})
        for job in plan.jobs.values()
        for task in job.tasks.values()
        if task.python_wheel_task
    ]


def workspace_calls(answer: str) -> list[Call]:
    """The wheel tasks in the JSON of `databricks bundle validate`, with the references that it leaves resolved."""
    resources = _Answer.model_validate_json(answer).resources
    jobs = [_Job.model_validate(job) for job in resources.get("jobs", {}).values()]
    return [
        Call(
            tuple(_resolved(text, resources) for text in task.python_wheel_task.parameters),
            {parameter.name: _resolved(parameter.default, resources) for parameter in job.parameters},
        )
        for job in jobs
        for task in job.tasks
    ]


def _known(call: Call, now: str) -> list[str]:
    def value(expression: Expression) -> str:
        match expression:
            case ParameterOf(name) if call.defaults.get(name):
                return fill_in(call.defaults[name], value)
            case TriggerTime():
                return now
        raise LookupError

    known = []
    for text in call.parameters[1:]:
        try:
            filled_in = fill_in(text, value)
        except (LookupError, ValueError):  # ValueError: what only a workspace fills in
            continue
        if "${" not in filled_in:
            known.append(filled_in)
    return known


def _resolved(text: str, resources: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    def field(match: re.Match[str]) -> str:
        kind, key, name = match.groups()
        resource = resources.get(kind, {}).get(key, {})
        if name in resource:
            return _resolved(str(resource[name]), resources)
        pattern = RESOURCE_IDS[kind].get(name) if kind in _IN_UNITY_CATALOG else None
        return _resolved(pattern.format_map({**resource, "volumes": "/Volumes"}), resources) if pattern else match[0]

    return _REFERENCE.sub(field, text)


def validated(root: Path, target: str, variables: Mapping[str, str]) -> str:
    """The bundle as JSON, as the Databricks CLI resolves it. Raises UserError with what it says of a mistake."""
    program = shutil.which("databricks")
    if program is None:
        raise UserError("the names in a workspace take the Databricks CLI; install it (command: databricks)")
    given = [f"--var={name}={value}" for name, value in variables.items()]
    command = [program, "bundle", "validate", "--target", target, "--output", "json", *given]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = ended.stderr.splitlines()
        said = next((line for line in lines if line.startswith("Error: ")), "".join(lines[-1:]))
        raise UserError(f"databricks bundle validate --target {target}: {said.removeprefix('Error: ')}")
    return ended.stdout
