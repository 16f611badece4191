"""How good probabilities are, and how forecasts are binned. Arrays are one-dimensional and of equal length."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CALIBRATION_BINS = 20
_CLIP = 1e-7  # a probability of exactly 0 or 1 would cost infinitely much
_CERTAIN = 1e-15  # nor can it be corrected


def row_log_loss(labels: Floats, probabilities: Floats) -> Floats:
    """Negative log likelihood of each row, in nats; labels are 0 or 1."""
    p = np.clip(probabilities, _CLIP, 1 - _CLIP)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


def log_odds(probabilities: Floats) -> Floats:
    """Of each probability, kept from being exactly 0 or 1."""
    certain = np.clip(probabilities, _CERTAIN, 1 - _CERTAIN)
    odds: Floats = np.log(certain) - np.log1p(-certain)
    return odds


def probability(log_odds: Floats) -> Floats:
    """Of each log odds."""
    found: Floats = 1 / (1 + np.exp(-log_odds))
    return found


def calibration_bins(forecasts: Floats, bins: int = CALIBRATION_BINS) -> npt.NDArray[np.int64]:
    """Bin of each row: as equally filled as ties allow, by rising forecast."""
    edges = np.quantile(forecasts, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, forecasts, side="right").astype(np.int64)


def auc(labels: Floats, probabilities: Floats) -> float:
    """Area under the ROC curve; NaN when only one class is there."""
    from sklearn.metrics import roc_auc_score  # a second to import, which a look-up should not wait for

    return float("nan") if labels.min() == labels.max() else float(roc_auc_score(labels, probabilities))


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
