"""The bundle's tasks against the code that they call."""

import ast
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest

from flight_delays import tasks
from flight_delays.cli import app
from flight_delays.core.errors import UserError

COMMANDS = app.commands
TASK_VALUE = re.compile(r"\{\{tasks\.([\w-]+)\.values\.([\w.-]+)\}\}")


def call_as_databricks_does(package, entry_point, arguments, monkeypatch):
    """In its own process the workspace sets sys.argv, loads the distribution's entry point and calls it."""
    (found,) = [found for found in distribution(package).entry_points if found.name == entry_point]
    monkeypatch.setattr(sys, "argv", [entry_point, *arguments])
    return found.load()()


@pytest.fixture
def call(wheel_task, monkeypatch):
    wheel = wheel_task.config["python_wheel_task"]
    return lambda *arguments: call_as_databricks_does(
        wheel["package_name"], wheel["entry_point"], [wheel["parameters"][0], *arguments], monkeypatch
    )


def test_an_entry_point_returns_none_when_it_succeeds(call, wheel_task, capsys):
    assert call("--help") is None
    assert wheel_task.config["python_wheel_task"]["parameters"][0] in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--no-such-option=1",), ()], ids=["an unknown option", "a missing option"])
def test_an_entry_point_raises_when_it_fails(call, arguments):
    with pytest.raises(UserError):
        call(*arguments)


def test_parameters_are_those_of_the_subcommand(resolved):
    wheels = [
        task["python_wheel_task"]
        for job in resolved["resources"]["jobs"].values()
        for task in job["tasks"]
        if "python_wheel_task" in task
    ]
    assert wheels
    for wheel in wheels:
        name, *options = map(filled, wheel["parameters"])
        COMMANDS[name].make_context(name, list(options))
        names = [option.partition("=")[0] for option in options]
        assert sorted(set(names)) == sorted(names)
        assert all(option.partition("=")[2] for option in options)


def test_as_of_is_an_option_of_all_tasks_but_those_that_take_nothing_for_now(resolved):
    called = {
        task["python_wheel_task"]["parameters"][0]
        for job in resolved["resources"]["jobs"].values()
        for task in job["tasks"]
        if "python_wheel_task" in task
    }
    takes = {name for name in called if "as_of" in {option.name for option in COMMANDS[name].params}}
    assert called - takes == {"tables", "score-stream"}


def test_every_option_of_a_task_is_required(wheel_task):
    name, *options = map(filled, wheel_task.config["python_wheel_task"]["parameters"])
    assert options
    for left_out in options:
        with pytest.raises(click.ClickException):
            COMMANDS[name].make_context(name, [option for option in options if option != left_out])


def test_every_task_value_that_is_read_is_set_upstream(jobs):
    read = set()
    for job in jobs.values():
        tasks_of_job = {task["task_key"]: task for task in job["tasks"]}
        for task in tasks_of_job.values():
            for upstream, value in TASK_VALUE.findall(str(task)):
                assert upstream in _upstream(tasks_of_job, task)
                assert value in values_set_by(tasks_of_job[upstream]["python_wheel_task"]["parameters"][0])
                read.add(value)
    assert read == {"model_name", "model_version", "retraining", "verdict", "verdict_id"}


def test_a_value_that_no_task_sets_is_noticed():
    assert values_set_by("train") == {"model_name", "model_version", "test_loss"}
    assert values_set_by("tables") == set()


def filled(text):
    """With something in place of what the bundle or the run fills in: a time, or what is a number and a text."""
    name = text.partition("=")[0]
    value = {"--schema": "a.b", "--raw-schema": "a.b", "--order": "pause", "--rollout-stages": "100"}.get(
        name, "2014-01-02" if name in TIMES else "1"
    )
    return re.sub(r"(?<==)(\$\{.*\}|.*\{\{.*\}\}.*)$", value, text)


TIMES = {"--as-of", "--first-date", "--last-date"}


def values_set_by(subcommand):
    """The keys in the `task_values.set(key, ...)` calls of the subcommand's module."""
    (folder,) = tasks.__path__
    code = Path(folder, f"{subcommand.replace('-', '_')}.py").read_text()
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return {ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func).endswith("task_values.set")}


def _upstream(tasks_of_job, task):
    direct = {other["task_key"] for other in task.get("depends_on", [])}
    return direct.union(*(_upstream(tasks_of_job, tasks_of_job[key]) for key in direct))
