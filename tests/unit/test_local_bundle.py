"""What the laptop reads from a bundle, and what it refuses: one line with file and key."""

import json
from pathlib import Path

import pytest

from flight_delays.core.errors import UserError
from flight_delays.local.bundle import load_bundle
from flight_delays.local.plan import Endpoint, Plan, check_parameters, make_plan
from flight_delays.local.references import REFERENCES, Resolver

ROOT = Path(__file__).parents[2]
WHEEL = "python_wheel_task: {package_name: flight_delays, entry_point: flight-delays-task, parameters: [%s]}"

MAIN = """
bundle: {name: demo}
include: [resources/*.yml]
variables:
  catalog: {default: main}
  plain: {default: from default}
  number: {default: 3}
  list: {type: complex, default: [x, y]}
  required:
  raw: {default: "${resources.schemas.home.name}"}
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""
SCHEMA = "resources: {schemas: {home: {catalog_name: '${var.catalog}', name: sales}}}"


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNDLE_VAR_plain", raising=False)


def write(root: Path, **files: str) -> Path:
    (root / "resources").mkdir(exist_ok=True)
    for name, text in {"main": MAIN, "schema": SCHEMA, **files}.items():
        path = root / ("databricks.yml" if name == "main" else f"resources/{name}.yml")
        path.write_text(text, encoding="utf-8")
    return root


def job(tasks: str, rest: str = "") -> str:
    return f"resources:\n  jobs:\n    j:\n      {rest or 'name: j'}\n      tasks:\n{tasks}"


def task(rest: str = WHEEL % "", key: str = "t") -> str:
    return f"        - {{task_key: {key}, {rest}}}\n"


def plan(root: Path, target: str | None = None, **variables: str) -> Plan:
    bundle = load_bundle(root, target)
    return make_plan(bundle, Resolver(bundle, root / ".local", variables), ["j"])


def parameter(root: Path, text: str, target: str | None = None, **variables: str) -> str:
    write(root, j=job(task(WHEEL % json.dumps(text))))
    wheel = plan(root, target, **variables).jobs["j"].tasks["t"].python_wheel_task
    assert wheel is not None
    return wheel.parameters[0]


@pytest.mark.parametrize(
    ("text", "dev", "prod"),
    [
        ("--x=${var.plain}", "--x=from default", "--x=from default"),
        ("${var.number}", "3", "3"),
        ("${bundle.name} ${bundle.target}", "demo dev", "demo prod"),
        ("${workspace.current_user.userName}", "local", "local"),
        ("${workspace.current_user.short_name}", "local", "local"),
        (
            "${workspace.root_path}",
            "/Workspace/Users/local/.bundle/demo/dev",
            "/Workspace/Users/local/.bundle/demo/prod",
        ),
        ("${bundle.git.commit}", "", ""),
        ("${resources.schemas.home.name}", "dev_local_sales", "sales"),
        ("${resources.schemas.home.id}", "spark_catalog.dev_local_sales", "spark_catalog.sales"),
        ("${var.raw}", "dev_local_sales", "sales"),
        ("${resources.registered_models.m.name}", "dev_local_churn", "churn"),
        (
            "${resources.registered_models.m.id}",
            "spark_catalog.dev_local_sales.dev_local_churn",
            "spark_catalog.sales.churn",
        ),
        ("${resources.experiments.e.name}", "/Shared/[dev local] churn", "/Shared/churn"),
        ("${resources.jobs.j.name}", "[dev local] j", "j"),
        ("${resources.volumes.v.id}", "spark_catalog.dev_local_sales.files", "spark_catalog.sales.files"),
        # What the workspace fills in while the job runs is left alone.
        ("{{job.trigger.time.iso_datetime}}", "{{job.trigger.time.iso_datetime}}", "{{job.trigger.time.iso_datetime}}"),
    ],
)
def test_references_resolve_as_in_a_workspace_apart_from_the_stated_differences(
    tmp_path: Path, text: str, dev: str, prod: str
) -> None:
    write(
        tmp_path,
        # The schema is named in plain: the CLI takes that for a reference to the bundle's own.
        model="resources: {registered_models: {m: {catalog_name: '${var.catalog}', schema_name: sales, name: churn}}}",
        experiment="resources: {experiments: {e: {name: /Shared/churn}}}",
        volume="resources: {volumes: {v: {catalog_name: '${var.catalog}', name: files, "
        "schema_name: '${resources.schemas.home.name}'}}}",
    )
    assert parameter(tmp_path, text, "dev") == dev
    assert parameter(tmp_path, text, "prod") == prod


def test_a_volume_is_a_folder_of_the_local_world(tmp_path: Path) -> None:
    write(tmp_path, v="resources: {volumes: {v: {catalog_name: c, schema_name: s, name: files}}}")
    expected = tmp_path / ".local/volumes/c/s/files"
    assert parameter(tmp_path, "${resources.volumes.v.volume_path}") == str(expected)
    assert plan(tmp_path).deployment.volumes == (expected,)


def test_only_what_the_job_needs_is_deployed_but_that_with_all_it_needs_itself(tmp_path: Path) -> None:
    write(tmp_path, m="resources: {registered_models: {m: {catalog_name: c, schema_name: '${var.raw}', name: churn}}}")
    parameter(tmp_path, "${resources.registered_models.m.name}", "prod")
    needed = plan(tmp_path, "prod").deployment
    assert needed.registered_models == ("c.sales.churn",)
    assert needed.schemas == ("spark_catalog.sales",)
    assert parameter(tmp_path, "nothing") == "nothing"
    assert plan(tmp_path).deployment.schemas == ()


ENDPOINT = "resources: {model_serving_endpoints: {e: {name: delay, ai_gateway: {inference_table_config: %s}}}}"
PAYLOADS = (
    "{catalog_name: '${var.catalog}', schema_name: '${resources.schemas.home.name}', table_name_prefix: p, enabled: %s}"
)


@pytest.mark.parametrize(
    ("table", "inference_table", "schemas"),
    [
        (PAYLOADS % "true", "spark_catalog.dev_local_sales.p_payload", ("spark_catalog.dev_local_sales",)),
        (PAYLOADS % "false", None, ("spark_catalog.dev_local_sales",)),
        ("null", None, ()),
    ],
    ids=["with a table", "with one that is off", "without"],
)
def test_an_endpoint_that_a_job_names_is_deployed_with_its_inference_table(
    tmp_path: Path, table: str, inference_table: str | None, schemas: tuple[str, ...]
) -> None:
    write(tmp_path, endpoint=ENDPOINT % table)
    assert parameter(tmp_path, "${resources.model_serving_endpoints.e.name}") == "dev_local_delay"
    needed = plan(tmp_path).deployment
    assert needed.endpoints == (Endpoint(name="dev_local_delay", inference_table=inference_table),)
    assert needed.schemas == schemas
    assert parameter(tmp_path, "nothing") == "nothing"
    assert plan(tmp_path).deployment.endpoints == ()


def test_a_secret_scope_that_a_job_names_is_deployed_by_its_plain_name(tmp_path: Path) -> None:
    write(tmp_path, scope="resources: {secret_scopes: {s: {name: secrets}}}")
    assert parameter(tmp_path, "${resources.secret_scopes.s.name}") == "secrets"
    assert plan(tmp_path).deployment.secret_scopes == ("secrets",)


def test_an_endpoint_has_all_secrets_also_those_that_its_job_does_not_name(tmp_path: Path) -> None:
    write(tmp_path, endpoint=ENDPOINT % "null", scope="resources: {secret_scopes: {s: {name: secrets}}}")
    assert parameter(tmp_path, "${resources.model_serving_endpoints.e.name}") == "dev_local_delay"
    assert plan(tmp_path).deployment.secret_scopes == ("secrets",)


def test_a_variable_takes_its_value_from_the_first_place_that_gives_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = MAIN.replace("dev: {default: true,", "dev: {default: true, variables: {plain: from target},")
    overrides = tmp_path / ".databricks/bundle/dev/variable-overrides.json"
    assert parameter(tmp_path, "${var.plain}") == "from default"
    write(tmp_path, main=target)
    bundle = load_bundle(tmp_path, None)
    read = Resolver(bundle, tmp_path, {})
    assert read.resolve("${var.plain}", ()) == "from target"
    overrides.parent.mkdir(parents=True)
    overrides.write_text('{"plain": "from file"}', encoding="utf-8")
    assert read.resolve("${var.plain}", ()) == "from file"
    monkeypatch.setenv("BUNDLE_VAR_plain", "from environment")
    assert read.resolve("${var.plain}", ()) == "from environment"
    assert Resolver(bundle, tmp_path, {"plain": "from --var"}).resolve("${var.plain}", ()) == "from --var"


def test_the_catalog_is_sparks_own_unless_var_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_VAR_catalog", "elsewhere")
    assert parameter(tmp_path, "${var.catalog}") == "spark_catalog"
    assert parameter(tmp_path, "${var.catalog}", catalog="mine") == "mine"


def test_one_reference_alone_keeps_the_type_of_the_value(tmp_path: Path) -> None:
    read = Resolver(load_bundle(write(tmp_path), None), tmp_path, {})
    assert read.resolve(["${var.number}", "${var.list}", "n=${var.number}"], ()) == [3, ["x", "y"], "n=3"]


def test_a_part_of_a_variable_can_be_referred_to_even_through_another_variable(tmp_path: Path) -> None:
    more = (
        "  map: {type: complex, default: {a: {b: '${var.number}'}}}\n  chosen: {type: complex, default: '${var.map}'}\n"
    )
    write(tmp_path, main=MAIN.replace("targets:", more + "targets:"))
    read = Resolver(load_bundle(tmp_path, None), tmp_path, {})
    assert read.resolve(["${var.map.a}", "${var.chosen.a.b}"], ()) == [{"b": 3}, 3]


@pytest.mark.parametrize(
    ("value", "text"),
    [("true", "true"), ("0.005", "0.005"), ("1.0", "1"), ("007", "7"), ("on", "on"), ("2014-01-02", "2014-01-02")],
)
def test_plain_values_are_read_and_written_as_the_cli_does(tmp_path: Path, value: str, text: str) -> None:
    write(tmp_path, j=job(task(WHEEL % value)))
    wheel = plan(tmp_path).jobs["j"].tasks["t"].python_wheel_task
    assert wheel is not None
    assert wheel.parameters == (text,)


def test_a_target_merges_tasks_and_parameters_by_key_and_appends_other_lists(tmp_path: Path) -> None:
    target = MAIN + (
        "    resources: {jobs: {j: {parameters: [{name: a, default: A}, {name: c, default: C}], tasks: ["
        "{task_key: u, max_retries: 2, python_wheel_task: {parameters: [two]}}]}}}\n"
    )
    target = target.replace("prod: {mode: production}", "prod:\n    mode: production")
    tasks = task(WHEEL % "zero") + task(WHEEL % "one", "u")
    parameters = "parameters: [{name: a, default: a}, {name: b, default: b}]"
    prod = plan(write(tmp_path, main=target, j=job(tasks, parameters)), "prod").jobs["j"]
    assert {key: item.default for key, item in prod.parameters.items()} == {"a": "A", "b": "b", "c": "C"}
    assert list(prod.tasks) == ["t", "u"]
    assert prod.tasks["u"].max_retries == 2
    assert prod.tasks["u"].python_wheel_task is not None
    assert prod.tasks["u"].python_wheel_task.parameters == ("one", "two")
    assert plan(tmp_path, "dev").jobs["j"].tasks["u"].max_retries == 0


def test_a_target_replaces_the_value_of_a_variable_even_a_list(tmp_path: Path) -> None:
    prod = "prod: {mode: production, variables: {list: [z], plain: {default: other}}}"
    bundle = load_bundle(write(tmp_path, main=MAIN.replace("prod: {mode: production}", prod)), "prod")
    read = Resolver(bundle, tmp_path, {})
    assert read.resolve(["${var.list}", "${var.plain}"], ()) == [["z"], "other"]


def test_a_map_is_not_merged_with_a_plain_value(tmp_path: Path) -> None:
    write(tmp_path, main=MAIN.replace("prod: {mode: production}", "prod: {resources: {schemas: {home: {name: {}}}}}"))
    with pytest.raises(UserError) as refused:
        load_bundle(tmp_path, "prod")
    assert str(refused.value) == (
        "databricks.yml: targets.prod.resources.schemas.home.name: "
        "is a map, a list or a plain value here, and another of these elsewhere"
    )


def test_keys_without_effect_on_a_laptop_are_not_even_resolved(tmp_path: Path) -> None:
    rest = "tags: {team: '${var.required}'}, timeout_seconds: 5, environment_key: e, "
    write(tmp_path, j=job(task(rest.replace("tags", "health") + WHEEL % ""), "tags: {team: '${var.required}'}"))
    assert list(plan(tmp_path).jobs["j"].tasks) == ["t"]


def test_a_laptop_reads_past_where_a_job_runs_serverless_or_on_a_cluster(tmp_path: Path) -> None:
    where = "environment_key: e, job_cluster_key: c, libraries: [{whl: '${var.required}'}], "
    clusters = "job_clusters: [{job_cluster_key: c, new_cluster: {node_type_id: '${var.required}'}}]"
    write(tmp_path, j=job(task(where + WHEEL % ""), f"{clusters}\n      environments: [{{environment_key: e}}]"))
    on_a_cluster = plan(tmp_path)
    write(tmp_path, j=job(task()))
    assert on_a_cluster.jobs == plan(tmp_path).jobs


JOB = "resources/j.yml: resources.jobs.j"
ARGUMENT = f"{JOB}.tasks.t.python_wheel_task.parameters[0]"
REFUSED = "not supported on a laptop (supported keys: flight_delays.local.model)"
IF = "condition_task: {op: EQUAL_TO, left: a, right: b}"


@pytest.mark.parametrize(
    ("job_text", "line"),
    [
        (job(task(), "trigger: {}"), f"{JOB}.trigger: {REFUSED}"),
        (
            job(task("notebook_task: {notebook_path: x}")),
            f"{JOB}.tasks.t.notebook_task: {REFUSED}",
        ),
        (
            job(task("disabled: true, " + WHEEL % "")),
            f"{JOB}.tasks.t.disabled: {REFUSED}",
        ),
        (
            job(task("python_wheel_task: {package_name: p, entry_point: e, named_parameters: {}}")),
            f"{JOB}.tasks.t.python_wheel_task.named_parameters: {REFUSED}",
        ),
        (job(task("python_wheel_task: {package_name: p}")), f"{JOB}.tasks.t.python_wheel_task.entry_point: is missing"),
        (
            job(task("python_wheel_task: {package_name: no-such-package, entry_point: e}")),
            f"{JOB}.tasks.t.python_wheel_task.entry_point: no-such-package e: no such entry point is installed; "
            "install the package",
        ),
        (
            job(task("max_retries: -1, " + WHEEL % "")),
            f"{JOB}.tasks.t.max_retries: Input should be greater than or equal to 0",
        ),
        (
            job(task("max_retries: 0")),
            f"{JOB}.tasks.t: needs one of python_wheel_task, condition_task, run_job_task",
        ),
        (
            job(task("depends_on: [{task_key: x}], " + WHEEL % "")),
            f"{JOB}.tasks.t.depends_on: there is no task x",
        ),
        (
            job(task() + task("depends_on: [{task_key: t, outcome: 'true'}], " + WHEEL % "", "u")),
            f"{JOB}.tasks.u.depends_on: t is no condition task and has no outcome",
        ),
        (
            job(task("depends_on: [{task_key: t}], " + WHEEL % "")),
            f"{JOB}.tasks.t.depends_on: tasks in a circle: t -> t",
        ),
        (
            job(
                task(IF)
                + task(key="u")
                + task("depends_on: [{task_key: t, outcome: 'true'}, {task_key: u}], " + WHEEL % "", "v")
            ),
            f"{JOB}.tasks.v.run_if: some but not all dependencies may be excluded: Databricks does not say what "
            "ALL_SUCCESS then does; depend on the condition alone, or use NONE_FAILED",
        ),
        (job(task(WHEEL % "'${var.nope}'")), f"{ARGUMENT}: ${{var.nope}} is not defined; add nope to variables"),
        (
            job(task(WHEEL % "'${var.required}'")),
            "databricks.yml: variables.required: has no value; give --var required=... or set BUNDLE_VAR_required",
        ),
        (
            job(task(WHEEL % "'${var.plain.a}'")),
            f"{ARGUMENT}: ${{var.plain.a}}: the variable's value has no a; add it there",
        ),
        (
            job(task(WHEEL % "'x ${var.list}'")),
            f"{ARGUMENT}: ${{var.list}} is no plain value and cannot be part of a text",
        ),
        (
            job(task(WHEEL % "'${resources.schemas.other.name}'")),
            f"{ARGUMENT}: ${{resources.schemas.other.name}}: there is no other in resources.schemas",
        ),
        (
            job(task(WHEEL % "'${resources.schemas.home.storage_root}'")),
            f"{ARGUMENT}: ${{resources.schemas.home.storage_root}}: home does not set storage_root",
        ),
        (
            job(task(WHEEL % "'${resources.pipelines.p.id}'")),
            f"{ARGUMENT}: pipelines are not supported on a laptop; "
            "only experiments, jobs, model_serving_endpoints, registered_models, schemas, secret_scopes, volumes",
        ),
        (
            job(task(WHEEL % "'{{job.id}}'")),
            f"{ARGUMENT}: {{{{job.id}}}} is not supported on a laptop",
        ),
        (
            job(task(WHEEL % "'{{ job.parameters.a }}'"), "parameters: [{name: a, default: b}]"),
            f"{ARGUMENT}: {{{{ job.parameters.a }}}} is not supported on a laptop",
        ),
        (
            job(task(WHEEL % "'{{job.parameters.a}}'")),
            f"{ARGUMENT}: job j has no parameter a; add it to parameters",
        ),
        (
            job(task(), "parameters: [{name: a, default: '{{job.parameters.b}}'}]"),
            f"{JOB}.parameters.a.default: {{{{job.parameters.b}}}} is not supported here on a laptop",
        ),
        (
            job(task() + task(WHEEL % "'{{tasks.t.values.k}}'", "u")),
            f"{JOB}.tasks.u.python_wheel_task.parameters[0]: t is not upstream of u; add it to depends_on",
        ),
        (
            job(task(IF) + task("depends_on: [{task_key: t}], " + WHEEL % "'{{tasks.t.values.k}}'", "u")),
            f"{JOB}.tasks.u.python_wheel_task.parameters[0]: t is no python_wheel_task and sets no values",
        ),
        (
            job(task("run_job_task: {job_id: '${resources.jobs.j.id}'}")),
            f"{JOB}: runs itself: j -> j",
        ),
        (job(task("run_job_task: {job_id: 123}")), "databricks.yml: resources.jobs.123: no such job; there are: j"),
    ],
)
def test_a_job_that_a_laptop_cannot_run_as_the_workspace_does_is_refused(
    tmp_path: Path, job_text: str, line: str
) -> None:
    write(tmp_path, j=job_text)
    with pytest.raises(UserError) as refused:
        plan(tmp_path)
    assert str(refused.value) == line


CHILD = job(task(), "parameters: [{name: a, default: x}]").replace(" j:", " child:")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("{b: '1'}", "job_parameters.b: no such parameter of the job; it has: a"),
        (
            "{a: '1'}",
            "job_parameters.a: a workspace overrides it with the calling job's own a; set {{job.parameters.a}}",
        ),
    ],
)
def test_parameters_for_another_job_must_be_known_to_it_and_unequivocal(tmp_path: Path, given: str, line: str) -> None:
    calls = f"run_job_task: {{job_id: '${{resources.jobs.child.id}}', job_parameters: {given}}}"
    write(tmp_path, j=job(task(calls), "parameters: [{name: a, default: y}]"), child=CHILD)
    with pytest.raises(UserError) as refused:
        plan(tmp_path)
    assert str(refused.value) == f"{JOB}.tasks.t.run_job_task.{line}"


KNOWN = "not supported on a laptop; supported are"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("bundle: {", "x: [\n", "line 3: is no YAML: expected ',' or ']', but got '}'"),
        ("name: demo", "name: demo, uuid: x", f"bundle.uuid: {KNOWN} databricks_cli_version, name"),
        (
            "bundle:",
            "presets: {}\nbundle:",
            f"presets: {KNOWN} artifacts, bundle, include, permissions, python, resources, run_as, sync, targets, "
            "variables, workspace",
        ),
        ("mode: development", "mode: playing", "targets.dev.mode: must be development or production"),
        (
            "mode: development",
            "presets: {}",
            f"targets.dev.presets: {KNOWN} artifacts, default, mode, permissions, resources, run_as, sync, variables, "
            "workspace",
        ),
        (
            "mode: development",
            "variables: {nope: 1}",
            "targets.dev.variables.nope: is not defined at the top; add it to variables",
        ),
        ("default: true, ", "", "targets: 0 of them are the default; give --target"),
        ("{default: main}", "{lookup: x}", f"variables.catalog.lookup: {KNOWN} default, description, type"),
        ("resources/*.yml", "more.yml", "include: more.yml does not exist; remove it"),
        (
            "default: from default",
            "default: '${var.number} ${var.other}'",
            "variables.plain.default: ${var.other} is not defined; add other to variables",
        ),
        (
            "default: from default",
            "default: '${var.plain}'",
            "variables.plain.default: references go in a circle: ${var.plain} -> ${var.plain}; break it",
        ),
        (
            "default: from default",
            "default: '${var.'",
            f"variables.plain.default: '${{var.' holds no proper reference; supported are {', '.join(REFERENCES)}",
        ),
    ],
)
def test_a_bundle_that_is_not_understood_is_refused(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in MAIN
    write(tmp_path, main=MAIN.replace(old, new, 1), j=job(task(WHEEL % "'${var.plain}'")))
    with pytest.raises(UserError) as refused:
        plan(tmp_path)
    assert str(refused.value) == f"databricks.yml: {line}"


@pytest.mark.parametrize(
    ("target", "variables", "line"),
    [
        ("qa", {}, "targets.qa: no such target; there are dev, prod"),
        ("dev", {"nope": "1"}, "variables.nope: is given by --var but not defined; check its spelling"),
        ("dev", {"list": "1"}, "variables.list: is complex: neither --var nor BUNDLE_VAR_list can set it"),
    ],
)
def test_unknown_names_on_the_command_line_are_refused(
    tmp_path: Path, target: str, variables: dict[str, str], line: str
) -> None:
    write(tmp_path, j=job(task(WHEEL % "'${var.list}'")))
    with pytest.raises(UserError) as refused:
        plan(tmp_path, target, **variables)
    assert str(refused.value) == f"databricks.yml: {line}"


def test_a_resource_key_stands_for_one_resource(tmp_path: Path) -> None:
    write(tmp_path, other="resources: {volumes: {home: {name: x}}}")
    with pytest.raises(UserError) as refused:
        load_bundle(tmp_path, None)
    assert str(refused.value) == (
        "resources/schema.yml: resources.schemas.home: resources/other.yml has this key too; rename one"
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"b": "1"}, f"{JOB}.parameters.b: no such parameter of job j; it has: a"),
        ({"a": "{{job.id}}"}, f"{JOB}.parameters.a: {{{{job.id}}}} is not supported on a laptop"),
    ],
)
def test_a_given_job_parameter_must_be_one_of_the_jobs(tmp_path: Path, given: dict[str, str], line: str) -> None:
    write(tmp_path, j=job(task(), "parameters: [{name: a, default: x}]"))
    with pytest.raises(UserError) as refused:
        check_parameters(plan(tmp_path), "j", given)
    assert str(refused.value) == line


@pytest.mark.parametrize("target", ["dev", "staging", "prod"])
def test_every_job_of_this_project_can_be_run_on_a_laptop(target: str) -> None:
    bundle = load_bundle(ROOT, target)
    jobs = sorted(bundle.map_at(("resources", "jobs")))
    assert {"features", "train", "release", "score_batch"} <= set(jobs)
    planned = make_plan(bundle, Resolver(bundle, Path("/local"), {"service_principal": "some-id"}), jobs)
    texts = [
        text for job in planned.jobs.values() for t in job.tasks.values() if t.python_wheel_task
        for text in t.python_wheel_task.parameters
    ]  # fmt: skip
    schema = "spark_catalog.dev_local_flights" if target == "dev" else "spark_catalog.flights"
    assert planned.deployment.schemas == (schema,)
    assert f"--schema={schema}" in texts
    assert not [text for text in texts if "${" in text]
