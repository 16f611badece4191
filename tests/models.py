"""Models that are fitted in a moment."""

import pandas as pd

from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.metrics import Floats
from flight_delays.core.training import REPEATS, Fitted, columns_of, prepared
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.learners.lightgbm_trees import LightGBM


def tiny_model(use_case: UseCase, rows: pd.DataFrame, labels: Floats) -> Fitted:
    """Thirty small trees on `rows` of features; nothing is searched, nothing corrected."""
    learner = LightGBM(parameters={"objective": "binary", "num_leaves": 4})
    learnt = use_case.prepare.learn(columns_of(use_case, rows))
    return Fitted(
        use_case=use_case,
        model=learner.fit(prepared(use_case, rows, learnt), labels, use_case.prepare.CATEGORIES, {}, 30),
        learnt=learnt,
        rounds=30,
        parameters=learner.parameters,
        correction={"slope": 1.0, "intercept": 0.0},
        folds=(),
        trials=(),
        judged=rows[[*KEY, DAY, LABEL]].assign(**dict.fromkeys(REPEATS, 0.5)),
    )
