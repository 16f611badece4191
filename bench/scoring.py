"""Scoring a table: `python -m bench.scoring` writes docs/scoring-speed.md.

The champion that `python3 dev.py demo` left, on its flights, copied to 2 million rows. Side by side in one process, in
turns: the bare booster on a matrix in memory, this project's scorer, and `mlflow.pyfunc.spark_udf`. Then the whole job
on the flights as they are, in a schema of its own.
"""

import argparse
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import lightgbm as lgb
import mlflow
import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from rich.console import Console

from bench.flights import AS_OF, MODEL, ROOT, SCHEMA, world
from bench.measure import Run, held, timed
from bundle_laptop.spark import KIND
from flight_delays.core.markdown import table
from flight_delays.core.settings import ScoreBatch
from flight_delays.core.training import columns_of
from flight_delays.platform.context import Context, open_context
from flight_delays.platform.scorer import Scorer, read_scorer
from flight_delays.tasks import score_batch
from flight_delays.use_case import USE_CASE

ROWS, SMALL = 2_000_000, 200_000
KEEP = ("entity_id", "prediction_ts")
BARE, OURS, UDF = "bare booster, 2 threads, in memory", "this project's scorer", "mlflow.pyfunc.spark_udf"
PASSED_ON = "rows to the workers and back, not scored"
JOB_SCHEMA = "spark_catalog.bench_scoring"
INTO_NOTHING, APPENDED = "the same rows scored, and written nowhere", "the predictions appended to an empty table"
JOB, AGAIN = "the job that scores all of them", "the job again, with nothing new"
THREADS = 2
AT_LEAST_UDF, AT_LEAST_BARE, AT_MOST_TIMES = 2.0, 0.75, 11.0
JOB_TIMES, AGAIN_S = 2.0, 5.0


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS)
    asked = parser.parse_args()
    os.environ[KIND] = "classic"  # spark_udf does not take a local Spark Connect session
    with world() as folder:
        _measure(folder, asked.rows, asked.rounds)


