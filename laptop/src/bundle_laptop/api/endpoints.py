"""Serving endpoints: https://docs.databricks.com/api/workspace/servingendpoints

- An endpoint serves versions of registered models in this process: there is no container to build, so an update takes
  seconds. What has no counterpart here (external models, provisioned throughput, permissions, build logs) is refused.
- An update that is cut off by a kill of this process is forgotten: what served before serves again.
- Served entities get a new id with every configuration, also where only the traffic changes.
- After a start an endpoint is as if scaled to zero: its first request waits until its versions are loaded again. It is
  ready until that fails.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from threading import Lock
from time import perf_counter
from typing import TypeAlias
from uuid import uuid4

from pydantic import ValidationError

from bundle_laptop.api.endpoints_api import AiGateway, Config, Endpoint, NewEndpoint, Pending, TagChange, shown
from bundle_laptop.api.payloads import PayloadLog, row_of
from bundle_laptop.api.scoring import Loader, Scored, Scorer
from bundle_laptop.api.secret_scopes import Secrets
from bundle_laptop.api.state import StateFile
from bundle_laptop.api.tables import record_served_entities
from bundle_laptop.api.web import Answer, ApiError, Request, Route, Tree, exists, invalid, missing
from bundle_laptop.errors import LaptopError

MAX_BODY_BYTES = 16 * 1024 * 1024
"""https://learn.microsoft.com/azure/databricks/machine-learning/model-serving/model-serving-limits"""

_API = "/api/2.0/serving-endpoints"
_Key: TypeAlias = tuple[object, ...]


@dataclass(kw_only=True)
class _Live:
    """An endpoint with its loaded versions, and the update under way, or that failed last."""

    endpoint: Endpoint
    scorers: Mapping[str, Scorer] = field(default_factory=dict)  # by the name of the entity
    loaded: Mapping[_Key, Scorer] = field(default_factory=dict)
    pending: Pending | None = None
    trouble: str | None = None

    def show(self) -> Tree:
        return shown(self.endpoint, self.pending, self.trouble)


