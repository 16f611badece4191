"""How good probabilities are. Arrays are one-dimensional and of equal length; labels are 0 or 1."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

Floats = npt.NDArray[np.float64]

CALIBRATION_BINS = 20
_CLIP = 1e-7  # a probability of exactly 0 or 1 would cost infinitely much


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Scores of one model on one set of rows; lower is better for all but AUC."""

    rows: int
    positive_rate: float
    log_loss: float
    brier: float
    auc: float
    calibration_error: float

    def as_dict(self) -> dict[str, float]:
        """Name to value, as MLflow logs them."""
        return asdict(self)


def row_log_loss(labels: Floats, probabilities: Floats) -> Floats:
    """Negative log likelihood of each row, in nats."""
    p = np.clip(probabilities, _CLIP, 1 - _CLIP)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


def log_odds(probabilities: Floats) -> Floats:
    """Of each probability, strictly between 0 and 1."""
    odds: Floats = np.log(probabilities) - np.log1p(-probabilities)
    return odds


def calibration_bins(probabilities: Floats, bins: int = CALIBRATION_BINS) -> npt.NDArray[np.int64]:
    """Bin of each row: as equally filled as ties allow, by rising probability."""
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="right").astype(np.int64)


def calibration_error(labels: Floats, probabilities: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over equally filled bins: the mean distance of forecast and observed rate.

    Naeini, Cooper, Hauskrecht 2015 (AAAI); equally filled bins after Nixon et al. 2019.
    """
    excess = np.bincount(calibration_bins(probabilities, bins), weights=labels - probabilities, minlength=bins)
    return float(np.abs(excess).sum() / len(labels))


def metrics(labels: Floats, probabilities: Floats) -> Metrics:
    """All metrics of one model; AUC is NaN when only one class is present."""
    one_class = labels.min() == labels.max()
    return Metrics(
        rows=len(labels),
        positive_rate=float(labels.mean()),
        log_loss=float(row_log_loss(labels, probabilities).mean()),
        brier=float(np.square(labels - probabilities).mean()),
        auc=float("nan") if one_class else float(roc_auc_score(labels, probabilities)),
        calibration_error=calibration_error(labels, probabilities),
    )
