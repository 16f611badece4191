"""The dashboard's file: each widget shows what a query gives, of tables that exist, in a place of its own."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import combinations
from typing import Any

import pytest
from tests.deployed import ROOT

from flight_delays.platform.ddl import declarations
from flight_delays.use_case import USE_CASE

DASHBOARD = json.loads((ROOT / "resources" / "health.lvdash.json").read_text(encoding="utf-8"))
VERSIONS = {"counter": 2, "table": 2, "line": 3, "heatmap": 3, "scatter": 3}
COLUMNS = 6  # of the grid


def test_the_dashboard_is_whole() -> None:
    assert [page["displayName"] for page in DASHBOARD["pages"]] == ["Now", "Performance", "Data", "Decisions"]
    assert [*problems(DASHBOARD)] == []


def test_its_file_is_the_one_that_is_deployed_without_the_rights_of_who_deploys_it(resources: Any) -> None:
    (config,) = [resource.config for resource in resources if resource.kind == "dashboards"]
    assert (config["file_path"], config["embed_credentials"]) == ("health.lvdash.json", False)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("datasets", 0, "name"), "other", "champion_version: no dataset champion"),
        (("datasets", 0, "name"), "counts", "datasets: counts twice"),
        (("datasets", 1, "queryLines"), ["SELECT 1 AS open\n"], "unattended_count: counts has no column unattended"),
        (("datasets", 1, "queryLines"), ["SELECT 1 AS a FROM nowhere\n"], "counts: no table nowhere"),
        (("datasets", 1, "queryLines"), ["SELECT 1 AS a FROM sch.runs\n"], "counts: no table sch.runs"),
        (("pages", 3, "layout"), [], "decisions: no widget shows it"),
        (("pages", 3, "name"), "now", "pages: now twice"),
        (("pages", 1, "layout", 0, "widget", "name"), "mean_loss", "widgets: mean_loss twice"),
        (("pages", 1, "layout", 0, "widget", "spec", "version"), 2, "loss_by_day: version 2 of line"),
        (
            ("pages", 1, "layout", 0, "widget", "spec", "encodings", "y", "fieldName"),
            "loss",
            "loss_by_day: shows loss, which its query lacks",
        ),
        (("pages", 1, "layout", 1, "position", "width"), 4, "mean_loss and estimated_loss overlap"),
        (("pages", 1, "layout", 2, "position", "x"), 4, "estimated_loss: beyond the grid"),
    ],
)
def test_a_mistake_is_noticed(path: tuple[str | int, ...], value: object, problem: str) -> None:
    changed: Any = deepcopy(DASHBOARD)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert problem in [*problems(changed)]


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT a, b AS c FROM t", ["a", "c"]),
        ("SELECT\n  f(a, 'x, y') AS d,\n  (SELECT max(e) FROM t) AS g,\n  t.h\nFROM (SELECT 1) AS t", ["d", "g", "h"]),
        ("SELECT 1 AS a", ["a"]),
    ],
)
def test_the_columns_of_a_query_are_those_that_it_selects(sql: str, columns: list[str]) -> None:
    assert columns_of(sql) == columns


def problems(dashboard: dict[str, Any]) -> Iterator[str]:
    """A line for each thing that the dashboard would show wrong, or not at all."""
    queries = {one["name"]: "".join(one["queryLines"]) for one in dashboard["datasets"]}
    placed = [one for page in dashboard["pages"] for one in page["layout"]]
    for what, names in (
        ("datasets", [one["name"] for one in dashboard["datasets"]]),
        ("pages", [one["name"] for one in dashboard["pages"]]),
        ("widgets", [one["widget"]["name"] for one in placed]),
    ):
        yield from (f"{what}: {name} twice" for name, times in Counter(names).items() if times > 1)
    for name, sql in queries.items():
        tables = set(re.findall(r"\b(?:FROM|JOIN) ([\w.]+)", sql))
        yield from (f"{name}: no table {table}" for table in sorted(tables - declarations(USE_CASE.sql).keys()))
    used = set()
    for widget in (one["widget"] for one in placed):
        (query,) = (one["query"] for one in widget["queries"])
        used.add(query["datasetName"])
        yield from (f"{widget['name']}: {line}" for line in _problems_of(widget, query, queries))
    yield from (f"{name}: no widget shows it" for name in queries if name not in used)
    for page in dashboard["pages"]:
        yield from _misplaced(page["layout"])


def _problems_of(widget: dict[str, Any], query: dict[str, Any], queries: dict[str, str]) -> Iterator[str]:
    dataset, spec = query["datasetName"], widget["spec"]
    kind = spec["widgetType"]
    if spec["version"] != VERSIONS[kind]:
        yield f"version {spec['version']} of {kind}"
    if dataset not in queries:
        yield f"no dataset {dataset}"
        return
    fields = {field["name"]: field["expression"] for field in query["fields"]}
    for expression in fields.values():
        (column,) = re.findall(r"`(\w+)`", expression)
        if column not in columns_of(queries[dataset]):
            yield f"{dataset} has no column {column}"
    shown = [spec["encodings"]] if kind != "table" else spec["encodings"]["columns"]
    names = [name for one in shown for name in _field_names(one)]
    assert names
    yield from (f"shows {name}, which its query lacks" for name in names if name not in fields)


def _field_names(node: Any) -> list[str]:
    if not isinstance(node, dict):
        return []
    return [node["fieldName"]] if "fieldName" in node else [name for its in node.values() for name in _field_names(its)]


def _misplaced(layout: list[dict[str, Any]]) -> Iterator[str]:
    cells = {}
    for one in layout:
        x, y, width, height = (one["position"][key] for key in ("x", "y", "width", "height"))
        cells[one["widget"]["name"]] = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        if x < 0 or x + width > COLUMNS:
            yield f"{one['widget']['name']}: beyond the grid"
    for (name, mine), (other, its) in combinations(cells.items(), 2):
        if mine & its:
            yield f"{name} and {other} overlap"


def columns_of(sql: str) -> list[str]:
    """What the outermost SELECT gives: of each of its expressions the last word, which is its name."""
    flat = re.sub(r"'[^']*'", "''", sql.strip())
    while "(" in flat:
        flat = re.sub(r"\([^()]*\)", "", flat)
    selected = flat.removeprefix("SELECT").partition("FROM")[0]
    return [re.findall(r"\w+", expression)[-1] for expression in selected.split(",")]
