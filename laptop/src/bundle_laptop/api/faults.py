"""Faults that a test injects: what a workspace, or the network before it, does on a bad day.

In the same process by `Faults.add`; in another by PUT /laptop/faults with a list of rules in JSON, each with the same
fields. GET /laptop/faults tells the rules, DELETE removes them, GET /laptop/requests tells what was served.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Literal, TypeAlias

from pydantic import Field, RootModel

from bundle_laptop.api.web import Answer, Body, Request, Route, Tree, json_answer

Action: TypeAlias = Literal["conflict", "throttle", "fail", "hang", "cut", "cut_before"]
_KEPT = 10_000


class Fault(Body):
    """A rule. Of the requests that it matches the first `after` pass, the next `times` (None: all) meet the fault.

    `path` is a regular expression that is searched for in the path. The actions:
    - conflict: 409; throttle: 429 with Retry-After `retry_after`; fail: `status`. The request is not performed.
    - hang: wait `seconds` (None: until the server stops, and then close the connection), then perform and answer.
    - cut: perform, then close the connection, after the head and `sent` bytes of the body or (0) before all of it;
      databricks-sdk tries again after the latter only.
    - cut_before: close the connection and perform nothing.
    """

    method: str = "*"
    path: re.Pattern[str] = re.compile("")
    action: Action
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    status: int = Field(default=500, ge=500, le=599)
    seconds: float | None = Field(default=None, ge=0)
    retry_after: int | None = Field(default=None, ge=0)
    sent: int = Field(default=0, ge=0)

    def matches(self, method: str, path: str) -> bool:
        """Whether it is about this request."""
        return self.method in ("*", method) and self.path.search(path) is not None

    def refusal(self) -> Answer | None:
        """The answer in place of the real one; None: the action is another."""
        failed = (self.status, "TEMPORARILY_UNAVAILABLE" if self.status == 503 else "INTERNAL_ERROR")
        refusals = {"conflict": (409, "RESOURCE_CONFLICT"), "throttle": (429, "REQUEST_LIMIT_EXCEEDED"), "fail": failed}
        if self.action not in refusals:
            return None
        status, code = refusals[self.action]
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        body = {"error_code": code, "message": f"{self.action}, injected by the laptop's faults"}
        return json_answer(body, status, headers)


class _Rules(RootModel[tuple[Fault, ...]]):
    pass


@dataclass(frozen=True, kw_only=True)
class Served:
    """A request that was served; without a status its connection was cut, or the server stopped first."""

    method: str
    path: str
    status: int | None


@dataclass
class _Rule:
    fault: Fault
    matched: int = 0
    injected: int = 0

    def meets(self) -> bool:
        """Whether the next request that it matches meets the fault."""
        self.matched += 1
        due = self.matched > self.fault.after and (self.fault.times is None or self.injected < self.fault.times)
        self.injected += due
        return due


class Faults:
    """The rules of one server, and the last 10,000 requests that it served. Any thread may use it."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._served: deque[Served] = deque(maxlen=_KEPT)
        self._lock = Lock()

    def add(self, **fault: object) -> None:
        """Add a rule by the fields of Fault; of several that are due, the one added first acts."""
        with self._lock:
            self._rules.append(_Rule(Fault.model_validate(fault)))

    def clear(self) -> None:
        """Remove all rules; the log of requests stays."""
        self.replace(())

    def replace(self, faults: Iterable[Fault]) -> None:
        """Have these rules in place of those there are."""
        with self._lock:
            self._rules = [_Rule(fault) for fault in faults]

    @property
    def requests(self) -> list[Served]:
        """What was served, in the order in which it was answered."""
        with self._lock:
            return list(self._served)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.fault.matches(method, path) and rule.meets()), None)

    def log(self, method: str, path: str, status: int | None) -> None:
        """Remember a request that was served."""
        with self._lock:
            self._served.append(Served(method=method, path=path, status=status))

    def routes(self) -> list[Route]:
        """For other processes."""
        return [
            ("GET", "/laptop/faults", lambda _: self._told()),
            ("PUT", "/laptop/faults", self._put),
            ("DELETE", "/laptop/faults", self._delete),
            ("GET", "/laptop/requests", lambda _: {"requests": [asdict(served) for served in self.requests]}),
        ]

    def _told(self) -> Tree:
        with self._lock:
            return {
                "faults": [{**rule.fault.model_dump(mode="json"), "injected": rule.injected} for rule in self._rules]
            }

    def _put(self, request: Request) -> Tree:
        self.replace(request.body(_Rules).root)
        return self._told()

    def _delete(self, _: Request) -> Tree:
        self.clear()
        return {}
