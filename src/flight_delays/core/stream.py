"""What a stream of events may rely on: order of sending, a watermark per source, and what becomes of each event.

All follows from the log alone, not from how it is cut into micro-batches. Events have the columns `source`, `event_id`,
`kind`, `event_time` (when it was known), `sent_at`, `sequence` (order of sending within its source) and `problems`
(array of why it is malformed, as its source sees it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from flight_delays.core.gates import Check, Outcome

# A clock that is ahead of the one of whoever takes the event in would make everything after it late.
AHEAD = timedelta(hours=1)
_NEEDED = ("event_id", "kind", "event_time", "sent_at", "sequence")


class Fate(StrEnum):
    """What becomes of an event. The first that holds counts, from the bottom up."""

    ON_TIME = "on_time"  # taken
    OUT_OF_ORDER = "out_of_order"  # older than one sent before it, by no more than the delay: taken
    DUPLICATE = "duplicate"  # of an event_id that came before and that the watermark has not passed: dropped
    LATE = "late"  # older than the watermark: kept apart
    MALFORMED = "malformed"  # quarantined; it moves no watermark


def sort_out(events: DataFrame, seen: DataFrame, *, newest: Mapping[str, datetime], delay: timedelta) -> DataFrame:
    """`events` with their `fate`, `reasons` (array) and `watermark` (of their source, as they came; null at first).

    `seen` has `source`, `event_id` and `event_time` of what came before and was neither late nor malformed, at least as
    far back as the watermark; `newest` maps a source to the newest event time sent before. The watermark is `delay`
    behind the newest event time of the source so far.
    """
    reasons = [F.when(F.col(name).isNull(), F.lit(f"{name} is missing")) for name in _NEEDED]
    ahead = F.col("event_time") > F.col("sent_at") + F.expr(f"INTERVAL {AHEAD.total_seconds():.0f} SECONDS")
    reasons.append(F.when(ahead, F.lit("event_time is after sent_at; mend the clock of the sender")))
    all_reasons = F.concat(F.array_compact(F.array(*reasons)), "problems")
    events = events.withColumn("reasons", all_reasons).withColumn("_good", F.size("reasons") == 0)

    in_order = Window.partitionBy("source").orderBy("sequence", "event_id")
    before = (Window.unboundedPreceding, -1)
    sent_before = F.max(F.when(F.col("_good"), F.col("event_time"))).over(in_order.rowsBetween(*before))
    events = events.withColumn("_newest", F.greatest(sent_before, _of_source(newest)))
    events = events.withColumn("watermark", F.col("_newest") - F.expr(f"INTERVAL {delay.total_seconds():.0f} SECONDS"))
    late = F.coalesce(F.col("event_time") < F.col("watermark"), F.lit(False))
    counts = F.col("_good") & ~F.col("_late")
    copies = Window.partitionBy("source", "event_id").orderBy("sequence", "kind").rowsBetween(*before)
    earlier = F.max(F.when(counts, F.col("event_time"))).over(copies)
    events = events.withColumn("_late", late).withColumn("_earlier", earlier)
    known = seen.groupBy("source", "event_id").agg(F.max("event_time").alias("_seen"))
    copy = F.greatest("_seen", "_earlier")
    fate = (
        F.when(~F.col("_good"), F.lit(Fate.MALFORMED))
        .when(F.col("_late"), F.lit(Fate.LATE))
        .when(F.coalesce(copy >= F.col("watermark"), copy.isNotNull()), F.lit(Fate.DUPLICATE))
        .when(F.col("event_time") < F.col("_newest"), F.lit(Fate.OUT_OF_ORDER))
        .otherwise(F.lit(Fate.ON_TIME))
    )
    return (
        events.join(known, ["source", "event_id"], "left")
        .withColumn("fate", fate)
        .drop("_good", "_newest", "_late", "_earlier", "_seen", "problems")
    )


def _of_source(newest: Mapping[str, datetime]) -> Column:
    when = F.lit(None).cast("timestamp")
    for source, moment in newest.items():
        when = F.when(F.col("source") == source, F.lit(moment)).otherwise(when)
    return when


def watermark(newest: Mapping[str, datetime], delay: timedelta) -> datetime | None:
    """Up to where every source is complete; None before the first event."""
    return min(newest.values()) - delay if newest else None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How one micro-batch went; `lag_seconds` from the sending of its oldest event to its end."""

    query_id: str
    batch_id: int
    model_version: int
    events: int
    out_of_order: int
    duplicates: int
    late: int
    malformed: int
    scored: int
    watermark: datetime | None
    state_rows: int
    input_rows_per_second: float
    processing_seconds: float
    lag_seconds: float


def healthy(recent: Sequence[Progress], *, max_lag_seconds: float) -> Check:
    """FAIL if the last micro-batch lagged by more than allowed; INCONCLUSIVE if there was none."""
    if not recent:
        return Check(name="stream_lag", outcome=Outcome.INCONCLUSIVE, reason="no micro-batch was processed yet")
    lag = recent[-1].lag_seconds
    within = lag <= max_lag_seconds  # never for what is not a number
    return Check(
        name="stream_lag",
        outcome=Outcome.PASS if within else Outcome.FAIL,
        reason=f"the last micro-batch ended {lag:.0f} s after its oldest event came ({max_lag_seconds:g} allowed)",
    )
