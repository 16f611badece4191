"""Is a change worth a release? Its forecasts against the champion's, on days that neither has seen.

Both are what the folds' models of the search forecast, so the holdout has no part in it: that is the release's.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flight_delays.core.bootstrap import Interval, day_weights
from flight_delays.core.errors import UserError
from flight_delays.core.features import DAY, ENTITY
from flight_delays.core.gates import Evidence, Policy, Slice, by_day, harm_by_slice, mean_of_days
from flight_delays.core.use_case import LABEL, UseCase

_CONFIDENCE = 0.975  # of each bound: 95 % between them


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Mean losses, and how much higher the new one is, between bounds from resampled days; below 0 is better.

    `slices` have bounds that hold for all of them at once.
    """

    rows: int
    days: int
    loss: float
    champion_loss: float
    worse_by: Interval
    slices: tuple[Slice, ...]

    @property
    def moved(self) -> tuple[Slice, ...]:
        """Slices that are shown to be better or worse."""
        measured = [(one, one.worse_by) for one in self.slices if one.worse_by is not None]
        return tuple(one for one, by in measured if by.high < 0 or by.low > 0)

    @property
    def in_words(self) -> str:
        """What was found."""
        if self.worse_by.high < 0:
            return "better than the champion"
        return "worse than the champion" if self.worse_by.low > 0 else "no difference shown"


def compare(use_case: UseCase, rows: pd.DataFrame, judged: pd.DataFrame, champion: pd.DataFrame) -> Comparison:
    """Forecasts `judged` (entity_id, day, label, forecast) against the champion's of the same entities.

    `rows` are features of all of them, for the slices. Raises UserError where they have none in common.
    """
    pairs = judged.merge(champion[[ENTITY, "forecast"]], on=ENTITY, suffixes=("", "_champion"))
    pairs = pairs.merge(rows, on=ENTITY, suffixes=("", "_of_features"))
    if pairs.empty:
        raise UserError(
            "the champion's folds judged none of these rows: its data is of other days; train a new version"
        )
    labels, forecasts, of_champion = (
        pairs[name].to_numpy(dtype=np.float64) for name in (LABEL, "forecast", "forecast_champion")
    )
    days = pd.factorize(pairs[DAY], sort=True)[0].astype(np.int64)
    totals = by_day(
        Evidence(
            objective=use_case.objective,
            labels=labels,
            forecasts=forecasts,
            days=days,
            baseline=float(labels.mean()),
            champion=of_champion,
            slices=use_case.slices(pairs),
        )
    )
    weights = day_weights(len(totals.rows), Policy.draws, Policy.seed)
    loss, of_champion_loss = (use_case.objective.loss(labels, each) for each in (forecasts, of_champion))
    worse = np.bincount(days, weights=loss - of_champion_loss).astype(np.float64)
    return Comparison(
        rows=len(pairs),
        days=len(totals.rows),
        loss=float(loss.mean()),
        champion_loss=float(of_champion_loss.mean()),
        worse_by=mean_of_days(worse, totals.rows, weights, _CONFIDENCE),
        slices=tuple(harm_by_slice(totals, weights, _POLICY)),
    )


_POLICY = Policy(
    min_holdout_days=1,
    loss_margin=0,
    max_calibration_error=0,
    calibration_margin=0,
    slice_margin=0,
    max_latency_ms=1,
    max_size_mb=1,
    confidence=_CONFIDENCE,
)
