"""What resources/jobs.py makes of a job's file: it fills in where the file is silent, and what the file says stands."""

from typing import Any

import pytest
from databricks.bundles.core import Bundle
from databricks.bundles.jobs import Job
from resources.jobs import complete
from version import uncommitted

BUNDLE = Bundle(target="prod", variables={"trials": 10, "holdout_days": 92, "as_of": "2014-01-02", "schema": "flights"})


def completed(**job: Any) -> dict[str, Any]:
    return complete.function(BUNDLE, Job.from_dict({"name": "a job", **job})).as_dict()


def task_of(**task: Any) -> dict[str, Any]:
    (found,) = completed(tasks=[{"task_key": "train", **task}])["tasks"]
    return found


def parameters_of(*parameters: str) -> list[str]:
    declared = [{"name": name, "default": ""} for name in parameters]
    (task,) = completed(tasks=[{"task_key": "train"}], parameters=declared)["tasks"]
    return task["python_wheel_task"]["parameters"]


def test_an_option_is_the_jobs_parameter_else_of_a_resource_else_the_variable_of_its_name() -> None:
    given = parameters_of("as_of", "model_name")
    assert given[0] == "train"
    assert given[1:] == [
        "--schema=${resources.schemas.flights.id}",  # though a variable has this name
        "--as-of={{job.parameters.as_of}}",
        "--model-name={{job.parameters.model_name}}",
        "--experiment=${resources.experiments.delay_experiment.name}",
        "--holdout-days=${var.holdout_days}",
        "--trials=${var.trials}",
        f"--git-commit=${{bundle.git.commit}}{uncommitted()}",
    ]
    assert "--as-of=${var.as_of}" in parameters_of()


def test_an_option_that_nothing_gives_a_value_is_one_line() -> None:
    with pytest.raises(ValueError, match="task judge: nothing gives model_version; add a job parameter or a variable"):
        completed(tasks=[{"task_key": "judge"}])


def test_a_task_that_is_no_command_is_one_line() -> None:
    with pytest.raises(ValueError, match="task trian has no type, and there is no command trian: tables, ingest"):
        completed(tasks=[{"task_key": "trian"}])


@pytest.mark.parametrize(
    ("said", "filled"),
    [
        ({}, {"timeout_seconds": 3600, "max_retries": 2, "min_retry_interval_millis": 60_000}),
        ({"timeout_seconds": 0}, {"max_retries": 2, "min_retry_interval_millis": 60_000}),
        ({"max_retries": 1}, {"timeout_seconds": 3600, "max_retries": 1, "min_retry_interval_millis": 60_000}),
        ({"max_retries": 0}, {"timeout_seconds": 3600, "max_retries": 0, "disable_auto_optimization": True}),
    ],
)
def test_a_task_has_a_limit_and_is_retried_unless_its_file_says_else(
    said: dict[str, int], filled: dict[str, object]
) -> None:
    limits = ("timeout_seconds", "max_retries", "min_retry_interval_millis", "disable_auto_optimization")
    found = {name: value for name, value in task_of(**said).items() if name in limits}
    assert found == {**said, **filled}


@pytest.mark.parametrize(
    "kind",
    [
        {"condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}},
        {"pipeline_task": {"pipeline_id": "1"}},
        {"dashboard_task": {"dashboard_id": "1"}},
        {"alert_task": {"alert_id": "1"}},
    ],
)
def test_a_task_of_another_type_is_left_alone(kind: dict[str, Any]) -> None:
    task = {"task_key": "passed", **kind}
    assert completed(tasks=[task])["tasks"] == [task]


def test_a_wheel_task_that_says_what_it_runs_keeps_it() -> None:
    own = {"package_name": "other", "entry_point": "main", "parameters": ["x"]}
    assert task_of(python_wheel_task=own)["python_wheel_task"] == own


@pytest.mark.parametrize(("timeout_s", "reported_s"), [(None, 3600), (600, 300)])
def test_a_job_that_takes_half_of_its_time_is_reported(timeout_s: int | None, reported_s: int) -> None:
    found = completed(tasks=[], **({} if timeout_s is None else {"timeout_seconds": timeout_s}))
    assert found["timeout_seconds"] == 2 * reported_s
    assert [rule["value"] for rule in found["health"]["rules"]] == [reported_s]


def test_tags_of_the_file_and_of_development_mode_stay() -> None:
    found = completed(tasks=[], tags={"stage": "train", "dev": "ada", "target": "mine"})["tags"]
    assert found == {"project": "flight_delays", "stage": "train", "dev": "ada", "target": "mine"}
