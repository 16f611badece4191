"""Time and memory of building features: `python -m bench.features` writes docs/features-speed.md.

On what `python3 dev.py demo` left. More rows are copies of the year: one after the other ("days"), or of each day at
its place ("a day"), with aircraft and flight numbers of their own. Each size has a process and a session of its own,
and goes into nothing: once cold, then warm. The peer in the same process is Spark handing on the finished rows.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import repeat
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from bench.flights import AS_OF, ROOT, SCHEMA, world
from bench.measure import held, timed
from flight_delays.core.markdown import table
from flight_delays.platform import spark_as_of as as_of
from flight_delays.platform.context import open_context
from flight_delays.use_case import USE_CASE

FEATURES = USE_CASE.features
YEAR = 364  # days: whole weeks
FEW, HISTORY = 60, 29  # flights, and days before them


class Size(NamedTuple):
    """Copies of the year in time; and of each day at its place, of the first two months then."""

    days: int = 1
    a_day: int = 1


SIZES = (Size(), Size(days=10), Size(a_day=10), Size(a_day=30))


def copies(rows: DataFrame, size: Size) -> DataFrame:
    """A raw table so many times."""

    def copy(year: int, place: int) -> DataFrame:
        later = F.expr(f"INTERVAL {YEAR * year} DAYS")
        changed = {name: F.col(name) + later for name, kind in rows.dtypes if kind == "timestamp"}
        changed |= {
            name: F.concat(name, F.lit(f"#{year}.{place}")) for name in ("flight_id", "tailnum") if name in rows.columns
        }
        changed |= {name: F.col(name) + 10_000 * place for name in ("flight",) if name in rows.columns}
        return rows.withColumns(changed)

    places = size.a_day if "tailnum" in rows.columns else 1
    return reduce(DataFrame.unionByName, [copy(year, place) for year in range(size.days) for place in range(places)])


def written(rows: DataFrame, folder: Path) -> DataFrame:
    """The same rows, from files."""
    rows.write.parquet(str(folder))
    return rows.sparkSession.read.parquet(str(folder))


def into_nothing(rows: DataFrame) -> None:
    """Compute all rows and keep none."""
    rows.write.format("noop").mode("overwrite").save()


def on_spark(size: Size, folder: Path) -> dict[str, object]:
    """Seconds, and the most memory of a worker; the copies are written to `folder` first."""
    context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
    early = F.col("known_at") < "2013-03-01"
    read = {name: context.tables.read(name) for name in (*FEATURES.tables(), "features")}
    if size.a_day > 1:
        read = {
            name: rows.where(early if "known_at" in rows.columns else "day < '2013-03-01'")
            for name, rows in read.items()
        }
    finished = read.pop("features")
    raw = {name: written(copies(rows, size), folder / name) for name, rows in read.items()}
    peer = written(reduce(DataFrame.unionByName, [finished] * (size.days * size.a_day)), folder / "finished")
    parts: list[str] = []
    planned = as_of._planned

    def telling(*arguments):
        found = planned(*arguments)
        parts[:] = [
            f"{len(part.features.questions)} x {len(part.chunks.starts)}" + (f" x {part.buckets}" if part.by else "")
            for part in found
        ]
        return found

    as_of._planned = telling

    def build() -> None:
        into_nothing(as_of.build_features(FEATURES, raw["raw_flights"], raw))

    cold, warm = timed(build), timed(build)
    return {
        "flights": peer.count(),
        "cold": cold.seconds,
        "warm": warm.seconds,
        "peer": timed(lambda: into_nothing(peer)).seconds,
        "worker": max(cold.worker, warm.worker),
        "parts": " + ".join(parts),
    }


def in_memory() -> dict[str, object]:
    """Seconds of the year, and of a few flights on some weeks of history; the best of three."""
    context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
    raw = {name: context.tables.read(name).toArrow() for name in FEATURES.tables()}
    last = F.lit(AS_OF).cast("timestamp") - F.expr("INTERVAL 100 DAYS")
    few = context.tables.read("raw_flights").where(F.col("known_at") <= last).orderBy(F.desc("known_at")).limit(FEW)
    asking = few.toArrow()
    since = few.agg(F.min("known_at")).toArrow()[0][0].as_py()
    known = {name: context.tables.read(name).where(F.col("known_at") <= last) for name in raw}
    recent = {name: rows.toArrow() for name, rows in as_of.recent(FEATURES, known, since).items()}

    def best(asked, tables) -> float:
        return min(repeat(lambda: FEATURES.build(asked, tables), repeat=3, number=1))

    flights = raw["raw_flights"]
    return {
        "year": best(flights, raw),
        "few": best(asking, recent),
        "flights": flights.num_rows,
        "history": recent["raw_flights"].num_rows,
        "features": FEATURES.build(asking, recent).num_columns - len(FEATURES.keep.names),
    }


def main() -> None:
    """Measure every size in a process of its own, or the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help="'memory', or days and copies a day: 10,1")
    one = parser.parse_args().one
    if one:
        with world(), TemporaryDirectory() as folder:
            found = in_memory() if one == "memory" else on_spark(Size(*map(int, one.split(","))), Path(folder))
        print(json.dumps(found))
        return

    def measured(what: str) -> dict[str, float]:
        command = [sys.executable, "-m", "bench.features", "--one", what]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
        print(what, ended.stdout.splitlines()[-1], flush=True)
        return json.loads(ended.stdout.splitlines()[-1])

    memory = measured("memory")
    found = {size: measured(f"{size.days},{size.a_day}") for size in SIZES}
    times = found[Size(days=10)]["warm"] / found[Size()]["warm"]
    columns = ["days", "rows a day", "flights", *(f"{what} (s)" for what in ("cold", "warm", "peer"))]
    columns += ["of the peer", "worker (MB)", "parts"]
    cores, questions, bound = os.cpu_count(), len(FEATURES.questions), as_of.BOUND // 2**20
    spark = table(
        columns,
        [
            (
                f"{size.days} x",
                f"{size.a_day} x",
                f"{of['flights']:,}",
                *(f"{seconds:.1f}" for seconds in (of["cold"], of["warm"], of["peer"], of["warm"] / of["peer"])),
                f"{of['worker'] / 2**20:.0f}",
                of["parts"],
            )
            for size, of in found.items()
        ],
    )
    page = f"""\
# How fast features are built

Made by `python -m bench.features`: the flights of 2013, {memory["features"]} columns from {questions} questions,
{cores} cores, local Spark Connect, a process for each row of the tables.

## In memory

| what | flights | history | seconds |
| --- | --- | --- | --- |
| the year | {memory["flights"]:,} | {memory["flights"]:,} | {memory["year"]:.2f} |
| a micro-batch | {FEW} | {memory["history"]:,} | {memory["few"]:.3f} |

## On Spark

Into nothing (`noop`), first in a new session, then once more. "Peer" is Spark handing on as many finished rows from a
table to nothing: the least that any way of building them would take. "Worker" is the most memory that one Python
worker held; its bound is {bound} MB besides what it imports (about 130 MB). "Parts" are the questions, chunks of time
and buckets of keys into which the work was split. More rows a day are those of the first two months, copied.

{spark}

- Ten times the days: {times:.1f} times the time (wanted: at most 12): {held(holds=times <= 12)}.
"""
    (ROOT / "docs" / "features-speed.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
