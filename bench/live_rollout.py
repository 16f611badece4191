"""Releases under live traffic: `python -m bench.live_rollout` writes docs/live-rollout.md and its picture.

The bundle's own jobs on the real flights, in a world of its own; callers ask the endpoint meanwhile.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event, Thread

import mlflow
import pandas as pd
from databricks.sdk import WorkspaceClient
from deltalake import DeltaTable
from matplotlib.figure import Figure
from mlflow import MlflowClient
from rich.console import Console
from tests.serving.live import free_port
from tests.worlds import MODEL, World, make_world

from bundle_laptop.graph import State
from bundle_laptop.session import Session, opened
from flight_delays.core.columns import to_pandas
from flight_delays.core.load_limits import Measured
from flight_delays.core.markdown import table
from flight_delays.core.rollout import ENDS, Action
from flight_delays.platform.load_generator import drive
from flight_delays.tasks.load_test import request_bodies
from flight_delays.use_case import USE_CASE

ROOT = Path(__file__).parents[1]
ENDPOINT, PAYLOADS = "dev_local_delay_dev", "delay_payload"
FIRST, SECOND, TODAY = "2013-06-01T12:00:00Z", "2013-12-01T12:00:00Z", "2014-01-02T00:00:00Z"
POLICY = {
    "rollout_stages": "0,25,50,100",
    "rollout_stage_minutes": "1",
    "rollout_min_requests": "250",
    "quality_needed_for": "0",
}
VARIABLES = {**POLICY, "as_of": SECOND, "trials": "1"}
TOKEN = {"Authorization": "Bearer bench"}
CALLERS, CHUNK_S = 2, 2.0
LOAD_S = 30  # of a version, where rollbacks are timed
MOST_STEPS = 40
_WRAPPER = """

import itertools as _calls_of
import os as _os
import time as _time

_as_it_was, _serves, _calls = prepare, "_MLFLOW_IS_IN_SERVING_ENVIRONMENT" in _os.environ, _calls_of.count(1)


def prepare(columns, learnt):
    call = next(_calls)
{change}
    return _as_it_was(columns, learnt)
"""
FAULTS = {
    "fails": (
        "fails on every tenth flight number, only where it serves: a library is missing there",
        "    if _serves and int(columns['flight'][0]) % 10 == 0:\n        raise RuntimeError('no airport table here')",
    ),
    "slow": (
        "takes 0.15 s longer, only where it serves",
        "    if _serves:\n        _time.sleep(0.15)",
    ),
    "disagrees": (
        "takes nothing that is looked up from 1 December on, after the gate's holdout",
        "    late = columns['sched_dep_ts'] >= np.datetime64('2013-12-01')\n"
        "    looked_up = [name for name in columns if name not in _REQUEST]\n"
        "    columns = {**columns, **{name: np.where(late, np.nan, columns[name]) for name in looked_up}}",
    ),
    "leaks": (
        "fails on every request from its 400th on: a leak",
        "    if _serves and call >= 400:\n        raise RuntimeError('too many open files')",
    ),
    "same": ("the champion again", "    pass"),
}
PAGE = """\
# Releases under live traffic

Made by `python -m bench.live_rollout`: the bundle's own jobs on the real flights, on a laptop, while {callers} callers
ask the endpoint half of the time ({asked:,} requests in {minutes:.0f} minutes). So that nobody waits for hours, there
are fewer stages than in prod, and one takes a minute at least and {min_requests} requests of each version. Labels come
days later and play no part.

{outcomes}

*Failed for callers* are the requests that were not answered with 200, of all that callers sent meanwhile.

![Share of the answers by each version, over time](live-rollout.png)

In shadow the job sends callers' requests once more at each of its runs, so that a leak may show there too. One that
takes longer reaches callers in the first stage, as few as that lets it, until the job's next run: in a workspace within
the hour.

## Each step, with its reasons

{steps}

## What `flight-delays status` says at the end

```text
{status}
```

## Rollback

Here a version takes {load} s to load, as its container takes minutes in a workspace. Callers go on asking.

{rollbacks}

