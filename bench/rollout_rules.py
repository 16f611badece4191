"""Whole rollouts on drawn days: the quality clock itself, and simpler rules on the same days.

Labels of a day are known one day after it ended: after n + 1 days of a rollout n days are known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
from scipy import stats

from flight_delays.core.backtest import History
from flight_delays.core.drawn import Ended
from flight_delays.core.metrics import Floats
from flight_delays.core.quality import EFFECT_SIZE, PairedDay, confidence_sequence, reach
from flight_delays.core.settings import RolloutPolicy

MATURITY = timedelta(days=1)
CLOCK, ASYMPTOTIC, PEEKING, ONCE = "quality clock", "asymptotic sequence", "t-test every day", "t-test once, at the end"
ROWS, THRESHOLDS, RANKS = "sequence over rows", "fixed threshold", "Mann-Whitney"
ROW_EFFECT = 0.02  # expected mean over standard deviation of a row: where its sequence is narrow
FAILURES = 3  # days in a row beyond the threshold
CANARY = 0.98  # confidence of the Mann-Whitney test


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A challenger and a champion on real days: values by day; `squares` sums the rows' squared differences in loss."""

    paired: tuple[PairedDay, ...]
    rows: Floats
    worse: Floats  # mean loss minus the champion's
    squares: Floats
    champion: Floats  # mean loss
    challenger: Floats


def pair(history: History, challenger: Floats, champion: Floats) -> Pair:
    """Forecasts by row summed by day."""
    labels, days, objective = history.evidence.labels, history.evidence.days, history.evidence.objective
    rows = np.bincount(days).astype(np.float64)
    losses = [objective.loss(labels, forecasts) for forecasts in (challenger, champion)]
    means = [np.bincount(days, weights=loss) / rows for loss in losses]
    return Pair(
        paired=history.paired(challenger, champion),
        rows=rows,
        worse=means[0] - means[1],
        squares=np.bincount(days, weights=(losses[0] - losses[1]) ** 2),
        champion=means[1],
        challenger=means[0],
    )


def held_at(policy: RolloutPolicy) -> int:
    """The share at which a rollout waits for quality, %."""
    return max(stage for stage in policy.rollout_stages if stage < policy.quality_needed_for)


