"""What the CLI adds to a bundle's files before it deploys.

That is the resources of the bundle's Python, the names that development mode gives, and what the bundle's mutators
change. The Python runs as the CLI runs it, in the bundle's folder (https://docs.databricks.com/dev-tools/bundles/python).
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle_laptop.bundle import Bundle, KeyPath, as_listed
from bundle_laptop.errors import LaptopError
from bundle_laptop.references import USER, Resolver
from bundle_laptop.yaml_file import Json, Tree

_SPACED = ("dashboards", "experiments", "jobs", "pipelines", "models")
_UNDERSCORED = ("model_serving_endpoints", "registered_models", "schemas")


def loaded(resolver: Resolver) -> Resolver:
    """With all resources and their names. Raises LaptopError with what the bundle's Python says of a mistake."""
    resolver = _run_python(with_kinds(resolver), "load_resources", "resources")
    return resolver.of(_named(resolver))


def with_kinds(resolver: Resolver) -> Resolver:
    """With the resources of each kind that a variable stands for."""
    tree = as_listed(resolver.bundle.tree)
    if not isinstance(resources := tree.get("resources"), dict):
        return resolver
    kinds = {kind: resolver.opened(its, ("resources", kind)) for kind, its in resources.items()}
    return resolver.of(resolver.bundle.with_tree({**tree, "resources": kinds}))


def completed(resolver: Resolver) -> Resolver:
    """Of what `loaded` gives, with what the bundle's mutators change. Raises LaptopError likewise."""
    return _run_python(resolver, "apply_mutators", "mutators")


def _named(resolver: Resolver) -> Bundle:
    """With prefixed names; a schema of the bundle that is named in plain is referred to, so that it gets its prefix."""
    bundle = resolver.bundle
    given = resolver.at(("presets", "name_prefix"))
    prefix = str(given if given is not None else f"[dev {USER}] " if bundle.at(("mode",)) == "development" else "")
    # As the CLI: a separator at the end is kept from a bracket alone.
    ending = "_" if prefix.strip().endswith("]") else ""
    underscored = re.sub(r"[\W_]+", "_", prefix.lower()).strip("_") + ending

    def known(kind: str, key: str, *names: str) -> list[Json]:
        paths: list[KeyPath] = [("resources", kind, key, name) for name in names]
        return [resolver.before_deployment(bundle.at(path), path) for path in paths]

    def changed(kind: str, key: str) -> Json:
        resource = bundle.at(("resources", kind, key))
        if not isinstance(resource, dict):
            return resource
        resource, name = dict(resource), resource.get("name")
        if kind in ("registered_models", "volumes"):
            names = known(kind, key, "catalog_name", "schema_name")
            for schema in [schema for schema, its in schemas.items() if its == names]:
                resource["schema_name"] = f"${{resources.schemas.{schema}.name}}"
        if prefix and isinstance(name, str) and kind in (*_SPACED, *_UNDERSCORED):
            folder, slash, last = name.rpartition("/") if kind == "experiments" else ("", "", name)
            resource["name"] = folder + slash + (prefix if kind in _SPACED else underscored) + last
        return resource

    schemas = {key: known("schemas", key, "catalog_name", "name") for key in bundle.map_at(("resources", "schemas"))}
    resources: Tree = {
        kind: {key: changed(kind, key) for key in bundle.map_at(("resources", kind))}
        for kind in bundle.map_at(("resources",))
    }
    return bundle.with_tree(as_listed({**bundle.tree, "resources": resources}))


def _run_python(resolver: Resolver, phase: str, functions: str) -> Resolver:
    bundle = resolver.bundle
    if not bundle.at(("python", functions)):
        return resolver
    variables: Tree = {
        name: {"value": resolver.before_deployment(f"${{var.{name}}}", ("variables", name))}
        for name in bundle.map_at(("variables",))
    }
    written = as_listed(bundle.tree).get("resources")
    python: Tree = {key: value for key, value in bundle.map_at(("python",)).items() if key != "venv_path"}
    given: Tree = {
        "bundle": {**bundle.map_at(("bundle",)), "target": bundle.target},
        "python": python,
        "variables": variables,
        "resources": resolver.before_deployment(written, ("resources",)) or {},
    }
    found = _call(bundle, phase, given).get("resources")
    if phase == "load_resources" and isinstance(found, dict) and isinstance(written, dict):
        found = {kind: _both(found.get(kind), written.get(kind)) for kind in {**written, **found}}
    return resolver.of(bundle.with_tree({**bundle.tree, "resources": found}))


def _both(found: Json, written: Json) -> Json:
    """Resources of one kind: those of the files stay as they are written."""
    return {**(found if isinstance(found, dict) else {}), **(written if isinstance(written, dict) else {})}


def _call(bundle: Bundle, phase: str, given: Tree) -> Tree:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "input").write_text(json.dumps(given), encoding="utf-8")
        files = [f"--{what}={folder / what}" for what in ("input", "output", "diagnostics", "locations")]
        command = [sys.executable, "-m", "databricks.bundles.build", f"--phase={phase}", *files]
        ended = subprocess.run(command, cwd=bundle.root, capture_output=True, text=True, check=False)
        diagnostics = folder / "diagnostics"
        for line in diagnostics.read_text(encoding="utf-8").splitlines() if diagnostics.exists() else []:
            one = json.loads(line)
            if one["severity"] == "error":
                where = one.get("location") or {}
                place = ":".join(str(where[part]) for part in ("file", "line") if part in where)
                detail = (one.get("detail") or "").strip().splitlines()
                raise LaptopError(": ".join(filter(None, [place, one["summary"], *detail[-1:]])))
        if ended.returncode:
            raise LaptopError(f"python: {phase} failed: {''.join(ended.stderr.splitlines()[-1:])}")
        answer: Tree = json.loads((folder / "output").read_text(encoding="utf-8"))
    return answer
