"""What is asked of both objectives: losses and metrics, corrections, metrics over resampled days."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from flight_delays.core.bootstrap import day_weights
from flight_delays.core.metrics import calibration_bins
from flight_delays.core.objective import (
    BinaryClassification,
    Objective,
    Regression,
    calibration,
    corrected,
    day_intervals,
)

LATE = BinaryClassification(positive="late", negative="on time")
MINUTES = Regression(unit="minutes", scale=2.0)
BOTH = pytest.mark.parametrize("objective", [LATE, MINUTES], ids=["binary", "regression"])

PROBABLE = st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=1, max_size=60).map(
    lambda rows: (np.array([float(label) for label, _ in rows]), np.array([forecast for _, forecast in rows]))
)
HALVES = st.integers(-40, 40).map(lambda number: number / 2)
MEASURED = st.lists(st.tuples(HALVES, HALVES), min_size=1, max_size=60).map(
    lambda rows: (np.array([label for label, _ in rows]), np.array([forecast for _, forecast in rows]))
)
Rows = tuple[np.ndarray, np.ndarray]
"""Labels and forecasts."""


def rows_of(objective: Objective) -> st.SearchStrategy[Rows]:
    return PROBABLE if objective.kind == "binary" else MEASURED


def made_up(objective: Objective, days: int, rows: int, shared: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`days` days of `rows` rows; `shared` says how much a day's weather moves all of its rows."""
    rng = np.random.default_rng(5)
    day = np.repeat(np.arange(days), rows)
    forecasts = objective.unlink(rng.normal(-1, 1, days * rows))
    truth = objective.unlink(objective.link(forecasts) + shared * rng.normal(size=days)[day])
    if objective.kind == "binary":
        return (rng.uniform(size=len(day)) < truth).astype(float), np.round(forecasts, 2), day
    return truth + rng.normal(size=len(day)), forecasts, day


def test_labels_are_described_by_their_share_of_positives_or_by_their_mean() -> None:
    assert LATE.describe(np.array([1.0, 0, 0, 0])) == "25.0% of them late"
    assert MINUTES.describe(np.array([1234.0, 1235.0])) == "1,234 minutes on average"
    assert MINUTES.describe(np.array([-2.0, -3.0])) == "-2.5 minutes on average"


@BOTH
def test_the_loss_is_among_the_metrics_by_its_own_name_after_rows_and_label_mean(objective: Objective) -> None:
    labels, forecasts, _ = made_up(objective, 3, 10, 1.0)
    found = objective.metrics(labels, forecasts)
    assert [*found][:2] == ["rows", "label_mean"]
    assert (found["rows"], found["label_mean"]) == (30, pytest.approx(labels.mean()))
    assert found[objective.loss_name.replace(" ", "_")] == pytest.approx(objective.loss(labels, forecasts).mean())


@given(PROBABLE)
def test_metrics_of_probabilities_agree_with_scikit_learn(rows: Rows) -> None:
    labels, probabilities = rows
    found = LATE.metrics(labels, probabilities)
    assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=[0, 1]))
    assert found["brier"] == pytest.approx(brier_score_loss(labels, probabilities, pos_label=1))
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, probabilities >= LATE.threshold))
    if len(set(labels)) == 2:
        assert found["auc"] == pytest.approx(roc_auc_score(labels, probabilities))
    assert found.keys() == {"rows", "label_mean", "log_loss", "brier", "accuracy", "auc", "calibration_error"}


@given(MEASURED)
def test_metrics_of_numbers_agree_with_scikit_learn(rows: Rows) -> None:
    labels, forecasts = rows
    found = MINUTES.metrics(labels, forecasts)
    assert found["squared_error"] == pytest.approx(mean_squared_error(labels, forecasts) / 2.0**2)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(labels, forecasts))
    assert found["mae"] == pytest.approx(mean_absolute_error(labels, forecasts))
    if len(set(labels)) > 1:
        assert found["r2"] == pytest.approx(r2_score(labels, forecasts))
    assert found.keys() == {"rows", "label_mean", "squared_error", "rmse", "mae", "r2", "calibration_error"}


