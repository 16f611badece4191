"""The service against a bare route and `mlflow models serve`: `python -m bench.serving` writes docs/serving-speed.md.

The same model, the champion that `python3 dev.py demo` left, and the same load, in turns on the same machine. It needs
wrk (https://github.com/wg/wrk) and PostgreSQL: `apt-get install wrk postgresql`.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version
from statistics import median
from timeit import repeat
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import uvloop
from deltalake import DeltaTable
from rich.progress import Progress
from tests.serving.live import free_port
from tests.store.stores import Postgresql, Sqlite, Store

from bench.flights import AS_OF, MODEL, ROOT, SCHEMA, world
from flight_delays.core.markdown import table
from flight_delays.core.rules import rules_of
from flight_delays.core.scoring_request import RequestParser
from flight_delays.core.training import columns_of
from flight_delays.platform.context import open_context
from flight_delays.platform.load_generator import drive
from flight_delays.platform.online_table import ONLINE_TABLE
from flight_delays.tasks.load_test import request_bodies
from flight_delays.use_case import USE_CASE

REQUESTS = 500
CONNECTIONS = (1, 4)
START_S = 120
MLFLOW, BARE, OURS = "mlflow models serve", "bare route", "service"
SQLITE, POSTGRESQL = "service, by key, sqlite", "service, by key, PostgreSQL"
OWN, WRK = "own", "wrk"
TOKEN = {"Authorization": "Bearer bench"}
PACKAGES = ("mlflow", "fastapi", "uvicorn", "uvloop", "httptools", "lightgbm", "aiohttp")
# What wrk sends, one body after another, and how it tells the outcome.
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer bench"
local bodies, at = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
request = function() at = at % #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
done = function(summary, latency)
  local bad = summary.errors
  io.stderr:write(string.format('{"rate": %f, "p50": %f, "p95": %f, "p99": %f, "errors": %d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, bad.status + bad.connect + bad.read + bad.write + bad.timeout))
end
"""

PAGE = """\
# How fast the service is

Made by `python -m bench.serving`: {rounds} rounds of {seconds:g} s for each server, in turns. One row per request; the
same champion for all. Each connection sends its next request when its last one was answered. Latency is what the
caller sees. Each server is one process and shares the machine's {cores} cores with the load generator: this project's
own (`load_generator.py`), and [wrk](https://github.com/wg/wrk) with one thread.

- *{mlflow}* is MLflow's own server, in this environment (`--env-manager local`).
- *{bare}* is the least that a FastAPI route does (`bench/bare_route.py`): the same JSON parse, preparation and booster;
  no check, token, metric or payload.
- *{ours}* checks each request, asks for a bearer token, exports metrics and logs payloads ({payloads:,} rows).
- *by key*: the request has the required columns only; the service looks up the other {looked_up}.

Each number is the median over the rounds, with the lowest and the highest.

{table}

Targets, as ratios within a round:

{targets}

## Where the time of a request goes

In this process, without a server, best of 5 x 1,000 calls, all columns:

{layers}

{versions}.
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A process that serves, and how to ask it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    address: str
    ready: str
    bodies: Path


@dataclass(frozen=True, kw_only=True)
class Round:
    """One server, put under load once."""

    server: str
    generator: str
    connections: int
    rate: float
    p50: float
    p95: float
    p99: float
    errors: float


def champion(folder: Path) -> tuple[Path, pd.DataFrame]:
    """The champion's files, downloaded into `folder`, and rows of features to ask about."""
    with world():
        context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
        number = context.registry.aliases(MODEL)["champion"]
        rows = context.tables.read("features").limit(REQUESTS).toPandas()
        return context.registry.download(MODEL, number, folder), rows


def servers(saved: Path, folder: Path, stores: Mapping[str, Store], rows: pd.DataFrame) -> list[Server]:
    """All of them, not yet started."""
    (folder / "tokens").write_text("bench")
    bodies = {"all": folder / "all.txt", "key": folder / "key.txt"}
    for name, columns in (("all", USE_CASE.inputs), ("key", USE_CASE.request)):
        bodies[name].write_bytes(b"\n".join(request_bodies(rows, [*columns])))

    def server(name: str, command: Sequence[str], ready: str, port: int, **environment: str) -> Server:
        return Server(
            name=name,
            command=[sys.executable, "-m", *command],
            environment=environment,
            address=f"http://127.0.0.1:{port}",
            ready=ready,
            bodies=bodies["key" if name in stores else "all"],
        )

    def service(name: str, **environment: str) -> Server:
        port = free_port()
        settings = {
            "FLIGHT_DELAYS_SERVED": f"champion={saved}",
            "FLIGHT_DELAYS_SERVING_TOKEN_FILE": str(folder / "tokens"),
            "FLIGHT_DELAYS_PAYLOAD_TABLE": str(folder / "payloads"),
            "FLIGHT_DELAYS_SERVING_HOST": "127.0.0.1",
            "FLIGHT_DELAYS_SERVING_PORT": str(port),
        }
        return server(name, ["flight_delays.serving"], "/ready", port, **settings, **environment)

    first, second = free_port(), free_port()
    options = ["--model-uri", str(saved), "--env-manager", "local", "--workers", "1", "--port", str(first)]
    return [
        server(MLFLOW, ["mlflow", "models", "serve", *options], "/ping", first),
        server(BARE, ["bench.bare_route", str(saved), str(second)], "/openapi.json", second),
        service(OURS),
        *(service(name, FLIGHT_DELAYS_ONLINE_STORE=store.url) for name, store in stores.items()),
    ]


