"""Whole days to train on and whole days to evaluate on."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd

from flight_delays.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Days `first` (included) to `end` (excluded), in local days of the place where events happen."""

    first: date
    end: date

    @property
    def days(self) -> int:
        """Number of days."""
        return max((self.end - self.first).days, 0)

    def unseen_by(self, *trained_until: date) -> "Holdout":
        """The part that no model trained on days before each of `trained_until` has seen."""
        first = max([self.first, *trained_until])
        return Holdout(first=min(first, self.end), end=self.end)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to learn from, rows of the holdout, and the first day that no model may have seen."""

    training: pd.DataFrame
    test: pd.DataFrame
    trained_until: date


def split_at(rows: pd.DataFrame, first: date, zone: ZoneInfo) -> Split:
    """Labelled rows: those from `first` on, and earlier ones whose outcome was known when that day began."""
    earlier = rows["day"] < first
    # What was not known by then could not have been learnt from.
    known = rows["label_known_at"].dt.tz_localize("UTC") <= datetime.combine(first, time(), tzinfo=zone)
    return Split(training=rows[earlier & known], test=rows[~earlier], trained_until=first)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Learn from the days before `train_end`; judge by the days from `first` (included) to `end` (excluded)."""

    train_end: date
    first: date
    end: date


def expanding_folds(first: date, end: date, *, folds: int, days: int, gap: int) -> tuple[Fold, ...]:
    """`folds` windows of whole days to judge by, one after the other and the last up to `end`; oldest first.

    Each window is judged by a model of all days from `first` on that end `gap` days before it. A window has `days`
    days, or fewer where the first fold would learn from fewer days than it is judged by. Raises UserError below one.
    """
    days = min(days, ((end - first).days - gap) // (folds + 1))
    if days < 1:
        raise UserError(
            f"{max((end - first).days, 0)} days from {first} on are too few for {folds} folds with a gap of {gap}; "
            f"lower holdout_days or move as_of"
        )
    windows = [end - timedelta(days=days * back) for back in range(folds, -1, -1)]
    return tuple(
        Fold(train_end=window - timedelta(days=gap), first=window, end=after) for window, after in pairwise(windows)
    )
