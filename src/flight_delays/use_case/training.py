"""How the model is fitted."""

from dataclasses import dataclass
from datetime import date, timedelta

import lightgbm as lgb
import numpy as np
import pandas as pd

from flight_delays.core.errors import UserError
from flight_delays.core.metrics import Floats
from flight_delays.use_case.model import CATEGORIES, calibrated, levels, prepare

PARAMETERS: dict[str, float | int | str | bool] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 500,
    "cat_smooth": 50.0,
    "cat_l2": 20.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 20130101,
    # Same rows, same model, whatever the machine's number of cores.
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
MAX_ROUNDS = 1_000
PATIENCE = 50
SELECTION_DAYS = 28


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A booster, the category levels it was fitted with, the number of rounds chosen; `calibration` corrects it."""

    booster: lgb.Booster
    levels: dict[str, list[str]]
    rounds: int
    calibration: dict[str, float]

    def forecast(self, rows: pd.DataFrame) -> Floats:
        """The probability of each row, as the registered model answers it."""
        return calibrated(np.asarray(self.booster.predict(prepare(rows, self.levels))), **self.calibration)


def fit(rows: pd.DataFrame) -> Fitted:
    """Fit on `rows` (columns of the model's inputs, `flight_date` and `is_late`).

    The number of rounds is chosen by log loss on the last SELECTION_DAYS days, then all rows are fitted with it.
    Raises UserError if that leaves no days, or one class only, to learn from.
    """
    selection_from: date = rows["flight_date"].max() - timedelta(days=SELECTION_DAYS - 1)
    earlier, later = rows[rows["flight_date"] < selection_from], rows[rows["flight_date"] >= selection_from]
    if earlier["is_late"].nunique() < 2 or later["is_late"].nunique() < 2:
        raise UserError(
            f"too little to learn from: {len(rows)} labelled flights before the holdout, and more than "
            f"{SELECTION_DAYS} days with both late and punctual ones are needed; lower holdout_days or move as_of"
        )
    known = levels(rows)
    searched = lgb.train(
        PARAMETERS,
        _dataset(earlier, known),
        MAX_ROUNDS,
        valid_sets=[_dataset(later, known)],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )
    rounds = searched.best_iteration
    return Fitted(
        booster=lgb.train(PARAMETERS, _dataset(rows, known), rounds),
        levels=known,
        rounds=rounds,
        calibration={"slope": 1.0, "intercept": 0.0},
    )


def _dataset(rows: pd.DataFrame, known: dict[str, list[str]]) -> lgb.Dataset:
    return lgb.Dataset(prepare(rows, known), rows["is_late"], categorical_feature=list(CATEGORIES))
