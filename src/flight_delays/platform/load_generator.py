"""Load on a service over HTTP: every connection sends its next request as soon as its last one was answered."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING

from flight_delays.core.load_limits import Measured

if TYPE_CHECKING:
    from aiohttp import ClientSession

WAKE_S = 300  # the longest that Databricks lets a request wait, for an endpoint that had scaled to zero
_PROGRESS_S = 0.5


def drive(
    url: str,
    headers: Mapping[str, str],
    bodies: Iterable[bytes],
    connections: int,
    seconds: float,
    progress: Callable[[float, int], None] = lambda seconds, requests: None,  # noqa: ARG005
    *,
    timeout_s: float = 30,
    once: bool = False,
) -> Measured:
    """POST `bodies`, which are JSON, in turn for `seconds`, or each of them `once`, and wait for what was sent by then.

    In turn, each connection sends at least one. An error is a status other than 200, a connection that fails, no answer
    within `timeout_s`. `progress` gets the seconds and the requests so far, from another thread.
    """
    import aiohttp  # takes most of a second

    stop = Event()
    turns = iter(bodies) if once else cycle(bodies)
    latencies_ms: list[float] = []
    reasons: Counter[str] = Counter()

    async def connection(session: aiohttp.ClientSession, begun: float) -> None:
        for body in turns:
            sent = perf_counter()
            reason = await _error(session, url, body)
            now = perf_counter()
            if reason is None:
                latencies_ms.append((now - sent) * 1000)
            else:
                reasons[reason] += 1
            if (now >= begun + seconds and not once) or stop.is_set():
                return

    async def report(begun: float) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            progress(perf_counter() - begun, len(latencies_ms) + reasons.total())

    async def run() -> Measured:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            headers={**headers, "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            begun = perf_counter()
            reporting = asyncio.create_task(report(begun))
            await asyncio.gather(*(connection(session, begun) for _ in range(connections)))
            taken = perf_counter() - begun
            reporting.cancel()
        return Measured(seconds=taken, latencies_ms=latencies_ms, reasons=reasons)

    # A thread of its own, since a notebook's has an event loop that is running already.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, run()).result()
        finally:
            stop.set()


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
    return None if answer.status == 200 else f"status {answer.status}"
