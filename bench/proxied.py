"""The service behind a proxy, while versions come and go: `python -m bench.proxied` writes docs/proxied.md.

Real processes, tiny models, HAProxy: `apt-get install haproxy`.
"""

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from socket import AF_UNIX, socket
from threading import Event, Thread

from rich.console import Console
from tests.models import made_up_flights, tiny_training

from bench.measure import held
from bundle_laptop.world import mlflow_at, tracking_uri
from flight_delays.core.load_limits import Measured
from flight_delays.core.markdown import table
from flight_delays.platform.kubernetes import SETTLE_S
from flight_delays.platform.load_generator import drive
from flight_delays.platform.registry import connect
from flight_delays.tasks.load_test import request_bodies
from flight_delays.use_case import USE_CASE

ROOT = Path(__file__).parents[1]
CHART = (ROOT / "deploy/helm/scoring/templates/deployment.yaml").read_text(encoding="utf-8")
PRE_STOP_S = int(re.findall(r"preStop: {sleep: {seconds: (\d+)}}", CHART)[0])
NOTICED_S = PRE_STOP_S / 2  # from a pod's end to a proxy that sends it nothing more
CALLERS, REQUESTS, BEFORE = 8, 4000, 500
AT_LEAST, WITHIN = 20_000, 1.0
PATIENCE_S = 180
A, B, CHALLENGER = SERVERS = ("champion-a", "champion-b", "challenger")
# What each of the three does when a server fails on a request.
NEVER, CONNECT, ANY = "no retry", "retries a connection", "retries an answer too"
RETRIES = {
    NEVER: ("never", "retries 0"),
    CONNECT: ("connect", "option redispatch 1"),
    ANY: ("any", "option redispatch 1\n  retry-on conn-failure empty-response"),
}
CONFIGURATION = """\
global
  stats socket {socket} level admin
defaults
  mode http
  balance roundrobin
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option httpchk GET /ready
  default-server check inter 5s fall 2 rise 1 weight 0
"""  # checks as the chart's readinessProbe
PAGE = """\
# Behind a proxy

Does a caller notice when the traffic moves, or when a process of the service ends? Made by `python -m bench.proxied`:
processes of the service (`python -m flight_delays.serving`, tiny models) behind HAProxy {version} on one machine with
{cores} cores, {callers} callers with keep-alive connections, one row per request. A caller sends its next request when
the last one was answered. HAProxy chooses a server for each request, in turn by weight (`balance roundrobin`), asks
`/ready` as often as the chart's readiness probe, and gets new weights over its socket.

{targets}

No failure in {n:,} requests means: at most {bound:.1f} in 10,000, with 95 % confidence.

## What a release does

HAProxy never sends a request a second time here.

{released}

Each step begins with {before} requests at the share before; shares are of the n requests since the move, by HAProxy's
counts of each server's answers.

- *Rolling update*: a process of the next version starts, gets its part once `/ready` answers with 200, then the old one
  ends as a pod does: HAProxy stops sending to it after {noticed:g} s, SIGTERM comes after {pre_stop} s (`preStop`).
- *Rollback*: all traffic to the champion in mid-load; {settle} s later (`SETTLE_S`) the challenger ends in the same
  way.

## What happens without that

One of two processes ends while it has half of the traffic, and HAProxy is told nothing: its checks have to find out,
which takes up to 10 s. These failures are expected.

{without}

After SIGTERM the service takes no more connections, finishes the requests that it has, and closes connections in which
none is open. What fails is what the proxy sends it afterwards:

- a new connection is refused. A proxy that retries connections elsewhere (`retries 3`, `option redispatch 1`) hides
  that;
- a request may meet a connection that is just being closed. Only a proxy that sends it once more (`retry-on
  empty-response`) hides that. It may: a prediction changes nothing, so asking twice does no harm; but the payload table
  may hold both.

So `preStop` does what a retry can't: no request is sent to a process that goes, as long as the gateway notices within
{pre_stop} s that the pod goes. Drains and evictions by the API wait for `preStop`; a node that dies does not, and is
the row SIGKILL. Let the gateway retry failed connections (HTTPRoute has no field for it that all gateways know).
"""


