"""How often the monitor cries wolf, and how soon it notices: `python -m bench.monitor_rates`.

Writes docs/monitor-error-rates.md and its picture, from what `python3 dev.py demo` left. With `evidently` installed
beside (`uv pip install "evidently>=0.7"`), its defaults are tried on the same windows.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import Progress
from sklearn.utils.parallel import Parallel, delayed

from bench.flights import ROOT, labelled
from bench.gate import defaults
from flight_delays.core.data_checks import check_columns, check_rows
from flight_delays.core.drift import alpha_of, drift
from flight_delays.core.markdown import table
from flight_delays.core.profiles import Bins, Profile, bins_of_all, profile_of
from flight_delays.core.settings import Watch
from flight_delays.core.signals import Level, Signal
from flight_delays.core.training import columns_of
from flight_delays.tasks.drift_page import data_sets, empty_columns
from flight_delays.use_case import USE_CASE

SEED = 20130101
LENGTHS, ROWS = (1, 7, 28), (50, 200, 1_000, 10_000)
SHIFTS, WIDE = (0.1, 0.2, 0.5), 10
FIRST = date(2013, 1, 7)  # a Monday: shuffled days get dates of their own
MOST_DAYS = 56  # within which a shift is noticed, or not
PSI = 0.2

PAGE = """\
# The error rates of the monitor

How often does the monitor call for a person while nothing changes, and how soon does it notice what does? Made by
`python -m bench.monitor_rates`, with the code that looks at the data (`core/drift.py`, `core/data_checks.py`) and the
policy of `databricks.yml`: {policy}.
{columns} columns of the flights of 2013.

{summary}

![Quiet windows with an alarm; days until a shift is noticed](monitor-error-rates.png)

## While nothing changes

