"""Tables and shares in Markdown."""

from collections.abc import Iterable, Sequence


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A header and one line per row; a bar within a cell, which would end it, becomes a slash."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def percent(share: float) -> str:
    """A share with one digit, as the pages write it."""
    return f"{share:.1%}".replace("%", " %")
