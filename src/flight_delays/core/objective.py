"""What a model is to forecast, and how good a forecast is: loss per row, metrics, calibration, what knows nothing.

Labels and forecasts are one-dimensional arrays of equal length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval, day_weights, interval
from flight_delays.core.metrics import (
    CALIBRATION_BINS,
    Floats,
    auc,
    calibration_bins,
    log_odds,
    pairs_ranked,
    probability,
    row_log_loss,
)

_DRAWS = 1_000
_SEED = 20130101


class Objective(Protocol):
    """What training, gate, slices and model card ask."""

    @property
    def kind(self) -> Literal["binary", "regression"]:
        """How a model that travels is told what to answer."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """What a model answers: columns and their types, in the registry's words."""

    @property
    def forecast(self) -> str:
        """The output that is compared with the label."""

    @property
    def loss_name(self) -> str:
        """Of the loss, for people."""

    @property
    def baseline_name(self) -> str:
        """Of what a model forecasts that knows nothing."""

    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Of each row; the less the better."""

    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """How much each outcome is above its forecast, in units of the calibration error."""

    def link(self, forecasts: Floats) -> Floats:
        """Forecasts on the scale on which they are corrected and blended."""

    def unlink(self, values: Floats) -> Floats:
        """The reverse of `link`."""

    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """Slope and intercept that correct these forecasts best, after `link`."""

    def learnable(self, labels: Floats) -> bool:
        """Whether there is anything to be learnt from these labels."""

    def metrics(self, labels: Floats, forecasts: Floats) -> dict[str, float]:
        """All scores of one model, by name; `rows` and `label_mean` first. NaN where one cannot be had."""

    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """Each metric in each resample; `drawn` is how often it has each day."""

    def describe(self, labels: Floats) -> str:
        """What the outcomes are, in a few words."""


@dataclass(frozen=True, kw_only=True)
class BinaryClassification:
    """Labels are 1 and 0, called `positive` and `negative`; a forecast is the probability of 1.

    The loss is the log loss, in nats. From `threshold` on, 1 is predicted.
    """

    positive: str
    negative: str
    threshold: float = 0.5

    kind: ClassVar[Literal["binary"]] = "binary"
    outputs: ClassVar[Mapping[str, str]] = {"probability": "double", "prediction": "long"}
    forecast: ClassVar[str] = "probability"
    loss_name: ClassVar[str] = "log loss"
    baseline_name: ClassVar[str] = "base rate"

    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Negative log likelihood, in nats."""
        return row_log_loss(labels, forecasts)

    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """In probability."""
        return labels - forecasts

    def link(self, forecasts: Floats) -> Floats:
        """Log odds."""
        return log_odds(forecasts)

    def unlink(self, values: Floats) -> Floats:
        """Probabilities of log odds."""
        return probability(values)

    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """By logistic regression (Platt 1999)."""
        from sklearn.linear_model import LogisticRegression  # a second to import

        fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
        fitted.fit(log_odds(forecasts)[:, None], labels)
        return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])

    def learnable(self, labels: Floats) -> bool:
        """Of both classes there is one at least."""
        return len(np.unique(labels)) == 2

    def metrics(self, labels: Floats, forecasts: Floats) -> dict[str, float]:
        """Lower is better for all but AUC, which is NaN when only one class is there."""
        return {
            "rows": len(labels),
            "label_mean": float(labels.mean()),
            "log_loss": float(row_log_loss(labels, forecasts).mean()),
            "brier": float(np.square(labels - forecasts).mean()),
            "auc": auc(labels, forecasts),
            "calibration_error": calibration_error(self, labels, forecasts),
        }

    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """A resample with one class only has no AUC and is left out of it."""
        per_day = _PerDay(days, drawn)
        rows, positive = per_day.total(np.ones_like(labels)), per_day.total(labels)
        ranked = np.einsum("rd,de,re->r", drawn, pairs_ranked(labels, forecasts, days), drawn, optimize=True)
        both = positive * (rows - positive) > 0
        return {
            "log_loss": per_day.total(row_log_loss(labels, forecasts)) / rows,
            "brier": per_day.total(np.square(labels - forecasts)) / rows,
            "auc": ranked[both] / (positive * (rows - positive))[both],
            "calibration_error": per_day.calibration_error(self, labels, forecasts),
        }

    def describe(self, labels: Floats) -> str:
        """The share of 1."""
        return f"{labels.mean():.1%} of them {self.positive}"


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Labels are numbers, in `unit`. The loss is the squared error in units of `scale`, and so has none of its own.

    `scale` is what an error is to be measured by, above 0: the spread of the labels, unless something else is known.
    """

    unit: str
    scale: float

    kind: ClassVar[Literal["regression"]] = "regression"
    outputs: ClassVar[Mapping[str, str]] = {"prediction": "double"}
    forecast: ClassVar[str] = "prediction"
    loss_name: ClassVar[str] = "squared error"
    baseline_name: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale is {self.scale}; give the spread of the labels, above 0")

    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Squared error, in units of scale."""
        return np.square(self.excess(labels, forecasts))

    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """In units of scale."""
        return (labels - forecasts) / self.scale

    def link(self, forecasts: Floats) -> Floats:
        """As they are."""
        return forecasts

    def unlink(self, values: Floats) -> Floats:
        """As they are."""
        return values

    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """By least squares."""
        from sklearn.linear_model import LinearRegression  # a second to import

        fitted = LinearRegression().fit(forecasts[:, None], labels)
        return float(fitted.coef_[0]), float(fitted.intercept_)

    def learnable(self, labels: Floats) -> bool:
        """Two at least differ."""
        return len(np.unique(labels)) > 1

    def metrics(self, labels: Floats, forecasts: Floats) -> dict[str, float]:
        """Lower is better for all but R2, which is NaN where all labels are equal; errors are in unit."""
        spread = np.square(labels - labels.mean()).mean()
        squared = np.square(labels - forecasts).mean()
        return {
            "rows": len(labels),
            "label_mean": float(labels.mean()),
            "squared_error": float(self.loss(labels, forecasts).mean()),
            "rmse": float(np.sqrt(squared)),
            "mae": float(np.abs(labels - forecasts).mean()),
            "r2": float("nan") if labels.min() == labels.max() else float(1 - squared / spread),
            "calibration_error": calibration_error(self, labels, forecasts),
        }

    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """A resample whose labels are all equal has no R2 and is left out of it."""
        per_day = _PerDay(days, drawn)
        rows = per_day.total(np.ones_like(labels))
        squared = per_day.total(np.square(labels - forecasts)) / rows
        # From a fixed point: from zero, the spread of labels that hardly differ would be lost in rounding.
        centred = labels - labels.mean()
        spread = per_day.total(np.square(centred)) / rows - np.square(per_day.total(centred) / rows)
        differ = spread > 1e-12 * np.square(centred).max()
        return {
            "squared_error": squared / np.square(self.scale),
            "rmse": np.sqrt(squared),
            "mae": per_day.total(np.abs(labels - forecasts)) / rows,
            "r2": 1 - squared[differ] / spread[differ],
            "calibration_error": per_day.calibration_error(self, labels, forecasts),
        }

    def describe(self, labels: Floats) -> str:
        """Their mean."""
        return f"{labels.mean():,.4g} {self.unit} on average"


