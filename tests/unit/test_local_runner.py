"""Jobs run on a laptop: real bundles, real entry points of a toy package, no Spark."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flight_delays.core.errors import UserError
from flight_delays.local import world
from flight_delays.local.cli import app, run_jobs
from flight_delays.local.graph import State
from flight_delays.local.plan import Deployment
from flight_delays.local.results import Result
from flight_delays.use_case import USE_CASE

S, F, U, X = State.SUCCESS, State.FAILED, State.UPSTREAM_FAILED, State.EXCLUDED

TOYS = """
import json, os, sys
from pathlib import Path
from flight_delays.core.errors import UserError

def main():
    called_as, what, *rest = sys.argv
    assert called_as == "toy"
    log = Path(os.environ["FLIGHT_DELAYS_LOCAL_DIR"]) / "log.txt"
    with log.open("a") as file:
        file.write(" ".join([what, *rest]) + "\\n")
    if what == "set":
        Path(os.environ["FLIGHT_DELAYS_TASK_VALUES"]).write_text(rest[0])
    elif what == "set_long":
        Path(os.environ["FLIGHT_DELAYS_TASK_VALUES"]).write_text(json.dumps({"k": "x" * int(rest[0])}))
    elif what == "user_error":
        raise UserError("no flights in May; run ingest first")
    elif what == "bug":
        raise KeyError("a lost key")
    elif what == "exit":
        sys.exit(int(rest[0]))
    elif what == "flaky" and log.read_text().count("flaky") < int(rest[0]):
        raise UserError("not yet")
