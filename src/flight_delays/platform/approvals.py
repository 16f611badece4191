"""Who may set the tag of an approval: governed tags, their grants and groups, through databricks-sdk."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.service.iam import ComplexValue

from flight_delays.core.approval import TAG, Governance, Grant, Identity, TagPolicy, Unknown
from flight_delays.core.errors import UserError
from flight_delays.platform.endpoints import connect as connect_endpoints
from flight_delays.platform.sdk_errors import one_line

# https://docs.databricks.com/admin/governed-tags/manage-permissions: either one may set the tag.
_PERMISSIONS = {"roles/tagPolicy.assigner": "ASSIGN", "roles/tagPolicy.manager": "MANAGE"}
_APPLICATION = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, kw_only=True)
class Approvals:
    """The governed tag of approvals in a workspace's account."""

    client: WorkspaceClient

    def governance(self, runs_as: str = "") -> Governance | Unknown:
        """Who may set the tag, and whether `runs_as` may: an application id or a user's name; empty: whoever asks.

        Grants on the whole account hold for every tag. Who is no account admin may not be shown them: then they are
        listed as unread.
        """
        try:
            return self._governance(runs_as)
        except OSError as error:
            return Unknown(why=one_line(error))

    def members(self, group: str) -> tuple[str, ...]:
        """The members of a group, by their names. Raises UserError if they are not shown."""
        try:
            found = self.client.groups.list(filter=f'displayName eq "{group}"', attributes="id,displayName,members")
            return tuple(one.display or one.value or "" for each in found for one in each.members or [])
        except OSError as error:
            raise UserError(f"the members of group {group} cannot be looked at: {one_line(error)}") from error

    def link(self, model_name: str, version: int) -> str:
        """The version's page in the workspace, as MLflow has it."""
        config = self.client.config
        query = f"?o={config.workspace_id}" if config.workspace_id else ""
        return f"{config.host}/explore/data/models/{model_name.replace('.', '/')}/version/{version}{query}"

    def _governance(self, runs_as: str) -> Governance | Unknown:
        unread: list[str] = []
        identity = self._identity(runs_as, unread)
        if identity is None:
            return Unknown(why=f"there is no user or service principal {runs_as}")
        try:
            policy = self.client.tag_policies.get_tag_policy(TAG)
        except NotFound:
            return Governance(policy=None, runs_as=identity)
        account = self.client.config.account_id
        if not account:
            return Unknown(why="the account's id is unknown; set DATABRICKS_ACCOUNT_ID")
        grants = [*self._grants(f"accounts/{account}/tagPolicies/{policy.id}", "the tag")]
        try:
            grants += self._grants(f"accounts/{account}", "the whole account")
        except PermissionDenied as error:
            unread.append(f"grants on the whole account ({one_line(error)})")
        values = tuple(value.name for value in policy.values or [])
        return Governance(policy=TagPolicy(values=values, grants=tuple(grants)), runs_as=identity, unread=tuple(unread))

    def _grants(self, resource: str, scope: str) -> Iterator[Grant]:
        rules = self.client.account_access_control_proxy.get_rule_set(name=f"{resource}/ruleSets/default", etag="")
        for rule in rules.grant_rules or []:
            if rule.role in _PERMISSIONS:
                for principal in rule.principals or []:
                    yield Grant(principal=principal, permission=_PERMISSIONS[rule.role], scope=scope)

    def _identity(self, runs_as: str, unread: list[str]) -> Identity | None:
        name, groups = runs_as, None
        if not runs_as:
            me = self.client.current_user.me()
            name, groups = me.user_name or "", me.groups
        elif _APPLICATION.fullmatch(runs_as):
            principals = [*self.client.service_principals.list(filter=f'applicationId eq "{runs_as}"')]
            if not principals:
                return None
            groups = principals[0].groups
        else:
            users = [*self.client.users.list(filter=f'userName eq "{runs_as}"')]
            if not users:
                return None
            groups = users[0].groups
        kind = "servicePrincipals" if _APPLICATION.fullmatch(name) else "users"
        return Identity(name=f"{kind}/{name}", groups=frozenset(self._with_parents(groups or [], unread)))

    def _with_parents(self, groups: Iterable[ComplexValue], unread: list[str]) -> Iterator[str]:
        """The groups and those of which they are members themselves."""
        left, seen = [*groups], set[str]()
        while left:
            group = left.pop()
            if group.value is None or group.value in seen:
                continue
            seen.add(group.value)
            yield f"groups/{group.display}"
            try:
                left += self.client.groups.get(group.value).groups or []
            except PermissionDenied as error:
                unread.append(f"of which groups {group.display} is a member ({one_line(error)})")


def connect() -> Approvals:
    """That of the workspace that the environment or the profile names. Raises UserError if there is none."""
    return Approvals(client=connect_endpoints().client)
