"""Whether a version is approved: the rule on values, then tasks and commands against a workspace over HTTP."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.iam import ComplexValue, GrantRule, RuleSetUpdateRequest
from databricks.sdk.service.tags import TagPolicy as Policy
from databricks.sdk.service.tags import Value
from mlflow.exceptions import MlflowException
from rich.console import Console
from tests.contexts import MemoryDecisions, decision, make_context, printed, promotion
from tests.faults.seams import killed_at_each, writes_of
from tests.unit.test_rollout_task import GOOD, SERVING, actions, says, served, settings

from bundle_laptop.api import Faults
from flight_delays import cli
from flight_delays.core.approval import Governance, Grant, Identity, TagPolicy, Unknown, approval_of, problems
from flight_delays.core.errors import UserError
from flight_delays.core.rollout import Signal
from flight_delays.core.settings import Approval, Approve, Approvers, Rollback
from flight_delays.platform.approvals import Approvals
from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.tasks import approval, promote, rollback, rollout, serving
from flight_delays.tasks.approval import approve
from flight_delays.views.approvers import show_approvers

AS_OF = datetime(2013, 3, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
JOB = "01234567-89ab-cdef-0123-456789abcdef"
APPROVED = {"approval": "Approved"}
PEOPLE = Grant(principal="groups/approvers", permission="ASSIGN", scope="the tag")
ME = Identity(name=f"servicePrincipals/{JOB}", groups=frozenset({"groups/robots"}))


def governed(*grants: Grant, values: tuple[str, ...] = (), unread: tuple[str, ...] = ()) -> Governance:
    return Governance(policy=TagPolicy(values=values, grants=grants), runs_as=ME, unread=unread)


def granted(principal: str, permission: str = "ASSIGN", scope: str = "the tag") -> Grant:
    return Grant(principal=principal, permission=permission, scope=scope)


UNGOVERNED = Governance(policy=None, runs_as=ME)


@pytest.mark.parametrize(
    ("tags", "found", "before", "outcome", "reason"),
    [
        (APPROVED, governed(PEOPLE), False, "PASS", "may set it: groups/approvers by ASSIGN on the tag"),
        ({"approval": "approved"}, governed(PEOPLE), False, "PASS", "the tag approval is approved"),
        (APPROVED, governed(granted("users/ada@example.com", "MANAGE")), False, "PASS", "users/ada@example.com by"),
        (APPROVED, governed(), False, "PASS", "may set it: account admins alone"),
        (APPROVED, governed(PEOPLE, values=("Approved", "Rejected")), False, "PASS", "approval is Approved"),
        ({}, governed(PEOPLE), False, "FAIL", "the version has no tag approval"),
        ({"Approval": "Approved"}, governed(PEOPLE), False, "FAIL", "the version has no tag approval"),
        ({}, governed(PEOPLE), True, "FAIL", "approved before and revoked: the version has no tag approval"),
        ({"approval": "Rejected"}, governed(PEOPLE), False, "FAIL", "the tag approval is 'Rejected', not Approved"),
        ({"approval": ""}, governed(PEOPLE), False, "FAIL", "the tag approval is '', not Approved"),
        (APPROVED, UNGOVERNED, False, "FAIL", "the tag approval is not governed, so that the job"),
        (APPROVED, governed(granted(ME.name)), False, "FAIL", f"{JOB} could set the tag approval itself: service"),
        (APPROVED, governed(PEOPLE, granted(ME.name.upper(), "MANAGE")), False, "FAIL", "by MANAGE on the tag"),
        (APPROVED, governed(granted("groups/robots")), False, "FAIL", "itself: groups/robots by ASSIGN on the tag"),
        (APPROVED, governed(granted("groups/robots", scope="the account")), False, "FAIL", "by ASSIGN on the account"),
        (APPROVED, governed(granted("groups/account users")), False, "FAIL", "itself: groups/account users"),
        (APPROVED, governed(granted("everyone")), False, "FAIL", "itself: everyone by ASSIGN on the tag"),
        (APPROVED, governed(PEOPLE, values=("Rejected",)), False, "FAIL", "does not allow the value Approved"),
        (APPROVED, Unknown(why="the workspace is down"), False, "INCONCLUSIVE", "is unknown: the workspace is down"),
    ],
)  # fmt: skip
def test_a_version_is_approved_by_a_governed_tag_that_the_job_cannot_set(
    tags: dict[str, str], found: Governance | Unknown, before: bool, outcome: str, reason: str
) -> None:
    answer = approval_of(tags, found, was_approved=before)
    assert answer.outcome == outcome
    assert reason in answer.reasons[0]
    assert (answer.finding.signal is Signal.GOOD) == (outcome == "PASS")
    assert answer.finding.signal in (Signal.GOOD, Signal.UNKNOWN)  # it holds, and rolls nothing back
    assert answer.finding.needed_for == 1


def test_only_a_missing_tag_waits_for_an_approver() -> None:
    assert approval_of({}, governed(PEOPLE)).waits
    assert not approval_of({}, governed(granted(ME.name))).waits
    assert not approval_of(APPROVED, governed(PEOPLE)).waits


def test_what_was_not_shown_is_said_with_the_approval() -> None:
    answer = approval_of(APPROVED, governed(PEOPLE, unread=("grants on the whole account",)))
    assert answer.reasons[1:] == ("NOT checked: grants on the whole account",)


def test_all_that_is_wrong_with_the_tag_is_named() -> None:
    assert len(problems(governed(granted(ME.name), granted("groups/robots"), values=("No",)))) == 3


# Over HTTP: the workspace of `endpoints`, signed in as the job's service principal.


def group(client: WorkspaceClient, name: str, *members: str | None) -> str:
    """Made with these members; its id."""
    made = client.groups.create(display_name=name, members=[ComplexValue(value=one) for one in members])
    assert made.id
    return made.id


def grant(client: WorkspaceClient, *rules: tuple[str, str], resource: str | None = None) -> None:
    """Exactly these rules, of role and principal, on the tag, or on another resource."""
    policy = client.tag_policies.get_tag_policy("approval")
    name = f"{resource or f'accounts/{client.config.account_id}/tagPolicies/{policy.id}'}/ruleSets/default"
    proxy = client.account_access_control_proxy
    proxy.update_rule_set(
        name,
        RuleSetUpdateRequest(
            name=name,
            etag=proxy.get_rule_set(name, "").etag,
            grant_rules=[GrantRule(role=f"roles/tagPolicy.{role}", principals=[one]) for role, one in rules],
        ),
    )


@pytest.fixture
def admin(endpoints: Endpoints) -> WorkspaceClient:
    """Whoever set the workspace up: the tag is governed, approvers may set it, and ada is one."""
    client = endpoints.client
    client.service_principals.create(application_id=JOB, display_name="release job")
    group(client, "approvers", client.users.create(user_name="ada@example.com").id)
    client.tag_policies.create_tag_policy(Policy(tag_key="approval", values=[Value(name="Approved")]))
    grant(client, ("assigner", "groups/approvers"))
    return client


def signed_in(admin: WorkspaceClient, name: str) -> Approvals:
    """As somebody else."""
    return Approvals(client=WorkspaceClient(host=admin.config.host, token=name, auth_type="pat", profile=""))


@pytest.fixture
def context_of(
    registry: Registry, endpoints: Endpoints, admin: WorkspaceClient, new_version: Callable[..., int]
) -> Callable[[str], Context]:
    """Version 1 of a model serves; the verdict on version 2 is a PASS."""

    def make(name: str) -> Context:
        context = make_context(
            as_of=AS_OF,
            registry=registry,
            endpoints=lambda: endpoints,
            approvals=lambda: signed_in(admin, JOB),
            decisions=MemoryDecisions(),
        )
        for _ in range(2):
            new_version(name)
        for alias, version in {"champion": 1, "challenger": 2}.items():
            registry.set_alias(name, alias, version)
        context.decisions.append(decision("promotion", name, 1, None, f"first of {name}", AS_OF))
        context.decisions.append(decision("verdict", name, 2, 1, f"verdict on {name}", AS_OF))
        serving.serve(context, promotion(name, 1, "any"), 1)
        return context

    return make


def task(context: Context, name: str, *, required: bool = True) -> None:
    approval.run(context, Approval(model_name=name, model_version=2, approval_required=required))


def rows(context: Context, name: str) -> list[tuple[str, int, tuple[str, ...]]]:
    found = context.decisions.find(kind="approval", model_name=name)
    return [(row.outcome, row.model_version, row.reasons) for row in found]


def tag(context: Context, name: str, *, revoke: bool = False) -> None:
    approve(context.registry, Approve(model_name=name, model_version=2, revoke=revoke))


def test_a_version_without_its_tag_ends_the_run_with_the_page_and_the_command_and_approved_it_goes_on(
    context_of: Callable[[str], Context], admin: WorkspaceClient
) -> None:
    context = context_of("cat.flights.waits")
    for _ in range(2):  # a run that is repeated adds nothing
        with pytest.raises(UserError) as error:
            task(context, "cat.flights.waits")
    assert str(error.value) == (
        "version 2 of cat.flights.waits is not approved: the version has no tag approval; look at "
        f"{admin.config.host}/explore/data/models/cat/flights/waits/version/2?o=1 and approve it: "
        "flight-delays approve --model-name=cat.flights.waits --model-version=2; then repair this run"
    )
    tag(context, "cat.flights.waits")
    for _ in range(2):
        task(context, "cat.flights.waits")
    assert [(outcome, version) for outcome, version, _ in rows(context, "cat.flights.waits")] == [
        ("FAIL", 2),
        ("PASS", 2),
    ]
    assert context.task_values["approval"] == "PASS"


def test_where_no_approval_is_required_nobody_is_asked_and_nothing_is_written(registry: Registry) -> None:
    context = make_context(as_of=AS_OF, registry=registry)
    task(context, "free", required=False)
    assert "Version 2 of free needs no approval in this target." in printed(context)
    assert context.task_values["approval"] == "not required"


def by_a_group(client: WorkspaceClient) -> None:
    (job,) = client.service_principals.list(filter=f'applicationId eq "{JOB}"')
    inner = group(client, "robots", job.id)
    group(client, "machines", inner)


SET_BY_THE_JOB: dict[str, tuple[Callable[[WorkspaceClient], None], str]] = {
    "not governed": (lambda client: client.tag_policies.delete_tag_policy("approval"), "is not governed"),
    "itself": (
        lambda client: grant(client, ("assigner", "groups/approvers"), ("assigner", f"servicePrincipals/{JOB}")),
        f"itself: servicePrincipals/{JOB} by ASSIGN on the tag",
    ),
    "by MANAGE": (
        lambda client: grant(client, ("manager", f"servicePrincipals/{JOB}")),
        f"itself: servicePrincipals/{JOB} by MANAGE on the tag",
    ),
    "by a group": (
        lambda client: (by_a_group(client), grant(client, ("assigner", "groups/robots")))[-1],
        "itself: groups/robots by ASSIGN on the tag",
    ),
    "by a group of its group": (
        lambda client: (by_a_group(client), grant(client, ("assigner", "groups/machines")))[-1],
        "itself: groups/machines by ASSIGN on the tag",
    ),
    "by the account": (
        lambda client: grant(
            client, ("assigner", f"servicePrincipals/{JOB}"), resource=f"accounts/{client.config.account_id}"
        ),
        f"itself: servicePrincipals/{JOB} by ASSIGN on the whole account",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SET_BY_THE_JOB)
def test_a_tag_that_the_job_could_set_itself_is_no_approval(
    context_of: Callable[[str], Context], admin: WorkspaceClient, how: str
) -> None:
    name = f"set {how}"
    change, reason = SET_BY_THE_JOB[how]
    context = context_of(name)
    tag(context, name)
    change(admin)
    with pytest.raises(UserError, match=reason) as error:
        task(context, name)
    assert "`flight-delays approvers` shows who may set it" in str(error.value)
    ((outcome, version, _),) = rows(context, name)
    assert (outcome, version) == ("FAIL", 2)


def test_whoever_makes_the_tag_governed_manages_it_and_so_may_not_run_the_jobs(
    context_of: Callable[[str], Context], admin: WorkspaceClient
) -> None:
    context = context_of("made by the job")
    tag(context, "made by the job")
    admin.tag_policies.delete_tag_policy("approval")
    signed_in(admin, JOB).client.tag_policies.create_tag_policy(Policy(tag_key="approval"))
    with pytest.raises(UserError, match=f"itself: servicePrincipals/{JOB} by MANAGE on the tag"):
        task(context, "made by the job")


def test_a_query_that_fails_is_no_approval(context_of: Callable[[str], Context], faults: Faults) -> None:
    context = context_of("query fails")
    tag(context, "query fails")
    for path in ("tag-policies", "rule-sets", "scim/v2/Me"):
        faults.add(method="GET", path=path, action="fail")
        with pytest.raises(UserError, match="who may set the tag approval is unknown: fail, injected"):
            task(context, "query fails")
    faults.add(method="GET", path="rule-sets", action="deny")  # of the tag itself
    with pytest.raises(UserError, match="who may set the tag approval is unknown: deny, injected"):
        task(context, "query fails")
    assert {outcome for outcome, _, _ in rows(context, "query fails")} == {"INCONCLUSIVE"}


def release(name: str) -> Callable[[Context], None]:
    """The tasks of the release job from the verdict on."""

    def run(context: Context) -> None:
        task(context, name)
        promote.run(context, promotion(name, 2, f"verdict on {name}", approval_required=True))

    return run


def left(context: Context, name: str) -> dict[str, Any]:
    found = context.decisions.find(model_name=name)
    return {
        "aliases": context.registry.aliases(name),
        "served": served(context),
        "decisions": [(one.kind, one.model_version, one.outcome, one.reasons) for one in found],
    }


def test_a_release_killed_before_any_of_its_writes_and_run_again_ends_as_one_that_nobody_disturbed(
    context_of: Callable[[str], Context],
) -> None:
    def approved(name: str) -> Context:
        context = context_of(name)
        tag(context, name)
        return context

    context = approved("undisturbed approval")
    writes = writes_of(release("undisturbed approval"), context)
    expected = left(context, "undisturbed approval")
    assert [kind for kind, *_ in expected["decisions"]] == ["promotion", "verdict", "approval", "promotion"]
    for name, context, where in killed_at_each(writes, "an approved release", release, approved):
        release(name)(context)
        assert left(context, name) == expected, where


def test_a_promotion_that_goes_round_the_task_needs_the_approval_too(context_of: Callable[[str], Context]) -> None:
    context = context_of("round the task")
    with pytest.raises(UserError, match="version 2 of round the task is not approved: the version has no tag approval"):
        promote.run(context, promotion("round the task", 2, "verdict on round the task", approval_required=True))
    assert served(context) == {1: 100}
    assert context.registry.aliases("round the task") == {"champion": 1, "challenger": 2}


def begun(context: Context, name: str) -> Context:
    """In shadow, approved, since AS_OF."""
    tag(context, name)
    stages = (0, 25, 100)
    chosen = promotion(name, 2, f"verdict on {name}", rollout_stages=stages, approval_required=True)
    task(context, name)
    promote.run(context, chosen)
    return context


WATCHED = {"measured": says(GOOD), "approval": rollout.CLOCKS["approval"]}


def step(context: Context, name: str, hours: int, **change: object) -> None:
    chosen = settings(name, approval_required=True, **change)
    rollout.run(replace(context, as_of=AS_OF + hours * HOUR), chosen, WATCHED)


@pytest.mark.parametrize("stages_before", [0, 1], ids=["in shadow", "at 25 %"])
def test_a_revoked_approval_holds_a_rollout_where_it_is_until_it_is_given_again(
    context_of: Callable[[str], Context], stages_before: int
) -> None:
    name = f"revoked after {stages_before}"
    context = begun(context_of(name), name)
    for hours in range(1, 1 + stages_before):
        step(context, name, hours)
    before = served(context)
    tag(context, name, revoke=True)
    step(context, name, 3)
    assert served(context) == before
    row = context.decisions.find(kind="rollout", model_name=name)[-1]
    assert row.outcome == "HOLD"
    assert "UNKNOWN approval: approved before and revoked: the version has no tag approval" in row.reasons
    tag(context, name)
    step(context, name, 4)
    assert served(context)[2] > before[2]


def test_a_query_that_fails_holds_a_rollout(context_of: Callable[[str], Context], faults: Faults) -> None:
    context = begun(context_of("held by a query"), "held by a query")
    faults.add(method="GET", path="tag-policies", action="fail")
    step(context, "held by a query", 1)
    assert served(context) == {1: 100, 2: 0}
    reasons = context.decisions.find(kind="rollout", model_name="held by a query")[-1].reasons
    assert any(line.startswith("UNKNOWN approval: who may set the tag approval is unknown: ") for line in reasons)
    step(context, "held by a query", 2)
    assert served(context) == {1: 75, 2: 25}


def test_where_no_approval_is_required_the_clock_says_nothing(context_of: Callable[[str], Context]) -> None:
    context = context_of("no clock")
    assert rollout.CLOCKS["approval"](replace(context, approvals=None), settings("no clock"), None) == []


def test_an_order_to_promote_needs_the_approval_and_one_to_pause_does_not(
    context_of: Callable[[str], Context],
) -> None:
    context = begun(context_of("ordered"), "ordered")
    tag(context, "ordered", revoke=True)
    with pytest.raises(UserError, match="version 2 of ordered is not approved: approved before and revoked"):
        step(context, "ordered", 1, order="promote", reason="hurry")
    assert served(context) == {1: 100, 2: 0}
    step(context, "ordered", 1, order="pause", reason="wait for ada")
    tag(context, "ordered")
    step(context, "ordered", 2, order="promote", reason="ada agrees")
    assert served(context) == {2: 100}
    assert actions(context, "ordered")[-3:] == ["PAUSE", "PROMOTE", "SERVE"]


def test_an_order_past_the_gate_needs_the_approval_and_adoption_and_rollback_do_not(
    context_of: Callable[[str], Context],
) -> None:
    context = context_of("past the gate")
    with pytest.raises(UserError, match="version 2 of past the gate is not approved"):
        step(context, "past the gate", 1, order="promote", version=2, reason="agreed")
    assert served(context) == {1: 100}
    serving.serve(context, settings("past the gate"), 2)
    step(context, "past the gate", 2, order="adopt", reason="the night shift was right")
    assert served(context) == {2: 100}
    known = {key: getattr(settings("past the gate"), key) for key in SERVING}
    rollback.run(replace(context, approvals=None), Rollback(**known, reason="errors"))
    assert served(context) == {1: 100}


def shown(approvals: Approvals, runs_as: str = JOB) -> tuple[bool, str]:
    console = Console(width=160, file=io.StringIO())
    ok = show_approvers(console, approvals, Approvers(runs_as=runs_as))
    return ok, console.file.getvalue()  # type: ignore[attr-defined]


def test_people_see_who_may_approve(admin: WorkspaceClient) -> None:
    ok, text = shown(signed_in(admin, "ada@example.com"))
    assert ok
    assert "groups/approvers" in text
    assert "ada@example.com" in text
    assert f"In order: servicePrincipals/{JOB}, whom the jobs run as, cannot set the tag approval." in text


NOBODY = "nobody but account admins can set the tag approval"
WRONG: dict[str, tuple[Callable[[WorkspaceClient], None], tuple[str, ...]]] = {
    "nobody": (grant, (NOBODY,)),
    "an empty group": (
        lambda client: (group(client, "empty"), grant(client, ("assigner", "groups/empty")))[-1],
        (NOBODY,),
    ),
    "the job alone": (
        lambda client: grant(client, ("assigner", f"servicePrincipals/{JOB}")),
        (f"the job servicePrincipals/{JOB} could set the tag approval itself", NOBODY),
    ),
    "not governed": (lambda client: client.tag_policies.delete_tag_policy("approval"), ("is not governed",)),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_people_see_what_is_not_in_order_with_who_may_approve(admin: WorkspaceClient, what: str) -> None:
    change, lines = WRONG[what]
    change(admin)
    ok, text = shown(signed_in(admin, "ada@example.com"))
    assert not ok
    assert [line for line in lines if line not in text] == []


def test_the_command_exits_with_1_if_who_may_approve_is_not_in_order(
    admin: WorkspaceClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", str(admin.config.host))
    monkeypatch.setenv("DATABRICKS_TOKEN", "ada@example.com")
    monkeypatch.setattr(sys, "argv", ["flight-delays", "approvers", f"--runs-as={JOB}"])
    codes = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            cli.console()
        codes.append(ended.value.code)
        grant(admin)
    assert codes == [0, 1]
    assert "nobody but account admins" in capsys.readouterr().out


def test_grants_that_are_not_shown_are_not_in_order_for_people_and_said_by_the_job(
    context_of: Callable[[str], Context], admin: WorkspaceClient, faults: Faults
) -> None:
    context = context_of("not shown")
    tag(context, "not shown")
    faults.add(method="GET", path="rule-sets", action="deny", after=1)
    task(context, "not shown")
    ((outcome, _, reasons),) = rows(context, "not shown")
    assert outcome == "PASS"
    assert reasons[1].startswith("NOT checked: grants on the whole account (deny, injected")
    faults.clear()
    faults.add(method="GET", path="rule-sets", action="deny", after=1)
    ok, text = shown(signed_in(admin, "ada@example.com"))
    assert not ok
    assert "NOT checked: grants on the whole account" in text


def test_groups_of_a_group_that_are_not_shown_are_said(admin: WorkspaceClient, faults: Faults) -> None:
    by_a_group(admin)
    faults.add(method="GET", path="scim/v2/Groups/", action="deny")
    found = signed_in(admin, JOB).governance()
    assert isinstance(found, Governance)
    assert found.unread[0].startswith("of which groups robots is a member (deny, injected")


def test_whom_the_jobs_run_as_has_to_be_known(admin: WorkspaceClient) -> None:
    for unknown in (JOB.replace("0", "9"), "nobody@example.com"):
        with pytest.raises(UserError, match=f"there is no user or service principal {unknown}"):
            shown(signed_in(admin, "ada@example.com"), unknown)
    assert shown(signed_in(admin, JOB), "")[0]
    assert not shown(signed_in(admin, "local"), "ada@example.com")[0]


def test_whoever_may_not_set_the_tag_is_told_so_in_one_line(
    registry: Registry, new_version: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_version("refused tag")

    def refuse(*_: object) -> None:
        raise MlflowException("ASSIGN is missing")

    monkeypatch.setattr(registry.client, "set_model_version_tag", refuse)
    with pytest.raises(UserError, match="of refused tag version 1 was not changed: ASSIGN is missing"):
        approve(registry, Approve(model_name="refused tag", model_version=1))
