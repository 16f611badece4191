"""The bundle's files: `databricks.yml`, what it includes, and a target's overrides, merged as the Databricks CLI does.

Maps merge deep, lists are concatenated, except a job's tasks (by task_key), parameters (by name), environments and job
clusters, which are kept as maps here; a target's variables are replaced. Any key of a target or a variable that is not
listed below is refused; a file's own that the CLI does not know is left out, with a warning, as by the CLI.
"""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from bundle_laptop.errors import LaptopError
from bundle_laptop.yaml_file import Json, Tree, read_yaml

KeyPath: TypeAlias = tuple[str | int, ...]

FILE = "databricks.yml"
_COMMON = {"artifacts", "permissions", "presets", "resources", "run_as", "sync", "variables", "workspace"}
FILE_KEYS = _COMMON | {"bundle", "include", "python", "scripts", "targets"}
_REFUSED = {"environments", "experimental"}
TARGET_KEYS = _COMMON | {"bundle", "cluster_id", "compute_id", "default", "git", "mode"}
BUNDLE_KEYS = {"cluster_id", "compute_id", "databricks_cli_version", "deployment", "engine", "git", "name", "uuid"}
VARIABLE_KEYS = {"default", "description", "lookup", "type"}
_LOG = logging.getLogger(__name__)
_KEYED_LISTS = {
    "environments": "environment_key",
    "job_clusters": "job_cluster_key",
    "parameters": "name",
    "tasks": "task_key",
}


@dataclass(frozen=True)
class Layer:
    """One file, or one target within it: where errors point to."""

    file: str
    prefix: KeyPath
    tree: Tree

    def depth(self, path: KeyPath) -> int:
        """How many leading keys of `path` stand in this layer."""
        node: Json = self.tree
        for count, key in enumerate(path):
            if not isinstance(node, dict) or key not in node:
                return count
            node = node[str(key)]
        return len(path)

    def map_at(self, path: KeyPath) -> Tree:
        """The map at `path`, empty if there is none. Raises LaptopError for something else."""
        return _map_at((self,), self.tree, path)


@dataclass(frozen=True)
class Bundle:
    """All files merged for one target."""

    root: Path
    target: str
    tree: Tree
    layers: tuple[Layer, ...]

    @property
    def development(self) -> bool:
        """Whether the target prefixes names."""
        return self.tree.get("mode") == "development"

    def at(self, path: KeyPath) -> Json:
        """The value at `path`, None if there is none."""
        return _at(self.tree, path)

    def map_at(self, path: KeyPath) -> Tree:
        """The map at `path`, empty if there is none. Raises LaptopError for something else."""
        return _map_at(self.layers, self.tree, path)

    def with_tree(self, tree: Tree) -> "Bundle":
        """The same bundle with another tree, whose jobs' lists are lists."""
        return replace(self, tree=_with_keyed_lists(Layer(FILE, (), tree)).tree)

    def file_at(self, path: KeyPath, given: str, endings: tuple[str, ...] = ()) -> Path:
        """The file that `given`, at `path`, names: seen from the file that says so, or from the bundle's folder.

        It may lack its ending. Raises LaptopError if it is not there.
        """
        folders = dict.fromkeys(((self.root / _layer_of(self.layers, path).file).parent, self.root))
        for candidate in (folder / f"{given}{ending}" for folder in folders for ending in ("", *endings)):
            if candidate.is_file():
                return candidate.resolve()
        raise self.error(path, f"there is no file {given} in the bundle")

    def error(self, path: KeyPath, problem: str) -> LaptopError:
        """One line that names the file and the key."""
        return _error(self.layers, path, problem)


