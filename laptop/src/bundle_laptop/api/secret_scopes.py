"""Secret scopes and secrets: https://docs.databricks.com/api/workspace/secrets

They are in api/secrets.json, which only its owner can read: `{scope: {key: base64}}`. Everyone may read them; ACLs and
Azure Key Vault are left out.
"""

import base64
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from bundle_laptop.api.state import StateFile
from bundle_laptop.api.web import Body, Request, Route, Tree, invalid, missing

_API = "/api/2.0/secrets"
_REFERENCE = re.compile(r"\{\{secrets/([\w.@-]+)/([\w.@-]+)\}\}")
_NAME = r"^[\w.@-]{1,128}$"


class _Scope(Body):
    scope: str = Field(pattern=_NAME)
    initial_manage_principal: str | None = None
    scope_backend_type: Literal["DATABRICKS"] = "DATABRICKS"


class _Secret(Body):
    scope: str
    key: str = Field(pattern=_NAME)
    string_value: str | None = None
    bytes_value: str | None = None


class Secrets:
    """The secrets of one world."""

    def __init__(self, folder: Path) -> None:
        self._file = StateFile(folder / "api" / "secrets.json", "secret scope")

    def resolve(self, text: str) -> str:
        """The secret's value if `text` is {{secrets/scope/key}}, else `text`. Raises ValueError if it is unknown."""
        match = _REFERENCE.fullmatch(text)
        if not match:
            return text
        found = self._file.read().get(match[1], {}).get(match[2])
        if found is None:
            raise ValueError(f"there is no secret {text}")
        return base64.b64decode(found).decode()

    def hide(self, text: str) -> str:
        """`text` with references in place of the values of secrets."""
        for scope, secrets in self._file.read().items():
            for key, secret in secrets.items():
                if value := base64.b64decode(secret).decode(errors="replace"):
                    text = text.replace(value, f"{{{{secrets/{scope}/{key}}}}}")
        return text

    def routes(self) -> list[Route]:
        """What this answers."""
        return [
            ("GET", f"{_API}/scopes/list", self._list_scopes),
            ("POST", f"{_API}/scopes/create", self._create_scope),
            ("POST", f"{_API}/scopes/delete", self._delete_scope),
            ("GET", f"{_API}/list", self._list),
            ("GET", f"{_API}/get", self._get),
            ("POST", f"{_API}/put", self._put),
            ("POST", f"{_API}/delete", self._delete),
        ]

    def _list_scopes(self, _: Request) -> Tree:
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in sorted(self._file.read())]}

    def _create_scope(self, request: Request) -> Tree:
        self._file.add(request.body(_Scope).scope, {})
        return {}

    def _delete_scope(self, request: Request) -> Tree:
        self._file.remove(request.body(_Scope).scope)
        return {}

    def _list(self, request: Request) -> Tree:
        secrets = self._file.entry(request.query.get("scope", ""))
        return {"secrets": [{"key": key} for key in sorted(secrets)]}

    def _get(self, request: Request) -> Tree:
        scope, key = request.query.get("scope", ""), request.query.get("key", "")
        secrets = self._file.entry(scope)
        if key not in secrets:
            raise missing(f"there is no secret {key} in scope {scope}")
        return {"key": key, "value": secrets[key]}

    def _delete(self, request: Request) -> Tree:
        body = request.body(_Secret)

        def delete(scopes: Tree) -> None:
            if self._file.entry(body.scope, scopes).pop(body.key, None) is None:
                raise missing(f"there is no secret {body.key} in scope {body.scope}")

        self._file.change(delete)
        return {}

    def _put(self, request: Request) -> Tree:
        body = request.body(_Secret)
        if (body.string_value is None) == (body.bytes_value is None):
            raise invalid("give string_value or bytes_value")
        value = body.bytes_value or base64.b64encode((body.string_value or "").encode()).decode()
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            raise invalid("bytes_value: not base64") from None
        self._file.change(lambda scopes: self._file.entry(body.scope, scopes).update({body.key: value}))
        return {}
