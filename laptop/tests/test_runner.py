"""Jobs, run: real bundles, real entry points of a toy package, no Spark."""

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bundle_laptop.errors import LaptopError
from bundle_laptop.graph import State
from bundle_laptop.results import Result, duration, live_line, summary
from bundle_laptop.world import locked

S, F, U, X = State.SUCCESS, State.FAILED, State.UPSTREAM_FAILED, State.EXCLUDED
VALUE = "{{tasks.a.values.k}}"


@pytest.fixture(autouse=True)
def _installed(toys: Path) -> None:
    """The toys."""


def task(key: str, *arguments: str, after: str = "", **rest: Any) -> dict[str, Any]:
    """A toy, unless `rest` says another kind; `after` is a comma-separated list of task or task=outcome."""
    pairs = [part.partition("=") for part in after.split(",") if part]
    upstream = [{"task_key": name, **({"outcome": outcome} if outcome else {})} for name, _, outcome in pairs]
    toy = {"package_name": "toys", "entry_point": "toy", "parameters": arguments}
    kind = {} if any("_task" in name for name in rest) else {"python_wheel_task": toy}
    return {"task_key": key, "depends_on": upstream, **kind, **rest}


def condition(key: str, left: str, after: str = "", right: str = "yes", op: str = "EQUAL_TO") -> dict[str, Any]:
    return task(key, after=after, condition_task={"op": op, "left": left, "right": right})


def states(result: Result) -> dict[str, State]:
    return {task.name: task.state for task in result.inner}


def test_tasks_run_in_the_order_of_their_dependencies(project: Any) -> None:
    project.add_job("j", task("last", "c", after="mid"), task("mid", "b", after="first"), task("first", "a"))
    (result,) = project.run()
    assert (result.state, states(result)) == (S, {"first": S, "mid": S, "last": S})
    assert project.log == ["a", "b", "c"]


def test_a_failed_task_stops_what_depends_on_it_and_nothing_else(project: Any) -> None:
    project.add_job("j", task("bad", "bug"), task("below", "b", after="bad"), task("beside", "c"))
    (result,) = project.run()
    assert (result.state, states(result)) == (F, {"bad": F, "below": U, "beside": S})
    assert sorted(project.log) == ["bug", "c"]


@pytest.mark.parametrize(("length", "state"), [(48 * 1024 - 2, S), (48 * 1024 - 1, F)])
def test_a_task_value_may_have_48_kib_as_json(project: Any, length: int, state: State) -> None:
    project.add_job("j", task("t", "set_long", str(length)))
    (result,) = project.run()
    assert result.state is state
    assert result.inner[0].note == ("" if state is S else "task value k has more than 48 KiB as JSON")


def test_arguments_environment_and_path_are_as_before_afterwards(project: Any) -> None:
    project.add_job("j", task("t", "bug"))
    before = (list(sys.argv), dict(os.environ), list(sys.path), Path.cwd())
    project.run()
    assert (sys.argv, dict(os.environ), sys.path, Path.cwd()) == before


@pytest.mark.parametrize(
    ("needed", "max_retries", "state", "attempts"),
    [(1, 2, S, 1), (2, 2, S, 2), (3, 2, S, 3), (4, 2, F, 3), (2, 0, F, 1)],
)
def test_a_task_is_retried_as_often_as_it_says(
    project: Any, needed: int, max_retries: int, state: State, attempts: int
) -> None:
    project.add_job("j", task("t", "flaky", str(needed), max_retries=max_retries, min_retry_interval_millis=1))
    with project.opened() as (session, printed):
        (result,) = session.run(["j"], {})
    assert (result.inner[0].state, result.inner[0].attempts) == (state, attempts)
    assert len(project.log) == attempts
    tries = [f"attempt {number} of {max_retries + 1} failed: RuntimeError: not yet" for number in range(1, attempts)]
    assert re.findall(r"attempt .* not yet", printed.getvalue()) == tries


