"""The page to look at, made of what runs and looks may hold."""

import json
import math
import os
import re
from base64 import b64decode
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from databricks.sdk.service.jobs import RunResultState
from matplotlib.figure import Figure

from bundle_laptop.pytest_plugin import LaptopWorkspace
from flight_delays.core.gates import Outcome
from flight_delays.views.look import Look
from flight_delays.views.report import Part, Ran, keep_earlier, last_runs, render

VOID = {"meta", "img", "input"}
RAN = Ran(depth=0, name="train", state="SUCCESS")
DECISIONS = pd.DataFrame(
    {
        "kind": ["promotion", "verdict", "promotion", "verdict"],
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


def page_of(*parts: Part, ran: tuple[Ran, ...] = (RAN,)) -> Page:
    return Page(html_of(*parts, ran=ran))


def html_of(*parts: Part, ran: tuple[Ran, ...] = (RAN,)) -> str:
    return render(title="flights, main.flights", subtitle="as of 2014", headline="All is well.", ran=ran, parts=parts)


def part(look: Look, text: str = "What it shows.") -> Part:
    return Part(title="A part", text=text, look=look)


def table(title: str = "rows", **columns: object) -> Part:
    return part(Look(tables={title: pd.DataFrame(columns)}))


def shown(value: object) -> tuple[str, str]:
    """Text and style of the cell of a table that shows the value."""
    page = page_of(table(column=pd.Series([value], dtype=None if isinstance(value, int | float) else object)))
    (head,), (cell,) = page.rows[:2]
    assert head[0] == "column"
    return cell


def run_rows(page: Page) -> list[tuple[str, ...]]:
    """What ran, row by row."""
    return [tuple(text for text, _ in row) for row in page.rows if len(row) == 5][1:]


def test_nothing_that_is_shown_is_taken_for_html() -> None:
    evil = "<script>\"'&amp;"
    figure = Figure(figsize=(1, 1))
    page = Page(
        render(
            title=evil,
            subtitle=evil,
            headline=evil,
            earlier=[evil],
            ran=[Ran(depth=depth, name=evil, state=evil, note=evil) for depth in (0, 1)],
            parts=[
                Part(title=evil, text=evil, look=Look()),
                Part(
                    title=evil,
                    text=evil,
                    look=Look(
                        notes=[evil],
                        choices={evil: Look(notes=[evil])},
                        tables={
                            evil: pd.DataFrame({evil: [evil], "list": [[evil]]}),
                            "decisions": pd.DataFrame({"kind": ["verdict"], "outcome": [evil]}),
                        },
                        figures={evil: figure},
                        recorded={f"{evil}2": b"png"},
                    ),
                ),
            ],
        )
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(set(attributes) == {"src", "alt"} for tag, attributes in page.tags if tag == "img")
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [evil, f"{evil}2"]
    # The head, contents, the tiles, what ran, a part without and one with tables and choices, earlier pages.
    assert sum(text == evil for _, text in page.texts) == 4 + 2 + 2 + 6 + 2 + (8 + 2) + 1


def test_nothing_is_fetched_when_the_page_is_opened() -> None:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().set_title("a title")
    page = html_of(part(Look(tables={"decisions": DECISIONS}, figures={"f": figure}, recorded={"r": b"png"})))
    assert [tag for tag, _ in Page(page).tags if tag in {"script", "link", "iframe", "object", "base"}] == []
    sources = [
        value
        for tag, attributes in Page(page).tags
        for name, value in attributes.items()
        if tag != "a" and name in {"src", "href", "srcset", "background", "action", "data"}
    ]
    assert len(sources) == 2
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert not re.search(r"url\(|@import|https?://", page)


def test_pictures_are_within_the_page_and_wide_ones_have_a_line_of_their_own() -> None:
    figures = {f"{width} inches": Figure(figsize=(width, 1)) for width in (7.9, 8, 10.9, 11)}
    page = page_of(part(Look(figures={"roc": Figure(figsize=(1, 1)), **figures}, recorded={"kept": b"an image"})))
    images = {attributes["alt"]: attributes for tag, attributes in page.tags if tag == "img"}
    assert {name: image.get("class") for name, image in images.items()} == {
        "roc": None,
        "7.9 inches": None,
        "8 inches": "full",
        "10.9 inches": "full",
        "11 inches": "full times",
        "kept": None,
    }
    kind, _, content = str(images["kept"]["src"]).partition(";base64,")
    assert (kind, b64decode(content)) == ("data:image/png", b"an image")
    kind, _, content = str(images["roc"]["src"]).partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert b"<svg" in b64decode(content)


def test_what_is_not_there_yet_says_why_after_what_there_is() -> None:
    page = page_of(part(Look(), "no version serves yet; run the train job"), table(a=[1]))
    assert page.within("h2") == ["A part", "A part", "What ran"]
    said = ["as of 2014", "All is well.", "What it shows.", "no version serves yet; run the train job"]
    assert page.within("p") == said
    assert page.within("h3") == ["rows"]


def run(
    number: int, job: int, name: str, state: str, start: int, end: int, *tasks: tuple[str, str, int, int, str]
) -> str:
    """As the jobs API tells it; one that goes on has not ended."""
    told = [
        {
            "task_key": key,
            "state": {"life_cycle_state": "TERMINATED", "result_state": result, "state_message": note},
            "attempt_number": attempt,
            "execution_duration": milliseconds,
        }
        for key, result, attempt, milliseconds, note in tasks
    ]
    known = {"life_cycle_state": "TERMINATED", "result_state": state} if end else {"life_cycle_state": state}
    times = {"start_time": start, "end_time": end}
    return json.dumps({"run_id": number, "job_id": job, "run_name": name, "state": known, "tasks": told, **times})


def test_what_ran_is_each_jobs_last_run_task_by_task_oldest_first(laptop_workspace: LaptopWorkspace) -> None:
    assert list(last_runs(laptop_workspace.client)) == []
    folder = laptop_workspace.folder / "api" / "runs"
    folder.mkdir(parents=True)
    for number, text in enumerate(
        [
            run(1, 10, "train", "SUCCESS", 1_000, 2_000, ("fit", "SUCCESS", 0, 900, "")),
            run(2, 20, "features", "SUCCESS", 4_000, 5_500, ("labels", "SUCCESS", 0, 0, "")),
            run(
                3,
                10,
                "train",
                "FAILED",
                3_000,
                78_000,
                ("fit", "FAILED", 1, 1_250, "few"),
                ("alarm", "EXCLUDED", 0, 0, ""),
            ),
            run(4, 30, "score", "RUNNING", 6_000, 0),
        ]
    ):
        (folder / f"{number}.json").write_text(text)
    page = page_of(ran=tuple(last_runs(laptop_workspace.client)))
    assert run_rows(page) == [
        ("train", "FAILED", "", "75.0 s", ""),
        ("fit", "FAILED", "2", "1.2 s", "few"),
        ("alarm", "EXCLUDED", "1", "", ""),
        ("features", "SUCCESS", "", "1.5 s", ""),
        ("labels", "SUCCESS", "1", "", ""),
        ("score", "RUNNING", "", "", ""),
    ]
    assert page.tiles == {"last run": "RUNNING"}
    assert [attributes["style"] for tag, attributes in page.tags if tag == "td" and "style" in attributes] == [
        f"padding-left: {indent}px" for indent in (0, 22, 22, 0, 22, 0)
    ]


def test_a_run_that_succeeded_before_there_is_a_model_has_that_as_its_only_tile() -> None:
    page = page_of(part(Look(), "no version serves yet"), table("rows", table=["raw_flights"]))
    assert page.tiles == {"last run": "SUCCESS"}


def test_tiles_tell_the_latest_verdict_and_how_the_champion_did_on_the_holdout() -> None:
    champion = Look(tables={"version": pd.DataFrame({"version": [2]}), "metrics": METRICS})
    page = page_of(part(champion), part(Look(tables={"decisions": DECISIONS})))
    assert page.tiles == {
        "last run": "SUCCESS",
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
        "last run": "SUCCESS",
        "champion": "version 2",
        "R2 on the holdout": "0.5000",
        "root mean squared error": "23.4568",
        "calibration error": "0.0100",
    }


@pytest.mark.parametrize("metrics", [METRICS.head(1), pd.DataFrame([])])
def test_a_champion_that_was_never_judged_has_no_tiles_of_the_holdout(metrics: pd.DataFrame) -> None:
    champion = Look(tables={"version": pd.DataFrame({"version": [2]}), "metrics": metrics})
    assert page_of(part(champion)).tiles == {"last run": "SUCCESS", "champion": "version 2"}


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
        ("g" * 40, "g" * 40, "long"),
        ("", "", ""),
        ("x" * 39, "x" * 39, ""),
        ("x" * 40, "x" * 40, "long"),
        ("x" * 41, "x" * 41, "long"),
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


def test_every_outcome_and_every_state_of_a_run_has_its_colour() -> None:
    (css,) = page_of().within("style")
    coloured = {
        name for names in re.findall(r"([^{}]+)\{ color: [^}]+\}", css) for name in re.findall(r"\.(\w+)", names)
    }
    assert {*Outcome, *(state.value for state in RunResultState)} <= coloured
    states = page_of(
        table("decisions", kind=["verdict"], outcome=["FAIL"]), ran=(RAN, Ran(depth=0, name="j", state="FAILED"))
    )
    assert [attributes["class"] for tag, attributes in states.tags if tag == "b" and "class" in attributes] == [
        "FAILED",
        "FAIL",
    ]
    assert [row[1][1] for row in states.rows if len(row) == 5][1:] == ["state SUCCESS", "state FAILED"]


def test_a_head_stands_where_its_cells_do() -> None:
    page = page_of(table(count=[1], share=[math.nan], flag=[True], name=["a"], day=[date(2013, 1, 1)]))
    (head,) = [row for row in page.rows if row[0][0] == "count"]
    cells = page.rows[page.rows.index(head) + 1]
    assert head == [("count", "number"), ("share", "number"), ("flag", ""), ("name", ""), ("day", "")]
    assert [style for _, style in cells] == [style for _, style in head]


def test_a_table_without_rows_says_so() -> None:
    page = page_of(table("rejects", reasons=[]))
    assert page.within("h3") == ["rejects"]
    assert "none" in page.within("p")
    assert "reasons" not in page.within("th")


def test_the_page_is_named_by_its_title() -> None:
    page = page_of()
    assert page.within("title") == page.within("h1") == ["flights, main.flights"]


def test_before_anything_ran_there_is_no_tile_of_a_last_run() -> None:
    assert page_of(ran=()).tiles == {}


def luminance(colour: str) -> float:
    """As WCAG 2 has it."""
    channels = [
        int(part, 16) / 255 for part in re.findall("..", colour if len(colour) == 6 else colour.replace("f", "ff"))
    ]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_in_light_and_in_the_dark() -> None:
    (css,) = page_of().within("style")
    schemes = [dict(re.findall(r"--(\w+): #(\w+)", colours)) for colours in re.findall(r":root \{([^}]+)\}", css)]
    assert len(schemes) == 2
    for scheme in schemes:
        for ink in ("ink", "soft", "accent", "good", "bad", "open"):
            for ground in ("ground", "card"):
                darker, lighter = sorted([luminance(scheme[ink]), luminance(scheme[ground])])
                assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, ground)


def test_what_to_know_first_comes_first() -> None:
    page = page_of(table(a=[1]))
    assert [text for tag, text in page.texts if tag == "p"][:2] == ["as of 2014", "All is well."]


def test_every_link_of_the_contents_leads_to_its_part() -> None:
    named = [Part(title=title, text="", look=Look()) for title in ("Drift, and data", "Decisions")]
    page = Page(render(title="t", subtitle="", headline="", ran=[], parts=named, earlier=["report-1.html", "a b.html"]))
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert links == ["#drift-and-data", "#decisions", "#ran", "#earlier", "report-1.html", "a%20b.html"]
    anchors = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert {link for link in links if link.startswith("#")} <= anchors


def test_before_there_are_earlier_pages_there_is_no_word_of_them() -> None:
    assert "earlier" not in html_of().lower()


def test_one_of_several_looks_is_picked_without_a_script_and_all_can_be_seen() -> None:
    choices = {f"version {number}": Look(notes=[f"note {number}"]) for number in (3, 2)}
    page = page_of(part(Look(choices=choices)))
    inputs = [attributes for tag, attributes in page.tags if tag == "input"]
    assert page.within("label") == ["version 3", "version 2", "all"]
    assert ["checked" in attributes for attributes in inputs] == [True, False, False]
    labelled = [attributes["for"] for tag, attributes in page.tags if tag == "label"]
    assert [attributes["id"] for attributes in inputs] == labelled
    assert len({attributes["name"] for attributes in inputs}) == 1
    assert [text for text in page.within("p") if text.startswith("note")] == ["note 3", "note 2"]
    (css,) = page.within("style")
    hides = re.findall(r"nth-of-type\((\d)\):checked ~ div:not\(:nth-of-type\((\d)\)\)", css)
    assert hides == [("1", "1"), ("2", "2")]


def test_a_row_with_much_to_read_names_its_cells_where_there_is_no_room_for_a_head() -> None:
    page = page_of(table("short", day=["2013"]), table("long", day=["2013"], reason=["x" * 40]))
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "table"] == [None, "stack", None]
    named = [attributes["data-label"] for tag, attributes in page.tags if "data-label" in attributes]
    assert named == ["day", "reason"]


def test_a_table_or_picture_that_does_not_fit_scrolls_in_a_box_that_a_keyboard_reaches() -> None:
    page = page_of(part(Look(tables={"rows": pd.DataFrame({"a": [1]})}, figures={"f": Figure(figsize=(11, 1))})))
    boxes = [attributes for tag, attributes in page.tags if attributes.get("class") in ("wide", "pictures")]
    assert [box["aria-label"] for box in boxes] == ["rows", "A part: pictures", "What ran"]
    assert all((box["role"], box["tabindex"]) == ("region", "0") for box in boxes)


def written(file: Path, at: int) -> Path:
    file.write_text(str(at))
    os.utime(file, (at, at))
    return file


def test_the_page_that_was_there_is_kept_under_the_time_at_which_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    assert keep_earlier(file) == []
    written(file, 1_388_620_800)
    assert keep_earlier(file) == ["page-20140102T000000Z.html"]
    assert not file.exists()
    assert (tmp_path / "page-20140102T000000Z.html").read_text() == "1388620800"
    written(file, 1_388_620_801)
    assert keep_earlier(file) == ["page-20140102T000001Z.html", "page-20140102T000000Z.html"]


@pytest.mark.parametrize("pages", [29, 30, 31])
def test_the_last_30_pages_are_kept_and_nothing_else_is_deleted(tmp_path: Path, pages: int) -> None:
    others = [tmp_path / name for name in ("page.html.txt", "page-2.html", "my-page-20140102T000000Z.html")]
    for other in others:
        other.write_text("mine")
    for at in range(pages):
        written(tmp_path / "page.html", at)
        kept = keep_earlier(tmp_path / "page.html")
    assert len(kept) == min(pages, 30)
    assert kept[0] == f"page-19700101T0000{pages - 1:02}Z.html"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, *(other.name for other in others)])
