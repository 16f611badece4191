"""Pictures of data, of a model's quality and of a verdict: arrays in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import auc, roc_curve

from flight_delays.core.gates import Check, Outcome, Slice, SliceOutcome
from flight_delays.core.metrics import Floats, calibration_bins
from flight_delays.core.objective import Objective

_COLOURS = {Outcome.PASS: "tab:green", Outcome.FAIL: "tab:red", Outcome.INCONCLUSIVE: "tab:orange"}


def quality(objective: Objective, labels: Floats, forecasts: Floats) -> dict[str, Figure]:
    """What shows how good a model is, by name: calibration always, and what suits the objective."""
    other = {"roc": roc(labels, forecasts)} if objective.kind == "binary" else {"errors": errors(labels, forecasts)}
    return {"calibration": calibration(objective, labels, forecasts), **other}


def calibration(objective: Objective, labels: Floats, forecasts: Floats) -> Figure:
    """Mean outcome against mean forecast, over equally filled bins."""
    bins = pd.DataFrame({"forecast": forecasts, "label": labels}).groupby(calibration_bins(forecasts)).mean()
    figure, axes = _figure()
    ends = _ends(bins.to_numpy(), 0.05)
    axes.plot(ends, ends, color="grey", linewidth=1, linestyle="--", label="perfect")
    axes.plot(bins["forecast"].to_numpy(), bins["label"].to_numpy(), marker="o", label="model")
    axes.set(
        xlabel=f"forecast {objective.forecast}",
        ylabel="mean outcome",
        title=f"Calibration: expected error {objective.metrics(labels, forecasts)['calibration_error']:.4f}",
        xlim=ends,
        ylim=ends,
    )
    axes.legend()
    return figure


def errors(labels: Floats, forecasts: Floats) -> Figure:
    """How often forecasts are off by how much."""
    figure, axes = _figure()
    axes.hist(labels - forecasts, bins=60)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel="outcome minus forecast", ylabel="rows", title="Errors")
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
        title=f"ROC: area {auc(false_positive, true_positive):.4f}",
    )
    axes.legend(loc="lower right")
    return figure


def importance(gains: Mapping[str, float], most: int = 20, always: Sequence[str] = ()) -> Figure:
    """Each input's share of the total, in percent; those after the `most` important ones together, but for `always`."""
    ordered = sorted(gains.items(), key=lambda item: item[1])
    total = sum(gains.values()) or 1.0
    if rest := [one for one in ordered[:-most] if one[0] not in always]:
        kept = [one for one in ordered if one not in rest]
        ordered = [(f"{len(rest)} others", sum(gain for _, gain in rest)), *kept]
    figure, axes = _figure(height=0.28 * len(ordered) + 1.2)
    axes.barh([name for name, _ in ordered], [100 * gain / total for _, gain in ordered])
    axes.set(xlabel="share of the total (%)", title="What the model looks at")
    return figure


def daily(days: pd.DataFrame, *, shares: bool) -> Figure:
    """By day, the index, column `rows` as bars and each other column, a mean or NaN, as a line.

    `shares` from 0 to 1 are shown in percent.
    """
    figure, axes = _figure(height=3.4, width=11)
    counts, means = days["rows"].to_numpy(dtype=np.float64), days.drop(columns="rows").astype("float64")
    axes.bar(days.index, counts, width=1.0, color="lightgrey")
    axes.set(ylabel="rows per day", ylim=(0, 2.5 * (float(counts.max(initial=0)) or 1.0)))
    lines = axes.twinx()
    for name in means:
        # Dots as thick as the line, because a day between two without a rate has no line.
        lines.plot(days.index, means[name], label=name, linewidth=1.2, marker="o", markersize=1.6)
    if shares:
        lines.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    lines.set_ylim(_ends(means.to_numpy(), 0.2))
    lines.legend(loc="upper right", ncols=len(means.columns))
    return figure


def mean_by_value(columns: Mapping[str, pd.Series], label: pd.Series, *, shares: bool) -> Figure:
    """The mean label over each column's values: over tenths of the rows of a number with more than ten values,
    over the twelve levels of a category that most rows have.

    Columns and label have the same rows. The dashed line is the mean of all; `shares` of 0/1 labels are percentages.
    """
    across = 4
    down = -(-len(columns) // across)
    figure = Figure(figsize=(11, 2.1 * down), layout="constrained")
    for position, (name, values) in enumerate(columns.items(), 1):
        axes = figure.add_subplot(down, across, position)
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            groups = values
            if values.nunique() > 10:
                groups = pd.qcut(values, 10, duplicates="drop")
                if groups.nunique() < 3:  # one value that most rows have takes nearly all tenths
                    groups = pd.cut(values, 10)
            rates = label.groupby(groups, observed=True).mean()
            middles = values.groupby(groups, observed=True).median()
            axes.plot(middles.to_numpy(), rates.to_numpy(), marker=".", linewidth=1.2)
        else:
            commonest = values.value_counts().head(12).index
            rates = label.groupby(values, observed=True).mean().reindex(commonest).dropna().sort_values(ascending=False)
            axes.bar(rates.index.astype(str), rates.to_numpy())
            axes.tick_params(axis="x", labelrotation=90)
        axes.axhline(float(label.mean()), color="grey", linewidth=1, linestyle="--")
        if shares:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(labelsize=7)
        axes.set_title(name, fontsize=9)
        axes.set_ylim(_ends(np.array([*rates, label.mean()], dtype="float64"), 0.15))
    return figure


def intervals(checks: Sequence[Check]) -> Figure:
    """Each check's estimate between its bounds, and the limit at or below which it passes."""
    measured = [check for check in checks if "limit" in check.evidence]
    figure = Figure(figsize=(8, 0.4 + 0.9 * max(len(measured), 1)), layout="constrained")
    if not measured:
        figure.text(0.5, 0.5, "nothing was measured: the reasons of the checks say why", ha="center", va="center")
    for position, check in enumerate(measured, 1):
        low, estimate, high, limit = (check.evidence[key] for key in ("low", "estimate", "high", "limit"))
        axes = figure.add_subplot(len(measured), 1, position)
        left, right = min(low, limit, 0.0), max(high, limit, 0.0)
        room = 0.1 * (right - left or 1.0)
        left, right = left - room, right + room
        axes.axvspan(left, limit, color="tab:green", alpha=0.1)
        axes.axvline(limit, color="black", linewidth=1)
        _draw_interval(axes, 0, low, estimate, high, _COLOURS[check.outcome])
        axes.set(xlim=(left, right), ylim=(-1, 1), yticks=[])
        axes.tick_params(labelsize=8)
        axes.set_title(f"{check.name.replace('_', ' ')}: {check.outcome}", fontsize=9, loc="left")
    return figure


def slices(found: Sequence[Slice], loss: str) -> Figure:
    """How much higher the loss is in each measured slice, between bounds that hold for all of them at once."""
    measured = [(one, one.worse_by) for one in found if one.worse_by is not None]
    figure, axes = _figure(height=0.8 + 0.25 * max(len(measured), 1), width=8)
    if not measured:
        axes.set_axis_off()
        figure.text(0.5, 0.5, "no slice was measured: too few days or rows", ha="center", va="center")
        return figure
    for row, (one, worse_by) in enumerate(measured):
        colour = _COLOURS[Outcome.FAIL if one.outcome is SliceOutcome.HARMED else Outcome.PASS]
        _draw_interval(axes, row, worse_by.low, worse_by.estimate, worse_by.high, colour)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(measured)), [f"{one.dimension} {one.value}" for one, _ in measured])
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.set(xlabel=f"{loss}, candidate minus baseline")
    return figure


def _draw_interval(axes: Axes, y: float, low: float, estimate: float, high: float, colour: str) -> None:
    axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot([estimate], [y], marker="o", color=colour)


def distribution(groups: Mapping[str, Floats], what: str) -> Figure:
    """How often each value was forecast, for each group of rows by its name."""
    figure, axes = _figure(height=3.4)
    every = np.concatenate([[0.0, 1.0] if what == "probability" else [], *groups.values()])
    bins = np.linspace(*_ends(every, 0.0), 51).tolist()
    for name, values in groups.items():
        axes.hist(values, bins=bins, alpha=0.6, density=values.size > 0, label=name)
    axes.legend()
    axes.set(xlabel=f"forecast {what}", ylabel="density")
    return figure


def performance(days: pd.DataFrame, title: str, loss: str) -> Figure:
    """By day, the index: loss, its mean over 28 days with a band, the estimate, and below it the share with an outcome.

    All columns are float, NaN where nothing was measured; an open dot is a day whose outcomes are not all in.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes, coverage = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    at, whole = pd.DatetimeIndex(days.index), (days["complete"] == 1).to_numpy()
    for these, fill, label in ((whole, "tab:grey", "day"), (~whole, "none", "day, outcomes to come")):
        if days["loss"][these].notna().any():
            axes.scatter(at[these], days["loss"][these], s=12, facecolors=fill, edgecolors="tab:grey", label=label)
    low, high = (days[f"loss_28_days_{end}"].to_numpy() for end in ("low", "high"))
    axes.fill_between(at, low, high, color="tab:blue", alpha=0.2, linewidth=0, label="95 % band")
    axes.plot(at, days["loss_28_days"], color="tab:blue", linewidth=2, label="28-day mean")
    axes.plot(at, days["estimated_loss"], color="tab:orange", linestyle="--", linewidth=1.5, label="estimated")
    axes.legend(loc="upper right", ncols=5, fontsize=8)
    axes.margins(y=0.2)
    axes.set_ylabel(loss)
    axes.set_title(title, loc="left", fontsize=10)
    coverage.fill_between(at, 0.0, days["coverage"].to_numpy(), step="mid", color="tab:grey", alpha=0.6)
    coverage.set(ylim=(0, 1.05), ylabel="labelled")
    coverage.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _mark_times(coverage)
    return figure


def drift(levels: pd.DataFrame, alarms: pd.DataFrame, days: int) -> Figure:
    """-log10 of p-values by column, down, and last day of a window, across; a dot is an alarm, hatched not measured."""
    figure, axes = _figure(height=1.5 + 0.22 * len(levels), width=11)
    axes.set_facecolor("none")
    axes.patch.set(hatch="////", edgecolor="tab:grey")
    shown = np.ma.masked_invalid(np.where(np.isposinf(levels), 99.0, levels.to_numpy()))
    top = float(np.clip(shown.max() if shown.count() else 0.0, 3.0, 6.0))
    mesh = axes.pcolormesh(shown, cmap="YlOrRd", vmin=1.0, vmax=top, edgecolors="white", linewidth=0.5)
    rows, columns = np.nonzero(alarms.to_numpy())
    axes.scatter(columns + 0.5, rows + 0.5, s=20, color="black", label="alarm")
    axes.set_yticks(np.arange(len(levels)) + 0.5, [str(name) for name in levels.index], fontsize=8)
    every = -(-levels.shape[1] // 15)
    axes.set_xticks(np.arange(levels.shape[1])[::-every] + 0.5, [f"{day:%m-%d}" for day in levels.columns[::-every]])
    axes.yaxis.tick_right()  # the names beside the newest windows
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(f"last of {days} days")
    figure.colorbar(mesh, ax=axes, location="left", label="-log10 p; dot: alarm", extend="both", aspect=40)
    return figure


def shares(rollouts: Mapping[str, pd.Series]) -> Figure:
    """Shares in % over time, the index, as steps; one line for each rollout by its name."""
    figure, axes = _figure(height=2.6, width=11)
    for name, steps in rollouts.items():
        axes.step(pd.DatetimeIndex(steps.index), steps.to_numpy(), where="post", marker="o", markersize=3, label=name)
    axes.set(ylim=(-4, 104), ylabel="share of the requests (%)")
    axes.legend(fontsize=8)
    _mark_times(axes)
    return figure


def _mark_times(axes: Axes) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _ends(values: Floats, room: float) -> tuple[float, float]:
    """Of an axis that shows zero and all values, with a share of room beyond those that are not zero."""
    known = values[~np.isnan(values)]
    low, high = float(known.min(initial=0)), float(known.max(initial=0))
    if low == high:
        high = 1.0
    return (1 + room) * low, (1 + room) * high


def _figure(height: float = 5.0, width: float = 6.5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
