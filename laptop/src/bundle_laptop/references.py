"""The `${...}` of a bundle, which the CLI fills in when it deploys. Only what is asked for is resolved.

A variable's value is, first found: --var, [tool.bundle-laptop.variables], the environment's BUNDLE_VAR_<name>,
`.databricks/bundle/<target>/variable-overrides.json`, the target's value, the default. A text that is one reference
alone keeps the value's type.

Stated differences from a workspace:
- the current user is `local`: development mode prefixes names with `[dev local] ` or `dev_local_`;
- a job's or an alert's id is its key;
- a volume's path is a folder of the world, and the workspace's file path is the bundle's own folder.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from bundle_laptop.bundle import Bundle, KeyPath
from bundle_laptop.errors import LaptopError
from bundle_laptop.world import online_store
from bundle_laptop.yaml_file import Json

USER = "local"

REFERENCES = (
    *("${var.<name>}", "${var.<name>.<key>}", "${bundle.name}", "${bundle.target}"),
    *("${bundle.git.commit}", "${bundle.git.branch}", "${bundle.git.origin_url}"),
    *("${workspace.current_user.userName}", "${workspace.current_user.short_name}"),
    *("${workspace.root_path}", "${workspace.file_path}", "${resources.<kind>.<key>.<field>}"),
)
"""All that is supported; `<field>` is one that the file sets, or an id of IDS."""

IDS = {
    "alerts": {"id": "{key}"},
    "jobs": {"id": "{key}"},
    "registered_models": {"id": "{catalog_name}.{schema_name}.{name}"},
    "schemas": {"id": "{catalog_name}.{name}"},
    "volumes": {
        "id": "{catalog_name}.{schema_name}.{name}",
        "volume_path": "{folder}/volumes/{catalog_name}/{schema_name}/{name}",
    },
}
"""The fields that a deployment adds to those of the file, by kind."""

_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_BEFORE_DEPLOYMENT = ("${var.", "${bundle.", "${workspace.")
_GIT = {"commit": "rev-parse HEAD", "branch": "branch --show-current", "origin_url": "remote get-url origin"}


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """Resolves values of one bundle, and remembers which resources they need. `configured` are the tool's settings."""

    bundle: Bundle
    folder: Path
    variables: Mapping[str, str]
    configured: Mapping[str, str]
    needed: set[tuple[str, str]] = field(default_factory=set)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.variables:
            here: KeyPath = ("variables", name)
            if name not in self.bundle.map_at(("variables",)):
                raise self.bundle.error(here, "is given by --var but not defined; check its spelling")
            if self.bundle.map_at(here).get("type") == "complex":
                raise self.bundle.error(here, "is complex, and --var gives a text; set it in the bundle's files")

    def of(self, bundle: Bundle) -> "Resolver":
        """The same for another state of the bundle."""
        return replace(self, bundle=bundle, needed=set(), _open=[])

    def at(self, path: KeyPath) -> Json:
        """The resolved value at a path of the bundle."""
        return self.resolve(self.bundle.at(path), path)

    def resolve(self, value: Json, path: KeyPath) -> Json:
        """`value`, which stands at `path`, with all references resolved. Raises LaptopError for one that cannot be."""
        return _with_texts(value, path, self._resolve_text)

    def before_deployment(self, value: Json, path: KeyPath) -> Json:
        """`value` as Python code gets it: what is known without the resources is resolved, all else stays."""
        return _with_texts(value, path, self._resolve_known)

    def _resolve_text(self, text: str, path: KeyPath) -> Json:
        def part(match: re.Match[str]) -> str:
            found = as_part(self._follow(match[1], path))
            if not isinstance(found, str):
                raise self.bundle.error(path, f"{match[0]} is no plain value and cannot be part of a text")
            return found

        if found := _REFERENCE.fullmatch(text):
            return self._follow(found[1], path)
        if "${" in _REFERENCE.sub("", text):
            raise self.bundle.error(path, f"{text!r} holds no proper reference; supported are {', '.join(REFERENCES)}")
        return _REFERENCE.sub(part, text)

    def _resolve_known(self, text: str, path: KeyPath) -> Json:
        def known(reference: str) -> Json:
            if not reference.startswith(_BEFORE_DEPLOYMENT):
                return reference
            alone = self.of(self.bundle)
            try:
                found = alone.resolve(reference, path)
            except LaptopError:  # a variable without a value: whoever needs it says so
                return reference
            return reference if alone.needed else found

        def part(match: re.Match[str]) -> str:
            found = as_part(known(match[0]))
            return found if isinstance(found, str) else match[0]

        return known(text) if _REFERENCE.fullmatch(text) else _REFERENCE.sub(part, text)

    def opened(self, value: Json, path: KeyPath) -> Json:
        """What the variable says that `value` is no more than a reference to; references in it stay."""
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None or not found[1].startswith("var."):
            return value
        with self._opening(found[1], path):
            return self.opened(*self._part(found[1], path))

    def _part(self, reference: str, path: KeyPath) -> tuple[Json, KeyPath]:
        """The part of a variable that var.<name>.<key>... leads to, as written, and where that is."""
        _, name, *keys = reference.split(".")
        value, here = self._variable(name, path)
        for key in keys:
            value = self.opened(value, here)
            if not isinstance(value, dict) or key not in value:
                raise self.bundle.error(path, f"${{{reference}}}: the variable's value has no {key}; add it there")
            value = value[key]
        return value, here

    @contextmanager
    def _opening(self, reference: str, path: KeyPath) -> Iterator[None]:
        if reference in self._open:
            cycle = " -> ".join(f"${{{name}}}" for name in [*self._open[self._open.index(reference) :], reference])
            raise self.bundle.error(path, f"references go in a circle: {cycle}; break it")
        self._open.append(reference)
        try:
            yield
        finally:
            self._open.pop()

    def _follow(self, reference: str, path: KeyPath) -> Json:
        with self._opening(reference, path):
            return self._look_up(reference, path)

    def _look_up(self, reference: str, path: KeyPath) -> Json:
        match reference.split("."):
            case ["var", *_]:
                return self.resolve(*self._part(reference, path))
            case ["bundle", "name"]:
                return self.at(("bundle", "name"))
            case ["bundle", "target" | "environment"]:
                return self.bundle.target
            case ["bundle", "git", what] if what in _GIT:
                # Outside of a repository the CLI's value is empty.
                command = ["git", "-C", str(self.bundle.root), *_GIT[what].split()]
                return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            case ["workspace", "current_user", "userName" | "short_name" | "domain_friendly_name"]:
                return USER
            case ["workspace", "root_path"]:
                given = self.at(("workspace", "root_path"))
                root = str(given or f"~/.bundle/{self.at(('bundle', 'name'))}/{self.bundle.target}")
                return re.sub(r"^~/", f"/Workspace/Users/{USER}/", root)
            case ["workspace", "file_path"]:
                return str(self.bundle.root.resolve())
            case ["laptop", "folder"]:
                return str(self.folder)
            case ["laptop", "online_store"]:
                return online_store(self.folder)
            case ["resources", kind, key, name]:
                return self._resource(kind, key, name, path)
        raise self.bundle.error(path, f"${{{reference}}} is not supported on a laptop; use {', '.join(REFERENCES)}")

    def _variable(self, name: str, path: KeyPath) -> tuple[Json, KeyPath]:
        """Its value as written, and where."""
        here: KeyPath = ("variables", name)
        if name not in self.bundle.map_at(("variables",)):
            raise self.bundle.error(path, f"${{var.{name}}} is not defined; add {name} to variables")
        definition, environment = self.bundle.map_at(here), f"BUNDLE_VAR_{name}"
        for given in (self.variables.get(name), self.configured.get(name)):
            if given is not None:
                return given, here
        if (given := os.environ.get(environment)) is not None:
            if definition.get("type") == "complex":
                raise self.bundle.error(here, f"is complex: neither --var nor {environment} can set it")
            return given, here
        if (override := self._variable_file().get(name)) is not None:
            return override, here
        if definition.get("default") is not None:
            return definition["default"], (*here, "default")
        if "lookup" in definition:
            raise self.bundle.error((*here, "lookup"), f"asks a workspace; give --var {name}=...")
        raise self.bundle.error(here, f"has no value; give --var {name}=... or set {environment}")

    def _variable_file(self) -> dict[str, Json]:
        name = f".databricks/bundle/{self.bundle.target}/variable-overrides.json"
        file = self.bundle.root / name
        try:
            values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except ValueError as error:
            raise LaptopError(f"{name}: invalid JSON: {error}") from None
        if not isinstance(values, dict):
            raise LaptopError(f"{name}: must be a map of variables to values")
        return values

    def _resource(self, kind: str, key: str, name: str, path: KeyPath) -> Json:
        here: KeyPath = ("resources", kind, key)
        if key not in self.bundle.map_at(("resources", kind)):
            raise self.bundle.error(path, f"${{resources.{kind}.{key}.{name}}}: there is no {key} in resources.{kind}")
        self.needed.add((kind, key))
        if pattern := IDS.get(kind, {}).get(name):
            parts = {part: self._resource(kind, key, part, path) for part in re.findall(r"\{(\w*name)\}", pattern)}
            return pattern.format(key=key, folder=self.folder, **parts)
        if self.bundle.at((*here, name)) is None:
            lacks = f"a laptop has no {kind}" if name == "id" else f"{key} does not set {name}"
            raise self.bundle.error(path, f"${{resources.{kind}.{key}.{name}}}: {lacks}")
        return self.at((*here, name))


def _with_texts(value: Json, path: KeyPath, resolve: Callable[[str, KeyPath], Json]) -> Json:
    """`value`, which stands at `path`, with each of its texts resolved."""
    if isinstance(value, dict):
        return {key: _with_texts(item, (*path, key), resolve) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_texts(item, (*path, index), resolve) for index, item in enumerate(value)]
    return resolve(value, path) if isinstance(value, str) else value


def as_text(value: object) -> object:
    """A plain value as the CLI writes it into a text; anything else unchanged."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{Decimal(repr(value)):f}".removesuffix(".0")
        case int():
            return str(value)
    return value


def as_part(value: object) -> object:
    """The same within a text, where the CLI writes large and small floats with an exponent."""
    if isinstance(value, float) and value:
        digits = Decimal(repr(value)).normalize()
        if not -4 <= digits.adjusted() < 6:
            return f"{value:.{len(digits.as_tuple().digits) - 1}e}"
    return as_text(value)
