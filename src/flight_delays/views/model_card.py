"""The model card: what a version is for, what it was made of, how good it is and where it is not to be trusted.

Sections after Mitchell et al. 2019, Model Cards for Model Reporting (FAT*).
"""

from collections.abc import Mapping, Sequence

from flight_delays.core.bootstrap import Interval
from flight_delays.core.evaluation import Evaluation, Scored
from flight_delays.core.markdown import table
from flight_delays.core.settings import Policy
from flight_delays.core.training import Fitted


def model_card(
    *,
    name: str,
    fitted: Fitted,
    data: Mapping[str, str],
    found: Evaluation,
    pictures: Sequence[str],
) -> str:
    """Markdown, from what a training run knows: `data` are facts on the rows, `found` is how it did on the holdout."""
    use_case, scored = fitted.use_case, found.scored
    loss = use_case.objective.loss_name
    shown = [name for name in scored.metrics if name != "rows"]
    search = [
        (trial.number, trial.state, f"{trial.loss:.5f}", _listed(trial.losses, ".5f"), _listed(trial.rounds, "d"))
        for trial in fitted.trials
    ]
    chosen = {**fitted.best.parameters, "rounds": fitted.rounds, **fitted.correction}
    return "\n\n".join(
        [
            f"# Model card: {name}",
            use_case.card.purpose,
            "## Data",
            table(("what", "is"), data.items()),
            "## How it was chosen",
            "On the days before the holdout only, the holdout having no part in it. Each fold learns from all days "
            f"before its gap and is judged by the {loss} of the days after it.",
            table(
                ("fold", "learns from days before", "is judged by", "to"),
                [(n, fold.train_end, fold.first, fold.end) for n, fold in enumerate(fitted.folds, 1)],
            ),
            f"Of {len(fitted.trials)} settings number {fitted.best.number} had the lowest mean {loss}; a pruned one "
            "had fallen behind the median.",
            table(("setting", "state", f"mean {loss}", f"{loss} by fold", "best rounds by fold"), search),
            "The rounds are the median of the best setting's. Its forecasts of the folds' days gave slope and "
            "intercept of the correction, which are 1 and 0 where a correction from other folds did not help a fold.",
            table(
                ("parameter", "value"),
                [(key, value if isinstance(value, str) else f"{value:.6g}") for key, value in chosen.items()],
            ),
            "## How good it is",
            f"On {scored.rows:,} rows of the holdout, {use_case.objective.describe(found.labels)}, that were used "
            "once, for this. Each range holds in 95 of 100 resamples of whole days.",
            table(
                ("metric", "value", "range"),
                [
                    (name.replace("_", " "), _number(scored.metrics[name]), _range(scored.ranges.get(name)))
                    for name in shown
                ],
            ),
            "## Slices",
            f"One of fewer than {Policy.min_slice_rows} rows is too small to tell anything.",
            table(
                ("slice", "rows", *(name.replace("_", " ") for name in shown)),
                [
                    (f"{dimension} {value}", f"{each.rows:,}", *(_measured(each, name) for name in shown))
                    for (dimension, value), each in found.slices.items()
                ],
            ),
            "## Pictures",
            *(f"![{picture}](plots/{picture})" for picture in pictures),
            "## Known limits",
            "\n".join(f"- {limit}" for limit in use_case.card.limits),
        ]
    )


def _listed(values: Sequence[float], how: str) -> str:
    return ", ".join(format(value, how) for value in values)


def _measured(each: Scored, name: str) -> str:
    if each.rows < Policy.min_slice_rows:
        return "not measured"
    bounds = each.ranges.get(name)
    return _number(each.metrics[name]) + (f" ({_range(bounds)})" if bounds else "")


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"  # NaN: not to be had from one class


def _range(found: Interval | None) -> str:
    return "-" if found is None else f"{found.low:.4f} to {found.high:.4f}"
