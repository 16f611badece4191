"""A page to look at: what serves and why, how that goes, and what ran. One file, nothing to fetch."""

import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import BaseRun, RunState
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure
from pandas.api.extensions import ExtensionDtype

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.settings import Report
from flight_delays.platform.context import Context
from flight_delays.views import look, watched
from flight_delays.views.look import Look
from flight_delays.views.watched import Watched

_RUNS = 25  # as many as one page of the API has
_NOTHING = "-"
_DIGEST = re.compile(r"[0-9a-f]{40,64}")
_WIDE, _TIMES = 8.0, 11.0  # inches, from which on a picture has a line of its own, and shows time
_LONG = 40  # characters, from which on a cell is one to read
_EARLIER = 30  # pages
_METRICS = {
    "auc": "AUC on the holdout",
    "brier": "Brier score",
    "r2": "R2 on the holdout",
    "rmse": "root mean squared error",
    "calibration_error": "calibration error",
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """What to show under a title, and what it is; where there is nothing to show, `text` says why."""

    title: str
    text: str
    look: Look

    @property
    def anchor(self) -> str:
        """What a link to it ends with."""
        return "-".join(re.findall(r"[a-z0-9]+", self.title.lower()))


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
    """Write the page to its file; the page that was there is kept beside."""
    found = watched.watch(context, settings.model_name)
    ran, parts = list(last_runs(context.endpoints().client)), list(_parts(context, settings, found))
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    page = render(
        title=f"{context.use_case.name}, {context.tables.schema}",
        subtitle=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, as of {context.as_of:%Y-%m-%d %H:%M}",
        headline=found.headline,
        ran=ran,
        parts=parts,
        earlier=keep_earlier(settings.file),
    )
    settings.file.write_text(page, encoding="utf-8")


def keep_earlier(file: Path) -> list[str]:
    """Rename the page that is there by when it was written; names of all that are kept, newest first.

    Older ones are deleted.
    """
    if file.exists():
        written = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
        file.replace(file.with_stem(f"{file.stem}-{written:%Y%m%dT%H%M%SZ}"))
    name = re.compile(rf"{re.escape(file.stem)}-\d{{8}}T\d{{6}}Z{re.escape(file.suffix)}")
    kept = sorted((one for one in file.parent.iterdir() if name.fullmatch(one.name)), reverse=True)
    for one in kept[_EARLIER:]:
        one.unlink()
    return [one.name for one in kept[:_EARLIER]]


def render(
    *, title: str, subtitle: str, headline: str, ran: Sequence[Ran], parts: Sequence[Part], earlier: Sequence[str] = ()
) -> str:
    """The page: the sentence to read first, each part, what ran, and links to earlier pages.

    A part with nothing to show yet says why, after those that have something.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters.update(cells=_cells, images=_images)
    template = environment.from_string(files("flight_delays.views").joinpath("report.html").read_text("utf-8"))
    tables = {name: table for part in parts for name, table in part.look.tables.items()}
    return template.render(
        title=title,
        subtitle=subtitle,
        headline=headline,
        tiles=list(_tiles(ran, tables)),
        ran=ran,
        parts=sorted(parts, key=lambda part: part.look == Look()),
        earlier=earlier,
        most_choices=max([len(part.look.choices) for part in parts], default=0),
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


def _parts(context: Context, settings: Report, found: Watched) -> Iterator[Part]:
    model_name = settings.model_name
    parts: list[tuple[str, str, Callable[[], Look]]] = [
        ("Incidents", "What changed so much that a person should know.", lambda: watched.incidents(found)),
        ("Performance", "Of versions that served in the last 90 days.", lambda: watched.performance(found)),
        ("Drift and data", "Drift of each column, and other alarms.", lambda: watched.signals(found)),
        ("Decisions", "The newest, and rollouts; times in UTC.", lambda: watched.decisions(found)),
        (
            "The version that serves",
            "As the run that made it recorded it. Test and holdout are the same days until newer ones are judged.",
            lambda: look.champion(context, model_name),
        ),
        (
            "The latest verdict",
            "Bars are 95 % bounds from resampled days; a check passes whose whole bar is at or left of the black line.",
            lambda: _without_decisions(look.verdict(context, model_name)),
        ),
        (
            "Predictions",
            "The champion's forecasts against what happened, on days it was not trained on.",
            lambda: look.predictions(context, model_name),
        ),
        (
            "Data",
            "Rows of each table, rows refused and why, and entities per day with their mean label.",
            lambda: look.data(context, settings.raw_schema),
        ),
    ]
    for title, text, make in parts:
        try:
            yield Part(title=title, text=text, look=make())
        except UserError as nothing:
            yield Part(title=title, text=str(nothing), look=Look())


def _without_decisions(verdict: Look) -> Look:
    return replace(verdict, tables={name: table for name, table in verdict.tables.items() if name != "decisions"})


def _tiles(ran: Sequence[Ran], tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, str]]:
    """Name, value and CSS class of the figures at the top."""
    for job in [line for line in ran if not line.depth][-1:]:
        yield "last run", job.state, job.state
    if "decisions" in tables:
        decisions = tables["decisions"]
        for latest in decisions.loc[decisions["kind"] == "verdict", "outcome"].head(1):
            yield "latest verdict", latest, latest
    if "version" in tables:
        yield "champion", f"version {tables['version']['version'].iloc[0]}", ""
        # A version that serves without having been judged has no metrics of the holdout.
        metrics = {row["data set"]: row for row in tables["metrics"].to_dict("records")}.get("holdout", {})
        yield from ((name, _cell(metrics[key]), "") for key, name in _METRICS.items() if key in metrics)


def _images(found: Look) -> Iterator[tuple[str, str, str]]:
    """Title, data URL and CSS class of each picture."""
    for title, figure in found.figures.items():
        width = figure.get_figwidth()
        style = "full times" if width >= _TIMES else "full" if width >= _WIDE else ""
        yield title, f"data:image/svg+xml;base64,{b64encode(_svg(figure)).decode()}", style
    for title, image in found.recorded.items():
        yield title, f"data:image/png;base64,{b64encode(image).decode()}", ""


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue()


def _cells(table: pd.DataFrame) -> Iterator[list[tuple[str, str]]]:
    """Text and CSS class of each cell, row by row, the head first."""
    numbers = ["number" if _is_number(dtype) else "" for dtype in table.dtypes]
    yield list(zip(map(str, table), numbers, strict=True))
    for row in table.itertuples(index=False, name=None):
        texts = map(_cell, row)
        yield [(text, number or _style(text)) for text, number in zip(texts, numbers, strict=True)]


def _style(text: str) -> str:
    return f"state {text}" if text in list(Outcome) else "long" if len(text) >= _LONG else ""


def _is_number(dtype: np.dtype | ExtensionDtype) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _cell(value: object) -> str:
    """What a cell of a table says."""
    match value:
        case str():
            return value[:12] if _DIGEST.fullmatch(value) else value
        case bool():
            return str(value)
        case None:
            return _NOTHING
        case int():
            return f"{value:,}"
        case float():
            digits = 0 if value.is_integer() and abs(value) >= 1 else 4
            return _NOTHING if pd.isna(value) else f"{value:,.{digits}f}"
        case datetime():
            return _NOTHING if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}"
        case date():
            return value.isoformat()
        case Iterable():
            return ", ".join(map(str, value))
    return str(value)
