"""Whether the rows of a window are spread otherwise than those of the days before, at an error that the user sets.

Rows of one day are not independent, so the day is the unit of evidence: what a distance means is found by drawing the
window from all days anew. How often this cries wolf, beside others, is in docs/monitoring.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, ndtr

from flight_delays.core.metrics import Floats
from flight_delays.core.profiles import Bins, Profile
from flight_delays.core.settings import Watch
from flight_delays.core.signals import Kind, Level, Signal, unknown

DAYS_PER_MONTH = 30
_ROUNDED = 1e-18  # squared: less than this is no difference
_LEAST_SHARE = 1e-4  # a level that hardly any row has must not outweigh all others


def alpha_of(policy: Watch, days: int) -> float:
    """The probability of a false alarm, over all columns, in one window of so many days.

    Windows of one length follow each other, so that a month has 30 / days of them; the lengths share the budget evenly.
    """
    return min(policy.false_alarms_per_month / len(policy.windows) * days / DAYS_PER_MONTH, 0.5)


def windows_due(last: date, known: frozenset[tuple[int, date]], policy: Watch) -> list[tuple[int, date]]:
    """Length and last day of each window that ends by `last` and was not looked at, the longest one back at most.

    Windows of a length follow each other without a gap, counted from one fixed day on, however often this runs.
    """
    reach = max(policy.windows)
    days = [last - timedelta(days=back) for back in reversed(range(reach))]
    return [
        (length, day)
        for length in policy.windows
        for day in days
        if (day.toordinal() + 1) % length == 0 and (length, day) not in known
    ]


def drift(
    bins: Sequence[Bins], profiles: Mapping[str, Mapping[date, Profile]], day: date, days: int, policy: Watch
) -> list[Signal]:
    """Of each column, by its profile of each day: the window of `days` days that ends with `day` against those before.

    The statistic of a column is the squared distance between the mean shares of window and reference: of cumulative
    shares for numbers (Cramer and von Mises), of shares over the root of their mean for text (chi squared). Its
    distribution while nothing changes comes from `policy.permutations` windows made of blocks of `policy.block_days`
    successive days drawn from all of them; tails beyond what these show by a Pearson distribution with their mean,
    variance and skewness (Kazi-Aoual et al. 1995, Computational Statistics & Data Analysis 20). Of all columns those
    are alarms that Benjamini and Hochberg (1995) find at `alpha_of`: while nothing changes, there is any with that
    probability.

    UNKNOWN unless half of the window's days and `policy.min_reference_days` of the reference have enough rows.
    """
    first = day - timedelta(days=days - 1)
    begin = first - timedelta(days=policy.watch_reference_days)
    found: list[Signal] = []
    tested: list[_Column] = []
    for one in bins:
        there = sorted(
            (
                profile
                for at, profile in profiles.get(one.column, {}).items()
                if begin <= at <= day and profile.rows >= policy.min_rows
            ),
            key=lambda profile: profile.day,
        )
        column = _Column(bins=one, profiles=there, since=first)
        now, before = int(column.in_window.sum()), int((~column.in_window).sum())
        if 2 * now < days or before < policy.min_reference_days:
            why = (
                f"{now} of {days} days and {before} days before them have {policy.min_rows} rows, "
                f"{-(-days // 2)} and {policy.min_reference_days} needed"
            )
            found.append(unknown(Kind.DRIFT, one.column, day, days, why))
        else:
            tested.append(column)
    p_values = _p_values(tested, policy)
    alarms = discoveries(p_values, alpha_of(policy, days))
    for column, p_value, alarm in zip(tested, p_values, alarms, strict=True):
        found.append(
            Signal(
                kind=Kind.DRIFT,
                subject=column.bins.column,
                day=day,
                days=days,
                level=Level.ALARM if alarm else Level.OK,
                value=column.distance,
                p_value=float(p_value),
                reason=f"{column.in_words()}; p {p_value:.2g}",
            )
        )
    return found


def discoveries(p_values: Floats, alpha: float) -> npt.NDArray[np.bool_]:
    """Which are rejected: among them at most a share `alpha` is false, on average (Benjamini and Hochberg 1995)."""
    if not len(p_values):
        return np.zeros(0, dtype=np.bool_)
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered <= alpha * np.arange(1, len(p_values) + 1) / len(p_values))
    return p_values <= (ordered[below[-1]] if len(below) else -1.0)


def upper_tail(value: float, drawn: Floats) -> float:
    """Probability of at least `value` under a Pearson type III distribution with the moments of what was drawn."""
    spread = float(drawn.std())
    if spread <= 1e-12 * max(abs(float(drawn.mean())), 1e-300):
        return 1.0
    standardized = (drawn - drawn.mean()) / spread
    at, skewness = (value - float(drawn.mean())) / spread, float((standardized**3).mean())
    if skewness < 1e-3:
        return float(ndtr(-at))
    shape = 4 / skewness**2
    return float(gammaincc(shape, max(shape + at * np.sqrt(shape), 0.0)))


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column's profiles of the days before and of the window, which begins with `since`."""

    bins: Bins
    profiles: Sequence[Profile]
    since: date

    @property
    def in_window(self) -> npt.NDArray[np.bool_]:
        return np.array([profile.day >= self.since for profile in self.profiles], dtype=np.bool_)

    @property
    def shares(self) -> Floats:
        """Days x bins."""
        counts = np.array([profile.counts for profile in self.profiles], dtype=np.float64)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    @property
    def places(self) -> Floats:
        """Days x coordinates, in which distances are measured."""
        shares = self.shares
        if self.bins.levels is not None:
            return np.asarray(shares / np.sqrt(np.maximum(shares.mean(axis=0), _LEAST_SHARE)))
        return np.column_stack([np.cumsum(shares[:, :-1], axis=1)[:, :-1], shares[:, -1]])

    @property
    def distance(self) -> float:
        """The largest difference between window and reference in the share of rows: below any edge, or of any level."""
        shares, now = self.shares, self.in_window
        if self.bins.levels is None:
            shares = np.column_stack([np.cumsum(shares[:, :-1], axis=1), shares[:, -1]])
        return float(np.abs(shares[now].mean(axis=0) - shares[~now].mean(axis=0)).max())

    def in_words(self) -> str:
        """What changed most: the mean of a number, its share of nulls, or the share of a level."""
        shares, now = self.shares, self.in_window
        after, before = shares[now].mean(axis=0), shares[~now].mean(axis=0)
        if abs(after[-1] - before[-1]) >= 0.5 * self.distance:
            return f"nulls {before[-1]:.1%} before, {after[-1]:.1%} now"
        if self.bins.levels is None:
            means = [self._mean(~now), self._mean(now)]
            return f"mean {means[0]:.4g} before, {means[1]:.4g} now"
        at = int(np.abs(after - before)[:-1].argmax())
        level = self.bins.levels[at] if at < len(self.bins.levels) else "others"
        return f"share of {level} {before[at]:.1%} before, {after[at]:.1%} now"

    def _mean(self, which: npt.NDArray[np.bool_]) -> float:
        ours = [profile for profile, wanted in zip(self.profiles, which, strict=True) if wanted]
        known = sum(profile.known for profile in ours)
        return sum((profile.mean or 0.0) * profile.known for profile in ours) / known if known else float("nan")


