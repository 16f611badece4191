"""Requests, answers and routes, apart from how they travel."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Tree: TypeAlias = dict[str, Any]
_B = TypeVar("_B", bound=BaseModel)


class ApiError(Exception):
    """An answer other than 2xx, in Databricks' shape; databricks-sdk tells some errors apart by `reason`."""

    def __init__(self, status: int, code: str, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.reason = status, code, reason

    def answer(self) -> "Answer":
        """It as an answer."""
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.reason}] if self.reason else []
        return json_answer({"error_code": self.code, "message": str(self), "details": details}, self.status)


def invalid(message: str) -> ApiError:
    """The request is wrong."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """It asks for what is not there."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def exists(message: str) -> ApiError:
    """It makes what is there already."""
    return ApiError(409, "RESOURCE_ALREADY_EXISTS", message)


class Body(BaseModel):
    """A JSON body. An undeclared field, about which this API would do nothing, is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request. `parameters` are the variable parts of its path; names of headers are in lower case."""

    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes
    parameters: Mapping[str, str]

    def __getitem__(self, parameter: str) -> str:
        return self.parameters[parameter]

    def body(self, kind: type[_B]) -> _B:
        """Its JSON body; without one, that of an empty map. Raises ApiError naming the first wrong field."""
        try:
            return kind.model_validate_json(self.content or b"{}")
        except ValidationError as error:
            raise invalid(_first_line(error)) from None

    def number(self, name: str) -> int | None:
        """A parameter of the query, if given. Raises ApiError if it is no integer."""
        try:
            return int(self.query[name]) if name in self.query else None
        except ValueError:
            raise invalid(f"{name}: {self.query[name]!r} is not an integer") from None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Handler: TypeAlias = Callable[[Request], Answer | Tree]
Route: TypeAlias = tuple[str, str, Handler]
"""Method, path with {variable} or {variable:path} parts, handler."""


class Router:
    """Finds who answers a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(method, _pattern(path), handler) for method, path, handler in routes]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and the variable parts of the path. Raises ApiError if there is none."""
        for known, pattern, handler in self._routes:
            if known == method and (match := pattern.fullmatch(path)):
                return handler, match.groupdict()
        raise ApiError(404, "ENDPOINT_NOT_FOUND", f"{method} {path}: the laptop's workspace API has no such route")


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status=status, headers=headers, body=json.dumps(body).encode())


def _pattern(path: str) -> re.Pattern[str]:
    escaped = re.sub(r"\{(\w+):path\}", r"(?P<\1>/.*)", path.replace(".", r"\."))
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", escaped), re.DOTALL)


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    problem = str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "extra_forbidden":
        problem = "the laptop's workspace API would do nothing about this field"
    name = ".".join(str(part) for part in first["loc"])
    return " ".join(f"{name}: {problem}".removeprefix(": ").split())
