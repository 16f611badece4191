"""How a bundle's files and one target are merged, and what is refused: one line with file and key."""

from pathlib import Path
from typing import Any

import pytest

from bundle_laptop.bundle import BUNDLE_KEYS, TARGET_KEYS, Bundle, as_listed, load_bundle
from bundle_laptop.errors import LaptopError

MAIN = """
bundle: {name: demo}
include: [resources/*.yml]
variables:
  catalog: {default: main}
  list: {type: complex, default: [x, y]}
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""
JOB: dict[str, Any] = {
    "parameters": [{"name": "a", "default": "a"}, {"name": "b", "default": "b"}],
    "tasks": [
        {"task_key": "t", "notebook_task": {"notebook_path": "t"}},
        {"task_key": "u", "python_wheel_task": {"parameters": ["one"]}},
    ],
    "tags": {"team": "words", "cost": "low"},
}


def of_prod(project: Any, **override: Any) -> Bundle:
    """The target prod, which overrides something of the job `j`."""
    project.add_job("j", **JOB)
    project.write("resources/prod.yml", {"targets": {"prod": {"resources": {"jobs": {"j": override}}}}})
    return load_bundle(project.root, "prod")


@pytest.mark.parametrize(
    ("override", "key", "merged"),
    [
        ({"name": "n"}, "name", "n"),
        ({"tags": {"cost": "high"}}, "tags", {"team": "words", "cost": "high"}),
        ({"tags": None}, "tags", {"team": "words", "cost": "low"}),
        (
            {"parameters": [{"name": "c", "default": "C"}, {"name": "a", "default": "A"}]},
            "parameters",
            {"a": {"default": "A"}, "b": {"default": "b"}, "c": {"default": "C"}},
        ),
        (
            {"tasks": [{"task_key": "u", "max_retries": 2, "python_wheel_task": {"parameters": ["two"]}}]},
            "tasks",
            {
                "t": {"notebook_task": {"notebook_path": "t"}},
                "u": {"max_retries": 2, "python_wheel_task": {"parameters": ["one", "two"]}},
            },
        ),
        ({"environments": [{"environment_key": "e"}]}, "environments", {"e": {}}),
        ({"job_clusters": [{"job_cluster_key": "c"}]}, "job_clusters", {"c": {}}),
    ],
)
def test_a_target_merges_maps_deep_and_a_jobs_lists_by_key(project: Any, override: Any, key: str, merged: Any) -> None:
    assert of_prod(project, **override).at(("resources", "jobs", "j", key)) == merged
    assert load_bundle(project.root, "dev").map_at(("resources", "jobs", "j")).get(key) != override.get(key)


def test_a_jobs_lists_are_lists_again_for_python(project: Any) -> None:
    tree = of_prod(project).tree
    assert as_listed(tree)["resources"] == {"jobs": {"j": JOB}}
    assert as_listed({"bundle": {}}) == {"bundle": {}}


@pytest.mark.parametrize("given", [["z"], {"default": ["z"]}])
def test_a_target_replaces_the_value_of_a_variable_even_a_list(project: Any, given: Any) -> None:
    project.write("databricks.yml", MAIN)
    project.write("resources/prod.yml", {"targets": {"prod": {"variables": {"list": given}}}})
    assert load_bundle(project.root, "prod").at(("variables", "list", "default")) == ["z"]
    assert load_bundle(project.root, "dev").at(("variables", "list", "default")) == ["x", "y"]


@pytest.mark.parametrize(
    ("targets", "wanted", "chosen"),
    [
        ({}, None, "default"),
        ({}, "default", "default"),
        ({"a": None}, None, "a"),
        ({"a": {}, "b": {"default": True}}, None, "b"),
        ({"a": {}, "b": {"default": True}}, "a", "a"),
        ({"a": {}, "b": {}}, "b", "b"),
    ],
)
def test_a_target_is_the_one_asked_for_or_the_default(
    project: Any, targets: Any, wanted: str | None, chosen: str
) -> None:
    project.write("databricks.yml", {"bundle": {"name": "demo"}, **({"targets": targets} if targets else {})})
    assert load_bundle(project.root, wanted).target == chosen


def test_files_are_included_by_pattern_in_their_order_and_each_once(project: Any) -> None:
    project.write("databricks.yml", "{bundle: {name: demo}, include: [b.yml, '*.yml', sub/*.yml, none/*.yml]}")
    for name in ("b", "a", "sub/c"):
        project.write(f"{name}.yml", {"workspace": {"root_path": name}})
    bundle = load_bundle(project.root, None)
    assert [layer.file for layer in bundle.layers] == ["databricks.yml", "b.yml", "a.yml", "sub/c.yml"]
    assert bundle.at(("workspace", "root_path")) == "sub/c"


def test_a_file_is_named_from_the_file_that_says_so_or_from_the_bundle_with_or_without_its_ending(
    project: Any,
) -> None:
    project.add_job("j", {"task_key": "t"})
    bundle, path = load_bundle(project.root, None), ("resources", "jobs", "j", "tasks", "t")
    below, beside = project.write("resources/a.py", ""), project.write("src/b.py", "")
    assert bundle.file_at(path, "a.py") == below
    assert bundle.file_at(path, "../src/b.py") == bundle.file_at(path, "src/b.py") == beside
    assert bundle.file_at(path, "src/b", (".ipynb", ".py")) == beside
    assert bundle.file_at(path, str(beside)) == beside
    with pytest.raises(LaptopError) as refused:
        bundle.file_at(path, "src/b")
    assert str(refused.value) == "resources/j.yml: resources.jobs.j.tasks.t: there is no file src/b in the bundle"


KNOWN = "not supported on a laptop; supported are"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "bundle: {",
            "x: [\n",
            "line 3: is not YAML: did not find expected ',' or ']'; fix the indentation, quotes or brackets here",
        ),
        ("name: demo", "name: demo, nope: {}", f"bundle.nope: {KNOWN} {', '.join(sorted(BUNDLE_KEYS))}"),
        ("bundle:", "experimental: {}\nbundle:", "experimental: not supported on a laptop; remove it"),
        ("mode: development", "mode: playing", "targets.dev.mode: must be development or production"),
        ("mode: development", "python: {}", f"targets.dev.python: {KNOWN} {', '.join(sorted(TARGET_KEYS))}"),
        (
            "mode: development",
            "variables: {nope: 1}",
            "targets.dev.variables.nope: is not defined at the top; add it to variables",
        ),
        ("default: true, ", "", "targets: 0 of them are the default; give --target"),
        ("prod: {", "prod: {default: true, ", "targets: 2 of them are the default; give --target"),
        ("{default: main}", "{value: x}", f"variables.catalog.value: {KNOWN} default, description, lookup, type"),
        ("resources/*.yml", "more.yml", "include: more.yml does not exist; remove it"),
        ("[resources/*.yml]", "resources", "include: must be a list"),
        ("bundle: {name: demo}", "bundle: demo", "bundle: must be a map"),
    ],
)
def test_a_bundle_that_is_not_understood_is_refused(project: Any, old: str, new: str, line: str) -> None:
    assert old in MAIN
    project.write("databricks.yml", MAIN.replace(old, new, 1))
    with pytest.raises(LaptopError) as refused:
        load_bundle(project.root, None)
    assert str(refused.value) == f"databricks.yml: {line}"


def test_a_key_that_the_cli_does_not_know_is_left_out_with_a_warning(
    project: Any, caplog: pytest.LogCaptureFixture
) -> None:
    project.write("databricks.yml", f"x-anchors: {{}}\nscripts: {{}}\n{MAIN}")
    assert load_bundle(project.root, None).target == "dev"
    assert caplog.messages == ["databricks.yml: x-anchors: unknown to the Databricks CLI, and left out"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ({"tags": "x"}, "tags: is a map, a list or a plain value here, and another of these elsewhere"),
        ({"parameters": [{"default": "x"}]}, "parameters: must be a list of maps, each with its name"),
        ({"tasks": {"t": {}}}, "tasks: must be a list of maps, each with its task_key"),
    ],
)
def test_what_cannot_be_merged_is_refused(project: Any, override: Any, line: str) -> None:
    with pytest.raises(LaptopError) as refused:
        of_prod(project, **override)
    assert str(refused.value) == f"resources/prod.yml: targets.prod.resources.jobs.j.{line}"


def test_an_unknown_target_is_refused(project: Any) -> None:
    with pytest.raises(LaptopError, match=r"^databricks\.yml: targets\.qa: no such target; there are dev, prod$"):
        load_bundle(project.root, "qa")


def test_a_resource_key_stands_for_one_resource(project: Any) -> None:
    for name, kind in (("a", "schemas"), ("b", "volumes")):
        project.write(f"resources/{name}.yml", {"resources": {kind: {"home": {"name": "x"}}}})
    with pytest.raises(LaptopError) as refused:
        load_bundle(project.root, None)
    assert str(refused.value) == (
        "resources/b.yml: resources.volumes.home: resources/a.yml has this key too; rename one"
    )


def test_a_folder_without_a_bundle_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LaptopError, match=r"^databricks\.yml: no such file in "):
        load_bundle(tmp_path, None)