def _measure(folder: Path, rows: int, rounds: int) -> None:
    context = open_context(USE_CASE, SCHEMA, AS_OF.isoformat())
    number = context.registry.aliases(MODEL)["champion"]
    big, small = _copied(context, folder, rows), _copied(context, folder, rows // 10)
    scorer = read_scorer(context.registry, MODEL, number)
    model = context.registry.load(MODEL, number).unwrap_python_model()
    booster: lgb.Booster = model.model.booster
    columns = columns_of(USE_CASE, small.select(*USE_CASE.inputs).toPandas())
    begun = time.perf_counter()
    features = model.code.prepare(columns, model.settings["learnt"])
    prepare_s = (time.perf_counter() - begun) * 10 / THREADS
    matrix = np.tile(np.column_stack(list(features.values())), (10, 1))
    udf = mlflow.pyfunc.spark_udf(
        context.tables.spark, f"models:/{MODEL}/{number}", result_type="probability double, prediction long"
    )

    def ours(rows: DataFrame) -> None:
        _into_nothing(scorer, rows)

    def with_udf(rows: DataFrame) -> None:
        answers = rows.select(*KEEP, udf(F.struct(*USE_CASE.inputs)).alias("answer"))
        answers.select(*KEEP, "answer.*").write.format("noop").mode("overwrite").save()

    def passed_on(rows: DataFrame) -> None:
        kept = rows.select(*KEEP).schema
        schema = to_arrow_schema(kept)
        moved = rows.select(*KEEP, *(name for name in USE_CASE.inputs if name not in KEEP))
        moved.mapInArrow(lambda batches: (batch.select(schema.names) for batch in batches), kept).write.format(
            "noop"
        ).mode("overwrite").save()

    def bare() -> None:
        booster.predict(matrix, num_threads=THREADS)

    steps: dict[str, Callable[[], None]] = {
        BARE: bare,
        OURS: lambda: ours(big),
        UDF: lambda: with_udf(big),
        PASSED_ON: lambda: passed_on(big),
    }
    for warm_up in (ours, with_udf, passed_on):
        warm_up(big)  # a new process interprets its first million rows
    runs: dict[str, list[Run]] = {name: [] for name in steps}
    tenth: list[Run] = []
    for number_of_round in range(rounds):
        for name, step in steps.items():
            runs[name].append(timed(step))
            print(f"round {number_of_round + 1}: {name}: {runs[name][-1].seconds:.1f} s", flush=True)
        tenth.append(timed(lambda: ours(small)))
    with _job_context(context) as job:
        year = job.tables.read("features")
        whole = [_job_round(job, scorer) for _ in range(rounds + 1)][1:]  # the first one warms up
        year_rows = year.count()
    (ROOT / "docs" / "scoring-speed.md").write_text(
        _page(rows, runs, tenth, prepare_s, booster, whole, year_rows), encoding="utf-8"
    )


def _into_nothing(scorer: Scorer, rows: DataFrame) -> None:
    made = scorer.predictions(rows, scored_at=AS_OF, source="batch", run_id="bench")
    made.where("reasons IS NULL").write.format("noop").mode("overwrite").save()


@contextmanager
def _job_context(context: Context) -> Iterator[Context]:
    """What the job is given: tables of its own with the same features."""
    tables, spark = context.tables.of(JOB_SCHEMA), context.tables.spark
    console = Console(file=io.StringIO(), width=140)
    spark.sql(f"DROP SCHEMA IF EXISTS {JOB_SCHEMA} CASCADE")
    spark.sql(f"CREATE SCHEMA {JOB_SCHEMA}")
    tables.apply_ddl(USE_CASE.sql)
    tables.append("features", context.tables.read("features"))
    try:
        yield replace(context, tables=tables, console=console)
    finally:
        spark.sql(f"DROP SCHEMA {JOB_SCHEMA} CASCADE")


def _job_round(context: Context, scorer: Scorer) -> dict[str, float]:
    """Seconds of each."""
    tables = context.tables
    for name in ("predictions", "runs"):
        tables.spark.sql(f"DROP TABLE {tables.schema}.{name}")
    tables.apply_ddl(USE_CASE.sql)

    def job() -> None:
        score_batch.run(context, ScoreBatch(model_name=MODEL, online_store=False))

    seconds = {JOB: timed(job).seconds, AGAIN: timed(job).seconds}
    features, made = tables.read("features"), tables.read("predictions", version=tables.version("predictions"))
    seconds[INTO_NOTHING] = timed(lambda: _into_nothing(scorer, features)).seconds
    made.limit(0).write.format("delta").partitionBy("scored_date").saveAsTable(f"{tables.schema}.appended")
    seconds[APPENDED] = timed(lambda: tables.append("appended", made)).seconds
    tables.spark.sql(f"DROP TABLE {tables.schema}.appended")
    print(", ".join(f"{name}: {took:.1f} s" for name, took in seconds.items()), flush=True)
    return seconds


def _page(
    rows: int,
    runs: dict[str, list[Run]],
    tenth: list[Run],
    prepare_s: float,
    booster: lgb.Booster,
    whole: list[dict[str, float]],
    year_rows: int,
) -> str:
    columns, trees, cores, rounds = len(USE_CASE.inputs), booster.num_trees(), os.cpu_count(), len(tenth)
    seconds = {name: median(run.seconds for run in of) for name, of in runs.items()}
    ours_s, small_s = seconds[OURS], median(run.seconds for run in tenth)
    of_udf, of_bare, times = seconds[UDF] / ours_s, seconds[BARE] / ours_s, ours_s / small_s
    job_times = median(one[JOB] / (one[INTO_NOTHING] + one[APPENDED]) for one in whole)
    again_s = median(one[AGAIN] for one in whole)

    def spread(values: Iterable[float], digits: int) -> str:
        found = sorted(values)
        return f"{median(found):,.{digits}f} [{found[0]:,.{digits}f}, {found[-1]:,.{digits}f}]"

    def memory(of: list[Run]) -> str:
        return f"{max(run.workers for run in of) / 1e9:.2f}"

    rates = {name: spread((rows / run.seconds for run in runs[name]), 0) for name in (BARE, OURS, UDF)}
    profile = [
        ("the booster", seconds[BARE], "bare"),
        ("reading, to the workers and back", seconds[PASSED_ON], "the same rows, not scored"),
        ("preparing", prepare_s, "a tenth of the rows in one process, times 10, on 2 cores"),
        ("the rest", ours_s - seconds[BARE] - seconds[PASSED_ON] - prepare_s, "what is left of the scorer's time"),
    ]
    growth = [
        (f"{rows // 10:,}", f"{small_s:.1f}", memory(tenth)),
        (f"{rows:,}", f"{ours_s:.1f}", memory(runs[OURS])),
    ]
    job = {name: spread((one[name] for one in whole), 1) for name in (JOB, INTO_NOTHING, APPENDED, AGAIN)}
    return f"""\
# How fast a table is scored

Made by `python -m bench.scoring`: {rows:,} rows of {columns} columns (the flights of 2013, copied), the champion's
{trees} trees, {cores} cores, local Spark; rounds in turns after a warm-up: {rounds}, medians with [smallest, largest].
The two Spark rows read a Delta table and write nowhere (`noop`).

{table(("what", "rows/s"), rates.items())}

- {of_udf:.1f} times spark_udf (wanted: at least {AT_LEAST_UDF:g}): {held(holds=of_udf >= AT_LEAST_UDF)}.
- {of_bare:.0%} of the bare booster (wanted: at least {AT_LEAST_BARE:.0%}): {held(holds=of_bare >= AT_LEAST_BARE)}.

## Where the rest goes

Of the scorer's {ours_s:.1f} s for {rows:,} rows on {cores} cores:

{table(("what", "seconds", "how it was measured"), [(what, f"{took:.1f}", how) for what, took, how in profile])}

The scorer makes rows of the table predictions, with ids and reasons; the others give bare answers. The bare booster
gets a matrix that somebody else has made. Rows come from Parquet, go to the Python workers as Arrow,
are prepared (categories, clock, holidays) and are predicted by the same booster. Turning {columns} columns of rows into
Arrow and handing them over is what a scorer outside the JVM pays; predicting is most of it.

spark_udf applies the same registered model, whose `predict` is made of the same `score` on whole columns: it pays for
structs and pandas besides, and for a copy of the model from the registry. What might reach the targets is trees
compiled to machine code; the library for LightGBM's, lleaves 1.3.0, does not run on today's llvmlite (0.50).

## Ten times the rows

{table(("rows", "seconds", "most memory of all Python workers (GB)"), growth)}

{times:.1f} times as long (wanted: at most {AT_MOST_TIMES:g}): {held(holds=times <= AT_MOST_TIMES)}. A worker holds one
Arrow batch of 10,000 rows at a time.

## The whole job

`score_batch` of the year's {year_rows:,} flights, by a version that has scored nothing, with the session up: it finds
out what to score, reads the version, scores, appends, brings the newest predictions to the online store, leaves its
mark and prints a table by month. Rounds: {rounds}.

{table(("what", "seconds"), job.items())}

- The job takes {job_times:.2f} times what scoring and appending take by themselves (wanted: at most {JOB_TIMES:g}):
  {held(holds=job_times <= JOB_TIMES)}.
- With nothing new it takes {again_s:.1f} s (wanted: at most {AGAIN_S:g}): {held(holds=again_s <= AGAIN_S)}.
"""


def _copied(context: Context, world: Path, rows: int) -> DataFrame:
    """Table features repeated to so many rows, in a table of its own."""
    folder = world / "bench" / f"features_{rows}"
    spark = context.tables.spark
    if not folder.exists():
        features = context.tables.read("features")
        times = rows // features.count() + 1
        many = features.crossJoin(spark.range(times).withColumnRenamed("id", "_copy")).drop("_copy").limit(rows)
        many.repartition(8).write.format("delta").save(str(folder))
    return spark.read.format("delta").load(str(folder))


if __name__ == "__main__":
    main()
