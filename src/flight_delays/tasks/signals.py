"""Look at the data and at the champion's forecasts, window by window."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from pyspark.sql import Column
from pyspark.sql import functions as F

from flight_delays.core.data_checks import check_columns, check_rows
from flight_delays.core.decay import DayLoss, coverage, decay
from flight_delays.core.drift import drift, windows_due
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY
from flight_delays.core.incidents import subject_of
from flight_delays.core.performance import ALL
from flight_delays.core.profiles import Bins, bins_from
from flight_delays.core.retraining import WEEK
from flight_delays.core.settings import Signals, Watch
from flight_delays.core.signals import Kind, Level, Signal
from flight_delays.platform.context import Context
from flight_delays.platform.delta import collected
from flight_delays.platform.profiled import TURNED_OUT, Profiled, profiled
from flight_delays.platform.signal_log import SignalLog
from flight_delays.tasks.printing import show
from flight_delays.tasks.record import BINS_FILE

_SHOWN = 30


def run(context: Context, settings: Signals) -> None:
    """Find the signals of all windows that ended by `as_of` and were not measured yet; sets `alarms`, how many are new.

    What the rows of features look like is compared with the bins that the champion's training rows define. A window
    further back than the longest one is not looked at any more.
    """
    name, watch = settings.model_name, settings.watch
    champion = context.registry.aliases(name).get("champion")
    context.task_values.set("alarms", "0")
    if champion is None:
        context.console.print(f"{name} has no champion: nothing is watched")
        return
    try:
        bins = bins_from(context.registry.kept(context.registry.version(name, champion), BINS_FILE).decode())
    except UserError as error:
        context.console.print(f"Nothing is watched: {error}")
        return
    last = context.use_case.holdout(context.as_of, 1).first
    log = SignalLog(context.tables, name)
    reach = max(watch.windows)
    first = last - timedelta(days=reach - 1)
    logged = [one.signal for one in log.signals(first) if one.model_version == champion]
    measured = {_what(one) for one in logged if one.level is not Level.UNKNOWN}
    done = frozenset({_window(one) for one in logged} - {_window(one) for one in logged if one.level is Level.UNKNOWN})
    days = [first + timedelta(days=ahead) for ahead in range(reach)]
    begin = first - timedelta(days=reach + watch.watch_reference_days)
    found = profiled(
        context.tables,
        context.use_case,
        bins,
        model_name=name,
        version=champion,
        first=begin,
        last=last,
        as_of=context.as_of,
    )
    losses = _losses(context, name, champion, begin)
    signals = [one for one in _signals(bins, found, losses, days, done, watch) if _what(one) not in measured]
    log.write(signals, champion, context.as_of)
    alarms = [one for one in signals if one.level is Level.ALARM]
    context.task_values.set("alarms", str(len(alarms)))
    _tell(context, champion, signals, alarms)


def _window(signal: Signal) -> tuple[int, date]:
    return signal.days, signal.day


def _what(signal: Signal) -> tuple[Kind, str, int, date]:
    return signal.kind, signal.subject, *_window(signal)


def _signals(
    bins: Sequence[Bins],
    found: Profiled,
    losses: Mapping[date, DayLoss],
    days: Sequence[date],
    done: frozenset[tuple[int, date]],
    watch: Watch,
) -> Iterator[Signal]:
    """Of the windows that end on one of `days` and are not `done`."""
    given = [one for one in bins if one.column not in TURNED_OUT]
    for day in (day for day in days if (1, day) not in done):
        yield from check_rows(found.rows, found.distinct, day, watch, last=days[-1])
        yield from check_columns(given, found.profiles, day, watch)
        yield coverage(losses, day, watch)
    for length, day in windows_due(days[-1], done, watch):
        yield from drift(bins, found.profiles, day, length, watch)
        if length == WEEK:
            yield decay(losses, day, length, watch)


def _losses(context: Context, name: str, version: int, first: date) -> dict[date, DayLoss]:
    """Of each day, over all sources together but what was scored in shadow."""
    ours = (F.col("model_name") == name) & (F.col("model_version") == version) & (F.col(DAY) >= F.lit(first))
    key = ["source", DAY]
    performance = context.tables.read("performance").where(ours & (F.col("dimension") == ALL) & F.col("complete"))
    estimated = context.tables.read("estimated_performance").where(ours)
    rows = performance.where(F.col("source") != "shadow").select(*key, "rows", "labelled", "loss")
    both = rows.join(estimated.select(*key, "expected_loss", "estimated_loss"), key, "left")

    def mean(value: str, weight: str) -> Column:
        there = F.when(F.col(value).isNotNull(), F.col(weight))
        return (F.sum(F.col(value) * there) / F.sum(there)).alias(value)

    summed = both.groupBy(DAY).agg(
        F.sum("rows").alias("rows"),
        F.sum("labelled").alias("labelled"),
        mean("loss", "labelled"),
        mean("expected_loss", "rows"),
        mean("estimated_loss", "rows"),
    )
    return {
        row[DAY]: DayLoss(
            rows=row["rows"],
            labelled=row["labelled"],
            realised=row["loss"],
            estimated=row["estimated_loss"],
            expected=row["expected_loss"],
        )
        for row in collected(summed)
    }


def _tell(context: Context, version: int, signals: Sequence[Signal], alarms: Sequence[Signal]) -> None:
    unmeasured = [one for one in signals if one.level is Level.UNKNOWN]
    context.console.print(
        f"Version {version}: {len(signals):,} signals, {len(alarms)} alarms, {len(unmeasured):,} not measured"
    )
    if alarms:
        show(
            context.console,
            f"Alarms, the first {_SHOWN} of {len(alarms)}" if len(alarms) > _SHOWN else "Alarms",
            ("window", "signal", "what was found"),
            [
                (f"{one.days} days to {one.day}" if one.days > 1 else str(one.day), subject_of(one), one.reason)
                for one in alarms[:_SHOWN]
            ],
        )
    for kind in Kind:
        reasons = [one.reason for one in unmeasured if one.kind is kind]
        if reasons:
            context.console.print(f"{kind}: {len(reasons):,} {reasons[-1]}")
