"""The page at the end of a local run: what ran, what it made, and why a version serves. One file, nothing to fetch."""

import io
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.use_case import UseCase
from flight_delays.local.results import Result, rows
from flight_delays.platform.context import open_context
from flight_delays.platform.runtime import tracking_uri
from flight_delays.views import look

FILE = "report.html"
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


def write_report(
    use_case: UseCase,
    folder: Path,
    title: str,
    results: Sequence[Result],
    not_started: Sequence[str],
    options: Mapping[str, str],
) -> Path:
    """The page's path, in `folder`, the local world. `options` are the bundle's values for its tasks' options.

    Raises UserError if the bundle's tasks lack an option that says what to look at.
    """
    if missing := [name for name in ("schema", "model_name", "as_of") if name not in options]:
        raise UserError(f"no task of the bundle has the option --{missing[0].replace('_', '-')}")
    page = render(
        title=title,
        subtitle=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, as of {options['as_of']}",
        results=results,
        not_started=not_started,
        parts=list(_parts(use_case, options)),
        further={
            "Runs, metrics and models in MLflow's own pages": f"mlflow ui --backend-store-uri {tracking_uri(folder)}",
            "Tables, as Delta": str(folder / "warehouse"),
            "Notebooks on this data": "flight-delays local notebook",
            "Start anew": "flight-delays local reset",
        },
    )
    path = folder / FILE
    path.write_text(page, encoding="utf-8")
    return path


def render(
    *,
    title: str,
    subtitle: str,
    results: Sequence[Result],
    not_started: Sequence[str],
    parts: Sequence[Part],
    further: Mapping[str, str],
) -> str:
    """The page: what ran, then each part; `further` maps what there is to see to how."""
    template = files("flight_delays.local").joinpath(FILE).read_text(encoding="utf-8")
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            title=title,
            subtitle=subtitle,
            tiles=_tiles(results, [part.found for part in parts if isinstance(part.found, look.Look)]),
            ran=list(rows(results, not_started)),
            sections=[_section(part) for part in parts],
            further=further.items(),
        )
    )


def _parts(use_case: UseCase, options: Mapping[str, str]) -> Iterator[Part]:
    context = open_context(use_case, options["schema"], options["as_of"])
    parts: list[tuple[str, str, Callable[[], look.Look]]] = [
        (
            "The version that serves",
            "As the run that made it recorded it. Test and holdout are the same days until newer ones are judged.",
            partial(look.champion, context, options["model_name"]),
        ),
        (
            "The latest verdict",
            "Bars are 95 % bounds from resampled days; a check passes whose whole bar is at or left of the black line.",
            partial(look.verdict, context, options["model_name"]),
        ),
        (
            "Predictions",
            "The champion's forecasts against what happened, on days it was not trained on.",
            partial(look.predictions, context, options["model_name"]),
        ),
        (
            "Data",
            "Rows of each table, rows refused and why, and entities per day with their mean label.",
            partial(look.data, context, options.get("raw_schema", options["schema"])),
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


def _tiles(results: Sequence[Result], looks: Sequence[look.Look]) -> list[Tile]:
    tiles = [Tile(name="this run", value=results[-1].state, style=results[-1].state)]
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
