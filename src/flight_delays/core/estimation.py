"""How good forecasts will turn out, said before their outcomes are known, from forecasts whose outcomes are.

That of a classification is CBPE, confidence-based performance estimation: calibrated probabilities say how often each
loss will occur (Garg et al. 2022, arXiv 2201.04234; https://nannyml.readthedocs.io, "How CBPE works"). That of a
regression learns the loss itself, by the size of the forecast (direct loss estimation, same pages). Both are right only
while the relation of features and outcome stays the same: they see another mix of rows, and no concept drift.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from flight_delays.core.feature_set import DAY
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import Objective
from flight_delays.core.performance import FORECAST, counted
from flight_delays.core.use_case import LABEL, LABEL_KNOWN_AT

MIN_ROWS, CALIBRATED_ON_DAYS = 200, 28
"""Outcomes below which nothing is estimated, and days of which they are taken."""


@dataclass(frozen=True, kw_only=True)
class LossByForecast:
    """The expected loss of a row by its forecast, learnt from `labels` and `forecasts` that are known."""

    objective: Objective
    labels: Floats
    forecasts: Floats

    @property
    def is_enough(self) -> bool:
        """Whether enough outcomes are known, and not all are the same."""
        return len(self.labels) >= MIN_ROWS and self.objective.learnable(self.labels)

    def of(self, forecasts: Floats) -> Floats:
        """That of each row."""
        return self.objective.expected_loss(self.labels, self.forecasts, forecasts)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the loss of a day's forecasts will be, on average over its `rows`; None where too little is known.

    `expected` is by the folds of the training, `estimated` by the outcomes of `labelled_days` before, known by the
    day's end.
    """

    day: date
    rows: int
    expected_loss: float | None
    estimated_loss: float | None
    labelled_days: int


def estimates(
    objective: Objective,
    forecasts: pd.DataFrame,
    days: Sequence[date],
    *,
    folds: LossByForecast | None,
    reach: int,
    zone: ZoneInfo,
) -> list[Estimate]:
    """Of each of `days`, from a version's forecasts from one source, in the order of `in_order`.

    `forecasts` has the columns of `core.performance.counted`, day, forecast, label (NaN while there is none) and
    label_known_at; outcomes of up to `reach` days before count.
    """
    rows = forecasts[counted(forecasts)]
    found = []
    for day in days:
        asked = rows.loc[rows[DAY] == day, FORECAST].to_numpy(dtype=np.float64)
        ended = pd.Timestamp(datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)).tz_convert("UTC")
        within = (rows[DAY] < day) & (rows[DAY] >= day - timedelta(days=reach))
        known = rows[within & (rows[LABEL_KNOWN_AT] <= ended.tz_localize(None)) & rows[LABEL].notna()]
        labels, made = (known[name].to_numpy(dtype=np.float64) for name in (LABEL, FORECAST))
        before = LossByForecast(objective=objective, labels=labels, forecasts=made)
        found.append(
            Estimate(
                day=day,
                rows=len(asked),
                expected_loss=_mean(folds, asked),
                estimated_loss=_mean(before, asked),
                labelled_days=int(known[DAY].nunique()),
            )
        )
    return found


def _mean(known: LossByForecast | None, asked: Floats) -> float | None:
    if known is None or not len(asked) or not known.is_enough:
        return None
    return float(known.of(asked).mean())
