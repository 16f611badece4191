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
CALLERS, REQUESTS, BEFORE, AT_LEAST, PATIENCE_S = 8, 3000, 500, 20_000, 180
A, B, CHALLENGER = SERVERS = ("champion-a", "champion-b", "challenger")
NOTHING, CONNECTIONS, ANSWERS = "nothing", "connections", "answers"
# One proxy for each, before the same servers: what it tries again at another server.
RETRIES = {
    NOTHING: "retries 0",
    CONNECTIONS: "option redispatch 1",
    ANSWERS: "option redispatch 1\n  retry-on conn-failure empty-response",
}
# Checks as the chart's readinessProbe.
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
"""
PAGE = """\
# Behind a proxy

Does a caller notice when the traffic moves, or when a process of the service ends? Made by `python -m bench.proxied`:
real processes of the service (`python -m flight_delays.serving`, tiny models) behind HAProxy {version}, which chooses a
server for each request by weighted round robin, checks `/ready` as often as the chart's readiness probe, and gets new
weights over its socket. {callers} callers with keep-alive connections send one row per request, the next when the last
one was answered. All share {cores} cores, so latencies are long; [serving-speed.md](serving-speed.md) is
about speed.

{targets}

No failure in {n:,} requests means at most {bound:.1f} in 10,000, with 95 % confidence.

{steps}

*Retries* is what HAProxy sends again to another server. Each step starts with {before} requests at the share before.
*n* are the answers since the move, as HAProxy counts them for each server; requests that were on their way count for
the server that they were sent to.

- *Rolling update*: a process of the next version starts and gets its part once `/ready` answers with 200. Then the old
  one ends as a pod does: HAProxy stops sending to it after {noticed:g} s, SIGTERM comes after {pre_stop} s.
- *Rollback*: all traffic goes to the champion; after {settle} s (`SETTLE_S`) the challenger ends in the same way.
- *SIGTERM*, *SIGKILL*: one of two champions ends at once while it has half of the traffic, and HAProxy's checks have to
  find out, which takes up to 10 s. Failures are expected; they also show that this page would see others.

## What preStop is for

A pod that ends goes on answering for {pre_stop} s (`preStop` in the chart). If the gateway notices within that time, no
request goes to a process that is about to end. Without that:

- The process takes no more connections: a gateway that does not try others fails each request that it sends there.
- The service finishes the requests that it has read, and closes its other connections. A request that arrives just
  then is lost: none or a few at each end. A retry of the connection does not help; the request has to be sent again,
  which is safe, since a prediction changes nothing (the payload table may hold it twice).

