"""Tables for people."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def show(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, decimals: int = 4
) -> None:
    """Print a table; numbers are right-aligned, with thousands separators, and `decimals` if they are not whole."""
    table = Table(title=title, title_justify="left")
    body = [tuple(row) for row in rows]
    for position, column in enumerate(columns):
        numeric = any(isinstance(row[position], int | float) for row in body)
        table.add_column(column, justify="right" if numeric else "left")
    for row in body:
        table.add_row(*(_text(value, decimals) for value in row))
    console.print(table)


def _text(value: object, decimals: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{decimals}f}"