@contextmanager
def stores(folder: Path, rows: pd.DataFrame) -> Iterator[dict[str, Store]]:
    """One of each kind, with what is looked up for `rows`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not shutil.which("wrk"):
        sys.exit("wrk or PostgreSQL is missing: apt-get install wrk postgresql")
    # Not in `folder`, whose name may be too long for a socket.
    postgresql = Postgresql(found[-1].parent, Path(tempfile.mkdtemp(prefix="bench-")))
    made: dict[str, Store] = {SQLITE: Sqlite(folder / "online.db"), POSTGRESQL: postgresql}
    ids = USE_CASE.prepare.entity_ids(columns_of(USE_CASE, rows))
    looked_up = rows[[*USE_CASE.looked_up]].astype(object).where(lambda cells: cells.notna(), None)
    known = dict(zip(ids, looked_up.to_dict("records"), strict=True))
    try:
        postgresql.make()
        postgresql.start()
        for store in made.values():
            store.fill(known)
            store.write(f"CREATE UNIQUE INDEX by_entity ON {ONLINE_TABLE} (entity_id)")
        yield made
        postgresql.stop()
    finally:
        shutil.rmtree(postgresql.folder)


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
    while _status(server, server.ready) != 200:
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"{server.name} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def check(all_servers: Sequence[Server]) -> None:
    """Ends the run unless all give the same answers, and the service wants a token and refuses an unknown column."""
    for number in range(20):
        first, *others = (
            _probability(server, server.bodies.read_bytes().split(b"\n")[number]) for server in all_servers
        )
        if any(abs(first - other) > 1e-9 for other in others):
            sys.exit(f"the servers differ: {first} and {others}")
    service = all_servers[2]
    surplus = json.dumps({"dataframe_records": [{"surplus": 1}]}).encode()
    refused = _status(service, "/invocations", surplus, {}), _status(service, "/invocations", surplus)
    if refused != (401, 400):
        sys.exit(f"{service.name} is to refuse with 401 and 400, not with {refused}")


def measure(all_servers: Sequence[Server], rounds: int, seconds: float, script: Path) -> list[Round]:
    """All rounds. The first of each server is a warm-up."""
    found = []
    with Progress() as progress:
        bar = progress.add_task("Measuring", total=len(CONNECTIONS) * (rounds + 1) * len(all_servers))
        for connections in CONNECTIONS:
            for number in range(rounds + 1):
                for server in all_servers:
                    rounds_of = {
                        OWN: by_own(server, connections, seconds),
                        WRK: by_wrk(server, connections, seconds, script),
                    }
                    progress.advance(bar)
                    if number:
                        found += [
                            Round(server=server.name, generator=generator, connections=connections, **load)
                            for generator, load in rounds_of.items()
                        ]
    return found


def by_own(server: Server, connections: int, seconds: float) -> dict[str, float]:
    """Rate, percentiles in milliseconds and errors, by this project's load generator."""
    bodies = server.bodies.read_bytes().split(b"\n")
    measured = drive(f"{server.address}/invocations", TOKEN, bodies, connections, seconds)
    percentiles = {f"p{percent}": measured.percentile_ms(percent) for percent in (50, 95, 99)}
    return {"rate": measured.requests_per_second, **percentiles, "errors": measured.errors}


def by_wrk(server: Server, connections: int, seconds: float, script: Path) -> dict[str, float]:
    """The same, by wrk."""
    options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(script)]
    done = subprocess.run(
        [shutil.which("wrk") or "wrk", *options, f"{server.address}/invocations"],
        env={**os.environ, "BODIES": str(server.bodies)},
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stderr)
    return told


