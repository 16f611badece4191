"""Pictures of a model's quality: arrays in, a matplotlib Figure out."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from flight_delays.core.metrics import Floats, calibration_bins, metrics


def calibration(labels: Floats, probabilities: Floats) -> Figure:
    """Observed against forecast rate, over equally filled bins."""
    # Numbered anew, because ties may leave a bin empty.
    _, bins, counts = np.unique(calibration_bins(probabilities), return_inverse=True, return_counts=True)
    forecast = np.bincount(bins, weights=probabilities) / counts
    observed = np.bincount(bins, weights=labels) / counts
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="perfect")
    axes.plot(forecast, observed, marker="o", label="model")
    limit = 1.05 * max(float(forecast.max()), float(observed.max()))
    error = metrics(labels, probabilities).calibration_error
    axes.set(
        xlabel="forecast probability",
        ylabel="observed rate",
        title=f"Calibration: expected error {error:.4f}",
        xlim=(0, limit),
        ylim=(0, limit),
    )
    axes.legend()
    return figure


def roc(labels: Floats, probabilities: Floats) -> Figure:
    """True against false positive rate."""
    false_positive, true_positive, _ = roc_curve(labels, probabilities)
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="chance")
    axes.plot(false_positive, true_positive, label="model")
    axes.set(
        xlabel="false positive rate",
        ylabel="true positive rate",
        title=f"ROC: area {metrics(labels, probabilities).auc:.4f}",
    )
    axes.legend(loc="lower right")
    return figure


def importance(gains: Mapping[str, float]) -> Figure:
    """Each input's share of the total gain, in percent."""
    ordered = sorted(gains.items(), key=lambda item: item[1])
    total = sum(gains.values()) or 1.0
    figure, axes = _figure(height=0.28 * len(ordered) + 1.2)
    axes.barh([name for name, _ in ordered], [100 * gain / total for _, gain in ordered])
    axes.set(xlabel="share of the total gain (%)", title="What the model looks at")
    return figure


def _figure(height: float = 5.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, height), layout="constrained")
    return figure, figure.add_subplot()
