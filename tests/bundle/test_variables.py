"""Every variable of the bundle is declared, and a value that can't work is one line wherever the bundle is read."""

from typing import Any

import pytest
import yaml
from resources import variables
from tests.deployed import ROOT, VARIABLES

DECLARED = variables.declared()
SERVERLESS = {"environment_key": "wheel", "job_cluster_key": ""}
CLUSTER = {"environment_key": "", "job_cluster_key": "cluster"}
FINE = {
    **{"compute": SERVERLESS, "stream_trigger": "available_now", "cluster_min_workers": 1, "cluster_max_workers": "4"},
    **{"online_store": False, "online_database": {"projects": {}}},
}

each = pytest.mark.parametrize("name", DECLARED)


def test_what_is_declared_is_what_databricks_yml_has() -> None:
    of_tasks_alone = {"experiment", "endpoint", "git_commit", "model_name", "model_version", "verdict_id"}
    of_tasks_alone |= {"checkpoint", "payload_table", "first_date", "last_date", "full", "land_every", "max_bytes"}
    of_tasks_alone |= {"reason", "to_version", "order", "version", "replicates"}
    assert set(VARIABLES) == set(DECLARED) - of_tasks_alone
    assert all(DECLARED[name].description.endswith(".") for name in VARIABLES)


def test_every_value_of_every_target_is_taken(resolver: Any, resolved: dict[str, Any]) -> None:
    values = {name: resolver.resolve(f"${{var.{name}}}", ("variables", name)) for name in {*VARIABLES} - {"lakebase"}}
    assert resolved
    assert [*variables.problems(values)] == []
    assert [*variables.conflicts(values)] == []


@pytest.mark.parametrize("name", VARIABLES)
def test_a_value_that_cannot_work_is_one_line_that_names_the_variable_and_the_value(name: str) -> None:
    wrong, why = variables.refused(DECLARED[name])
    (line,) = variables.problems({name: wrong})
    assert (
        line == f"variables.{name}: {str(wrong)!r} {why}; it is set in databricks.yml, by --var or in BUNDLE_VAR_{name}"
    )
    assert why.startswith("should ")


@pytest.mark.parametrize(
    ("name", "taken", "wrong"),
    [
        ("trials", ["1", 1, 10], ["0", -1, "1.5", "abc", ""]),
        ("holdout_days", [1], [0, "abc"]),
        ("loss_margin", [0, "0.005", 7], [-1e-9, "nan", "inf", ""]),
        ("max_latency_ms", [1e-9], [0]),
        ("max_error_rate", [0, 1], [-0.01, 1.01]),
        ("prevent_destroy", [True, False, "true", "false"], ["maybe", "True", "yes", "", 1.5]),
        ("online_store", ["true"], ["on"]),
        ("serving_workload_size", ["Small", "Large"], ["Tiny", "small"]),
        ("schedule_pause_status", ["PAUSED", "UNPAUSED"], ["paused", ""]),
        ("catalog", ["main", "with-dashes", "a_1", "x" * 255], ["", "a.b", "a b", "a/b", "x" * 256, "a\n"]),
        (
            "as_of",
            ["2014-01-02", "2014-01-02T00:00:00Z", "{{job.trigger.time.iso_datetime}}"],
            ["", "2014-13-01", "now"],
        ),
        ("stream_trigger", ["available_now", "0 seconds", "1 minute"], ["", "10", "10 bananas", "-1 seconds", "once"]),
        ("experiment_folder", ["/Shared/x", "${workspace.x}"], ["/Users/", "Shared", ""]),
        ("service_principal", ["", "01234567-89ab-cdef-0123-456789abcdef"], ["ci@example.com", "0123"]),
        ("online_project", ["a", "a-1", "x" * 63], ["", "1a", "A", "a_b", "x" * 64]),
        ("nowhere", [], ["declared"]),
    ],
)
def test_a_range_is_checked_below_at_and_above(name: str, taken: list[object], wrong: list[object]) -> None:
    assert [(value, [*variables.problems({name: value})]) for value in taken] == [(value, []) for value in taken]
    assert all(len([*variables.problems({name: value})]) == 1 for value in wrong)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, None),
        ({"compute": CLUSTER, "stream_trigger": "10 seconds"}, None),
        (
            {"stream_trigger": "10 seconds"},
            "variables.stream_trigger: '10 seconds' runs until stopped",
        ),
        ({"online_store": "true", "online_database": {"projects": {"online_project": {}}}}, None),
        ({"online_store": "true"}, "variables.online_store: true, and there is none; set online_database to"),
        ({"cluster_min_workers": "4"}, None),
        ({"cluster_min_workers": "5"}, "variables.cluster_min_workers: more than cluster_max_workers; swap them"),
    ],
)
def test_values_that_cannot_work_together_are_one_line(changes: dict[str, object], line: str | None) -> None:
    found = [*variables.conflicts({**FINE, **changes})]
    assert len(found) == (line is not None)
    assert all(one.startswith(line or "") for one in found)


def test_the_page_of_settings_is_made_from_what_is_declared() -> None:
    written = (ROOT / variables.FILE).read_text(encoding="utf-8")
    assert written == variables.page(variables.defaults(ROOT)), "run: python -m resources.variables"


def test_the_main_file_gives_values_and_no_meanings() -> None:
    """They would be a second place to say what a variable is."""
    main = yaml.safe_load((ROOT / "databricks.yml").read_text())
    assert not [name for name, one in main["variables"].items() if "description" in one]
