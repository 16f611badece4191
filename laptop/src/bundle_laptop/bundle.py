"""The bundle's files: `databricks.yml`, what it includes, and a target's overrides, merged as the Databricks CLI does.

Maps merge deep, lists are concatenated, except a job's tasks (by task_key), parameters (by name), environments and job
clusters, which are kept as maps here; a target's variables are replaced. Any key of a target or a variable that is not
listed below is refused; a file's own that the CLI does not know is left out, with a warning, as by the CLI.
"""

import logging
import re
from collections.abc import Iterable
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
_JOBS = ("resources", "jobs")
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

    def check_keys(self, path: KeyPath, known: set[str]) -> None:
        """Raises LaptopError for a key of the map at `path` that is not known."""
        for key in sorted(self.map_at(path).keys() - known):
            problem = f"not supported on a laptop; supported are {', '.join(sorted(known))}"
            raise _error((self,), (*path, key), problem)


@dataclass(frozen=True)
class Bundle:
    """All files merged for one target."""

    root: Path
    target: str
    tree: Tree
    layers: tuple[Layer, ...]

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
    files = _read_files(root)
    name = _choose_target(files, target)
    overrides = [_target_layer(layer, name) for layer in files if layer.depth(("targets", name)) == 2]
    layers = tuple(_with_keyed_lists(layer) for layer in [*files, *overrides])
    tree: Tree = {}
    for layer in layers:
        for key in layer.map_at(("variables",)):
            if layer.prefix and key not in _map_at(layers, tree, ("variables",)):
                raise _error((layer,), ("variables", key), "is not defined at the top; add it to variables")
            layer.check_keys(("variables", key), VARIABLE_KEYS)
        rest = {key: value for key, value in layer.tree.items() if key not in ("targets", "include")}
        tree = _merge_maps(tree, rest, layer, ())
    bundle = Bundle(root=root, target=name, tree=tree, layers=layers)
    if bundle.at(("mode",)) not in (None, "development", "production"):
        raise bundle.error(("mode",), "must be development or production")
    return bundle


def _read_files(root: Path) -> list[Layer]:
    main = Layer(FILE, (), read_yaml(root, FILE))
    files = {FILE: main}
    patterns = main.tree.get("include") or []
    if not isinstance(patterns, list):
        raise _error((main,), ("include",), "must be a list")
    for pattern in map(str, patterns):
        found = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        if not found and not re.search(r"[*?\[]", pattern):
            raise LaptopError(f"{FILE}: include: {pattern} does not exist; remove it")
        files |= {name: Layer(name, (), read_yaml(root, name)) for name in found if name not in files}
    resources: dict[str, str] = {}
    for layer in files.values():
        for key in layer.tree.keys() - FILE_KEYS:
            if key in _REFUSED:
                raise _error((layer,), (key,), "not supported on a laptop; remove it")
            _LOG.warning("%s: %s: unknown to the Databricks CLI, and left out", layer.file, key)
        layer.check_keys(("bundle",), BUNDLE_KEYS)
        for kind, its in layer.map_at(("resources",)).items():
            for key in () if isinstance(its, str) else layer.map_at(("resources", kind)):
                if other := resources.get(key):
                    raise _error((layer,), ("resources", kind, key), f"{other} has this key too; rename one")
                resources[key] = layer.file
    return list(files.values())


def _choose_target(files: Iterable[Layer], wanted: str | None) -> str:
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
    found = Layer(layer.file, ("targets", name), layer.map_at(("targets", name)))
    found.check_keys((), TARGET_KEYS)
    variables: Tree = {}
    for key, value in found.map_at(("variables",)).items():  # a value may stand alone for its definition
        is_whole = isinstance(value, dict) and "default" in value and set(value) <= VARIABLE_KEYS
        variables[key] = value if is_whole else {"default": value}
    return replace(found, tree={**found.tree, "variables": variables})


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
    for key in layer.map_at(_JOBS):
        job = layer.map_at((*_JOBS, key))
        lists = {name: job[name] for name in _KEYED_LISTS.keys() & job.keys() if not isinstance(job[name], str)}
        jobs[key] = {**job, **{name: _keyed(layer, (*_JOBS, key, name), items) for name, items in lists.items()}}
    return replace(layer, tree=_with_jobs(layer.tree, jobs)) if jobs else layer


def _keyed(layer: Layer, path: KeyPath, items: Json) -> Tree:
    id_key, keyed = _KEYED_LISTS[str(path[-1])], dict[str, Json]()
    for item in items if isinstance(items, list) else [None]:
        name = item.get(id_key) if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(name, str):
            raise _error((layer,), path, f"must be a list of maps, each with its {id_key}")
        rest = {key: value for key, value in item.items() if key != id_key}
        keyed[name] = _merge(keyed.get(name), rest, layer, (*path, name))
    return keyed


def as_listed(tree: Tree) -> Tree:
    """A bundle's tree with the lists of its jobs as lists again, as Python code and the CLI have them."""

    def listed(name: str, items: Json) -> Json:
        if name not in _KEYED_LISTS or not isinstance(items, dict):
            return items
        return [{_KEYED_LISTS[name]: key, **(item if isinstance(item, dict) else {})} for key, item in items.items()]

    jobs = _at(tree, _JOBS)
    if not isinstance(jobs, dict):
        return tree
    return _with_jobs(
        tree,
        {
            key: {name: listed(name, items) for name, items in job.items()} if isinstance(job, dict) else job
            for key, job in jobs.items()
        },
    )


def _with_jobs(tree: Tree, jobs: Tree) -> Tree:
    resources = tree.get("resources")
    return {**tree, "resources": {**(resources if isinstance(resources, dict) else {}), "jobs": jobs}}


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
