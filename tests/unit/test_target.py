"""One task of a target: the options that its job gives it, and where the names come from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from flight_delays.core.errors import UserError
from flight_delays.local.bundle import load_bundle
from flight_delays.local.plan import make_plan
from flight_delays.local.references import Resolver
from flight_delays.local.target import Call, completed, jobs_with, local_calls, options, split, workspace_calls
from flight_delays.platform.runtime import LOCAL_DIR

ROOT = Path(__file__).parents[2]
NOW = "2026-01-01T00:00:00Z"
# What the bundle leaves to the person who runs a task alone.
LEFT = {
    "validate": {"--model-version"},
    "deploy": {"--model-version", "--verdict-id"},
    "score-batch": {"--first-date", "--last-date"},
}
BUNDLE = """
bundle: {name: toy}
targets: {dev: {default: true}, prod: {}}
resources:
  jobs:
    a:
      parameters: [{name: as_of, default: "2014-01-02"}, {name: number, default: ""}]
      tasks:
        - task_key: first
          python_wheel_task:
            package_name: flight_delays
            entry_point: flight-delays-task
            parameters: [tables, "--schema=${bundle.target}.s", "--as-of={{job.parameters.as_of}}"]
    b:
      tasks:
        - {task_key: second, spark_python_task: {python_file: a.py}}
