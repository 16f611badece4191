"""Requests, answers and routes, apart from how they travel."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

Tree: TypeAlias = dict[str, Any]
_B = TypeVar("_B", bound=BaseModel)


class ApiError(Exception):
    """An answer other than 2xx, in Databricks' shape."""

    def __init__(self, status: int, code: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.reason = status, code, reason

    def answer(self) -> "Answer":
        """It as an answer; `reason` is what databricks-sdk tells some errors apart by."""
        body: Tree = {"error_code": self.code, "message": str(self)}
        if self.reason:
            body["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.reason}]
        return json_answer(body, self.status)


def invalid(message: str) -> ApiError:
    """The request is wrong."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """It asks for what is not there."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def exists(message: str, status: int = 409) -> ApiError:
    """It makes what is there already."""
    return ApiError(status, "RESOURCE_ALREADY_EXISTS", message)


class Body(BaseModel):
    """A JSON body. A field that is not declared is one that this API would do nothing about: an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request. `parameters` are the variable parts of its path; names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: BinaryIO
    size: int
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, parameter: str) -> str:
        return self.parameters[parameter]

    def body(self, kind: type[_B]) -> _B:
        """Its JSON body; without one, that of an empty map. Raises ApiError naming the first wrong field."""
        try:
            return kind.model_validate_json(self.content.read() or b"{}")
        except ValidationError as error:
            raise invalid(_first_line(error)) from None

    def flag(self, name: str) -> bool:
        """A parameter of the query that is true or false."""
        return self.query.get(name, "").lower() == "true"

    def number(self, name: str, default: int) -> int:
        """A parameter of the query. Raises ApiError if it is no whole number."""
        try:
            return int(self.query.get(name, default))
        except ValueError:
            raise invalid(f"{name}: {self.query[name]!r} is not a whole number") from None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer; a file is sent from byte `start`, `size` bytes of it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    start: int = 0
    size: int = 0


Handler: TypeAlias = Callable[[Request], Answer | Tree]
Route: TypeAlias = tuple[str, str, Handler]
"""Method, path with {variable} or {variable:path} parts, handler."""


class Router:
    """Finds who answers a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(method, _pattern(path), handler) for method, path, handler in routes]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and the variable parts of the path, decoded. Raises ApiError if there is none."""
        for known, pattern, handler in self._routes:
            if known == method and (match := pattern.fullmatch(path)):
                return handler, {name: unquote(value) for name, value in match.groupdict().items()}
        message = f"{method} {unquote(path)}: the laptop's workspace API has no such route"
        raise ApiError(404, "ENDPOINT_NOT_FOUND", message)


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status=status, headers=headers, body=json.dumps(body).encode())


def _pattern(path: str) -> re.Pattern[str]:
    escaped = re.sub(r"\{(\w+):path\}", r"(?P<\1>/.*)", path.replace(".", r"\."))
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", escaped))


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    field_name = ".".join(str(part) for part in first["loc"])
    said = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "extra_forbidden":
        said = "the laptop's workspace API would do nothing about this field"
    return " ".join(f"{field_name}: {said}".split()) if field_name else " ".join(said.split())
