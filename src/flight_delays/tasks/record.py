"""What is kept of a training run: all that it takes to judge the model, to trust it and to make it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from mlflow.models import ModelSignature

from flight_delays.core import plots
from flight_delays.core.contract import MODEL_CARD
from flight_delays.core.intervals import day_intervals
from flight_delays.core.metrics import Metrics, metrics
from flight_delays.platform.registry import NestedRun, Training
from flight_delays.tasks.dataset import Split
from flight_delays.use_case import model
from flight_delays.use_case.card import Scored, model_card
from flight_delays.use_case.golden import golden_json, golden_requests
from flight_delays.use_case.slices import slices
from flight_delays.use_case.training import FOLDS, GAP_DAYS, Fitted

_REQUIREMENTS = ("lightgbm", "mlflow", "numpy", "pandas")  # of the model
MADE_WITH = (*_REQUIREMENTS, "optuna", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model did on the test rows of a split; slices go by dimension and value."""

    scored: Scored
    slices: dict[tuple[str, str], Scored]
    calibration: Figure
    roc: Figure
    importance: Figure


def evaluate(fitted: Fitted, split: Split) -> Evaluation:
    """Scores and pictures of a model."""
    labels = split.test["is_late"].to_numpy(dtype=np.float64)
    probabilities = fitted.forecast(split.test)
    gains = dict(zip(fitted.booster.feature_name(), map(float, fitted.booster.feature_importance("gain")), strict=True))
    days = split.test["flight_date"].to_numpy()

    def scored(rows: npt.NDArray[np.bool_]) -> Scored:
        return Scored(
            metrics=metrics(labels[rows], probabilities[rows]),
            ranges=day_intervals(labels[rows], probabilities[rows], np.unique(days[rows], return_inverse=True)[1]),
        )

    return Evaluation(
        scored=scored(np.full(len(labels), fill_value=True)),
        slices={
            (dimension, str(value)): scored(values == value)
            for dimension, values in slices(split.test).items()
            for value in np.unique(values)
        },
        calibration=plots.calibration(labels, probabilities),
        roc=plots.roc(labels, probabilities),
        importance=plots.importance(gains),
    )


def record(
    fitted: Fitted,
    *,
    split: Split,
    versions: Mapping[str, int],
    settings: Mapping[str, object],
    model_name: str,
    fingerprint: str,
    git_commit: str,
    folder: Path,
) -> tuple[Training, Metrics]:
    """What is kept of a training run, its model files written to `folder`, and the scores on the holdout.

    `versions` maps the tables read to their Delta versions; `settings` are the run's own, logged as parameters.
    """
    requests = golden_requests(split.training)
    files = {
        "booster": fitted.booster.model_to_string(),
        "levels": json.dumps(fitted.levels),
        "calibration": json.dumps(fitted.calibration),
        "golden": golden_json(requests, fitted.forecast(requests)),
    }
    for name, text in files.items():
        (folder / name).write_text(text)

    evaluation = evaluate(fitted, split)
    figures = {
        "calibration.png": evaluation.calibration,
        "roc.png": evaluation.roc,
        "importance.png": evaluation.importance,
    }
    ends = {
        f"{name}_{end}": value
        for name, found in evaluation.scored.ranges.items()
        for end, value in (("low", found.low), ("high", found.high))
    }
    days, test_days = _days(split.training), _days(split.test)
    base_rate = float(split.training["is_late"].mean())
    facts = {
        "learnt from": f"{len(split.training):,} flights of {days}, {base_rate:.1%} of them late",
        "holdout": f"{len(split.test):,} flights of {test_days}",
        **{table: f"Delta version {version}" for table, version in versions.items()},
        "code": f"commit {git_commit}",
        "model digest": fitted.digest(),
        **{key: str(value) for key, value in settings.items()},
    }
    training = Training(
        fingerprint=fingerprint,
        tags={
            "mlflow.source.git.commit": git_commit,
            "training_days": days,
            "model_digest": fitted.digest(),
            "python": python_version(),
            **{package: installed(package) for package in MADE_WITH},
        },
        parameters={
            **fitted.parameters,
            **settings,
            **{f"calibration_{name}": value for name, value in fitted.calibration.items()},
            "rounds": fitted.rounds,
            "trials": len(fitted.trials),
            "folds": FOLDS,
            "fold_days": (fitted.folds[0].end - fitted.folds[0].first).days,
            "gap_days": GAP_DAYS,
            "training_rows": len(split.training),
        },
        metrics={f"test_{name}": value for name, value in (evaluation.scored.metrics.as_dict() | ends).items()},
        figures=figures,
        texts={
            MODEL_CARD: model_card(
                name=model_name,
                fitted=fitted,
                data=facts,
                scored=evaluation.scored,
                slices=evaluation.slices,
                pictures=tuple(figures),
            )
        },
        nested=tuple(
            NestedRun(
                name=f"trial {trial.number}",
                tags={"state": trial.state},
                parameters=trial.parameters,
                metrics={"log_loss": trial.losses, "rounds": trial.rounds},
            )
            for trial in fitted.trials
        ),
        inputs=versions,
        code=Path(model.__file__),
        artifacts={name: folder / name for name in files},
        signature=ModelSignature(inputs=model.INPUTS, outputs=model.OUTPUTS),
        input_example=split.training[model.INPUTS.input_names()].tail(5).reset_index(drop=True),
        requirements=(
            *(f"{package}=={installed(package)}" for package in _REQUIREMENTS),
            f"psycopg[binary]=={installed('psycopg')}",
        ),
        version_tags={
            "trained_until": str(split.trained_until),
            "base_rate": repr(base_rate),
            "git_commit": git_commit,
        },
        description=f"LightGBM, {fitted.rounds} rounds, on {len(split.training):,} flights of {days}.",
    )
    return training, evaluation.scored.metrics


def _days(rows: pd.DataFrame) -> str:
    return f"{rows['flight_date'].min()} to {rows['flight_date'].max()}"
