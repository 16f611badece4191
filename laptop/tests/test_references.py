"""The `${...}` of a bundle: what they stand for, and what is refused, in one line with file and key."""

import json
import subprocess
from typing import Any

import pytest

from bundle_laptop.errors import LaptopError
from bundle_laptop.references import REFERENCES, as_part, as_text

MAIN = """
bundle: {name: demo}
include: [resources/*.yml]
variables:
  catalog: {default: main}
  plain: {default: from default}
  number: {default: 3}
  small: {default: 1e-7}
  list: {type: complex, default: [x, y]}
  map: {type: complex, default: {a: {b: '${var.number}'}}}
  chosen: {type: complex, default: '${var.map}'}
  required:
  warehouse: {lookup: {warehouse: shared}}
  raw: {default: '${resources.schemas.home.name}'}
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""
RESOURCES = """
resources:
  schemas: {home: {catalog_name: '${var.catalog}', name: sales}}
  registered_models: {m: {catalog_name: '${var.catalog}', schema_name: sales, name: churn}}
  experiments: {e: {name: /Shared/churn}}
  model_serving_endpoints: {s: {name: churn}}
  volumes:
    v: {catalog_name: '${var.catalog}', name: files, schema_name: '${resources.schemas.home.name}'}
    elsewhere: {catalog_name: other, schema_name: sales, name: files}
  secret_scopes: {k: {name: secrets}}
  jobs: {j: {name: daily, tasks: [{task_key: t}]}}
