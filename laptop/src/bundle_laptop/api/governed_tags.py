"""Governed tags and who may set them: https://docs.databricks.com/api/workspace/tagpolicies and
https://docs.databricks.com/api/workspace/accountaccesscontrolproxy

Whoever makes a tag governed gets MANAGE on it. Nothing is enforced: MLflow's registry on the laptop takes any tag from
anybody. They are in api/tag_policies.json and api/rule_sets.json.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pydantic import Field

from bundle_laptop.api.identities import Identities
from bundle_laptop.api.state import StateFile
from bundle_laptop.api.web import ApiError, Body, Request, Route, Tree, missing

ACCOUNT = "00000000-0000-0000-0000-000000000000"
_POLICIES, _RULE_SETS = "/api/2.1/tag-policies", "/api/2.0/preview/accounts/access-control/rule-sets"
_OF_TAG = re.compile(f"accounts/{ACCOUNT}/tagPolicies/([^/]+)/ruleSets/default")


class _Value(Body):
    name: str


class _Policy(Body):
    tag_key: str = Field(pattern=r"^[^,.:/\-=\s]+$")
    description: str | None = None
    values: tuple[_Value, ...] = ()


class _Rule(Body):
    role: str
    principals: tuple[str, ...] = ()


class _RuleSet(Body):
    name: str
    etag: str
    grant_rules: tuple[_Rule, ...] = ()


class _Update(Body):
    name: str
    rule_set: _RuleSet


class GovernedTags:
    """The tag policies of one world's account, and its rule sets."""

    def __init__(self, folder: Path, identities: Identities) -> None:
        self._policies = StateFile(folder / "api" / "tag_policies.json", "tag policy")
        self._rules = StateFile(folder / "api" / "rule_sets.json", "rule set")
        self._identities = identities

    def routes(self) -> list[Route]:
        """What this answers."""
        return [
            ("POST", _POLICIES, self._create),
            ("GET", _POLICIES, lambda _: {"tag_policies": [*self._policies.read().values()]}),
            ("GET", f"{_POLICIES}/{{key}}", lambda request: self._policies.entry(request["key"])),
            ("DELETE", f"{_POLICIES}/{{key}}", self._delete),
            ("GET", _RULE_SETS, lambda request: self._rule_set(request.query.get("name", ""))),
            ("PUT", _RULE_SETS, self._update),
        ]

    def _create(self, request: Request) -> Tree:
        body, now = request.body(_Policy), datetime.now(UTC).isoformat()
        entry = {**body.model_dump(exclude_none=True), "id": str(uuid4()), "create_time": now, "update_time": now}
        self._policies.add(body.tag_key, entry)
        rule = {"role": "roles/tagPolicy.manager", "principals": [self._identities.caller(request)]}
        self._write(f"accounts/{ACCOUNT}/tagPolicies/{entry['id']}/ruleSets/default", [rule])
        return entry

    def _delete(self, request: Request) -> Tree:
        self._policies.remove(request["key"])
        return {}

    def _rule_set(self, name: str) -> Tree:
        of_tag = _OF_TAG.fullmatch(name)
        tags = {policy["id"] for policy in self._policies.read().values()}
        if name != f"accounts/{ACCOUNT}/ruleSets/default" and not (of_tag and of_tag[1] in tags):
            raise missing(f"there is no rule set {name}")
        found: Tree = self._rules.read().get(name, {"name": name, "etag": "", "grant_rules": []})
        return found

    def _update(self, request: Request) -> Tree:
        body = request.body(_Update)
        if body.rule_set.etag != self._rule_set(body.name)["etag"]:
            raise ApiError(409, "RESOURCE_CONFLICT", f"rule set {body.name} has changed; read it again")
        return self._write(body.name, [rule.model_dump() for rule in body.rule_set.grant_rules])

    def _write(self, name: str, rules: list[Tree]) -> Tree:
        entry = {"name": name, "etag": uuid4().hex, "grant_rules": rules}
        self._rules.change(lambda sets: sets.update({name: entry}))
        return entry
