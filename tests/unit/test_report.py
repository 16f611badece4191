"""The page at the end of a local run, made of what a run and its looks may hold."""

import math
import re
from base64 import b64decode
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.local.graph import State
from flight_delays.local.report import Part, render, write_report
from flight_delays.local.results import Result
from flight_delays.use_case import USE_CASE
from flight_delays.views.look import Look

VOID = {"meta", "img"}
RAN = Result(name="train", state=State.SUCCESS, attempts=1, seconds=75.0)
DECISIONS = pd.DataFrame(
    {
        "kind": ["deploy", "verdict", "deploy", "verdict"],
        "model_version": [2, 3, 2, 2],
        "outcome": ["DONE", "FAIL", "DONE", "PASS"],
    }
)
METRICS = pd.DataFrame(
    {
        "data set": ["test", "holdout"],
        "auc": [0.1, 0.72654],
        "brier": [0.1, 0.15],
        "calibration_error": [0.1, 0.01999],
    }
)


class Page(HTMLParser):
    """What a browser makes of a page: its tags, each with the text in it, and the rows of all tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(self.tags[-1])
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append(("", dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not data.strip():
            return
        self.texts.append((self._open[-1][0], data))
        if {"td", "th"} & {tag for tag, _ in self._open}:
            text, style = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data, style)

    def within(self, tag: str) -> list[str]:
        return [text for around, text in self.texts if around == tag]

    @property
    def tiles(self) -> dict[str, str]:
        names = self.within("span")
        return dict(zip(names, self.within("b")[: len(names)], strict=True))


def page_of(*parts: Part, results: tuple[Result, ...] = (RAN,), not_started: tuple[str, ...] = ()) -> Page:
    return Page(html_of(*parts, results=results, not_started=not_started))


def html_of(*parts: Part, results: tuple[Result, ...] = (RAN,), not_started: tuple[str, ...] = ()) -> str:
    return render(
        title="flights, target dev",
        subtitle="as of 2014",
        results=results,
        not_started=not_started,
        parts=parts,
        further={"Tables": "/warehouse"},
    )


def part(found: Look | UserError) -> Part:
    return Part(title="A part", text="What it shows.", found=found)


def table(title: str = "rows", **columns: object) -> Part:
    return part(Look(tables={title: pd.DataFrame(columns)}))


def shown(value: object) -> tuple[str, str]:
    """Text and style of the cell of a table that shows the value."""
    page = page_of(table(column=pd.Series([value], dtype=None if isinstance(value, int | float) else object)))
    (head,), (cell,), _ = page.rows[-3:]
    assert head[0] == "column"
    return cell


def run_rows(page: Page) -> list[tuple[str, ...]]:
    """What ran, row by row: the first table."""
    return [tuple(text for text, _ in row) for row in page.rows[1:] if len(row) == 5]


def test_nothing_that_is_shown_is_taken_for_html() -> None:
    evil = "<script>\"'&amp;"
    figure = Figure(figsize=(1, 1))
    page = Page(
        render(
            title=evil,
            subtitle=evil,
            results=[Result(name=evil, state=State.FAILED, note=evil, inner=(Result(name=evil, state=State.FAILED),))],
            not_started=[evil],
            parts=[
                Part(title=evil, text=evil, found=UserError(evil)),
                Part(
                    title=evil,
                    text=evil,
                    found=Look(
                        tables={
                            evil: pd.DataFrame({evil: [evil], "list": [[evil]]}),
                            "decisions": pd.DataFrame({"kind": ["verdict"], "outcome": [evil]}),
                        },
                        figures={evil: figure},
                        recorded={f"{evil}2": b"png"},
                    ),
                ),
            ],
            further={evil: evil},
        )
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(set(attributes) == {"src", "alt"} for tag, attributes in page.tags if tag == "img")
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [evil, f"{evil}2"]
    # The head, the tile, what ran, a part without and one with tables, what to look at further.
    assert sum(text == evil for _, text in page.texts) == 3 + 1 + 4 + 2 + 7 + 2


def test_nothing_is_fetched_when_the_page_is_opened() -> None:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().set_title("a title")
    page = html_of(part(Look(tables={"decisions": DECISIONS}, figures={"f": figure}, recorded={"r": b"png"})))
    assert [tag for tag, _ in Page(page).tags if tag in {"script", "link", "iframe", "object", "base"}] == []
    sources = [
        value
        for _, attributes in Page(page).tags
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "background", "action", "data"}
    ]
    assert len(sources) == 2
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert not re.search(r"url\(|@import|https?://", page)


def test_pictures_are_within_the_page_and_wide_ones_have_a_line_of_their_own() -> None:
    figures = {"by day": Figure(figsize=(1, 1)), "roc": Figure(figsize=(1, 1))}
    page = page_of(part(Look(figures=figures, recorded={"kept": b"an image"})))
    images = {attributes["alt"]: attributes for tag, attributes in page.tags if tag == "img"}
    assert {name: image.get("class") for name, image in images.items()} == {"by day": "full", "roc": None, "kept": None}
    kind, _, content = str(images["kept"]["src"]).partition(";base64,")
    assert (kind, b64decode(content)) == ("data:image/png", b"an image")
    kind, _, content = str(images["roc"]["src"]).partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert b"<svg" in b64decode(content)


def test_what_is_not_there_yet_says_why_in_place_of_what_it_would_show() -> None:
    page = page_of(part(UserError("no version serves yet; run the train job")), table(a=[1]))
    assert page.within("h2") == ["What ran", "A part", "A part", "Look further"]
    assert page.within("p") == ["as of 2014", "no version serves yet; run the train job", "What it shows."]
    assert page.within("h3") == ["rows"]


def test_what_ran_is_told_task_by_task() -> None:
    tasks = (
        Result(name="fit", state=State.FAILED, attempts=2, seconds=1.25, note="too few flights"),
        Result(name="release", state=State.UPSTREAM_FAILED, note="not run"),
        Result(name="alarm", state=State.EXCLUDED),
    )
    failed = Result(name="train", state=State.FAILED, attempts=1, seconds=75.0, inner=tasks)
    page = page_of(results=(RAN, failed), not_started=("score_batch",))
    assert run_rows(page) == [
        ("train", "SUCCESS", "", "1 min 15 s", ""),
        ("train", "FAILED", "", "1 min 15 s", ""),
        ("fit", "FAILED", "2", "1.2 s", "too few flights"),
        ("release", "UPSTREAM_FAILED", "", "", "not run"),
        ("alarm", "EXCLUDED", "", "", ""),
        ("score_batch", "NOT_STARTED", "", "", "a job before it failed"),
    ]
    assert page.tiles == {"this run": "FAILED"}
    assert [attributes["style"] for tag, attributes in page.tags if tag == "td" and "style" in attributes] == [
        f"padding-left: {indent}px" for indent in (0, 0, 22, 22, 22, 0)
    ]


def test_a_run_that_succeeded_before_there_is_a_model_has_that_as_its_only_tile() -> None:
    page = page_of(part(UserError("no version serves yet")), table("rows", table=["raw_flights"]))
    assert page.tiles == {"this run": "SUCCESS"}


def test_tiles_tell_the_latest_verdict_and_how_the_champion_did_on_the_holdout() -> None:
    champion = Look(tables={"version": pd.DataFrame({"version": [2]}), "metrics": METRICS})
    page = page_of(part(champion), part(Look(tables={"decisions": DECISIONS})))
    assert page.tiles == {
        "this run": "SUCCESS",
        "latest verdict": "FAIL",
        "champion": "version 2",
        "AUC on the holdout": "0.7265",
        "Brier score": "0.1500",
        "calibration error": "0.0200",
    }


def test_a_regression_has_tiles_of_its_own_metrics() -> None:
    metrics = pd.DataFrame({"data set": ["holdout"], "rmse": [23.45678], "r2": [0.5], "calibration_error": [0.01]})
    champion = Look(tables={"version": pd.DataFrame({"version": [2]}), "metrics": metrics})
    assert page_of(part(champion)).tiles == {
        "this run": "SUCCESS",
        "champion": "version 2",
        "R2 on the holdout": "0.5000",
        "root mean squared error": "23.4568",
        "calibration error": "0.0100",
    }


@pytest.mark.parametrize("metrics", [METRICS.head(1), pd.DataFrame([])])
def test_a_champion_that_was_never_judged_has_no_tiles_of_the_holdout(metrics: pd.DataFrame) -> None:
    champion = Look(tables={"version": pd.DataFrame({"version": [2]}), "metrics": metrics})
    assert page_of(part(champion)).tiles == {"this run": "SUCCESS", "champion": "version 2"}


@pytest.mark.parametrize(
    ("value", "text", "style"),
    [
        (52195, "52,195", "number"),
        (-1, "-1", "number"),
        (0, "0", "number"),
        (0.47712, "0.4771", "number"),
        (0.0, "0.0000", "number"),
        (14.0, "14", "number"),
        (52195.0, "52,195", "number"),
        (1234.5, "1,234.5000", "number"),
        (math.nan, "-", "number"),
        (True, "True", ""),
        (None, "-", ""),
        (pd.NaT, "-", ""),
        (pd.Timestamp("2014-01-02 03:04:05"), "2014-01-02 03:04", ""),
        (date(2013, 10, 1), "2013-10-01", ""),
        ("a" * 64, "a" * 12, ""),
        ("0123456789" * 4, "012345678901", ""),
        ("a" * 39, "a" * 39, ""),
        ("g" * 40, "g" * 40, ""),
        ("", "", ""),
        (["distance is negative", "no carrier"], "distance is negative, no carrier", ""),
        (np.array(["distance is negative"]), "distance is negative", ""),
        ([], "", ""),
        ("PASS", "PASS", "state PASS"),
        ("FAIL", "FAIL", "state FAIL"),
        ("INCONCLUSIVE", "INCONCLUSIVE", "state INCONCLUSIVE"),
        ("PASSED", "PASSED", ""),
    ],
)
def test_a_cell_reads_well(value: object, text: str, style: str) -> None:
    assert shown(value) == (text, style)


def test_every_outcome_and_every_state_has_its_colour() -> None:
    (css,) = page_of().within("style")
    coloured = {
        name for names in re.findall(r"([^{}]+)\{ color: [^}]+\}", css) for name in re.findall(r"\.(\w+)", names)
    }
    assert {*Outcome, *State, "NOT_STARTED"} <= coloured
    states = page_of(
        table("decisions", kind=["verdict"], outcome=["FAIL"]),
        results=(Result(name="j", state=State.FAILED),),
        not_started=("k",),
    )
    assert [attributes["class"] for tag, attributes in states.tags if tag == "b" and "class" in attributes] == [
        "FAILED",
        "FAIL",
    ]
    assert [row[1][1] for row in states.rows if len(row) == 5][1:] == ["state FAILED", "state NOT_STARTED"]


def test_a_head_stands_where_its_cells_do() -> None:
    page = page_of(table(count=[1], share=[math.nan], flag=[True], name=["a"], day=[date(2013, 1, 1)]))
    (head,) = [row for row in page.rows if row[0][0] == "count"]
    cells = page.rows[page.rows.index(head) + 1]
    assert head == [("count", "number"), ("share", "number"), ("flag", ""), ("name", ""), ("day", "")]
    assert [style for _, style in cells] == [style for _, style in head]


def test_a_table_without_rows_says_so() -> None:
    page = page_of(table("rejects", reasons=[]))
    assert page.within("h3") == ["rejects"]
    assert page.within("p")[-1] == "none"
    assert "reasons" not in page.within("th")


def test_the_page_ends_with_where_to_look_further() -> None:
    page = page_of()
    assert page.rows[-1] == [("Tables", ""), ("/warehouse", "")]
    assert page.within("code") == ["/warehouse"]
    assert page.within("title") == page.within("h1") == ["flights, target dev"]


@pytest.mark.parametrize("missing", ["schema", "model_name", "as_of"])
def test_a_bundle_that_says_not_what_to_look_at_has_no_page(tmp_path: Path, missing: str) -> None:
    options = {"schema": "c.s", "model_name": "c.s.m", "as_of": "2014-01-02T00:00:00Z"}
    del options[missing]
    with pytest.raises(UserError) as refused:
        write_report(USE_CASE, tmp_path, "flights", [RAN], [], options)
    assert str(refused.value) == f"no task of the bundle has the option --{missing.replace('_', '-')}"
    assert not list(tmp_path.iterdir())