class Endpoints:
    """The endpoints of a world. Those that its file knows serve again. Raises LaptopError for a file of others."""

    def __init__(
        self, folder: Path, loader: Loader, secrets: Secrets, payloads: PayloadLog, draw: Callable[[], float]
    ) -> None:
        self._folder, self._loader, self._draw = folder, loader, draw
        self._secrets, self._payloads = secrets, payloads
        self._file, self._lock = StateFile(folder / "api" / "endpoints.json", "serving endpoint"), Lock()
        self._loading = Lock()  # one load at a time
        self._updates = ThreadPoolExecutor(1, thread_name_prefix="endpoint-update")
        self._live = {name: _Live(endpoint=endpoint) for name, endpoint in self._read().items()}

    def close(self) -> None:
        """Wait for updates under way."""
        self._updates.shutdown()

    def routes(self) -> list[Route]:
        """What this answers."""
        scoring = "/serving-endpoints/{name}"
        return [
            ("GET", _API, self._list),
            ("POST", _API, self._create),
            ("GET", _API + "/{name}", self._get),
            ("DELETE", _API + "/{name}", self._delete),
            ("PUT", _API + "/{name}/config", lambda request: self._update(request["name"], request.body(Config))),
            ("PATCH", _API + "/{name}/tags", self._tag),
            ("PUT", _API + "/{name}/ai-gateway", self._set_ai_gateway),
            ("POST", scoring + "/invocations", self._score),
            ("POST", scoring + "/served-models/{entity}/invocations", self._score),
        ]

    @contextmanager
    def _held(self, name: str) -> Iterator[_Live]:
        """An endpoint that nobody else changes meanwhile. Raises ApiError if there is none."""
        with self._lock:
            if name not in self._live:
                raise missing(f"there is no serving endpoint {name}")
            yield self._live[name]

    def _get(self, request: Request) -> Tree:
        with self._held(request["name"]) as live:
            return live.show()

    def _list(self, _: Request) -> Tree:
        with self._lock:
            return {"endpoints": [self._live[name].show() for name in sorted(self._live)]}

    def _create(self, request: Request) -> Tree:
        body = request.body(NewEndpoint)
        if body.config:
            self._check(body.config)
        now = _now_ms()
        fields = body.model_dump(exclude={"config"})
        endpoint = Endpoint(**fields, id=uuid4().hex, creation_timestamp=now, last_updated_timestamp=now)
        if endpoint.inference_table:
            self._payloads.create(endpoint.inference_table)
        with self._lock:
            if body.name in self._live:
                raise exists(f"serving endpoint {body.name} exists already")
            self._write(endpoint)
            live = self._live[body.name] = _Live(endpoint=endpoint)
        return self._update(body.name, body.config) if body.config else live.show()

    def _delete(self, request: Request) -> Tree:
        with self._held(request["name"]) as live:
            name = live.endpoint.name
            self._file.remove(name)
            del self._live[name]
        return {}

    def _tag(self, request: Request) -> Tree:
        change = request.body(TagChange)
        with self._held(request["name"]) as live:
            self._change(live, tags=change.apply(live.endpoint.tags))
            return {"tags": [tag.model_dump() for tag in live.endpoint.tags]}

    def _set_ai_gateway(self, request: Request) -> Tree:
        settings = request.body(AiGateway)
        with self._held(request["name"]) as live:
            if table := live.endpoint.model_copy(update={"ai_gateway": settings}).inference_table:
                self._payloads.create(table)
            self._change(live, ai_gateway=settings)
        return settings.model_dump(mode="json", exclude_none=True)

    def _update(self, name: str, config: Config) -> Tree:
        """Begin to serve `config`; until its versions are loaded, what serves goes on."""
        self._check(config)
        with self._held(name) as live:
            if live.pending and not live.pending.failure:
                raise ApiError(409, "RESOURCE_CONFLICT", f"serving endpoint {name} is being updated; wait until it is")
            version = live.endpoint.config_version + 1
            live.pending = pending = Pending(config=config, config_version=version, start_time=_now_ms())
            self._updates.submit(self._apply, live, pending)
            return live.show()

    def _apply(self, live: _Live, pending: Pending) -> None:
        """Whatever fails on the way, what served before still does."""
        config, version, name = pending.config, pending.config_version, live.endpoint.name
        try:
            with self._loading:
                loaded = self._load(config, live.loaded)
            ids = {entity.name: uuid4().hex for entity in config.served_entities}
            # Before it serves: a logged request can always be told to be of a version.
            record_served_entities(self._folder, name, config, version, ids)
            with self._lock:
                if self._live.get(name) is live:
                    self._change(live, config=config, config_version=version, entity_ids=ids)
                    self._serve(live, loaded)
                    live.pending = None
        except Exception as error:  # whatever a model or a table may raise
            with self._lock:
                live.pending = replace(pending, failure=self._line(error))

    def _restore(self, live: _Live) -> None:
        """Load what the endpoint served when the server stopped."""
        with self._loading:
            config = live.endpoint.config
            if live.scorers or not config:
                return  # another request has loaded it
            try:
                loaded, trouble = self._load(config, {}), None
            except LaptopError as error:
                loaded, trouble = {}, str(error)
            with self._lock:
                if live.endpoint.config is config:
                    self._serve(live, loaded, trouble)

    def _serve(self, live: _Live, loaded: Mapping[str, tuple[_Key, Scorer]], trouble: str | None = None) -> None:
        live.loaded = dict(loaded.values())
        live.scorers = {name: scorer for name, (_, scorer) in loaded.items()}
        live.trouble = trouble

    def _load(self, config: Config, known: Mapping[_Key, Scorer]) -> dict[str, tuple[_Key, Scorer]]:
        """The scorer of each entity by its name; one that is `known` is not loaded again."""
        found: dict[str, tuple[_Key, Scorer]] = {}
        for entity in config.served_entities:
            model, version = entity.entity_name, int(entity.entity_version)
            try:
                environment = {name: self._secrets.resolve(value) for name, value in entity.environment_vars.items()}
                key = (model, version, *sorted(environment.items()))
                others = dict(found.values())
                scorer = known.get(key) or others.get(key) or self._loader(model, version, environment)
            except Exception as error:  # whatever a model may raise
                why = f"{entity.name}: {model} version {version} cannot be loaded: {self._line(error)}"
                raise LaptopError(why) from error
            found[entity.name] = key, scorer
        return found

    def _score(self, request: Request) -> Answer:
        with self._held(request["name"]) as live:
            needs_loading = live.endpoint.config and not live.scorers
        if needs_loading:
            self._restore(live)
        with self._lock:
            endpoint, scorers, why = live.endpoint, live.scorers, live.trouble or "release one"
        if not endpoint.config or not scorers:
            raise ApiError(400, "INVALID_STATE", f"serving endpoint {endpoint.name} serves no version; {why}")
        entity = request.parameters.get("entity") or choose(endpoint.config.shares, self._draw())
        if entity not in scorers:
            raise missing(f"serving endpoint {endpoint.name} has no served entity {entity}")
        if request.size > MAX_BODY_BYTES:
            raise ApiError(413, "REQUEST_TOO_LARGE", f"the body has more than {MAX_BODY_BYTES:,} bytes")
        body, request_id, now, started = request.content.read(), uuid4().hex, datetime.now(tz=UTC), perf_counter()
        scored = _scored(scorers[entity], body, request.headers.get("content-type", ""))
        response = scored.text.encode()
        if endpoint.inference_table:
            row = row_of(
                request_id=request_id,
                time=now,
                status=scored.status,
                duration_ms=(perf_counter() - started) * 1000,
                request=body,
                response=response,
                entity_id=endpoint.entity_ids[entity],
            )
            self._payloads.add(endpoint.inference_table, row)
        headers = {"served-model-name": entity, "x-request-id": request_id, "databricks-request-id": request_id}
        return Answer(status=scored.status, body=response, headers={**headers, "Content-Type": scored.content_type})

    def _check(self, config: Config) -> None:
        for entity in config.served_entities:
            for name, value in entity.environment_vars.items():
                try:
                    self._secrets.resolve(value)
                except ValueError as error:
                    raise invalid(f"{entity.name}: environment_vars: {name}: {error}") from None

    def _change(self, live: _Live, **fields: object) -> None:
        endpoint = live.endpoint.model_copy(update={**fields, "last_updated_timestamp": _now_ms()})
        self._write(endpoint)
        live.endpoint = endpoint

    def _write(self, endpoint: Endpoint) -> None:
        self._file.change(lambda endpoints: endpoints.update({endpoint.name: endpoint.model_dump(mode="json")}))

    def _read(self) -> dict[str, Endpoint]:
        try:
            return {name: Endpoint.model_validate(endpoint) for name, endpoint in self._file.read().items()}
        except ValidationError as error:
            what = f"{self._file.file}: not as it was written ({error.errors()[0]['msg']})"
            raise LaptopError(f"{what}; delete it, then release again") from None

    def _line(self, error: Exception) -> str:
        text = str(error) if isinstance(error, LaptopError) else f"{type(error).__name__}: {error}"
        return shorten(self._secrets.hide(text), 300)


def choose(shares: Mapping[str, int], draw: float) -> str:
    """Whose turn it is, for a number drawn from 0 to below 1; `shares` sum to 100."""
    reached = 0
    for name, share in shares.items():
        reached += share
        if draw * 100 < reached:
            return name
    raise ValueError(f"shares {shares} sum to less than 100")


def _scored(scorer: Scorer, body: bytes, content_type: str) -> Scored:
    try:
        return scorer(body, content_type)
    except Exception as error:  # an answer that MLflow can't write as JSON, for one
        text = json.dumps({"error_code": "INTERNAL_ERROR", "message": f"{type(error).__name__}: {error}"})
        return Scored(status=500, content_type="application/json", text=text)


def _now_ms() -> int:
    return int(time.time() * 1000)
