"""Faults that a test injects: what a workspace, or the network before it, does on a bad day."""

import re
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from pydantic import Field

from bundle_laptop.api.web import Answer, Body, json_answer

_KEPT = 10_000


class Fault(Body):
    """A rule. Of the requests that it matches the first `after` pass, the next `times` (None: all) meet the fault.

    `path` is a regular expression that is searched for in the path. The actions:
    - conflict: 409; throttle: 429 with Retry-After `retry_after`; deny: 403; fail: `status`. The request is not
      performed.
    - hang: wait `seconds` (None: until the server stops, and then close the connection), then perform and answer.
    - cut: perform, then close the connection, after the head and `sent` bytes of the body or (0) before all of it;
      databricks-sdk tries again after the latter only.
    - cut_before: close the connection and perform nothing.
    """

    method: str = "*"
    path: re.Pattern[str] = re.compile("")
    action: Literal["conflict", "throttle", "deny", "fail", "hang", "cut", "cut_before"]
    times: int | None = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)
    status: int = Field(default=500, ge=500, le=599)
    seconds: float | None = Field(default=None, ge=0)
    retry_after: int | None = Field(default=None, ge=0)
    sent: int = Field(default=0, ge=0)

    def refusal(self) -> Answer | None:
        """The answer in place of the real one; None: the action is another."""
        failed = (self.status, "TEMPORARILY_UNAVAILABLE" if self.status == 503 else "INTERNAL_ERROR")
        refusals = {
            "conflict": (409, "RESOURCE_CONFLICT"),
            "throttle": (429, "REQUEST_LIMIT_EXCEEDED"),
            "deny": (403, "PERMISSION_DENIED"),
            "fail": failed,
        }
        if self.action not in refusals:
            return None
        status, code = refusals[self.action]
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        body = {"error_code": code, "message": f"{self.action}, injected by the laptop's faults"}
        return json_answer(body, status, headers)


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

    def meets(self, method: str, path: str) -> bool:
        """Whether this request meets the fault; it is counted if it matches."""
        if self.fault.method not in ("*", method) or not self.fault.path.search(path):
            return False
        self.matched += 1
        since = self.matched - self.fault.after
        return since > 0 and (self.fault.times is None or since <= self.fault.times)


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
        with self._lock:
            self._rules.clear()

    @property
    def requests(self) -> list[Served]:
        """What was served, in the order in which it was answered."""
        with self._lock:
            return list(self._served)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.meets(method, path)), None)

    def log(self, method: str, path: str, status: int | None) -> None:
        """Remember a request that was served."""
        with self._lock:
            self._served.append(Served(method=method, path=path, status=status))