"""
# As `databricks bundle validate --output json` answers, cut down to what it says of names.
ANSWER = {
    "bundle": {"name": "flights", "target": "dev"},
    "resources": {
        "jobs": {
            "release": {
                "parameters": [
                    {"name": "model_name", "default": "${resources.registered_models.model.id}"},
                    {"name": "model_version", "default": ""},
                ],
                "tasks": [
                    {"task_key": "passed", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}},
                    {
                        "task_key": "deploy",
                        "python_wheel_task": {
                            "package_name": "flights",
                            "parameters": [
                                "deploy",
                                "--schema=${resources.schemas.flights.id}",
                                "--raw-schema=raw.${resources.schemas.flights.name}",
                                "--experiment=${resources.experiments.runs.name}",
                                "--of=${resources.registered_models.model.schema_name}",
                                "--checkpoint=${resources.volumes.checkpoints.volume_path}/score_stream",
                                "--volume=${resources.volumes.checkpoints.id}",
                                "--model-name={{job.parameters.model_name}}",
                                "--model-version={{job.parameters.model_version}}",
                                "--job=${resources.jobs.release.id}",
                                "--new=${resources.clusters.new.id}",
                                "--run={{job.run_id}}",
                            ],
                        },
                    },
                ],
            }
        },
        "registered_models": {
            "model": {
                "catalog_name": "dev",
                "schema_name": "${resources.schemas.flights.name}",
                "name": "dev_ada_delay",
            }
        },
        "schemas": {"flights": {"catalog_name": "dev", "name": "dev_ada_flights"}},
        "volumes": {
            "checkpoints": {
                "catalog_name": "dev",
                "schema_name": "${resources.schemas.flights.name}",
                "name": "checkpoints",
            }
        },
        "experiments": {"runs": {"name": "/Users/ada/[dev ada] runs"}},
    },
}


def names(texts: Iterable[str]) -> set[str]:
    return {text.partition("=")[0] for text in texts}


def test_every_task_of_the_bundle_gets_the_options_of_its_job_that_are_known_before_a_run(tmp_path: Path) -> None:
    bundle = load_bundle(ROOT, "dev")
    calls = local_calls(make_plan(bundle, Resolver(bundle, tmp_path, {}), bundle.map_at(("resources", "jobs"))))
    left = {}
    for command, *wanted in (call.parameters for call in calls):
        given = options(calls, command, NOW)
        assert {text for text in wanted if "{{" not in text} <= {*given}
        assert "{{" not in "".join(given)
        left[command] = names(wanted) - names(given)
    assert {command: those for command, those in left.items() if those} == LEFT


def test_a_workspaces_names_are_those_that_the_databricks_cli_resolves() -> None:
    calls = workspace_calls(json.dumps(ANSWER))
    assert options(calls, "deploy", NOW) == [
        "--schema=dev.dev_ada_flights",
        "--raw-schema=raw.dev_ada_flights",
        "--experiment=/Users/ada/[dev ada] runs",
        "--of=dev_ada_flights",
        "--checkpoint=/Volumes/dev/dev_ada_flights/checkpoints/score_stream",
        "--volume=dev.dev_ada_flights.checkpoints",
        "--model-name=dev.dev_ada_flights.dev_ada_delay",
    ]


@pytest.mark.parametrize(
    ("parameter", "defaults", "option"),
    [
        ("--a=1", {}, "--a=1"),
        ("--a={{job.parameters.x}}", {"x": "1"}, "--a=1"),
        ("--a={{job.parameters.x}}-{{job.parameters.y}}", {"x": "1", "y": "2"}, "--a=1-2"),
        ("--a={{job.parameters.x}}", {"x": ""}, None),
        ("--a={{job.parameters.x}}", {}, None),
        ("--a={{tasks.train.values.model_version}}", {}, None),
        ("--a=v{{tasks.train.values.model_version}}", {}, None),
        ("--a={{job.trigger.time.iso_datetime}}", {}, f"--a={NOW}"),
        ("--a={{job.parameters.x}}", {"x": "{{job.trigger.time.iso_datetime}}"}, f"--a={NOW}"),
        ("--a={{job.parameters.x}}", {"x": "{{tasks.t.values.v}}"}, None),
        ("--a={{job.run_id}}", {}, None),
        ("--a=${resources.jobs.a.id}", {}, None),
    ],
)
def test_an_option_that_only_a_run_knows_is_left_to_the_person(
    parameter: str, defaults: dict[str, str], option: str | None
) -> None:
    found = options([Call(("task", parameter, "--last=1"), defaults)], "task", NOW)
    assert found == [*([option] if option else []), "--last=1"]


def test_a_task_that_no_job_runs_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^--target: no job runs the task dance; there are deploy, tables$"):
        options([Call(("tables",), {}), Call(("deploy",), {}), Call((), {})], "dance", NOW)


def test_a_task_of_several_jobs_must_have_the_same_options_in_each() -> None:
    same = [Call(("tables", "--a={{job.parameters.x}}"), {"x": "1"}), Call(("tables", "--a=1"), {})]
    assert options(same, "tables", NOW) == ["--a=1"]
    with pytest.raises(UserError, match="several jobs run the task tables, with other options"):
        options([*same, Call(("tables", "--a=2"), {})], "tables", NOW)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tables", "--target", "dev"], ("dev", ["tables"])),
        (["tables", "--target=dev", "--a=1"], ("dev", ["tables", "--a=1"])),
        (["tables", "--a", "1", "--target", "dev", "--b"], ("dev", ["tables", "--a", "1", "--b"])),
    ],
)
def test_the_target_is_taken_out_of_the_command_line(arguments: list[str], expected: tuple[str, list[str]]) -> None:
    assert split(arguments) == expected


@pytest.mark.parametrize(
    "arguments", [["tables", "--target"], ["tables", "--target="], ["--target", "dev"], ["tables", "--target", "--a=1"]]
)
def test_a_target_without_a_name_or_a_task_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"^--target takes a name and follows a task: flight-delays "):
        split(arguments)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "databricks.yml").write_text(BUNDLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    monkeypatch.delenv(LOCAL_DIR, raising=False)
    return tmp_path


def accepts(*_: str) -> None:
    """A command line's check."""


def refuses(*_: str) -> None:
    raise UserError("Missing option '--as-of'.")


