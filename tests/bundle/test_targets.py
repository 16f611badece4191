"""What a target makes of the bundle's files."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from bundle_laptop.errors import LaptopError

DATA = ("experiments", "model_serving_endpoints", "registered_models", "schemas", "secret_scopes", "volumes")
RELEASED = pytest.mark.parametrize("target", ["staging", "prod"], indirect=True)
DEV = pytest.mark.parametrize("target", ["dev"], indirect=True)


def test_every_reference_resolves(resolved):
    text = json.dumps(resolved)
    assert "flight-delays-task" in text
    assert "${" not in text


def test_every_variable_has_a_value(resolver):
    # The CLI asks for all of them, used or not: dev too would fail for want of a service principal.
    names = list(resolver.bundle.map_at(("variables",)))
    assert names
    for name in {*names} - {"lakebase"}:  # whose resources are there only where it is chosen
        assert resolver.resolve(f"${{var.{name}}}", ("variables", name)) is not None


def test_grants_that_come_from_variables_are_what_databricks_types_accept(resolved, types):
    for kind in DATA:
        for config in resolved["resources"][kind].values():
            assert types[kind].from_dict(config).name


@pytest.mark.parametrize(
    ("target", "status"), [("dev", "PAUSED"), ("staging", "PAUSED"), ("prod", "UNPAUSED")], indirect=["target"]
)
def test_schedules_run_in_prod_only(resolved, status):
    jobs = resolved["resources"]["jobs"].values()
    assert {job["schedule"]["pause_status"] for job in jobs if "schedule" in job} == {status}


@pytest.mark.parametrize(
    ("target", "mode"), [("dev", "development"), ("staging", "production"), ("prod", "production")], indirect=["target"]
)
def test_only_dev_is_in_development_mode(resolved, mode):
    assert resolved["mode"] == mode


@pytest.mark.parametrize(
    ("target", "required"), [("dev", "false"), ("staging", "false"), ("prod", "true")], indirect=["target"]
)
def test_a_person_has_to_approve_in_prod_only(resolved, required):
    tasks = {task["task_key"]: task for job in resolved["resources"]["jobs"].values() for task in job["tasks"]}
    for key in ("approval", "promote", "rollout"):
        assert f"--approval-required={required}" in tasks[key]["python_wheel_task"]["parameters"]


@RELEASED
def test_no_name_of_dev_is_in_a_released_target(resolved, tmp_path):
    parts = {key: resolved.get(key) for key in ("resources", "workspace", "run_as", "permissions")}
    assert not re.findall(r'"[^"]*(?<![a-z])dev(?![a-z])[^"]*"', json.dumps(parts).replace(str(tmp_path), ""))


def test_a_target_writes_to_the_catalog_of_its_name(resolved, target):
    catalogs = {
        config["catalog_name"]
        for kind in DATA
        for config in resolved["resources"][kind].values()
        if "catalog_name" in config
    }
    assert catalogs == {target}


@pytest.mark.parametrize(
    ("target", "protected"), [("dev", False), ("staging", True), ("prod", True)], indirect=["target"]
)
@pytest.mark.parametrize("kind", DATA)
def test_what_holds_data_is_protected_outside_dev(resolved, kind, protected):
    configs = resolved["resources"][kind].values()
    assert [config["lifecycle"]["prevent_destroy"] for config in configs] == [protected] * len(configs) != []


@RELEASED
def test_groups_may_look_and_nothing_more(resolved):
    grants = {
        (kind, grant["principal"]): set(grant["privileges"])
        for kind in DATA
        for config in resolved["resources"][kind].values()
        for grant in config.get("grants", [])
    }
    assert grants == {
        ("schemas", "flight-delays-viewers"): {"USE_SCHEMA", "SELECT"},
        ("registered_models", "flight-delays-viewers"): {"EXECUTE"},
        ("volumes", "flight-delays-operators"): {"READ_VOLUME"},
    }


@RELEASED
def test_viewers_look_operators_run_and_the_service_principal_manages(resolved):
    assert {(*(set(entry.values()) - {entry["level"]}), entry["level"]) for entry in resolved["permissions"]} == {
        ("flight-delays-viewers", "CAN_VIEW"),
        ("flight-delays-operators", "CAN_RUN"),
        (resolved["run_as"]["service_principal_name"], "CAN_MANAGE"),
    }


@RELEASED
def test_secrets_are_set_by_operators_and_read_by_nobody_else(resolved):
    (scope,) = resolved["resources"]["secret_scopes"].values()
    assert scope["permissions"] == [{"group_name": "flight-delays-operators", "level": "WRITE"}]


@DEV
def test_developers_of_one_workspace_have_secret_scopes_of_their_own(resolved):
    (scope,) = resolved["resources"]["secret_scopes"].values()
    assert scope["name"].endswith("-local"), "the current user on a laptop"


def test_an_endpoint_leaves_what_serves_to_the_release_job(resolved):
    (endpoint,) = resolved["resources"]["model_serving_endpoints"].values()
    assert not endpoint.keys() & {"config", "permissions"}
    assert endpoint["ai_gateway"]["inference_table_config"]["enabled"]
    assert endpoint["ai_gateway"]["rate_limits"][0]["calls"] > 0


@DEV
def test_dev_needs_no_group_and_writes_to_nobody_on_call(resolved):
    assert "permissions" not in resolved
    data = [config for kind in DATA for config in resolved["resources"][kind].values()]
    assert not any(config.get("grants") or config.get("permissions") for config in data)
    jobs = resolved["resources"]["jobs"].values()
    recipients = {one for job in jobs for those in job["email_notifications"].values() for one in those}
    (alert,) = resolved["resources"]["alerts"].values()
    recipients |= {one["user_email"] for one in alert["evaluation"]["notification"]["subscriptions"]}
    evaluated = [task["alert_task"] for job in jobs for task in job["tasks"] if "alert_task" in task]
    recipients |= {one["user_name"] for task in evaluated for one in task["subscribers"]}
    assert recipients == {"local"}, "the current user on a laptop"


@RELEASED
def test_a_released_target_is_the_service_principals(resolved, target):
    principal = resolved["run_as"]["service_principal_name"]
    (experiment,) = resolved["resources"]["experiments"].values()
    assert resolved["workspace"]["root_path"] == f"/Workspace/Users/{principal}/.bundle/flight_delays/{target}"
    assert experiment["name"] == f"/Users/{principal}/flight_delays_{target}"


@RELEASED
def test_a_released_target_needs_the_service_principal(resolver):
    variables = {name: value for name, value in resolver.variables.items() if name != "service_principal"}
    with pytest.raises(LaptopError, match="service_principal"):
        replace(resolver, variables=variables).at(("run_as",))


def test_the_databricks_cli_finds_nothing_to_warn_of(root, target):
    command = shutil.which("databricks")
    if command is None or not os.environ.keys() & {"DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE"}:
        pytest.skip("no databricks command, or no workspace in DATABRICKS_HOST or DATABRICKS_CONFIG_PROFILE")
    environment = {"BUNDLE_VAR_service_principal": "00000000-0000-0000-0000-000000000000", **os.environ}
    if target == "dev":
        del environment["BUNDLE_VAR_service_principal"]
    done = subprocess.run(
        [command, "bundle", "validate", "--strict", "--target", target],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
