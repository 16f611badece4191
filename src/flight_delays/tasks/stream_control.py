"""Look at the stream, stop it, and make it forget."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.gates import Outcome
from flight_delays.core.settings import StreamStatus
from flight_delays.core.stream import healthy
from flight_delays.platform import volumes
from flight_delays.platform.context import Adapters
from flight_delays.platform.delta import collected
from flight_delays.platform.volumes import Folder
from flight_delays.tasks.printing import show

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
    "lag_seconds": "lag (s)",
}
_PREDICTIONS = 5


def stop_file(checkpoint: str) -> Path:
    """Whose presence asks a stream to stop after the micro-batch under way."""
    return Path(f"{checkpoint}.stop")


def query_id(folder: Folder) -> str:
    """The query's own id, which Spark keeps with its checkpoint: a new checkpoint is a new query, with own writes."""
    return str(json.loads(folder.read_text("metadata"))["id"])


def status(adapters: Adapters, settings: StreamStatus) -> Outcome:
    """Print the `last` micro-batches of the checkpoint's query and the newest predictions; PASS if it is healthy.

    Raises UserError if it was never started.
    """
    there = volumes.folder(settings.checkpoint)
    if not there.exists():
        raise UserError(f"{settings.checkpoint} does not exist: the stream was never started; run the job score_stream")
    query, tables, console = query_id(there), adapters.tables, adapters.console
    progress = tables.read("stream_progress").where(F.col("query_id") == query)
    recent = collected(progress.orderBy(F.desc("batch_id")).limit(settings.last))[::-1]
    batches = [[_cell(one[name]) for name in _SHOWN] for one in recent]
    show(console, f"Stream {query}", tuple(_SHOWN.values()), batches, decimals=1)
    if (found := rate(recent)) is not None:
        console.print(f"{found:,.1f} events/s over these micro-batches")

    forecast = "probability" if adapters.use_case.objective.kind == "binary" else "prediction"
    columns = (ENTITY, PREDICTION_TIME, forecast, "model_version")
    order = [F.desc(name) for name in ("scored_at", PREDICTION_TIME, ENTITY)]
    scored = tables.read("predictions").where("source = 'stream'").orderBy(*order).limit(_PREDICTIONS).select(*columns)
    predictions = [[_cell(value) for value in row.values()] for row in collected(scored)]
    show(console, "Newest predictions", (ENTITY, f"{PREDICTION_TIME} (UTC)", forecast, "version"), predictions)

    lag = recent[-1]["lag_seconds"] if recent else None
    check = healthy(lag, max_lag_seconds=settings.max_lag_seconds)
    console.print(f"{check.outcome}: {check.reason}")
    return check.outcome


def rate(recent: Sequence[Mapping[str, Any]]) -> float | None:
    """Events per second from the first of these rows of stream_progress, oldest first, to the last, if time passed."""
    seconds = (recent[-1]["recorded_at"] - recent[0]["recorded_at"]).total_seconds() if recent else 0
    return sum(one["events"] for one in recent[1:]) / seconds if seconds > 0 else None


def stop(folder: Folder) -> str:
    """Ask the running stream of a checkpoint to end; what was done."""
    if not folder.exists():
        raise UserError(f"{folder.path} does not exist: no stream was started there")
    folder.parent.write(stop_file(folder.path).name, "stop")
    return "The stream ends after the current micro-batch; started again, it goes on from there."


def reset(folder: Folder) -> str:
    """Remove a checkpoint; what that means."""
    if not folder.exists():
        raise UserError(f"{folder.path} does not exist: there is nothing to forget")
    folder.remove_tree()
    return (
        "Checkpoint deleted. The next start is a new query that reads all events again: what its tables hold stays, "
        "landed rows are the same, and what the stream has scored keeps its prediction."
    )


def _cell(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value
