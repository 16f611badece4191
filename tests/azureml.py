"""Azure on loopback: as much of its REST API as a release needs, with its rules, and faults on the way.

Rules as Microsoft documents them: traffic adds up to 0 or 100 and goes to deployments that are ready; one deployment
gets copies, at most 50 %, and no traffic of its own; what has traffic can't be deleted. A change answers at once and
takes a few looks to be done.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest

SUBSCRIPTION, GROUP, WORKSPACE = "00000000-0000-0000-0000-000000000001", "ml", "flights"
PROVIDER = "providers/Microsoft.MachineLearningServices"
PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{PROVIDER}/workspaces/{WORKSPACE}"
ENDPOINT = f"{PATH}/onlineEndpoints/delay"
IN_WORKSPACE = f"azureml://{SUBSCRIPTION}/{GROUP}/{WORKSPACE}"
ADDRESS = f"{IN_WORKSPACE}/delay"
MANAGEMENT, BLOBS = "management.azure.com", "flightsstore.blob.core.windows.net"
DEPLOYMENT = f"{ENDPOINT}/deployments/"
IDENTITY = {"type": "SystemAssigned,UserAssigned"}


class Credential:
    """Gives a token that names what it is for."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(f"token for {' '.join(scopes)}", 4_000_000_000)


class Loopback(RequestsTransport):
    """Sends what is meant for Azure to a port of this machine, past any proxy."""

    def __init__(self, port: int) -> None:
        super().__init__(use_env_settings=False, read_timeout=5)
        self._port = port

    def send(self, request: Any, **options: Any) -> Any:
        host = urlsplit(request.url).netloc
        local = HttpRequest(
            request.method,
            request.url.replace(f"https://{host}", f"http://127.0.0.1:{self._port}"),
            content=request.content,
        )
        local.headers.update({**request.headers, "x-host": host})
        return super().send(local, **options)


class RefusedError(Exception):
    """The answer to a request that is against the rules."""

    def __init__(self, status: int, message: str, code: str = "BadRequest") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Fault:
    """What happens to requests of a method to a path that matches, `times` times."""

    method: str
    path: str
    status: int = 0  # answered without being carried out; 0: carried out, but the answer is lost
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    message: str = "injected"