def test_what_a_person_has_to_fix_is_not_retried(project: Any) -> None:
    project.write("pyproject.toml", "[tool.bundle-laptop]\nuser_errors = ['toys_module.Unfit']\n")
    project.add_job("j", task("t", "unfit", max_retries=2))
    (result,) = project.run()
    assert (result.inner[0].note, result.inner[0].attempts) == ("no rows in May; run load first", 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("yes", {"then": S, "then_more": S, "else": X, "else_more": X, "always": S}),
        ("no", {"then": X, "then_more": X, "else": S, "else_more": S, "always": S}),
    ],
)
def test_a_condition_chooses_one_branch_and_excludes_the_other_with_all_below_it(
    project: Any, value: str, expected: dict[str, State]
) -> None:
    project.add_job(
        "j",
        task("a", "set", json.dumps({"k": value})),
        condition("if", VALUE, after="a"),
        task("then", "a", after="if=true"),
        task("then_more", "a", after="then"),
        task("else", "b", after="if=false"),
        task("else_more", "b", after="else"),
        task("always", "c", after="if"),
    )
    (result,) = project.run()
    assert (result.state, states(result)) == (S, {"a": S, "if": S, **expected})
    assert result.inner[1].note == f"{value} EQUAL_TO yes: {str(value == 'yes').lower()}"


def test_a_condition_that_cannot_be_judged_fails_and_neither_branch_runs(project: Any) -> None:
    tasks = task("then", "a", after="if=true"), task("else", "b", after="if=false")
    project.add_job("j", condition("if", "PASS", op="LESS_THAN", right="1"), *tasks)
    (result,) = project.run()
    assert states(result) == {"if": F, "then": U, "else": U}
    assert result.inner[0].note == "LESS_THAN compares numbers, got 'PASS' and '1'"


def test_a_handled_failure_leaves_the_job_successful_and_is_told(project: Any) -> None:
    project.add_job("j", task("bad", "bug"), task("cleanup", "ok", after="bad", run_if="AT_LEAST_ONE_FAILED"))
    (result,) = project.run()
    assert (result.state, result.note) == (S, "succeeded with failures: bad")


@pytest.mark.parametrize(
    ("value", "text"), [('"3"', "3"), ("3", "3"), ("0.5", "0.5"), ("true", "true"), ('"a b"', "a b"), ('""', "")]
)
def test_a_task_value_reaches_the_next_task_as_text(project: Any, value: str, text: str) -> None:
    project.add_job("j", task("a", "set", f'{{"k": {value}}}'), task("b", "got", VALUE, after="a"))
    assert project.run()[0].state is S
    assert project.log[-1] == f"got {text}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ("{}", "task a did not set its value k"),
        ('{"k": [1]}', "value k of task a is a list; only strings, numbers and booleans are supported on a laptop"),
    ],
)
def test_a_task_value_that_cannot_be_had_fails_the_task_that_asks_for_it(
    project: Any, values: str, problem: str
) -> None:
    project.add_job("j", task("a", "set", values), task("b", "got", VALUE, after="a"))
    (result,) = project.run()
    assert states(result) == {"a": S, "b": F}
    place = "resources/j.yml: resources.jobs.j.tasks.b.python_wheel_task.parameters[1]"
    assert result.inner[1].note == f"{place}: {problem}"


def test_a_tasks_values_are_its_own_and_short_ones_are_noted(project: Any) -> None:
    values = json.dumps({"k": 1, "short": 16 * "x", "long": 17 * "x"})
    project.add_job("j", task("a", "set", values), task("b", "ok", after="a"))
    (result,) = project.run()
    assert [dict(inner.values) for inner in result.inner] == [json.loads(values), {}]
    assert [inner.note for inner in result.inner] == [f"k 1, short {16 * 'x'}", ""]


