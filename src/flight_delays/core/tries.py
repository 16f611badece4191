"""Is a change worth a release? Its forecasts against the champion's, on days that neither has seen.

Both are what the folds' models of the search forecast, so the holdout has no part in it: that is the release's.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flight_delays.core.bootstrap import Interval, day_weights, interval
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.gates import Slice, by_slice, harm_by_slice
from flight_delays.core.settings import Policy
from flight_delays.core.training import REPEATS
from flight_delays.core.use_case import LABEL, UseCase

_CHAMPION = "_champion"  # what its columns end in, beside others
_CONFIDENCE = 0.975  # of each bound: 95 % between them


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Mean losses, and how much higher the new one is, between bounds that hold 95 % of resampled days and fits.

    Below 0 is better. `slices` have bounds that hold for all of them at once.
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
        return tuple(one for one in self.slices if one.worse_by and (one.worse_by.high < 0 or one.worse_by.low > 0))

    @property
    def in_words(self) -> str:
        """What was found."""
        if self.worse_by.high < 0:
            return "better than the champion"
        return "worse than the champion" if self.worse_by.low > 0 else "no difference shown"


def compare(use_case: UseCase, rows: pd.DataFrame, judged: pd.DataFrame, champion: pd.DataFrame) -> Comparison:
    """Forecasts `judged` (columns as in core.training.Fitted) against the champion's of the same entities.

    Losses are means over the repeats. What repeats differ by, because a fit draws random numbers, widens the bounds: a
    change of nothing else should not look like one. `rows` are features of all of them, for the slices. Raises
    UserError where they have none in common.
    """
    pairs = judged.merge(champion[[*KEY, *REPEATS]], on=[*KEY], suffixes=("", _CHAMPION))
    pairs = pairs.merge(rows.drop(columns=[DAY, LABEL]), on=[*KEY])
    if pairs.empty:
        raise UserError(
            "the champion's folds judged none of these rows: its data is of other days; train a new version"
        )
    labels, days = pairs[LABEL].to_numpy(dtype=np.float64), pd.factorize(pairs[DAY], sort=True)[0].astype(np.int64)
    losses, of_champion = (
        np.array([use_case.objective.loss(labels, pairs[name + end].to_numpy(dtype=np.float64)) for name in REPEATS])
        for end in ("", _CHAMPION)
    )
    worse = (losses - of_champion).mean(axis=0)
    rows_by_day, worse_by_day = np.bincount(days), np.bincount(days, weights=worse)
    weights = day_weights(len(rows_by_day), Policy.draws, Policy.seed)
    resampled = weights @ worse_by_day / (weights @ rows_by_day)
    spread = float(np.sqrt(sum(each.mean(axis=1).var(ddof=1) for each in (losses, of_champion)) / len(REPEATS)))
    by_chance = spread * np.random.default_rng(Policy.seed).standard_t(2 * (len(REPEATS) - 1), len(resampled))
    slices = by_slice(worse, days, use_case.slices(pairs))
    return Comparison(
        rows=len(pairs),
        days=len(rows_by_day),
        loss=float(losses.mean()),
        champion_loss=float(of_champion.mean()),
        worse_by=interval(float(worse.mean()), resampled + by_chance, _CONFIDENCE),
        slices=tuple(harm_by_slice(slices, weights, margin=0, confidence=_CONFIDENCE)),
    )
