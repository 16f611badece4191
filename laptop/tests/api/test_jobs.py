"""Jobs and their runs, as the unmodified WorkspaceClient uses them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, InvalidState, NotFound
from databricks.sdk.service.jobs import (
    CronSchedule,
    JobEnvironment,
    JobParameterDefinition,
    JobSettings,
    NotebookTask,
    PauseStatus,
    Task,
)

from bundle_laptop.api.jobs import merged

SCHEDULE = {"quartz_cron_expression": "0 0 4 * * ?", "timezone_id": "UTC", "pause_status": "UNPAUSED"}


def job(key: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"key": key, "settings": {"name": name, "tasks": [{"task_key": "only"}], **settings}}


def write(folder: Path, jobs: Mapping[str, object]) -> None:
    (folder / "api").mkdir(parents=True, exist_ok=True)
    (folder / "api/jobs.json").write_text(json.dumps(jobs))


def write_run(folder: Path, number: int, job_id: int, started: int, state: str = "TERMINATED") -> None:
    run = {
        "run_id": number,
        "job_id": job_id,
        "start_time": started,
        "end_time": started + 5,
        "state": {"life_cycle_state": state, **({"result_state": "SUCCESS"} if state == "TERMINATED" else {})},
        "tasks": [{"task_key": "only", "run_id": number * 100}],
    }
    (folder / "api/runs").mkdir(parents=True, exist_ok=True)
    (folder / f"api/runs/{number}.json").write_text(json.dumps(run))


@pytest.fixture
def jobs(workspace: Any) -> Any:
    write(workspace.folder, {"101": job("train", "[dev] Train", schedule=SCHEDULE), "102": job("score", "Score")})
    return workspace.client.jobs


def test_jobs_are_listed_without_their_tasks_unless_those_are_wanted(jobs: Any) -> None:
    assert [(each.job_id, each.settings.name, each.settings.tasks) for each in jobs.list()] == [
        (101, "[dev] Train", []),
        (102, "Score", []),
    ]
    (found,) = [each for each in jobs.list(expand_tasks=True) if each.job_id == 102]
    assert [task.task_key for task in found.settings.tasks] == ["only"]


@pytest.mark.parametrize(
    ("name", "ids"), [("Score", [102]), ("score", [102]), ("[dev] train", [101]), ("Sco", []), ("none", [])]
)
def test_jobs_are_found_by_their_exact_name_in_any_case(jobs: Any, name: str, ids: list[int]) -> None:
    assert [each.job_id for each in jobs.list(name=name)] == ids


@pytest.mark.parametrize(("limit", "pages"), [(None, 3), (49, 2), (50, 1), (100, 1)])
def test_many_jobs_come_in_pages(workspace: Any, limit: int | None, pages: int) -> None:
    write(workspace.folder, {str(number): job(f"job_{number}", "many") for number in range(1, 51)})
    assert [each.job_id for each in workspace.client.jobs.list(limit=limit)] == list(range(1, 51))
    assert len([each for each in workspace.faults.requests if each.path == "/api/2.2/jobs/list"]) == pages


def test_a_job_that_is_deployed_meanwhile_is_there(workspace: Any, jobs: Any) -> None:
    write(workspace.folder, {"7": job("new", "New")})
    assert [each.job_id for each in jobs.list()] == [7]
    assert jobs.get(7).settings.name == "New"


def test_a_schedule_is_paused_and_the_rest_stays(workspace: Any, jobs: Any) -> None:
    paused = CronSchedule("0 0 4 * * ?", "UTC", pause_status=PauseStatus.PAUSED)
    jobs.update(101, new_settings=JobSettings(schedule=paused))
    found = jobs.get(101).settings
    assert (found.schedule, found.name, [task.task_key for task in found.tasks]) == (paused, "[dev] Train", ["only"])
    assert json.loads((workspace.folder / "api/jobs.json").read_text())["101"]["key"] == "train"


@pytest.mark.parametrize(
    ("new", "remove", "expected"),
    [
        ({}, (), {"name": "a", "tags": {"x": "1"}, "tasks": [{"task_key": "one", "retries": 1}, {"task_key": "two"}]}),
        (
            {"name": "b"},
            ("tags", "none"),
            {"name": "b", "tasks": [{"task_key": "one", "retries": 1}, {"task_key": "two"}]},
        ),
        ({"tags": {"y": "2"}}, ("tasks",), {"name": "a", "tags": {"y": "2"}}),
        (
            {"tasks": [{"task_key": "one"}, {"task_key": "three"}]},
            ("tasks/two", "tags"),
            {"name": "a", "tasks": [{"task_key": "one"}, {"task_key": "three"}]},
        ),
        (
            {"parameters": [{"name": "p", "default": "1"}]},
            ("tasks", "tags"),
            {"name": "a", "parameters": [{"name": "p", "default": "1"}]},
        ),
    ],
)
def test_settings_are_merged(new: dict[str, Any], remove: tuple[str, ...], expected: dict[str, Any]) -> None:
    settings = {"name": "a", "tags": {"x": "1"}, "tasks": [{"task_key": "one", "retries": 1}, {"task_key": "two"}]}
    before = json.dumps(settings)
    assert merged(settings, new, remove) == expected
    assert json.dumps(settings) == before


def test_a_job_is_reset_to_other_settings(jobs: Any) -> None:
    jobs.reset(102, JobSettings(name="Other", tasks=[Task("t", notebook_task=NotebookTask("/n"))]))
    found = jobs.get(102).settings
    assert (found.name, [task.task_key for task in found.tasks]) == ("Other", ["t"])


def test_a_job_is_created_and_deleted(jobs: Any) -> None:
    made = jobs.create(
        name="Made",
        tasks=[Task("t", notebook_task=NotebookTask("/n"))],
        parameters=[JobParameterDefinition("p", "1")],
        environments=[JobEnvironment("default")],
    )
    assert made.job_id == 103
    assert [parameter.default for parameter in jobs.get(103).settings.parameters] == ["1"]
    jobs.delete(103)
    assert [each.job_id for each in jobs.list()] == [101, 102]


def test_a_run_is_for_the_command_line_to_start(jobs: Any) -> None:
    with pytest.raises(InvalidState, match=r"^run it by: laptop run train$"):
        jobs.run_now(101)


def test_a_run_is_started_by_whoever_serves_if_it_can(serve: Any) -> None:
    started: list[tuple[str, dict[str, str]]] = []

    def run_now(key: str, parameters: Mapping[str, str]) -> int:
        started.append((key, dict(parameters)))
        return 5

    with serve(run_now=run_now) as workspace:
        write(workspace.folder, {"101": job("train", "Train")})
        assert workspace.client.jobs.run_now(101, job_parameters={"as_of": "2013-12-01"}).run_id == 5
    assert started == [("train", {"as_of": "2013-12-01"})]


@pytest.fixture
def runs(workspace: Any, jobs: Any) -> Any:
    for number, job_id, started, state in (
        (1, 101, 1000, "TERMINATED"),
        (2, 101, 2000, "INTERNAL_ERROR"),
        (3, 102, 3000, "TERMINATED"),
        (10, 101, 4000, "RUNNING"),
    ):
        write_run(workspace.folder, number, job_id, started, state)
    return jobs


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, [10, 3, 2, 1]),
        ({"job_id": 101}, [10, 2, 1]),
        ({"job_id": 999}, []),
        ({"active_only": True}, [10]),
        ({"completed_only": True}, [3, 2, 1]),
        ({"start_time_from": 2000}, [10, 3, 2]),
        ({"start_time_from": 2001}, [10, 3]),
        ({"start_time_to": 2000}, [2, 1]),
        ({"start_time_to": 1999}, [1]),
        ({"limit": 1, "job_id": 101}, [10, 2, 1]),
    ],
)
def test_runs_are_listed_newest_first(runs: Any, asked: dict[str, Any], ids: list[int]) -> None:
    assert [run.run_id for run in runs.list_runs(**asked)] == ids


def test_a_run_tells_its_state_and_tasks(runs: Any) -> None:
    run = runs.get_run(1)
    assert (run.job_id, run.state.life_cycle_state.value, run.state.result_state.value) == (
        101,
        "TERMINATED",
        "SUCCESS",
    )
    assert [(task.task_key, task.run_id) for task in run.tasks] == [("only", 100)]
    (listed, *_) = runs.list_runs(expand_tasks=True, job_id=102)
    assert [task.task_key for task in listed.tasks] == ["only"]


def test_a_run_that_ends_meanwhile_has_ended(workspace: Any, runs: Any) -> None:
    write_run(workspace.folder, 10, 101, 4000)
    assert runs.get_run(10).state.life_cycle_state.value == "TERMINATED"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda jobs: jobs.get(999), NotFound, "there is no job 999"),
        (lambda jobs: jobs.update(999), NotFound, "there is no job 999"),
        (lambda jobs: jobs.delete(999), NotFound, "there is no job 999"),
        (lambda jobs: jobs.run_now(999), NotFound, "there is no job 999"),
        (lambda jobs: jobs.get_run(999), NotFound, "there is no run 999"),
        (lambda jobs: jobs.create(name="none"), InvalidParameterValue, "tasks: a job has at least one"),
        (
            lambda jobs: jobs.run_now(101, notebook_params={"a": "1"}),
            InvalidParameterValue,
            "notebook_params: the laptop's workspace API would do nothing about this field",
        ),
        (
            lambda jobs: jobs.cancel_run(1),
            InvalidParameterValue,
            "/api/2.2/jobs/runs/cancel: the laptop's workspace API runs nothing; use laptop run, and Ctrl-C to end it",
        ),
        (lambda jobs: jobs.submit(run_name="a"), InvalidParameterValue, "/api/2.2/jobs/runs/submit: the laptop's"),
        (lambda jobs: list(jobs.list(page_token="x")), InvalidParameterValue, "page_token: 'x' is not a whole number"),
    ],
)
def test_a_wrong_request_is_refused(runs: Any, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call(runs)
    assert str(raised.value).startswith(message)


@pytest.mark.usefixtures("runs")
def test_the_older_api_answers_too(workspace: Any) -> None:
    assert workspace.send("GET", "/api/2.1/jobs/get?job_id=101").json()["settings"]["name"] == "[dev] Train"
    assert len(workspace.send("GET", "/api/2.1/jobs/runs/list").json()["runs"]) == 4
