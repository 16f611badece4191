"""The scoring service over real HTTP, and models that misbehave."""

import asyncio
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy.typing as npt
import requests
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from flight_delays.platform.online_table import OnlineStore
from flight_delays.serving.app import create_app
from flight_delays.serving.configuration import Settings
from flight_delays.serving.payloads import PayloadLog
from flight_delays.serving.service import Entity, LoadedModel, Lookup, Service

VERSIONS = {"champion": 3, "challenger": 4}
PATIENCE_S = 120  # a process of its own takes half a minute to start on a busy machine
JSON = {"content-type": "application/json"}
# What makes, at the end of a version's prepare.py, good visibility bad.
TURNED = """

_known = prepare


def prepare(columns, learnt):
    return _known({**columns, "weather_visib": 10 - columns["weather_visib"]}, learnt)
"""


def entity(name: str, loaded: LoadedModel, percentage: int = 100) -> Entity:
    version = VERSIONS[name]
    return Entity(
        id=f"{name}-{version}",
        name=name,
        model_name="delay",
        version=version,
        percentage=percentage,
        loaded=loaded,
    )


@dataclass(frozen=True, kw_only=True)
class Live:
    """A service that answers at `url`."""

    url: str
    service: Service

    def post(self, body: bytes, path: str = "/invocations", **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=body, headers={**JSON, **headers}, timeout=PATIENCE_S)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=PATIENCE_S)

    def metric(self, sample: str, **labels: str) -> float:
        """The sum of the samples of that name and those labels."""
        return metric(self.get("/metrics").text, sample, **labels)


def metric(text: str, sample: str, **labels: str) -> float:
    families = text_string_to_metric_families(text)
    found = [each for family in families for each in family.samples if each.name == sample]
    assert found, f"{sample} is none of the metrics"
    return sum(each.value for each in found if labels.items() <= each.labels.items())


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Its address, as long as a thread serves it; its last requests are finished."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        ended = thread.submit(server.run, [listener])
        try:
            while not server.started:
                assert not ended.done()
                sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True


@contextmanager
def live(
    *entities: Entity,
    tokens: frozenset[str] | None = None,
    payloads: PayloadLog | None = None,
    precomputed: OnlineStore | None = None,
    draw: Callable[[], float] = random.random,
    **limits: int,
) -> Iterator[Live]:
    """A service of these entities; `limits` are those of Settings."""
    service = Service("delay")
    if entities:
        service.configure(entities)
    settings = Settings(tokens=tokens, **limits)
    with listening(create_app(service, settings, payloads, precomputed=precomputed, draw=draw)) as url:
        yield Live(url=url, service=service)


@dataclass(frozen=True)
class Meddled:
    """A model before whose answers something happens."""

    meddle: Callable[[], object]
    loaded: LoadedModel

    async def complete_async(
        self, columns: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[Mapping[str, npt.NDArray[Any]], Lookup]:
        await asyncio.to_thread(self.meddle)
        return await self.loaded.model.complete_async(columns)

    def score(self, columns: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        return self.loaded.model.score(columns)


def meddled(loaded: LoadedModel, meddle: Callable[[], object]) -> LoadedModel:
    """Before each answer, in a thread of its own, `meddle` is called."""
    return replace(loaded, model=Meddled(meddle, loaded))


def started(environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    """`python -m flight_delays.serving` with these settings and no others, in `folder`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLIGHT_DELAYS_")}
    command = [sys.executable, "-m", "flight_delays.serving"]
    return subprocess.Popen(command, env={**inherited, **environment}, cwd=folder, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
