"""A page to look at: what ran, what it made, and why a version serves. One file, nothing to fetch."""

import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from importlib.resources import files
from itertools import islice

import pandas as pd
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import BaseRun, RunState
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.settings import Report
from flight_delays.platform.context import Context
from flight_delays.views import look

TEMPLATE = "report.html"
_RUNS = 25  # as many as one page of the API has
_NOTHING = "-"
_DIGEST = re.compile(r"[0-9a-f]{40,64}")
_WIDE = {"by day", "mean label", "intervals"}
_TILES = {
    **{
        "auc": "AUC on the holdout",
        "brier": "Brier score",
        "r2": "R2 on the holdout",
        "rmse": "root mean squared error",
    },
    "calibration_error": "calibration error",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one cell of a table shows."""

    text: str
    numeric: bool = False
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head."""

    name: str
    numeric: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to look at."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image within the page."""

    title: str
    source: str
    full: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """What to show under a title: what was found, which `text` explains, or why there is nothing."""

    title: str
    text: str
    found: look.Look | UserError


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page; where there is nothing to show, `text` says why."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure at the top."""

    name: str
    value: str
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One line of the table of what ran: a job's run, or a task within it."""

    depth: int
    name: str
    state: str
    attempts: str = ""
    duration: str = ""
    note: str = ""


def write_report(context: Context, settings: Report) -> None:
    """Write the page to its file. A part with nothing to show yet says why."""
    use_case = context.use_case
    page = render(
        title=f"{use_case.name}, {context.tables.schema}",
        subtitle=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, as of {context.as_of:%Y-%m-%d %H:%M}",
        ran=list(last_runs(context.endpoints().client)),
        parts=list(_parts(context, settings.raw_schema, settings.model_name)),
    )
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    settings.file.write_text(page, encoding="utf-8")


def render(*, title: str, subtitle: str, ran: Sequence[Ran], parts: Sequence[Part]) -> str:
    """The page: what ran, then each part."""
    template = files("flight_delays.views").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            title=title,
            subtitle=subtitle,
            tiles=_tiles(ran, [part.found for part in parts if isinstance(part.found, look.Look)]),
            ran=ran,
            sections=[_section(part) for part in parts],
        )
    )


def last_runs(client: WorkspaceClient) -> Iterator[Ran]:
    """The last run of each of the workspace's jobs that this identity may see, oldest first, with its tasks."""
    last: dict[int | None, BaseRun] = {}
    for run in islice(client.jobs.list_runs(expand_tasks=True), _RUNS):
        last.setdefault(run.job_id, run)
    for run in sorted(last.values(), key=lambda run: run.start_time or 0):
        ended = run.end_time or run.start_time or 0  # no time has passed of one that goes on
        yield _ran_line(0, run.run_name or "", run.state, ended - (run.start_time or 0))
        for task in run.tasks or ():
            attempts = str((task.attempt_number or 0) + 1)
            yield _ran_line(1, task.task_key, task.state, task.execution_duration or 0, attempts)


def _ran_line(depth: int, name: str, state: RunState | None, milliseconds: int, attempts: str = "") -> Ran:
    found = state.result_state or state.life_cycle_state if state else None
    return Ran(
        depth=depth,
        name=name,
        state=found.value if found else "",
        attempts=attempts,
        duration=f"{milliseconds / 1000:,.1f} s" if milliseconds else "",
        note=(state.state_message or "") if state else "",
    )


def _parts(context: Context, raw_schema: str, model_name: str) -> Iterator[Part]:
    parts: list[tuple[str, str, Callable[[], look.Look]]] = [
        (
            "The version that serves",
            "As the run that made it recorded it. Test and holdout are the same days until newer ones are judged.",
            partial(look.champion, context, model_name),
        ),
        (
            "The latest verdict",
            "Bars are 95 % bounds from resampled days; a check passes whose whole bar is at or left of the black line.",
            partial(look.verdict, context, model_name),
        ),
        (
            "Predictions",
            "The champion's forecasts against what happened, on days it was not trained on.",
            partial(look.predictions, context, model_name),
        ),
        (
            "Data",
            "Rows of each table, rows refused and why, and entities per day with their mean label.",
            partial(look.data, context, raw_schema),
        ),
    ]
    for title, text, make in parts:
        try:
            yield Part(title=title, text=text, found=make())
        except UserError as nothing:
            yield Part(title=title, text=text, found=nothing)


def _section(part: Part) -> Section:
    if isinstance(part.found, UserError):
        return Section(title=part.title, text=str(part.found))
    return Section(title=part.title, text=part.text, tables=_tables(part.found), pictures=_pictures(part.found))


def _tiles(ran: Sequence[Ran], looks: Sequence[look.Look]) -> list[Tile]:
    jobs = [line for line in ran if not line.depth]
    tiles = [Tile(name="last run", value=line.state, style=line.state) for line in jobs[-1:]]
    tables = {name: table for found in looks for name, table in found.tables.items()}
    if "decisions" in tables:
        decisions = tables["decisions"]
        latest = str(decisions.loc[decisions["kind"] == "verdict", "outcome"].iloc[0])
        tiles.append(Tile(name="latest verdict", value=latest, style=latest))
    if "version" in tables:
        tiles.append(Tile(name="champion", value=f"version {tables['version']['version'].iloc[0]}"))
        # A version that serves without having been judged has none.
        metrics = {row["data set"]: row for row in tables["metrics"].to_dict("records")}.get("holdout", {})
        tiles += [Tile(name=name, value=_cell(metrics[key]).text) for key, name in _TILES.items() if key in metrics]
    return tiles


def _tables(found: look.Look) -> list[Table]:
    return [
        Table(
            title=name,
            columns=[Column(name=str(column), numeric=_numeric(table[column])) for column in table.columns],
            rows=[[_cell(value) for value in row] for row in table.itertuples(index=False, name=None)],
        )
        for name, table in found.tables.items()
    ]


def _pictures(found: look.Look) -> list[Picture]:
    drawn = {name: ("image/svg+xml", _svg(figure)) for name, figure in found.figures.items()}
    recorded = {name: ("image/png", image) for name, image in found.recorded.items()}
    return [
        Picture(title=name, source=f"data:{kind};base64,{b64encode(image).decode()}", full=name in _WIDE)
        for name, (kind, image) in {**drawn, **recorded}.items()
    ]


def _numeric(column: "pd.Series[float]") -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _cell(value: object) -> Cell:
    match value:
        case str() if _DIGEST.fullmatch(value):
            return Cell(text=value[:12])
        case bool() | str():
            return Cell(text=str(value), style=f"state {value}" if value in tuple(Outcome) else "")
        case int():
            return Cell(text=f"{value:,}", numeric=True)
        case float():
            whole = value.is_integer() and abs(value) >= 1
            return Cell(
                text=_NOTHING if pd.isna(value) else f"{value:,.0f}" if whole else f"{value:,.4f}", numeric=True
            )
        case datetime():
            return Cell(text=_NOTHING if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}")
        case date():
            return Cell(text=value.isoformat())
        case None:
            return Cell(text=_NOTHING)
    return Cell(text=", ".join(map(str, value)) if isinstance(value, Iterable) else str(value))


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()
