"""Metrics with ranges from resampled whole days."""

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval, day_weights, interval
from flight_delays.core.metrics import CALIBRATION_BINS, Floats, calibration_bins, metrics, row_log_loss

_DRAWS = 1_000
_SEED = 20130101


def day_intervals(labels: Floats, probabilities: Floats, days: npt.NDArray[np.int64]) -> dict[str, Interval]:
    """Each metric, by its name in Metrics, and where it lies in 95 of 100 resamples; `days` are 0 to n - 1.

    Bins stay those of all rows. A resample with one class only has no AUC and is left out of its range.
    """
    n_days = int(days.max()) + 1
    drawn = day_weights(n_days, _DRAWS, _SEED)

    def per_day(values: Floats) -> Floats:
        return np.bincount(days, weights=values, minlength=n_days).astype(np.float64)

    bins = calibration_bins(probabilities)
    excess = np.stack([per_day((labels - probabilities) * (bins == each)) for each in range(CALIBRATION_BINS)], axis=1)
    rows, late = drawn @ per_day(np.ones_like(labels)), drawn @ per_day(labels)
    ranked = np.einsum("rd,de,re->r", drawn, _pairs_ranked(labels, probabilities, days), drawn, optimize=True)
    both = late * (rows - late) > 0
    resampled = {
        "log_loss": drawn @ per_day(row_log_loss(labels, probabilities)) / rows,
        "brier": drawn @ per_day(np.square(labels - probabilities)) / rows,
        "auc": ranked[both] / (late * (rows - late))[both],
        "calibration_error": np.abs(drawn @ excess).sum(axis=1) / rows,
    }
    scores = metrics(labels, probabilities).as_dict()
    return {name: interval(scores[name], values, 0.975) for name, values in resampled.items() if len(values)}


def _pairs_ranked(labels: Floats, probabilities: Floats, days: npt.NDArray[np.int64]) -> Floats:
    """Days x days: in how many pairs a late row of the one is ranked above a punctual row of the other, ties half.

    The AUC of any resample is then a sum over pairs of days: no row is ranked again.
    """
    n_days = int(days.max()) + 1
    ranks = np.unique(probabilities, return_inverse=True)[1]
    late = labels == 1
    pairs = np.zeros((n_days, n_days))
    for day in range(n_days):
        punctual = np.bincount(ranks[~late & (days == day)], minlength=int(ranks.max()) + 1)
        below = np.cumsum(punctual) - punctual / 2
        pairs[:, day] = np.bincount(days[late], weights=below[ranks[late]], minlength=n_days)
    return pairs