def _p_values(columns: Sequence[_Column], policy: Watch) -> Floats:
    """Of each column; columns with the same days are drawn together."""
    p_values = np.ones(len(columns))
    by_days: dict[tuple[date, ...], list[int]] = {}
    for at, column in enumerate(columns):
        by_days.setdefault(tuple(profile.day for profile in column.profiles), []).append(at)
    for days, group in by_days.items():
        weights = _weights(len(days), int(columns[group[0]].in_window.sum()), policy)
        for at in group:
            squared = np.square(weights @ columns[at].places).sum(axis=1)
            if squared[0] > _ROUNDED:
                p_values[at] = upper_tail(float(squared[0]), squared[1:])
    return p_values


@lru_cache(maxsize=16)
def _weights(days: int, length: int, policy: Watch) -> Floats:
    """Draws x days: plus the mean of a window's days, minus that of all others; first of the last days, then as drawn.

    Cached, and therefore read-only.
    """
    block = min(policy.block_days, length)
    weights = np.full((policy.permutations + 1, days), -1 / (days - length))
    weights[0, -length:] = 1 / length
    random = np.random.default_rng(policy.seed)
    for row in weights[1:]:
        successive = (np.arange(days) + random.integers(days)) % days
        blocks = np.array_split(successive, range(block, days, block))
        drawn = np.concatenate([blocks[at] for at in random.permutation(len(blocks))])[:length]
        row[drawn] = 1 / length
    weights.flags.writeable = False
    return weights