"""
HERE = ("resources", "jobs", "j", "name")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "catalog", "list"):
        monkeypatch.delenv(f"BUNDLE_VAR_{name}", raising=False)


@pytest.fixture
def bundle(project: Any) -> Any:
    project.write("databricks.yml", MAIN)
    project.write("resources/all.yml", RESOURCES)
    return project


@pytest.mark.parametrize(
    ("text", "dev", "prod"),
    [
        ("--x=${var.plain}", "--x=from default", "--x=from default"),
        ("${var.number}", 3, 3),
        ("${var.list}", ["x", "y"], ["x", "y"]),
        ("n=${var.number}", "n=3", "n=3"),
        ("${var.small} ${var.number}", "1e-07 3", "1e-07 3"),
        ("${var.map.a}", {"b": 3}, {"b": 3}),
        ("${var.chosen.a.b}", 3, 3),
        ("${bundle.name} ${bundle.target} ${bundle.environment}", "demo dev dev", "demo prod prod"),
        ("${workspace.current_user.userName}", "local", "local"),
        ("${workspace.current_user.short_name}", "local", "local"),
        (
            "${workspace.root_path}",
            "/Workspace/Users/local/.bundle/demo/dev",
            "/Workspace/Users/local/.bundle/demo/prod",
        ),
        ("${bundle.git.commit}", "", ""),
        ("${var.raw}", "dev_local_sales", "sales"),
        ("${resources.schemas.home.name}", "dev_local_sales", "sales"),
        ("${resources.schemas.home.id}", "main.dev_local_sales", "main.sales"),
        ("${resources.registered_models.m.name}", "dev_local_churn", "churn"),
        ("${resources.registered_models.m.id}", "main.dev_local_sales.dev_local_churn", "main.sales.churn"),
        ("${resources.experiments.e.name}", "/Shared/[dev local] churn", "/Shared/churn"),
        ("${resources.model_serving_endpoints.s.name}", "dev_local_churn", "churn"),
        ("${resources.jobs.j.name} ${resources.jobs.j.id}", "[dev local] daily j", "daily j"),
        ("${resources.volumes.v.id}", "main.dev_local_sales.files", "main.sales.files"),
        ("${resources.volumes.elsewhere.id}", "other.sales.files", "other.sales.files"),
        ("${resources.secret_scopes.k.name}", "secrets", "secrets"),
        # What the workspace fills in while the job runs is left alone.
        ("{{job.id}} $x $ {y}", "{{job.id}} $x $ {y}", "{{job.id}} $x $ {y}"),
    ],
)
def test_a_reference_stands_for_what_it_does_in_a_workspace_apart_from_the_stated_differences(
    bundle: Any, text: str, dev: object, prod: object
) -> None:
    assert bundle.resolver("dev").resolve(text, HERE) == dev
    assert bundle.resolver("prod").resolve([text], HERE) == [prod]


def test_files_are_those_of_the_bundle_and_volumes_and_the_world_are_folders(bundle: Any) -> None:
    asked = ["${workspace.file_path}/src", "${laptop.folder}", "${resources.volumes.elsewhere.volume_path}"]
    world = bundle.root / ".local/dev"
    assert bundle.resolver().resolve(asked, HERE) == [
        f"{bundle.root}/src",
        str(world),
        f"{world}/volumes/other/sales/files",
    ]


def test_a_root_path_may_be_given(bundle: Any) -> None:
    bundle.write("resources/path.yml", "workspace: {root_path: '~/x/${bundle.target}'}")
    assert bundle.resolver().resolve("${workspace.root_path}/y", HERE) == "/Workspace/Users/local/x/dev/y"


def test_commit_and_branch_are_those_of_the_repository(bundle: Any) -> None:
    git = ["git", "-C", str(bundle.root), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q", "-b", "feature"], ["add", "-A"], ["commit", "-q", "-m", "bundle"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert bundle.resolver().resolve("${bundle.git.branch} ${bundle.git.commit}", HERE) == f"feature {commit}"


def test_a_variable_takes_its_value_from_the_first_place_that_gives_one(
    bundle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def value(**variables: str) -> object:
        return bundle.resolver(**variables).resolve("${var.plain}", HERE)

    assert value() == "from default"
    bundle.write("resources/dev.yml", "targets: {dev: {variables: {plain: from target}}}")
    assert value() == "from target"
    bundle.write(".databricks/bundle/dev/variable-overrides.json", {"plain": "from file"})
    assert value() == "from file"
    monkeypatch.setenv("BUNDLE_VAR_plain", "from environment")
    assert value() == "from environment"
    bundle.write("pyproject.toml", "[tool.bundle-laptop.variables]\nplain = 'from settings'\n")
    assert value() == "from settings"
    assert value(plain="from --var") == "from --var"
    assert value(plain="${bundle.target}") == "dev"


@pytest.mark.parametrize(
    ("value", "alone", "within"),
    [
        (True, "true", "true"),
        (3, "3", "3"),
        (10**20, "1" + 20 * "0", "1" + 20 * "0"),
        (1.0, "1", "1"),
        (1.50, "1.5", "1.5"),
        (0.1, "0.1", "0.1"),
        (-0.0, "-0", "-0"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05"),
        (1e-7, "0.0000001", "1e-07"),
        (-1.5e-7, "-0.00000015", "-1.5e-07"),
        (999999.0, "999999", "999999"),
        (1e6, "1000000", "1e+06"),
        (1234567.5, "1234567.5", "1.2345675e+06"),
        (1e21, "1" + 21 * "0", "1e+21"),
        (1e100, "1" + 100 * "0", "1e+100"),
    ],
)
def test_a_number_is_written_as_the_cli_writes_it_alone_and_within_a_text(
    value: object, alone: str, within: str
) -> None:
    assert (as_text(value), as_part(value)) == (alone, within)


@pytest.mark.parametrize("value", ["a", None, [1], {"a": 1}])
def test_what_is_no_number_is_left_as_it_is(value: object) -> None:
    assert as_text(value) is as_part(value) is value


def test_python_code_gets_what_is_known_without_the_resources(bundle: Any) -> None:
    given = ["${var.number}", "${var.list}", "x ${var.list}", "${var.required}", "${resources.schemas.home.name}", 1]
    twice = ["${var.raw}", "a ${var.raw} b"]  # it stands for a resource: also the second time it is left
    known = bundle.resolver().before_deployment({"a": [*given, *twice, "${bundle.target}!"]}, HERE)
    assert known == {"a": [3, ["x", "y"], *given[2:], *twice, "dev!"]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("${var.nope}", "${var.nope} is not defined; add nope to variables"),
        ("${var.plain.a}", "${var.plain.a}: the variable's value has no a; add it there"),
        ("x ${var.list}", "${var.list} is no plain value and cannot be part of a text"),
        ("${resources.schemas.other.name}", "${resources.schemas.other.name}: there is no other in resources.schemas"),
        ("${resources.pipelines.p.id}", "${resources.pipelines.p.id}: there is no p in resources.pipelines"),
        ("${resources.schemas.home.comment}", "${resources.schemas.home.comment}: home does not set comment"),
        ("${workspace.host}", f"${{workspace.host}} is not supported on a laptop; use {', '.join(REFERENCES)}"),
        ("${var.", f"'${{var.' holds no proper reference; supported are {', '.join(REFERENCES)}"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_where_it_stands(bundle: Any, text: str, line: str) -> None:
    with pytest.raises(LaptopError) as refused:
        bundle.resolver().resolve(text, HERE)
    assert str(refused.value) == f"resources/all.yml: resources.jobs.j.name: {line}"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("required", ": has no value; give --var required=... or set BUNDLE_VAR_required"),
        ("warehouse", ".lookup: asks a workspace; give --var warehouse=..."),
    ],
)
def test_a_variable_without_a_value_says_how_to_give_one(bundle: Any, name: str, line: str) -> None:
    with pytest.raises(LaptopError) as refused:
        bundle.resolver().resolve(f"${{var.{name}}}", HERE)
    assert str(refused.value) == f"databricks.yml: variables.{name}{line}"
    assert bundle.resolver(**{name: "given"}).resolve(f"${{var.{name}}}", HERE) == "given"


@pytest.mark.parametrize(
    ("plain", "number", "line"),
    [
        ("${var.plain}", "3", "plain.default: references go in a circle: ${var.plain} -> ${var.plain}; break it"),
        (
            "a ${var.number}",
            "'${var.plain}'",
            "number.default: references go in a circle: ${var.plain} -> ${var.number} -> ${var.plain}; break it",
        ),
        ("${var.nope}", "3", "plain.default: ${var.nope} is not defined; add nope to variables"),
    ],
)
def test_a_mistake_in_a_variable_is_found_there(bundle: Any, plain: str, number: str, line: str) -> None:
    main = MAIN.replace("from default", f"'{plain}'").replace("default: 3", f"default: {number}")
    bundle.write("databricks.yml", main)
    with pytest.raises(LaptopError) as refused:
        bundle.resolver().resolve("${var.plain}", HERE)
    assert str(refused.value) == f"databricks.yml: variables.{line}"


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"nope": "1"}, "nope: is given by --var but not defined; check its spelling"),
        ({"list": "1"}, "list: is complex, and --var gives a text; set it in the bundle's files"),
    ],
)
def test_what_var_gives_must_be_a_plain_variable(bundle: Any, variables: dict[str, str], line: str) -> None:
    with pytest.raises(LaptopError) as refused:
        bundle.resolver(**variables)
    assert str(refused.value) == f"databricks.yml: variables.{line}"


def test_the_environment_cannot_give_what_is_complex(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_VAR_list", "1")
    with pytest.raises(LaptopError, match=r"variables\.list: is complex: neither --var nor BUNDLE_VAR_list can set it"):
        bundle.resolver().resolve("${var.list}", HERE)


@pytest.mark.parametrize(
    ("text", "line"), [("{", "invalid JSON: "), (json.dumps([]), "must be a map of variables to values")]
)
def test_a_file_of_overrides_that_is_none_is_refused(bundle: Any, text: str, line: str) -> None:
    name = ".databricks/bundle/dev/variable-overrides.json"
    bundle.write(name, text)
    with pytest.raises(LaptopError) as refused:
        bundle.resolver().resolve("${var.plain}", HERE)
    assert str(refused.value).startswith(f"{name}: {line}")
