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


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a metric lies in 95 of 100 resamples."""

    low: float
    high: float


def row_log_loss(labels: Floats, probabilities: Floats) -> Floats:
    """Negative log likelihood of each row, in nats."""
    p = np.clip(probabilities, _CLIP, 1 - _CLIP)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


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


def day_intervals(
    labels: Floats, probabilities: Floats, days: npt.NDArray[np.int64], *, draws: int = 1_000, seed: int = 20130101
) -> dict[str, Range]:
    """Range of each metric, by its name in Metrics, over resampled whole days; `days` numbers each row's, 0 to n - 1.

    The clustered bootstrap (Field and Welsh 2007): rows of one day share its weather. Bins stay those of all rows. A
    resample with one class only has no AUC and is left out of its range.
    """
    n_days = int(days.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_days, np.full(n_days, 1 / n_days), size=draws).astype(np.float64)

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
    return {
        name: Range(low=float(np.quantile(values, 0.025)), high=float(np.quantile(values, 0.975)))
        for name, values in resampled.items()
        if len(values)
    }


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
