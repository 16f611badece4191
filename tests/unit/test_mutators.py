"""What the bundle's own Python makes of its resources: called by itself, and as the Databricks CLI runs it."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from databricks.bundles.core import Bundle
from databricks.bundles.jobs import Job
from databricks.bundles.model_serving_endpoints import ModelServingEndpoint
from databricks.bundles.secret_scopes import SecretScope
from databricks.sdk import WorkspaceClient
from resources import mutators, variables

ROOT = Path(__file__).parents[2]
MAIN = yaml.safe_load((ROOT / "databricks.yml").read_text())
PYTHON = MAIN["python"]
OF_CORE = ("settings.py", "errors.py")  # what it imports of this package
GOOD = {name: "any" if value is None else value for name, value in variables.defaults(ROOT).items()} | {
    "service_principal": "",
    "warehouse_id": "0123",  # looked up before
}

DECLARED: Any = {
    "name": "dev_ada_delay",
    "description": "as declared",
    "ai_gateway": {"rate_limits": [{"calls": 9, "key": "endpoint", "renewal_period": "minute"}]},
    "permissions": [{"group_name": "viewers", "level": "CAN_VIEW"}],
    "tags": [{"key": "stage", "value": "serving"}],
    "lifecycle": {"prevent_destroy": True},
}


def config_of(*versions: str) -> dict[str, Any]:
    share = 100 // len(versions)
    return {
        "served_entities": [
            {
                "name": f"v{version}",
                "entity_name": "main.flights.delay",
                "entity_version": version,
                "workload_size": "Small",
                "workload_type": "CPU",
                "scale_to_zero_enabled": False,
                "environment_vars": {"FLIGHT_DELAYS_ONLINE_STORE": "{{secrets/flight-delays-prod/online-store}}"},
            }
            for version in versions
        ],
        "traffic_config": {
            "routes": [{"served_entity_name": f"v{version}", "traffic_percentage": share} for version in versions]
        },
    }


def as_answered(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as the workspace gives it back, with more than was put in."""
    state = {"deployment": "DEPLOYMENT_READY", "deployment_state_message": ""}
    told = {"creator": "ada@example.com", "creation_timestamp": 1, "state": state}
    return {**config, "config_version": 3, "served_entities": [{**one, **told} for one in config["served_entities"]]}


@contextmanager
def answering(status: int, body: object, asked: list[str] | None = None, file: str = "") -> Iterator[str]:
    """Address of a workspace that gives this answer to whoever asks for the endpoint or for jobs, and has this file."""

    class Workspace(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer: tuple[int, object] = (404, {"error_code": "NOT_FOUND", "message": "no"})
            if self.path.startswith(("/api/2.0/serving-endpoints/", "/api/2.2/jobs/list?name=")):
                answer = (status, body)
                if asked is not None:
                    asked.append(self.path)
            elif self.path == f"/api/2.0/workspace/get-status?path={quote(file, safe='')}":
                answer = (200, {"path": file})
            text = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Workspace)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """To a workspace at this address, and to none that the machine knows of."""
    for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")

    def to(address: str) -> None:
        monkeypatch.setenv("DATABRICKS_HOST", address)
        monkeypatch.setenv("DATABRICKS_TOKEN", "a-token")

    return to


def mutated(live: object, log_in: Callable[[str], None], status: int = 200) -> dict[str, Any]:
    with answering(status, live, asked := []) as address:
        log_in(address)
        endpoint: Any = mutators.keep_what_serves.function(ModelServingEndpoint.from_dict(DECLARED))
    assert asked == ["/api/2.0/serving-endpoints/dev_ada_delay"]
    return dict(endpoint.as_dict())


ONE, TWO = config_of("7"), config_of("7", "8")