def test_beside_local_spark_a_task_has_the_targets_local_world_to_itself(project: Path) -> None:
    with completed(["tables", "--target", "prod", "--schema=mine"], accepts) as arguments:
        assert arguments == ["tables", "--schema=prod.s", "--as-of=2014-01-02", "--schema=mine"]
        assert os.environ[LOCAL_DIR] == str(project / ".local/prod")
        with (
            pytest.raises(UserError, match="another run or reset of prod is under way"),
            completed(["tables", "--target=prod"], accepts),
        ):
            pass
    assert LOCAL_DIR not in os.environ


def test_a_command_line_with_a_mistake_prepares_nothing(project: Path) -> None:
    for arguments in (["tables", "--target=dev"], ["tables", "--target=nope"]):
        with pytest.raises(UserError), completed(arguments, refuses):
            pass
    with completed(["tables", "--target=nope", "--help"], refuses) as arguments:
        assert arguments == ["tables", "--help"]
    assert [path.name for path in project.iterdir()] == ["databricks.yml"]


def test_only_jobs_with_the_task_have_to_be_understood() -> None:
    bundle = load_bundle(ROOT, "dev")
    assert jobs_with(bundle, "deploy") == ["release"]
    assert jobs_with(bundle, "dance") == list(bundle.map_at(("resources", "jobs")))


@pytest.fixture
def databricks(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of the Databricks CLI; this process is one with a workspace's Spark."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "18.0")
    monkeypatch.setenv("PATH", str(project))

    def install(script: str) -> None:
        program = project / "databricks"
        program.write_text(f"#!{sys.executable}\nimport sys\n{script}")
        program.chmod(0o755)

    return install


def test_with_a_workspaces_spark_the_databricks_cli_is_asked_and_what_is_given_wins(
    project: Path, databricks: Callable[[str], None]
) -> None:
    expected = ["bundle", "validate", "--target", "dev", "--output", "json"]
    databricks(f"assert sys.argv[1:] == {expected}\nopen('databricks.yml')\nprint({json.dumps(ANSWER)!r})")
    (project / "below").mkdir()
    os.chdir(project / "below")
    with completed(["deploy", "--target=dev", "--model-version=3", "--schema=mine"], refuses) as arguments:
        assert arguments[:2] == ["deploy", "--schema=dev.dev_ada_flights"]
        assert arguments[-2:] == ["--model-version=3", "--schema=mine"]
        assert LOCAL_DIR not in os.environ
    assert not (project / ".local").exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "print('Warning: old', 'Error: dev: no such target. There are: a', '', sep='\\n', file=sys.stderr)",
            "databricks bundle validate --target dev: dev: no such target. There are: a",
        ),
        ("print('a', 'panic', sep='\\n', file=sys.stderr)", "databricks bundle validate --target dev: panic"),
        ("", "databricks bundle validate --target dev: "),
    ],
)
def test_what_the_databricks_cli_refuses_is_said_in_its_own_words(
    databricks: Callable[[str], None], script: str, says: str
) -> None:
    databricks(f"{script}\nsys.exit(1)")
    with pytest.raises(UserError) as error, completed(["deploy", "--target=dev"], accepts):
        pass
    assert str(error.value) == says


@pytest.mark.usefixtures("databricks")
def test_without_the_databricks_cli_one_line_says_so() -> None:
    with (
        pytest.raises(
            UserError, match=r"^the names in a workspace take the Databricks CLI; install it \(command: databricks\)$"
        ),
        completed(["deploy", "--target=dev"], accepts),
    ):
        pass


def test_the_wheel_which_goes_without_the_bundle_says_so(tmp_path: Path) -> None:
    package = tmp_path / "flight_delays"
    (package / "core").mkdir(parents=True)
    for file in ("__init__.py", "cli.py", "core/__init__.py", "core/errors.py"):
        (package / file).write_text((ROOT / "src/flight_delays" / file).read_text())
    code = "import sys; sys.argv[1:] = ['tables', '--target=dev']; from flight_delays.cli import console; console()"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "flight-delays: --target reads databricks.yml, which only a checkout has; give the task's options themselves\n"
    )
