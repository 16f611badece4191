"""`laptop`, the program: what it prints and its exit code. Nothing here starts Spark but what asks for it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bundle_laptop.cli import app

Laptop = Callable[..., tuple[int, str, str]]
PATIENCE_S = 60
# Whoever has started the tests may have it ignore Ctrl-C.
PROGRAM = "import signal; signal.signal(2, signal.default_int_handler); from bundle_laptop.cli import main; main()"


def toy(key: str, *arguments: str, **rest: Any) -> dict[str, Any]:
    wheel = {"package_name": "toys", "entry_point": "toy", "parameters": arguments}
    return {"task_key": key, "python_wheel_task": wheel, **rest}


def test_success_ends_with_where_to_look(project: Any, laptop: Laptop) -> None:
    project.add_job("j", toy("t", "ok"))
    code, out, err = laptop("run", "j")
    assert (code, err) == (0, "")
    assert out.endswith(
        f"Tables, models and runs: {project.world}. Look at them: laptop ui, laptop sql, laptop notebook\n"
    )
    assert "j > t: running" in out
    assert re.search(r"j > t: SUCCESS in \d\.\d s", out)


def test_failure_is_exit_code_1_and_ends_with_what_to_run_again(project: Any, laptop: Laptop) -> None:
    project.write("resources/v.yml", {"variables": {"v": {"default": "x"}}})
    parameters = [{"name": "p", "default": "a"}]
    for name, what in {"one": "ok", "two": "bug", "three": "ok"}.items():
        project.add_job(name, toy("t", what, "--x={{job.parameters.p}}", "--v=${var.v}"), parameters=parameters)
    code, out, err = laptop("run", "one", "two", "three", "--param", "p=b=c", "--var", "v=d e", "-t", "dev")
    assert code == 1
    assert project.log == ["ok --x=b=c --v=d e", "bug --x=b=c --v=d e"]
    again = "laptop run two three --target=dev '--var=v=d e' --param=p=b=c"
    assert out.endswith(f"The note says why; more stands above. Then: {again}\n")
    assert "KeyError: 'a lost key'" in err


def test_parameters_may_come_as_the_databricks_cli_has_them(project: Any, laptop: Laptop) -> None:
    parameters = [{"name": "p", "default": "a"}, {"name": "q", "default": ""}]
    project.add_job("j", toy("t", "ok", "--x={{job.parameters.p}}", "--y={{job.parameters.q}}"), parameters=parameters)
    assert laptop("run", "j", "--params", 'p=b=c,"q=d,e"')[0] == 0
    assert project.log == ["ok --x=b=c --y=d,e"]


def test_only_some_tasks_run_in_another_target(project: Any, laptop: Laptop) -> None:
    project.add_job("j", toy("a", "a"), toy("b", "b"), toy("c", "c"))
    assert laptop("run", "j", "--only", "a,c", "--target", "prod")[0] == 0
    assert (project.root / ".local/prod/log.txt").read_text() == "a\nc\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "nope"], "databricks.yml: resources.jobs.nope: no such job; there are: j"),
        (["run", "j", "--var", "x"], "--var x: must be name=value"),
        (["run", "j", "--var", "x=1"], "databricks.yml: variables.x: is given by --var but not defined; check its"),
        (["run", "j", "--param", "q=1"], "resources/j.yml: resources.jobs.j.parameters.q: no such parameter of job j;"),
        (["run", "j", "--target", "qa"], "databricks.yml: targets.qa: no such target; there are dev, prod"),
        (["run", "j", "--only", "x"], "--only x: job j has t"),
        (["run"], "Missing argument 'jobs'."),
        (["run", "j", "--fast"], "No such option: --fast"),
        (["rum", "j"], "No such command 'rum'."),
        (["exec", "wrods"], "exec: wrods is no program of an installed package; commands of pyproject.toml: report"),
        (["notebook", "look", "nope"], "notebooks/nope does not exist; there are look"),
        (["notebook", "--folder", "src"], "src: there is no notebook"),
        (["notebook", "look", "--widget", "day"], "--widget day: must be name=value"),
        (["notebook", "look", "--widget", "dya=1"], "--widget dya: no such widget; there are day"),
        (["sql", "SELECT 1"], "there is nothing of dev yet; run a job first: laptop run <job>"),
        (["status"], "there is nothing of dev yet; run a job first: laptop run <job>"),
        (["ui", "--target", "prod"], "there is nothing of prod yet; run a job first: laptop run <job>"),
    ],
)
def test_what_a_person_can_fix_is_one_line_and_exit_code_2(
    project: Any, laptop: Laptop, arguments: list[str], line: str
) -> None:
    project.write("pyproject.toml", "[tool.bundle-laptop.commands]\nreport = 'toy ok'\n")
    project.write("notebooks/look.py", "# Databricks notebook source\ndbutils.widgets.text('day', '')")
    project.add_job("j", toy("t", "ok"))
    code, out, err = laptop(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"laptop: {line}")
    assert err.count("\n") == 1
    assert project.log == []


def test_serving_nothing_is_one_line_too(laptop: Laptop) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    line = "laptop: no endpoint serves a version yet; run the job that releases one: laptop run <job>\n"
    assert laptop("serve", "--port", port) == (2, "", line)


def test_outside_of_a_bundle_it_says_so(laptop: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["status"], ["report"]):
        assert laptop(*arguments)[::2] == (
            2,
            f"laptop: databricks.yml: not found in {tmp_path} or above; run this in the bundle's folder\n",
        )


def test_a_command_of_the_bundle_stands_for_itself_and_may_end_every_run(project: Any, laptop: Laptop) -> None:
    commands = "[tool.bundle-laptop.commands]\nreport = 'toy ok ${bundle.target}'"
    project.write("pyproject.toml", f"[tool.bundle-laptop]\nafter_run = ['report']\n{commands}")
    project.add_job("j", toy("t", "bug"))
    assert laptop("report", "--target", "prod")[0] == 0
    assert laptop("exec", "--target", "prod", "report")[0] == 0
    assert project.log == ["ok dev --target prod"]
    assert (project.root / ".local/prod/log.txt").read_text() == "ok prod\n"
    assert laptop("run", "j")[0] == 1
    assert project.log[1:] == ["bug", "ok dev"]


@pytest.mark.parametrize(("code", "ended"), [("0", 0), ("3", 3)])
def test_a_programs_exit_code_is_its_own(laptop: Laptop, code: str, ended: int) -> None:
    assert laptop("exec", "toy", "exit", code)[0] == ended


def reset(project: Any, *arguments: str, answer: str = "") -> tuple[int, str]:
    ended = CliRunner().invoke(app, ["reset", *arguments, "--root", str(project.root)], input=answer)
    return ended.exit_code, ended.output if ended.exit_code in (0, 1) else str(ended.exception)


def test_reset_asks_and_deletes_one_target(project: Any) -> None:
    dev, prod = (project.root / ".local" / target for target in ("dev", "prod"))
    for folder in (dev, prod):
        (folder / "warehouse").mkdir(parents=True)
    question = "Delete all tables, models and runs in .local/dev? [y/N]: "
    assert reset(project, "dev", answer="n\n") == (1, f"{question}n\n")
    assert dev.exists()
    assert reset(project, "dev", answer="y\n") == (0, f"{question}y\n.local/dev: removed\n")
    assert not dev.exists()
    assert reset(project, "prod", "--yes") == (0, ".local/prod: removed\n")
    assert not prod.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "say which target; there are dev"),
        (["prod"], "there is nothing of prod; there are dev"),
        (["../resources"], "there is nothing of ../resources; there are dev"),
    ],
)
def test_reset_takes_one_target_that_is_there(project: Any, laptop: Laptop, arguments: list[str], line: str) -> None:
    (project.world / "warehouse").mkdir(parents=True)
    project.write("resources/v.yml", {})
    assert laptop("reset", *arguments) == (2, "", f"laptop: {line}\n")
    assert (project.root / "resources/v.yml").exists()
    assert project.world.exists()


def test_status_shows_the_last_runs_what_endpoints_serve_and_the_tables(project: Any, laptop: Laptop) -> None:
    project.add_job("j", toy("t", "ok"))
    project.add_job("broken", toy("t", "bug"))
    for _ in range(10):
        laptop("run", "j")
    laptop("run", "broken")
    for table in ("words.db/counts", "in_default"):
        project.write(f".local/dev/warehouse/{table}/_delta_log/0.json", {})
        (project.world / "warehouse" / table / "a.parquet").write_bytes(1_500_000 * b"x")
    entities = [{"name": f"m-{version}", "entity_name": "c.s.m", "entity_version": version} for version in "12"]
    routes = [{"served_entity_name": f"m-{n}", "served_model_name": None, "traffic_percentage": 50} for n in (1, 2)]
    config = {"served_entities": entities, "traffic_config": {"routes": routes}}
    alone = {"served_entities": entities[:1], "traffic_config": None}
    endpoints = {name: {"name": name, "config": its} for name, its in (("both", config), ("one", alone), ("no", None))}
    project.write(".local/dev/api/endpoints.json", endpoints)
    code, out, _ = laptop("status")
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert code == 0
    assert [row[1:3] for row in shown if row[0].isdigit()] == [["j", "SUCCESS"]] * 9 + [["broken", "FAILED"]]
    assert [row for row in shown if row[1].startswith("m-")] == [
        ["both", "m-1", "c.s.m", "1", "50"],
        ["both", "m-2", "c.s.m", "2", "50"],
        ["one", "m-1", "c.s.m", "1", "100"],
    ]
    assert shown[-2:] == [
        ["spark_catalog.default.in_default", "1", "1", "1.5"],
        ["spark_catalog.words.counts", "1", "1", "1.5"],
    ]


SLEEP = """# Databricks notebook source
from pathlib import Path
import os, time
Path("process").write_text(str(os.getpid()))
Path("process").rename("asleep")
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["wheel", "notebook"])
def test_ctrl_c_ends_at_once_with_130_and_no_traceback(project: Any, toys: Path, kind: str) -> None:  # noqa: ARG001
    notebook = project.write("src/look.py", SLEEP)
    project.add_job("wheel", toy("t", "sleep"))
    project.add_job("notebook", {"task_key": "t", "notebook_task": {"notebook_path": str(notebook)}})
    begun = {"wheel": project.world / "log.txt", "notebook": project.root / "src/asleep"}[kind]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", kind],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        until = time.monotonic() + PATIENCE_S
        while not begun.exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.2)  # the code is on its way from the file to its sleep
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        out, err = process.communicate(timeout=PATIENCE_S)
        took = time.monotonic() - asked
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert took < 5, took
    if kind == "notebook":
        assert not Path("/proc", begun.read_text()).exists()