Seconds are those from the start of the job `rollback` until the endpoint serves only the old version. The aliases,
by which batch and stream choose their version, move before the endpoint does.
"""


@dataclass
class Traffic:
    """Callers that ask half of the time, in a thread, as long as the context lasts."""

    url: str
    bodies: Sequence[bytes]
    chunks: list[tuple[float, Measured]] = field(default_factory=list)
    ended: Event = field(default_factory=Event)

    def __enter__(self) -> "Traffic":
        first = drive(self.url, TOKEN, self.bodies[:1], 1, 0, timeout_s=300)
        if first.errors:
            raise SystemExit(f"the endpoint does not answer: {first.why}")
        self.thread = Thread(target=self._ask)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _ask(self) -> None:
        turn = 0
        while not self.ended.is_set():
            turned = [*self.bodies[turn:], *self.bodies[:turn]]
            begun = time.time()
            found = drive(self.url, TOKEN, turned, CALLERS, CHUNK_S, timeout_s=300)
            self.chunks.append((begun, found))
            self.ended.wait(CHUNK_S)  # the jobs need the processor too
            turn = (turn + found.requests) % len(self.bodies)

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """Requests and failures of the chunks that began then."""
        there = [chunk for at, chunk in self.chunks if begin <= at < end]
        return sum(chunk.requests for chunk in there), sum(chunk.errors for chunk in there)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One version's release, from `begin` to `end`, in seconds since 1970."""

    version: int
    what: str
    begin: float
    end: float


def main() -> None:
    """Train, release, break, roll back; then write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder))
        with session_of(world, console) as session:
            run(session, "features", as_of=TODAY)
            run(session, "train", as_of=FIRST)
            session.run(["train"], {"as_of": SECOND}, ["train"])  # registers version 2, before it gets crowded
        bodies = bodies_of(world)
        with serving(world) as address, Traffic(invocations(address), bodies) as traffic:
            episodes = releases(world, console)
            status = status_of(world)
        with serving(world, load_s=LOAD_S) as address, Traffic(invocations(address), bodies) as again:
            rollbacks = timed_rollbacks(world, console, again)
        write(world, traffic, episodes, status, rollbacks)


def releases(world: World, console: Console) -> list[Episode]:
    """A better version, then each of the faulty ones."""
    episodes = []
    with session_of(world, console) as session:
        begun = time.time()
        run(session, "release", model_version="2", as_of=SECOND)
        episodes.append(rolled_out(session, world, 2, "learnt from four more months", begun))
        for name in ("fails", "slow", "disagrees", "leaks"):
            what, change = FAULTS[name]
            version, begun = faulty(world, change), time.time()
            run(session, "release", model_version=str(version), as_of=SECOND)
            episodes.append(rolled_out(session, world, version, what, begun))
        time.sleep(3 * CHUNK_S)  # and what comes after the last one
    return episodes


def rolled_out(session: Session, world: World, version: int, what: str, begun: float) -> Episode:
    """Runs the job `rollout` until it has ended that version's."""
    for _ in range(MOST_STEPS):
        rows = steps_of(world, version)
        if rows["outcome"].isin([*map(str, ENDS)]).any() and rows["outcome"].iloc[-1] == Action.SERVE:
            time.sleep(2 * CHUNK_S)
            return Episode(version=version, what=what, begin=begun, end=time.time())
        run(session, "rollout")
    raise SystemExit(f"version {version} is not at an end after {MOST_STEPS} steps")


def faulty(world: World, change: str) -> int:
    """Registers version 2 with another preparation, which its own files hold."""

    def edit(files: Path) -> None:
        file = files / "prepare.py"
        file.write_text(file.read_text(encoding="utf-8") + _WRAPPER.format(change=change), encoding="utf-8")

    return changed(world, 2, edit)


def changed(world: World, version: int, edit: Callable[[Path], None]) -> int:
    """Registers a copy of a version whose files, in the folder that it is given, `edit` has changed."""
    client = MlflowClient()
    good = client.get_model_version(MODEL, str(version))
    copied = Path(tempfile.mkdtemp(dir=world.root))
    files = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{version}", dst_path=str(copied)))
    edit(files / "artifacts")
    made = client.create_model_version(MODEL, str(files), good.run_id, tags=good.tags, description=good.description)
    return int(made.version)


