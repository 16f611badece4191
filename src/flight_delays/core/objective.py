"""What a model forecasts, and how good a forecast is: loss per row, metrics, calibration, what a baseline is.

Labels and forecasts are one-dimensional arrays of equal length.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval, day_weights, interval
from flight_delays.core.metrics import CALIBRATION_BINS, Floats, bins_like, calibration_bins, pairs_ranked

_DRAWS = 1_000
_SEED = 20130101
_CLIP = 1e-7  # the loss of a probability of exactly 0 or 1 can be infinite
_CERTAIN = 1e-15  # and its log odds are


class Objective(ABC):
    """What kind of forecast a model makes, and how it is scored.

    `kind` tells a registered model what to answer; `outputs` are the columns of its answers with MLflow's names of
    their types; the one named `forecast` is compared with the label. The baseline is a constant forecast.
    """

    kind: ClassVar[Literal["binary", "regression"]]
    outputs: ClassVar[Mapping[str, str]]
    forecast: ClassVar[str]
    loss_name: ClassVar[str]
    baseline_name: ClassVar[str]

    @abstractmethod
    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Loss of each row; lower is better."""

    @abstractmethod
    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """How much each outcome is above its forecast, in units of the calibration error."""

    def confidence(self, forecasts: Floats) -> Floats | None:  # noqa: ARG002
        """Probability of each predicted class, by the forecast itself; None unless this is a classification."""
        return None

    def link(self, forecasts: Floats) -> Floats:
        """Forecasts on the scale on which they are corrected and blended."""
        return forecasts

    def unlink(self, values: Floats) -> Floats:
        """The reverse of `link`."""
        return values

    @abstractmethod
    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """Slope and intercept of the best correction, on the scale of `link`."""

    @abstractmethod
    def expected_loss(self, labels: Floats, forecasts: Floats, asked: Floats) -> Floats:
        """That of each forecast `asked`, if such forecasts turn out as the known ones did."""

    def learnable(self, labels: Floats) -> bool:
        """Whether labels differ."""
        return len(np.unique(labels)) > 1

    def metrics(self, labels: Floats, forecasts: Floats) -> dict[str, float]:
        """All scores by name; `rows` and `label_mean` first. NaN where a score is undefined."""
        once = self.resampled(labels, forecasts, np.zeros(len(labels), dtype=np.int64), np.ones((1, 1)))
        scores = {name: float(values[0]) if len(values) else float("nan") for name, values in once.items()}
        return {"rows": len(labels), "label_mean": float(labels.mean()), **scores}

    @abstractmethod
    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """Each metric in each resample where it is defined; `drawn` (resamples x days) is how often it has each day."""

    @abstractmethod
    def describe(self, labels: Floats) -> str:
        """Summary of the labels for people."""


