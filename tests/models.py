"""Models that are fitted in a moment."""

from importlib.metadata import version as installed
from pathlib import Path

import numpy as np
import pandas as pd

from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.metrics import Floats
from flight_delays.core.training import REPEATS, Fitted, Trial, columns_of, prepared
from flight_delays.core.use_case import LABEL, UseCase
from flight_delays.learners.lightgbm_trees import LightGBM
from flight_delays.platform.registry import Training
from flight_delays.tasks.record import artifacts
from flight_delays.use_case import USE_CASE


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


def made_up_flights() -> pd.DataFrame:
    """50 days from 2013-01-01 with 20 labelled flights each; low visibility makes them late."""
    rng, rows = np.random.default_rng(7), 50 * 20
    departures = pd.Timestamp("2013-01-01 12:00") + pd.to_timedelta(np.arange(rows) // 20, "D")
    visibility = rng.uniform(0, 10, rows)
    return pd.DataFrame(
        {
            "entity_id": [f"flight-{number:04}" for number in range(rows)],
            "prediction_ts": departures - pd.Timedelta(hours=2),
            "day": departures.date,
            "carrier": rng.choice(["AA", "UA"], rows),
            "flight": 1,
            "origin": rng.choice(["EWR", "JFK", "LGA"], rows),
            "dest": "ORD",
            "tailnum": None,
            "distance": 700,
            "sched_dep_ts": departures,
            "sched_arr_time": 900,
            **dict.fromkeys(USE_CASE.looked_up, np.nan),
            "weather_visib": visibility,
            "label": (rng.uniform(size=rows) < np.where(visibility < 3, 0.8, 0.1)).astype("float64"),
            "label_known_at": departures + pd.Timedelta(hours=4),
        }
    )


def tiny_training(flights: pd.DataFrame, folder: Path, fingerprint: str, *, wrong: bool = False) -> Training:
    """The record of a tiny training run; `wrong` learns that low visibility keeps flights punctual."""
    labels = flights["label"].to_numpy()
    fitted = tiny_model(USE_CASE, flights, 1 - labels if wrong else labels)
    return Training(
        fingerprint=fingerprint,
        tags={"training_days": "January"},
        parameters={"rounds": 30},
        metrics={"test_auc": 0.8},
        figures={},
        texts={"model_card.md": "Tiny."},
        frames={},
        trials=tuple(
            Trial(number=number, parameters={"num_leaves": 4}, losses=(0.5, 0.25), rounds=(30, 30), state="complete")
            for number in range(2)
        ),
        inputs={"spark_catalog.shared.features": 3},
        artifacts=artifacts(fitted, flights, folder),
        signature=USE_CASE.signature,
        input_example=flights.head(1)[[*USE_CASE.request]],
        requirements=(f"lightgbm=={installed('lightgbm')}",),
        version_tags={"trained_until": "2013-02-01", "baseline": "0.31"},
        description="A tiny model.",
    )
