"""`flight-delays --target NAME <task>`: the options that its jobs give the task, as the Databricks CLI has it."""

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deployed import all_jobs

from flight_delays.core.errors import UserError
from flight_delays.platform.target import bundle_of, options_of, runs_as

ROOT = Path(__file__).parents[2]
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NOW = "2026-01-01T00:00:00Z"
# What this bundle leaves to the person who runs a task alone.
LEFT = {
    "judge": {"model_version"},
    "approval": {"model_version"},
    "promote": {"model_version", "verdict_id"},
    "rollback": {"reason", "to_version"},
    "rollout": {"order", "reason", "version"},
    "score-batch": {"first_date", "last_date"},
}
# As `databricks bundle validate --output json` answers, cut down to what it says of names.
RESOURCES = {
    "registered_models": {
        "model": {"catalog_name": "dev", "schema_name": "${resources.schemas.flights.name}", "name": "dev_ada_delay"}
    },
    "schemas": {"flights": {"catalog_name": "dev", "name": "dev_ada_flights"}},
    "volumes": {
        "checkpoints": {"catalog_name": "dev", "schema_name": "${resources.schemas.flights.name}", "name": "kept"}
    },
    "experiments": {"runs": {"name": "/Users/ada/[dev ada] runs"}},
}


def task(*parameters: str) -> dict[str, Any]:
    return {"task_key": "t", "python_wheel_task": {"package_name": "flights", "parameters": parameters}}


def job(*tasks: dict[str, Any], **defaults: str) -> dict[str, Any]:
    return {"tasks": tasks, "parameters": [{"name": name, "default": text} for name, text in defaults.items()]}


def answer(**jobs: dict[str, Any]) -> dict[str, Any]:
    return {"bundle": {"target": "dev"}, "resources": {"jobs": jobs, **RESOURCES}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mine", "mine"),
        ("a=b", "a=b"),
        ("${resources.schemas.flights.id}", "dev.dev_ada_flights"),
        ("raw.${resources.schemas.flights.name}", "raw.dev_ada_flights"),
        ("${resources.registered_models.model.id}", "dev.dev_ada_flights.dev_ada_delay"),
        ("${resources.registered_models.model.schema_name}", "dev_ada_flights"),
        ("${resources.volumes.checkpoints.volume_path}/x", "/Volumes/dev/dev_ada_flights/kept/x"),
        ("${resources.experiments.runs.name}", "/Users/ada/[dev ada] runs"),
        ("{{job.parameters.x}}", "1"),
        ("{{job.parameters.x}}-{{job.parameters.name}}", "1-dev.dev_ada_flights.dev_ada_delay"),
        ("{{job.trigger.time.iso_datetime}}", NOW),
        ("{{job.parameters.now}}", NOW),
        # What only a run, or only the workspace, can tell.
        ("", None),
        ("{{job.parameters.empty}}", None),
        ("{{job.parameters.nosuch}}", None),
        ("{{job.parameters.later}}", None),
        ("v{{tasks.train.values.model_version}}", None),
        ("{{job.run_id}}", None),
        ("${resources.jobs.a.id}", None),
        ("${resources.clusters.new.id}", None),
        ("${resources.volumes.nosuch.volume_path}", None),
    ],
)
def test_an_option_is_what_the_target_says_or_else_left_to_the_person(text: str, found: str | None) -> None:
    defaults = {
        "x": "1",
        "name": "${resources.registered_models.model.id}",
        "now": "{{job.trigger.time.iso_datetime}}",
        "empty": "",
        "later": "{{tasks.t.values.v}}",
    }
    told = answer(a=job(task("deploy", f"--of-it={text}", "--last=1"), **defaults))
    assert options_of(told, MOMENT) == {"deploy": {"last": "1"} | ({} if found is None else {"of_it": found})}


