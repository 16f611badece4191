"""A Kubernetes API server in this process, with as much of it as the scoring service's chart and the release use.

It keeps deployments and routes, patches them as Kubernetes does (strategic merge, JSON merge, conflicts by
resourceVersion), and does a controller's work by a clock that the test has in its hands.
"""

import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.contexts import Time

START_S = 30.0
HTTP_ROUTES = (
    "sigs.k8s.io/gateway-api@v1.5.1",
    "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
)
DEPLOYMENTS = "/apis/apps/v1/namespaces/scoring/deployments"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/scoring/httproutes"
PODS = "/api/v1/namespaces/scoring/pods"
_RESOURCES = {  # what helm asks before it looks an object up
    path.partition("/namespaces/")[0]: {
        "groupVersion": path.partition("/namespaces/")[0].removeprefix("/apis/"),
        "resources": [{"name": path.rpartition("/")[2], "kind": kind, "namespaced": True, "verbs": ["get"]}],
    }
    for path, kind in ((DEPLOYMENTS, "Deployment"), (ROUTES, "HTTPRoute"))
}
_STRATEGIC, _MERGE = "application/strategic-merge-patch+json", "application/merge-patch+json"


def of_module(module: str, file: str) -> Path | None:
    """A file of a Go module; None without go, or where the module cannot be fetched."""
    if (go := shutil.which("go")) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [go, "mod", "download", "-json", module]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return None if ended.returncode else Path(json.loads(ended.stdout)["Dir"]) / file


@dataclass
class Fault:
    """What the next `times` requests meet: a status, or a connection `cut` before they are done, or `lost` after."""

    method: str
    path: str
    how: int | str
    times: int = 1
    message: str = "injected"


@dataclass
class Rolled:
    """Pods of a deployment: those of the newest template since `since`, and available ones of the one before."""

    image: str
    since: float
    pods: int
    old: int = 0
    had: int = 0  # available when it was scaled last


