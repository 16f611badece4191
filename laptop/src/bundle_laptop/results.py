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

_STYLES: Mapping[str, str] = {
    State.SUCCESS: "green",
    State.FAILED: "red",
    State.UPSTREAM_FAILED: "yellow",
    State.EXCLUDED: "dim",
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


def summary(results: Sequence[Result], not_started: Sequence[str]) -> Table:
    """The table of what ran, tasks indented, and of the jobs that were not started."""
    table = Table("Task", "State", Column("Attempts", justify="right"), Column("Duration", justify="right"), "Note")

    def add(result: Result, depth: int) -> None:
        name = Text("  " * depth + result.name, style="" if depth else "bold")
        attempts = str(result.attempts) if result.attempts and depth else ""
        seconds = duration(result.seconds) if result.attempts else ""
        table.add_row(name, Text(result.state, style=_STYLES[result.state]), attempts, seconds, Text(result.note))
        for inner in result.inner:
            add(inner, depth + 1)

    for result in results:
        add(result, 0)
    for job in not_started:
        table.add_row(Text(job, style="bold"), Text("NOT_STARTED", style="dim"), "", "", "a job before it failed")
    return table


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
