"""Look at the stream, stop it, and make it forget."""

import json
import shutil
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.gates import Outcome
from flight_delays.core.stream import Progress, healthy
from flight_delays.platform.context import Context
from flight_delays.platform.tables import collected
from flight_delays.tasks.report import show

_SHOWN = {
    "batch_id": "batch",
    "model_version": "version",
    "events": "events",
    "out_of_order": "out of order",
    "duplicates": "duplicates",
    "late": "late",
    "malformed": "malformed",
    "scored": "scored",
    "watermark": "watermark (UTC)",
    "state_rows": "state rows",
    "input_rows_per_second": "events/s",
    "processing_seconds": "seconds",
    "lag_seconds": "lag (s)",
}


def stop_file(checkpoint: str) -> Path:
    """Whose presence asks a stream to stop after the micro-batch under way."""
    return Path(f"{checkpoint}.stop")


def query_id(spark: SparkSession, checkpoint: str) -> str:
    """The query's own id, which Spark keeps with its checkpoint: a new checkpoint is a new query, with own writes."""
    return str(json.loads(spark.read.text(f"{checkpoint}/metadata").collect()[0][0])["id"])


def status(context: Context, checkpoint: str, *, max_lag_seconds: float, last: int = 10) -> Outcome:
    """Print the `last` micro-batches of the checkpoint's query; PASS if it is healthy.

    Raises UserError if it was never started.
    """
    if not Path(checkpoint).exists():
        raise UserError(f"{checkpoint} does not exist: the stream was never started; flight-delays stream start does")
    query = query_id(context.tables.spark, checkpoint)
    rows = context.tables.read("stream_progress").where(F.col("query_id") == query).drop("recorded_at")
    newest = collected(rows.orderBy(F.desc("batch_id")).limit(last))
    recent = [Progress(**row) for row in reversed(newest)]
    show(
        context.console,
        f"Stream {query}",
        tuple(_SHOWN.values()),
        [[_cell(getattr(progress, name)) for name in _SHOWN] for progress in recent],
        decimals=1,
    )
    check = healthy(recent, max_lag_seconds=max_lag_seconds)
    context.console.print(f"{check.outcome}: {check.reason}")
    return check.outcome


def stop(checkpoint: str) -> str:
    """Ask a running stream to end; what was done."""
    if not Path(checkpoint).exists():
        raise UserError(f"{checkpoint} does not exist: no stream was started there")
    stop_file(checkpoint).touch()
    return "The stream ends after the micro-batch under way; started again, it goes on from there."


def reset(checkpoint: str) -> str:
    """Remove a checkpoint; what that means."""
    if not Path(checkpoint).exists():
        raise UserError(f"{checkpoint} does not exist: there is nothing to forget")
    shutil.rmtree(checkpoint)
    return (
        "Forgotten. The next start is a new query that reads all events again: what its tables hold stays, landed rows "
        "are the same, and what the stream has scored keeps its prediction."
    )


def _cell(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value
