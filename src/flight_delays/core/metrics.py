"""How forecasts are binned and ranked. Arrays are one-dimensional and of equal length."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CALIBRATION_BINS = 20


def calibration_bins(forecasts: Floats, bins: int = CALIBRATION_BINS) -> npt.NDArray[np.int64]:
    """Bin of each row: as equally filled as ties allow, by rising forecast."""
    return bins_like(forecasts, forecasts, bins)


def bins_like(others: Floats, forecasts: Floats, bins: int = CALIBRATION_BINS) -> npt.NDArray[np.int64]:
    """Bin of each row of `forecasts`, of those that `others` fill equally."""
    edges = np.quantile(others, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, forecasts, side="right").astype(np.int64)


def pairs_ranked(labels: Floats, probabilities: Floats, days: npt.NDArray[np.int64]) -> Floats:
    """Days x days: in how many pairs a positive row of the one is ranked above a negative row of the other, ties half.

    The AUC of any resample is then a sum over pairs of days: no row is ranked again.
    """
    n_days = int(days.max()) + 1
    ranks = np.unique(probabilities, return_inverse=True)[1]
    positive = labels == 1
    pairs = np.zeros((n_days, n_days))
    for day in range(n_days):
        negative = np.bincount(ranks[~positive & (days == day)], minlength=int(ranks.max()) + 1)
        below = np.cumsum(negative) - negative / 2
        pairs[:, day] = np.bincount(days[positive], weights=below[ranks[positive]], minlength=n_days)
    return pairs
