"""What is added to a bundle's files: the names that a target gives, and what the bundle's own Python makes."""

from typing import Any

import pytest

from bundle_laptop.errors import LaptopError

RESOURCES = """
resources:
  schemas:
    home: {catalog_name: '${var.catalog}', name: words}
    other: {catalog_name: other, name: words}
  registered_models:
    plain: {catalog_name: main, schema_name: words, name: length}
    referring: {catalog_name: main, schema_name: '${resources.schemas.home.name}', name: sum}
    elsewhere: {catalog_name: else, schema_name: words, name: rest}
  volumes: {files: {catalog_name: main, schema_name: words, name: files}}
  experiments: {e: {name: /Shared/length}, bare: {name: length}}
  model_serving_endpoints: {serve: {name: length}}
  secret_scopes: {scope: {name: keys}}
  pipelines: {p: {name: flow}}
  jobs: {j: {name: count, tasks: [{task_key: t}]}}
"""
NAMES = {
    "schemas.home.name": "words",
    "schemas.other.name": "words",
    "registered_models.plain.name": "length",
    "registered_models.plain.schema_name": "words",
    "registered_models.referring.schema_name": "words",
    "registered_models.elsewhere.schema_name": "words",
    "volumes.files.schema_name": "words",
    "volumes.files.name": "files",
    "experiments.e.name": "/Shared/length",
    "experiments.bare.name": "length",
    "model_serving_endpoints.serve.name": "length",
    "secret_scopes.scope.name": "keys",
    "pipelines.p.name": "flow",
    "jobs.j.name": "count",
}
PREFIXED = {
    "schemas.home.name": "dev_local_words",
    "schemas.other.name": "dev_local_words",
    "registered_models.plain.name": "dev_local_length",
    # Named in plain it is taken for the bundle's own schema.
    "registered_models.plain.schema_name": "dev_local_words",
    "registered_models.referring.schema_name": "dev_local_words",
    "volumes.files.schema_name": "dev_local_words",
    "experiments.e.name": "/Shared/[dev local] length",
    "experiments.bare.name": "[dev local] length",
    "model_serving_endpoints.serve.name": "dev_local_length",
    "pipelines.p.name": "[dev local] flow",
    "jobs.j.name": "[dev local] count",
}


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("mode: development", NAMES | PREFIXED),
        ("mode: production", NAMES),
        ("default: true", NAMES),
        ("{mode: development, presets: {name_prefix: ''}}", NAMES),
    ],
)
def test_development_mode_prefixes_what_the_cli_prefixes(project: Any, target: str, names: dict[str, str]) -> None:
    project.write(
        "databricks.yml",
        f"bundle: {{name: demo}}\ninclude: [all.yml]\nvariables: {{catalog: {{default: main}}}}\n"
        f"targets:\n  dev:\n    {target}\n",
    )
    project.write("all.yml", RESOURCES)
    resolver = project.resolver()
    found = {path: resolver.resolve(f"${{resources.{path}}}", ()) for path in names}
    assert found == names


@pytest.mark.parametrize(
    ("prefix", "job", "schema"),
    [
        ("team ", "team count", "teamwords"),
        ("team-a_", "team-a_count", "team_awords"),
        ("[Team A] ", "[Team A] count", "team_a_words"),
        ("[x]", "[x]count", "x_words"),
        ("${bundle.target}_", "dev_count", "devwords"),
    ],
)
def test_a_prefix_of_the_presets_is_taken_as_the_cli_does(project: Any, prefix: str, job: str, schema: str) -> None:
    resources = {"schemas": {"home": {"name": "words"}}, "jobs": {"j": {"name": "count", "tasks": [{"task_key": "t"}]}}}
    project.write(
        "resources/all.yml", {"resources": resources, "targets": {"dev": {"presets": {"name_prefix": prefix}}}}
    )
    resolver = project.resolver()
    assert resolver.resolve("${resources.jobs.j.name}", ()) == job
    assert resolver.resolve("${resources.schemas.home.name}", ()) == schema