@pytest.mark.parametrize(
    ("live", "kept"),
    [
        ({"config": as_answered(TWO)}, TWO),
        ({"config": as_answered(ONE), "state": {"ready": "READY", "config_update": "NOT_UPDATING"}}, ONE),
        (
            {
                "config": as_answered(ONE),
                "pending_config": {**as_answered(TWO), "start_time": 1},
                "state": {"ready": "READY", "config_update": "IN_PROGRESS"},
            },
            TWO,
        ),
        ({"pending_config": as_answered(ONE), "state": {"config_update": "IN_PROGRESS"}}, ONE),
        (
            {
                "config": as_answered(ONE),
                "pending_config": as_answered(TWO),
                "state": {"ready": "READY", "config_update": "UPDATE_FAILED"},
            },
            ONE,
        ),
    ],
    ids=["two versions", "one", "an update under way", "the first update under way", "a failed update"],
)
def test_an_endpoint_keeps_what_it_serves(
    live: dict[str, Any], kept: dict[str, Any], log_in: Callable[[str], None]
) -> None:
    answer = {"name": "dev_ada_delay", "description": "as declared", **live}
    assert mutated(answer, log_in) == {**DECLARED, "config": kept}


@pytest.mark.parametrize("config", [{}, {"config": {"config_version": 0}}], ids=["no configuration", "an empty one"])
def test_an_endpoint_that_serves_nothing_yet_stays_as_declared(
    config: dict[str, Any], log_in: Callable[[str], None]
) -> None:
    assert mutated({"name": "dev_ada_delay", "description": "as declared", **config}, log_in) == DECLARED


@pytest.mark.parametrize("description", ["older", None])
def test_an_endpoint_is_not_made_anew_for_its_description(
    description: str | None, log_in: Callable[[str], None]
) -> None:
    live = {"name": "dev_ada_delay"} | ({"description": description} if description else {})
    assert mutated(live, log_in).get("description") == description


def test_an_endpoint_that_is_not_there_stays_as_declared(log_in: Callable[[str], None]) -> None:
    answer = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such endpoint"}
    assert mutated(answer, log_in, 404) == DECLARED


REFUSED = "endpoint dev_ada_delay: what it serves can't be read, and a deploy would reset it: "
AGAIN = "deploy again when the workspace answers"


@pytest.mark.parametrize(
    ("status", "code", "fix"),
    [
        (403, "PERMISSION_DENIED", "deploy as the one who deployed it, or as one who may view it"),
        (401, "UNAUTHENTICATED", "log in to the workspace (databricks auth login) and deploy again"),
        (500, "INTERNAL_ERROR", AGAIN),
    ],
)
def test_what_cannot_be_read_is_not_deployed(status: int, code: str, fix: str, log_in: Callable[[str], None]) -> None:
    with answering(status, {"error_code": code, "message": "said\nso"}) as address:
        log_in(address)
        assert refusal(mutators.workspace) == f"{REFUSED}said so; {fix}"


def test_a_workspace_that_does_not_listen_is_given_up_and_named(log_in: Callable[[str], None]) -> None:
    with answering(200, {}) as address:
        log_in(address)
    said = refusal(partial(mutators.workspace, retry_s=1))
    assert said.startswith(f"{REFUSED}HTTPConnectionPool(host='127.0.0.1'")
    assert said.endswith(f"; {AGAIN}")
    assert "\n" not in said


