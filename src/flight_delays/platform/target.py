"""The options that a target's jobs give their tasks, as the Databricks CLI resolves them."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel

from flight_delays.core.errors import UserError

_FIELD = re.compile(r"\$\{resources\.(\w+)\.([\w-]+)\.(\w+)\}")
_PARAMETER = re.compile(r"\{\{job\.parameters\.(\w+)\}\}")
_NOW = "{{job.trigger.time.iso_datetime}}"
# In Unity Catalog these ids follow from the names.
_IDS = {
    "registered_models": {"id": "{catalog_name}.{schema_name}.{name}"},
    "schemas": {"id": "{catalog_name}.{name}"},
    "volumes": {"volume_path": "/Volumes/{catalog_name}/{schema_name}/{name}"},
}
_Resources = Mapping[str, Mapping[str, Mapping[str, object]]]


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


def options_of(target: str) -> dict[str, dict[str, str]]:
    """Of each task its options by name, in snake case; those that only a run can fill in are left out.

    Raises UserError without the CLI, or with what it says of a mistake.
    """
    program = shutil.which("databricks")
    if program is None:
        raise UserError("--target takes the Databricks CLI; install it (command: databricks)")
    command = [program, "bundle", "validate", "--target", target, "--output", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = ended.stderr.splitlines()
        said = next((line for line in lines if line.startswith("Error: ")), "".join(lines[-1:]))
        raise UserError(f"databricks bundle validate --target {target}: {said.removeprefix('Error: ')}")
    return options_in(ended.stdout, f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ}")


def options_in(answer: str, now: str) -> dict[str, dict[str, str]]:
    """The same of what the CLI has answered, with `now` as the time of the run."""
    resources = _Answer.model_validate_json(answer).resources
    found: dict[str, dict[str, str]] = {}
    for job in map(_Job.model_validate, resources.get("jobs", {}).values()):
        defaults = {one.name: one.default for one in job.parameters}
        for command, *arguments in (task.python_wheel_task.parameters or ("",) for task in job.tasks):
            for name, _, text in (argument.removeprefix("--").partition("=") for argument in arguments):
                filled = _PARAMETER.sub(lambda match: defaults.get(match[1], match[0]), text)  # noqa: B023
                value = _resolved(filled, resources).replace(_NOW, now)
                if value and "{{" not in value and "${" not in value:
                    found.setdefault(command, {})[name.replace("-", "_")] = value
    return found


def _resolved(text: str, resources: _Resources) -> str:
    def field(match: re.Match[str]) -> str:
        kind, key, name = match.groups()
        resource = resources.get(kind, {}).get(key, {})
        pattern = _IDS.get(kind, {}).get(name)
        known = resource.get(name, pattern.format_map(resource) if pattern and resource else None)
        return match[0] if known is None else _resolved(str(known), resources)

    return _FIELD.sub(field, text)
