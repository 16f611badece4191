"""Who there is: users, service principals and groups by SCIM, https://docs.databricks.com/api/workspace/groups

A token that is the name of a user, or the application id of a service principal, signs in as that one; any other one as
the user `local`. They are in api/identities.json. A filter is one `attribute eq "value"`; nothing is changed but by
making and deleting.
"""

import re
from pathlib import Path
from uuid import uuid4

from pydantic import Field

from bundle_laptop.api.state import StateFile
from bundle_laptop.api.web import Answer, Body, Request, Route, Tree, invalid, json_answer, missing

_API = "/api/2.0/preview/scim/v2"
_LOCAL = {"id": "1", "userName": "local", "displayName": "local", "active": True, "emails": [{"value": "local"}]}
_NAMES = {"Users": "userName", "ServicePrincipals": "applicationId", "Groups": "displayName"}
_EQUALS = re.compile(r'(\w+) eq "([^"]*)"')


class _Member(Body):
    value: str


class _New(Body):
    display_name: str | None = Field(default=None, alias="displayName")
    user_name: str | None = Field(default=None, alias="userName")
    application_id: str | None = Field(default=None, alias="applicationId")
    members: tuple[_Member, ...] = ()
    active: bool = True


class Identities:
    """The users, service principals and groups of one world."""

    def __init__(self, folder: Path) -> None:
        self._file = StateFile(folder / "api" / "identities.json", "user, service principal or group")

    def routes(self) -> list[Route]:
        """What this answers."""
        return [
            ("GET", f"{_API}/Me", self._me),
            ("POST", f"{_API}/{{kind}}", self._create),
            ("GET", f"{_API}/{{kind}}", self._list),
            ("GET", f"{_API}/{{kind}}/{{id}}", self._get),
            ("DELETE", f"{_API}/{{kind}}/{{id}}", self._delete),
        ]

    def caller(self, request: Request) -> str:
        """Whoever asks, as grants name them."""
        found = self._signed_in(request)
        return (
            f"servicePrincipals/{found['applicationId']}" if "applicationId" in found else f"users/{found['userName']}"
        )

    def _signed_in(self, request: Request) -> Tree:
        token = request.headers.get("authorization", "").partition(" ")[2].strip()
        known = self._file.read().values()
        return next((one for one in known if token in (one.get("userName"), one.get("applicationId"))), _LOCAL)

    def _me(self, request: Request) -> Answer:
        found = self._shown(self._signed_in(request))
        # The id of a service principal stands where a user has a name.
        me = {"userName": found["applicationId"], **found} if "applicationId" in found else found
        return json_answer(me, headers={"X-Databricks-Org-Id": "1"})

    def _create(self, request: Request) -> Tree:
        kind, body = _kind(request), request.body(_New)
        given = body.model_dump(by_alias=True, exclude_none=True)
        name = given.get(_NAMES[kind]) or (str(uuid4()) if kind == "ServicePrincipals" else None)
        if not name:
            raise invalid(f"{_NAMES[kind]} is missing")
        entry = {**given, _NAMES[kind]: name, "kind": kind, "id": str(uuid4().int >> 80)}
        if kind != "Groups":
            del entry["members"]
        if any(one["kind"] == kind and one[_NAMES[kind]] == name for one in self._file.read().values()):
            raise invalid(f"{kind} {name} exists already")
        self._file.add(entry["id"], entry)
        return self._shown(entry)

    def _list(self, request: Request) -> Tree:
        kind = _kind(request)
        found = [one for one in self._file.read().values() if one["kind"] == kind]
        if asked := request.query.get("filter"):
            match = _EQUALS.fullmatch(asked)
            if match is None:
                raise invalid(f'filter: {asked!r} is not of the form attribute eq "value"')
            found = [one for one in found if one.get(match[1]) == match[2]]
        start = (request.number("startIndex") or 1) - 1
        return {"totalResults": len(found), "Resources": [self._shown(one) for one in found[start:]]}

    def _get(self, request: Request) -> Tree:
        found = self._file.entry(request["id"])
        if found["kind"] != _kind(request):
            raise missing(f"there is no {request['kind']} {request['id']}")
        return self._shown(found)

    def _delete(self, request: Request) -> Answer:
        self._get(request)
        self._file.remove(request["id"])
        return Answer(status=204)

    def _shown(self, entry: Tree) -> Tree:
        """With the names of its members and the groups of which it is a direct member."""
        known = {"1": _LOCAL, **self._file.read()}
        groups = [
            {"value": one["id"], "display": one["displayName"], "type": "direct", "$ref": f"Groups/{one['id']}"}
            for one in known.values()
            if any(member["value"] == entry["id"] for member in one.get("members", ()))
        ]
        members = [
            {"value": one["value"], "display": _display(known[one["value"]])}
            for one in entry.get("members", ())
            if one["value"] in known
        ]
        shown = {name: value for name, value in entry.items() if name not in ("kind", "members")}
        return {**shown, **({"groups": groups} if groups else {}), **({"members": members} if members else {})}


def _kind(request: Request) -> str:
    if request["kind"] not in _NAMES:
        raise missing(f"there is no {request['kind']}")
    return request["kind"]


def _display(entry: Tree) -> str:
    return str(entry.get("displayName") or entry.get("userName") or entry.get("applicationId"))