def test_code_can_ask_for_values_of_earlier_tasks_and_for_parameters(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = [{"name": "day", "default": "monday"}]
    project.add_job("j", task("a", "set", '{"k": [1]}'), task("b", "get", "a", "k", after="a"), parameters=parameters)
    assert project.run()[0].state is S
    assert capsys.readouterr().out == "[1] {'day': 'monday'}\n"


def test_job_parameters_have_defaults_that_the_caller_overrides(project: Any) -> None:
    parameters = [{"name": "a", "default": "one"}, {"name": "b", "default": "two"}]
    project.add_job("j", task("t", "{{job.parameters.a}}-{{job.parameters.b}}"), parameters=parameters)
    project.run()
    project.run(b="three")
    assert project.log == ["one-two", "one-three"]


def test_what_a_run_knows_of_itself_is_the_same_in_all_its_tasks_and_in_the_api(project: Any) -> None:
    facts = "{{job.id}} {{job.name}} {{job.run_id}} {{job.start_time.iso_date}}"
    parameters = [{"name": "now", "default": "{{job.trigger.time.iso_datetime}}"}]
    tasks = [task(key, "{{task.name}}", "{{job.parameters.now}}", facts) for key in "ab"]
    project.add_job("j", *tasks, name="daily", parameters=parameters)
    project.run()
    (record,) = (json.loads(file.read_text()) for file in (project.world / "api/runs").iterdir())
    first, second = project.log
    known = f"j [dev local] daily {record['run_id']} "
    assert re.fullmatch(rf"a 20..-..-..T..:..:..Z {re.escape(known)}20..-..-..", first)
    assert second == first.replace("a", "b", 1)


FILE = """
import sys
from helper import WORD
print(WORD, *sys.argv[1:], dbutils.widgets.getAll())
dbutils.jobs.taskValues.set("k", 7)
"""


def test_a_file_of_the_bundle_is_run_with_its_arguments(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("src/words.py", FILE)
    project.write("src/helper.py", "WORD = 'tiny'")
    python = {"python_file": "../src/words.py", "parameters": ["--day", "{{job.parameters.day}}"]}
    parameters = [{"name": "day", "default": "monday"}]
    project.add_job("j", task("a", spark_python_task=python), task("b", VALUE, after="a"), parameters=parameters)
    assert project.run()[0].state is S
    assert capsys.readouterr().out == "tiny --day monday {'day': 'monday'}\n"
    assert project.log == ["7"]


NOTEBOOK = """# Databricks notebook source
dbutils.widgets.text("size", "all")

# COMMAND ----------

got = dbutils.widgets.get
dbutils.jobs.taskValues.set("k", got("day") + "/" + got("rows") + "/" + got("size"))
if got("rows") == "0":
    raise ValueError("no rows")
dbutils.notebook.exit("looked")
"""


def test_a_notebook_has_its_own_parameters_and_the_jobs_as_widgets_and_its_page_is_kept(project: Any) -> None:
    project.write("src/look.py", NOTEBOOK)
    look = {"notebook_path": "../src/look", "base_parameters": {"rows": "{{tasks.rows.values.k}}", "day": "sunday"}}
    project.add_job(
        "j",
        task("rows", "set", '{"k": 3}'),
        task("a", after="rows", notebook_task=look),
        task("b", VALUE, after="a"),
        parameters=[{"name": "day", "default": "monday"}],  # they win
    )
    (result,) = project.run()
    assert states(result) == {"rows": S, "a": S, "b": S}
    assert result.inner[1].note == "k monday/3/all, looked"
    assert project.log[-1] == "monday/3/all"
    (page,) = (project.world / "runs").glob("*/j.a.html")
    assert page.with_suffix(".ipynb").exists()


def test_a_notebook_that_fails_says_why_and_where_its_page_is(project: Any) -> None:
    project.write("src/look.py", NOTEBOOK)
    look = {"notebook_path": "src/look.py", "base_parameters": {"rows": 0}}
    refused = project.write("src/refused.py", "# Databricks notebook source\n# MAGIC %r\n# MAGIC x")
    tasks = task("a", notebook_task=look), task("b", max_retries=1, notebook_task={"notebook_path": str(refused)})
    project.add_job("j", *tasks, parameters=[{"name": "day", "default": "monday"}])
    failed, refused_one = project.run()[0].inner
    (page,) = (project.world / "runs").glob("*/j.a.html")
    assert (failed.state, failed.note) == (F, f"ValueError: no rows; see {page}")
    assert (refused_one.attempts, refused_one.note) == (
        1,
        "refused.py: a cell with %r is not supported on a laptop; write it in Python",
    )


def loop(inputs: str, *arguments: str, **rest: Any) -> dict[str, Any]:
    return {"inputs": inputs, "concurrency": 2, "task": task("each", *arguments, **rest)}


@pytest.mark.parametrize(
    ("inputs", "argument", "log"),
    [
        ("[]", "{{input}}", []),
        ('["a b", 3, true, 1.5, null, {"x": 1}]', "{{input}}", ["a b", "3", "true", "1.5", "null", '{"x": 1}']),
        ('[{"x": 1}, {"x": "two"}]', "{{input.x}}!", ["1!", "two!"]),
        ("{{job.parameters.list}}", "{{input}} {{task.name}}", ["p t[0]", "q t[1]"]),
        (VALUE, "{{input}}", ["v", "w"]),
        ("[{{tasks.a.values.n}}, 2]", "{{input}}", ["1", "2"]),
    ],
)
def test_a_loop_runs_its_task_once_for_each_input(project: Any, inputs: str, argument: str, log: list[str]) -> None:
    project.add_job(
        "j",
        task("a", "set", '{"k": ["v", "w"], "n": 1}'),
        task("t", after="a", for_each_task=loop(inputs, argument)),
        parameters=[{"name": "list", "default": '["p", "q"]'}],
    )
    (result,) = project.run()
    assert (result.state, result.inner[1].note) == (S, f"{len(log)} inputs")
    assert states(result.inner[1]) == {f"t[{index}]": S for index in range(len(log))}
    assert project.log[1:] == log


def test_a_loop_fails_if_one_input_does_and_its_tasks_are_retried_one_by_one(project: Any) -> None:
    each = loop('["ok", "bug", "ok"]', "{{input}}", max_retries=1)
    project.add_job("j", task("t", for_each_task=each), task("u", "u", after="t"))
    (result,) = project.run()
    assert states(result) == {"t": F, "u": U}
    assert result.inner[0].note == "3 inputs, 1 failed"
    assert project.log == ["ok", "bug", "bug", "ok"]
    assert [each.attempts for each in result.inner[0].inner] == [1, 2, 1]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('"a"', "inputs must be a list as JSON, got 'a'"),
        ('{"x": 1}', "resources/j.yml: resources.jobs.j.tasks.t.for_each_task.inputs: value k of task a is a dict; "),
        ("3", "inputs must be a list as JSON, got '3'"),
    ],
)
def test_inputs_that_are_no_list_fail_the_loop(project: Any, value: str, problem: str) -> None:
    tasks = task("a", "set", f'{{"k": {value}}}'), task("t", after="a", for_each_task=loop(VALUE, "x"))
    project.add_job("j", *tasks)
    (result,) = project.run()
    assert states(result) == {"a": S, "t": F}
    assert result.inner[1].note.startswith(problem)


