"""The SQL that declares tables, and what it says of their columns."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pyarrow as pa

from flight_delays.core.columns import UTC_TIME

_VIEW = re.compile(r"^CREATE OR REPLACE VIEW\b", re.MULTILINE)
_COLUMN = re.compile(r"^  (\w+) ([A-Z]+(?:<[A-Z, ]+>)?)( NOT NULL)? COMMENT '((?:[^']|'')*)',?$", re.MULTILINE)

TYPES = {
    "STRING": pa.string(),
    "BOOLEAN": pa.bool_(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP": UTC_TIME,
}
"""Of SQL, and of columns in memory."""


def declarations(use_case: Path) -> dict[str, str]:
    """The SQL that declares each table and view, by name: those of every use case, and those of the one in this folder.

    Tables come first: a view needs those that it selects from.
    """
    found = [*Path(str(files("flight_delays.sql"))).glob("*.sql"), *use_case.glob("*.sql")]
    declared = {file.stem: file.read_text(encoding="utf-8") for file in found}
    return dict(sorted(declared.items(), key=lambda one: (is_view(one[1]), one[0])))


def quoted(name: str) -> str:
    """A name of SQL with each of its parts in backticks, which lets it hold what else would end it."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in name.split("."))


def is_view(sql: str) -> bool:
    """Whether this declares a view, not a table."""
    return bool(_VIEW.search(sql))


def columns(sql: str) -> Iterator[tuple[str, str, bool, str]]:
    """Name, type, whether it may be null, and comment of each column that a CREATE TABLE declares."""
    for name, kind, required, comment in _COLUMN.findall(sql):
        yield name, kind, not required, comment.replace("''", "'")
