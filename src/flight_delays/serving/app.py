"""The app: MLflow's scoring protocol, look-up of precomputed predictions, probes and metrics.

What a caller did wrong is a 4xx with the column and the reason. A traceback is never sent, nor what the caller sent.
"""

import asyncio
import hmac
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from time import perf_counter
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flight_delays.core.scoring_request import BadRequestError, ScoringRequest
from flight_delays.core.traffic import CHAMPION
from flight_delays.platform.online_table import ONLINE_STORE, NoTableError, OnlineStore
from flight_delays.platform.precomputed import NO_TABLE, NOT_FOUND, find_prediction
from flight_delays.serving.configuration import Settings
from flight_delays.serving.openapi import document
from flight_delays.serving.payloads import Payload, PayloadLog
from flight_delays.serving.service import Entity, Service
from flight_delays.serving.telemetry import Metrics

BODY_TIMEOUT_S = 10
INLINE_BYTES = 16 * 1024  # a longer body takes longer to read than a thread to start
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
_LOG = logging.getLogger(__name__)


class _RefusedError(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def create_app(
    service: Service,
    settings: Settings,
    payloads: PayloadLog | None,
    *,
    precomputed: OnlineStore | None = None,
    draw: Callable[[], float] = random.random,
) -> FastAPI:
    """The app of one endpoint. It closes `payloads` when it ends; `draw` gives numbers from 0 to below 1.

    `precomputed` is where predictions made beforehand are looked up, as predictions_store makes it.
    """
    metrics = Metrics(payloads)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if payloads:
            await run_in_threadpool(payloads.close)

    app = FastAPI(
        title=f"Scoring service of {service.endpoint}",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_error, _RefusedError: _refusal},
    )
    app.openapi = lambda: document(app, service, settings)  # type: ignore[method-assign]  # as FastAPI documents
    in_flight = 0

    def authenticate(request: Request) -> None:
        if settings.tokens is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip().encode()
        known = [hmac.compare_digest(given, accepted.encode()) for accepted in settings.tokens]
        if scheme.lower() != "bearer" or not any(known):
            raise _RefusedError(
                401, "the request needs the header `authorization: Bearer <token>` with a token that is known"
            )

    @contextmanager
    def place() -> Iterator[None]:
        """One of max_concurrency, if one is free."""
        nonlocal in_flight
        if in_flight >= settings.max_concurrency:
            metrics.answered(None, 429, 0)
            raise _RefusedError(429, f"{settings.max_concurrency} requests are being answered; try again in a second")
        in_flight += 1
        metrics.in_flight.set(in_flight)
        try:
            yield
        finally:
            in_flight -= 1
            metrics.in_flight.set(in_flight)

    async def scored(request: Request, choose: Callable[[], Entity], *, fall_back: bool) -> Response:
        started, entity = perf_counter(), None
        with place():
            try:
                authenticate(request)
                body = await _body(request, settings.max_body_bytes)
                entity = choose()
                champion = service.named(CHAMPION) if fall_back else None
                response, entity = await answered(entity, champion, body, started)
            except _RefusedError as refused:
                response = _error(refused.status, str(refused))
        metrics.answered(entity, response.status_code, perf_counter() - started)
        return response

    async def answered(entity: Entity, champion: Entity | None, body: bytes, started: float) -> tuple[Response, Entity]:
        request_id, client_id, time = uuid4().hex, None, datetime.now(tz=UTC)

        def kept(response: Response, by: Entity) -> Response:
            response.headers["x-request-id"] = request_id
            if payloads:
                duration_ms = (perf_counter() - started) * 1000
                payloads.add(
                    Payload(
                        id=request_id,
                        client_id=client_id,
                        time=time,
                        status=response.status_code,
                        duration_ms=duration_ms,
                        request=body,
                        response=bytes(response.body),
                        entity_id=by.id,
                    )
                )
            return response

        try:
            parse = entity.loaded.parser.parse
            parsed = parse(body) if len(body) <= INLINE_BYTES else await run_in_threadpool(parse, body)
        except BadRequestError as error:
            return kept(_error(400, str(error)), entity), entity
        client_id = parsed.client_request_id
        while True:
            try:
                return kept(await predictions(entity, parsed), entity), entity
            except ConnectionError as error:
                metrics.store_failed(parsed.rows)
                return kept(_error(503, f"{error}; try again, or send the looked-up columns yourself"), entity), entity
            except Exception:  # a model may raise whatever it likes
                _LOG.exception("%s, version %s, failed on request %s", entity.name, entity.version, request_id)
                metrics.failed(entity)
                failure = kept(
                    _error(500, f"the model failed on this request; its id in the log is {request_id}"), entity
                )
                if champion is None or entity.name == CHAMPION:
                    return failure, entity
                # What a challenger gets wrong nobody should notice: the champion answers.
                entity, request_id = champion, uuid4().hex

    async def predictions(entity: Entity, parsed: ScoringRequest) -> Response:
        answers, lookup = await entity.loaded.answer(parsed)
        metrics.looked_up(lookup)
        return _json(200, {"predictions": answers}, {"served-model-name": entity.name})

    def any_entity() -> Entity:
        found = service.route(draw())
        if found is None:
            raise _RefusedError(503, "no version is served yet; try again when /ready answers with 200")
        return found

    async def invocations(request: Request) -> Response:
        return await scored(request, any_entity, fall_back=True)

    async def invocations_of(request: Request) -> Response:
        def chosen() -> Entity:
            found = service.named(request.path_params["name"])
            if found is None:
                raise _RefusedError(404, "no version is served under this name; /version lists those that are")
            return found

        return await scored(request, chosen, fall_back=False)  # who asks for one wants to know how it does

    async def prediction_of(request: Request) -> Response:
        with place():
            authenticate(request)
            if precomputed is None:
                raise _RefusedError(
                    503, f"no online store to look predictions up in; set {ONLINE_STORE} to its address"
                )
            try:
                found = await find_prediction(precomputed, request.path_params["entity_id"])
            except NoTableError:
                metrics.precomputed("not_found")
                raise _RefusedError(404, NO_TABLE) from None
            except ConnectionError as error:
                metrics.precomputed("failed")
                raise _RefusedError(503, f"{error}; try again") from None
        metrics.precomputed("found" if found else "not_found")
        if found is None:
            raise _RefusedError(404, NOT_FOUND)
        return _json(200, found.as_json())

    # Plain routes: what FastAPI would check of a request is checked already. openapi.py describes them.
    app.add_route("/invocations", invocations, methods=["POST"])
    app.add_route("/served-models/{name}/invocations", invocations_of, methods=["POST"])
    app.add_route("/predictions/{entity_id}", prediction_of, methods=["GET"])

    @app.get("/ping", summary="Whether the process answers")
    @app.get("/health", summary="Whether the process answers")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Whether a version is served")
    async def ready() -> dict[str, str]:
        any_entity()
        return {"status": "ready"}

    @app.get("/version", summary="The served versions and their share of the traffic")
    async def version(request: Request) -> dict[str, object]:
        authenticate(request)
        entities = [
            {name: getattr(entity, name) for name in ("name", "model_name", "version", "percentage")}
            for entity in service.entities
        ]
        return {"endpoint": service.endpoint, "served_entities": entities}

    @app.get("/metrics", summary="Counters and histograms in Prometheus' text format")
    async def exported(request: Request) -> Response:
        authenticate(request)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


async def _body(request: Request, limit: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _RefusedError(415, "the content type must be application/json")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _RefusedError(413, f"the body has more than {limit:,} bytes")
                parts.append(part)
    except ClientDisconnect:
        raise _RefusedError(400, "the connection was closed before the body was whole") from None
    except TimeoutError:
        raise _RefusedError(408, f"the body was not whole within {BODY_TIMEOUT_S} seconds") from None
    return b"".join(parts)


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, headers, "application/json")


def _error(status: int, message: str) -> Response:
    unread = {"connection": "close"}
    headers = {429: {"retry-after": "1"}, 401: {"www-authenticate": "Bearer"}, 408: unread, 413: unread}.get(status)
    return _json(status, {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": message}, headers)


async def _refusal(_: Request, refused: _RefusedError) -> Response:
    return _error(refused.status, str(refused))


async def _http_error(_: Request, error: HTTPException) -> Response:
    response = _error(error.status_code, f"{error.detail}: see /openapi.json for what there is")
    response.headers.update(error.headers or {})
    return response
