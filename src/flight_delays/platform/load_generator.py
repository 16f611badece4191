"""Load on a service over HTTP: every connection sends its next request as soon as its last one was answered."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import cycle
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING

from flight_delays.core.load_limits import Measured

if TYPE_CHECKING:
    from aiohttp import ClientSession

Progress = Callable[[float, int], None]
"""Told the seconds and the requests so far, from another thread."""

_OK = 200
_PROGRESS_S = 0.5


def drive(
    url: str,
    headers: Mapping[str, str],
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    progress: Progress = lambda seconds, requests: None,  # noqa: ARG005
    *,
    timeout_s: float = 30,
) -> tuple[Measured, Counter[str]]:
    """POST `bodies`, which are JSON, in turn for `seconds`, and wait for what was sent by then; each connection sends
    at least one. Also counts the errors by reason: a status other than 200, a connection that fails, no answer within
    `timeout_s`.
    """  # fmt: skip
    stop = Event()

    def run() -> tuple[Measured, Counter[str]]:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_drive(url, headers, bodies, connections, seconds, progress, timeout_s, stop))

    # A thread of its own, since a notebook's has an event loop that is running already.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(run).result()
        finally:
            stop.set()


async def _drive(
    url: str,
    headers: Mapping[str, str],
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    progress: Progress,
    timeout_s: float,
    stop: Event,
) -> tuple[Measured, Counter[str]]:
    import aiohttp  # takes most of a second

    latencies_ms: list[float] = []
    reasons: Counter[str] = Counter()
    turns = cycle(bodies)

    async def connection(session: aiohttp.ClientSession) -> None:
        while True:
            sent = perf_counter()
            reason = await _error(session, url, next(turns))
            now = perf_counter()
            if reason is None:
                latencies_ms.append((now - sent) * 1000)
            else:
                reasons[reason] += 1
            if now >= begun + seconds or stop.is_set():
                return

    async def report() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            progress(perf_counter() - begun, len(latencies_ms) + reasons.total())

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        headers={**headers, "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        begun = perf_counter()
        reporting = asyncio.create_task(report())
        await asyncio.gather(*(connection(session) for _ in range(connections)))
        taken = perf_counter() - begun
        reporting.cancel()
    measured = Measured(
        requests=len(latencies_ms) + reasons.total(),
        errors=reasons.total(),
        seconds=taken,
        latencies_ms=latencies_ms,
    )
    return measured, reasons


async def _error(session: "ClientSession", url: str, body: bytes) -> str | None:
    """Why a request was not answered as it should be; None if it was."""
    from aiohttp import ClientConnectorError, ClientError

    try:
        async with session.post(url, data=body, allow_redirects=False) as answer:
            await answer.read()
    except TimeoutError:
        return "no answer in time"
    except ClientConnectorError:
        return "no connection"
    except ClientError:
        return "connection dropped"
    return None if answer.status == _OK else f"status {answer.status}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The quicker loop where it is installed; None is Python's own."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop
