"""What the pictures of a model, of data and of a verdict show."""

import math
from datetime import date

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from flight_delays.core.bootstrap import Interval
from flight_delays.core.gates import Check, Outcome, Slice, SliceOutcome, at_most
from flight_delays.core.objective import BinaryClassification, Objective, Regression
from flight_delays.views import plots

pytestmark = pytest.mark.filterwarnings("error")

LATE = BinaryClassification(positive="late", negative="on time")
MINUTES = Regression(unit="minutes", scale=2.0)
LABELS = np.array([0.0, 0, 0, 1, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def model_line(figure: Figure) -> tuple[list[float], list[float]]:
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "model"]
    return list(line.get_xdata()), list(line.get_ydata())


def drawn(figure: Figure) -> Figure:
    """A figure that was drawn, where some mistakes show only."""
    figure.draw_without_rendering()
    return figure


def words(figure: Figure) -> tuple[str, str, str]:
    axes = figure.axes[0]
    return axes.get_title(), axes.get_xlabel(), axes.get_ylabel()


@pytest.mark.parametrize(("objective", "names"), [(LATE, ["calibration", "roc"]), (MINUTES, ["calibration", "errors"])])
def test_quality_is_shown_by_calibration_and_by_what_suits_the_objective(
    objective: Objective, names: list[str]
) -> None:
    found = plots.quality(objective, LABELS, PROBABILITIES)
    assert [*found] == names
    for figure in found.values():
        drawn(figure)


@pytest.mark.parametrize(("objective", "forecast"), [(LATE, "probability"), (MINUTES, "prediction")])
def test_calibration_shows_each_filled_bin_and_the_error(objective: Objective, forecast: str) -> None:
    figure = plots.calibration(objective, LABELS, PROBABILITIES)
    error = objective.metrics(LABELS, PROBABILITIES)["calibration_error"]
    assert words(figure) == (f"Calibration: expected error {error:.4f}", f"forecast {forecast}", "mean outcome")
    assert model_line(figure) == (pytest.approx(PROBABILITIES), pytest.approx(LABELS))


def test_calibration_draws_no_point_for_an_empty_bin() -> None:
    figure = plots.calibration(LATE, np.array([0.0, 1, 1, 1]), np.array([0.5, 0.5, 0.8, 0.8]))
    assert model_line(figure) == (pytest.approx([0.5, 0.8]), pytest.approx([0.5, 1.0]))


@pytest.mark.parametrize("forecasts", [[1.0, 2.0], [-3.0, 5.0], [-9.0, -2.0], [0.0, 0.0], [-1.0, -1.0]])
def test_calibration_shows_numbers_of_either_sign_and_zero_on_equal_axes(forecasts: list[float]) -> None:
    labels = np.array(forecasts) - 0.5
    (axes,) = drawn(plots.calibration(MINUTES, labels, np.array(forecasts))).axes
    low, high = axes.get_xlim()
    assert (low, high) == axes.get_ylim()
    shown = [*forecasts, *labels]
    assert low < min(shown) if min(shown) < 0 else low == 0
    assert high > max(shown) if max(shown) > 0 else high >= 0
    assert low < high


def test_errors_are_counted_by_their_size_and_sign() -> None:
    (axes,) = drawn(plots.errors(np.array([1.0, 1.0, 5.0, 5.0]), np.array([1.0, 1.0, 2.0, 6.0]))).axes
    counts = {round(bar.get_x() + bar.get_width() / 2, 1): bar.get_height() for bar in axes.patches}
    assert sum(counts.values()) == 4
    assert {middle: count for middle, count in counts.items() if count} == {-1.0: 1, 0.0: 2, 3.0: 1}
    assert words(axes.figure) == ("Errors", "outcome minus forecast", "rows")
    (zero,) = axes.lines
    assert set(zero.get_xdata()) == {0}


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
    assert words(figure) == ("What the model looks at", "share of the total (%)", "")


@pytest.mark.parametrize(
    ("most", "names", "widths"),
    [
        (2, ["1 others", "hour", "wind"], [10, 30, 60]),
        (3, ["rain", "hour", "wind"], [10, 30, 60]),
        (1, ["2 others", "wind"], [40, 60]),
    ],
)
def test_inputs_after_the_most_important_ones_are_one_bar(most: int, names: list[str], widths: list[float]) -> None:
    (axes,) = plots.importance({"wind": 6.0, "rain": 1.0, "hour": 3.0}, most).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(widths)


def test_an_input_that_is_to_be_seen_has_a_bar_of_its_own_however_little_it_matters() -> None:
    gains = {"wind": 6.0, "rain": 1.0, "hour": 2.5, "new": 0.5}
    (axes,) = plots.importance(gains, 2, ["new", "wind"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 others", "new", "hour", "wind"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10, 5, 25, 60])


def test_importance_of_a_model_that_learnt_nothing_is_zero() -> None:
    assert [bar.get_width() for bar in plots.importance({"wind": 0.0}).axes[0].patches] == [0]


DAYS = pd.date_range("2013-01-01", periods=4)
NAN = math.nan


def daily(counts: list[float], means: dict[str, list[float]], *, shares: bool = True) -> Figure:
    days = DAYS[: len(counts)]
    return drawn(plots.daily(pd.DataFrame({"rows": counts, **means}, index=days, dtype="float64"), shares=shares))


def test_daily_shows_rows_as_bars_and_each_rate_as_a_line_by_its_name() -> None:
    rates = {"forecast": [0.1, 0.2, 0.3, 0.4], "arrived late": [0.2, 0.2, 0.2, 0.5]}
    figure = daily([10, 20, 0, 40], rates)
    bars, lines = figure.axes
    assert [bar.get_height() for bar in bars.patches] == [10, 20, 0, 40]
    assert {line.get_label(): list(line.get_ydata()) for line in lines.lines} == rates
    assert pd.DatetimeIndex(lines.lines[0].get_xdata()).equals(DAYS)
    assert [text.get_text() for text in lines.get_legend().get_texts()] == ["forecast", "arrived late"]
    assert lines.get_ylim() == (0, pytest.approx(0.6))
    assert lines.get_yticklabels()[-1].get_text() == "60%"
    assert bars.get_ylim() == (0, 100)


@pytest.mark.parametrize(
    ("rates", "top"),
    [
        ({"late": [NAN, 0.3, NAN, 0.1]}, 0.36),
        ({"late": [NAN] * 4, "forecast": [0.2] * 4}, 0.24),
        ({"late": [NAN] * 4}, 1.2),
        ({"late": [0.0] * 4}, 1.2),
    ],
)
def test_a_day_without_labels_leaves_a_gap_and_the_others_are_shown(rates: dict[str, list[float]], top: float) -> None:
    lines = daily([1] * 4, rates).axes[1]
    assert [list(line.get_ydata()) for line in lines.lines] == [
        pytest.approx(rate, nan_ok=True) for rate in rates.values()
    ]
    assert lines.get_ylim() == (0, pytest.approx(top))


def test_a_day_alone_between_days_without_labels_is_seen() -> None:
    (line,) = daily([1] * 4, {"late": [NAN, 0.3, NAN, 0.1]}).axes[1].lines
    assert line.get_marker() == "o"
    assert line.get_markersize() > line.get_linewidth()


def test_no_day_at_all_is_an_empty_picture() -> None:
    assert len(daily([], {"late": []}).axes[0].patches) == 0


@pytest.mark.parametrize(
    ("minutes", "low", "high"), [([-5.0, NAN, 10, 20], -6, 24), ([-5.0, -10, -1, -2], -12, 0), ([3.0, 4, 5, 10], 0, 12)]
)
def test_means_that_are_no_shares_are_shown_as_they_are_negative_ones_too(
    minutes: list[float], low: float, high: float
) -> None:
    lines = daily([1] * 4, {"delay": minutes}, shares=False).axes[1]
    assert lines.get_ylim() == (pytest.approx(low), pytest.approx(high))
    assert not [label.get_text() for label in lines.get_yticklabels() if "%" in label.get_text()]


def late_rate(values: object, label: object = None) -> Axes:
    """The one picture of a column whose rows are late in turn, unless `label` says which."""
    column = pd.Series(values)
    labels = pd.Series(np.arange(len(column)) % 2 if label is None else label)
    (axes,) = drawn(plots.mean_by_value({"x": column}, labels, shares=True)).axes
    return axes


def points(axes: Axes) -> dict[float, float]:
    line, _ = axes.lines
    return dict(zip(line.get_xdata(), line.get_ydata(), strict=True))


def bars(axes: Axes) -> dict[str, float]:
    names = [label.get_text() for label in axes.get_xticklabels()]
    return dict(zip(names, [bar.get_height() for bar in axes.patches], strict=True))


def test_a_numbers_rate_is_shown_over_tenths_of_its_rows() -> None:
    rows = np.arange(1000.0)
    axes = late_rate(rows**2, label=rows >= 900)
    assert list(points(axes).values()) == [0] * 9 + [1]
    assert list(points(axes)) == pytest.approx([(100 * tenth + 49.5) ** 2 for tenth in range(10)], abs=1)
    _, all_rows = axes.lines
    assert set(all_rows.get_ydata()) == {0.1}


def test_a_column_most_of_whose_rows_have_one_value_is_cut_by_value_instead() -> None:
    rain = [0.0] * 950 + [float(value) for value in range(1, 51)]
    shown = points(late_rate(rain, label=[0] * 950 + [1] * 50))
    assert list(shown) == [0, 8, 13, 18, 23, 28, 33, 38, 43, 48]
    assert list(shown.values()) == [pytest.approx(5 / 955), *[1] * 9]


@pytest.mark.parametrize("weekdays", [1, 2, 4, 7, 10])
def test_each_of_few_values_is_a_point_of_its_own(weekdays: int) -> None:
    values = np.repeat(np.arange(weekdays), 20)
    assert points(late_rate(values, label=values == 0)) == {day: float(day == 0) for day in range(weekdays)}


def test_a_value_that_nearly_every_row_has_still_leaves_the_others_seen() -> None:
    assert points(late_rate([0] * 97 + [1, 2, 3], label=[0] * 97 + [1, 1, 1])) == {0: 0, 1: 1, 2: 1, 3: 1}


def test_a_category_shows_the_twelve_levels_that_most_rows_have_from_high_to_low() -> None:
    airports = [name for number, name in enumerate("ABCDEFGHIJKLMNO") for _ in range(20 - number)]
    label = [int(name in "CN") for name in airports]
    shown = bars(late_rate(airports, label=label))
    assert next(iter(shown.items())) == ("C", 1)
    assert sorted(shown) == sorted("ABCDEFGHIJKL")
    assert sum(shown.values()) == 1


@pytest.mark.parametrize("dtype", [None, "category"])
def test_missing_levels_are_left_out(dtype: str | None) -> None:
    values = pd.Series(["A", None, "B", "A"], dtype=dtype)
    assert bars(late_rate(values, label=[1, 1, 0, 0])) == {"A": 0.5, "B": 0}


def test_a_level_of_which_there_are_no_rows_is_left_out() -> None:
    assert bars(late_rate(pd.Categorical(["A", "B"], categories=["A", "B", "C"]))) == {"B": 1, "A": 0}


def test_missing_numbers_are_left_out_of_the_line_and_count_among_all_rows() -> None:
    axes = late_rate([NAN, 1.0, 1.0, 2.0], label=[1, 1, 0, 0])
    assert points(axes) == {1: 0.5, 2: 0}
    assert set(axes.lines[1].get_ydata()) == {0.5}
    assert list(points(late_rate([NAN] * 40 + list(range(40)))).values()) == [0.5] * 10


@pytest.mark.parametrize("values", [[NAN] * 4, [None] * 4])
def test_a_column_that_nobody_fills_is_an_empty_picture(values: list[object]) -> None:
    axes = late_rate(values)
    assert axes.get_title() == "x"
    assert [len(line.get_xdata()) for line in axes.lines[:-1]] in ([], [0])
    assert not axes.patches


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object"])
def test_a_boolean_has_a_bar_for_each_of_its_two_values(dtype: str) -> None:
    assert bars(late_rate(pd.Series([True, True, False, False], dtype=dtype), label=[1, 1, 1, 0])) == {
        "True": 1,
        "False": 0.5,
    }
    missing = pd.Series([True, None, False], dtype="boolean")
    assert bars(late_rate(missing, label=[1, 1, 0])) == {"True": 1, "False": 0}


def test_days_are_levels_too() -> None:
    assert bars(late_rate([date(2013, 1, 1), date(2013, 1, 2)] * 2)) == {"2013-01-02": 1, "2013-01-01": 0}


def test_every_column_has_its_picture_and_room_above_rates_that_differ_little() -> None:
    label = pd.Series([0, 1] * 50)
    columns = {str(number): pd.Series(np.arange(100) // 10) for number in range(5)}
    figure = drawn(plots.mean_by_value(columns, label, shares=True))
    assert [axes.get_title() for axes in figure.axes] == list("01234")
    assert all(axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 0.55 for axes in figure.axes)


@pytest.mark.parametrize("values", [[0, 1, 2, 3], ["A", "B", "C", "D"]])
@pytest.mark.parametrize(
    ("means", "low", "high"), [([-8.0, -4, 0, 4], -8, 4), ([-8.0, -4, -2, -1], -8, 0), ([1.0, 2, 3, 4], 0, 4)]
)
def test_means_of_numbers_are_shown_from_the_lowest_to_the_highest_and_zero_in_their_own_unit(
    values: list[object], means: list[float], low: float, high: float
) -> None:
    figure = drawn(plots.mean_by_value({"x": pd.Series(values)}, pd.Series(means), shares=False))
    (axes,) = figure.axes
    bottom, top = axes.get_ylim()
    assert bottom < low if low else bottom == 0
    assert top > high if high else top >= 0
    assert not [label.get_text() for label in axes.get_yticklabels() if "%" in label.get_text()]
    assert any("%" in label.get_text() for label in late_rate(values).get_yticklabels())


def check(low: float, high: float, limit: float) -> Check:
    return at_most("log_loss", "loss", Interval(low=low, estimate=(low + high) / 2, high=high), limit)


def test_each_measured_check_is_a_bar_with_its_limit_in_the_colour_of_its_outcome() -> None:
    checks = [check(0.1, 0.3, 0.5), check(0.1, 0.3, 0.2), check(0.1, 0.3, 0.05)]
    figure = drawn(plots.intervals(checks))
    colours = {"PASS": "tab:green", "INCONCLUSIVE": "tab:orange", "FAIL": "tab:red"}
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"log loss: {outcome}" for outcome in colours]
    for axes, one, colour in zip(figure.axes, checks, colours.values(), strict=True):
        limit, bar, estimate = axes.lines
        assert set(limit.get_xdata()) == {one.evidence["limit"]}
        assert list(bar.get_xdata()) == [0.1, 0.3]
        assert list(estimate.get_xdata()) == [pytest.approx(0.2)]
        assert bar.get_color() == estimate.get_color() == colour
        (passing,) = axes.patches
        assert passing.get_extents().x1 == pytest.approx(axes.transData.transform((one.evidence["limit"], 0))[0])
        assert to_rgba(passing.get_facecolor())[:3] == to_rgba("tab:green")[:3]


@pytest.mark.parametrize(
    ("low", "high", "limit"), [(-0.3, -0.1, -0.001), (-0.3, -0.2, -0.5), (0.1, 0.2, 0.05), (0, 0, 0), (-1e-9, 0, 0)]
)
def test_bounds_limit_and_zero_are_always_within_the_picture(low: float, high: float, limit: float) -> None:
    (axes,) = drawn(plots.intervals([check(low, high, limit)])).axes
    left, right = axes.get_xlim()
    assert left < min(low, limit, 0)
    assert right > max(high, limit, 0)


def test_a_check_without_a_limit_is_left_out() -> None:
    days = Check(name="enough_days", outcome=Outcome.PASS, reason="92 unseen days", evidence={"days": 92})
    figure = plots.intervals([days, check(0, 0.1, 0.2)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["log loss: PASS"]
    for checks in ([days], []):
        nothing = drawn(plots.intervals(checks))
        assert nothing.axes == []
        assert [text.get_text() for text in nothing.texts] == [
            "nothing was measured: the reasons of the checks say why"
        ]
    assert not figure.texts


def a_slice(value: str, outcome: SliceOutcome) -> Slice:
    bounds = None if outcome is SliceOutcome.NOT_MEASURED else Interval(low=0.01, estimate=0.02, high=0.05)
    return Slice(dimension="carrier", value=value, rows=300, days=30, outcome=outcome, worse_by=bounds)


def test_each_measured_slice_is_a_bar_that_is_red_where_harm_was_shown() -> None:
    outcomes = {"AA": SliceOutcome.NOT_SHOWN, "OO": SliceOutcome.NOT_MEASURED, "UA": SliceOutcome.HARMED}
    figure = drawn(plots.slices([a_slice(value, outcome) for value, outcome in outcomes.items()], "log loss"))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "log loss, candidate minus baseline"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["carrier AA", "carrier UA"]
    bars = [line for line in axes.lines if list(line.get_xdata()) == [0.01, 0.05]]
    assert [bar.get_color() for bar in bars] == ["tab:green", "tab:red"]


@pytest.mark.parametrize("found", [[], [a_slice("OO", SliceOutcome.NOT_MEASURED)]])
def test_where_no_slice_was_measured_the_picture_says_so(found: list[Slice]) -> None:
    figure = drawn(plots.slices(found, "log loss"))
    assert [text.get_text() for text in figure.texts] == ["no slice was measured: too few days or rows"]


def test_distribution_shows_a_density_per_group_so_that_the_smaller_is_seen_too() -> None:
    groups = {"arrived on time": np.full(900, 0.11), "arrived late": np.full(100, 0.71)}
    (axes,) = drawn(plots.distribution(groups, "probability")).axes
    assert axes.get_xlabel() == "forecast probability"
    shown = [
        [(round(bar.get_x(), 2), round(bar.get_height())) for bar in group if bar.get_height()]
        for group in axes.containers
    ]
    assert shown == [[(0.1, 50)], [(0.7, 50)]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(groups)


def test_a_group_without_rows_is_named_and_has_no_height() -> None:
    groups = {"arrived on time": np.array([0.2]), "arrived late": np.empty(0)}
    (axes,) = drawn(plots.distribution(groups, "probability")).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["arrived on time", "arrived late"]
    assert {bar.get_height() for bar in axes.containers[1]} == {0}


@pytest.mark.parametrize(
    ("forecasts", "low", "high"),
    [([-10.0, 40.0], -10, 40), ([-10.0, -5.0], -10, 0), ([5.0, 40.0], 0, 40), ([0.0, 0.0], 0, 1), ([], 0, 1)],
)
def test_forecast_numbers_are_counted_between_the_lowest_and_the_highest_and_zero(
    forecasts: list[float], low: float, high: float
) -> None:
    (axes,) = drawn(plots.distribution({"all": np.array(forecasts)}, "prediction")).axes
    first, last = axes.patches[0], axes.patches[-1]
    assert (first.get_x(), last.get_x() + last.get_width()) == (pytest.approx(low), pytest.approx(high))
    assert sum(bar.get_height() * bar.get_width() for bar in axes.patches) == pytest.approx(1 if forecasts else 0)
    assert axes.get_xlabel() == "forecast prediction"


MEASURED = pd.DataFrame(
    {
        "complete": [1.0, 1, 0, NAN],
        "coverage": [1.0, 0.9, 0.4, NAN],
        "loss": [0.5, NAN, 0.6, NAN],
        "loss_28_days": [0.5, 0.5, 0.55, NAN],
        "loss_28_days_low": [NAN, 0.4, 0.45, NAN],
        "loss_28_days_high": [NAN, 0.6, 0.65, NAN],
        "estimated_loss": [0.5, 0.52, 0.54, 0.56],
    },
    index=[date(2013, 1, day) for day in range(1, 5)],
)


def test_performance_shows_each_day_its_mean_with_a_band_the_estimate_and_how_many_have_an_outcome() -> None:
    axes, coverage = drawn(plots.performance(MEASURED, "version 2, batch", "log loss")).axes
    assert (axes.get_title(loc="left"), axes.get_ylabel()) == ("version 2, batch", "log loss")
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["28-day mean"].get_ydata()) == pytest.approx([0.5, 0.5, 0.55, NAN], nan_ok=True)
    assert list(lines["estimated"].get_ydata()) == [0.5, 0.52, 0.54, 0.56]
    assert lines["estimated"].get_linestyle() == "--"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "day",
        "day, outcomes to come",
        "95 % band",
        "28-day mean",
        "estimated",
    ]
    whole, begun, band = axes.collections
    assert whole.get_offsets()[:, 1].tolist() == [0.5, None]  # masked
    assert begun.get_offsets()[0, 1] == 0.6
    assert len(begun.get_facecolors()) == 0
    assert (band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()) == (0.4, 0.65)
    assert coverage.get_ylim() == (0, pytest.approx(1.05))


def test_performance_of_which_nothing_was_measured_shows_the_estimate() -> None:
    unknown = MEASURED.assign(**{name: NAN for name in MEASURED if name != "estimated_loss"})
    axes, _ = drawn(plots.performance(unknown, "version 2, batch", "log loss")).axes
    assert "estimated" in {line.get_label() for line in axes.lines}
    assert "day" not in {text.get_text() for text in axes.get_legend().get_texts()}


def drift(*levels: list[float], alarms: list[list[bool]] | None = None) -> Figure:
    columns = [date(2013, 1, day + 1) for day in range(len(levels[0]))]
    table = pd.DataFrame(levels, columns=columns, index=[f"column {n}" for n in range(len(levels))])
    marked = pd.DataFrame(False if alarms is None else alarms, columns=columns, index=table.index)
    return drawn(plots.drift(table, marked, 7))


def test_drift_is_a_map_with_columns_down_windows_across_and_a_dot_at_each_alarm() -> None:
    axes, bar = drift([0.5, 3.5, NAN], [math.inf, 1, 2], alarms=[[False, True, False], [True, False, False]]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["column 0", "column 1"]
    assert axes.yaxis_inverted()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["01-03", "01-02", "01-01"]
    mesh, dots = axes.collections
    assert mesh.get_array().filled(-1).tolist() == [[0.5, 3.5, -1], [99, 1, 2]]
    assert sorted(map(tuple, dots.get_offsets().tolist())) == [(0.5, 1.5), (1.5, 0.5)]
    assert axes.get_xlabel() == "last of 7 days"
    assert bar.get_ylabel() == "-log10 p; dot: alarm"


@pytest.mark.parametrize(
    ("highest", "top"), [(NAN, 3), (0.0, 3), (3.0, 3), (4.0, 4), (6.0, 6), (7.0, 6), (math.inf, 6)]
)
def test_the_colours_of_drift_reach_from_a_tenth_to_at_least_a_thousandth(highest: float, top: float) -> None:
    (mesh, _) = drift([highest]).axes[0].collections
    assert mesh.get_clim() == (1, top)


def test_many_windows_have_fewer_dates_the_newest_among_them() -> None:
    labels = [label.get_text() for label in drift([0.0] * 30).axes[0].get_xticklabels()]
    assert len(labels) == 15
    assert labels[0] == "01-30"


def test_a_rollouts_share_stays_until_the_next_step() -> None:
    times = pd.DatetimeIndex(["2013-01-01 06:00", "2013-01-02 06:00", "2013-01-05 06:00"], tz="UTC")
    steps = pd.Series([0, 5, 100], index=times)
    (axes,) = drawn(plots.shares({"version 3": steps, "version 4": steps.head(1)})).axes
    assert [line.get_drawstyle() for line in axes.lines] == ["steps-post"] * 2
    assert list(axes.lines[0].get_ydata()) == [0, 5, 100]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["version 3", "version 4"]
    assert axes.get_ylim() == (-4, 104)
