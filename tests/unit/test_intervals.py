"""Metrics over resampled days, against metrics of the resampled rows."""

import numpy as np
import pytest

from flight_delays.core.bootstrap import day_weights
from flight_delays.core.intervals import day_intervals
from flight_delays.core.metrics import metrics


def made_up(days: int, rows: int, shared: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`days` days of `rows` rows; `shared` says how much a day's weather moves all of its rows' log odds."""
    rng = np.random.default_rng(5)
    day = np.repeat(np.arange(days), rows)
    odds = rng.normal(-1, 1, days * rows)
    truth = 1 / (1 + np.exp(-(odds + shared * rng.normal(size=days)[day])))
    return (rng.uniform(size=days * rows) < truth).astype(float), np.round(1 / (1 + np.exp(-odds)), 2), day


def test_intervals_are_those_of_metrics_on_rows_of_resampled_days() -> None:
    labels, probabilities, days = made_up(12, 30, 1.0)
    found = day_intervals(labels, probabilities, days)
    resampled = []
    for times in day_weights(12, 1_000, 20130101):
        rows = np.repeat(np.arange(len(days)), times[days].astype(np.int64))
        resampled.append(metrics(labels[rows], probabilities[rows]).as_dict())
    for name in ("log_loss", "brier", "auc"):
        low, high = np.quantile([scores[name] for scores in resampled], [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx((low, high))
    assert found.keys() == {"log_loss", "brier", "auc", "calibration_error"}


def test_an_interval_holds_the_metric_of_all_rows_and_widens_where_days_differ() -> None:
    widths = []
    for shared in (0.0, 1.5):
        labels, probabilities, days = made_up(60, 100, shared)
        scores, found = metrics(labels, probabilities).as_dict(), day_intervals(labels, probabilities, days)
        assert {name: each.estimate for name, each in found.items()}.items() <= scores.items()
        assert all(found[name].low < scores[name] < found[name].high for name in ("log_loss", "brier", "auc"))
        widths.append(found["log_loss"].high - found["log_loss"].low)
    assert widths[1] > 2 * widths[0]


def test_one_day_has_no_width_and_one_class_no_area_under_the_curve() -> None:
    found = day_intervals(np.zeros(3), np.array([0.2, 0.4, 0.6]), np.zeros(3, dtype=np.int64))
    assert found.keys() == {"log_loss", "brier", "calibration_error"}
    assert (found["brier"].low, found["brier"].high) == pytest.approx((0.56 / 3, 0.56 / 3))


def test_calibration_is_counted_over_the_bins_of_all_rows() -> None:
    # Each day is off by a quarter in each of its two bins; a draw of both days, or of one twice, is just as far off.
    labels, probabilities = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.25, 0.75, 0.25, 0.75])
    found = day_intervals(labels, probabilities, np.array([0, 0, 1, 1]))
    assert (found["calibration_error"].low, found["calibration_error"].high) == pytest.approx((0.25, 0.25))
