"""What the pictures of a model show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from flight_delays.core import plots
from flight_delays.core.metrics import metrics

LABELS = np.array([0.0, 0, 0, 1, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def model_line(figure: Figure) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "model"]
    return list(line.get_xdata()), list(line.get_ydata())


def words(figure: Figure) -> tuple[str, str, str]:
    axes = figure.axes[0]
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


def test_calibration_shows_each_filled_bin_and_the_error() -> None:
    figure = plots.calibration(LABELS, PROBABILITIES)
    error = metrics(LABELS, PROBABILITIES).calibration_error
    assert words(figure) == (
        f"Calibration: expected error {error:.4f}",
        "forecast probability",
        "observed rate",
    )
    assert model_line(figure) == (pytest.approx(PROBABILITIES), pytest.approx(LABELS))


def test_calibration_draws_no_point_for_an_empty_bin() -> None:
    figure = plots.calibration(np.array([0.0, 1, 1, 1]), np.array([0.5, 0.5, 0.8, 0.8]))
    assert model_line(figure) == (pytest.approx([0.5, 0.8]), pytest.approx([0.5, 1.0]))


def test_roc_goes_from_corner_to_corner_and_says_its_area() -> None:
    figure = plots.roc(LABELS, PROBABILITIES)
    assert words(figure) == ("ROC: area 0.9375", "false positive rate", "true positive rate")
    x, y = model_line(figure)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(0.9375)


def test_importance_lists_every_input_by_its_share_of_the_gain() -> None:
    figure = plots.importance({"wind": 3.0, "hour": 1.0, "unused": 0.0})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["unused", "hour", "wind"]
    assert [bar.get_width() for bar in axes.patches] == [0, 25, 75]
    assert words(figure) == ("What the model looks at", "share of the total gain (%)", "")


def test_importance_of_a_model_that_learnt_nothing_is_zero() -> None:
    assert [bar.get_width() for bar in plots.importance({"wind": 0.0}).axes[0].patches] == [0]
