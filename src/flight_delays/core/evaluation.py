"""How good a model is on unseen rows, in total and by slice."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flight_delays.core.bootstrap import Interval
from flight_delays.core.feature_set import DAY
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import day_intervals
from flight_delays.core.use_case import LABEL, UseCase


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Metrics of some rows, with their ranges over resampled days."""

    metrics: Mapping[str, float]
    ranges: Mapping[str, Interval]

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.metrics["rows"])


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All rows, and those of each slice by dimension and value."""

    labels: Floats
    forecasts: Floats
    scored: Scored
    slices: Mapping[tuple[str, str], Scored]


def evaluate(use_case: UseCase, rows: pd.DataFrame, forecasts: Floats) -> Evaluation:
    """How good `forecasts` are for labelled rows of features."""
    labels, days = rows[LABEL].to_numpy(dtype=np.float64), rows[DAY].to_numpy()

    def scored(there: slice | Floats) -> Scored:
        numbers = np.unique(days[there], return_inverse=True)[1]
        return Scored(
            metrics=use_case.objective.metrics(labels[there], forecasts[there]),
            ranges=day_intervals(use_case.objective, labels[there], forecasts[there], numbers),
        )

    return Evaluation(
        labels=labels,
        forecasts=forecasts,
        scored=scored(slice(None)),
        slices={
            (dimension, str(value)): scored(values == value)
            for dimension, values in use_case.slices(rows).items()
            for value in np.unique(values)
        },
    )
