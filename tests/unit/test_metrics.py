"""Metrics against scikit-learn's and against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from flight_delays.core.metrics import calibration_bins, calibration_error, metrics, row_log_loss

ROWS = st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=1, max_size=60).map(
    lambda rows: (np.array([float(y) for y, _ in rows]), np.array([p for _, p in rows]))
)


@given(ROWS)
def test_all_metrics_agree_with_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = rows
    found = metrics(labels, probabilities)
    assert found.rows == len(labels)
    assert found.positive_rate == pytest.approx(labels.mean())
    assert found.log_loss == pytest.approx(log_loss(labels, probabilities, labels=[0, 1]))
    assert found.brier == pytest.approx(brier_score_loss(labels, probabilities, pos_label=1))
    if len(set(labels)) == 2:
        assert found.auc == pytest.approx(roc_auc_score(labels, probabilities))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_has_no_area_under_the_curve_but_every_other_metric(label: float) -> None:
    found = metrics(np.full(3, label), np.array([0.2, 0.4, 0.6])).as_dict()
    assert np.isnan(found.pop("auc"))
    assert all(np.isfinite(value) for value in found.values())
    assert len(found) == 5


@pytest.mark.parametrize(
    ("label", "probability", "loss"),
    [(1, 1.0, 0.0), (0, 0.0, 0.0), (1, 0.0, -np.log(1e-7)), (0, 1.0, -np.log(1e-7)), (1, 0.5, np.log(2))],
)
def test_certainty_costs_nothing_when_right_and_much_but_not_everything_when_wrong(
    label: int, probability: float, loss: float
) -> None:
    assert row_log_loss(np.array([float(label)]), np.array([probability])) == pytest.approx([loss], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "probabilities", "bins", "error"),
    [
        ([0, 1], [0.0, 1.0], 2, 0.0),
        ([1, 0], [0.0, 1.0], 2, 1.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 2, 0.0),  # all tied: one bin, right on average
        ([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], 2, 0.25),  # each half is off by a quarter, in opposite directions
        ([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], 1, 0.0),  # one bin lets them cancel
        ([1], [0.3], 20, 0.7),  # fewer rows than bins
        ([0, 0, 0, 1], [0.1, 0.1, 0.1, 0.9], 2, (0.3 - 0.1) / 4),  # a tie across the middle goes up
    ],
)
def test_calibration_error_of_cases_counted_by_hand(
    labels: list[int], probabilities: list[float], bins: int, error: float
) -> None:
    assert calibration_error(np.array(labels, float), np.array(probabilities), bins) == pytest.approx(error)


@pytest.mark.parametrize(("rows", "filled"), [(100, [5] * 20), (20, [1] * 20)])
def test_bins_without_ties_are_equally_filled(rows: int, filled: list[int]) -> None:
    assert np.bincount(calibration_bins(np.linspace(0, 1, rows))).tolist() == filled


@given(ROWS)
def test_equal_probabilities_share_a_bin_and_greater_ones_never_have_a_lower_bin(
    rows: tuple[np.ndarray, np.ndarray],
) -> None:
    probabilities = np.sort(np.round(rows[1], 1))
    steps, rises = np.diff(calibration_bins(probabilities)), np.diff(probabilities) > 0
    assert (steps >= 0).all()
    assert (steps[~rises] == 0).all()
