"""What each group of features adds: `python -m bench.ablation` writes docs/ablation.md.

From what `python3 dev.py demo` left. Groups are compared on the folds of January to September, with which a model is
chosen; October to December is shown beside it and chooses nothing.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import pandas as pd
from rich.progress import track

from bench.flights import GROUPS, ROOT, labelled, without
from flight_delays.core.bootstrap import day_weights, interval
from flight_delays.core.metrics import Floats
from flight_delays.core.training import SEED, Fitted, fit
from flight_delays.use_case import USE_CASE

HOLDOUT = date(2013, 10, 1)
EVERYTHING = "everything"

PAGE = """\
# What each group of features adds

Made by `python -m bench.ablation` on the real flights. Every model has the schedule: airline, airports, distance,
hour, weekday, holidays, all known from the request. The groups are looked up; [data-dictionary.md](data-dictionary.md)
lists their columns. Each line is one model, with the parameters that the search begins with.

*Folds* is the mean log loss over the three folds of January to September, by which features are chosen. The rest is
the final test, October to December, {rows:,} flights: *more than everything* is the log loss minus that of the model
with all groups on the same flights, between two one-sided 95 % bounds from resampled days.

{table}
"""


def configurations() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name of a model, and the columns that it goes without."""
    yield EVERYTHING, ()
    yield "the schedule alone", USE_CASE.looked_up
    for group, columns in GROUPS.items():
        yield f"everything but {group}", columns


def main() -> None:
    """Fit every model, and write the table."""
    rows, objective = labelled(), USE_CASE.objective
    earlier, later = rows[rows["day"] < HOLDOUT], rows[rows["day"] >= HOLDOUT]
    labels = later["label"].to_numpy(dtype=np.float64)
    days = pd.factorize(later["day"], sort=True)[0]
    made: dict[str, tuple[Fitted, Floats]] = {}
    for name, unknown in track(list(configurations()), "Fitting"):
        fitted = fit(USE_CASE, without(earlier, *unknown), until=HOLDOUT, trials=1)
        made[name] = fitted, fitted.forecast(without(later, *unknown))

    loss_of_all = objective.loss(labels, made[EVERYTHING][1])
    counts = np.bincount(days).astype(np.float64)
    weights = day_weights(len(counts), 2_000, SEED)
    lines = [
        "| model | folds | AUC | Brier | log loss | calibration error | more than everything |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (fitted, forecast) in made.items():
        found = objective.metrics(labels, forecast)
        more = np.bincount(days, weights=objective.loss(labels, forecast) - loss_of_all)
        bounds = interval(float(more.sum() / counts.sum()), weights @ more / (weights @ counts), 0.95)
        lines.append(
            f"| {name} | {fitted.best.loss:.4f} | {found['auc']:.4f} | {found['brier']:.4f} | {found['log_loss']:.4f} "
            f"| {found['calibration_error']:.4f} | {'' if name == EVERYTHING else bounds} |"
        )
    table = "\n".join(lines)
    (ROOT / "docs" / "ablation.md").write_text(PAGE.format(rows=len(later), table=table))
    print(table)


if __name__ == "__main__":
    main()
