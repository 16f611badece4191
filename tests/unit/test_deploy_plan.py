"""A deploy that takes something away is refused unless that is named; what is read is a plan as the CLI prints it."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flight_delays.cli import app
from flight_delays.core.deploy_plan import LOST, Change, changes_of, read_plan, refused
from flight_delays.core.errors import UserError


def plan(**actions: str) -> dict[str, Any]:
    return {
        "plan_version": 2,
        "plan": {f"resources.{key.replace('__', '.')}": {"action": action} for key, action in actions.items()},
    }


def test_what_stays_as_it_is_is_no_change() -> None:
    assert changes_of(plan(jobs__train="skip", schemas__flights="skip")) == ()


def test_a_change_names_the_fields_that_differ() -> None:
    told = plan(jobs__train="update")
    told["plan"]["resources.jobs.train"]["changes"] = {
        "tasks[task_key='train'].max_retries": {"action": "update", "old": 2, "new": 3},
        "format": {"action": "skip", "reason": "backend_default"},
    }
    assert changes_of(told) == (
        Change(key="jobs.train", action="update", fields=("tasks[task_key='train'].max_retries",)),
    )


@pytest.mark.parametrize(
    ("action", "lost"), [("create", False), ("update", False), ("delete", True), ("recreate", True)]
)
@pytest.mark.parametrize("kind", [*LOST, "of_tomorrow"])
def test_whatever_is_deleted_or_recreated_is_refused_unless_it_is_named(kind: str, action: str, lost: bool) -> None:
    changes = changes_of(plan(**{f"{kind}__thing": action}))
    lines = refused(changes, ())
    assert len(lines) == lost
    if lost:
        assert lines[0].startswith(f"{kind}.thing would be {action}d, and with it ")
        assert lines[0].endswith(LOST.get(kind, "the resource"))
        assert refused(changes, [f"{kind}.thing"]) == []


def test_a_renamed_key_is_the_loss_of_the_old_one() -> None:
    renamed = plan(model_serving_endpoints__delay_endpoint="delete", model_serving_endpoints__delay="create")
    assert refused(changes_of(renamed), ()) == [
        "model_serving_endpoints.delay_endpoint would be deleted, and with it callers get no answer until a version is "
        "released to the new one"
    ]


@pytest.mark.parametrize("part", ["permissions", "grants"])
def test_permissions_may_be_taken_away(part: str) -> None:
    assert refused(changes_of(plan(**{f"schemas__flights__{part}": "delete"})), ()) == []


@pytest.mark.parametrize("allowed", ["jobs.trian", "jobs.score_batch", "jobs"])
def test_a_key_that_nothing_happens_to_is_refused(allowed: str) -> None:
    changes = changes_of(plan(jobs__train="delete", jobs__score_batch="update"))
    with pytest.raises(UserError, match=f"--allow {allowed}: "):
        refused(changes, ["jobs.train", allowed])


@pytest.mark.parametrize("told", [{}, {"plan": []}, {"plan": {"resources.jobs.train": {}}}, {"plan": {"a": None}}])
def test_what_is_no_plan_is_refused_rather_than_read_as_no_change(told: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no plan of a known format"):
        changes_of(told)


@pytest.mark.parametrize("text", ["", "Error: no login", "[]", "null", '"plan"'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no plan of a known format"):
        read_plan(text)


def checked(told: dict[str, Any], *options: str) -> Result:
    return CliRunner().invoke(app, ["plan-check", "-", *options], input=json.dumps(told))


def test_the_command_says_what_changes_or_that_nothing_does() -> None:
    assert checked(plan(jobs__train="skip")).output == "Nothing changes.\n"
    told = plan(jobs__train="update", schemas__flights="create")
    told["plan"]["resources.jobs.train"]["changes"] = {"timeout_seconds": {"action": "update"}}
    assert checked(told).output.splitlines() == [
        "update   jobs.train: timeout_seconds",
        "create   schemas.flights",
        "2 changes",
    ]


def test_the_command_refuses_what_takes_a_resource_away_until_it_is_named() -> None:
    told = plan(experiments__delay="delete", jobs__train="recreate")
    refusal = checked(told)
    assert "experiments.delay would be deleted, and with it all its runs" in refusal.output
    assert isinstance(refusal.exception, UserError)
    assert (
        str(refusal.exception)
        == "the deploy would take away 2 of the resources; if that is meant, --allow experiments.delay"
    )
    assert isinstance(checked(told, "--allow", "experiments.delay").exception, UserError)
    assert checked(told, "--allow", "experiments.delay", "--allow", "jobs.train").exception is None
