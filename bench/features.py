"""Time and memory of building features: `python -m bench.features` on 1, 3 and 10 times the flights.

From what `python3 dev.py demo` left. Each copy of the year lies 364 days after the one before and flies with aircraft
of its own, so that airports, airlines and routes have histories 10 times as long. Each size runs in a process of its
own, warmed up on one week, and writes nothing.
"""

import argparse
import os
import subprocess
import sys
import time
from functools import reduce

import psutil
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bench.flights import AS_OF, ROOT, SCHEMA
from flight_delays.local.world import local_dir
from flight_delays.platform.runtime import LOCAL_DIR
from flight_delays.tasks.context import open_context
from flight_delays.use_case.features import flight_features

SIZES = (1, 3, 10)
YEAR = 364  # days: whole weeks


def copies(table: DataFrame, times: int) -> DataFrame:
    """`times` copies of a raw table, each a year later."""

    def copy(number: int) -> DataFrame:
        later = F.expr(f"INTERVAL {YEAR * number} DAYS")
        moved = {name: F.col(name) + later for name, kind in table.dtypes if kind == "timestamp"}
        named = {
            name: F.concat(name, F.lit(f"#{number}")) for name in ("flight_id", "tailnum") if name in table.columns
        }
        return table.withColumns(moved | named)

    return reduce(DataFrame.unionByName, [copy(number) for number in range(times)])


def measure(times: int) -> None:
    """Print flights and seconds."""
    context = open_context(SCHEMA, AS_OF.isoformat())
    raw = [context.tables.read(table) for table in ("raw_flights", "raw_weather", "raw_planes")]
    week = F.col("known_at") < "2013-01-08"
    flight_features(*(table.where(week) for table in raw)).write.format("noop").mode("overwrite").save()
    many = [copies(table, times) for table in raw]
    flights = many[0].count()
    begun = time.perf_counter()
    flight_features(*many).write.format("noop").mode("overwrite").save()
    print(flights, time.perf_counter() - begun)


def main() -> None:
    """Measure every size, or the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int)
    asked = parser.parse_args().times
    if asked:
        measure(asked)
        return
    os.environ.setdefault(LOCAL_DIR, str(local_dir(ROOT, "dev")))
    first = None
    print("| times | flights | seconds | of one | peak memory (GB) |\n|---|---|---|---|---|")
    for times in SIZES:
        command = [sys.executable, "-m", "bench.features", f"--times={times}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(psutil.Process(process.pid)))
            time.sleep(0.5)
        if process.returncode or process.stdout is None:
            sys.exit(process.returncode)
        flights, seconds = process.stdout.read().split()[-2:]
        first = first or float(seconds)
        print(
            f"| {times} | {int(flights):,} | {float(seconds):.0f} | {float(seconds) / first:.1f} | {peak / 1e9:.1f} |"
        )


def _memory(process: psutil.Process) -> int:
    """Bytes resident in a process and all that it started."""
    try:
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    main()
