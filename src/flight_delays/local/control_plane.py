"""The serving-endpoints API on a laptop: what the unmodified WorkspaceClient, and so the release job, talks to.

It differs from the real service in these ways:
- Any bearer token is let in, and whoever comes may do anything. It listens on 127.0.0.1 only.
- An endpoint serves versions of registered models, each under a name of its own, in this process: there is no container
  to build, so an update takes seconds. Workload size and scale to zero are kept and have no effect. What has no
  counterpart here (external models, provisioned throughput, GPUs, permissions, build logs) is refused.
- Rate limits, usage tracking and fallback of the AI Gateway are kept and have no effect.
- An update that is cut off by a kill of this process is forgotten: what served before serves again.
- Served entities get a new id with every configuration, also where only the traffic changes.

Requests, and the export of metrics, are answered by the endpoint's own `serving` app: nothing is scored here.
"""

import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import sleep

import uvicorn
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from flight_delays.core.errors import UserError
from flight_delays.local.endpoints_api import ServedEntityRow
from flight_delays.local.live_endpoints import ApiError, LiveEndpoints, Loader
from flight_delays.local.yaml_file import Tree
from flight_delays.serving.service import Service

_ROUTE = "/api/2.0/serving-endpoints"
_DISCOVERY = "/.well-known/databricks-config"  # the SDK asks it before it has a token to show
_SCORING = (
    re.compile(r"/serving-endpoints/([\w-]+)(/invocations)"),
    re.compile(r"/serving-endpoints/([\w-]+)(/served-models/[\w-]+/invocations)"),
    re.compile(r"/api/2\.0/serving-endpoints/([\w-]+)(/metrics)"),
)
"""Paths that an endpoint's own app answers: of which endpoint, and the app's own path."""


@contextmanager
def serve_in_background(
    local_dir: Path,
    loader: Loader,
    make_app: Callable[[Service], FastAPI],
    *,
    secrets: Mapping[str, str],
    on_served: Callable[[Sequence[ServedEntityRow]], None],
    port: int = 0,
) -> Iterator[str]:
    """The control plane's address on `port`, or on a free one; requests in flight and updates under way are finished.

    `make_app` makes the app that scores for an endpoint; `secrets` has the value of each `scope/key`; `on_served` is
    told each configuration in a thread of its own, before it serves. Raises UserError if the port is taken.
    """
    with listening(control_plane(LiveEndpoints(local_dir, loader, make_app, secrets, on_served)), port) as address:
        yield address


@contextmanager
def listening(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The address of an app that is served by a thread, on `port` or a free one; its last requests are finished."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} of 127.0.0.1 cannot be had: {error.strerror}; give another") from error
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        with ThreadPoolExecutor(1, thread_name_prefix="control-plane") as thread:
            ended = thread.submit(server.run, [listener])
            try:
                while not server.started and not ended.done():
                    sleep(0.01)
                if ended.done():
                    raise UserError("the control plane did not start; what is logged above says why")
                yield address
            finally:
                server.should_exit = True


def control_plane(endpoints: LiveEndpoints) -> ASGIApp:
    """The API, and the scoring of each endpoint beside it."""
    api = _api(endpoints)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await api(scope, receive, send)
            return
        if scope["path"] != _DISCOVERY and not _has_token(scope):
            await _error(401, "UNAUTHENTICATED", "no bearer token; any will do")(scope, receive, send)
            return
        for pattern in _SCORING:
            if match := pattern.fullmatch(scope["path"]):
                try:
                    app = endpoints.find(match[1]).app
                except ApiError as error:
                    await _error(error.status, error.code, str(error))(scope, receive, send)
                    return
                await app({**scope, "path": match[2], "raw_path": match[2].encode()}, receive, send)
                return
        await api(scope, receive, send)

    return answer


def _api(endpoints: LiveEndpoints) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await endpoints.start()
        yield
        await run_sync(endpoints.finish)
        await endpoints.stop()

    api = FastAPI(title="Serving endpoints", lifespan=lifespan)
    for method, path, answer in (
        ("GET", _DISCOVERY, _discovered),
        ("GET", _ROUTE, endpoints.list),
        ("POST", _ROUTE, endpoints.create),
        ("GET", _ROUTE + "/{name}", endpoints.get),
        ("PUT", _ROUTE + "/{name}/config", endpoints.update),
        ("PATCH", _ROUTE + "/{name}/tags", endpoints.tag),
        ("PUT", _ROUTE + "/{name}/ai-gateway", endpoints.set_ai_gateway),
        ("DELETE", _ROUTE + "/{name}", endpoints.delete),
    ):
        api.add_api_route(path, answer, methods=[method], response_model=None)

    @api.exception_handler(ApiError)
    def refused(_: Request, error: ApiError) -> JSONResponse:
        return _error(error.status, error.code, str(error))

    @api.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(400, "INVALID_PARAMETER_VALUE", _first_line(error))

    @api.exception_handler(HTTPException)
    def unknown(_: Request, error: HTTPException) -> JSONResponse:
        code = "ENDPOINT_NOT_FOUND" if error.status_code == 404 else "BAD_REQUEST"
        return _error(error.status_code, code, f"{error.detail}: the laptop's control plane has no such route")

    return api


def _discovered() -> Tree:
    return {"oidc_endpoint": ""}


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error_code": code, "message": message}, status)


def _first_line(error: RequestValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    said = str(first.get("ctx", {}).get("error", first["msg"]))
    return f"{field}: {said}" if field else said


def _has_token(scope: Scope) -> bool:
    given = dict(scope["headers"]).get(b"authorization", b"")
    return given[:7].lower() == b"bearer " and len(given) > 7
