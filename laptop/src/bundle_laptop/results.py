"""What a run shows: a live line per task, and at the end a table."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from bundle_laptop.graph import State
from bundle_laptop.yaml_file import Json

NOT_STARTED = "NOT_STARTED"
_STYLES: Mapping[str, str] = {
    State.SUCCESS: "green",
    State.FAILED: "red",
    State.UPSTREAM_FAILED: "yellow",
    State.EXCLUDED: "dim",
    NOT_STARTED: "dim",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a task, or a whole job, ended. `outcome` is a condition's; `inner` are a job's tasks."""

    name: str
    state: State
    attempts: int = 0
    seconds: float = 0.0
    note: str = ""
    values: Mapping[str, Json] = field(default_factory=dict)
    outcome: str | None = None
    inner: tuple["Result", ...] = ()


@contextmanager
def live_line(console: Console, label: str) -> Iterator[None]:
    """Shows that `label` is running, and for how long, below what it prints; without a terminal, one plain line."""
    if not console.is_terminal:
        console.print(f"{label}: running", markup=False, highlight=False)
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(label, total=None)
        yield


def ended_line(console: Console, label: str, result: Result) -> None:
    """One line for a task that ended."""
    note = f" ({result.note})" if result.note else ""
    line = f"{label}: {result.state} in {duration(result.seconds)}{note}"
    console.print(line, style=_STYLES[result.state], markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table of what ran: a job, or a task within it."""

    depth: int
    name: str
    state: str
    attempts: str = ""
    duration: str = ""
    note: str = ""


def rows(results: Sequence[Result], not_started: Sequence[str] = (), depth: int = 0) -> Iterator[Row]:
    """Jobs with their tasks, and the jobs that were not started."""
    for result in results:
        ran = result.attempts > 0
        yield Row(
            depth=depth,
            name=result.name,
            state=result.state,
            attempts=str(result.attempts) if ran and depth else "",
            duration=duration(result.seconds) if ran else "",
            note=result.note,
        )
        yield from rows(result.inner, depth=depth + 1)
    for job in not_started:
        yield Row(depth=depth, name=job, state=NOT_STARTED, note="a job before it failed")


def summary(results: Sequence[Result], not_started: Sequence[str]) -> Table:
    """The table of what ran, tasks indented, for a terminal."""
    table = Table("Task", "State", Column("Attempts", justify="right"), Column("Duration", justify="right"), "Note")
    for row in rows(results, not_started):
        name = Text("  " * row.depth + row.name, style="" if row.depth else "bold")
        table.add_row(name, Text(row.state, style=_STYLES[row.state]), row.attempts, row.duration, Text(row.note))
    return table


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
