"""What is known of the arguments of wheel tasks before a run, and how a project has them checked."""

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundle_laptop.errors import LaptopError
from bundle_laptop.options import known_arguments, option_values

CHECK = """
class UnfitError(Exception): pass

def check(arguments):
    print(*arguments)
    if "--rows=0" in arguments:
        raise UnfitError("--rows=0: give more")
    if "--rows=-1" in arguments:
        raise KeyError("a bug")
"""


@pytest.fixture(autouse=True)
def _installed(toys: Path) -> None:
    """The toys."""


def toy(key: str, *arguments: str, **rest: Any) -> dict[str, Any]:
    wheel = {"package_name": "toys", "entry_point": "toy", "parameters": arguments}
    return {"task_key": key, "python_wheel_task": wheel, **rest}


def named(**defaults: str) -> list[dict[str, str]]:
    return [{"name": name, "default": default} for name, default in defaults.items()]


def test_options_of_wheel_tasks_have_what_the_bundle_gives_them(project: Any) -> None:
    parameters = named(day="monday", empty="", of_run="{{job.trigger.time.iso_datetime}}")
    options = ["--as-of={{job.parameters.of_run}}", "--day={{job.parameters.day}}", "--rows={{tasks.t.values.k}}"]
    more = [
        "count",
        "--target=${bundle.target}",
        "--none={{job.parameters.empty}}",
        "--flag",
        "--expression=a=b",
        "--x=",
    ]
    project.add_job("j", toy("t"), toy("u", *options, *more, depends_on=[{"task_key": "t"}]), parameters=parameters)
    before = datetime.now(tz=UTC).replace(microsecond=0)
    values = option_values(project.plan())
    assert before <= datetime.fromisoformat(values.pop("as_of")) <= datetime.now(tz=UTC)
    assert values == {"day": "monday", "target": "dev", "expression": "a=b"}


@pytest.mark.parametrize(
    ("given", "known"),
    [({}, ["a", "--day=monday"]), ({"day": "sunday", "other": "x"}, ["a", "--day=sunday"]), ({"day": ""}, ["a"])],
)
def test_parameters_of_a_run_count_more_than_the_defaults(
    project: Any, given: dict[str, str], known: list[str]
) -> None:
    project.add_job("j", toy("t", "a", "--day={{job.parameters.day}}"), toy("u"), parameters=named(day="monday"))
    assert list(known_arguments(project.plan(), given)) == [("j", "t", known)]


@pytest.fixture
def checked(project: Any, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bundle that has the arguments of its wheel tasks checked."""
    monkeypatch.syspath_prepend(str(install("checks", {"checks": CHECK}, {})))
    project.write("pyproject.toml", "[tool.bundle-laptop]\ncheck = 'checks:check'\nuser_errors = ['checks.UnfitError']")
    rows = named(rows="{{job.start_time.iso_date}}")
    project.add_job("j", toy("t", "ok", "--rows={{job.parameters.rows}}"), toy("u", "ok"), parameters=rows)
    yield project
    sys.modules.pop("checks", None)


def test_a_projects_check_is_told_the_arguments_of_each_wheel_task_before_anything_runs(
    checked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checked.run()
    assert re.fullmatch(r"ok --rows=20..-..-..\nok\n", capsys.readouterr().out)
    assert len(checked.log) == 2
    with pytest.raises(LaptopError) as refused:
        checked.run(rows="0")
    place = "resources/j.yml: resources.jobs.j.tasks.t.python_wheel_task.parameters"
    assert str(refused.value) == f"{place}: --rows=0: give more"
    with pytest.raises(KeyError, match="a bug"):
        checked.run(rows="-1")
    assert len(checked.log) == 2
