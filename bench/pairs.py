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

from bench.flights import GROUPS, ROOT, labelled, without
from flight_delays.core.metrics import Floats
from flight_delays.core.training import columns_of, fit, prepared
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.prepare import CATEGORIES, learn

UNTIL = date(2013, 7, 1)
LESS = date(2013, 3, 1)


def logistic(earlier: pd.DataFrame, labels: Floats, later: pd.DataFrame) -> Floats:
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
    earlier, later = rows[rows["day"] < UNTIL], rows[rows["day"] >= UNTIL]
    learner, learnt = USE_CASE.learner, learn(columns_of(USE_CASE, earlier))
    rounds = fit(USE_CASE, earlier, until=UNTIL, trials=1).rounds

    def ready(some: pd.DataFrame, *unknown: str) -> pd.DataFrame:
        return prepared(USE_CASE, without(some, *unknown), learnt)

    def labels_of(some: pd.DataFrame) -> Floats:
        return some["label"].to_numpy(dtype=np.float64)

    def forecast(
        some: pd.DataFrame, *unknown: str, seed: float | int | str | bool = learner.parameters["seed"]
    ) -> Floats:
        parameters = {**learner.parameters, "seed": seed}
        model = learner.fit(ready(some, *unknown), labels_of(some), CATEGORIES, parameters, rounds)
        return model.predict(ready(later, *unknown).to_numpy())

    forecasts = {
        "champion": forecast(earlier),
        "other_seed": forecast(earlier, seed=7),
        "less_data": forecast(earlier[earlier["day"] >= LESS]),
        "no_weather": forecast(earlier, *GROUPS["weather"]),
        "logistic": logistic(ready(earlier), labels_of(earlier), ready(later)),
        "schedule_only": forecast(earlier, *USE_CASE.looked_up),
    }
    labels = labels_of(later)
    for name, probabilities in forecasts.items():
        found = USE_CASE.objective.metrics(labels, probabilities)
        print(f"{name:14} AUC {found['auc']:.4f}  Brier {found['brier']:.4f}  log loss {found['log_loss']:.4f}")
    local = later["sched_dep_ts"].dt.tz_localize("UTC").dt.tz_convert(USE_CASE.zone)
    np.savez_compressed(
        ROOT / "bench" / "pairs.npz",
        labels=labels.astype(np.uint8),
        days=pd.factorize(later["day"], sort=True)[0].astype(np.uint8),
        base_rate=earlier["label"].mean(),
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