def calibration_error(objective: Objective, labels: Floats, forecasts: Floats) -> float:
    """Expected calibration error over equally filled bins: the mean distance of forecast and outcome.

    Naeini, Cooper, Hauskrecht 2015 (AAAI); equally filled bins after Nixon et al. 2019.
    """
    excess = np.bincount(calibration_bins(forecasts), weights=objective.excess(labels, forecasts))
    return float(np.abs(excess).sum() / len(labels))


def corrected(objective: Objective, forecasts: Floats, slope: float, intercept: float) -> Floats:
    """Forecasts after a correction; slope 1 and intercept 0 change nothing."""
    return objective.unlink(intercept + slope * objective.link(forecasts))


def calibration(objective: Objective, labels: Sequence[Floats], forecasts: Sequence[Floats]) -> dict[str, float]:
    """Slope and intercept of the correction that fits all folds best.

    They are 1 and 0, which change nothing, unless such a fit on the other folds lowers the loss of each fold in turn,
    on average: a correction that comes from one season harms the next.
    """
    kept, changed = [], []
    for index, (of_fold, forecast) in enumerate(zip(labels, forecasts, strict=True)):
        others = (np.concatenate([*those[:index], *those[index + 1 :]]) for those in (labels, forecasts))
        slope, intercept = objective.correction(*others)
        kept.append(objective.loss(of_fold, forecast).mean())
        changed.append(objective.loss(of_fold, corrected(objective, forecast, slope, intercept)).mean())
    if not np.mean(changed) < np.mean(kept):
        return {"slope": 1.0, "intercept": 0.0}
    slope, intercept = objective.correction(np.concatenate(labels), np.concatenate(forecasts))
    return {"slope": slope, "intercept": intercept}


def day_intervals(
    objective: Objective, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64]
) -> dict[str, Interval]:
    """Each metric, by name, and where it lies in 95 of 100 resamples of whole days; `days` are 0 to n - 1."""
    drawn = day_weights(int(days.max()) + 1, _DRAWS, _SEED)
    scores = objective.metrics(labels, forecasts)
    resampled = objective.resampled(labels, forecasts, days, drawn)
    return {name: interval(scores[name], values, 0.975) for name, values in resampled.items() if len(values)}


@dataclass(frozen=True)
class _PerDay:
    """Sums over the days of each resample. Bins stay those of all rows."""

    days: npt.NDArray[np.int64]
    drawn: Floats

    def total(self, values: Floats) -> Floats:
        by_day = np.bincount(self.days, weights=values, minlength=self.drawn.shape[1]).astype(np.float64)
        return self.drawn @ by_day

    def calibration_error(self, objective: Objective, labels: Floats, forecasts: Floats) -> Floats:
        bins, excess = calibration_bins(forecasts), objective.excess(labels, forecasts)
        binned = [self.total(excess * (bins == each)) for each in range(CALIBRATION_BINS)]
        found: Floats = np.abs(np.stack(binned)).sum(axis=0) / self.total(np.ones_like(labels))
        return found
