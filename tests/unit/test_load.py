"""The load generator against a real server that can be told to fail, and the judgement of what it measured."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from aiohttp import web
from pydantic import ValidationError
from tests.contexts import Time, Values, client_at, make_context, printed

from flight_delays.core.errors import UserError
from flight_delays.core.load_limits import Measured, broken
from flight_delays.core.settings import Limits, LoadTest
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.load_generator import drive
from flight_delays.tasks.load_test import put_under_load, request_bodies
from flight_delays.use_case import USE_CASE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], str]
LIMITS = Limits(max_p99_ms=10, max_error_rate=0.25, min_requests_per_second=4)


def measured(*, latencies: list[float], errors: int = 0, seconds: float = 1) -> Measured:
    reasons = Counter({"status 503": errors})
    return Measured(seconds=seconds, latencies_ms=latencies, reasons=reasons)


@pytest.mark.parametrize(
    ("percent", "nearest_rank"), [(50, 50.0), (95, 95.0), (99, 99.0), (99.5, 100.0), (100, 100.0), (0.5, 1.0)]
)
def test_a_percentile_is_a_latency_that_was_seen(percent: float, nearest_rank: float) -> None:
    shuffled = np.random.default_rng(1).permutation(np.arange(1.0, 101.0))
    assert measured(latencies=list(shuffled)).percentile_ms(percent) == nearest_rank


def test_errors_count_as_requests_but_not_as_throughput() -> None:
    found = measured(latencies=[1, 2, 3], errors=1, seconds=2)
    assert (found.requests, found.errors, found.requests_per_second) == (4, 1, 1.5)


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (measured(latencies=[10] * 4), []),
        (measured(latencies=[9.9] * 5), []),
        (measured(latencies=[9.9] * 4 + [10.1]), ["p99 is 10.1 ms, above 10"]),
        (measured(latencies=[1] * 5, errors=1), []),
        (measured(latencies=[1] * 6, errors=2), []),
        (measured(latencies=[1] * 5, errors=2), ["28.57% of requests failed, more than 25.00%"]),
        (measured(latencies=[1] * 4), []),
        (measured(latencies=[1] * 5), []),
        (measured(latencies=[1] * 3), ["3.0 requests/s, below 4"]),
        (
            measured(latencies=[11] * 3, errors=3),
            [
                "p99 is 11.0 ms, above 10",
                "50.00% of requests failed, more than 25.00%",
                "3.0 requests/s, below 4",
            ],
        ),
        (measured(latencies=[]), ["none of 0 requests was answered"]),
        (measured(latencies=[], errors=1_000), ["none of 1,000 requests was answered"]),
    ],
)
def test_a_limit_is_broken_above_it_and_kept_at_it(found: Measured, lines: list[str]) -> None:
    assert broken(found, LIMITS) == lines


def test_nothing_measured_breaks_the_widest_limits() -> None:
    widest = Limits(max_p99_ms=1e9, max_error_rate=1, min_requests_per_second=0)
    assert broken(measured(latencies=[], errors=2), widest) == ["none of 2 requests was answered"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"max_p99_ms": 0}, r"max_p99_ms\n  Input should be greater than 0"),
        ({"max_error_rate": -0.1}, r"max_error_rate\n  Input should be greater than or equal to 0"),
        ({"max_error_rate": 1.1}, r"max_error_rate\n  Input should be less than or equal to 1"),
        ({"min_requests_per_second": -1}, r"min_requests_per_second\n  Input should be greater than or equal to 0"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Limits(**{"max_p99_ms": 1, "max_error_rate": 0, "min_requests_per_second": 0, **wrong})


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers every POST by a handler; gives its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners: list[web.AppRunner] = []

    def wait(coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        return future.result(10)

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/{tail:.*}", handler)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield lambda handler: wait(start(handler))
    for runner in runners:
        wait(runner.cleanup())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def fine(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def failing(request: web.Request) -> web.Response:  # noqa: ARG001
    return web.Response(status=503)


async def elsewhere(request: web.Request) -> web.Response:  # noqa: ARG001
    raise web.HTTPFound("/")


async def silent(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.Event().wait()
    return web.Response()


async def dropping(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()


async def half_answered(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"half")
    if request.transport:
        request.transport.abort()
    return answer


def test_every_answer_has_a_latency_and_bodies_go_in_turn_with_the_headers(serve: Serve) -> None:
    seen: list[tuple[bytes, str, str]] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append((await request.read(), request.headers["Authorization"], request.content_type))
        return web.Response()

    found = drive(serve(remember), {"Authorization": "Bearer token"}, [b"1", b"2", b"3"], 1, 0.2)
    assert found.requests == len(found.latencies_ms) == len(seen) > 3
    assert found.errors == 0
    assert seen[:4] == [(body, "Bearer token", "application/json") for body in (b"1", b"2", b"3", b"1")]
    # One connection is never answered twice at once.
    assert 0 < sum(found.latencies_ms) / 1000 <= found.seconds
    assert found.seconds >= 0.2


def test_each_connection_sends_at_the_same_time_and_is_kept(serve: Serve) -> None:
    ports: list[str | None] = []
    together = asyncio.Barrier(3)

    async def all_at_once(request: web.Request) -> web.Response:
        ports.append(request.transport and request.transport.get_extra_info("peername")[1])
        await together.wait()
        return web.Response()

    found = drive(serve(all_at_once), {}, [b"{}"], 3, 0, timeout_s=5)
    assert (found.requests, found.errors, len(set(ports))) == (3, 0, 3)


def test_a_connection_is_used_again(serve: Serve) -> None:
    ports: list[str | None] = []

    async def remember(request: web.Request) -> web.Response:
        ports.append(request.transport and request.transport.get_extra_info("peername")[1])
        return web.Response()

    drive(serve(remember), {}, [b"{}"], 2, 0.2)
    assert len(ports) > len(set(ports)) == 2


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (failing, "status 503"),
        (elsewhere, "status 302"),
        (silent, "no answer in time"),
        (dropping, "connection dropped"),
        (half_answered, "connection dropped"),
    ],
)
def test_an_error_is_counted_with_its_reason(serve: Serve, handler: Handler, reason: str) -> None:
    found = drive(serve(handler), {}, [b"{}"], 2, 0, timeout_s=0.3)
    assert (found.requests, found.latencies_ms, found.reasons) == (2, [], {reason: 2})


def test_nobody_there_is_an_error(unused_tcp_port: int) -> None:
    found = drive(f"http://127.0.0.1:{unused_tcp_port}", {}, [b"{}"], 2, 0)
    assert (found.requests, found.reasons) == (2, {"no connection": 2})


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_answers_and_errors_are_told_apart(serve: Serve) -> None:
    async def every_second(request: web.Request) -> web.Response:
        return await (fine if await request.read() == b"good" else failing)(request)

    found = drive(serve(every_second), {}, [b"good", b"bad"], 2, 0)
    assert (found.requests, len(found.latencies_ms), found.reasons) == (2, 1, {"status 503": 1})


def test_progress_is_told_what_was_sent_so_far(serve: Serve) -> None:
    told: list[tuple[float, int]] = []
    found = drive(serve(fine), {}, [b"{}"], 1, 1.2, lambda seconds, requests: told.append((seconds, requests)))
    assert 0 < told[0][0] < told[-1][0] <= found.seconds
    assert 0 < told[0][1] < told[-1][1] <= found.requests


def test_it_runs_where_an_event_loop_runs_already(serve: Serve) -> None:
    async def notebook() -> Measured:
        return drive(serve(fine), {}, [b"{}"], 1, 0)

    assert asyncio.run(notebook()).requests == 1


def test_a_request_is_one_row_in_mlflows_protocol() -> None:
    rows = pd.DataFrame(
        {
            "entity_id": ["a", "b"],
            "carrier": ["AA", "UA"],
            "flight": [1, 2],
            "origin": "JFK",
            "dest": "ORD",
            "distance": [740, 741],
            "sched_dep_ts": pd.to_datetime(["2013-12-31 23:59", "2014-01-01 00:00"]),
            "sched_arr_time": 915,
            **dict.fromkeys(USE_CASE.looked_up, np.nan),
            "weather_temp": [0.1 + 0.2, np.nan],
        }
    )
    first, second = (json.loads(body)["dataframe_split"] for body in request_bodies(rows, USE_CASE.inputs))
    assert first["columns"] == second["columns"] == [*USE_CASE.inputs]
    assert first["data"][0][:8] == ["AA", 1, "JFK", "ORD", 740, "2013-12-31T23:59:00", 915, 0.1 + 0.2]
    assert second["data"] == [
        ["UA", 2, "JFK", "ORD", 741, "2014-01-01T00:00:00", 915, *[None] * len(USE_CASE.looked_up)]
    ]
    assert [type(value) for value in second["data"][0] if value is not None] == [str, int, str, str, int, str, int]
    assert [len(json.loads(body)["dataframe_split"]["data"][0]) for body in request_bodies(rows, USE_CASE.request)] == [
        7,
        7,
    ]
    assert request_bodies(rows.head(0), USE_CASE.request) == []


@pytest.fixture
def under_load(serve: Serve) -> Callable[[Handler, Limits], tuple[Values, str]]:
    """Puts a server under load as if it were the workspace; gives what the task sets and prints."""

    def go(handler: Handler, limits: Limits) -> tuple[Values, str]:
        endpoints = Endpoints(client=client_at(serve(handler), Time()))
        context = make_context(as_of=datetime(2014, 1, 2, tzinfo=UTC), endpoints=lambda: endpoints)
        settings = LoadTest(
            endpoint="delay", online_store=True, load_test_connections=2, load_test_seconds=1, limits=limits
        )
        put_under_load(context, [b"{}"], settings)
        return context.task_values, printed(context)

    return go


WIDE = Limits(max_p99_ms=10_000, max_error_rate=0, min_requests_per_second=1)


def test_an_endpoint_that_keeps_the_limits_passes(under_load: Callable[..., tuple[Values, str]]) -> None:
    seen: set[tuple[str, str]] = set()

    async def remember(request: web.Request) -> web.Response:
        seen.add((request.path, request.headers["Authorization"]))
        return web.Response()

    values, printed = under_load(remember, WIDE)
    assert seen == {("/serving-endpoints/delay/invocations", "Bearer any")}
    assert set(values) == {"requests_per_second", "p99_ms"}
    assert 0 < float(values["p99_ms"]) < 10_000
    assert "requests/s" in printed


def test_an_endpoint_that_breaks_limits_fails_naming_each(under_load: Callable[..., tuple[Values, str]]) -> None:
    calls = 0

    async def fine_at_first(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return await (fine if calls <= 3 else failing)(request)

    with pytest.raises(UserError) as error:
        under_load(fine_at_first, WIDE)
    assert "of requests failed, more than 0.00%" in str(error.value)
    assert "x status 503" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_endpoint_that_serves_nothing_is_not_put_under_load(
    under_load: Callable[..., tuple[Values, str]],
) -> None:
    with pytest.raises(UserError, match=r"^endpoint delay does not serve: 2 x status 503; see its events"):
        under_load(failing, WIDE)
