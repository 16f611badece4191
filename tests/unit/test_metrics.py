"""Bins against cases counted by hand, ranked pairs against scikit-learn's area under the curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from flight_delays.core.metrics import calibration_bins, pairs_ranked

PROBABILITIES = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=60).map(np.array)


@pytest.mark.parametrize(("rows", "filled"), [(100, [5] * 20), (20, [1] * 20)])
def test_bins_without_ties_are_equally_filled(rows: int, filled: list[int]) -> None:
    assert np.bincount(calibration_bins(np.linspace(0, 1, rows))).tolist() == filled


@pytest.mark.parametrize(
    ("forecasts", "bins", "found"),
    [
        ([0.0, 1.0], 2, [0, 1]),
        ([0.5, 0.5, 0.5, 0.5], 2, [1, 1, 1, 1]),  # all tied
        ([0.1, 0.1, 0.1, 0.9], 2, [1, 1, 1, 1]),  # a tie across the middle goes up
        ([0.1, 0.2, 0.2, 0.9], 4, [0, 2, 2, 3]),
        ([4.0, 1.0, 3.0, 2.0], 2, [1, 0, 1, 0]),  # whatever their order, and not probabilities only
        ([4.0, 1.0, 3.0, 2.0], 1, [0, 0, 0, 0]),
    ],
)
def test_bins_of_cases_counted_by_hand(forecasts: list[float], bins: int, found: list[int]) -> None:
    assert calibration_bins(np.array(forecasts), bins).tolist() == found


@given(PROBABILITIES)
def test_equal_forecasts_share_a_bin_and_greater_ones_never_have_a_lower_bin(probabilities: np.ndarray) -> None:
    forecasts = np.sort(np.round(probabilities, 1))
    steps, rises = np.diff(calibration_bins(forecasts)), np.diff(forecasts) > 0
    assert (steps >= 0).all()
    assert (steps[~rises] == 0).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40))
def test_ranked_pairs_of_days_sum_up_to_the_area_under_the_curve(rows: list[tuple[bool, int, int]]) -> None:
    labels, tenths, days = (np.array(column) for column in zip(*rows, strict=True))
    labels, forecasts = labels.astype(float), tenths / 10
    pairs = pairs_ranked(labels, forecasts, days)
    assert pairs.shape == (days.max() + 1, days.max() + 1)
    positive, negative = labels.sum(), (1 - labels).sum()
    if positive and negative:
        assert pairs.sum() / (positive * negative) == pytest.approx(roc_auc_score(labels, forecasts))
    else:
        assert not pairs.any()