def load_bundle(root: Path, target: str | None) -> Bundle:
    """Read the files below `root`; `target` None is the default one. Raises LaptopError for what is not understood."""
    files = [Layer(FILE, (), read_yaml(root, FILE))]
    for pattern in _strings(files[0], "include"):
        found = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        if not found and not re.search(r"[*?\[]", pattern):
            raise LaptopError(f"{FILE}: include: {pattern} does not exist; remove it")
        files += [Layer(name, (), read_yaml(root, name)) for name in found if name not in {file.file for file in files}]
    for layer in files:
        for key in layer.tree.keys() - FILE_KEYS:
            if key in _REFUSED:
                raise _error((layer,), (key,), "not supported on a laptop; remove it")
            _LOG.warning("%s: %s: unknown to the Databricks CLI, and left out", layer.file, key)
        _check_keys(layer, ("bundle",), BUNDLE_KEYS)
    _check_resource_keys(files)
    name = _choose_target(files, target)
    overrides = [_target_layer(layer, name) for layer in files if layer.depth(("targets", name)) == 2]
    layers = tuple(_with_keyed_lists(layer) for layer in [*files, *overrides])
    bundle = Bundle(root=root, target=name, tree=_merge_layers(layers), layers=layers)
    if bundle.at(("mode",)) not in (None, "development", "production"):
        raise bundle.error(("mode",), "must be development or production")
    return bundle


def _choose_target(files: list[Layer], wanted: str | None) -> str:
    targets: dict[str, bool] = {}
    for layer in files:
        for name, target in layer.map_at(("targets",)).items():
            is_default = isinstance(target, dict) and bool(target.get("default"))
            targets[name] = targets.get(name, False) or is_default
    targets = targets or {"default": True}  # as for the CLI
    if wanted is None:
        default = [name for name, is_default in targets.items() if is_default]
        if len(default) != 1 and len(targets) != 1:
            raise LaptopError(f"{FILE}: targets: {len(default)} of them are the default; give --target")
        return (default or list(targets))[0]
    if wanted not in targets:
        raise LaptopError(f"{FILE}: targets.{wanted}: no such target; there are {', '.join(targets)}")
    return wanted


def _target_layer(layer: Layer, name: str) -> Layer:
    tree = layer.map_at(("targets", name))
    found = Layer(layer.file, ("targets", name), tree)
    _check_keys(found, (), TARGET_KEYS)
    # A value may stand alone for its definition, which is a map with a default.
    variables = {
        key: value
        if isinstance(value, dict) and "default" in value and set(value) <= VARIABLE_KEYS
        else {"default": value}
        for key, value in found.map_at(("variables",)).items()
    }
    return Layer(layer.file, found.prefix, {**tree, "variables": {**variables}})


def _merge_layers(layers: tuple[Layer, ...]) -> Tree:
    tree: Tree = {}
    for layer in layers:
        known = _map_at(layers, tree, ("variables",))
        for key in layer.map_at(("variables",)):
            if layer.prefix and key not in known:
                raise _error((layer,), ("variables", key), "is not defined at the top; add it to variables")
            _check_keys(layer, ("variables", key), VARIABLE_KEYS)
        rest = {key: value for key, value in layer.tree.items() if key not in ("targets", "include")}
        tree = _merge_maps(tree, rest, layer, ())
    return tree


def _merge_maps(old: Tree, new: Tree, layer: Layer, path: KeyPath) -> Tree:
    both = {key: _merge(old[key], new[key], layer, (*path, key)) for key in old.keys() & new.keys()}
    return {**old, **new, **both}


def _merge(old: Json, new: Json, layer: Layer, path: KeyPath) -> Json:
    a_targets_variable = layer.prefix and path[:1] == ("variables",) and path[2:] == ("default",)
    if old is None or new is None or a_targets_variable:
        return old if new is None else new
    if isinstance(old, dict) and isinstance(new, dict):
        return _merge_maps(old, new, layer, path)
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if isinstance(old, dict | list) or isinstance(new, dict | list):
        raise _error((layer,), path, "is a map, a list or a plain value here, and another of these elsewhere")
    return new


