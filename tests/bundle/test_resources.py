"""The bundle's files as written: understood by Databricks' own types, whole, and safe to run."""

import re
from graphlib import TopologicalSorter
from os.path import normpath
from pathlib import Path
from typing import Any

import pytest
from databricks.bundles.jobs import Job

from flight_delays.core.approval import TAG

WHEELS = "./dist/*.whl"


def test_every_resource_is_what_databricks_types_accept(resource, types):
    types[resource.kind].from_dict(resource.config)


def test_databricks_types_refuse_an_unknown_field():
    with pytest.raises(ValueError, match="max_retry"):
        Job.from_dict({"name": "a", "tasks": [{"task_key": "b", "max_retry": 1}]})


def test_a_file_has_one_resource_and_is_named_after_its_kind(resources):
    files = [resource.file for resource in resources]
    assert sorted(set(files)) == sorted(files)
    kinds = {
        resource.file.name: resource.kind.removeprefix("model_serving_").removesuffix("s") for resource in resources
    }
    assert all(name.endswith(f".{kind}.yml") for name, kind in kinds.items())


def test_databricks_yml_deploys_nothing_itself(trees):
    main = trees[Path("databricks.yml")]
    assert "resources" not in main
    assert not [name for name, target in main["targets"].items() if "resources" in target]


def test_every_relative_path_exists_or_is_the_built_wheel(root, trees):
    found = {
        (file, text) for file, tree in trees.items() for text in _strings(tree) if re.match(r"[\w.]+/[\w.*/]*$", text)
    }
    assert {text for _, text in found} >= {WHEELS, "resources/*.yml"}
    assert not [
        (str(file), text)
        for file, text in found
        if text not in (WHEELS, "America/New_York") and not list(root.glob(normpath(file.parent / text)))
    ]


def test_the_build_leaves_one_wheel_where_jobs_look_for_it(root, trees):
    (artifact,) = trees[Path("databricks.yml")]["artifacts"].values()
    # Of several wheels the CLI deploys the highest version, which may be an old commit's.
    assert {"uv build", "--wheel", "--clear"} <= set(re.findall(r"uv build|--\w+", artifact["build"]))
    assert (root / artifact["path"] / "dist").resolve() == (root / WHEELS).resolve().parent


def test_every_job_has_a_description_and_tags(job):
    assert job["description"]
    assert job["tags"]


def test_a_job_runs_once_at_a_time_and_later_runs_wait_unless_it_may_never_end(job):
    assert job["max_concurrent_runs"] == 1
    assert job["queue"] == {"enabled": "--stream-trigger=${var.stream_trigger}" not in _strings(job)}


def test_a_failed_or_slow_run_is_reported(job):
    assert job["email_notifications"]["on_failure"]
    assert job["email_notifications"]["on_duration_warning_threshold_exceeded"]
    (rule,) = [rule for rule in job["health"]["rules"] if rule["metric"] == "RUN_DURATION_SECONDS"]
    assert 0 < rule["value"] < job["timeout_seconds"]


def test_every_job_is_scheduled_or_run_by_another_one_by_a_workflow_or_by_people_alone(jobs, root):
    scheduled = {key: job["schedule"]["pause_status"] for key, job in jobs.items() if "schedule" in job}
    assert set(scheduled.values()) == {"${var.schedule_pause_status}"}
    workflows = "".join(path.read_text() for path in (root / ".github" / "workflows").iterdir())
    by_a_workflow = re.findall(r"databricks bundle run (\w+)", workflows)
    by_a_job = {_run_job(task) for job in jobs.values() for task in job["tasks"]} - {None}
    assert {*scheduled, *by_a_workflow, *by_a_job, "rollback", "policy_study"} == set(jobs)


def test_a_job_has_the_time_that_its_tasks_may_take(job):
    total: dict[str, int] = {}
    tasks = {task["task_key"]: task for task in job["tasks"]}
    upstream = {key: {other["task_key"] for other in task.get("depends_on", [])} for key, task in tasks.items()}
    for key in TopologicalSorter(upstream).static_order():
        total[key] = tasks[key].get("timeout_seconds", 0) + max((total[other] for other in upstream[key]), default=0)
    assert max(total.values()) <= job["timeout_seconds"]


def test_a_wheel_task_is_retried_and_given_up_unless_it_measures_or_a_person_has_to_act(wheel_task):
    assert wheel_task.config["timeout_seconds"]
    if wheel_task.key in ("load_test", "approval"):
        assert wheel_task.config["max_retries"] == 0
        assert wheel_task.config["disable_auto_optimization"]
    else:
        assert 1 <= wheel_task.config["max_retries"] <= 2
        assert wheel_task.config["min_retry_interval_millis"] >= 30_000


def test_a_job_started_by_another_is_not_retried_twice(jobs):
    others = [task for job in jobs.values() for task in job["tasks"] if "python_wheel_task" not in task]
    assert others
    assert not [task["task_key"] for task in others if "max_retries" in task]


def test_an_alert_is_evaluated_by_a_job_alone_and_nothing_waits_for_it(jobs, resources):
    (alert,) = [resource for resource in resources if resource.kind == "alerts"]
    assert alert.config["schedule"]["pause_status"] == "PAUSED"
    assert alert.config["evaluation"]["empty_result_state"] == "OK"
    tasks = {task["task_key"]: task for task in jobs["monitor"]["tasks"]}
    assert tasks["alert"]["alert_task"]["alert_id"] == f"${{resources.alerts.{alert.key}.id}}"
    assert "alert" not in {other["task_key"] for task in tasks.values() for other in task.get("depends_on", [])}


def test_as_of_reaches_every_task_from_its_job(wheel_task):
    given = [text for text in wheel_task.config["python_wheel_task"]["parameters"] if text.startswith("--as-of")]
    assert given in ([], ["--as-of={{job.parameters.as_of}}"])  # test_tasks.py says which take it


def test_every_job_takes_as_of_from_the_target_but_for_what_happens_now(jobs):
    taken = {
        key: [p["default"] for p in job.get("parameters", []) if p["name"] == "as_of"] for key, job in jobs.items()
    }
    assert (
        taken.pop("score_served")
        == taken.pop("rollback")
        == taken.pop("rollout")
        == ["{{job.trigger.time.iso_datetime}}"]
    )
    assert taken.pop("score_stream") == []  # events have a time of their own
    assert taken == {key: ["${var.as_of}"] for key in taken} != {}


def test_as_of_reaches_every_job_that_a_job_runs(jobs):
    given = {
        task["task_key"]: task["run_job_task"].get("job_parameters", {}).get("as_of")
        for job in jobs.values()
        for task in job["tasks"]
        if "run_job_task" in task
    }
    assert given
    assert set(given.values()) == {"{{job.parameters.as_of}}"}


def _run_job(task: dict[str, Any]) -> str | None:
    reference = task.get("run_job_task", {}).get("job_id", "")
    return reference.removeprefix("${resources.jobs.").removesuffix(".id}") or None


def _strings(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in _strings(value)]
    return [node] if isinstance(node, str) else []


def test_nothing_is_promoted_but_what_passed_and_was_approved_by_the_tag_that_has_the_tasks_name(jobs):
    after = {task["task_key"]: task.get("depends_on") for task in jobs["release"]["tasks"]}
    assert after[TAG] == [{"task_key": "passed", "outcome": "true"}]
    assert after["promote"] == [{"task_key": TAG}]
    assert {one["name"] for one in jobs["release"]["parameters"]} >= {"model_name", "model_version"}
