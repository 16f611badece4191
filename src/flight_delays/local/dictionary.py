"""docs/data-dictionary.md: every table and column, from what sql/*.sql declares."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files

from flight_delays.use_case.model import GROUPS

FILE = "docs/data-dictionary.md"

_COLUMN = re.compile(r"^  (\w+) ([A-Z]+(?:<[A-Z, ]+>)?)( NOT NULL)? COMMENT '((?:[^']|'')*)',?$", re.MULTILINE)
_KEY = re.compile(r"PRIMARY KEY \(([^)]*)\)")
_COMMENT = re.compile(r"^COMMENT '((?:[^']|'')*)'", re.MULTILINE)


def data_dictionary() -> str:
    """The text of FILE."""
    declared = (file for file in files("flight_delays.sql").iterdir() if file.name.endswith(".sql"))
    return dictionary({file.name.removesuffix(".sql"): file.read_text("utf-8") for file in declared}, GROUPS)


def dictionary(declarations: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> str:
    """Markdown of the tables that `declarations` (name to SQL) create, with the group of each of the model's inputs."""
    group_of = {column: group for group, columns in groups.items() for column in columns}
    lines = [
        "# Data dictionary",
        "",
        "Made from `src/flight_delays/sql/` by `flight-delays local dictionary`; a test keeps it true. In Unity",
        "Catalog the same comments and keys stand at the tables. *Feature* names the group of a model's input.",
    ]
    for name, sql in sorted(declarations.items()):
        lines += ["", f"## {name}", "", *_table(sql, group_of)]
    return "\n".join(lines) + "\n"


def columns(sql: str) -> Iterable[tuple[str, str, bool, str]]:
    """Name, type, whether it may be null, and comment of each column that a CREATE TABLE declares."""
    for name, kind, required, comment in _COLUMN.findall(sql):
        yield name, kind, not required, comment.replace("''", "'")


def _table(sql: str, group_of: Mapping[str, str]) -> Iterator[str]:
    (comment,), key = _COMMENT.findall(sql), next(iter(_KEY.findall(sql)), "none, a log")
    yield f"{comment.replace(chr(39) * 2, chr(39))}. Key: {key.replace(' TIMESERIES', '')}."
    featured = any(name in group_of for name, *_ in columns(sql)) and "TIMESERIES" in key
    yield ""
    yield f"| column | type | null | {'feature | ' if featured else ''}what it says |"
    yield f"|---|---|---|{'---|' if featured else ''}---|"
    for name, kind, null, text in columns(sql):
        group = f"{group_of.get(name, '')} | " if featured else ""
        yield f"| {name} | {kind} | {'yes' if null else ''} | {group}{text} |"