def _with_keyed_lists(layer: Layer) -> Layer:
    jobs: Tree = {}
    for key in layer.map_at(("resources", "jobs")):
        job = dict(layer.map_at(("resources", "jobs", key)))
        for name in _KEYED_LISTS.keys() & job.keys():
            if not isinstance(job[name], str):  # a reference to a variable
                job[name] = _keyed(layer, ("resources", "jobs", key, name), job[name])
        jobs[key] = job
    return Layer(layer.file, layer.prefix, _replace(layer.tree, ("resources", "jobs"), jobs)) if jobs else layer


def as_listed(tree: Tree) -> Tree:
    """A bundle's tree with the lists of its jobs as lists again, as Python code and the CLI have them."""
    resources = tree.get("resources")
    jobs = resources.get("jobs") if isinstance(resources, dict) else None
    if not isinstance(jobs, dict):
        return tree
    listed = {key: _listed(job) if isinstance(job, dict) else job for key, job in jobs.items()}
    return _replace(tree, ("resources", "jobs"), listed)


def _listed(job: Tree) -> Tree:
    def listed(items: Json, id_key: str) -> Json:
        if not isinstance(items, dict):
            return items
        return [{id_key: key, **(item if isinstance(item, dict) else {})} for key, item in items.items()]

    return {key: listed(value, _KEYED_LISTS[key]) if key in _KEYED_LISTS else value for key, value in job.items()}


def _keyed(layer: Layer, path: KeyPath, items: Json) -> Tree:
    id_key, keyed = _KEYED_LISTS[str(path[-1])], dict[str, Json]()
    for item in items if isinstance(items, list) else [None]:
        name = item.get(id_key) if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(name, str):
            raise _error((layer,), path, f"must be a list of maps, each with its {id_key}")
        rest = {key: value for key, value in item.items() if key != id_key}
        keyed[name] = _merge(keyed.get(name), rest, layer, (*path, name))
    return keyed


def _replace(tree: Tree, path: tuple[str, ...], value: Json) -> Tree:
    child = tree[path[0]]
    return {**tree, path[0]: _replace(child, path[1:], value) if len(path) > 1 and isinstance(child, dict) else value}


def _check_resource_keys(files: list[Layer]) -> None:
    seen: dict[str, str] = {}
    for layer in files:
        for kind in layer.map_at(("resources",)):
            for key in layer.map_at(("resources", kind)):
                if key in seen:
                    raise _error((layer,), ("resources", kind, key), f"{seen[key]} has this key too; rename one")
                seen[key] = layer.file


def _check_keys(layer: Layer, path: KeyPath, known: set[str]) -> None:
    for key in sorted(layer.map_at(path).keys() - known):
        raise _error((layer,), (*path, key), f"not supported on a laptop; supported are {', '.join(sorted(known))}")


def _at(tree: Tree, path: KeyPath) -> Json:
    node: Json = tree
    for key in path:
        node = node.get(str(key)) if isinstance(node, dict) else None
    return node


def _map_at(layers: tuple[Layer, ...], tree: Tree, path: KeyPath) -> Tree:
    node = _at(tree, path)
    if node is not None and not isinstance(node, dict):
        raise _error(layers, path, "must be a map")
    return node or {}


def _strings(layer: Layer, key: str) -> list[str]:
    values = layer.tree.get(key) or []
    if not isinstance(values, list):
        raise _error((layer,), (key,), "must be a list")
    return [str(value) for value in values]


def _layer_of(layers: tuple[Layer, ...], path: KeyPath) -> Layer:
    def fit(index: int) -> tuple[int, int]:
        # The last layer that sets the key gave it its value. What is nowhere is the main file's to define, unless
        # some file has at least the resource that it belongs to.
        depth = layers[index].depth(path)
        return (depth, index) if depth == len(path) else (depth if depth > 2 else 0, -index)

    return layers[max(range(len(layers)), key=fit)]


def _error(layers: tuple[Layer, ...], path: KeyPath, problem: str) -> LaptopError:
    layer = _layer_of(layers, path)
    dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in (*layer.prefix, *path))
    return LaptopError(f"{layer.file}: {dotted.lstrip('.')}: {problem}")