def test_the_loss_of_a_number_is_its_squared_error_in_units_of_scale() -> None:
    labels, forecasts = np.array([10.0, 10.0, 10.0]), np.array([10.0, 6.0, 14.0])
    assert MINUTES.loss(labels, forecasts).tolist() == [0, 4, 4]
    assert MINUTES.excess(labels, forecasts).tolist() == [0, 2, -2]
    assert LATE.excess(np.array([1.0, 0.0]), np.array([0.75, 0.25])).tolist() == [0.25, -0.25]


@given(MEASURED)
def test_in_another_unit_of_labels_and_scale_only_what_has_a_unit_changes(rows: Rows) -> None:
    seconds = Regression(unit="seconds", scale=120.0)
    labels, forecasts = rows
    changed = {"label_mean", "rmse", "mae"}
    one, other = MINUTES.metrics(labels, forecasts), seconds.metrics(60 * labels, 60 * forecasts)
    expected = {name: 60 * value if name in changed else value for name, value in one.items()}
    assert other == pytest.approx(expected, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_has_no_area_under_the_curve_but_every_other_metric(label: float) -> None:
    found = LATE.metrics(np.full(3, label), np.array([0.2, 0.4, 0.6]))
    assert np.isnan(found.pop("auc"))
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("label", [0.0, 0.1, -7.3, 1e9 / 3])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_labels_that_are_all_equal_have_no_r2_but_every_other_metric(label: float, rows: int) -> None:
    found = MINUTES.metrics(np.full(rows, label), np.arange(float(rows)))
    assert np.isnan(found.pop("r2"))
    assert all(np.isfinite(value) for value in found.values())


@BOTH
@given(st.data())
def test_no_constant_forecast_loses_less_than_the_mean_of_the_labels(objective: Objective, data: st.DataObject) -> None:
    labels, others = data.draw(rows_of(objective))
    best = objective.loss(labels, np.full_like(labels, labels.mean())).mean()
    for other in others[:5]:
        assert best <= objective.loss(labels, np.full_like(labels, other)).mean() + 1e-6


def calibration_error(objective: Objective, *rows: np.ndarray) -> float:
    return objective.metrics(*rows)["calibration_error"]


@pytest.mark.parametrize(
    ("labels", "forecasts", "error"),
    [
        ([0, 1], [0.0, 1.0], 0.0),
        ([1, 0], [0.0, 1.0], 1.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.0),  # all tied: one bin, right on average
        ([0, 0, 1, 1], [0.25, 0.25, 0.75, 0.75], 0.25),  # each half is off by a quarter, in opposite directions
        ([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75], 0.25),
        ([1], [0.3], 0.7),  # fewer rows than bins
        ([0, 0, 0, 1], [0.1, 0.1, 0.1, 0.9], (0.3 + 0.1) / 4),
        ([1, 0] * 20, [0.5 + 0.001 * row for row in range(40)], 0.0195),  # two a bin, one of them late
    ],
)
def test_calibration_error_of_cases_counted_by_hand(labels: list[int], forecasts: list[float], error: float) -> None:
    outcomes, probabilities = np.array(labels, float), np.array(forecasts)
    assert calibration_error(LATE, outcomes, probabilities) == pytest.approx(error)
    # As numbers they are off by the same, which is counted in units of scale.
    assert calibration_error(MINUTES, outcomes, probabilities) == pytest.approx(error / 2.0)


def test_errors_of_numbers_cancel_within_a_bin_and_not_across_bins() -> None:
    forecasts = np.arange(40.0)  # two a bin
    assert calibration_error(MINUTES, forecasts + np.resize([3.0, -3.0], 40), forecasts) == pytest.approx(0)
    assert calibration_error(MINUTES, forecasts + np.resize([3.0, 3.0, -3.0, -3.0], 40), forecasts) == pytest.approx(
        1.5
    )


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_measures_nothing_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=rf"^scale is {scale}; give the spread of the labels, above 0$"):
        Regression(unit="minutes", scale=scale)
    assert Regression(unit="minutes", scale=1e-9).scale == 1e-9


