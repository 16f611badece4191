"""Serving endpoints: https://docs.databricks.com/api/workspace/servingendpoints

- An endpoint serves versions of registered models in this process: there is no container to build, so an update takes
  seconds. What has no counterpart here (external models, provisioned throughput, permissions, build logs) is refused.
- An update that is cut off by a kill of this process is forgotten: what served before serves again.
- Served entities get a new id with every configuration, also where only the traffic changes.
- After a start an endpoint is as if scaled to zero: its first request waits until its versions are loaded again.
"""

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from textwrap import shorten
from threading import Lock
from typing import TypeAlias
from uuid import uuid4

from pydantic import ValidationError

from bundle_laptop.api.endpoints_api import Config, Endpoint, NewEndpoint, Pending, shown
from bundle_laptop.api.scoring import Loader, Scored, Scorer
from bundle_laptop.api.secret_scopes import Secrets
from bundle_laptop.api.state import StateFile
from bundle_laptop.api.tables import PayloadLog, payload, record_served_entities
from bundle_laptop.api.web import Answer, ApiError, Request, Route, Tree, exists, invalid, missing
from bundle_laptop.errors import LaptopError

MAX_BODY_BYTES = 16 * 1024 * 1024
"""https://learn.microsoft.com/azure/databricks/machine-learning/model-serving/model-serving-limits"""

_API = "/api/2.0/serving-endpoints"
_Loaded: TypeAlias = Mapping[str, tuple[tuple[object, ...], Scorer]]
"""By the name of an entity what was loaded (model, version, environment), and its scorer."""


@dataclass(kw_only=True)
class _Live:
    """An endpoint with its loaded versions, and the update under way, or that failed last."""

    endpoint: Endpoint
    loaded: _Loaded = field(default_factory=dict)
    pending: Pending | None = None


