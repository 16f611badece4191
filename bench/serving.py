"""The service against `mlflow models serve`: `python -m bench.serving` writes docs/serving-speed.md.

The same model, the champion that `python3 dev.py demo` left, and the same load, in turns on the same machine.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version
from socket import socket
from statistics import median

import requests
from deltalake import DeltaTable
from rich.progress import Progress

from bench.flights import AS_OF, MODEL, ROOT, SCHEMA, world
from flight_delays.core.load_limits import Measured
from flight_delays.core.markdown import table
from flight_delays.platform.context import open_context
from flight_delays.platform.load_generator import drive
from flight_delays.tasks.load_test import request_bodies
from flight_delays.use_case import USE_CASE

REQUESTS = 500
CONNECTIONS = (1, 4)
WARM_UP_S = 3
START_S = 120
MLFLOW, OURS = "mlflow models serve", "this project's service"
Rounds = Mapping[tuple[str, int], list[Measured]]  # by server and connections
TIMES, P99_MS, P50_MS = 10, 15, 2  # the targets: at 4 connections, at 4, at 1
PACKAGES = ("mlflow", "fastapi", "uvicorn", "uvloop", "httptools", "lightgbm", "aiohttp")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A process that serves, and how to ask it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    address: str
    ready: str
    headers: Mapping[str, str]


def champion(folder: Path) -> tuple[Path, list[bytes]]:
    """The champion's files, in `folder`, and requests with all columns, each of one flight."""
    with world():
        context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
        number = context.registry.aliases(MODEL)["champion"]
        rows = context.tables.read("features").limit(REQUESTS).toPandas()
        return context.registry.download(MODEL, number, folder), request_bodies(rows, [*USE_CASE.inputs])


def servers(saved: Path, folder: Path) -> tuple[Server, Server]:
    """Both, not yet started."""
    mlflow_port, our_port = _free_port(), _free_port()
    token_file = folder / "tokens"
    token_file.write_text("bench")
    serve = ["--model-uri", str(saved), "--env-manager", "local", "--workers", "1", "--port", str(mlflow_port)]
    return (
        Server(
            name=MLFLOW,
            command=[sys.executable, "-m", "mlflow", "models", "serve", *serve],
            environment={},
            address=f"http://127.0.0.1:{mlflow_port}",
            ready="/ping",
            headers={},
        ),
        Server(
            name=OURS,
            command=[sys.executable, "-m", "flight_delays.serving"],
            environment={
                "FLIGHT_DELAYS_SERVED": f"champion={saved}",
                "FLIGHT_DELAYS_SERVING_TOKEN_FILE": str(token_file),
                "FLIGHT_DELAYS_PAYLOAD_TABLE": str(folder / "payloads"),
                "FLIGHT_DELAYS_SERVING_HOST": "127.0.0.1",
                "FLIGHT_DELAYS_SERVING_PORT": str(our_port),
            },
            address=f"http://127.0.0.1:{our_port}",
            ready="/ready",
            headers={"Authorization": "Bearer bench"},
        ),
    )


