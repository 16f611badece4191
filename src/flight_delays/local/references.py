"""The `${...}` of a bundle, which the CLI fills in when it deploys. Only what is asked for is resolved.

A variable's value is, first found: --var, what LAPTOP_VARIABLES says, the environment's BUNDLE_VAR_<name>,
`.databricks/bundle/<target>/variable-overrides.json`, the target's value, the default. A text that is one reference
alone keeps the value's type.

Stated differences from a workspace:
- LAPTOP_VARIABLES are set as if by --var, unless --var gives them: local Spark has one catalog and no system tables,
  and an online store costs nothing here;
- the current user is `local`: development mode prefixes names with `[dev local] ` or `dev_local_`;
- a job's id is its key;
- a volume's path is a folder of the local world.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flight_delays.core.errors import UserError
from flight_delays.local.bundle import Bundle, KeyPath
from flight_delays.local.yaml_file import Json

LAPTOP_VARIABLES = {
    "catalog": "spark_catalog",
    "raw_catalog": "spark_catalog",
    "online_store": "true",
    "served_entities_table": "spark_catalog.system_serving.served_entities",
}
USER = "local"

REFERENCES = (
    "${var.<name>}",
    "${var.<name>.<key>}",
    "${bundle.name}",
    "${bundle.target}",
    "${bundle.git.commit}",
    "${bundle.git.branch}",
    "${workspace.current_user.userName}",
    "${workspace.current_user.short_name}",
    "${workspace.root_path}",
    "${resources.<kind>.<key>.<field>}",
)
"""All that is supported; `<kind>` is one of RESOURCE_IDS, `<field>` one that the file sets, or an id named there."""

RESOURCE_IDS = {
    "experiments": {},
    "jobs": {"id": "{key}"},
    "model_serving_endpoints": {},
    "registered_models": {"id": "{catalog_name}.{schema_name}.{name}"},
    "schemas": {"id": "{catalog_name}.{name}"},
    "secret_scopes": {},
    "volumes": {
        "id": "{catalog_name}.{schema_name}.{name}",
        "volume_path": "{volumes}/{catalog_name}/{schema_name}/{name}",
    },
}
"""Resource kinds that can be referred to, with the fields that a deployment adds to those of the file."""

_NAME_PREFIX = {
    "experiments": f"[dev {USER}] ",
    "jobs": f"[dev {USER}] ",
    "model_serving_endpoints": f"dev_{USER}_",
    "registered_models": f"dev_{USER}_",
    "schemas": f"dev_{USER}_",
}
_REFERENCE = re.compile(r"\$\{([^${}]*)\}")


@dataclass(frozen=True)
class Resolver:
    """Resolves values of one bundle, and remembers which resources they need."""

    bundle: Bundle
    local_dir: Path
    variables: Mapping[str, str]
    needed: set[tuple[str, str]] = field(default_factory=set)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.variables:
            if name not in self.bundle.map_at(("variables",)):
                raise self.bundle.error(("variables", name), "is given by --var but not defined; check its spelling")

    def at(self, path: KeyPath) -> Json:
        """The resolved value at a path of the bundle."""
        return self.resolve(self.bundle.at(path), path)

    def resolve(self, value: Json, path: KeyPath) -> Json:
        """`value`, which stands at `path`, with all references resolved. Raises UserError for one that cannot be."""
        if isinstance(value, dict):
            return {key: self.resolve(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if found := _REFERENCE.fullmatch(value):
            return self._follow(found[1], path)
        text = _REFERENCE.sub(lambda match: self._text(match[1], path), value)
        if "${" in _REFERENCE.sub("", value):
            raise self.bundle.error(path, f"{value!r} holds no proper reference; supported are {', '.join(REFERENCES)}")
        return text

    def _text(self, reference: str, path: KeyPath) -> str:
        text = as_text(self._follow(reference, path))
        if not isinstance(text, str):
            raise self.bundle.error(path, f"${{{reference}}} is no plain value and cannot be part of a text")
        return text

    def _follow(self, reference: str, path: KeyPath) -> Json:
        if reference in self._open:
            cycle = " -> ".join(f"${{{name}}}" for name in [*self._open[self._open.index(reference) :], reference])
            raise self.bundle.error(path, f"references go in a circle: {cycle}; break it")
        self._open.append(reference)
        try:
            return self._look_up(reference, path)
        finally:
            self._open.pop()

    def _look_up(self, reference: str, path: KeyPath) -> Json:
        match reference.split("."):
            case ["var", name, *keys]:
                return self._within(self._variable(name, path), reference, keys, path)
            case ["bundle", "name"]:
                return self.at(("bundle", "name"))
            case ["bundle", "target"]:
                return self.bundle.target
            case ["bundle", "git", "commit"]:
                return self._git("rev-parse", "HEAD")
            case ["bundle", "git", "branch"]:
                return self._git("branch", "--show-current")
            case ["workspace", "current_user", "userName" | "short_name"]:
                return USER
            case ["workspace", "root_path"]:
                return self._root_path()
            case ["resources", kind, key, name]:
                return self._resource(kind, key, name, path)
        raise self.bundle.error(path, f"${{{reference}}} is not supported on a laptop; use {', '.join(REFERENCES)}")

    def _variable(self, name: str, path: KeyPath) -> Json:
        here: KeyPath = ("variables", name)
        if name not in self.bundle.map_at(("variables",)):
            raise self.bundle.error(path, f"${{var.{name}}} is not defined; add {name} to variables")
        definition = self.bundle.map_at(here)
        environment = f"BUNDLE_VAR_{name}"
        for given in (self.variables.get(name), LAPTOP_VARIABLES.get(name), os.environ.get(environment)):
            if given is not None and definition.get("type") == "complex":
                raise self.bundle.error(here, f"is complex: neither --var nor {environment} can set it")
            if given is not None:
                return self.resolve(given, here)
        overrides = self._variable_file()
        if overrides.get(name) is not None:
            return self.resolve(overrides[name], here)
        if definition.get("default") is None:
            raise self.bundle.error(here, f"has no value; give --var {name}=... or set {environment}")
        return self.resolve(definition["default"], (*here, "default"))

    def _within(self, value: Json, reference: str, keys: list[str], path: KeyPath) -> Json:
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise self.bundle.error(path, f"${{{reference}}}: the variable's value has no {key}; add it there")
            value = value[key]
        return value

    def _variable_file(self) -> dict[str, Json]:
        file = self.bundle.root / ".databricks" / "bundle" / self.bundle.target / "variable-overrides.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except ValueError as error:
            raise UserError(f"{file.relative_to(self.bundle.root)}: is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise UserError(f"{file.relative_to(self.bundle.root)}: must be a map of variables to values")
        return values

    def _root_path(self) -> Json:
        given = self.at(("workspace", "root_path"))
        path = str(given or f"~/.bundle/{self.at(('bundle', 'name'))}/{self.bundle.target}")
        return re.sub(r"^~/", f"/Workspace/Users/{USER}/", path)

    def _resource(self, kind: str, key: str, name: str, path: KeyPath) -> Json:
        here: KeyPath = ("resources", kind, key)
        if kind not in RESOURCE_IDS:
            raise self.bundle.error(path, f"{kind} are not supported on a laptop; only {', '.join(RESOURCE_IDS)}")
        if key not in self.bundle.map_at(("resources", kind)):
            raise self.bundle.error(path, f"${{resources.{kind}.{key}.{name}}}: there is no {key} in resources.{kind}")
        self.needed.add((kind, key))
        if pattern := RESOURCE_IDS[kind].get(name):
            parts = {part: self._resource(kind, key, part, path) for part in re.findall(r"\{(\w*name)\}", pattern)}
            return pattern.format(key=key, volumes=self.local_dir / "volumes", **parts)
        if self.bundle.at((*here, name)) is None:
            raise self.bundle.error(path, f"${{resources.{kind}.{key}.{name}}}: {key} does not set {name}")
        value = self.at((*here, name))
        if name == "name" and self.bundle.development and kind in _NAME_PREFIX:
            folder, slash, last = str(value).rpartition("/") if kind == "experiments" else ("", "", str(value))
            return folder + slash + _NAME_PREFIX[kind] + last
        return self._owning_schema(here, value) if name == "schema_name" else value

    def _owning_schema(self, resource: KeyPath, schema: Json) -> Json:
        # As the CLI: a schema of the bundle that is named in plain is taken for a reference to it.
        for key in self.bundle.map_at(("resources", "schemas")):
            there: KeyPath = ("resources", "schemas", key)
            same_catalog = self.at((*there, "catalog_name")) == self.at((*resource, "catalog_name"))
            if same_catalog and self.at((*there, "name")) == schema:
                return self._resource("schemas", key, "name", (*resource, "schema_name"))
        return schema

    def _git(self, *arguments: str) -> str:
        # Outside of a repository the CLI's value is empty.
        command = ["git", "-C", str(self.bundle.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def as_text(value: object) -> object:
    """A plain value as the CLI writes it into a text; anything else unchanged."""
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        case int() | float():
            return str(value)
    return value