@dataclass
class Load:
    """Callers that ask one request after another, in a thread, as long as the context lasts."""

    url: str
    bodies: Sequence[bytes]
    sent: int = 0
    measured: Measured | None = None
    ended: Event = field(default_factory=Event)

    def __enter__(self) -> "Load":
        self.thread = Thread(target=self._ask)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def wait(self, requests: int) -> None:
        """Until that many more were sent."""
        enough = self.sent + requests
        wait_until(lambda: self.sent >= enough or self.ended.is_set(), "callers get no answers")

    def _ask(self) -> None:
        self.measured = drive(self.url, {}, self._bodies(), CALLERS, 0, once=True)

    def _bodies(self) -> Iterator[bytes]:
        for body in cycle(self.bodies):
            if self.ended.is_set():
                return
            self.sent += 1
            yield body


@dataclass(frozen=True, kw_only=True)
class Step:
    """What callers saw in one step; `counts` are HAProxy's of the answers by each server since the move."""

    what: str
    proxy: str
    measured: Measured
    share: int
    counts: Mapping[str, int]

    @property
    def n(self) -> int:
        """Answers since the move."""
        return sum(self.counts.values())

    @property
    def found(self) -> float:
        """The challenger's share of them, in %."""
        return 100 * self.counts[CHALLENGER] / self.n


