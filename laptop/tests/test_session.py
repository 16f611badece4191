"""One bundle in one world: what a command finds there, and what it leaves in the API; no Spark."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound
from databricks.sdk.service.jobs import RunResultState
from rich.console import Console

from bundle_laptop.errors import LaptopError
from bundle_laptop.session import opened


@pytest.fixture(autouse=True)
def _installed(toys: Path) -> None:
    """The toys."""


def toy(key: str, *arguments: str, **rest: Any) -> dict[str, Any]:
    wheel = {"package_name": "toys", "entry_point": "toy", "parameters": arguments}
    return {"task_key": key, "python_wheel_task": wheel, **rest}


def test_tasks_find_the_workspaces_api_and_afterwards_the_environment_is_as_before(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "https://adb-1.azuredatabricks.net")
    monkeypatch.setenv("DATABRICKS_CONFIG_PROFILE", "mine")
    before = dict(os.environ)
    with project.opened() as (session, _):
        client = WorkspaceClient()
        assert client.config.host == session.address
        assert client.current_user.me().user_name == "local"
    assert dict(os.environ) == before


def test_runs_and_jobs_are_in_the_api(project: Any) -> None:
    project.add_job("fine", toy("t", "set", '{"k": 1}'), name="daily")
    project.add_job("j", toy("t", "bug", max_retries=1), toy("u", "u", depends_on=[{"task_key": "t"}]))
    with project.opened() as (session, _):
        session.run(["fine", "j"], {})
        client = WorkspaceClient()
        assert {job.settings.name for job in client.jobs.list()} == {"[dev local] daily", "j"}
        second, first = list(client.jobs.list_runs(expand_tasks=True))
        assert [run.run_name for run in (first, second)] == ["fine", "j"]
        assert [run.state.result_state for run in (first, second)] == [RunResultState.SUCCESS, RunResultState.FAILED]
        assert [(task.task_key, task.state.state_message, task.attempt_number) for task in second.tasks] == [
            ("t", "KeyError: 'a lost key'", 1),
            ("u", "not run", 0),
        ]
        assert client.jobs.get_run(first.run_id).job_id == next(iter(client.jobs.list(name="[dev local] daily"))).job_id
        assert first.start_time <= first.end_time <= second.end_time


def test_the_api_knows_a_job_by_the_same_number_for_good(project: Any) -> None:
    def ids() -> dict[str, int]:
        return {str(job.settings.name): int(job.job_id) for job in WorkspaceClient().jobs.list()}

    project.add_job("m", toy("t", "ok"))
    with project.opened() as (session, _):
        session.deploy()
        first = ids()
    project.add_job("a", toy("t", "ok"))
    with project.opened() as (session, _):
        session.run(["a"], {})
        session.run(["m"], {})
        assert ids() == {**first, "a": ids()["a"]}
        assert [run.job_id for run in WorkspaceClient().jobs.list_runs()] == [first["m"], ids()["a"]]


def test_a_world_that_is_served_on_a_port_is_served_by_that_alone(project: Any) -> None:
    with project.opened() as (one, _), project.opened() as (other, _):
        assert one.address != other.address
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with opened(project.root, None, {}, Console(), port=port) as serving, project.opened() as (session, _):
        assert session.address == serving.address == f"http://127.0.0.1:{port}"
        line = rf"^dev is served already, at http://127\.0\.0\.1:{port}; end that first \(Ctrl-C\)$"
        with pytest.raises(LaptopError, match=line), opened(project.root, None, {}, Console(), port=port):
            pass


def test_secrets_of_the_settings_are_put_where_jobs_need_their_scope(project: Any) -> None:
    section = (
        "[tool.bundle-laptop.secrets]\n'${resources.secret_scopes.s.name}/store' = 'sqlite:///${laptop.folder}/a.db'\n"
    )
    project.write("pyproject.toml", section + "'other/key' = 'x'\n")
    project.write("resources/all.yml", {"resources": {"secret_scopes": {"s": {"name": "keys"}}}})
    project.add_job("j", toy("t", "${resources.secret_scopes.s.name}"))
    with project.opened() as (session, _):
        for _ in range(2):
            session.deploy()
        client = WorkspaceClient()
        assert [scope.name for scope in client.secrets.list_scopes()] == ["keys"]
        assert client.dbutils.secrets.get("keys", "store") == f"sqlite:///{project.world}/a.db"


def test_an_endpoint_that_serves_nothing_says_how_to_get_there(project: Any) -> None:
    project.write("resources/all.yml", {"resources": {"model_serving_endpoints": {"e": {"name": "length"}}}})
    project.add_job("j", toy("t", "${resources.model_serving_endpoints.e.name}"))
    with project.opened() as (session, _):
        session.deploy()
        session.deploy()
        with pytest.raises(NotFound):
            WorkspaceClient().serving_endpoints.get("length")
        assert WorkspaceClient().serving_endpoints.get("dev_local_length").config is None
        with pytest.raises(LaptopError, match=r"^no endpoint serves a version yet; run the job that releases one: "):
            list(session.served())


PROGRAM = """
import os, sys

def main():
    print(*sys.argv[1:], os.environ["LAPTOP_FOLDER"])
    return {"none": None, "text": "said"}.get(sys.argv[1], 0)

def leave():
    sys.exit({"three": 3, "text": "said", "none": None}[sys.argv[1]])

if __name__ == "__main__":
    print(*sys.argv[1:])
"""


@pytest.fixture
def program(install: Any, project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installed programs, and a command of the bundle."""
    scripts = "words = words_module:main\nleave = words_module:leave"
    monkeypatch.syspath_prepend(str(install("words", {"words_module": PROGRAM}, {"console_scripts": scripts})))
    project.write(
        "pyproject.toml", "[tool.bundle-laptop.commands]\nreport = 'words none \"a b\" --in=${bundle.name}'\n"
    )
    yield project
    sys.modules.pop("words_module", None)


@pytest.mark.parametrize(
    ("command", "code", "printed"),
    [
        (["words", "none", "${bundle.target}"], 0, "none dev {world}\n"),
        (["words", "text"], 1, "text {world}\n"),
        (["report", "--more", "c d"], 0, "none a b --in=demo --more c d {world}\n"),
        (["leave", "three"], 3, ""),
        (["leave", "text"], 1, ""),
        (["leave", "none"], 0, ""),
        (["python", "-m", "words_module", "--x=${bundle.name}"], 0, "--x=demo\n"),
    ],
)
def test_a_program_runs_in_the_world_with_its_references_resolved(
    program: Any, capsys: pytest.CaptureFixture[str], command: list[str], code: int, printed: str
) -> None:
    before = list(sys.argv)
    with program.opened() as (session, _):
        assert session.execute(command) == code
    said = capsys.readouterr()
    assert said.out == printed.format(world=program.world)
    assert said.err == ("said\n" if "text" in command else "")
    assert sys.argv == before


@pytest.mark.parametrize("command", [["wrods"], ["python", "file.py"], ["ls"]])
def test_what_is_no_installed_program_is_one_line(program: Any, command: list[str]) -> None:
    with program.opened() as (session, _), pytest.raises(LaptopError) as refused:
        session.execute(command)
    line = f"exec: {command[0]} is no program of an installed package; commands of pyproject.toml: report"
    assert str(refused.value) == line