@pytest.mark.parametrize(
    ("labels", "binary", "regression"),
    [
        ([], False, False),
        ([1.0], False, False),
        ([0.0, 0.0], False, False),
        ([1.0, 1.0], False, False),
        ([0.0, 1.0], True, True),
        ([0.0, 0.0, 0.0, 1.0], True, True),
        ([2.5, 2.5], False, False),
        ([2.5, 2.5, 2.75], True, True),
        ([1.0, 2.0, 3.0], False, True),  # not two classes
    ],
)
def test_something_can_be_learnt_from_labels_that_differ(labels: list[float], binary: bool, regression: bool) -> None:
    assert LATE.learnable(np.array(labels)) is binary
    assert MINUTES.learnable(np.array(labels)) is regression


@BOTH
@given(st.data())
def test_what_is_linked_and_unlinked_is_as_it_was_and_so_is_what_is_corrected_by_nothing(
    objective: Objective, data: st.DataObject
) -> None:
    _, forecasts = data.draw(rows_of(objective))
    assert objective.unlink(objective.link(forecasts)) == pytest.approx(forecasts)
    assert corrected(objective, forecasts, 1.0, 0.0) == pytest.approx(forecasts)


@pytest.mark.parametrize(
    ("label", "probability", "loss"),
    [(1, 1.0, 0.0), (0, 0.0, 0.0), (1, 0.0, -np.log(1e-7)), (0, 1.0, -np.log(1e-7)), (1, 0.5, np.log(2))],
)
def test_certainty_costs_nothing_when_right_and_much_but_not_everything_when_wrong(
    label: int, probability: float, loss: float
) -> None:
    assert LATE.loss(np.array([float(label)]), np.array([probability])) == pytest.approx([loss], abs=1e-6)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=60).map(np.array))
def test_log_odds_of_a_probability_are_those_of_its_odds_and_lead_back_to_it(probabilities: np.ndarray) -> None:
    odds = LATE.link(probabilities)
    assert np.exp(odds) == pytest.approx(probabilities / (1 - probabilities))
    assert LATE.unlink(odds) == pytest.approx(probabilities)


def test_certainty_has_large_log_odds_but_finite_ones() -> None:
    never, always = LATE.link(np.array([0.0, 1.0]))
    assert never == pytest.approx(np.log(1e-15))
    assert always == pytest.approx(-np.log(1e-15), rel=0.01)  # numbers just below 1 are further apart


def test_a_correction_of_numbers_is_a_line_through_them_and_of_probabilities_through_their_log_odds() -> None:
    assert corrected(MINUTES, np.array([0.0, 10.0]), 2.0, -1.0).tolist() == [-1, 19]
    # Twice the log odds of 3 to 1 are those of 9 to 1; a log 3 more are odds three times as high.
    assert corrected(LATE, np.array([0.5, 0.75]), 2.0, 0.0) == pytest.approx([0.5, 0.9])
    assert corrected(LATE, np.array([0.5, 0.75]), 1.0, np.log(3.0)) == pytest.approx([0.75, 0.9])


def test_labels_on_a_line_are_corrected_to_the_letter() -> None:
    forecasts = np.array([1.0, 2.0, 5.0])
    assert MINUTES.correction(3 + 0.5 * forecasts, forecasts) == (pytest.approx(0.5), pytest.approx(3))


def test_probabilities_that_take_two_values_are_corrected_to_the_rates_seen() -> None:
    forecasts = np.repeat([0.2, 0.6], 10)
    labels = np.concatenate([np.repeat([1.0, 0.0], [4, 6]), np.repeat([1.0, 0.0], [9, 1])])
    slope, intercept = LATE.correction(labels, forecasts)
    assert corrected(LATE, np.array([0.2, 0.6]), slope, intercept) == pytest.approx([0.4, 0.9], abs=1e-6)


@BOTH
@given(st.integers(0, 2**32 - 1))
def test_on_the_rows_that_it_comes_from_a_correction_does_no_harm(objective: Objective, seed: int) -> None:
    rng = np.random.default_rng(seed)
    forecasts = objective.unlink(rng.normal(size=200))
    labels = rng.integers(2, size=200).astype(float)
    slope, intercept = objective.correction(labels, forecasts)
    after = objective.loss(labels, corrected(objective, forecasts, slope, intercept)).mean()
    assert after <= objective.loss(labels, forecasts).mean() + 1e-9