@dataclass(kw_only=True)
class World:
    """HAProxy and the processes behind it; `champions` are the servers that the champion's share is for."""

    folder: Path
    models: Mapping[int, Path]
    ports: Mapping[str, int]
    bodies: Sequence[bytes]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    champions: tuple[str, ...] = (A,)

    def tell(self, *commands: str) -> str:
        """What HAProxy answers to commands, which it carries out together."""
        with socket(AF_UNIX) as there:
            there.connect(str(self.folder / "socket"))
            there.sendall(f"{';'.join(commands)}\n".encode())
            return b"".join(iter(lambda: there.recv(65536), b"")).decode()

    def servers(self) -> list[dict[str, str]]:
        """HAProxy's row of each server behind each proxy."""
        rows = csv.DictReader(self.tell("show stat").removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"] in SERVERS]

    def answered(self, proxy: str) -> dict[str, int]:
        """Answers with 2xx so far, by server."""
        there = RETRIES[proxy][0]
        return {row["svname"]: int(row["hrsp_2xx"]) for row in self.servers() if row["pxname"] == there}

    def weigh(self, share: int) -> None:
        """Give the challenger `share` % of the requests, the champions the rest."""
        weights = dict.fromkeys(self.champions, (200 - 2 * share) // len(self.champions)) | {CHALLENGER: 2 * share}
        pairs = [(proxy, server) for proxy, _ in RETRIES.values() for server in SERVERS]
        if said := self.tell(*(f"set weight {proxy}/{at} {weights.get(at, 0)}" for proxy, at in pairs)).strip():
            sys.exit(f"HAProxy: {said}")

    def start(self, server: str, version: int) -> None:
        """A process of the service."""
        settings = {
            "FLIGHT_DELAYS_SERVED": f"{server.partition('-')[0]}={self.models[version]}",
            "FLIGHT_DELAYS_SERVING_AUTH": "off",
            "FLIGHT_DELAYS_SERVING_HOST": "127.0.0.1",
            "FLIGHT_DELAYS_SERVING_PORT": str(self.ports[server]),
        }
        with (self.folder / f"{server}.log").open("a") as log:
            self.processes[server] = subprocess.Popen(
                [sys.executable, "-m", "flight_delays.serving"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_up(self, server: str) -> None:
        """Until all proxies have found it ready."""

        def found() -> bool:
            if self.processes[server].poll() is not None:
                sys.exit(f"{server} ended:\n{(self.folder / f'{server}.log').read_text()[-2000:]}")
            rows = [row for row in self.servers() if row["svname"] == server]
            return all(row["check_status"] == "L7OK" and row["status"] in ("UP", "DRAIN") for row in rows)

        wait_until(found, f"{server} is not ready")

    def wait_down(self, server: str) -> None:
        """Until all proxies have found it gone."""

        def found() -> bool:
            return all(row["status"] == "DOWN" for row in self.servers() if row["svname"] == server)

        wait_until(found, f"HAProxy still sends requests to {server}")

    def end(self, server: str, how: signal.Signals) -> None:
        """Tell a process to end, and wait until it has."""
        self.processes[server].send_signal(how)
        self.processes[server].wait(60)

    def end_as_pod(self, server: str, share: int) -> None:
        """The end of a pod: the proxy notices in the middle of `preStop`."""
        time.sleep(NOTICED_S)
        self.champions = tuple(one for one in self.champions if one != server)
        self.weigh(share)
        time.sleep(PRE_STOP_S - NOTICED_S)
        self.end(server, signal.SIGTERM)

    def step(self, what: str, share: int, act: Callable[[], None] = lambda: None, proxy: str = NEVER) -> Step:
        """Move to a share under load, then do something, then wait for some more requests."""
        with Load(f"http://127.0.0.1:{self.ports[proxy]}/invocations", self.bodies) as load:
            everything = self.answered(proxy)
            load.wait(BEFORE)
            self.weigh(share)
            before = self.answered(proxy)
            act()
            load.wait(REQUESTS)
            after = self.answered(proxy)
        if load.measured is None:
            sys.exit(f"{what}: the callers stopped")
        answers = sum(self.answered(proxy).values()) - sum(everything.values())
        if answers != len(load.measured.latencies_ms):
            sys.exit(f"{what}: callers got {len(load.measured.latencies_ms)} answers, HAProxy counted {answers}")
        counts = {server: after[server] - before[server] for server in SERVERS}
        return Step(what=what, proxy=proxy, measured=load.measured, share=share, counts=counts)


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    """Look ten times a second; ends the run after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            sys.exit(f"after {PATIENCE_S} s: {otherwise}")
        time.sleep(0.1)


@contextmanager
def running() -> Iterator[World]:
    """A champion and a challenger, both ready, behind three proxies of one HAProxy."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, flights = Path(name), made_up_flights()
        models = {}
        with mlflow_at(tracking_uri(folder)):
            registry = connect()
            registry.client.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
            registry.client.create_registered_model("delay")
            for version in (1, 2, 3):
                (files := folder / str(version)).mkdir()
                training = tiny_training(flights, files, str(version), wrong=version == 2)
                registry.register("bench", "delay", training)
                models[version] = registry.download("delay", version, folder / f"version-{version}")
        with ExitStack() as free:
            sockets = {name: free.enter_context(socket()) for name in (*SERVERS, *RETRIES)}
            for each in sockets.values():
                each.bind(("127.0.0.1", 0))
            ports = {name: each.getsockname()[1] for name, each in sockets.items()}
        world = World(
            folder=folder, models=models, ports=ports, bodies=request_bodies(flights.head(500), USE_CASE.inputs)
        )
        stack.callback(lambda: [process.kill() for process in world.processes.values()])
        world.start(A, 1)
        world.start(CHALLENGER, 2)
        (folder / "haproxy.cfg").write_text(configuration(folder / "socket", ports))
        command = [shutil.which("haproxy") or "haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
        with (folder / "haproxy.log").open("w") as log:
            world.processes["haproxy"] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_until((folder / "socket").exists, "HAProxy does not start")
        for server in (A, CHALLENGER):
            world.wait_up(server)
        world.weigh(0)
        yield world


def configuration(path: Path, ports: Mapping[str, int]) -> str:
    """HAProxy's: one proxy for each kind of retry, all before the same servers."""
    servers = "".join(f"  server {name} 127.0.0.1:{ports[name]}\n" for name in SERVERS)
    proxies = [
        f"listen {name}\n  bind 127.0.0.1:{ports[kind]}\n  {options}\n{servers}"
        for kind, (name, options) in RETRIES.items()
    ]
    return CONFIGURATION.format(socket=path) + "".join(proxies)


def release(world: World) -> Iterator[Step]:
    """What a release does, none of which a caller should notice."""
    for share in (0, 10, 50, 25):
        yield world.step(f"challenger at {share} %", share)

    def roll() -> None:
        world.start(B, 3)
        world.wait_up(B)
        world.champions = (A, B)
        world.weigh(25)
        world.end_as_pod(A, 25)

    yield world.step("rolling update of the champion", 25, roll)
    yield world.step("challenger at 50 %", 50)

    def roll_back() -> None:
        time.sleep(SETTLE_S)
        world.end_as_pod(CHALLENGER, 0)

    yield world.step("rollback from 50 %", 0, roll_back)


def losses(world: World) -> Iterator[Step]:
    """A process ends, and HAProxy is told nothing."""
    world.champions = (A, B)
    world.start(A, 3)
    for how, proxy in ((signal.SIGTERM, NEVER), (signal.SIGTERM, CONNECT), (signal.SIGTERM, ANY),
                       (signal.SIGKILL, NEVER), (signal.SIGKILL, ANY)):  # fmt: skip
        world.wait_up(A)
        world.wait_up(B)

        def lose(how: signal.Signals = how) -> None:
            world.end(B, how)
            world.wait_down(B)

        yield world.step(how.name, 0, lose, proxy)
        world.start(B, 3)


def main() -> None:
    """Release, roll back, end processes under load; then write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not shutil.which("haproxy"):
        print("bench.proxied: there is no haproxy; install it (apt-get install haproxy)", file=sys.stderr)
        sys.exit(2)
    console, steps = Console(), list[Step]()
    with running() as world:
        for part in (release, losses):
            for step in part(world):
                console.print(f"{step.what}, {step.proxy}: {step.measured.requests:,} requests {step.measured.why}")
                steps.append(step)
    write(steps)


def write(steps: Sequence[Step]) -> None:
    """The page."""
    released = [step for step in steps if not step.what.startswith("SIG")]
    n, failures = sum(step.measured.requests for step in released), sum(step.measured.errors for step in released)
    furthest = max(abs(step.found - step.share) for step in released)
    targets = [
        ("no request fails in a release", f"{failures} of {n:,}", held(holds=failures == 0 and n >= AT_LEAST)),
        (f"shares are within {WITHIN:g} point", f"{furthest:.2f}", held(holds=furthest <= WITHIN)),
    ]
    told = subprocess.run([shutil.which("haproxy") or "haproxy", "-v"], capture_output=True, text=True, check=True)
    page = PAGE.format(
        version=told.stdout.split()[2],
        cores=os.cpu_count(),
        callers=CALLERS,
        targets=table(("target", "measured", ""), targets),
        n=n,
        bound=3e4 / n,
        before=BEFORE,
        noticed=NOTICED_S,
        pre_stop=PRE_STOP_S,
        settle=SETTLE_S,
        released=table(
            ("step", "requests", "failures", "n", "share, %", "measured, %", "difference", "p50 (ms)", "p99 (ms)"),
            [
                (step.what, f"{step.measured.requests:,}", step.measured.why or 0, f"{step.n:,}", step.share,
                 f"{step.found:.2f}", f"{step.found - step.share:+.2f}", *percentiles(step)) for step in released
            ],
        ),
        without=table(
            ("told", "HAProxy", "requests", "failures", "p50 (ms)", "p99 (ms)"),
            [
                (step.what, step.proxy, f"{step.measured.requests:,}", step.measured.why or 0, *percentiles(step))
                for step in steps if step not in released
            ],
        ),
    )  # fmt: skip
    (ROOT / "docs" / "proxied.md").write_text(page, encoding="utf-8")
    print(page)


def percentiles(step: Step) -> tuple[str, str]:
    """Of the requests that were answered with 200."""
    return f"{step.measured.percentile_ms(50):.1f}", f"{step.measured.percentile_ms(99):.1f}"


if __name__ == "__main__":
    main()
