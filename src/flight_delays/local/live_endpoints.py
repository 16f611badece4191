"""The endpoints of a laptop's control plane: what each serves, updates under way, and the file that outlives it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from uuid import uuid4

from fastapi import FastAPI
from pydantic import ValidationError

from flight_delays.core.errors import UserError
from flight_delays.local.endpoints_api import (
    AiGateway,
    Config,
    Endpoint,
    Endpoints,
    Entity,
    NewEndpoint,
    Pending,
    ServedEntityRow,
    TagChange,
    rows,
    shown,
)
from flight_delays.local.yaml_file import Tree
from flight_delays.serving import service
from flight_delays.serving.service import Scorer, Service

FILE = "endpoints.json"

Loader = Callable[[str, int, Mapping[str, str]], Scorer]
"""Loads a version of a model, by name and number, for an environment. What it raises fails the update."""

_Scorers = Mapping[tuple[object, ...], Scorer]


class ApiError(Exception):
    """An answer other than 200, as Databricks words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(kw_only=True)
class Live:
    """An endpoint, the app that scores for it, and the update under way, or that failed last."""

    endpoint: Endpoint
    service: Service
    app: FastAPI
    scorers: _Scorers = field(default_factory=dict)
    pending: Pending | None = None
    trouble: str | None = None
    app_runs: AsyncExitStack = field(default_factory=AsyncExitStack)

    def show(self) -> Tree:
        """As the API answers it."""
        return shown(self.endpoint, self.pending, self.trouble)