def test_the_options_of_each_task_are_kept_apart_whichever_job_has_it() -> None:
    first = job(task("tables", "--schema=s"), {"condition_task": {"op": "EQUAL_TO"}}, task(), task("labels"))
    second = job(task("features", "--schema={{job.parameters.schema}}"), schema="t")
    assert options_of(answer(first=first, second=second), MOMENT) == {
        "tables": {"schema": "s"},
        "features": {"schema": "t"},
    }


def test_a_bundle_without_jobs_gives_no_option() -> None:
    assert options_of({"bundle": {}}, MOMENT) == options_of(answer(), MOMENT) == {}


def test_of_this_bundles_tasks_only_what_a_run_finds_out_is_left_to_the_person() -> None:
    resources: dict[str, dict[str, Any]] = {}
    for file in (ROOT / "resources").glob("*[!b].yml"):
        text = re.sub(r"\$\{(?:var|bundle)\.([\w.]+)\}", r"\1", file.read_text())
        for kind, those in yaml.safe_load(text)["resources"].items():
            resources.setdefault(kind, {}).update(those if isinstance(those, dict) else {})
    resources["jobs"] = json.loads(re.sub(r"\$\{(?:var|bundle)\.([\w.]+)\}", r"\1", json.dumps(all_jobs())))
    found = options_of({"resources": resources}, MOMENT)
    left: dict[str, set[str]] = {}
    for each in (each for job in resources["jobs"].values() for each in job["tasks"]):
        command, *given = each.get("python_wheel_task", {}).get("parameters", [""])
        wanted = {text.removeprefix("--").partition("=")[0].replace("-", "_") for text in given}
        left[command] = left.get(command, set()) | (wanted - {*found.get(command, {})})
    assert len(left) > 10
    assert {command: those for command, those in left.items() if those} == LEFT


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        ({"run_as": {"service_principal_name": "0123"}, "workspace": {"current_user": {"userName": "ada"}}}, "0123"),
        ({"run_as": {"user_name": "bob"}}, "bob"),
        ({"workspace": {"current_user": {"userName": "ada"}}}, "ada"),
        ({}, ""),
    ],
)
def test_the_jobs_run_as_whom_the_target_names_or_else_as_whoever_deploys(bundle: dict[str, Any], name: str) -> None:
    assert runs_as(bundle) == name


@pytest.fixture
def databricks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of the Databricks CLI; without it, there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(script: str) -> None:
        program = tmp_path / "databricks"
        program.write_text(f"#!{sys.executable}\nimport sys\n{script}")
        program.chmod(0o755)

    return install


@pytest.mark.parametrize("folder", [".", "notebooks/of/mine"])
def test_the_databricks_cli_is_asked_for_the_target_where_the_bundle_is(
    databricks: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    told = answer(a=job(task("train", "--schema=s")))
    expected = ["bundle", "validate", "--target", "prod", "--output", "json"]
    databricks(
        f"import os\nassert (sys.argv[1:], os.getcwd()) == ({expected}, {str(tmp_path)!r})\nprint({json.dumps(told)!r})"
    )
    (tmp_path / "databricks.yml").touch()
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / folder)
    assert bundle_of("prod") == json.loads(json.dumps(told))


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (["Warning: old", "Error: dev: no such target. There are: a", ""], "dev: no such target. There are: a"),
        (["a", "panic"], "panic"),
        ([], ""),
    ],
)
def test_what_the_databricks_cli_refuses_is_said_in_its_own_words(
    databricks: Callable[[str], None], said: list[str], line: str
) -> None:
    databricks(f"print(*{said}, sep='\\n', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(UserError) as error:
        bundle_of("dev")
    assert str(error.value) == f"databricks bundle validate --target dev: {line}"


@pytest.mark.usefixtures("databricks")
def test_without_the_databricks_cli_one_line_says_so() -> None:
    with pytest.raises(UserError, match=r"^--target takes the Databricks CLI; install it \(command: databricks\)$"):
        bundle_of("dev")