@contextmanager
def started(server: Server, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Its process; ended, with what it started, on leaving."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where mlflow looks for uvicorn
    with log.open("w") as output:
        process = subprocess.Popen(
            server.command,
            env={**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **server.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is ready; ends the run with what it wrote if it does not start."""
    until = time.monotonic() + START_S
    while not _is_ready(server):
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"{server.name} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def check(mlflow_server: Server, ours: Server, bodies: Sequence[bytes]) -> int:
    """Ends the run unless both give the same answers, and ours wants a token and refuses a column that is unknown.

    How many requests ours had to log for that.
    """
    compared = bodies[:20]
    for body in compared:
        answers = [_ask(server, body, server.headers).json()["predictions"] for server in (mlflow_server, ours)]
        (first,), (second,) = answers
        if abs(first["probability"] - second["probability"]) > 1e-9:
            sys.exit(f"the servers differ: {answers}")
    surplus = json.dumps({"dataframe_records": [{"surplus": 1}]}).encode()
    refused = _ask(ours, bodies[0], {}).status_code, _ask(ours, surplus, ours.headers).status_code
    if refused != (401, 400):
        sys.exit(f"{ours.name} is to refuse with 401 and 400, not with {refused}")
    return len(compared) + 1


def measure(both: Sequence[Server], bodies: Sequence[bytes], rounds: int, seconds: float) -> tuple[Rounds, int]:
    """All rounds by server and connections, and how many requests ours got, warm-up and all."""
    found, sent = defaultdict(list), 0
    with Progress() as progress:
        bar = progress.add_task("Measuring", total=len(CONNECTIONS) * rounds * len(both))
        for connections in CONNECTIONS:
            for number in range(rounds + 1):
                for server in both:
                    time_s = seconds if number else WARM_UP_S
                    measured, reasons = drive(
                        f"{server.address}/invocations", server.headers, bodies, connections, time_s
                    )
                    sent += measured.requests if server.name == OURS else 0
                    if reasons:
                        progress.console.print(f"{server.name}: {dict(reasons)}")
                    if number:
                        found[server.name, connections].append(measured)
                        progress.advance(bar)
    return found, sent


def summary(found: Rounds) -> tuple[str, str]:
    """The table, and what became of the targets."""

    def rates(server: str, connections: int) -> list[float]:
        return [measured.requests_per_second for measured in found[server, connections]]

    def latencies(server: str, connections: int, percentile: float) -> list[float]:
        return [measured.percentile_ms(percentile) for measured in found[server, connections]]

    rows, times = [], {}
    for connections in CONNECTIONS:
        for server in (MLFLOW, OURS):
            errors = sum(measured.errors for measured in found[server, connections])
            texts = [_spread(latencies(server, connections, percentile), 2) for percentile in (50, 95, 99)]
            rows.append((connections, server, _spread(rates(server, connections), 0), *texts, f"{errors:,}"))
        pairs = zip(rates(OURS, connections), rates(MLFLOW, connections), strict=True)
        times[connections] = [ours / theirs for ours, theirs in pairs]
        rows.append((connections, "times as many", _spread(times[connections], 1), "", "", "", ""))
    rate, p99, p50 = median(times[4]), median(latencies(OURS, 4, 99)), median(latencies(OURS, 1, 50))
    targets = [
        (f"4 connections: at least {TIMES} times the requests/s", f"{rate:,.1f}", _kept(rate >= TIMES)),
        (f"4 connections: p99 at most {P99_MS} ms", f"{p99:,.1f}", _kept(p99 <= P99_MS)),
        (f"1 connection: p50 at most {P50_MS} ms", f"{p50:,.1f}", _kept(p50 <= P50_MS)),
    ]
    columns = ("connections", "server", "requests/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "errors")
    return table(columns, rows), table(("target", "measured", ""), targets)


def _kept(kept: bool) -> str:
    return "kept" if kept else "missed"


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved, bodies = champion(folder)
        both = servers(saved, folder)
        logs = [folder / f"{server.ready.strip('/')}.log" for server in both]
        with ExitStack() as running:
            processes = [running.enter_context(started(*each)) for each in zip(both, logs, strict=True)]
            for each in zip(both, processes, logs, strict=True):
                wait_for(*each)
            checked = check(*both, bodies)
            found, sent = measure(both, bodies, asked.rounds, asked.seconds)
        payloads = DeltaTable(folder / "payloads").to_pyarrow_table(columns=["status_code"]).num_rows
    numbers, targets = summary(found)
    versions = ", ".join([f"Python {python_version()}", *(f"{package} {installed(package)}" for package in PACKAGES)])
    page = f"""\
# How fast the service is

Made by `python -m bench.serving`: {asked.rounds} rounds of {asked.seconds:g} s, in turns, after a warm-up. One row
per request, with all columns; the same champion for both; the same load generator, in which each connection sends its
next request when its last one was answered. Latency is what the caller sees. Each server is one process and shares the
machine's {os.cpu_count()} cores with the load generator (load average before: {load:.1f}).

*{MLFLOW}* is MLflow's own server, in this environment (`--env-manager local`).
*{OURS}* validates strictly, asks for a bearer token, exports metrics and logs payloads: {checked + sent:,} requests
were sent to it with a token, {payloads:,} rows are in its payload table.

Each number is the median over the rounds, with the lowest and the highest.

{numbers}

{targets}

{versions}.
"""
    (ROOT / "docs" / "serving-speed.md").write_text(page)
    print(page)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def _free_port() -> int:
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _ask(server: Server, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    headers = {**headers, "Content-Type": "application/json"}
    return requests.post(f"{server.address}/invocations", data=body, headers=headers, timeout=30)


def _is_ready(server: Server) -> bool:
    try:
        return requests.get(server.address + server.ready, timeout=30).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    main()