def timed_rollbacks(world: World, console: Console, traffic: Traffic) -> list[tuple[object, ...]]:
    """From where, seconds of the task that rolls back, requests meanwhile and their failures."""
    client = WorkspaceClient(host=traffic.url.partition("/serving")[0], token="bench")  # noqa: S106
    found = list[tuple[object, ...]]()
    for where, stages in (("100 %", "100"), ("25 %", "25,100"), ("an update in progress", "25,100")):
        with session_of(world, console, rollout_stages=stages) as session:
            version = faulty(world, FAULTS["same"][1])
            if where in ("100 %", "25 %"):
                run(session, "release", model_version=str(version), as_of=SECOND)
            else:
                kill_in_mid_update(world, client, version, stages)
            if str(version) not in served(client, pending=where == "an update in progress"):
                raise SystemExit(f"the rollback from {where} has nothing to do")
            begun = time.time()
            seconds = run(session, "rollback", reason=f"timed from {where}")
            if served(client) != {"2": 100}:
                raise SystemExit(f"after the rollback from {where} the endpoint serves {served(client)}")
            time.sleep(CHUNK_S)
            found.append((where, f"{seconds:.1f}", *(f"{n:,}" for n in traffic.between(begun, time.time()))))
    return found


def kill_in_mid_update(world: World, client: WorkspaceClient, version: int, stages: str) -> None:
    """Starts a release in a process of its own, and kills it once the endpoint is being updated."""
    options = [f"--param=model_version={version}", f"--param=as_of={SECOND}", f"--var=rollout_stages={stages}"]
    options += [f"--var={name}={value}" for name, value in VARIABLES.items() if name != "rollout_stages"]
    log = (world.root / "log.txt").open("a")
    process = subprocess.Popen(
        [program(), "run", "release", *options, "--root", world.root], stdout=log, stderr=log, start_new_session=True
    )
    while not served(client, pending=True):
        if process.poll() is not None:
            raise SystemExit((world.root / "log.txt").read_text()[-3000:])
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def served(client: WorkspaceClient, *, pending: bool = False) -> dict[str, int]:
    """Version to its share in %; those of the update in progress with `pending`, if there is one."""
    live = client.serving_endpoints.get(ENDPOINT)
    config = live.pending_config if pending else live.config
    if config is None:
        return {}
    traffic = config.traffic_config.routes if config.traffic_config else None
    versions = {entity.name: str(entity.entity_version) for entity in config.served_entities or []}
    return {versions[route.served_model_name]: route.traffic_percentage for route in traffic or []}


def program() -> Path:
    """The command `laptop` of this environment."""
    return Path(sys.executable).parent / "laptop"


@contextmanager
def session_of(world: World, console: Console, **variables: str) -> Iterator[Session]:
    """The world's bundle, opened with this page's policy."""
    with opened(world.root, "dev", {**VARIABLES, **variables}, console) as session:
        yield session


def run(session: Session, job: str, **parameters: str) -> float:
    """Runs one job, which succeeds; the seconds that its last task took."""
    (result,) = session.run([job], parameters)
    if result.state is not State.SUCCESS:
        raise SystemExit(f"job {job} failed: {[task.note for task in result.inner]}")
    return result.inner[-1].seconds


@contextmanager
def serving(world: World, load_s: float = 0) -> Iterator[str]:
    """`laptop serve` in a process of its own; its address."""
    port = free_port()
    options = [f"--port={port}", f"--load-seconds={load_s}", *(f"--var={name}={v}" for name, v in VARIABLES.items())]
    with (world.root / "serve.txt").open("a") as log:
        process = subprocess.Popen(
            [program(), "serve", *options, "--root", world.root], stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(600):
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.2)
            time.sleep(5)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def invocations(address: str) -> str:
    """Where callers ask."""
    return f"{address}/serving-endpoints/{ENDPOINT}/invocations"


def bodies_of(world: World) -> list[bytes]:
    """Departures of December, one a request; what can be looked up is left out."""
    rows = features(world)
    later = rows[rows["day"] >= date(2013, 12, 1)]
    return request_bodies(later.sample(3000, random_state=1), USE_CASE.request)


def features(world: World) -> pd.DataFrame:
    """The table, times in UTC without a zone."""
    return to_pandas(DeltaTable(world.warehouse / "features").to_pyarrow_table())


def decisions(world: World) -> pd.DataFrame:
    """The log, in the order of its recording."""
    return DeltaTable(world.warehouse / "decisions").to_pandas().sort_values("recorded_at", ignore_index=True)


def steps_of(world: World, version: int) -> pd.DataFrame:
    """The rows of a version's rollout."""
    rows = decisions(world)
    return rows[(rows["kind"] == "rollout") & (rows["model_version"] == version)]


def status_of(world: World) -> str:
    """What the command prints."""
    done = subprocess.run(
        [program(), "release-status"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "110"},
        cwd=world.root,
    )
    return done.stdout