CALL = {"job_id": "${resources.jobs.child.id}", "job_parameters": {"version": "{{tasks.a.values.v}}"}}


def test_a_job_runs_another_with_parameters_of_its_own_and_those_of_the_same_name(project: Any) -> None:
    names = {"version": "none", "as_of": "then", "mode": "m"}
    child = [{"name": name, "default": default} for name, default in names.items()]
    shown = "{{job.parameters.version}} {{job.parameters.as_of}} {{job.parameters.mode}}"
    project.add_job("child", task("c", shown), parameters=child)
    tasks = task("a", "set", '{"v": 7}'), task("call", after="a", run_job_task=CALL), task("z", "z", after="call")
    project.add_job("j", *tasks, parameters=[{"name": "as_of", "default": "now"}])
    (result,) = project.run()
    assert project.log[1:] == ["7 now m", "z"]
    assert (result.inner[1].note, states(result.inner[1])) == ("job child", {"c": S})
    runs = [json.loads(file.read_text()) for file in sorted((project.world / "api/runs").iterdir())]
    assert [run["run_name"] for run in runs] == ["j", "child"]


def test_a_loop_runs_another_job_for_each_input(project: Any) -> None:
    project.add_job("child", task("c", "{{job.parameters.word}}"), parameters=[{"name": "word", "default": "none"}])
    call = {"job_id": "${resources.jobs.child.id}", "job_parameters": {"word": "{{input}}"}}
    project.add_job("j", task("t", for_each_task=loop('["a", "b"]', run_job_task=call)))
    assert project.run()[0].state is S
    assert project.log == ["a", "b"]