"""
MAIN = """
bundle: {name: demo}
include: [jobs/*.yml]
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    info = site / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[any_group]\ntoy = toys_module:main\n", encoding="utf-8")
    (site / "toys_module.py").write_text(TOYS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "toys_module", raising=False)
    root = tmp_path / "project"
    (root / "jobs").mkdir(parents=True)
    (root / "databricks.yml").write_text(MAIN, encoding="utf-8")
    return root


def task(key: str, *arguments: str, after: str = "", rest: str = "") -> str:
    """One task; `after` is a comma-separated list of task or task=outcome."""
    entry = f"python_wheel_task: {{package_name: toys, entry_point: toy, parameters: {json.dumps(arguments)}}}"
    return node(key, entry, after, rest)


def node(key: str, kind: str, after: str = "", rest: str = "") -> str:
    pairs = [part.partition("=") for part in after.split(",") if part]
    depends_on = [{"task_key": name, **({"outcome": outcome} if outcome else {})} for name, _, outcome in pairs]
    return f"        - {{task_key: {key}, depends_on: {json.dumps(depends_on)}, {rest}{kind}}}\n"


def condition(key: str, left: str, after: str = "", right: str = "yes", op: str = "EQUAL_TO") -> str:
    return node(key, f"condition_task: {{op: {op}, left: '{left}', right: '{right}'}}", after)


def add_job(project: Path, name: str, *tasks: str, parameters: str = "[]") -> None:
    text = f"resources:\n  jobs:\n    {name}:\n      parameters: {parameters}\n      tasks:\n{''.join(tasks)}"
    (project / "jobs" / f"{name}.yml").write_text(text, encoding="utf-8")


def run(project: Path, *jobs: str, output: io.StringIO | None = None, **parameters: str) -> list[Result]:
    console = Console(file=output or io.StringIO(), width=200)
    return run_jobs(project, None, list(jobs or ["j"]), {}, parameters, _create_folder, console)


def _create_folder(_: Deployment, local_dir: Path) -> None:
    local_dir.mkdir(parents=True, exist_ok=True)


def states(result: Result) -> dict[str, State]:
    return {task.name: task.state for task in result.inner}


def log(project: Path) -> list[str]:
    file = project / ".local/dev/log.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def test_tasks_run_in_the_order_of_their_dependencies(project: Path) -> None:
    add_job(project, "j", task("last", "c", after="mid"), task("mid", "b", after="first"), task("first", "a"))
    (result,) = run(project)
    assert states(result) == {"first": S, "mid": S, "last": S}
    assert log(project) == ["a", "b", "c"]


def test_a_failed_task_stops_what_depends_on_it_and_nothing_else(project: Path) -> None:
    add_job(project, "j", task("bad", "bug"), task("below", "b", after="bad"), task("beside", "c"))
    (result,) = run(project)
    assert result.state is F
    assert states(result) == {"bad": F, "below": U, "beside": S}
    assert sorted(log(project)) == ["bug", "c"]


@pytest.mark.parametrize(
    ("arguments", "note", "with_traceback"),
    [
        (["user_error"], "no flights in May; run ingest first", False),
        (["bug"], "KeyError: 'a lost key'", True),
        (
            ["exit", "0"],
            "exited with 0: an entry point has to return, a workspace takes any exit for a failure",
            False,
        ),
        (
            ["exit", "3"],
            "exited with 3: an entry point has to return, a workspace takes any exit for a failure",
            False,
        ),
        (["set_long", str(48 * 1024 - 1)], "task value k has more than 48 KiB as JSON", False),
    ],
)
def test_a_failure_is_told_in_one_line_and_only_a_bug_shows_its_traceback(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], note: str, with_traceback: bool
) -> None:
    add_job(project, "j", task("t", *arguments))
    (result,) = run(project)
    assert (result.inner[0].state, result.inner[0].note) == (F, note)
    assert ("Traceback" in capsys.readouterr().err) is with_traceback


def test_a_task_value_may_have_48_kib(project: Path) -> None:
    add_job(project, "j", task("t", "set_long", str(48 * 1024 - 2)))
    assert run(project)[0].state is S


def test_arguments_and_environment_are_as_before_afterwards(project: Path) -> None:
    add_job(project, "j", task("t", "bug"))
    before = (list(sys.argv), dict(os.environ))
    run(project)
    assert (sys.argv, dict(os.environ)) == (before[0], before[1])


@pytest.mark.parametrize(
    ("needed", "max_retries", "state", "attempts"),
    [(1, 2, S, 1), (2, 2, S, 2), (3, 2, S, 3), (4, 2, F, 3), (2, 0, F, 1)],
)
def test_a_task_is_retried_as_often_as_it_says(
    project: Path, needed: int, max_retries: int, state: State, attempts: int
) -> None:
    add_job(project, "j", task("t", "flaky", str(needed), rest=f"max_retries: {max_retries}, "))
    (result,) = run(project)
    assert (result.inner[0].state, result.inner[0].attempts) == (state, attempts)
    assert len(log(project)) == attempts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("yes", {"then": S, "then_more": S, "else": X, "else_more": X, "always": S}),
        ("no", {"then": X, "then_more": X, "else": S, "else_more": S, "always": S}),
    ],
)
def test_a_condition_chooses_one_branch_and_excludes_the_other_with_all_below_it(
    project: Path, value: str, expected: dict[str, State]
) -> None:
    add_job(
        project,
        "j",
        task("set", "set", json.dumps({"k": value})),
        condition("if", "{{tasks.set.values.k}}", after="set"),
        task("then", "a", after="if=true"),
        task("then_more", "a", after="then"),
        task("else", "b", after="if=false"),
        task("else_more", "b", after="else"),
        task("always", "c", after="if"),
    )
    (result,) = run(project)
    assert result.state is S
    assert states(result) == {"set": S, "if": S, **expected}


def test_a_condition_that_cannot_be_judged_fails_and_neither_branch_runs(project: Path) -> None:
    add_job(
        project,
        "j",
        condition("if", "PASS", op="LESS_THAN", right="1"),
        task("then", "a", after="if=true"),
        task("else", "b", after="if=false"),
    )
    (result,) = run(project)
    assert states(result) == {"if": F, "then": U, "else": U}
    assert result.inner[0].note == "LESS_THAN compares numbers, got 'PASS' and '1'"


def test_a_handled_failure_leaves_the_job_successful_and_is_told(project: Path) -> None:
    cleanup = task("cleanup", "ok", after="bad", rest="run_if: AT_LEAST_ONE_FAILED, ")
    add_job(project, "j", task("bad", "user_error"), cleanup)
    (result,) = run(project)
    assert (result.state, result.note) == (S, "succeeded with failures: bad")


@pytest.mark.parametrize(
    ("value", "text"), [('"3"', "3"), ("3", "3"), ("0.5", "0.5"), ("true", "true"), ('"a b"', "a b"), ('""', "")]
)
def test_a_task_value_reaches_the_next_task_as_text(project: Path, value: str, text: str) -> None:
    add_job(project, "j", task("a", "set", f'{{"k": {value}}}'), task("b", "got", "{{tasks.a.values.k}}", after="a"))
    assert run(project)[0].state is S
    assert log(project)[-1] == f"got {text}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ("{}", "task a did not set its value k"),
        ('{"k": [1]}', "value k of task a is a list; only strings, numbers and booleans are supported on a laptop"),
    ],
)
def test_a_task_value_that_cannot_be_had_fails_the_task_that_asks_for_it(
    project: Path, values: str, problem: str
) -> None:
    add_job(project, "j", task("a", "set", values), task("b", "got", "{{tasks.a.values.k}}", after="a"))
    (result,) = run(project)
    assert states(result) == {"a": S, "b": F}
    assert result.inner[1].note == f"jobs/j.yml: resources.jobs.j.tasks.b.python_wheel_task.parameters: {problem}"


def test_a_tasks_values_are_its_own(project: Path) -> None:
    add_job(project, "j", task("a", "set", '{"k": 1}'), task("b", "ok", after="a"), task("c", "x", after="b"))
    (result,) = run(project)
    assert [dict(inner.values) for inner in result.inner] == [{"k": 1}, {}, {}]


def test_job_parameters_have_defaults_that_the_caller_overrides(project: Path) -> None:
    parameters = "[{name: a, default: one}, {name: b, default: two}]"
    add_job(project, "j", task("t", "{{job.parameters.a}}-{{job.parameters.b}}"), parameters=parameters)
    run(project)
    run(project, b="three")
    assert log(project) == ["one-two", "one-three"]


def test_the_trigger_time_is_one_moment_for_the_whole_run(project: Path) -> None:
    parameters = "[{name: now, default: '{{job.trigger.time.iso_datetime}}'}]"
    tasks = task("a", "{{job.parameters.now}}"), task("b", "{{job.trigger.time.iso_datetime}}", after="a")
    add_job(project, "j", *tasks, parameters=parameters)
    run(project)
    first, second = log(project)
    assert first == second
    assert len(first) == len("2014-01-02T00:00:00Z")


CALL = "run_job_task: {job_id: '${resources.jobs.child.id}', job_parameters: {version: '{{tasks.a.values.v}}'}}"


def test_a_job_runs_another_with_parameters_of_its_own(project: Path) -> None:
    # `as_of` is not passed: parameters of the same name are pushed down.
    child = "[{name: version, default: none}, {name: as_of, default: then}, {name: mode, default: m}]"
    shown = "{{job.parameters.version}} {{job.parameters.as_of}} {{job.parameters.mode}}"
    add_job(project, "child", task("c", shown), parameters=child)
    add_job(
        project,
        "j",
        task("a", "set", '{"v": 7}'),
        node("call", CALL, after="a"),
        task("z", "z", after="call"),
        parameters="[{name: as_of, default: now}]",
    )
    (result,) = run(project)
    assert log(project)[1:] == ["7 now m", "z"]
    assert (result.inner[1].note, states(result.inner[1])) == ("job child", {"c": S})


def test_a_failure_in_the_other_job_fails_the_task_that_runs_it(project: Path) -> None:
    add_job(project, "child", task("c", "user_error"), task("d", "d"), parameters="[{name: version, default: x}]")
    tasks = task("a", "set", '{"v": 7}'), node("call", CALL, after="a"), task("z", "z", after="call")
    add_job(project, "j", *tasks)
    output = io.StringIO()
    (result,) = run(project, output=output)
    assert (result.state, states(result)) == (F, {"a": S, "call": F, "z": U})
    assert states(result.inner[1]) == {"c": F, "d": S}
    rows = [line.strip("│ \n").split("│") for line in output.getvalue().splitlines() if line.startswith("│")]
    table = {row[0].rstrip(): (row[1].strip(), row[2].strip()) for row in rows}
    assert table == {
        "j": ("FAILED", ""),
        "a": ("SUCCESS", "1"),
        "call": ("FAILED", "1"),
        "c": ("FAILED", "1"),
        "d": ("SUCCESS", "1"),
        "z": ("UPSTREAM_FAILED", ""),
    }
    assert "no flights in May; run ingest first" in output.getvalue()


def test_jobs_run_in_the_order_given_up_to_the_first_that_fails(project: Path) -> None:
    for name, what in {"one": "ok", "two": "bug", "three": "ok"}.items():
        add_job(project, name, task("t", what))
    output = io.StringIO()
    results = run(project, "one", "two", "three", output=output)
    assert [(result.name, result.state) for result in results] == [("one", S), ("two", F)]
    assert "NOT_STARTED" in output.getvalue()
    assert output.getvalue().endswith("Then: flight-delays local run two three --target dev\n")


def test_success_ends_with_where_to_look(project: Path) -> None:
    add_job(project, "j", task("t", "ok"))
    local_dir = project / ".local/dev"
    for end in (
        f"{local_dir}/warehouse. No model yet.\n",
        f"mlflow ui --backend-store-uri sqlite:///{local_dir}/mlflow.db\n",
    ):
        output = io.StringIO()
        run(project, output=output)
        assert output.getvalue().endswith(end)
        (local_dir / "mlflow.db").touch()


def test_nothing_is_prepared_or_run_if_any_job_is_refused(project: Path) -> None:
    add_job(project, "fine", task("t", "ok"))
    add_job(project, "j", task("t", "{{job.id}}"))
    with pytest.raises(UserError):
        run(project, "fine", "j")
    assert not (project / ".local").exists()


def test_a_second_run_of_the_same_target_is_refused(project: Path) -> None:
    add_job(project, "j", task("t", "ok"))
    with world.locked(project, "prod"):
        assert run(project)[0].state is S
    with world.locked(project, "dev"), pytest.raises(UserError, match=r"^\.local/dev: another run"):
        run(project)


def test_a_world_in_use_is_not_deleted(project: Path) -> None:
    (project / ".local/dev").mkdir(parents=True)
    with world.locked(project, "dev"), pytest.raises(UserError, match=r"^\.local/dev: another run"):
        world.reset(project, "dev")


@pytest.mark.parametrize(("what", "exit_code"), [("ok", 0), ("bug", 1)])
def test_the_command_exits_with_1_if_a_job_failed(project: Path, what: str, exit_code: int) -> None:
    add_job(project, "j", task("t", what, "--x={{job.parameters.p}}"), parameters="[{name: p, default: a}]")
    (project / ".local/dev").mkdir(parents=True)
    arguments = ["run", "j", "--target", "dev", "--param", "p=b=c", "--root", str(project)]
    result = CliRunner().invoke(app, arguments, obj=lambda: USE_CASE)
    assert isinstance(result.exception, SystemExit) == bool(exit_code)
    assert result.exit_code == exit_code
    assert log(project) == [f"{what} --x=b=c"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "nope"], "databricks.yml: resources.jobs.nope: no such job; there are: j"),
        (["run", "j", "--var", "x"], "--var x: must be name=value"),
        (
            ["run", "j", "--param", "q=1"],
            "jobs/j.yml: resources.jobs.j.parameters.q: no such parameter of job j; it has: none",
        ),
    ],
)
def test_the_command_refuses_in_one_line(project: Path, arguments: list[str], line: str) -> None:
    add_job(project, "j", task("t", "ok"))
    result = CliRunner().invoke(app, [*arguments, "--root", str(project)], obj=lambda: USE_CASE)
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == line


def test_the_project_is_found_from_a_folder_within_it(project: Path, tmp_path: Path) -> None:
    assert world.find_root(project / "jobs") == project
    with pytest.raises(UserError, match=r"^databricks\.yml: not found in"):
        world.find_root(tmp_path)


def test_reset_deletes_one_target_or_all_and_says_so(project: Path) -> None:
    def reset(*arguments: str) -> str:
        return CliRunner().invoke(app, ["reset", *arguments, "--root", str(project)], catch_exceptions=False).output

    for target in ("dev", "prod"):
        (project / ".local" / target / "warehouse").mkdir(parents=True)
    assert reset("--target", "dev") == ".local/dev: removed\n"
    assert reset("--target", "dev") == ".local/dev: nothing to remove\n"
    assert reset("--target", "../jobs") == ".local/../jobs: nothing to remove\n"
    assert (project / "jobs").exists()
    assert reset() == ".local/prod: removed\n"