class LiveEndpoints:
    """All endpoints. Those that the file knows serve again; a version that cannot be loaded leaves its endpoint not
    ready. Raises UserError for a file that it did not write.
    """  # fmt: skip

    def __init__(
        self,
        local_dir: Path,
        loader: Loader,
        make_app: Callable[[Service], FastAPI],
        secrets: Mapping[str, str],
        on_served: Callable[[Sequence[ServedEntityRow]], None],
    ) -> None:
        self._file, self._loader, self._make_app = local_dir / FILE, loader, make_app
        self._secrets, self._on_served = secrets, on_served
        self._lock, self._updates = threading.Lock(), ThreadPoolExecutor(thread_name_prefix="update")
        self._live = {endpoint.name: self._restored(endpoint) for endpoint in self._read().endpoints}

    async def start(self) -> None:
        """Start the apps of the endpoints that the file knew."""
        for live in self._live.values():
            await _start(live)

    async def stop(self) -> None:
        """Stop all apps; updates have ended (see `finish`)."""
        for live in self._live.values():
            await live.app_runs.aclose()

    def finish(self) -> None:
        """Wait for updates under way; later ones are errors."""
        self._updates.shutdown()

    def find(self, name: str) -> Live:
        """Raises ApiError if there is none."""
        live = self._live.get(name)
        if live is None:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"there is no serving endpoint {name}")
        return live

    def list(self) -> Tree:
        """All of them, by name."""
        with self._lock:
            return {"endpoints": [self._live[name].show() for name in sorted(self._live)]}

    def get(self, name: str) -> Tree:
        """One of them."""
        with self._lock:
            return self.find(name).show()

    async def create(self, body: NewEndpoint) -> Tree:
        """A new one, that begins to serve its configuration, if it has one."""
        if body.config:
            self._check(body.config)
        endpoint = Endpoint(
            name=body.name,
            id=uuid4().hex,
            description=body.description,
            creation_timestamp=(now := _now_ms()),
            last_updated_timestamp=now,
            tags=body.tags,
            ai_gateway=body.ai_gateway,
        )
        with self._lock:
            if body.name in self._live:
                raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"serving endpoint {body.name} exists already")
            self._write(endpoint)
            live = self._live[body.name] = self._new(endpoint)
        await _start(live)
        return self.update(body.name, body.config) if body.config else self.get(body.name)

    async def delete(self, name: str) -> Tree:
        """Requests in flight are answered."""
        with self._lock:
            live = self.find(name)
            self._write(without=name)
            del self._live[name]
        await live.app_runs.aclose()
        return {}

    def tag(self, name: str, change: TagChange) -> Tree:
        """Its tags after the change."""
        with self._lock:
            live = self.find(name)
            self._change(live, tags=change.apply(live.endpoint.tags))
            return {"tags": [tag.model_dump() for tag in live.endpoint.tags]}

    def set_ai_gateway(self, name: str, settings: AiGateway) -> Tree:
        """The settings, now kept."""
        with self._lock:
            self._change(self.find(name), ai_gateway=settings)
            return settings.model_dump(mode="json", exclude_none=True)

    def update(self, name: str, config: Config) -> Tree:
        """Begin to serve `config`; until its versions are loaded, what serves goes on."""
        self._check(config)
        with self._lock:
            live = self.find(name)
            if live.pending and not live.pending.failure:
                raise ApiError(409, "RESOURCE_CONFLICT", f"serving endpoint {name} is being updated; wait until it is")
            version = live.endpoint.config_version + 1
            live.pending = pending = Pending(config=config, config_version=version, start_time=_now_ms())
            self._updates.submit(self._apply, live, pending)
            return live.show()

    def _apply(self, live: Live, pending: Pending) -> None:
        """Whatever fails on the way, what served before still does."""
        try:
            scorers = self._load(pending.config, live.scorers)
            ids = {entity.name: uuid4().hex for entity in pending.config.served_entities}
            # Before it serves: a logged request can always be told to be of a version.
            self._on_served(rows(live.endpoint.name, pending, ids))
            with self._lock:
                if self._live.get(live.endpoint.name) is live:
                    self._change(live, config=pending.config, config_version=pending.config_version, entity_ids=ids)
                    live.service.configure(_entities(live.endpoint, scorers))
                    live.scorers, live.pending, live.trouble = scorers, None, None
        except Exception as error:  # whatever a model or a table may raise
            with self._lock:
                live.pending = replace(pending, failure=self._line(error))

    def _load(self, config: Config, known: _Scorers) -> _Scorers:
        """The scorer of each entity; one that is `known` is not loaded again."""
        scorers = {}
        for entity in config.served_entities:
            version = int(entity.entity_version)
            try:
                environment = entity.environment(self._secrets)
                scorer = known.get(_key(entity)) or self._loader(entity.entity_name, version, environment)
            except Exception as error:  # whatever a model may raise
                why = f"{entity.name}: {entity.entity_name} version {version} cannot be loaded: {self._line(error)}"
                raise UserError(why) from error
            scorers[_key(entity)] = scorer
        return scorers

    def _restored(self, endpoint: Endpoint) -> Live:
        live = self._new(endpoint)
        if endpoint.config:
            try:
                live.scorers = self._load(endpoint.config, {})
                live.service.configure(_entities(endpoint, live.scorers))
            except UserError as error:
                live.trouble = str(error)
        return live

    def _new(self, endpoint: Endpoint) -> Live:
        scoring = Service(endpoint.name)
        return Live(endpoint=endpoint, service=scoring, app=self._make_app(scoring))

    def _check(self, config: Config) -> None:
        for entity in config.served_entities:
            try:
                entity.environment(self._secrets)
            except ValueError as error:
                raise ApiError(400, "INVALID_PARAMETER_VALUE", f"{entity.name}: {error}") from None

    def _change(self, live: Live, **fields: object) -> None:
        endpoint = live.endpoint.model_copy(update={**fields, "last_updated_timestamp": _now_ms()})
        self._write(endpoint)
        live.endpoint = endpoint

    def _write(self, changed: Endpoint | None = None, *, without: str = "") -> None:
        """All of them, first into another file: whoever reads finds the old ones or the new ones."""
        endpoints = {name: live.endpoint for name, live in self._live.items() if name != without}
        if changed:
            endpoints[changed.name] = changed
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(Endpoints(endpoints=tuple(endpoints.values())).model_dump_json(indent=1), encoding="utf-8")
        new.replace(self._file)

    def _read(self) -> Endpoints:
        try:
            return Endpoints.model_validate_json(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Endpoints()
        except ValidationError as error:
            what = f"{error.error_count()} errors, the first: {error.errors()[0]['msg']}"
            raise UserError(f"{self._file}: not as it was written ({what}); delete it, and release again") from error

    def _line(self, error: Exception) -> str:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        for name, value in self._secrets.items():
            text = text.replace(value, f"{{{{secrets/{name}}}}}") if value else text
        return shorten(text, 300)


async def _start(live: Live) -> None:
    await live.app_runs.enter_async_context(live.app.router.lifespan_context(live.app))


def _key(entity: Entity) -> tuple[object, ...]:
    return entity.entity_name, entity.entity_version, *sorted(entity.environment_vars.items())


def _entities(endpoint: Endpoint, scorers: _Scorers) -> list[service.Entity]:
    if endpoint.config is None:
        return []
    shares = endpoint.config.shares
    return [
        service.Entity(
            id=endpoint.entity_ids[entity.name],
            name=entity.name,
            model_name=entity.entity_name,
            version=int(entity.entity_version),
            percentage=shares[entity.name],
            scorer=scorers[_key(entity)],
        )
        for entity in endpoint.config.served_entities
    ]


def _now_ms() -> int:
    return int(time.time() * 1000)