def test_a_failure_in_the_other_job_fails_the_task_that_runs_it_and_the_table_shows_both(project: Any) -> None:
    project.add_job("child", task("c", "bug"), task("d", "d"), parameters=[{"name": "version", "default": "x"}])
    tasks = task("a", "set", '{"v": 7}'), task("call", after="a", run_job_task=CALL), task("z", "z", after="call")
    project.add_job("j", *tasks)
    with project.opened() as (session, printed):
        (result,) = session.run(["j"], {})
    assert (result.state, states(result)) == (F, {"a": S, "call": F, "z": U})
    assert states(result.inner[1]) == {"c": F, "d": S}
    lines = [line.strip("│ \n").split("│") for line in printed.getvalue().splitlines() if line.startswith("│")]
    table = {line[0].rstrip(): (line[1].strip(), line[2].strip()) for line in lines}
    assert table == {
        "j": ("FAILED", ""),
        "a": ("SUCCESS", "1"),
        "call": ("FAILED", "1"),
        "c": ("FAILED", "1"),
        "d": ("SUCCESS", "1"),
        "z": ("UPSTREAM_FAILED", ""),
    }
    assert "KeyError: 'a lost key'" in printed.getvalue()


def test_only_the_tasks_asked_for_run_whatever_they_depend_on(project: Any) -> None:
    project.add_job("child", task("c", "c"))
    call = task("call", after="b", run_job_task={"job_id": "child"})
    project.add_job("j", task("a", "a"), task("b", "b", after="a"), call, task("z", "z", after="call"))
    (result,) = project.run(only=["b", "call"])
    assert (result.state, states(result)) == (S, {"a": X, "b": S, "call": S, "z": X})
    assert project.log == ["b", "c"]


def test_a_failure_of_a_task_asked_for_alone_fails_the_job_though_others_depend_on_it(project: Any) -> None:
    project.add_job("j", task("a", "bug"), task("z", "z", after="a"))
    (result,) = project.run(only=["a"])
    assert (result.state, states(result)) == (F, {"a": F, "z": X})


def test_a_task_that_is_not_there_cannot_be_asked_for(project: Any) -> None:
    project.add_job("j", task("a", "a"), task("b", "b"))
    with pytest.raises(LaptopError, match=r"^--only c: job j has a, b$"):
        project.run(only=["a", "c"])
    assert project.log == []


def test_jobs_run_in_the_order_given_up_to_the_first_that_fails(project: Any) -> None:
    for name, what in {"one": "ok", "two": "bug", "three": "ok"}.items():
        project.add_job(name, task("t", what))
    with project.opened() as (session, printed):
        results = session.run(["one", "two", "three"], {})
    assert [(result.name, result.state) for result in results] == [("one", S), ("two", F)]
    assert "NOT_STARTED" in printed.getvalue()


def test_nothing_runs_if_any_job_is_refused(project: Any) -> None:
    project.add_job("fine", task("t", "ok"))
    project.add_job("j", task("t", "{{job.nope}}"))
    with pytest.raises(LaptopError):
        project.run("fine", "j")
    assert project.log == []


def test_one_run_of_a_world_at_a_time(project: Any) -> None:
    project.add_job("j", task("t", "ok"))
    with locked(project.root / ".local/prod"):
        assert project.run()[0].state is S
    with locked(project.world), pytest.raises(LaptopError, match=r"^\.local/dev: another run"):
        project.run()


def test_the_table_has_a_row_per_job_and_task_and_of_what_was_not_started() -> None:
    inner = Result(name="t", state=F, attempts=2, seconds=61, note="why")
    results = [Result(name="j", state=F, attempts=1, seconds=1.23, inner=(inner, Result(name="u", state=X)))]
    console = Console(file=io.StringIO(), width=100)
    console.print(summary(results, ["k"]))
    lines = [line.strip("│\n").split("│") for line in console.file.getvalue().splitlines() if line.startswith("│")]
    assert [(name.rstrip(), *map(str.strip, rest)) for name, *rest in lines] == [
        (" j", "FAILED", "", "1.2 s", ""),
        ("   t", "FAILED", "2", "1 min 1 s", "why"),
        ("   u", "EXCLUDED", "", "", ""),
        (" k", "NOT_STARTED", "", "", "a job before it failed"),
    ]


def test_on_a_terminal_the_line_of_a_task_is_live_and_is_gone_when_it_ends() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with live_line(console, "j > t"):
        assert "running" not in console.file.getvalue()
    assert "j > t" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")  # the line is cleared


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3_599.9, "59 min 59 s")]
)
def test_a_duration_is_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