@dataclass
class Cluster:
    """The namespace `scoring` with the route `delay`."""

    time: Time
    broken: dict[str, str] = field(default_factory=dict)  # an image to what its pods say before they end
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # moments at which requests would have got no answer
    full_since: float = inf  # from then on no node takes another pod
    gateway_s: float = 3.0  # until the gateway follows a change
    refused: str = ""  # by the gateway
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    rolled: dict[str, Rolled] = field(default_factory=dict)
    taken: dict[str, Any] = field(default_factory=dict)  # rules that the gateway follows, and the change before that
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Install an object, as helm does."""
        metadata = body["metadata"]
        metadata |= {"namespace": "scoring", "generation": 1, "resourceVersion": "1"}
        self.objects[f"{path}/{metadata['name']}"] = body
        if path == DEPLOYMENTS:
            self.rolled[metadata["name"]] = Rolled(image=_image(body), since=-1e9, pods=body["spec"]["replicas"])

    def get(self, path: str) -> dict[str, Any] | None:
        """An object with its status as of now."""
        found = deepcopy(self.objects.get(path))
        if found is None:
            return None
        found["status"] = self._of_deployment(found) if path.startswith(DEPLOYMENTS) else self._of_route(found)
        return found

    def patch(self, path: str, kind: str, patch: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The object that results, or why not."""
        live = self.objects.get(path)
        if live is None:
            return 404, _status(404, f'"{path}" not found')
        if kind not in ((_MERGE, _STRATEGIC) if path.startswith(DEPLOYMENTS) else (_MERGE,)):
            return 415, _status(415, f"the body of the request was in an unknown format: {kind}")
        given = patch.get("metadata", {}).pop("resourceVersion", None)
        if given not in (None, live["metadata"]["resourceVersion"]):
            return 409, _status(409, "the object has been modified; please apply your changes to the latest version")
        before = deepcopy(live)
        merged = _merged(live, patch, by_name=kind == _STRATEGIC)
        if merged == before:
            return 200, self.get(path) or {}
        merged["metadata"]["resourceVersion"] = str(int(merged["metadata"]["resourceVersion"]) + 1)
        if merged["spec"] != before["spec"]:
            merged["metadata"]["generation"] += 1
            if path.startswith(DEPLOYMENTS):
                self._roll(before, merged)
            else:
                self.taken = {"at": self.time.now, "rules": before["spec"]["rules"]}
        self.objects[path] = merged
        self.check(f"after {patch}")
        return 200, self.get(path) or {}

    def change(self, path: str, patch: dict[str, Any]) -> None:
        """By someone else."""
        status, _ = self.patch(path, _MERGE, patch)
        assert status == 200

    def check(self, when: str) -> None:
        """Note what has traffic, by what the gateway follows now, and no pod of one release alone."""
        if not self.taken:
            return
        route = self.objects[f"{ROUTES}/delay"]
        late = self.time.now < self.taken["at"] + self.gateway_s
        for rules in [route["spec"]["rules"], *([self.taken["rules"]] if late else [])]:
            for backend in rules[-1]["backendRefs"] if rules else []:
                deployment = self.get(f"{DEPLOYMENTS}/{backend['name']}") or {}
                status = deployment.get("status", {})
                mixed = status.get("replicas") != status.get("updatedReplicas")
                if backend["weight"] and (mixed or not status.get("availableReplicas")):
                    self.lost.append(f"{backend['name']} at {backend['weight']} % {when}: {status}")

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Those of a deployment's newest template."""
        deployment, rolled = self.objects[f"{DEPLOYMENTS}/{name}"], self.rolled[name]
        template, said = deployment["spec"]["template"], self.broken.get(rolled.image)
        crashing = {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": said}},
        }
        container = {"name": "scoring", "image": rolled.image, "imageID": "", "restartCount": 3, "ready": False}
        status: dict[str, Any] = {"phase": "Running"}
        if said is not None:
            status["containerStatuses"] = [container | crashing]
        elif self.full_since <= self.time.now:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "message": "0/3 nodes are available: Insufficient cpu",
            }
            status["conditions"] = [condition]
        return [
            {
                "metadata": {"name": f"{name}-x{number}", "annotations": template["metadata"]["annotations"]},
                "spec": {"containers": template["spec"]["containers"]},
                "status": status,
            }
            for number in range(rolled.pods)
        ]

    def _roll(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        rolled, pods = self.rolled[now["metadata"]["name"]], now["spec"]["replicas"]
        available = self._available(rolled)
        if before["spec"]["template"] != now["spec"]["template"]:
            old = available if self._is_done(rolled) else rolled.old
            rolled = Rolled(image=_image(now), since=self.time.now, pods=pods, old=min(old, pods))
        else:
            old = 0 if self._is_done(rolled) else min(rolled.old, pods)
            since = self.time.now if pods > rolled.pods else rolled.since
            rolled = Rolled(image=rolled.image, since=since, pods=pods, old=old, had=min(available, pods))
        self.rolled[now["metadata"]["name"]] = rolled

    def _is_done(self, rolled: Rolled) -> bool:
        come = self.time.now >= rolled.since + START_S < self.full_since
        return rolled.image not in self.broken and (come or rolled.had == rolled.pods)

    def _available(self, rolled: Rolled) -> int:
        return rolled.pods if self._is_done(rolled) else max(rolled.old, rolled.had)

    def _of_deployment(self, deployment: Mapping[str, Any]) -> dict[str, Any]:
        rolled = self.rolled[deployment["metadata"]["name"]]
        old = 0 if self._is_done(rolled) else rolled.old
        return {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": rolled.pods + old,
            "updatedReplicas": rolled.pods,
            "availableReplicas": self._available(rolled),
        }

    def _of_route(self, route: Mapping[str, Any]) -> dict[str, Any]:
        late = bool(self.taken) and self.time.now < self.taken["at"] + self.gateway_s
        generation = route["metadata"]["generation"] - late
        accepted = {"type": "Accepted", "status": "False" if self.refused else "True", "message": self.refused}
        conditions = [accepted, {"type": "ResolvedRefs", "status": "True", "message": ""}]
        return {"parents": [{"conditions": [one | {"observedGeneration": generation} for one in conditions]}]}


def _image(deployment: Mapping[str, Any]) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def _merged(live: Any, patch: Any, *, by_name: bool) -> Any:
    if isinstance(live, dict) and isinstance(patch, dict):
        merged = deepcopy(live)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = _merged(merged.get(key), value, by_name=by_name)
        return merged
    if by_name and isinstance(live, list) and all(isinstance(one, dict) and "name" in one for one in patch):
        given = {one["name"]: one for one in patch}
        kept = [_merged(one, given.pop(one["name"], {}), by_name=True) for one in live]
        return [*kept, *given.values()]
    return patch


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


@contextmanager
def served(cluster: Cluster) -> Iterator[str]:
    """The address of its API server."""

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer goes out in one piece

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def _serve(self) -> None:
            split, size = urlsplit(self.path), int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            with cluster.lock:
                fault = self._fault(split.path)
                if fault and fault.how == "cut":
                    self.close_connection = True
                    return
                if fault and isinstance(fault.how, int):
                    status, answer = fault.how, _status(fault.how, fault.message)
                else:
                    status, answer = self._answer(split.path, parse_qs(split.query), body)
                cluster.requests.append(f"{self.command} {split.path.rpartition('/')[2]} {status}")
                if fault and fault.how == "lost":
                    self.close_connection = True
                    return
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = _serve  # noqa: N815

        def _fault(self, path: str) -> Fault | None:
            for fault in cluster.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
            return None

        def _answer(
            self, path: str, query: Mapping[str, list[str]], body: dict[str, Any]
        ) -> tuple[int, dict[str, Any]]:
            cluster.check(f"when asked to {self.command} {path}")
            if self.command == "PATCH":
                return cluster.patch(path, self.headers["Content-Type"], body)
            if path in _RESOURCES:
                return 200, {"kind": "APIResourceList", "apiVersion": "v1", **_RESOURCES[path]}
            if path == PODS:
                labels = dict(one.split("=") for one in query["labelSelector"][0].split(","))
                items = cluster.pods(f"delay-{labels['flight-delays/served']}")
                return 200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}
            found = cluster.get(path)
            return (200, found) if found else (404, _status(404, f'"{path}" not found'))

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            TCPServer.server_bind(self)  # HTTPServer's would ask for the host's name, which can take seconds

    server = Server(("127.0.0.1", 0), Connection)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
