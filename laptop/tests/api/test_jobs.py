"""Jobs and their runs, as the unmodified WorkspaceClient uses them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, InvalidState, NotFound


def job(key: str, name: str) -> dict[str, str]:
    return {"key": key, "name": name}


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
    write(workspace.folder, {"101": job("train", "[dev] Train"), "102": job("score", "Score")})
    return workspace.client.jobs


def test_jobs_are_listed(jobs: Any) -> None:
    assert [(each.job_id, each.settings.name) for each in jobs.list()] == [(101, "[dev] Train"), (102, "Score")]


@pytest.mark.parametrize(
    ("name", "ids"), [("Score", [102]), ("score", [102]), ("[dev] train", [101]), ("Sco", []), ("none", [])]
)
def test_jobs_are_found_by_their_exact_name_in_any_case(jobs: Any, name: str, ids: list[int]) -> None:
    assert [each.job_id for each in jobs.list(name=name)] == ids


def test_a_job_that_is_deployed_meanwhile_is_there(workspace: Any, jobs: Any) -> None:
    write(workspace.folder, {"7": job("new", "New")})
    assert [each.job_id for each in jobs.list()] == [7]
    assert jobs.get(7).settings.name == "New"


def test_a_run_is_for_the_command_line_to_start(jobs: Any) -> None:
    with pytest.raises(InvalidState, match=r"runs nothing; run it by: laptop run <job>$"):
        jobs.run_now(101)


@pytest.fixture
def runs(workspace: Any, jobs: Any) -> Any:
    for number, job_id, started, state in (
        (1, 101, 1000, "TERMINATED"),
        (2, 101, 2000, "INTERNAL_ERROR"),
        (3, 102, 3000, "TERMINATED"),
        (10, 101, 4000, "TERMINATED"),
    ):
        write_run(workspace.folder, number, job_id, started, state)
    return jobs


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, [10, 3, 2, 1]),
        ({"job_id": 101}, [10, 2, 1]),
        ({"job_id": 999}, []),
        ({"active_only": True}, []),
        ({"completed_only": True}, [10, 3, 2, 1]),
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda jobs: jobs.get(999), NotFound, "there is no job 999"),
        (lambda jobs: jobs.get_run(999), NotFound, "there is no run 999"),
        (lambda jobs: jobs.get("x"), InvalidParameterValue, "job_id: 'x' is not an integer"),
        (
            lambda jobs: jobs.cancel_run(1),
            NotFound,
            "POST /api/2.2/jobs/runs/cancel: the laptop's workspace API has no",
        ),
    ],
)
def test_a_wrong_request_is_refused(runs: Any, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call(runs)
    assert str(raised.value).startswith(message)
