"""docs/data-dictionary.md: every table, column and view, from what SQL declares."""

import re
from collections.abc import Iterator, Mapping

from flight_delays.core.use_case import UseCase
from flight_delays.platform.ddl import columns, declarations, is_view

FILE = "docs/data-dictionary.md"

_KEY = re.compile(r"PRIMARY KEY \(([^)]*)\)")
_COMMENT = re.compile(r"^COMMENT '((?:[^']|'')*)'", re.MULTILINE)
_SOURCE = re.compile(r"\b(?:FROM|JOIN) \{schema\}\.(\w+)")


def data_dictionary(use_case: UseCase) -> str:
    """The text of FILE."""
    return dictionary(declarations(use_case.sql))


def dictionary(declared: Mapping[str, str]) -> str:
    """Markdown of the tables and views that `declared` (name to SQL) creates."""
    lines = [
        "# Data dictionary",
        "",
        "Made from `src/flight_delays/sql/` and the use case's own `sql/` by `flight-delays dictionary`; a test",
        "keeps it true. In Unity Catalog the same comments and keys stand at the tables.",
    ]
    for name, sql in sorted(declared.items()):
        lines += ["", f"## {name}", "", *(_view(sql) if is_view(sql) else _table(sql))]
    return "\n".join(lines) + "\n"


def _view(sql: str) -> Iterator[str]:
    yield f"{_comment(sql)}. View of {', '.join(dict.fromkeys(_SOURCE.findall(sql)))}."


def _table(sql: str) -> Iterator[str]:
    key = next(iter(_KEY.findall(sql)), "none, a log")
    yield f"{_comment(sql)}. Key: {key.replace(' TIMESERIES', '')}."
    yield ""
    yield "| column | type | null | what it says |"
    yield "|---|---|---|---|"
    for name, kind, null, text in columns(sql):
        yield f"| {name} | {kind} | {'yes' if null else ''} | {text} |"


def _comment(sql: str) -> str:
    (comment,) = _COMMENT.findall(sql)
    return str(comment).replace("''", "'")