class Endpoints:
    """The endpoints of a world. Those that its file knows serve again. Raises LaptopError for a file of others."""

    def __init__(
        self, folder: Path, loader: Loader, secrets: Secrets, payloads: PayloadLog, draw: Callable[[], float]
    ) -> None:
        self._folder, self._loader, self._draw = folder, loader, draw
        self._secrets, self._payloads = secrets, payloads
        file = folder / "api" / "endpoints.json"
        self._file, self._lock = StateFile(file, "serving endpoint"), Lock()
        self._loading = Lock()  # one load at a time
        self._updates = ThreadPoolExecutor(1, thread_name_prefix="endpoint-update")
        try:
            known = {name: Endpoint.model_validate(endpoint) for name, endpoint in self._file.read().items()}
        except ValidationError as error:
            what = f"{file}: not as it was written ({error.errors()[0]['msg']})"
            raise LaptopError(f"{what}; delete it, then release again") from None
        self._live = {name: _Live(endpoint=endpoint) for name, endpoint in known.items()}

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
            return shown(live.endpoint, live.pending)

    def _list(self, _: Request) -> Tree:
        with self._lock:
            return {"endpoints": [shown(live.endpoint, live.pending) for _, live in sorted(self._live.items())]}

    def _create(self, request: Request) -> Tree:
        body, now = request.body(NewEndpoint), _now_ms()
        if body.config:
            self._check(body.config)
        fields = body.model_dump(exclude={"config"})
        endpoint = Endpoint(**fields, id=uuid4().hex, creation_timestamp=now, last_updated_timestamp=now)
        if endpoint.inference_table:
            self._payloads.create(endpoint.inference_table)
        with self._lock:
            if body.name in self._live:
                raise exists(f"serving endpoint {body.name} exists already")
            self._live[body.name] = _Live(endpoint=endpoint)
            self._change(self._live[body.name])
        return self._update(body.name, body.config) if body.config else shown(endpoint, None)

    def _delete(self, request: Request) -> Tree:
        with self._held(request["name"]):
            self._file.remove(request["name"])
            del self._live[request["name"]]
        return {}

    def _check(self, config: Config) -> None:
        for entity in config.served_entities:
            for name, value in entity.environment_vars.items():
                try:
                    self._secrets.resolve(value)
                except ValueError as error:
                    raise invalid(f"{entity.name}: environment_vars: {name}: {error}") from None

    def _update(self, name: str, config: Config) -> Tree:
        """Begin to serve `config`; until its versions are loaded, what serves goes on."""
        self._check(config)
        with self._held(name) as live:
            if live.pending and not live.pending.failure:
                raise ApiError(409, "RESOURCE_CONFLICT", f"serving endpoint {name} is being updated; wait until it is")
            live.pending = Pending(config=config, config_version=live.endpoint.config_version + 1)
            self._updates.submit(self._apply, live, live.pending)
            return shown(live.endpoint, live.pending)

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
                    live.loaded, live.pending = loaded, None
        except Exception as error:  # whatever a model or a table may raise
            with self._lock:
                live.pending = replace(pending, failure=self._line(error))

    def _change(self, live: _Live, **fields: object) -> None:
        endpoint = live.endpoint.model_copy(update={**fields, "last_updated_timestamp": _now_ms()})
        self._file.change(lambda endpoints: endpoints.update({endpoint.name: endpoint.model_dump(mode="json")}))
        live.endpoint = endpoint

    def _load(self, config: Config, known: _Loaded) -> _Loaded:
        """What each entity serves; what is `known` is not loaded again. Raises LaptopError for what cannot be."""
        found, scorers = {}, dict(known.values())
        for entity in config.served_entities:
            model, version = entity.entity_name, int(entity.entity_version)
            try:
                environment = {name: self._secrets.resolve(value) for name, value in entity.environment_vars.items()}
                key = (model, version, *sorted(environment.items()))
                scorers[key] = scorers.get(key) or self._loader(model, version, environment)
            except Exception as error:  # whatever a model may raise
                why = f"{entity.name}: {model} version {version} cannot be loaded: {self._line(error)}"
                raise LaptopError(why) from error
            found[entity.name] = key, scorers[key]
        return found

    def _serving(self, name: str) -> tuple[Endpoint, _Loaded]:
        """An endpoint and its versions, loaded if nobody has asked for them since the start."""
        with self._held(name) as live:
            endpoint, loaded = live.endpoint, live.loaded
        if not endpoint.config:
            raise ApiError(400, "INVALID_STATE", f"serving endpoint {name} serves no version; release one")
        if loaded:
            return endpoint, loaded
        with self._loading:
            endpoint, loaded = live.endpoint, live.loaded
            if endpoint.config and not loaded:
                try:
                    loaded = self._load(endpoint.config, {})
                except LaptopError as error:
                    raise ApiError(
                        400, "INVALID_STATE", f"serving endpoint {name} serves no version; {error}"
                    ) from None
                with self._lock:
                    if live.endpoint.config is endpoint.config:
                        live.loaded = loaded
        return endpoint, loaded

    def _score(self, request: Request) -> Answer:
        endpoint, loaded = self._serving(request["name"])
        shares = endpoint.config.shares if endpoint.config else {}
        entity = request.parameters.get("entity") or choose(shares, self._draw())
        if entity not in loaded:
            raise missing(f"serving endpoint {endpoint.name} has no served entity {entity}")
        if len(request.content) > MAX_BODY_BYTES:
            raise ApiError(413, "REQUEST_TOO_LARGE", f"the body has more than {MAX_BODY_BYTES:,} bytes")
        request_id, started = uuid4().hex, time.time()
        try:
            scored = loaded[entity][1](request.content, request.headers.get("content-type", ""))
        except Exception as error:  # an answer that MLflow can't write as JSON, for one
            text = json.dumps({"error_code": "INTERNAL_ERROR", "message": f"{type(error).__name__}: {error}"})
            scored = Scored(status=500, content_type="application/json", text=text)
        body = scored.text.encode()
        if endpoint.inference_table:
            entity_id = endpoint.entity_ids[entity]
            row = payload(request_id, started, time.time(), scored.status, request.content, body, entity_id)
            self._payloads.add(endpoint.inference_table, row)
        headers = {"served-model-name": entity, "x-request-id": request_id, "databricks-request-id": request_id}
        return Answer(status=scored.status, body=body, headers={**headers, "Content-Type": scored.content_type})

    def _line(self, error: Exception) -> str:
        text = str(error) if isinstance(error, LaptopError) else f"{type(error).__name__}: {error}"
        return shorten(self._secrets.hide(text), 300)


def choose(shares: Mapping[str, int], draw: float) -> str:
    """Whose turn it is, for a number drawn from 0 to below 1; `shares` sum to 100."""
    return list(shares)[bisect_right(list(accumulate(shares.values())), draw * 100)]


def _now_ms() -> int:
    return int(time.time() * 1000)
