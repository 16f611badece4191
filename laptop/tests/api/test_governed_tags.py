"""Governed tags, who may set them, users and groups, as the unmodified WorkspaceClient asks for them."""

from typing import Any

import pytest
from databricks.sdk.errors import BadRequest, NotFound, ResourceAlreadyExists, ResourceConflict
from databricks.sdk.service.iam import ComplexValue, GrantRule, RuleSetUpdateRequest
from databricks.sdk.service.tags import TagPolicy, Value

JOB = "01234567-89ab-cdef-0123-456789abcdef"


def rule_set(client: Any, key: str) -> str:
    return (
        f"accounts/{client.config.account_id}/tagPolicies/{client.tag_policies.get_tag_policy(key).id}/ruleSets/default"
    )


def rules(client: Any, name: str) -> list[tuple[str, list[str]]]:
    found = client.account_access_control_proxy.get_rule_set(name, "").grant_rules or []
    return [(rule.role, rule.principals) for rule in found]


def test_a_tag_is_governed_until_its_policy_is_deleted(workspace: Any) -> None:
    tags = workspace.client.tag_policies
    tags.create_tag_policy(TagPolicy(tag_key="approval", description="who agrees", values=[Value(name="Approved")]))
    found = tags.get_tag_policy("approval")
    assert (found.tag_key, found.description, [value.name for value in found.values]) == (
        *("approval", "who agrees"),
        ["Approved"],
    )
    with pytest.raises(ResourceAlreadyExists, match=r"^tag policy approval exists already$"):
        tags.create_tag_policy(TagPolicy(tag_key="approval"))
    assert [policy.id for policy in tags.list_tag_policies()] == [found.id]
    tags.delete_tag_policy("approval")
    with pytest.raises(NotFound, match=r"^there is no tag policy approval$"):
        tags.get_tag_policy("approval")


@pytest.mark.parametrize(("token", "who"), [("any", "users/local"), (JOB, f"servicePrincipals/{JOB}")])
def test_whoever_makes_a_tag_governed_manages_it(workspace: Any, token: str, who: str) -> None:
    workspace.client.service_principals.create(application_id=JOB)
    client = workspace.new_client(host=workspace.address, token=token, auth_type="pat")
    client.tag_policies.create_tag_policy(TagPolicy(tag_key="approval"))
    assert rules(client, rule_set(client, "approval")) == [("roles/tagPolicy.manager", [who])]


def test_the_rules_of_a_tag_and_of_the_account_are_replaced_by_those_who_have_read_them(workspace: Any) -> None:
    client = workspace.client
    client.tag_policies.create_tag_policy(TagPolicy(tag_key="approval"))
    proxy = client.account_access_control_proxy
    for name in (rule_set(client, "approval"), f"accounts/{client.config.account_id}/ruleSets/default"):
        rule = GrantRule(role="roles/tagPolicy.assigner", principals=["groups/approvers"])
        read = proxy.get_rule_set(name, "").etag
        proxy.update_rule_set(name, RuleSetUpdateRequest(name=name, etag=read, grant_rules=[rule]))
        assert rules(client, name) == [("roles/tagPolicy.assigner", ["groups/approvers"])]
        with pytest.raises(ResourceConflict, match="has changed; read it again"):
            proxy.update_rule_set(name, RuleSetUpdateRequest(name=name, etag=read, grant_rules=[]))


@pytest.mark.parametrize("name", ["", "accounts/1/ruleSets/default", "accounts/{0}/tagPolicies/none/ruleSets/default"])
def test_a_rule_set_of_nothing_is_not_found(workspace: Any, name: str) -> None:
    client = workspace.client
    with pytest.raises(NotFound, match="there is no rule set"):
        client.account_access_control_proxy.get_rule_set(name.format(client.config.account_id), "")


def test_people_service_principals_and_groups_are_found_by_name_with_their_groups_and_members(workspace: Any) -> None:
    client = workspace.client
    ada = client.users.create(user_name="ada@example.com", display_name="Ada")
    job = client.service_principals.create(application_id=JOB, display_name="job")
    inner = client.groups.create(
        display_name="inner", members=[ComplexValue(value=ada.id), ComplexValue(value=job.id), ComplexValue(value="1")]
    )
    client.groups.create(display_name="outer", members=[ComplexValue(value=inner.id)])
    (found,) = client.groups.list(filter='displayName eq "inner"')
    assert [member.display for member in found.members] == ["Ada", "job", "local"]
    assert [group.display for group in found.groups] == ["outer"]
    (found,) = client.users.list(filter='userName eq "ada@example.com"')
    assert [(group.display, group.type) for group in found.groups] == [("inner", "direct")]
    (found,) = client.service_principals.list(filter=f'applicationId eq "{JOB}"')
    assert [group.value for group in found.groups] == [inner.id]
    assert len([*client.groups.list()]) == 2
    client.groups.delete(inner.id)
    assert client.users.get(ada.id).groups == []
    assert [*client.groups.list(filter='displayName eq "inner"')] == []


@pytest.mark.parametrize(
    ("token", "name"), [("any", "local"), ("ada@example.com", "ada@example.com"), (JOB, JOB), (JOB[1:], "local")]
)
def test_a_token_that_is_a_name_signs_in_as_that_one(workspace: Any, token: str, name: str) -> None:
    workspace.client.users.create(user_name="ada@example.com")
    workspace.client.service_principals.create(application_id=JOB)
    client = workspace.new_client(host=workspace.address, token=token, auth_type="pat")
    assert client.current_user.me().user_name == name
    assert client.get_workspace_id() == 1


def test_what_cannot_be_is_refused(workspace: Any) -> None:
    client = workspace.client
    client.users.create(user_name="ada@example.com")
    with pytest.raises(BadRequest, match=r"Users ada@example\.com exists already"):
        client.users.create(user_name="ada@example.com")
    with pytest.raises(BadRequest, match="displayName is missing"):
        client.groups.create()
    with pytest.raises(BadRequest, match="is not of the form attribute eq"):
        [*client.groups.list(filter='displayName co "a"')]
    (ada,) = client.users.list()
    with pytest.raises(NotFound, match="there is no Groups"):
        client.groups.get(ada.id)