def test_without_a_login_nothing_is_deployed(log_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    log_in("")
    monkeypatch.delenv("DATABRICKS_TOKEN")
    said = refusal(mutators.workspace)
    assert said.startswith(REFUSED)
    assert said.endswith("; log in to the workspace (databricks auth login) and deploy again")
    assert "\n" not in said


def test_a_workspace_that_keeps_a_deploy_waiting_is_given_up() -> None:
    ended = Event()

    def connect() -> WorkspaceClient:
        ended.wait()
        raise AssertionError("never gets here in time")

    try:
        assert refusal(connect, limit_s=0.01) == f"{REFUSED}no answer in time; {AGAIN}"
    finally:
        ended.set()


def refusal(connect: Callable[[], WorkspaceClient], limit_s: float = 30) -> str:
    with pytest.raises(mutators.DeployRefusedError) as refused:
        mutators.kept(ModelServingEndpoint.from_dict(DECLARED), connect, limit_s)
    return str(refused.value)


SCHEDULE = {"quartz_cron_expression": "0 0 4 * * ?", "timezone_id": "UTC"}
FOLDER = "/Workspace/Users/deployer/.bundle/flight_delays/prod"


def deployed(target: str, folder: str | None = FOLDER) -> dict[str, Any]:
    deployment = {"deployment": {"kind": "BUNDLE", "metadata_file_path": f"{folder}/state/metadata.json"}}
    return {"job_id": 1, "settings": {"name": "features", "tags": {"target": target}, **(deployment if folder else {})}}


def pause_status(
    pause: str | None,
    *jobs: dict[str, Any],
    status: int = 200,
    asked: list[str] | None = None,
    file: str = f"{FOLDER}/state/metadata.json",
) -> object:
    schedule = {} if pause is None else {"schedule": {**SCHEDULE, "pause_status": pause}}
    bundle = Bundle(target="prod", variables={"deployment_folder": FOLDER})
    with answering(status, {"jobs": jobs} if status == 200 else {"message": "not yours"}, asked, file) as address:
        os.environ["DATABRICKS_HOST"] = address
        job = Job.from_dict({"name": "features", "tasks": [], **schedule})
        found: Any = mutators.start_schedules_last.function(bundle, job)
    return found.as_dict().get("schedule", {}).get("pause_status")


@pytest.mark.parametrize(
    ("pause", "jobs", "started"),
    [
        ("UNPAUSED", [], "PAUSED"),
        ("UNPAUSED", [deployed("staging")], "PAUSED"),
        ("UNPAUSED", [{"job_id": 1, "settings": {"name": "features"}}, {"job_id": 2}], "PAUSED"),
        ("UNPAUSED", [deployed("prod")], "UNPAUSED"),
        ("UNPAUSED", [deployed("staging", "/other"), deployed("prod")], "UNPAUSED"),
        ("UNPAUSED", [deployed("prod", None)], "UNPAUSED"),
    ],
    ids=["none", "of another target", "of nobody known", "deployed before", "in both", "where from is not said"],
)
def test_a_schedule_starts_with_the_deploy_after_the_one_that_made_its_job(
    pause: str, jobs: list[dict[str, Any]], started: str, log_in: Callable[[str], None]
) -> None:
    log_in("")
    assert pause_status(pause, *jobs) == started


def test_a_schedule_stays_paused_until_a_first_deploy_was_complete(log_in: Callable[[str], None]) -> None:
    log_in("")
    assert pause_status("UNPAUSED", deployed("prod"), file="/another") == "PAUSED"


@pytest.mark.parametrize("pause", ["PAUSED", None])
def test_for_a_job_without_a_running_schedule_nobody_is_asked(pause: str | None, log_in: Callable[[str], None]) -> None:
    log_in("")
    asked: list[str] = []
    assert pause_status(pause, status=500, asked=asked) == pause
    assert asked == []


@pytest.mark.parametrize("folder", ["/Workspace/Users/another/.bundle/flight_delays/prod", f"{FOLDER}2"])
def test_a_second_deployment_of_a_scheduled_job_is_refused(folder: str, log_in: Callable[[str], None]) -> None:
    log_in("")
    with pytest.raises(mutators.DeployRefusedError) as refused:
        pause_status("UNPAUSED", deployed("prod"), deployed("prod", folder))
    assert str(refused.value) == (
        "job features: it is deployed already, and a second one would run beside it; deploy as whoever made "
        f"{folder}/state/metadata.json (variable service_principal), or destroy that deployment first"
    )


def test_jobs_that_cannot_be_read_are_not_deployed(log_in: Callable[[str], None]) -> None:
    log_in("")
    with pytest.raises(mutators.DeployRefusedError) as refused:
        pause_status("UNPAUSED", status=403)
    assert str(refused.value) == (
        "job features: whether it was deployed can't be read: not yours; deploy as the one who deployed it, "
        "or as one who may view it"
    )


def test_viewers_of_jobs_do_not_read_secrets() -> None:
    scope = SecretScope.from_dict({"name": "secrets", "permissions": [
        {"group_name": "operators", "level": "WRITE"},
        {"service_principal_name": "deployer", "level": "MANAGE"},
        {"group_name": "viewers", "level": "READ"},
    ]})  # fmt: skip
    kept: Any = mutators.keep_secrets_from_viewers.function(scope)
    assert [one.level.value for one in kept.permissions] == ["WRITE", "MANAGE"]


def build(phase: str, folder: Path, variables: dict[str, object]) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """PyDABs as the CLI runs it: exit code, bundle and diagnostics."""
    bundle = {
        "bundle": {"name": "flight_delays", "target": "prod"},
        "python": PYTHON,
        "variables": {name: {"value": value} for name, value in {**GOOD, **variables}.items()},
        "resources": {
            "model_serving_endpoints": {"delay_endpoint": DECLARED},
            "secret_scopes": {"delay_secrets": {"name": "s", "permissions": [{"group_name": "v", "level": "READ"}]}},
        },
    }
    (folder / "input.json").write_text(json.dumps(bundle))
    files = [f"--{name}={folder / name}.json" for name in ("input", "output", "diagnostics", "locations")]
    command = [sys.executable, "-m", "databricks.bundles.build", "--phase", phase, *files]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = (folder / "diagnostics.json").read_text().splitlines()
    return ended.returncode, json.loads((folder / "output.json").read_text()), [json.loads(line) for line in said]


def test_the_cli_gets_the_endpoint_as_it_serves(tmp_path: Path, log_in: Callable[[str], None]) -> None:
    with answering(200, {"name": "dev_ada_delay", "description": "as declared", "config": as_answered(TWO)}) as address:
        log_in(address)
        code, bundle, said = build("apply_mutators", tmp_path, {"online_store": False})
    assert (code, said) == (0, [])
    assert bundle["resources"]["model_serving_endpoints"] == {"delay_endpoint": {**DECLARED, "config": TWO}}
    assert bundle["resources"]["secret_scopes"] == {"delay_secrets": {"name": "s"}}


def test_the_cli_prints_one_line_where_a_deploy_is_refused(tmp_path: Path, log_in: Callable[[str], None]) -> None:
    with answering(403, {"error_code": "PERMISSION_DENIED", "message": "not yours"}) as address:
        log_in(address)
        code, _, said = build("apply_mutators", tmp_path, {"online_store": False})
    (diagnostic,) = said
    assert (code, diagnostic["severity"]) == (1, "error")
    assert diagnostic["path"] == "resources.model_serving_endpoints.delay_endpoint"
    assert diagnostic["detail"] == (
        f"resources.mutators.DeployRefusedError: {REFUSED}not yours; "
        "deploy as the one who deployed it, or as one who may view it\n"
    )


def test_the_cli_prints_one_line_for_each_variable_whose_value_cannot_work(tmp_path: Path) -> None:
    code, _, said = build("load_resources", tmp_path, {"online_store": "yes", "trials": "0"})
    where = "it is set in databricks.yml, by --var or in BUNDLE_VAR"
    assert (code, [(one["severity"], one["summary"]) for one in said]) == (
        1,
        [
            ("error", f"variables.trials: '0' should be greater than or equal to 1; {where}_trials"),
            ("error", f"variables.online_store: 'yes' should be true or false; {where}_online_store"),
        ],
    )


def test_the_bundles_python_needs_no_more_than_the_deploy_environment_has() -> None:
    """The Databricks CLI runs it where requirements/deploy.txt and this package without its dependencies are."""
    files = [*(ROOT / "resources").glob("*.py"), *(ROOT / "src/flight_delays/core" / name for name in OF_CORE)]
    imported = {
        (file.name, name.partition(".")[0])
        for file in files
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    there = {"databricks", "pydantic", "flight_delays", "version", *sys.stdlib_module_names}
    assert len(files) > 4
    assert {(file, name) for file, name in imported if name not in there} == set()