@dataclass(frozen=True, kw_only=True)
class BinaryClassification(Objective):
    """Labels are 1 and 0, called `positive` and `negative`; a forecast is the probability of 1.

    The loss is the log loss, in nats. From `threshold` on, 1 is predicted.
    """

    positive: str
    negative: str
    threshold: float = 0.5

    kind = "binary"
    outputs = {"probability": "double", "prediction": "long"}  # noqa: RUF012
    forecast = "probability"
    loss_name = "log loss"
    baseline_name = "base rate"

    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Negative log likelihood, in nats."""
        p = np.clip(forecasts, _CLIP, 1 - _CLIP)
        return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))

    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """In probability."""
        return labels - forecasts

    def confidence(self, forecasts: Floats) -> Floats:
        """Their mean is the accuracy that a calibrated model expects of itself."""
        return np.where(forecasts >= self.threshold, forecasts, 1 - forecasts)

    def link(self, forecasts: Floats) -> Floats:
        """Log odds, of probabilities that are kept from being exactly 0 or 1."""
        p = np.clip(forecasts, _CERTAIN, 1 - _CERTAIN)
        log_odds: Floats = np.log(p) - np.log1p(-p)
        return log_odds

    def unlink(self, values: Floats) -> Floats:
        """Probabilities of log odds."""
        probabilities: Floats = 1 / (1 + np.exp(-values))
        return probabilities

    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """By logistic regression (Platt 1999)."""
        from sklearn.linear_model import LogisticRegression  # a second to import

        fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
        fitted.fit(self.link(forecasts)[:, None], labels)
        return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])

    def expected_loss(self, labels: Floats, forecasts: Floats, asked: Floats) -> Floats:
        """The loss of each outcome by its probability, which is the forecast as the known ones correct it."""
        p = corrected(self, asked, *self.correction(labels, forecasts))
        return p * self.loss(np.ones_like(asked), asked) + (1 - p) * self.loss(np.zeros_like(asked), asked)

    def learnable(self, labels: Floats) -> bool:
        """Whether both classes are there, and no other."""
        return len(np.unique(labels)) == 2

    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """Lower is better for all but accuracy and AUC, which a resample with one class only does not have.

        Accuracy is the share of rows whose predicted class is the label.
        """
        resamples = _Resamples(days, drawn)
        positive, negative = resamples.total(labels), resamples.total(1 - labels)
        ranked = np.einsum("rd,de,re->r", drawn, pairs_ranked(labels, forecasts, days), drawn, optimize=True)
        both = positive * negative > 0
        return {
            "log_loss": resamples.mean(self.loss(labels, forecasts)),
            "brier": resamples.mean(np.square(labels - forecasts)),
            "accuracy": resamples.mean((forecasts >= self.threshold) == labels),
            "auc": ranked[both] / (positive * negative)[both],
            "calibration_error": resamples.calibration_error(self, labels, forecasts),
        }

    def describe(self, labels: Floats) -> str:
        """The share of 1."""
        return f"{labels.mean():.1%} of them {self.positive}"


@dataclass(frozen=True, kw_only=True)
class Regression(Objective):
    """Labels are numbers, in `unit`. The loss is the squared error in units of `scale`, and so has no unit.

    `scale` is what an error is measured by, above 0: the spread of the labels, unless something else is known.
    """

    unit: str
    scale: float

    kind = "regression"
    outputs = {"prediction": "double"}  # noqa: RUF012
    forecast = "prediction"
    loss_name = "squared error"
    baseline_name = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale is {self.scale}; give the spread of the labels, above 0")

    def loss(self, labels: Floats, forecasts: Floats) -> Floats:
        """Squared error, in units of scale."""
        return np.square(self.excess(labels, forecasts))

    def excess(self, labels: Floats, forecasts: Floats) -> Floats:
        """In units of scale."""
        return (labels - forecasts) / self.scale

    def correction(self, labels: Floats, forecasts: Floats) -> tuple[float, float]:
        """By least squares."""
        from sklearn.linear_model import LinearRegression  # a second to import

        fitted = LinearRegression().fit(forecasts[:, None], labels)
        return float(fitted.coef_[0]), float(fitted.intercept_)

    def expected_loss(self, labels: Floats, forecasts: Floats, asked: Floats) -> Floats:
        """The mean loss of known forecasts of the same size, in equally filled bins."""
        losses, binned = self.loss(labels, forecasts), calibration_bins(forecasts)
        sums, counts = (np.bincount(binned, each, CALIBRATION_BINS) for each in (losses, np.ones_like(losses)))
        means = np.where(counts > 0, sums / np.maximum(counts, 1), losses.mean())
        return np.asarray(means[bins_like(forecasts, asked)])

    def resampled(
        self, labels: Floats, forecasts: Floats, days: npt.NDArray[np.int64], drawn: Floats
    ) -> dict[str, Floats]:
        """Lower is better for all but R2, which a resample whose labels are all equal does not have.

        RMSE and MAE are in `unit`.
        """
        resamples = _Resamples(days, drawn)
        squared = resamples.mean(np.square(labels - forecasts))
        # From a fixed point: from zero, the spread of labels that hardly differ would be lost in rounding.
        centred = labels - labels.mean()
        spread = resamples.mean(np.square(centred)) - np.square(resamples.mean(centred))
        differ = spread > 1e-12 * np.square(centred).max()
        return {
            "squared_error": squared / np.square(self.scale),
            "rmse": np.sqrt(squared),
            "mae": resamples.mean(np.abs(labels - forecasts)),
            "r2": 1 - squared[differ] / spread[differ],
            "calibration_error": resamples.calibration_error(self, labels, forecasts),
        }

    def describe(self, labels: Floats) -> str:
        """Their mean."""
        return f"{labels.mean():,.4g} {self.unit} on average"


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
class _Resamples:
    """Sums and means of rows in each resample."""

    days: npt.NDArray[np.int64]
    drawn: Floats

    def total(self, values: Floats) -> Floats:
        by_day = np.bincount(self.days, weights=values, minlength=self.drawn.shape[1]).astype(np.float64)
        return self.drawn @ by_day

    def mean(self, values: Floats) -> Floats:
        return self.total(values) / self.total(np.ones_like(values))

    def calibration_error(self, objective: Objective, labels: Floats, forecasts: Floats) -> Floats:
        """Expected calibration error: mean distance of forecast and outcome over the equally filled bins of all rows.

        Naeini, Cooper, Hauskrecht 2015 (AAAI); equally filled bins after Nixon et al. 2019.
        """
        bins, excess = calibration_bins(forecasts), objective.excess(labels, forecasts)
        binned = [np.abs(self.mean(excess * (bins == each))) for each in range(CALIBRATION_BINS)]
        return np.asarray(np.sum(binned, axis=0))