def summary(found: Sequence[Round]) -> tuple[str, str]:
    """The table, and what became of the targets."""

    def values(server: str, generator: str, connections: int, what: str) -> list[float]:
        asked = (server, generator, connections)
        return [getattr(one, what) for one in found if (one.server, one.generator, one.connections) == asked]

    names = list(dict.fromkeys(one.server for one in found))
    rows = [
        (
            connections,
            generator,
            server,
            _spread(values(server, generator, connections, "rate"), 0),
            *(_spread(values(server, generator, connections, what), 2) for what in ("p50", "p95", "p99")),
            f"{sum(values(server, generator, connections, 'errors')):,.0f}",
        )
        for connections in CONNECTIONS
        for generator in (OWN, WRK)
        for server in names
    ]

    def target(what: str, one: str, other: str, limit: float, connections: int, generator: str) -> tuple[str, ...]:
        pairs = zip(*(values(each, generator, connections, what) for each in (one, other)), strict=True)
        ratios = [first / second for first, second in pairs]
        kept = median(ratios) >= limit if what == "rate" else median(ratios) <= limit
        bound = "at least" if what == "rate" else "at most"
        line = f"{what}, {one} / {other}: {bound} {limit:g}"
        return line, str(connections), generator, _spread(ratios, 2), "met" if kept else "missed"

    asked = [
        ("p50", OURS, BARE, 2.0),
        ("p50", SQLITE, OURS, 2.0),
        ("p50", POSTGRESQL, OURS, 2.0),
        ("rate", OURS, MLFLOW, 10),
    ]
    targets = [target(*each, connections, by) for each in asked for connections in CONNECTIONS for by in (OWN, WRK)]
    columns = ("connections", "load", "server", "requests/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "errors")
    return table(columns, rows), table(("target", "connections", "load", "measured", ""), targets)


def layers(saved: Path, body: bytes) -> str:
    """What each step of an answer takes."""
    shell_model = mlflow.pyfunc.load_model(str(saved)).unwrap_python_model()
    parser = RequestParser(USE_CASE.signature, max_rows=1000, rules=rules_of(USE_CASE.prepare.RULES))
    columns = parser.parse(body).columns
    learnt = shell_model.settings["learnt"]
    matrix = np.array([[values[0] for values in USE_CASE.prepare.prepare(columns, learnt).values()]], dtype="float64")
    steps: dict[str, Callable[[], object]] = {
        "JSON (`json.loads`)": lambda: json.loads(body),
        "JSON, checks and arrays (`RequestParser.parse`)": lambda: parser.parse(body),
        "preparation (`use_case/prepare.py`)": lambda: USE_CASE.prepare.prepare(columns, learnt),
        "booster": lambda: shell_model.model.predict(matrix),
        "preparation, booster, correction (`Shell.score`)": lambda: shell_model.score(columns),
    }
    taken = [(name, f"{min(repeat(step, number=1000, repeat=5)) * 1000:.0f}") for name, step in steps.items()]
    return table(("step", "µs"), taken)


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    asked = parser.parse_args()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # a quicker loop, so that the caller is not the limit
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        saved, sent = champion(folder)
        found_servers = servers(saved, folder, running.enter_context(stores(folder, sent)), sent)
        logs = [folder / f"{number}.log" for number, _ in enumerate(found_servers)]
        processes = [running.enter_context(started(*each)) for each in zip(found_servers, logs, strict=True)]
        for each in zip(found_servers, processes, logs, strict=True):
            wait_for(*each)
        check(found_servers)
        (folder / "script.lua").write_text(SCRIPT)
        numbers, targets = summary(measure(found_servers, asked.rounds, asked.seconds, folder / "script.lua"))
        page = PAGE.format(
            rounds=asked.rounds,
            seconds=asked.seconds,
            cores=os.cpu_count(),
            mlflow=MLFLOW,
            bare=BARE,
            ours=OURS,
            looked_up=len(USE_CASE.looked_up),
            payloads=DeltaTable(folder / "payloads").to_pyarrow_table(columns=["status_code"]).num_rows,
            table=numbers,
            targets=targets,
            layers=layers(saved, request_bodies(sent.head(1), [*USE_CASE.inputs])[0]),
            versions=", ".join(
                [f"Python {python_version()}", *(f"{package} {installed(package)}" for package in PACKAGES)]
            ),
        )
    (ROOT / "docs" / "serving-speed.md").write_text(page)
    print(page)


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def _ask(server: Server, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    request = Request(server.address + path, body, {**headers, "Content-Type": "application/json"})  # noqa: S310
    with urlopen(request, timeout=30) as answer:  # noqa: S310  # of this machine
        content: bytes = answer.read()
    return content


def _status(server: Server, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> int:
    try:
        _ask(server, path, body, TOKEN if headers is None else headers)
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0
    return 200


def _probability(server: Server, body: bytes) -> float:
    (answer,) = json.loads(_ask(server, "/invocations", body, TOKEN))["predictions"]
    return float(answer["probability"])


if __name__ == "__main__":
    main()
