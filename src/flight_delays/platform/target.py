"""The options that a target's jobs give their tasks, as the Databricks CLI resolves them."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flight_delays.core.errors import UserError

FILE = "databricks.yml"
_FIELD = re.compile(r"\$\{resources\.(\w+)\.([\w-]+)\.(\w+)\}")
_PARAMETER = re.compile(r"\{\{job\.parameters\.(\w+)\}\}")
_NOW = "{{job.trigger.time.iso_datetime}}"
# In Unity Catalog these ids follow from the names.
_IDS = {
    ("registered_models", "id"): "{catalog_name}.{schema_name}.{name}",
    ("schemas", "id"): "{catalog_name}.{name}",
    ("volumes", "volume_path"): "/Volumes/{catalog_name}/{schema_name}/{name}",
}
Bundle = Mapping[str, Any]
_Resources = Mapping[str, Mapping[str, Mapping[str, Any]]]


def bundle_of(target: str) -> Bundle:
    """The bundle as it would be deployed to a target.

    Raises UserError without the CLI, or with what it says of a mistake.
    """
    program = shutil.which("databricks")
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / FILE).exists()), here)
    if program is None:
        raise UserError("--target takes the Databricks CLI; install it (command: databricks)")
    command = [program, "bundle", "validate", "--target", target, "--output", "json"]
    # The CLI finds the bundle from a folder inside of it, but not the bundle's Python.
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = ended.stderr.splitlines()
        said = next((line for line in lines if line.startswith("Error: ")), "".join(lines[-1:]))
        raise UserError(f"databricks bundle validate --target {target}: {said.removeprefix('Error: ')}")
    found: Bundle = json.loads(ended.stdout)
    return found


def runs_as(bundle: Bundle) -> str:
    """Whom the bundle's jobs run as: an application id, or a user's name."""
    named: Mapping[str, str] = bundle.get("run_as") or {}
    deployer = bundle.get("workspace", {}).get("current_user", {}).get("userName", "")
    return next(iter(named.values()), deployer)


def options_of(bundle: Bundle, now: datetime) -> dict[str, dict[str, str]]:
    """Of each task its options by name, in snake case, in a run that starts `now`.

    Those that only a run can fill in are left out.
    """
    resources: _Resources = bundle.get("resources", {})
    found: dict[str, dict[str, str]] = {}
    for job in resources.get("jobs", {}).values():
        defaults = {one["name"]: one.get("default", "") for one in job.get("parameters", ())}
        for task in job.get("tasks", ()):
            command, *arguments = task.get("python_wheel_task", {}).get("parameters") or [""]
            for name, _, text in (argument.removeprefix("--").partition("=") for argument in arguments):
                filled = _PARAMETER.sub(lambda match: defaults.get(match[1], match[0]), text)  # noqa: B023
                value = _resolved(filled, resources).replace(_NOW, f"{now:%Y-%m-%dT%H:%M:%SZ}")
                if value and "{{" not in value and "${" not in value:
                    found.setdefault(command, {})[name.replace("-", "_")] = value
    return found


def _resolved(text: str, resources: _Resources) -> str:
    def field(match: re.Match[str]) -> str:
        kind, key, name = match.groups()
        resource = resources.get(kind, {}).get(key, {})
        pattern = _IDS.get((kind, name), "")
        known = resource.get(name, pattern.format_map(resource) if resource else "")
        return _resolved(str(known), resources) if known else match[0]

    return _FIELD.sub(field, text)
