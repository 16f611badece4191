"""The model card: what a version is for, what it was made of, how good it is and where it is not to be trusted.

Sections after Mitchell et al. 2019, Model Cards for Model Reporting (FAT*).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flight_delays.core.bootstrap import Interval
from flight_delays.core.gates import Policy
from flight_delays.core.markdown import table
from flight_delays.core.metrics import Metrics
from flight_delays.use_case.training import Fitted

PURPOSE = """\
The probability that a flight from New York (EWR, JFK, LGA) arrives 15 minutes late or more, asked two hours before its
scheduled departure: to plan gates, crews and connections, and to tell passengers how likely a delay is. It is a
forecast, not a promise about one flight, and no ground for judging an airline or its people."""
LIMITS = (
    "The aircraft is taken as known two hours before departure. Aircraft are swapped at shorter notice, and the data "
    "tells only which one flew.",
    "Departures count as known a quarter of an hour after they happened, arrivals half an hour after landing: a slower "
    "feed makes the model worse.",
    "It has seen New York in 2013 and nothing else: other airports, airlines and years are beyond it.",
    "Cancelled and diverted flights have no outcome: the forecast is the probability of being late given that the "
    "flight arrives where it should. Most cancellations fall on the worst days, which look milder than they were.",
    "Delays drift with the season: one year holds each season once, and weather that is rare in it was hardly learnt.",
    "Airlines pad their schedules: a change of schedule changes what counts as late without any flight changing.",
)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Metrics of some flights, with their ranges over resampled days."""

    metrics: Metrics
    ranges: Mapping[str, Interval]


def model_card(
    *,
    name: str,
    fitted: Fitted,
    data: Mapping[str, str],
    scored: Scored,
    slices: Mapping[tuple[str, str], Scored],
    pictures: Sequence[str],
) -> str:
    """Markdown, from what a training run knows: `data` are facts on the rows, `slices` go by dimension and value."""
    search = [
        (trial.number, trial.state, f"{trial.loss:.5f}", _listed(trial.losses, ".5f"), _listed(trial.rounds, "d"))
        for trial in fitted.trials
    ]
    chosen = {**fitted.best.parameters, "rounds": fitted.rounds, **fitted.calibration}
    return "\n\n".join(
        [
            f"# Model card: {name}",
            PURPOSE,
            "## Data",
            table(("what", "is"), data.items()),
            "## How it was chosen",
            "On the days before the holdout only, the holdout having no part in it. Each fold learns from all days "
            "before its gap and is judged by the log loss of the days after it.",
            table(
                ("fold", "learns from days before", "is judged by", "to"),
                [(n, fold.train_end, fold.first, fold.end) for n, fold in enumerate(fitted.folds, 1)],
            ),
            f"Of {len(fitted.trials)} settings number {fitted.best.number} had the lowest mean log loss; a pruned one "
            "had fallen behind the median.",
            table(("setting", "state", "mean log loss", "log loss by fold", "best rounds by fold"), search),
            "The rounds are the median of the best setting's. Its forecasts of the folds' days gave slope and "
            "intercept of the calibration, which are 1 and 0 where a correction from other folds did not help a fold.",
            table(("parameter", "value"), [(key, f"{value:.6g}") for key, value in chosen.items()]),
            "## How good it is",
            f"On {scored.metrics.rows:,} flights of the holdout, {scored.metrics.positive_rate:.1%} of them late, that "
            "were used once, for this. Each range holds in 95 of 100 resamples of whole days.",
            table(
                ("metric", "value", "range"),
                [
                    (metric.replace("_", " "), _number(value), _range(scored.ranges.get(metric)))
                    for metric, value in scored.metrics.as_dict().items()
                    if metric not in ("rows", "positive_rate")
                ],
            ),
            "## Slices",
            f"One of fewer than {Policy.min_slice_rows} flights is too small to tell anything.",
            table(
                ("slice", "flights", "late", "log loss", "range", "AUC", "range"),
                [
                    (
                        f"{dimension} {value}",
                        f"{each.metrics.rows:,}",
                        f"{each.metrics.positive_rate:.1%}",
                        _number(each.metrics.log_loss),
                        _range(each.ranges.get("log_loss")),
                        _number(each.metrics.auc),
                        _range(each.ranges.get("auc")),
                    )
                    if each.metrics.rows >= Policy.min_slice_rows
                    else (f"{dimension} {value}", f"{each.metrics.rows:,}", *["not measured"] * 5)
                    for (dimension, value), each in slices.items()
                ],
            ),
            "## Pictures",
            *(f"![{picture}](plots/{picture})" for picture in pictures),
            "## Known limits",
            "\n".join(f"- {limit}" for limit in LIMITS),
        ]
    )


def _listed(values: Sequence[float], how: str) -> str:
    return ", ".join(format(value, how) for value in values)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"  # NaN: not to be had from one class


def _range(found: Interval | None) -> str:
    return "-" if found is None else f"{found.low:.4f} to {found.high:.4f}"
