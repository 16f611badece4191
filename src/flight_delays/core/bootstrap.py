"""Bounds from resampled days.

Rows of one day have much in common, so they are not independent: whole days are drawn again, with replacement (Field
and Welsh 2007, clustered bootstrap).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flight_delays.core.metrics import Floats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate between two one-sided bounds."""

    low: float
    estimate: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


@lru_cache(maxsize=16)
def day_weights(days: int, draws: int, seed: int) -> Floats:
    """How often each resample draws each day: draws x days, whole numbers. Cached, and therefore read-only."""
    drawn = np.random.default_rng(seed).integers(days, size=(draws, days)) + days * np.arange(draws)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=draws * days).reshape(draws, days).astype(np.float64)
    weights.flags.writeable = False
    return weights


def interval(estimate: float, resampled: Floats, confidence: float) -> Interval:
    """Percentile bounds, each one-sided at `confidence`."""
    low, high = np.quantile(resampled, [1 - confidence, confidence])
    return Interval(low=float(low), estimate=estimate, high=float(high))


def simultaneous(estimates: Floats, resampled: Floats, confidence: float) -> list[Interval]:
    """Bounds that hold for all estimates at once: all lower ones, or all upper ones, with probability `confidence`.

    `resampled` is draws x estimates. The largest studentized error of each resample says how far bounds must reach
    (max-t, one step of Romano and Wolf 2005, Econometrica 73).
    """
    errors = resampled - estimates
    scale = resampled.std(axis=0)
    studentized = errors / np.where(scale > 0, scale, 1)
    below = np.quantile(studentized.max(axis=1, initial=0), confidence) * scale
    above = np.quantile(-studentized.min(axis=1, initial=0), confidence) * scale
    return [
        Interval(low=float(estimate - down), estimate=float(estimate), high=float(estimate + up))
        for estimate, down, up in zip(estimates, below, above, strict=True)
    ]
