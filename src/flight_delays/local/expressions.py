"""Pure: the `{{...}}` of a job, which the workspace fills in while the job runs.

Supported: {{job.parameters.<name>}}, {{tasks.<task>.values.<key>}}, {{job.trigger.time.iso_datetime}}. No spaces
within the braces: a workspace does not fill such a one in. The trigger time is in UTC, to the second.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

_BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PARAMETER = re.compile(r"job\.parameters\.([\w.-]+)")
_TASK_VALUE = re.compile(r"tasks\.([\w-]+)\.values\.([\w.-]+)")
_TRIGGER_TIME = "job.trigger.time.iso_datetime"

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
class TriggerTime:
    """{{job.trigger.time.iso_datetime}}."""


Expression = ParameterOf | ValueOf | TriggerTime


def expressions(text: str) -> Iterator[Expression]:
    """All expressions in `text`. Raises ValueError naming one that is not supported."""
    for match in _BRACES.finditer(text):
        yield _parse(match)
    if "{{" in _BRACES.sub("", text):
        raise ValueError(f"{text!r} has an unclosed {{{{")


def fill_in(text: str, value: Callable[[Expression], str]) -> str:
    """`text` with each expression replaced by its value."""
    return _BRACES.sub(lambda match: value(_parse(match)), text)


def trigger_time(moment: datetime) -> str:
    """What {{job.trigger.time.iso_datetime}} is for a run that starts at a moment in UTC."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


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
    if match[1] == _TRIGGER_TIME:
        return TriggerTime()
    raise ValueError(f"{match[0]} is not supported on a laptop")