So keep `preStop` longer than your gateway takes to notice, and let the gateway retry failed connections. Evictions by
the API and drained nodes wait for `preStop`. A process that is killed does not, as one that runs out of memory, and a
node that fails does not either: its connections time out, which is not tried here.
"""


@dataclass
class Load:
    """Callers that ask one request after another, in a thread, as long as the context lasts."""

    url: str
    bodies: Sequence[bytes]
    sent: int = 0
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
        wait_until(lambda: self.sent >= enough, "callers get no answers")

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
    """What callers saw in one step; `counts` are the answers by each server since the traffic moved."""

    what: str
    proxy: str
    share: int
    measured: Measured
    counts: Mapping[str, int]

    @property
    def found(self) -> float:
        """The challenger's share, in %."""
        return 100 * self.counts[CHALLENGER] / sum(self.counts.values())


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

    def rows(self, column: str, name: str) -> list[dict[str, str]]:
        """HAProxy's rows of servers that have this name in this column."""
        rows = csv.DictReader(self.tell("show stat").removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"] in SERVERS and row[column] == name]

    def answered(self, proxy: str) -> dict[str, int]:
        """Answers with 2xx so far, by server."""
        return {row["svname"]: int(row["hrsp_2xx"]) for row in self.rows("pxname", proxy)}

    def weigh(self, share: int) -> None:
        """Give the challenger `share` % of the requests, the champions the rest."""
        weights = dict.fromkeys(self.champions, (200 - 2 * share) // len(self.champions)) | {CHALLENGER: 2 * share}
        said = self.tell(*(f"set weight {proxy}/{at} {weights.get(at, 0)}" for proxy in RETRIES for at in SERVERS))
        if said.strip():
            sys.exit(f"HAProxy: {said}")

    def start(self, server: str, version: int) -> None:
        """Start a process of the service."""
        settings = {
            "FLIGHT_DELAYS_SERVED": f"{server.partition('-')[0]}={self.models[version]}",
            "FLIGHT_DELAYS_SERVING_AUTH": "off",
            "FLIGHT_DELAYS_SERVING_HOST": "127.0.0.1",
            "FLIGHT_DELAYS_SERVING_PORT": str(self.ports[server]),
        }
        self.run(server, [sys.executable, "-m", "flight_delays.serving"], settings)

    def run(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
        """Start a process that writes its log to the folder."""
        with (self.folder / f"{name}.log").open("a") as log:
            environment = {**os.environ, **settings}
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def wait(self, server: str, *states: str) -> None:
        """Until HAProxy has found a server in one of these states."""

        def found() -> bool:
            rows = self.rows("svname", server)
            return all(row["status"] in states and row["check_status"] not in ("", "INI") for row in rows)

        wait_until(found, f"{server} is not {states[0]}", self.folder / f"{server}.log")

    def wait_up(self, server: str) -> None:
        """Until it is ready; without a weight it drains, as HAProxy calls it."""
        self.wait(server, "UP", "DRAIN")

    def end(self, server: str, how: signal.Signals) -> None:
        """Tell a process to end, and wait until it has."""
        self.processes[server].send_signal(how)
        self.processes[server].wait(60)

    def end_as_pod(self, server: str, share: int) -> None:
        """The end of a pod, which the proxy notices in the middle of `preStop`."""
        time.sleep(NOTICED_S)
        self.champions = tuple(one for one in self.champions if one != server)
        self.weigh(share)
        time.sleep(PRE_STOP_S - NOTICED_S)
        self.end(server, signal.SIGTERM)

    def step(self, what: str, share: int, act: Callable[[], None] = lambda: None, proxy: str = NOTHING) -> Step:
        """Move to a share under load, then do something, then wait for some more requests."""
        first = self.answered(proxy)
        with Load(f"http://127.0.0.1:{self.ports[proxy]}/invocations", self.bodies) as load:
            load.wait(BEFORE)
            self.weigh(share)
            before = self.answered(proxy)
            act()
            load.wait(REQUESTS)
            after = self.answered(proxy)
        answers, got = sum(self.answered(proxy).values()) - sum(first.values()), len(load.measured.latencies_ms)
        if answers != got:
            sys.exit(f"{what}: callers got {got} answers, HAProxy counted {answers}")
        print(f"{what}: {load.measured.requests:,} requests {load.measured.why}", flush=True)
        counts = {server: after[server] - before[server] for server in SERVERS}
        return Step(what=what, proxy=proxy, share=share, measured=load.measured, counts=counts)


def wait_until(holds: Callable[[], bool], otherwise: str, log: Path | None = None) -> None:
    """Look ten times a second; ends the run after PATIENCE_S, with the end of a log."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            sys.exit(f"after {PATIENCE_S} s: {otherwise}\n{log.read_text()[-2000:] if log and log.exists() else ''}")
        time.sleep(0.1)


def versions(folder: Path) -> dict[int, Path]:
    """The files of three versions, of which the second has learnt the opposite."""
    found, flights = {}, made_up_flights()
    with mlflow_at(tracking_uri(folder)):
        registry = connect()
        registry.client.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
        registry.client.create_registered_model("delay")
        for number in (1, 2, 3):
            (files := folder / str(number)).mkdir()
            registry.register("bench", "delay", tiny_training(flights, files, str(number), wrong=number == 2))
            found[number] = registry.download("delay", number, folder / f"version-{number}")
    return found


@contextmanager
def running() -> Iterator[World]:
    """A champion and a challenger, both ready, behind HAProxy."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as free, ExitStack() as stack:
        sockets = {name: free.enter_context(socket()) for name in (*SERVERS, *RETRIES)}
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        ports = {name: each.getsockname()[1] for name, each in sockets.items()}
        free.close()
        bodies = request_bodies(made_up_flights().head(500), USE_CASE.inputs)
        world = World(folder=Path(name), models=versions(Path(name)), ports=ports, bodies=bodies)
        stack.callback(lambda: [(process.kill(), process.wait()) for process in world.processes.values()])
        world.start(A, 1)
        world.start(CHALLENGER, 2)
        servers = "".join(f"  server {name} 127.0.0.1:{ports[name]}\n" for name in SERVERS)
        proxies = [f"listen {at}\n  bind 127.0.0.1:{ports[at]}\n  {how}\n{servers}" for at, how in RETRIES.items()]
        file = world.folder / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(socket=world.folder / "socket") + "".join(proxies))
        world.run("haproxy", [shutil.which("haproxy") or "haproxy", "-db", "-f", str(file)], {})
        wait_until((world.folder / "socket").exists, "HAProxy does not start")
        world.wait(B, "DOWN")
        world.wait_up(A)
        world.wait_up(CHALLENGER)
        world.weigh(0)
        yield world


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
    world.champions, sigterm = (A, B), signal.SIGTERM
    world.start(A, 3)
    for how, proxy in ((sigterm, NOTHING), (sigterm, CONNECTIONS), (sigterm, ANSWERS), (signal.SIGKILL, NOTHING)):
        world.wait_up(A)
        world.wait_up(B)

        def lose(how: signal.Signals = how) -> None:
            world.end(B, how)
            world.wait(B, "DOWN")

        yield world.step(how.name, 0, lose, proxy)
        world.start(B, 3)


def page(released: Sequence[Step], lost: Sequence[Step]) -> str:
    """What came out, for people."""
    n, failures = sum(step.measured.requests for step in released), sum(step.measured.errors for step in released)
    furthest = max(abs(step.found - step.share) for step in released)
    targets = [
        ("no request fails in a release", f"{failures} of {n:,}", held(holds=failures == 0 and n >= AT_LEAST)),
        ("shares are within 1 point", f"{furthest:.2f}", held(holds=furthest <= 1)),
    ]
    rows = [
        (step.what, step.proxy, f"{step.measured.requests:,}", step.measured.why or 0, f"{sum(step.counts.values()):,}",
         step.share, f"{step.found:.2f}", f"{round(step.found - step.share, 2) + 0.0:+.2f}",
         *(f"{step.measured.percentile_ms(percent):.1f}" for percent in (50, 99))) for step in (*released, *lost)
    ]  # fmt: skip
    columns = (
        "step",
        "retries",
        "requests",
        "failures",
        "n",
        "share, %",
        "measured, %",
        "off by",
        "p50 (ms)",
        "p99 (ms)",
    )
    told = subprocess.run([shutil.which("haproxy") or "haproxy", "-v"], capture_output=True, text=True, check=True)
    return PAGE.format(
        version=told.stdout.split()[2].partition("-")[0],
        cores=os.cpu_count(),
        callers=CALLERS,
        targets=table(("target", "measured", ""), targets),
        n=n,
        bound=3e4 / n,
        before=BEFORE,
        noticed=NOTICED_S,
        pre_stop=PRE_STOP_S,
        settle=SETTLE_S,
        steps=table(columns, rows),
    )


def main() -> None:
    """Release, roll back, end processes under load; then write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    if not shutil.which("haproxy"):
        print("bench.proxied: there is no haproxy; install it: apt-get install haproxy", file=sys.stderr)
        sys.exit(2)
    with running() as world:
        text = page(tuple(release(world)), tuple(losses(world)))
    (ROOT / "docs" / "proxied.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