Known = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What rules look at on each day (the second axis) of each rollout: `n` days are known."""

    n: Floats
    rows: Floats
    worse: Floats
    squares: Floats
    champion: Floats
    challenger: Floats

    @property
    def mean(self) -> Floats:
        """Of the days known."""
        return self.worse.cumsum(axis=1) / self.n

    @property
    def error(self) -> Floats:
        """Standard error of the mean, as if days were independent; NaN on the first."""
        squared = np.maximum((self.worse**2).cumsum(axis=1) - self.n * self.mean**2, 0)
        with np.errstate(all="ignore"):
            return np.sqrt(squared / (self.n - 1) / self.n)


def by_rule(found: Pair, drawn: npt.NDArray[np.int64], policy: RolloutPolicy) -> dict[str, Ended]:
    """The same rollouts by simpler rules, which look at loss alone."""
    known = drawn[:, : policy.quality_limit_days - 1]
    values = {name: getattr(found, name)[known] for name in ("rows", "worse", "squares", "champion", "challenger")}
    seen = Seen(n=np.arange(1, known.shape[1] + 1), **values)
    every_row = found.rows[drawn].cumsum(axis=1)
    return {name: _ended(*rule(seen, policy), every_row, policy) for name, rule in RULES.items()}


def _ended(good: Known, worse: Known, every_row: Floats, policy: RolloutPolicy) -> Ended:
    stops = good | worse
    at, some = stops.argmax(axis=1), stops.any(axis=1)
    each = np.arange(len(stops))
    days = np.where(some, at + 2, policy.quality_limit_days)
    rows = every_row[each, days - 1]
    return Ended(
        promoted=some & ~worse[each, at],
        rolled_back=some & worse[each, at],
        days=days.astype(np.float64),
        exposed=rows * held_at(policy) / 100,
        rows=rows,
    )


def _within(mean: Floats, low_by: Floats, high_by: Floats, policy: RolloutPolicy) -> tuple[Known, Known]:
    with np.errstate(invalid="ignore"):
        return mean + high_by <= policy.max_loss_increase, mean - low_by > 0


def asymptotic(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """The sequence of Waudby-Smith et al. (2021, arXiv 2103.06476) over days."""
    error = seen.error * np.sqrt(seen.n) * asymptotic_reach(seen.n, 1 - policy.quality_confidence)
    return _from(policy, seen, *_within(seen.mean, error, error, policy))


def asymptotic_reach(n: Floats, alpha: float) -> Floats:
    """Half the width, in standard deviations: two-sided at twice alpha, for the same expected effect size."""
    scale = n * EFFECT_SIZE**2 + 1
    return np.sqrt(2 * scale / (n * EFFECT_SIZE) ** 2 * np.log(np.sqrt(scale) / (2 * alpha)))


def peeking(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """A one-sided t-test of a fixed length, looked at every day."""
    with np.errstate(all="ignore"):
        error = seen.error * stats.t.ppf(policy.quality_confidence, seen.n - 1)
    return _from(policy, seen, *_within(seen.mean, error, error, policy))


def once(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """The same test looked at on the last day alone."""
    good, worse = peeking(seen, policy)
    last = seen.n == seen.n[-1]
    return good & last, worse & last


def over_rows(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """A sequence over rows, as if those of a day were independent; so many that their variance is known."""
    rows = seen.rows.cumsum(axis=1)
    mean = (seen.worse * seen.rows).cumsum(axis=1) / rows
    deviation = np.sqrt(np.maximum(seen.squares.cumsum(axis=1) / rows - mean**2, 0))
    scale = rows * ROW_EFFECT**2 + 1
    alpha = 2 * (1 - policy.quality_confidence)
    error = deviation * np.sqrt(2 * scale / (rows * ROW_EFFECT) ** 2 * np.log(np.sqrt(scale) / alpha))
    return _within(mean, error, error, policy)


def thresholds(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """Argo Rollouts' kind: a day's loss above the margin fails; so many in a row end it; else it is promoted."""
    failed = np.pad(seen.worse > policy.max_loss_increase, ((0, 0), (FAILURES - 1, 0)))
    in_a_row = np.lib.stride_tricks.sliding_window_view(failed, FAILURES, axis=1).all(axis=2)
    return np.broadcast_to(seen.n == policy.quality_min_days, seen.worse.shape), in_a_row


def ranks(seen: Seen, policy: RolloutPolicy) -> tuple[Known, Known]:
    """Kayenta's kind: both versions' daily losses, not paired; rolled back if higher, promoted if that is not shown."""
    above = seen.challenger[:, :, None] > seen.champion[:, None, :]
    pairs = above.cumsum(axis=1).cumsum(axis=2).diagonal(axis1=1, axis2=2)
    z = (pairs - seen.n**2 / 2) / np.sqrt(seen.n**2 * (2 * seen.n + 1) / 12)
    higher = (z > stats.norm.ppf((1 + CANARY) / 2)) & (seen.n >= 5)
    return np.broadcast_to(seen.n == policy.quality_min_days, seen.worse.shape), higher


def _from(policy: RolloutPolicy, seen: Seen, good: Known, worse: Known) -> tuple[Known, Known]:
    enough = seen.n >= policy.quality_min_days
    return good & enough, worse & enough


RULES: Mapping[str, Callable[[Seen, RolloutPolicy], tuple[Known, Known]]] = {
    ASYMPTOTIC: asymptotic,
    PEEKING: peeking,
    ONCE: once,
    ROWS: over_rows,
    THRESHOLDS: thresholds,
    RANKS: ranks,
}

# How often a bound of each kind is ever crossed, on days that resemble the day before.
BLIND, WEEKS = "all days count", "whole weeks"
SEQUENCES = (CLOCK, BLIND, WEEKS, ASYMPTOTIC, PEEKING)
_FEWEST = 7


def autocorrelated(rng: np.random.Generator, replicates: int, days: int, correlation: float) -> Floats:
    """AR(1), mean 0, variance 1."""
    drawn = rng.standard_normal((replicates, days))
    for at in range(1, days):
        drawn[:, at] = correlation * drawn[:, at - 1] + np.sqrt(1 - correlation**2) * drawn[:, at]
    return drawn


def first_above(values: Floats, alpha: float) -> dict[str, Floats]:
    """After how many days the lower bound of each sequence is above 0 for the first time; infinite if never."""
    n = np.arange(1, values.shape[1] + 1)
    seen = Seen(n=n, worse=values, **dict.fromkeys(("rows", "squares", "champion", "challenger"), values))

    def lower(one: Floats, days: int) -> float:
        return confidence_sequence(one[:days], alpha_low=alpha, alpha_high=alpha).low

    with np.errstate(all="ignore"):
        t = seen.mean / seen.error
        quantile = stats.t.ppf(1 - alpha, n - 1)
    shown = {
        CLOCK: np.array([[lower(one, days) > 0 if days >= _FEWEST else False for days in n] for one in values]),
        BLIND: t > [reach(days, alpha) for days in n],
        ASYMPTOTIC: t > np.sqrt(n) * asymptotic_reach(n, alpha),
        PEEKING: t > quantile,
    }
    found = {name: _first(n, above & (n >= _FEWEST)) for name, above in shown.items()}
    whole = values.shape[1] // 7
    weeks = values[:, : 7 * whole].reshape(-1, whole, 7).mean(axis=2)
    above = np.array([[lower(one, week) > 0 for week in range(1, whole + 1)] for one in weeks])
    return {**found, WEEKS: 7 * _first(n[:whole], above)}


def _first(n: Floats, above: Known) -> Floats:
    return np.where(above.any(axis=1), n[above.argmax(axis=1)], np.inf)