def answers(world: World) -> pd.DataFrame:
    """Callers' requests: time, version, status."""
    payloads = DeltaTable(world.warehouse / PAYLOADS).to_pandas(
        columns=["request_time", "status_code", "served_entity_id", "client_request_id"]
    )
    folder = world.warehouse.parent / "system_serving.db" / "served_entities"
    entities = DeltaTable(folder).to_pandas(columns=["served_entity_id", "entity_version"])
    callers = payloads[payloads["client_request_id"].isna()]
    return callers.merge(entities, on="served_entity_id")


def picture(found: pd.DataFrame, episodes: Sequence[Episode]) -> Figure:
    """Shares of the answers by version, and the failures, over time."""
    begin = pd.Timestamp(episodes[0].begin, unit="s", tz="UTC")
    seconds = (found["request_time"] - begin).dt.total_seconds()
    there = found[(seconds >= 0) & (seconds < episodes[-1].end - episodes[0].begin)]
    minutes = (seconds[there.index] // 5 * 5) / 60
    counts = there.groupby([minutes, "entity_version"]).size().unstack(fill_value=0)
    counts = counts[sorted(counts, key=lambda version: int(str(version)))]
    shares = counts.div(counts.sum(axis=1), axis=0) * 100
    figure = Figure(figsize=(11, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    above.stackplot(shares.index, shares.T.to_numpy(), labels=[f"version {version}" for version in shares])
    above.set_ylabel("answers, %")
    above.set_ylim(0, 100)
    above.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for one in episodes:
        above.axvline((one.begin - episodes[0].begin) / 60, color="black", linewidth=0.8, linestyle=":")
        above.text((one.begin - episodes[0].begin) / 60, 101, f"version {one.version}", fontsize=8)
    failed = there[there["status_code"] != 200].groupby(minutes).size().reindex(shares.index, fill_value=0)
    below.bar(failed.index, failed, width=5 / 60, color="tab:red", align="edge")
    below.set_ylabel("failed / 5 s")
    below.set_ylim(bottom=0)
    below.set_xlabel("minutes")
    return figure


def write(
    world: World, traffic: Traffic, episodes: Sequence[Episode], status: str, rollbacks: Sequence[tuple[object, ...]]
) -> None:
    """The page and its picture."""
    found, log = answers(world), decisions(world)
    outcomes, steps = [], []
    for one in episodes:
        rows = log[(log["kind"] == "rollout") & (log["model_version"] == one.version)]
        shares = [json.loads(evidence)["percentage"] for evidence in rows["evidence"]]
        last = rows[rows["outcome"].isin([*map(str, ENDS)])].iloc[-1]
        sent, failures = traffic.between(one.begin, one.end)
        answered = (found["entity_version"] == str(one.version)).sum()
        path = ", ".join(str(share) for share in dict.fromkeys(shares))
        outcomes.append(
            (one.version, one.what, f"{last['outcome']} after {path} %",
             "all clocks are good" if last["outcome"] == Action.PROMOTE else last["reasons"][0], f"{answered:,}",
             f"{failures:,} of {sent:,}")
        )  # fmt: skip
        for row in rows[rows["outcome"] != Action.SERVE].to_dict("records"):
            at = (row["recorded_at"].timestamp() - episodes[0].begin) / 60
            share = json.loads(row["evidence"])["percentage"]
            steps.append((f"{at:.1f}", one.version, row["outcome"], f"{share} %", "<br>".join(row["reasons"])))
    asked = sum(chunk.requests for _, chunk in traffic.chunks)
    page = PAGE.format(
        callers=CALLERS,
        asked=asked,
        minutes=(episodes[-1].end - episodes[0].begin) / 60,
        min_requests=POLICY["rollout_min_requests"],
        outcomes=table(
            ("version", "what it is", "rollout", "why it ended", "callers answered", "failed for callers"), outcomes
        ),
        steps=table(("minute", "version", "step", "share", "reasons"), steps),
        status=status.strip(),
        load=LOAD_S,
        rollbacks=table(("from", "seconds", "requests meanwhile", "failed"), rollbacks),
    )
    (ROOT / "docs" / "live-rollout.md").write_text(page, encoding="utf-8")
    picture(found, episodes).savefig(ROOT / "docs" / "live-rollout.png", dpi=110)


if __name__ == "__main__":
    main()