PYTHON = """
from databricks.bundles.core import Bundle, Location, Resources, job_mutator
from databricks.bundles.jobs import Job
from databricks.bundles.schemas import Schema


def load(bundle: Bundle) -> Resources:
    resources = Resources()
    resources.add_job("made", Job.from_dict({
        "name": f"made for {bundle.target}: {bundle.variables['rows']}",
        "parameters": [{"name": "words", "default": "${var.table}"}],
        "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "src/t"}}],
    }))
    resources.add_schema("extra", Schema(catalog_name="main", name="extra"))
    if bundle.variables["rows"] == 0:
        resources.add_diagnostic_error("rows must not be 0", location=Location(file="rows.yml", line=3))
    return resources


@job_mutator
def retried(bundle: Bundle, job: Job) -> Job:
    if bundle.variables["rows"] == 13:
        raise ValueError("not thirteen")
    tasks = [{**task.as_dict(), "max_retries": 2} for task in job.tasks]
    return Job.from_dict({**job.as_dict(), "name": f"{job.name}!", "tasks": tasks})
"""
WITH_PYTHON = """
bundle: {name: demo, databricks_cli_version: '>= 1'}
include: [resources/*.yml]
python: {venv_path: .venv, resources: ['resources:load'], mutators: ['resources:retried']}
variables:
  rows: {default: 7}
  required:
  table: {default: '${resources.schemas.home.name}.words'}
resources:
  schemas: {home: {catalog_name: main, name: words}}
targets:
  dev: {default: true, mode: development}
"""


@pytest.fixture
def with_python(project: Any) -> Any:
    """A bundle whose folder `resources` is a package, too."""
    project.write("databricks.yml", WITH_PYTHON)
    project.write("resources/__init__.py", PYTHON)
    project.write("src/t.py", "# Databricks notebook source")
    tags = {"team": "${var.required}", "table": "${var.table}", "again": "${var.table}"}
    project.add_job("j", {"task_key": "t", "notebook_task": {"notebook_path": "src/t"}}, name="count", tags=tags)
    return project


def test_resources_in_python_are_the_bundles_too_and_its_mutators_change_all_of_them(with_python: Any) -> None:
    resolver = with_python.resolver()
    jobs = resolver.bundle.map_at(("resources", "jobs"))
    assert {key: job["name"] for key, job in jobs.items()} == {
        "j": "[dev local] count!",
        "made": "[dev local] made for dev: 7!",
    }
    assert [job["tasks"]["t"]["max_retries"] for job in jobs.values()] == [2, 2]
    assert resolver.resolve("${resources.schemas.extra.name}", ()) == "dev_local_extra"
    # What needs a resource, or a value that nobody gave, is left for whoever asks.
    assert jobs["j"]["tags"] == {"team": "${var.required}", "table": "${var.table}", "again": "${var.table}"}
    plan = with_python.plan("made")
    assert plan.jobs["made"].parameters["words"].default == "dev_local_words.words"
    assert plan.deployment.schemas == ("main.dev_local_words",)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("default: 7", "default: 0", "rows.yml:3: rows must not be 0"),
        (
            "default: 7",
            "default: 13",
            "resources/__init__.py:20: Failed to apply 'retried' mutator: ValueError: not thirteen",
        ),
        ("resources:load", "resources:lost", "resources/__init__.py: Name 'lost' not found in module 'resources': "),
        (
            "resources:load",
            "lost:load",
            "Failed to import module 'lost': ModuleNotFoundError: No module named 'lost'",
        ),
    ],
)
def test_a_mistake_in_python_is_one_line(with_python: Any, old: str, new: str, line: str) -> None:
    with_python.write("databricks.yml", WITH_PYTHON.replace(old, new))
    with pytest.raises(LaptopError) as refused:
        with_python.resolver()
    message = str(refused.value).replace(f"{with_python.root}/", "")
    assert message.startswith(line)
    assert "\n" not in message


def test_python_that_breaks_off_is_one_line(with_python: Any) -> None:
    with_python.write("resources/__init__.py", "import os\nos._exit(7)")
    with pytest.raises(LaptopError, match=r"^python: load_resources failed: [^\n]*$"):
        with_python.resolver()
