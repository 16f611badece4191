"""Models to try the gate on: `python -m bench.pairs` writes bench/pairs.npz from what `python3 dev.py demo` left.

All learn from January to June 2013 and forecast July to December.
"""

from datetime import date

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bench.flights import ROOT, labelled, without
from flight_delays.core.metrics import Floats, metrics
from flight_delays.use_case.model import CATEGORIES, GROUPS, LOOKED_UP, levels, prepare
from flight_delays.use_case.sources import ZONE
from flight_delays.use_case.training import PARAMETERS, boost, fit

UNTIL = date(2013, 7, 1)
LESS = date(2013, 3, 1)


def logistic(earlier: pd.DataFrame, labels: pd.Series, later: pd.DataFrame) -> Floats:
    """Forecasts of a logistic regression on the booster's columns."""
    numbers = [name for name in earlier if name not in CATEGORIES]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)),
    )
    fitted = make_pipeline(columns, LogisticRegression(max_iter=300)).fit(earlier, labels)
    return np.asarray(fitted.predict_proba(later)[:, 1])


def main() -> None:
    """Fit, forecast, and write."""
    rows = labelled()
    earlier, later = rows[rows["flight_date"] < UNTIL], rows[rows["flight_date"] >= UNTIL]
    known = levels(earlier)
    rounds = fit(earlier, until=UNTIL, trials=1).rounds

    def forecast(learnt: pd.DataFrame, *unknown: str, seed: float | int | str | bool = PARAMETERS["seed"]) -> Floats:
        prepared = prepare(without(learnt, *unknown), known)
        booster = boost(prepared, learnt["is_late"], {**PARAMETERS, "seed": seed}, rounds)
        return np.asarray(booster.predict(prepare(without(later, *unknown), known)))

    forecasts = {
        "champion": forecast(earlier),
        "other_seed": forecast(earlier, seed=7),
        "less_data": forecast(earlier[earlier["flight_date"] >= LESS]),
        "no_weather": forecast(earlier, *GROUPS["weather"]),
        "logistic": logistic(prepare(earlier, known), earlier["is_late"], prepare(later, known)),
        "schedule_only": forecast(earlier, *LOOKED_UP),
    }
    labels = later["is_late"].to_numpy(dtype=np.float64)
    for name, probabilities in forecasts.items():
        found = metrics(labels, probabilities)
        print(f"{name:14} AUC {found.auc:.4f}  Brier {found.brier:.4f}  log loss {found.log_loss:.4f}")
    local = later["sched_dep_ts"].dt.tz_localize("UTC").dt.tz_convert(ZONE)
    np.savez_compressed(
        ROOT / "bench" / "pairs.npz",
        labels=labels.astype(np.uint8),
        days=pd.factorize(later["flight_date"], sort=True)[0].astype(np.uint8),
        base_rate=earlier["is_late"].mean(),
        carrier=later["carrier"].to_numpy(dtype="U2"),
        origin=later["origin"].to_numpy(dtype="U3"),
        hour=local.dt.hour.to_numpy(dtype=np.uint8),
        # Three digits are enough to judge by, and make a small file.
        **{
            name: probabilities.round(3).clip(0.001, 0.999).astype(np.float16)
            for name, probabilities in forecasts.items()
        },
    )


if __name__ == "__main__":
    main()
