"""Pure: the `{{...}}` of a job, which the workspace fills in while the job runs.

Supported: {{job.parameters.<name>}}, {{tasks.<task>.values.<key>}}, {{input}} and {{input.<key>}} of a for_each_task,
and FACTS. No spaces within the braces: a workspace does not fill such a one in. Times are in UTC, to the second.
Source: https://docs.databricks.com/jobs/dynamic-value-references
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal, NamedTuple

_BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PARAMETER = re.compile(r"job\.parameters\.([\w.-]+)")
_TASK_VALUE = re.compile(r"tasks\.([\w-]+)\.values\.([\w.-]+)")
_INPUT = re.compile(r"input(?:\.([\w-]+))?")

FACTS = (
    *("job.id", "job.name", "job.run_id", "task.name"),
    *(f"job.{time}.{form}" for time in ("start_time", "trigger.time") for form in ("iso_date", "iso_datetime")),
)
"""What a run knows of itself."""

MAX_VALUE_BYTES = 48 * 1024
"""Databricks' limit for the JSON of one task value."""


class Expression(NamedTuple):
    """A job's parameter, a value that the task `of` sets, the input of a loop or (with a name) its key, or a fact."""

    kind: Literal["parameter", "value", "input", "fact"]
    name: str
    of: str = ""


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
    times = [f"{started:%Y-%m-%d}", f"{started:%Y-%m-%dT%H:%M:%SZ}"]
    return dict(zip(FACTS, [job, name, run, task, *times, *times], strict=True))


def as_parameter(value: object) -> str:
    """A task value as a parameter's text. Raises ValueError for one whose text Databricks does not state."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"is a {type(value).__name__}; only strings, numbers and booleans are supported on a laptop")


def _parse(match: re.Match[str]) -> Expression:
    if found := _PARAMETER.fullmatch(match[1]):
        return Expression("parameter", found[1])
    if found := _TASK_VALUE.fullmatch(match[1]):
        return Expression("value", found[2], of=found[1])
    if found := _INPUT.fullmatch(match[1]):
        return Expression("input", found[1] or "")
    if match[1] in FACTS:
        return Expression("fact", match[1])
    raise ValueError(f"{match[0]} is not supported on a laptop")
