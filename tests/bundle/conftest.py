"""The bundle's files as written, and one case per resource, job, task, target and kind of compute."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from databricks.bundles.alerts import Alert
from databricks.bundles.dashboards import Dashboard
from databricks.bundles.experiments import MlflowExperiment
from databricks.bundles.jobs import Job
from databricks.bundles.model_serving_endpoints import ModelServingEndpoint
from databricks.bundles.registered_models import RegisteredModel
from databricks.bundles.schemas import Schema
from databricks.bundles.secret_scopes import SecretScope
from databricks.bundles.volumes import Volume
from tests.deployed import ROOT, deployed

from bundle_laptop.bundle import Bundle, as_listed, load_bundle
from bundle_laptop.completed import with_kinds
from bundle_laptop.references import Resolver

SERVICE_PRINCIPAL = "00000000-0000-0000-0000-000000000000"
WAREHOUSE = "0123456789abcdef"  # which the CLI looks up by its name
TREES = {
    path.relative_to(ROOT): yaml.safe_load(path.read_text())
    for path in [ROOT / "databricks.yml", *sorted((ROOT / "resources").rglob("*.yml"))]
}

TYPES = {
    "alerts": Alert,
    "dashboards": Dashboard,
    "experiments": MlflowExperiment,
    "jobs": Job,
    "model_serving_endpoints": ModelServingEndpoint,
    "registered_models": RegisteredModel,
    "schemas": Schema,
    "secret_scopes": SecretScope,
    "volumes": Volume,
}


class Resource(NamedTuple):
    file: Path
    kind: str
    key: str
    config: dict[str, Any]


class Task(NamedTuple):
    job: str
    config: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.config["task_key"])

    @property
    def is_wheel(self) -> bool:
        return "python_wheel_task" in self.config


RESOURCES = [
    Resource(file, kind, key, config)
    for file, tree in TREES.items()
    for kind, configs in tree.get("resources", {}).items()
    if isinstance(configs, dict)  # not those that a variable turns on
    for key, config in configs.items()
]


JOBS = [resource._replace(config=deployed(resource.config)) for resource in RESOURCES if resource.kind == "jobs"]
TASKS = [Task(job.key, config) for job in JOBS for config in job.config["tasks"]]
WHEEL_TASKS = [task for task in TASKS if task.is_wheel]
TARGETS = list(TREES[Path("databricks.yml")]["targets"])
COMPUTES = ["serverless", "job_cluster"]
assert RESOURCES and JOBS and WHEEL_TASKS and TARGETS == ["dev", "staging", "prod"]


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def types() -> dict[str, Any]:
    return TYPES


@pytest.fixture
def trees() -> dict[Path, Any]:
    return TREES


@pytest.fixture
def resources() -> list[Resource]:
    return RESOURCES


@pytest.fixture
def jobs() -> dict[str, dict[str, Any]]:
    return {job.key: job.config for job in JOBS}


@pytest.fixture(params=RESOURCES, ids=lambda resource: f"{resource.kind}.{resource.key}")
def resource(request: pytest.FixtureRequest) -> Resource:
    return request.param


@pytest.fixture(params=JOBS, ids=lambda job: job.key)
def job(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param.config


@pytest.fixture(params=TASKS, ids=lambda task: f"{task.job}.{task.key}")
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture(params=WHEEL_TASKS, ids=lambda task: f"{task.job}.{task.key}")
def wheel_task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=COMPUTES)
def compute(request: pytest.FixtureRequest) -> str:
    """Each choice in turn, whatever the target itself says: a team may switch, and all tests still hold."""
    return request.param


@pytest.fixture
def resolver_on(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Resolver]:
    """The laptop's, with the target's own variables and this value of the variable `compute`."""
    monkeypatch.delenv("BUNDLE_VAR_service_principal", raising=False)
    bundle = _loaded(target)
    given = {"warehouse_id": WAREHOUSE} | ({} if target == "dev" else {"service_principal": SERVICE_PRINCIPAL})

    def on(compute: object) -> Resolver:
        tree: Any = deepcopy(bundle.tree)
        tree["variables"]["compute"]["default"] = compute
        changed = replace(bundle, tree=tree)
        return with_kinds(Resolver(bundle=changed, folder=tmp_path, variables=given, configured={}))

    return on


@pytest.fixture
def resolver(resolver_on: Callable[[object], Resolver], compute: str) -> Resolver:
    return resolver_on(f"${{var.{compute}}}")


@pytest.fixture
def resolved(resolver: Resolver) -> dict[str, Any]:
    """All files merged for one target, without a reference left."""
    tree = {key: resolver.at((key,)) for key in resolver.bundle.tree if key != "variables"}
    for key, job in tree["resources"]["jobs"].items():
        job["tasks"] = [_sent({"task_key": name, **task}) for name, task in job["tasks"].items()]
        parameters = job.get("parameters", {}).items()
        job["parameters"] = [{"name": name, **parameter} for name, parameter in parameters]
        tree["resources"]["jobs"][key] = _sent(job)
    return tree


@cache
def _loaded(target: str) -> Bundle:
    bundle = load_bundle(ROOT, target)
    tree = as_listed(bundle.tree)
    jobs = {key: deployed(job, target) for key, job in tree["resources"]["jobs"].items()}
    return bundle.with_tree({**tree, "resources": {**tree["resources"], "jobs": jobs}})


def _sent(config: dict[str, Any]) -> dict[str, Any]:
    """As the CLI from version 1.10: a field that holds an empty text or list is not sent."""
    return {key: value for key, value in config.items() if value not in ("", [])}
