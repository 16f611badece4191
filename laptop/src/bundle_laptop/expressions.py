"""Pure: the `{{...}}` of a job, which the workspace fills in while the job runs.

Supported: {{job.parameters.<name>}}, {{tasks.<task>.values.<key>}}, {{input}} and {{input.<key>}} of a for_each_task,
and FACTS. No spaces within the braces: a workspace does not fill such a one in. Times are in UTC, to the second.
Source: https://docs.databricks.com/jobs/dynamic-value-references
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

_BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PARAMETER = re.compile(r"job\.parameters\.([\w.-]+)")
_TASK_VALUE = re.compile(r"tasks\.([\w-]+)\.values\.([\w.-]+)")
_INPUT = re.compile(r"input(?:\.([\w-]+))?")

FACTS = (
    "job.id",
    "job.name",
    "job.run_id",
    "job.start_time.iso_date",
    "job.start_time.iso_datetime",
    "job.trigger.time.iso_date",
    "job.trigger.time.iso_datetime",
    "task.name",
)
"""What a run knows of itself."""

MAX_VALUE_BYTES = 48 * 1024
"""Databricks' limit for the JSON of one task value."""


@dataclass(frozen=True)
class ParameterOf:
    """{{job.parameters.<name>}}."""

    name: str


@dataclass(frozen=True)
class ValueOf:
    """{{tasks.<task>.values.<key>}}."""

    task: str
    key: str


@dataclass(frozen=True)
class InputOf:
    """{{input}}, or one key of it."""

    key: str | None


@dataclass(frozen=True)
class Fact:
    """One of FACTS."""

    name: str


Expression = ParameterOf | ValueOf | InputOf | Fact


def expressions(text: str) -> Iterator[Expression]:
    """All expressions in `text`. Raises ValueError naming one that is not supported."""
    for match in _BRACES.finditer(text):
        yield _parse(match)
    if "{{" in _BRACES.sub("", text):
        raise ValueError(f"{text!r} has an unclosed {{{{")


def fill_in(text: str, value: Callable[[Expression], str]) -> str:
    """`text` with each expression replaced by its value."""
    return _BRACES.sub(lambda match: value(_parse(match)), text)


def facts(*, job: str, name: str, run: str, task: str, started: datetime) -> dict[str, str]:
    """The value of each of FACTS; `started` is in UTC."""
    times = {"iso_date": f"{started:%Y-%m-%d}", "iso_datetime": f"{started:%Y-%m-%dT%H:%M:%SZ}"}
    return {
        "job.id": job,
        "job.name": name,
        "job.run_id": run,
        "task.name": task,
        **{f"job.start_time.{key}": time for key, time in times.items()},
        **{f"job.trigger.time.{key}": time for key, time in times.items()},
    }


def as_parameter(value: object) -> str:
    """A task value as a parameter's text. Raises ValueError for one whose text Databricks does not state."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
    raise ValueError(f"is a {type(value).__name__}; only strings, numbers and booleans are supported on a laptop")


def _parse(match: re.Match[str]) -> Expression:
    if found := _PARAMETER.fullmatch(match[1]):
        return ParameterOf(found[1])
    if found := _TASK_VALUE.fullmatch(match[1]):
        return ValueOf(found[1], found[2])
    if found := _INPUT.fullmatch(match[1]):
        return InputOf(found[1])
    if match[1] in FACTS:
        return Fact(match[1])
    raise ValueError(f"{match[0]} is not supported on a laptop")
