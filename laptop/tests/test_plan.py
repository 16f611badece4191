"""What a job may say, what it needs, and what is refused before anything runs: one line with file and key."""

from pathlib import Path
from typing import Any

import pytest

from bundle_laptop.errors import LaptopError
from bundle_laptop.plan import check_parameters

MAIN = """
bundle: {name: demo}
include: [resources/*.yml]
variables:
  required:
  list: {type: complex, default: [x, y]}
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""
PATH = "resources/j.yml: resources.jobs.j"


@pytest.fixture(autouse=True)
def _main(project: Any, toys: Path) -> None:  # noqa: ARG001
    project.write("databricks.yml", MAIN)
    for name in ("x.py", "y.ipynb"):
        project.write(f"src/{name}", "")


def task(key: str = "t", *parameters: object, **rest: Any) -> dict[str, Any]:
    """One that calls the toy, unless `rest` says of what other kind it is."""
    toy = {"package_name": "toys", "entry_point": "toy", "parameters": parameters}
    return {"task_key": key, **({} if any("_task" in name for name in rest) else {"python_wheel_task": toy}), **rest}


def after(*keys: str, **outcome: str) -> list[dict[str, str]]:
    return [{"task_key": key, **outcome} for key in keys]


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (0.005, "0.005"), (1.0, "1"), (7, "7"), ("on", "on"), (1e-7, "0.0000001")],
)
def test_plain_values_are_texts_as_the_cli_writes_them(project: Any, value: object, text: str) -> None:
    project.add_job("j", task("t", value))
    assert project.plan().jobs["j"].tasks["t"].python_wheel_task.arguments == (text,)


def test_named_parameters_are_options_after_the_others(project: Any) -> None:
    wheel = {"package_name": "toys", "entry_point": "toy", "parameters": ["a"], "named_parameters": {"rows": 3}}
    project.add_job("j", task(python_wheel_task=wheel))
    assert project.plan().jobs["j"].tasks["t"].python_wheel_task.arguments == ("a", "--rows=3")


def test_where_when_and_for_whom_a_job_runs_is_read_past_and_not_even_resolved(project: Any) -> None:
    unknown = {"x": "${var.required}"}
    where = {
        "job_cluster_key": "c",
        "environment_key": "e",
        "existing_cluster_id": "${var.required}",
        "libraries": [{"whl": "${var.required}"}],
        "new_cluster": unknown,
        "health": unknown,
    }
    loop = {"inputs": "[1]", "task": task("each", **where)}
    tasks = task(**where, timeout_seconds=5), task("loop", for_each_task=loop)
    project.add_job("j", *tasks, schedule=unknown, trigger=unknown, tags=unknown, continuous=unknown, queue=unknown)
    with_all = project.plan().jobs
    project.add_job("j", task(), task("loop", for_each_task={"inputs": "[1]", "task": task("each")}))
    assert with_all == project.plan().jobs


def test_jobs_that_a_job_runs_are_planned_too(project: Any) -> None:
    project.add_job("j", task(run_job_task={"job_id": "${resources.jobs.child.id}"}))
    loop = {"inputs": "[1]", "task": task(run_job_task={"job_id": "${resources.jobs.grandchild.id}"})}
    project.add_job("child", task(for_each_task=loop))
    project.add_job("grandchild", task())
    project.add_job("other", task())
    assert set(project.plan().jobs) == {"j", "child", "grandchild"}


RESOURCES = {
    "schemas": {"home": {"catalog_name": "main", "name": "sales", "grants": [{"principal": "${var.required}"}]}},
    "registered_models": {"m": {"catalog_name": "main", "schema_name": "sales", "name": "churn"}},
    "experiments": {"e": {"name": "/Shared/churn"}},
    "volumes": {"v": {"catalog_name": "main", "schema_name": "sales", "name": "files"}},
    "secret_scopes": {"k": {"name": "secrets"}, "l": {"name": "more"}},
    "model_serving_endpoints": {
        "s": {
            "name": "churn",
            "permissions": [{"user_name": "${var.required}"}],
            "ai_gateway": {"inference_table_config": {"schema_name": "${resources.schemas.home.name}"}},
        }
    },
}
HOME = ("main.dev_local_sales",)


@pytest.mark.parametrize(
    ("reference", "needed"),
    [
        ("", {}),
        ("${resources.jobs.j.name}", {}),
        ("${resources.schemas.home.name}", {"schemas": HOME}),
        (
            "${resources.registered_models.m.name}",
            {"registered_models": ("main.dev_local_sales.dev_local_churn",), "schemas": HOME},
        ),
        ("${resources.experiments.e.name}", {"experiments": ("/Shared/[dev local] churn",)}),
        ("${resources.secret_scopes.l.name}", {"secret_scopes": ("more",)}),
        (
            "${resources.volumes.v.id}",
            {"volumes": (Path(".local/dev/volumes/main/dev_local_sales/files"),), "schemas": HOME},
        ),
        (
            "${resources.model_serving_endpoints.s.name}",
            {
                "endpoints": (
                    {
                        "name": "dev_local_churn",
                        "ai_gateway": {"inference_table_config": {"schema_name": "dev_local_sales"}},
                    },
                ),
                "schemas": HOME,
                # What an endpoint serves may name any of them.
                "secret_scopes": ("secrets", "more"),
            },
        ),
    ],
)
def test_what_a_job_names_is_deployed_with_all_that_it_needs_itself_and_nothing_else(
    project: Any, reference: str, needed: dict[str, Any]
) -> None:
    project.write("resources/all.yml", {"resources": RESOURCES})
    project.add_job("j", task("t", reference), name="j")
    deployment = project.plan().deployment
    expected = {**needed, "volumes": tuple(project.root / volume for volume in needed.get("volumes", ()))}
    found = {name: getattr(deployment, name) for name in deployment.__dataclass_fields__}
    assert {name: value for name, value in found.items() if value} == {k: v for k, v in expected.items() if v}


def test_synced_tables_are_deployed_whichever_job_runs(project: Any) -> None:
    table = {"synced_table_id": "main.sales.online", "source_table_full_name": "${resources.schemas.home.id}.words"}
    # A variable may stand for all of a kind, and name what a laptop has not got.
    variables = {
        "tables": {"type": "complex", "default": "${var.some}"},
        "none": {"type": "complex", "default": {"all": {}, "branches": {}}},
        "some": {"type": "complex", "default": {
            "all": {"t": {**table, "branch": "${resources.postgres_branches.b.id}", "lifecycle": {}}},
            "branches": {"b": {"branch_id": "production"}},
        }},
    }  # fmt: skip
    whole = {"postgres_synced_tables": "${var.tables.all}", "postgres_branches": "${var.tables.branches}"}
    project.write(
        "resources/all.yml", {"variables": variables, "resources": {**whole, "schemas": RESOURCES["schemas"]}}
    )
    project.add_job("j", task())
    deployment = project.plan().deployment
    assert deployment.synced_tables == (
        {"synced_table_id": "main.sales.online", "source_table_full_name": "main.dev_local_sales.words"},
    )
    assert deployment.schemas == HOME


IF = {"op": "EQUAL_TO", "left": "a", "right": "b"}
VALUES = "{{tasks.t.values.k}}"
PARAMETERS = {"parameters": [{"name": "a", "default": "x"}]}
KINDS = "python_wheel_task, spark_python_task, notebook_task, condition_task, run_job_task, for_each_task, alert_task"


@pytest.mark.parametrize(
    ("tasks", "rest", "line"),
    [
        ([task()], {"git_source": {}}, ".git_source: not supported on a laptop"),
        ([task(disabled=True)], {}, ".tasks.t.disabled: not supported on a laptop"),
        ([task(sql_task={"query": {}})], {}, ".tasks.t.sql_task: not supported on a laptop"),
        ([task(max_retries=-1)], {}, ".tasks.t.max_retries: Input should be greater than or equal to 0"),
        ([{"task_key": "t"}], {}, f".tasks.t: needs one of {KINDS}"),
        ([task(condition_task=IF, notebook_task={"notebook_path": "src/x"})], {}, f".tasks.t: needs one of {KINDS}"),
        ([], {}, ".tasks: Dictionary should have at least 1 item after validation, not 0"),
        (
            [task(python_wheel_task={"package_name": "toys"})],
            {},
            ".tasks.t.python_wheel_task.entry_point: is missing",
        ),
        (
            [task(python_wheel_task={"package_name": "toys", "entry_point": "car"})],
            {},
            ".tasks.t.python_wheel_task.entry_point: toys car: no such entry point is installed; install the package",
        ),
        (
            [task(python_wheel_task={"package_name": "cars", "entry_point": "toy"})],
            {},
            ".tasks.t.python_wheel_task.entry_point: cars toy: no such entry point is installed; install the package",
        ),
        (
            [task(spark_python_task={"python_file": "src/x"})],
            {},
            ".tasks.t.spark_python_task.python_file: there is no file src/x in the bundle",
        ),
        (
            [task(spark_python_task={"python_file": "src/x.py", "source": "GIT"})],
            {},
            ".tasks.t.spark_python_task.source: Input should be 'WORKSPACE'",
        ),
        (
            [task(notebook_task={"notebook_path": "src/z"})],
            {},
            ".tasks.t.notebook_task.notebook_path: there is no file src/z in the bundle",
        ),
        ([task(condition_task={**IF, "op": "LIKE"})], {}, ".tasks.t.condition_task.op: Input should be 'EQUAL_TO', "),
        ([task(depends_on=after("x"))], {}, ".tasks.t.depends_on: there is no task x"),
        (
            [task(), task("u", depends_on=after("t", outcome="true"))],
            {},
            ".tasks.u.depends_on: t is no condition task and has no outcome",
        ),
        ([task(depends_on=after("t"))], {}, ".tasks.t.depends_on: tasks in a circle: t -> t"),
        (
            [
                task(condition_task=IF),
                task("u"),
                task("v", depends_on=[*after("t", outcome="true"), *after("u")]),
            ],
            {},
            ".tasks.v.run_if: some but not all dependencies may be excluded: Databricks does not say what "
            "ALL_SUCCESS then does; depend on the condition alone, or use NONE_FAILED",
        ),
        (
            [task("t", "{{job.trigger.type}}")],
            {},
            ".tasks.t.python_wheel_task.parameters[0]: {{job.trigger.type}} is not supported on a laptop",
        ),
        (
            [task("t", "{{job.parameters.a}}")],
            {},
            ".tasks.t.python_wheel_task.parameters[0]: job j has no parameter a; add it to parameters",
        ),
        (
            [task()],
            {"parameters": [{"name": "a", "default": "{{job.parameters.b}}"}]},
            ".parameters.a.default: {{job.parameters.b}} is not supported here on a laptop",
        ),
        (
            [task(), task("u", VALUES)],
            {},
            ".tasks.u.python_wheel_task.parameters[0]: t is not upstream of u; add it to depends_on",
        ),
        (
            [task(condition_task=IF), task("u", "--k", VALUES, depends_on=after("t"))],
            {},
            ".tasks.u.python_wheel_task.parameters[1]: t runs no code and sets no values",
        ),
        (
            [task("t", "{{input}}")],
            {},
            ".tasks.t.python_wheel_task.parameters[0]: only the task of a for_each_task has an input",
        ),
        (
            [task(notebook_task={"notebook_path": "src/x", "base_parameters": {"a": "{{input}}"}})],
            {},
            ".tasks.t.notebook_task.base_parameters.a: only the task of a for_each_task has an input",
        ),
        ([task(run_job_task={"job_id": "${resources.jobs.j.id}"})], {}, ": runs itself: j -> j"),
        (
            [task(for_each_task={"inputs": "[1]", "task": task(run_job_task={"job_id": "j"})})],
            {},
            ": runs itself: j -> j",
        ),
        (
            [task(for_each_task={"inputs": "{}", "task": task()})],
            {},
            ".tasks.t.for_each_task.inputs: must be a list as JSON",
        ),
        (
            [task(for_each_task={"inputs": "1, 2", "task": task()})],
            {},
            ".tasks.t.for_each_task.inputs: must be a list as JSON",
        ),
        (
            [task(for_each_task={"inputs": "[]", "task": task(condition_task=IF)})],
            {},
            ".tasks.t.for_each_task.task: must be a task that runs code or a job",
        ),
        (
            [task(for_each_task={"inputs": "[]", "task": task(notebook_task={"notebook_path": "z"})})],
            {},
            ".tasks.t.for_each_task.task.notebook_task.notebook_path: there is no file z in the bundle",
        ),
    ],
)
def test_a_job_that_a_laptop_cannot_run_as_the_workspace_does_is_refused(
    project: Any, tasks: list[Any], rest: dict[str, Any], line: str
) -> None:
    project.add_job("j", *tasks, **rest)
    with pytest.raises(LaptopError) as refused:
        project.plan()
    assert str(refused.value).startswith(PATH + line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["src/x.py", "src/x", "../src/x", "src/y", "${workspace.file_path}/src/y.ipynb"])
def test_a_notebook_may_be_named_as_in_a_workspace(project: Any, path: str) -> None:
    project.add_job("j", task(notebook_task={"notebook_path": path}))
    assert list(project.plan().jobs["j"].tasks) == ["t"]


@pytest.mark.parametrize("names", [["nope"], ["j", "nope"]])
def test_an_unknown_job_is_refused_with_those_there_are(project: Any, names: list[str]) -> None:
    for name in ("other", "j"):
        project.add_job(name, task())
    with pytest.raises(LaptopError, match=r"^databricks\.yml: resources\.jobs\.nope: no such job; there are: j, other"):
        project.plan(*names)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"b": "1"}, "b: no such parameter of the job; it has: a"),
        ({"a": "1"}, "a: a workspace overrides it with the calling job's own a; set {{job.parameters.a}}"),
        ({"a": "{{job.parameters.a}}"}, None),
    ],
)
def test_parameters_for_another_job_must_be_known_to_it_and_unequivocal(
    project: Any, given: dict[str, str], line: str | None
) -> None:
    project.add_job("child", task(), **PARAMETERS)
    calls = {"job_id": "${resources.jobs.child.id}", "job_parameters": given}
    project.add_job("j", task(run_job_task=calls), **PARAMETERS)
    if line is None:
        assert set(project.plan().jobs) == {"j", "child"}
        return
    with pytest.raises(LaptopError) as refused:
        project.plan()
    assert str(refused.value) == f"{PATH}.tasks.t.run_job_task.job_parameters.{line}"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"b": "1"}, "b: no such parameter of job j; it has: a"),
        ({"a": "{{job.nope}}"}, "a: {{job.nope}} is not supported on a laptop"),
        ({"a": "{{input}}"}, "a: {{input}} is not supported here on a laptop"),
        ({"a": "{{job.start_time.iso_date}}"}, None),
    ],
)
def test_a_given_job_parameter_must_be_one_of_the_jobs(project: Any, given: dict[str, str], line: str | None) -> None:
    project.add_job("j", task(), **PARAMETERS)
    plan = project.plan()
    if line is None:
        check_parameters(plan, "j", given)
        return
    with pytest.raises(LaptopError) as refused:
        check_parameters(plan, "j", given)
    assert str(refused.value) == f"{PATH}.parameters.{line}"
