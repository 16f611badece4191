"""Time, and the memory of Spark's Python workers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

import psutil


@dataclass(frozen=True)
class Run:
    """Seconds, and the most bytes that one of this process's Python workers held, and all of them together."""

    seconds: float
    worker: int
    workers: int


def timed(step: Callable[[], object]) -> Run:
    """Run a step, looking at the workers' memory ten times a second."""
    done, worker, workers = Event(), [0], [0]

    def watch() -> None:
        while not done.wait(0.1):
            held = [_resident(child) for child in psutil.Process().children(recursive=True)]
            worker.append(max(held, default=0))
            workers.append(sum(held))

    watcher = Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    try:
        step()
    finally:
        seconds = time.perf_counter() - begun
        done.set()
        watcher.join()
    return Run(seconds, max(worker), max(workers))


def held(*, holds: bool) -> str:
    """Whether a target does."""
    return "holds" if holds else "**does not hold**"


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss) if "pyspark.daemon" in process.cmdline() else 0
    except psutil.Error:  # it has ended
        return 0
