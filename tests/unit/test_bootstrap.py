"""Bounds from resampled days."""

import numpy as np
import pytest

from flight_delays.core.bootstrap import day_weights, interval, simultaneous


def test_each_resample_draws_as_many_days_as_there_are() -> None:
    weights = day_weights(30, 500, 7)
    assert weights.shape == (500, 30)
    assert set(weights.sum(axis=1)) == {30}
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=0.3)
    # A day is drawn 0, 1, 2 ... times as a binomial count says: about 36 % of days are left out.
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.02)


def test_the_same_seed_draws_the_same_days_and_another_draws_others() -> None:
    first = day_weights(10, 20, 1).copy()
    day_weights.cache_clear()
    assert (day_weights(10, 20, 1) == first).all()
    assert (day_weights(10, 20, 2) != first).any()


def test_weights_are_shared_and_so_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        day_weights(10, 20, 1)[0, 0] = 5


def test_bounds_are_the_quantiles_of_the_resamples() -> None:
    found = interval(0.4, np.arange(101) / 100, 0.95)
    assert (found.low, found.estimate, found.high) == pytest.approx((0.05, 0.4, 0.95))


def test_bounds_for_one_estimate_at_once_are_nearly_its_own_and_widen_with_their_number() -> None:
    rng = np.random.default_rng(3)
    errors = rng.normal(size=(20_000, 40))
    reach = [-simultaneous(np.zeros(n), errors[:, :n], 0.95)[0].low for n in (1, 10, 40)]
    # Quantiles of the largest of n independent normal errors: 0.95 to the power of 1 / n.
    assert reach == pytest.approx([1.645, 2.568, 3.016], abs=0.06)


def test_where_all_estimates_err_together_their_number_costs_nothing() -> None:
    error = np.random.default_rng(3).normal(size=(20_000, 1))
    (first, *_) = simultaneous(np.zeros(40), np.repeat(error, 40, axis=1), 0.95)
    assert (first.low, first.high) == pytest.approx((-1.645, 1.645), abs=0.05)


def test_all_lower_bounds_hold_at_once_as_often_as_promised() -> None:
    """Twenty slices on forty days, nothing wrong in any."""
    rng = np.random.default_rng(3)
    weights = day_weights(40, 400, 1)
    alarms = 0
    for _ in range(300):
        days = rng.normal(size=(40, 20))
        bounds = simultaneous(days.mean(axis=0), weights @ days / 40, 0.95)
        alarms += any(bound.low > 0 for bound in bounds)
    assert 0.02 <= alarms / 300 <= 0.12


def test_an_estimate_that_never_varies_is_its_own_bound() -> None:
    (same, varies) = simultaneous(np.array([0.5, 0.0]), np.array([[0.5, -1.0], [0.5, 1.0]]), 0.95)
    assert (same.low, same.estimate, same.high) == (0.5, 0.5, 0.5)
    assert varies.low < 0 < varies.high


def test_no_estimate_has_no_bounds() -> None:
    assert simultaneous(np.empty(0), np.empty((5, 0)), 0.95) == []