{windows:,} quiet windows of each kind: days of one season ({reference} before the window and the window's own),
shuffled, so that no day differs from another but by chance; each day's rows drawn again with replacement, as many as
the window needs. Share of windows with an alarm in any column:

{quiet}

"Promised" is what `false_alarms_per_month` leaves for one window. A window of one day has no drift test, but the checks
of nulls, levels, ranges, volume and duplicates, whose rate follows from `watch_tolerance`. Days with fewer than
{least} rows are not measured, so {sparse} rows in {longest} days raise no alarm. PSI is that of deciles of the
reference, above {psi}. Evidently's defaults choose a test by the number of rows, and call a column drifted by it; tried
on {evidently} windows of each kind.

On the days as they were, from the first with a whole reference to the end of the year:

{real}

These are changes that happened, like seasons, schedules and holidays; whether they matter, the loss tells.

## When something changes

On shuffled days again, a column is shifted by so many of its standard deviations from some day on. Days until the first
alarm on it, counted in windows as they come (each 7 and each 28 days); in {days} days:

{power}

Other columns alarm together, as those of the weather do: one window with a false alarm has several of them.
"""


@dataclass(frozen=True, kw_only=True)
class History:
    """Rows in the order of days, `bounds` of each day, and the bin of each row by column."""

    bins: Sequence[Bins]
    columns: Mapping[str, npt.NDArray[Any]]
    bounds: npt.NDArray[np.int64]
    codes: npt.NDArray[np.uint8]

    @property
    def days(self) -> int:
        """How many there are."""
        return len(self.bounds) - 1

    def rows(self, day: int, rows: int | None, random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Places of rows of a day: all, or so many drawn again."""
        begin, end = self.bounds[day], self.bounds[day + 1]
        return np.arange(begin, end) if rows is None else random.integers(begin, end, size=rows)

    def counts(self, at: npt.NDArray[np.int64], codes: npt.NDArray[np.uint8] | None = None) -> list[tuple[int, ...]]:
        """Rows in each bin, by column."""
        found = self.codes[at] if codes is None else codes
        return [tuple(np.bincount(found[:, place], minlength=one.size).tolist()) for place, one in enumerate(self.bins)]


def history() -> History:
    """The year, in bins of its first half."""
    rows = labelled().sort_values("day", kind="stable", ignore_index=True)
    columns = {name: values for name, values in columns_of(USE_CASE, rows).items() if values.dtype.kind != "M"}
    half = (rows["day"] < date(2013, 7, 1)).to_numpy()
    bins = bins_of_all({name: values[half] for name, values in columns.items()})
    codes = np.empty((len(rows), len(bins)), dtype=np.uint8)
    for place, one in enumerate(bins):
        codes[:, place] = one.place(columns[one.column])
    day = pd.factorize(rows["day"], sort=True)[0]
    return History(bins=bins, columns=columns, bounds=np.searchsorted(day, np.arange(day.max() + 2)), codes=codes)


def season(days: int, of: History, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Successive days, shuffled."""
    begin = random.integers(0, of.days - days + 1)
    return begin + random.permutation(days)


def profiles(of: History, counts: Sequence[Sequence[tuple[int, ...]]]) -> dict[str, dict[date, Profile]]:
    """By column and day, from counts by day and column."""
    days = [FIRST + timedelta(days=number) for number in range(len(counts))]
    return {
        one.column: {
            day: Profile(day=day, column=one.column, counts=by_column[place])
            for day, by_column in zip(days, counts, strict=True)
        }
        for place, one in enumerate(of.bins)
    }


def psi(of: History, before: Sequence[Sequence[tuple[int, ...]]], now: Sequence[Sequence[tuple[int, ...]]]) -> bool:
    """Whether that of any column is above the usual limit."""
    for place, one in enumerate(of.bins):
        old, new = (np.sum([day[place] for day in each], axis=0) for each in (before, now))
        if one.levels is None:  # deciles of the reference
            tenth = np.minimum((np.cumsum(old) - old / 2) * 10 // max(old.sum(), 1), 9).astype(int)
            old, new = (np.bincount(tenth, weights=each, minlength=10) for each in (old, new))
        p, q = ((each + 1e-4) / (each + 1e-4).sum() for each in (old, new))
        if float(((q - p) * np.log(q / p)).sum()) > PSI:
            return True
    return False


def evidently(of: History, before: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> bool:
    """Whether its defaults call any column drifted."""
    windows = [pd.DataFrame({name: values[at] for name, values in of.columns.items()}) for at in (before, now)]
    empty = empty_columns(*windows)
    sets = data_sets(USE_CASE, *(rows.drop(columns=empty) for rows in windows))
    from evidently import Report
    from evidently.presets import DataDriftPreset

    metrics = Report([DataDriftPreset()]).run(*sets).dict()["metrics"]
    return float(metrics[0]["value"]["count"]) > 0


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Share of windows with an alarm: by the monitor, by PSI, and by Evidently (None: not tried)."""

    length: int
    rows: int | None
    promised: float | None
    monitor: float
    psi: float
    evidently: float | None


def quiet(of: History, length: int, rows: int | None, watch: Watch, windows: int, few: int) -> Quiet:
    """Of windows while nothing changes."""
    random = np.random.default_rng([SEED, length, rows or 0])
    per_day = None if rows is None else max(rows // length, 1)
    last = FIRST + timedelta(days=watch.watch_reference_days + length - 1)
    alarms, beyond, others = 0, 0, 0
    for number in range(windows):
        drawn = [of.rows(day, per_day, random) for day in season(watch.watch_reference_days + length, of, random)]
        if length == 1:
            alarms += bool(daily(of, drawn, watch, last))
            counts = [of.counts(at) for at in drawn]
        else:
            counts = [of.counts(at) for at in drawn]
            found = drift(of.bins, profiles(of, counts), last, length, watch)
            alarms += any(one.level is Level.ALARM for one in found)
        beyond += psi(of, counts[:-length], counts[-length:])
        if number < few:
            others += evidently(of, np.concatenate(drawn[:-length]), np.concatenate(drawn[-length:]))
    return Quiet(
        length=length,
        rows=rows,
        promised=None if length == 1 else alpha_of(watch, length),
        monitor=alarms / windows,
        psi=beyond / windows,
        evidently=others / few if few else None,
    )


def daily(of: History, drawn: Sequence[npt.NDArray[np.int64]], watch: Watch, last: date) -> list[Signal]:
    """Alarms of a day's checks."""
    days = [last - timedelta(days=back) for back in reversed(range(len(drawn)))]
    by_column: dict[str, dict[date, Profile]] = {}
    for day, at in zip(days, drawn, strict=True):
        for one in profile_of(day, of.bins, {name: values[at] for name, values in of.columns.items()}):
            by_column.setdefault(one.column, {})[day] = one
    rows = {day: len(at) for day, at in zip(days, drawn, strict=True)}
    found = [*check_rows(rows, rows, last, watch, last=last), *check_columns(of.bins, by_column, last, watch)]
    return [one for one in found if one.level is Level.ALARM]


def real_days(of: History, watch: Watch) -> str:
    """Windows of the year as it was that have an alarm."""
    random = np.random.default_rng(SEED)
    drawn = [of.rows(day, None, random) for day in range(of.days)]
    counts = [of.counts(at) for at in drawn]
    told = []
    for length in watch.windows:
        ends = range(watch.watch_reference_days + length, of.days + 1, length)
        alarmed = 0
        for end in ends:
            some = counts[end - length - watch.watch_reference_days : end]
            last = FIRST + timedelta(days=len(some) - 1)
            alarmed += any(one.level is Level.ALARM for one in drift(of.bins, profiles(of, some), last, length, watch))
        told.append(f"- {alarmed} of {len(ends)} windows of {length} days have an alarm of drift;")
    length = watch.watch_reference_days
    days = sum(
        bool(daily(of, drawn[end - length : end + 1], watch, FIRST + timedelta(days=length)))
        for end in range(length, of.days)
    )
    return "\n".join([*told, f"- {days} of {of.days - length} days have one of another kind."])


@dataclass(frozen=True, kw_only=True)
class Noticed:
    """Of a shift: share noticed within the days, the median day of these, and other columns' alarms on the way."""

    shift: float
    columns: int
    share: float
    median: float
    others: float


def power(of: History, shift: float, columns: int, watch: Watch, tries: int) -> Noticed:
    """On shuffled days, whole; the columns are numbers, drawn anew each time."""
    random = np.random.default_rng([SEED, int(100 * shift), columns])
    numbers = [place for place, one in enumerate(of.bins) if one.levels is None and len(one.edges) > 4]
    days: list[int] = []
    others = 0
    for _ in range(tries):
        places = random.choice(numbers, columns, replace=False)
        names = [of.bins[place].column for place in places]
        order = season(watch.watch_reference_days + MOST_DAYS, of, random)
        counts = []
        for number, day in enumerate(order):
            at = of.rows(day, None, random)
            codes = of.codes[at].copy()
            if number >= watch.watch_reference_days:
                for place in places:
                    values = of.columns[of.bins[place].column].astype(np.float64)
                    codes[:, place] = of.bins[place].place(values[at] + shift * spread(of, place))
            counts.append(of.counts(at, codes))
        noticed = None
        for after in range(1, MOST_DAYS + 1):
            due = [length for length in watch.windows if after % length == 0]
            for length in due:
                end = watch.watch_reference_days + after
                some = counts[end - length - watch.watch_reference_days : end]
                last = FIRST + timedelta(days=len(some) - 1)
                found = drift(of.bins, profiles(of, some), last, length, watch)
                alarmed = {one.subject for one in found if one.level is Level.ALARM}
                others += len(alarmed - {*names})
                if noticed is None and alarmed & {*names}:
                    noticed = after
            if noticed is not None:
                days.append(noticed)
                break
    return Noticed(
        shift=shift,
        columns=columns,
        share=len(days) / tries,
        median=float(np.median(days)) if days else float("nan"),
        others=others / tries,
    )


def spread(of: History, place: int) -> float:
    """Standard deviation of a column."""
    return float(np.nanstd(of.columns[of.bins[place].column].astype(np.float64)))


def pictured(found: Sequence[Quiet], noticed: Sequence[Noticed]) -> Figure:
    """Quiet windows with an alarm by rows, and days until noticed by shift."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for length, colour in zip(LENGTHS, ("tab:gray", "tab:blue", "tab:orange"), strict=True):
        ours = [one for one in found if one.length == length and one.rows]
        rows = [one.rows for one in ours]
        left.plot(rows, [one.monitor for one in ours], "o-", color=colour, label=f"{length}-day window")
        left.plot(rows, [one.psi for one in ours], "x:", color=colour)
        if ours[0].promised:
            left.axhline(ours[0].promised, color=colour, linewidth=0.8, linestyle="--")
    left.set(xscale="log", xlabel="rows in the window", ylabel="quiet windows with an alarm", ylim=(-0.02, 1.02))
    left.set_title("line: monitor; dashed: promised; dotted: PSI > 0.2", fontsize=10)
    left.legend(frameon=False)
    for columns in (1, WIDE):
        seen = [one for one in noticed if one.columns == columns]
        right.plot([one.shift for one in seen], [one.share for one in seen], "o-", label=f"columns shifted: {columns}")
    right.set(xlabel="shift, standard deviations", ylabel=f"noticed within {MOST_DAYS} days", ylim=(-0.02, 1.02))
    right.legend(frameon=False)
    return figure


def rows_of(found: Sequence[Quiet]) -> Iterator[tuple[object, ...]]:
    """Of the table of quiet windows."""
    for one in found:
        yield (
            one.length,
            "all" if one.rows is None else f"{one.rows:,}",
            "" if one.promised is None else f"{one.promised:.1%}",
            f"{one.monitor:.1%}",
            f"{one.psi:.1%}",
            "" if one.evidently is None else f"{one.evidently:.1%}",
        )


def least_and_most(shares: Sequence[float]) -> str:
    """Both ends of what was found; one, if they are the same."""
    return " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))


def main() -> None:
    """Try everything, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=1_000, help="Quiet windows of each kind (default: %(default)s).")
    parser.add_argument("--tries", type=int, default=100, help="Shifts of each size (default: %(default)s).")
    parser.add_argument("--evidently", type=int, default=50, help="Windows for Evidently (default: %(default)s).")
    given = parser.parse_args()
    begun, of = time.monotonic(), history()
    watch = defaults(Watch)
    few = given.evidently if find_spec("evidently") else 0
    kinds = [(length, rows) for length in LENGTHS for rows in (*ROWS, None)]
    sizes = [(shift, columns) for columns in (1, WIDE) for shift in SHIFTS]
    every_core = Parallel(n_jobs=-1, return_as="generator")
    with Progress() as progress:
        tried = every_core(delayed(quiet)(of, length, rows, watch, given.windows, few) for length, rows in kinds)
        found: list[Quiet] = [*progress.track(tried, len(kinds), description="Quiet windows")]
        shifted = every_core(delayed(power)(of, shift, columns, watch, given.tries) for shift, columns in sizes)
        noticed: list[Noticed] = [*progress.track(shifted, len(sizes), description="Shifts")]
    tested = [one for one in found if one.promised is not None]
    worst = max(tested, key=lambda one: one.monitor / (one.promised or 1))
    checks = [one for one in found if one.length == 1]
    days = max(one.monitor for one in checks)
    promises = " and ".join(f"{alpha_of(watch, length):.1%} of windows of {length} days" for length in watch.windows)
    lines = [
        f"- **Drift alarms are as rare as promised.** `false_alarms_per_month` {watch.false_alarms_per_month:g} allows",
        f"  {promises}; at most {worst.monitor / (worst.promised or 1):.2f} times that was seen.",
        f"- **Daily checks** raise a false alarm on at most {days:.1%} of days, {30 * days:.1f} a month.",
        f"- **PSI above {PSI}** alarms in {least_and_most([one.psi for one in tested])} of the same quiet windows.",
    ]
    if few:
        shares = [one.evidently or 0.0 for one in tested]
        lines.append(f"- **Evidently's defaults** alarm in {least_and_most(shares)} of them.")
    page = PAGE.format(
        policy=", ".join(
            f"`{name}` {getattr(watch, name):g}"
            for name in ("false_alarms_per_month", "watch_reference_days", "watch_tolerance")
        ),
        columns=len(of.bins),
        summary="\n".join(lines),
        windows=given.windows,
        reference=f"{watch.watch_reference_days} days",
        quiet=table(("days", "rows", "promised", "monitor", f"PSI > {PSI}", "Evidently"), rows_of(found)),
        least=watch.min_rows,
        sparse=ROWS[0],
        longest=max(LENGTHS),
        psi=PSI,
        evidently=few,
        real=real_days(of, watch),
        days=MOST_DAYS,
        power=table(
            ("shift", "columns shifted", "noticed", "median days", "alarms of other columns on the way"),
            [
                (f"{one.shift:g} SD", one.columns, f"{one.share:.0%}", f"{one.median:.0f}", f"{one.others:.2f}")
                for one in noticed
            ],
        ),
    )
    (ROOT / "docs" / "monitor-error-rates.md").write_text(page, encoding="utf-8")
    pictured(found, noticed).savefig(ROOT / "docs" / "monitor-error-rates.png", dpi=110)
    print(f"{ROOT / 'docs' / 'monitor-error-rates.md'}, in {(time.monotonic() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