@dataclass
class Azure:
    """A workspace's resources by path, operations under way, blobs, and what was asked."""

    port: int = 0
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)  # image: why its deployment fails
    looks: int = 2  # until a change is done
    history: list[dict[str, int]] = field(default_factory=list)  # of the traffic
    lock: threading.Lock = field(default_factory=threading.Lock)

    def create_endpoint(self, auth: str = "AADToken") -> None:
        """As `az ml online-endpoint create` would."""
        properties = {"authMode": auth, "traffic": {}, "mirrorTraffic": {}, "publicNetworkAccess": "Enabled"}
        properties |= {"provisioningState": "Succeeded", "scoringUri": "https://delay.example.com/invocations"}
        self.resources[ENDPOINT] = {
            "id": ENDPOINT,
            "name": "delay",
            "location": "westeurope",
            "identity": {
                **IDENTITY,
                "principalId": "made by Azure",
                "userAssignedIdentities": {"/me": {"clientId": "1"}},
            },
            "tags": {"project": "flight-delays"},
            "properties": properties,
        }

    @property
    def endpoint(self) -> dict[str, Any]:
        found: dict[str, Any] = self.resources[ENDPOINT]["properties"]
        return found

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {
            path.removeprefix(DEPLOYMENT): one for path, one in self.resources.items() if path.startswith(DEPLOYMENT)
        }

    @property
    def changes(self) -> list[str]:
        """What was asked for, but for looking."""
        return [
            one.replace(f"{ENDPOINT}/", "").replace(f"{PATH}/", "") for one in self.asked if not one.startswith("GET")
        ]

    def handle(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        """Status, headers, body."""
        if path.startswith("/operations/"):
            return 200, {}, self._operation(path)
        if path.endswith("/listKeys"):
            return 200, {}, {"primaryKey": "a key", "secondaryKey": "another"}
        if path.endswith("/token"):
            return 200, {}, {"accessToken": "a token of the workspace"}
        if path == f"{ENDPOINT}/deployments":
            self._get(ENDPOINT)
            self._pass_time()
            return self._page()
        if method == "GET":
            return 200, {}, self._get(path)
        if path.startswith(f"{PATH}/environments/") or path.startswith(f"{PATH}/models/"):
            if path in self.resources and self.resources[path]["properties"] != body["properties"]:
                raise RefusedError(409, "the version exists", "Conflict")
            self.resources[path] = body
            return 201, {}, body
        if path == ENDPOINT or path.startswith(DEPLOYMENT):
            return self._change(method, path, body)
        raise RefusedError(404, f"no route {method} {path}", "NotFound")

    def _page(self) -> tuple[int, dict[str, str], Any]:
        return 200, {}, {"value": [*self.deployments().values()]}

    def _get(self, path: str) -> dict[str, Any]:
        if path not in self.resources:
            raise RefusedError(404, f"{path.rpartition('/')[2]} was not found", "ResourceNotFound")
        return self.resources[path]

    def _change(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        endpoint = self._get(ENDPOINT)
        if {"Creating", "Updating", "Deleting"} & {
            one["properties"]["provisioningState"] for one in (endpoint, *self.deployments().values())
        }:
            raise RefusedError(409, "another operation is in progress", "Conflict")
        if method == "DELETE":
            name, given = path.removeprefix(DEPLOYMENT), endpoint["properties"]
            if given["traffic"].get(name) or given["mirrorTraffic"].get(name):
                raise RefusedError(400, f"deployment {name} has traffic")
            self._get(path)["properties"]["provisioningState"] = "Deleting"
        elif path == ENDPOINT:
            self._check_traffic(body["properties"])
            assert body.keys() == {"location", "tags", "identity", "properties"}
            assert body["identity"] == {**IDENTITY, "userAssignedIdentities": {"/me": {}}}
            assert not {"scoringUri", "provisioningState"} & body["properties"].keys()
            self.history.append({name: share for name, share in body["properties"]["traffic"].items() if share})
            uri = endpoint["properties"]["scoringUri"]
            properties = {**body["properties"], "scoringUri": uri, "provisioningState": "Updating"}
            self.resources[ENDPOINT] = {**body, **endpoint, "properties": properties}
        else:
            self._check_deployment(body)
            was = "Updating" if path in self.resources else "Creating"
            properties = {**body["properties"], "provisioningState": was}
            self.resources[path] = {**body, "id": path, "name": path.removeprefix(DEPLOYMENT), "properties": properties}
        operation = f"/operations/{len(self.operations)}"
        self.operations[operation] = {"path": path, "deletes": method == "DELETE", "left": self.looks}
        headers = {"Azure-AsyncOperation": f"https://{MANAGEMENT}{operation}?api-version=2025-12-01"}
        return (202, headers, None) if method == "DELETE" else (201, headers, self.resources[path])

    def _check_traffic(self, properties: dict[str, Any]) -> None:
        traffic, mirror = properties["traffic"], properties["mirrorTraffic"]
        known = {name: one["properties"]["provisioningState"] for name, one in self.deployments().items()}
        if sum(traffic.values()) not in (0, 100):
            raise RefusedError(400, "traffic must add up to 0 or 100")
        for name in (*traffic, *mirror):
            if known.get(name) != "Succeeded":
                raise RefusedError(400, f"deployment {name} is not ready for traffic")
        if len(mirror) > 1 or sum(mirror.values()) > 50 or {n for n, share in traffic.items() if share} & mirror.keys():
            raise RefusedError(400, "one deployment without traffic can get copies, of at most 50 %")

    def _check_deployment(self, body: Any) -> None:
        properties = body["properties"]
        environment = self.resources.get(properties["environmentId"])
        if environment is None:
            raise RefusedError(400, f"no environment {properties['environmentId']}")
        if body["sku"]["capacity"] < 1:
            raise RefusedError(400, "an instance at least")

    def _operation(self, path: str) -> dict[str, Any]:
        found = self.operations[path]
        self._pass_time()
        if found["left"] > 0:
            return {"status": "InProgress"}
        why = self._why_broken(self.resources.get(found["path"], {}))
        return {"status": "Failed", "error": {"code": "X", "message": why}} if why else {"status": "Succeeded"}

    def _pass_time(self) -> None:
        for one in self.operations.values():
            one["left"] -= 1
            if one["left"] == 0:
                self.finish(one)

    def finish(self, operation: dict[str, Any]) -> None:
        """What an operation has done in the end."""
        path = operation["path"]
        operation["left"] = 0
        if operation["deletes"]:
            self.resources.pop(path, None)
        elif path in self.resources:
            state = "Failed" if self._why_broken(self.resources[path]) else "Succeeded"
            self.resources[path]["properties"]["provisioningState"] = state

    def finish_all(self) -> None:
        """All operations under way."""
        for one in self.operations.values():
            if one["left"] > 0:
                self.finish(one)

    def _why_broken(self, resource: dict[str, Any]) -> str:
        return self.broken.get(resource.get("tags", {}).get("image", ""), "")


@contextmanager
def azure() -> Iterator[Azure]:
    """Azure, with a workspace and no endpoint."""
    found = Azure()
    store = {"accountName": "flightsstore", "containerName": "models", "endpoint": "core.windows.net"}
    found.resources[f"{PATH}/datastores/workspaceblobstore"] = {"properties": store}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer is one packet

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            url, host = urlsplit(self.path), self.headers["x-host"]
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with found.lock:
                found.asked.append(f"{self.command} {url.path if host == MANAGEMENT else self.path}")
                fault = next(
                    (f for f in found.faults if f.times and f.method == self.command and re.search(f.path, url.path)),
                    None,
                )
                if fault is not None:
                    fault.times -= 1
                if fault is not None and fault.status:
                    error = {"error": {"code": "Injected", "message": fault.message}}
                    return self._send(fault.status, fault.headers, error)
                if host == BLOBS:
                    status, headers, answer = self._blob(url.path, raw)
                else:
                    status, headers, answer = self._managed(url, raw)
            if fault is None:
                return self._send(status, headers, answer)
            self.close_connection = True
            self.connection.close()
            return None

        def _blob(self, path: str, raw: bytes) -> tuple[int, dict[str, str], Any]:
            if self.headers["Authorization"] != "Bearer token for https://storage.azure.com/.default":
                return 403, {}, None
            assert self.headers["x-ms-blob-type"] == "BlockBlob" and self.headers["x-ms-version"]
            found.blobs[path] = raw
            return 201, {}, None

        def _managed(self, url: Any, raw: bytes) -> tuple[int, dict[str, str], Any]:
            assert self.headers["x-host"] == MANAGEMENT
            if self.headers["Authorization"] != "Bearer token for https://management.azure.com/.default":
                return 401, {}, {"error": {"code": "AuthenticationFailed", "message": "no token"}}
            if parse_qs(url.query).get("api-version") != ["2025-12-01"]:
                return 400, {}, {"error": {"code": "NoApiVersion", "message": "no api-version"}}
            try:
                return found.handle(self.command, url.path, json.loads(raw) if raw else None)
            except RefusedError as error:
                return error.status, {}, {"error": {"code": error.code, "message": str(error)}}

        def _send(self, status: int, headers: dict[str, str], answer: Any) -> None:
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