def off(objective: Objective, truth: list[tuple[float, float]], rows: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Labels and forecasts of folds, each of whose forecasts is to be corrected by a slope and an intercept."""
    rng = np.random.default_rng(3)
    forecasts = [objective.unlink(rng.normal(size=rows)) for _ in truth]
    labels = []
    for forecast, (slope, intercept) in zip(forecasts, truth, strict=True):
        right = corrected(objective, forecast, slope, intercept)
        binary = objective.kind == "binary"
        labels.append((rng.uniform(size=rows) < right).astype(float) if binary else right + rng.normal(size=rows))
    return labels, forecasts


@BOTH
@pytest.mark.parametrize(
    ("truth", "found"),
    [
        ([(0.5, 0.3)] * 3, (0.5, 0.3)),
        ([(2.0, -1.0)] * 3, (2.0, -1.0)),
        ([(1.0, 0.2), (1.0, 0.3), (1.0, 0.4)], (1.0, 0.3)),  # each says much the same of the others
        ([(1.0, -0.3), (1.0, 0.0), (1.0, 0.3)], (1.0, 0.0)),  # none says anything of the others
        ([(1.0, 0.0), (1.0, 0.0), (1.0, 0.6)], (1.0, 0.0)),  # one season's own
    ],
)
def test_a_correction_is_taken_only_if_it_helps_the_folds_that_it_does_not_come_from(
    objective: Objective, truth: list[tuple[float, float]], found: tuple[float, float]
) -> None:
    labels, forecasts = off(objective, truth, 100_000)
    slope, intercept = found
    taken = calibration(objective, labels, forecasts)
    assert taken == pytest.approx({"slope": slope, "intercept": intercept}, abs=0.03)
    assert (taken == {"slope": 1.0, "intercept": 0.0}) is (found == (1.0, 0.0))


@BOTH
def test_forecasts_that_need_no_correction_get_none(objective: Objective) -> None:
    labels, forecasts = off(objective, [(1.0, 0.0)] * 3, 2_000)
    assert calibration(objective, labels, forecasts) == {"slope": 1.0, "intercept": 0.0}


def test_certain_probabilities_can_be_corrected_too() -> None:
    labels, forecasts = np.array([0.0, 0, 1, 1, 1, 0]), np.array([0.0, 0, 1, 1, 0, 1])
    slope, intercept = LATE.correction(labels, forecasts)
    assert corrected(LATE, np.array([0.0, 1.0]), slope, intercept) == pytest.approx([1 / 3, 2 / 3], abs=1e-3)


def resampled_by_hand(
    objective: Objective, labels: np.ndarray, forecasts: np.ndarray, days: np.ndarray, drawn: np.ndarray
) -> Mapping[str, list[float]]:
    """Metrics of the very rows of each resample, but for calibration: its bins are those of all rows."""
    bins, found = calibration_bins(forecasts), []
    for times in drawn:
        rows = np.repeat(np.arange(len(days)), times[days].astype(np.int64))
        scores = objective.metrics(labels[rows], forecasts[rows])
        excess = np.bincount(bins[rows], weights=objective.excess(labels[rows], forecasts[rows]))
        found.append({**scores, "calibration_error": np.abs(excess).sum() / len(rows)})
    return {name: [scores[name] for scores in found if not np.isnan(scores[name])] for name in found[0]}


@BOTH
@given(st.data())
def test_resampled_metrics_are_those_of_the_rows_of_the_days_drawn(objective: Objective, data: st.DataObject) -> None:
    labels, forecasts = data.draw(rows_of(objective))
    n_days = data.draw(st.integers(1, min(4, len(labels))))
    days = np.arange(len(labels)) % n_days
    draws = st.lists(st.integers(0, n_days - 1), min_size=n_days, max_size=n_days)
    drawn = np.array(
        [np.bincount(draw, minlength=n_days) for draw in data.draw(st.lists(draws, min_size=1, max_size=5))], float
    )
    expected = resampled_by_hand(objective, labels, forecasts, days, drawn)
    found = objective.resampled(labels, forecasts, days, drawn)
    assert found.keys() == expected.keys() - {"rows", "label_mean"}
    for name, values in found.items():
        assert values.tolist() == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name


@BOTH
def test_intervals_are_quantiles_of_the_metrics_of_resampled_days(objective: Objective) -> None:
    labels, forecasts, days = made_up(objective, 12, 30, 1.0)
    found = day_intervals(objective, labels, forecasts, days)
    resampled = resampled_by_hand(objective, labels, forecasts, days, day_weights(12, 1_000, 20130101))
    for name, bounds in found.items():
        low, high = np.quantile(resampled[name], [0.025, 0.975])
        assert (bounds.low, bounds.high) == pytest.approx((low, high)), name
    assert found.keys() == objective.metrics(labels, forecasts).keys() - {"rows", "label_mean"}


@BOTH
def test_an_interval_holds_the_metric_of_all_rows_and_widens_where_days_differ(objective: Objective) -> None:
    widths, loss = [], objective.loss_name.replace(" ", "_")
    for shared in (0.0, 1.5):
        labels, forecasts, days = made_up(objective, 60, 100, shared)
        scores, found = objective.metrics(labels, forecasts), day_intervals(objective, labels, forecasts, days)
        assert {name: each.estimate for name, each in found.items()}.items() <= scores.items()
        inside = found.keys() - {"calibration_error"}
        assert all(found[name].low < scores[name] < found[name].high for name in inside)
        widths.append(found[loss].high - found[loss].low)
    assert widths[1] > 2 * widths[0]


def test_one_day_has_no_width_and_one_class_no_area_under_the_curve() -> None:
    found = day_intervals(LATE, np.zeros(3), np.array([0.2, 0.4, 0.6]), np.zeros(3, dtype=np.int64))
    assert found.keys() == {"log_loss", "brier", "accuracy", "calibration_error"}
    assert (found["brier"].low, found["brier"].high) == pytest.approx((0.56 / 3, 0.56 / 3))


@pytest.mark.parametrize("label", [0.0, 0.1, 1e9 / 3])
def test_one_day_has_no_width_and_equal_labels_no_r2(label: float) -> None:
    found = day_intervals(MINUTES, np.full(3, label), label + np.array([2.0, 4.0, -6.0]), np.zeros(3, dtype=np.int64))
    assert found.keys() == {"squared_error", "rmse", "mae", "calibration_error"}
    assert (found["mae"].low, found["mae"].high) == pytest.approx((4, 4))


@pytest.mark.parametrize("far", [2.0, 1e3, 1e8])
def test_resamples_without_the_one_day_whose_labels_differ_have_no_r2(far: float) -> None:
    days = np.repeat(np.arange(10), 5)
    labels = np.where(days == 3, far, 0.1)
    drawn = day_weights(10, 1_000, 1)
    found = MINUTES.resampled(labels, labels + np.resize([1.0, -1.0], 50), days, drawn)
    share = drawn[:, 3] / 10
    spread = (share * (1 - share))[(share > 0) & (share < 1)] * (far - 0.1) ** 2
    assert 500 < len(spread) < len(found["mae"]) == 1_000
    assert found["r2"] == pytest.approx(1 - 1 / spread)


def test_the_spread_of_labels_that_hardly_differ_is_not_lost_in_rounding() -> None:
    labels, forecasts, days = made_up(MINUTES, 10, 20, 0.5)
    near, far = (MINUTES.resampled(labels + up, forecasts + up, days, day_weights(10, 50, 1)) for up in (0.0, 1e9))
    assert far["r2"] == pytest.approx(near["r2"], abs=1e-5)


@BOTH
def test_calibration_is_counted_over_the_bins_of_all_rows(objective: Objective) -> None:
    # Each day is off by a quarter in each of its two bins; a draw of both days, or of one twice, is just as far off.
    labels, forecasts = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.25, 0.75, 0.25, 0.75])
    found = day_intervals(objective, labels, forecasts, np.array([0, 0, 1, 1]))["calibration_error"]
    off_by = 0.25 if objective.kind == "binary" else 0.125
    assert (found.low, found.estimate, found.high) == pytest.approx((off_by, off_by, off_by))
