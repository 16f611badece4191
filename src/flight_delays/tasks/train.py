"""Fit a model on the days before the holdout and register it as a new version."""

import json
import tempfile
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.models import ModelSignature

import flight_delays
from flight_delays.core import plots
from flight_delays.core.errors import UserError
from flight_delays.core.metrics import Metrics, metrics
from flight_delays.core.splits import midnight
from flight_delays.platform.registry import Training
from flight_delays.tasks.context import Context
from flight_delays.tasks.dataset import Dataset, holdout_of, labelled_flights
from flight_delays.tasks.report import show
from flight_delays.use_case import model
from flight_delays.use_case.golden import golden_json, golden_requests
from flight_delays.use_case.sources import ZONE
from flight_delays.use_case.training import PARAMETERS, Fitted, fit

_REQUIREMENTS = ("lightgbm", "mlflow", "numpy", "pandas")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to learn from, rows of the holdout, and the first day that no model may have seen."""

    training: pd.DataFrame
    test: pd.DataFrame
    trained_until: date


def run(context: Context, *, model_name: str, experiment: str, holdout_days: int, git_commit: str) -> None:
    """Register a version and hand its name and number on as task values.

    The same rows, code and settings make the same model: a version made from them already is taken instead of a new
    one. Raises UserError if there is too little to learn from.
    """
    holdout = holdout_of(context.as_of, holdout_days)
    data = labelled_flights(context.tables, as_of=context.as_of, first=None, end=holdout.end)
    split = split_at(data.rows, holdout.first)
    if split.training.empty or split.test.empty:
        raise UserError(
            f"{len(split.training)} labelled flights before and {len(split.test)} after {holdout.first}, as of "
            f"{context.as_of:%Y-%m-%d}: run the features job with this as_of, or lower holdout_days"
        )
    fingerprint = _fingerprint(data.rows, split.trained_until)
    number = context.registry.find(experiment, model_name, fingerprint)
    if number is not None:
        context.console.print(f"Version {number} was made from exactly these rows, code and settings: it is taken.")
        context.registry.finish(model_name, number)
    else:
        context.console.print(f"Fitting on {len(split.training):,} flights before {split.trained_until} ...")
        with tempfile.TemporaryDirectory() as folder:
            training, scores = _training(data, split, fit(split.training), fingerprint, git_commit, Path(folder))
            number = context.registry.register(experiment, model_name, training)
        context.task_values.set("test_auc", f"{scores.auc:.4f}")
        show(
            context.console,
            f"{model_name} version {number}, on {scores.rows:,} flights from {split.trained_until}",
            tuple(scores.as_dict()),
            [tuple(scores.as_dict().values())],
        )
    context.task_values.set("model_name", model_name)
    context.task_values.set("model_version", str(number))


def split_at(rows: pd.DataFrame, first: date) -> Split:
    """Rows of a Dataset: those from `first` on, and earlier ones whose outcome was known when that day began."""
    earlier = rows["flight_date"] < first
    # What was not known by then could not have been learnt from.
    known = rows["label_known_at"].dt.tz_localize("UTC") <= midnight(first, ZoneInfo(ZONE))
    return Split(training=rows[earlier & known], test=rows[~earlier], trained_until=first)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model did on the test rows of a split."""

    scores: Metrics
    calibration: Figure
    roc: Figure
    importance: Figure


def evaluate(fitted: Fitted, split: Split) -> Evaluation:
    """Scores and pictures of a model."""
    labels = split.test["is_late"].to_numpy(dtype=np.float64)
    probabilities = fitted.forecast(split.test)
    gains = dict(zip(fitted.booster.feature_name(), map(float, fitted.booster.feature_importance("gain")), strict=True))
    return Evaluation(
        scores=metrics(labels, probabilities),
        calibration=plots.calibration(labels, probabilities),
        roc=plots.roc(labels, probabilities),
        importance=plots.importance(gains),
    )


def _fingerprint(rows: pd.DataFrame, trained_until: date) -> str:
    """Digest of what a model is made from: the rows, this package's code, the split."""
    package = Path(flight_delays.__file__).parent
    digest = sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    for folder in ("core", "use_case", "tasks"):
        for file in sorted((package / folder).glob("*.py")):
            digest.update(file.read_bytes())
    digest.update(f"{trained_until} {installed('lightgbm')}".encode())
    return digest.hexdigest()


def _training(
    data: Dataset, split: Split, fitted: Fitted, fingerprint: str, git_commit: str, folder: Path
) -> tuple[Training, Metrics]:
    """The record of a run, its model files written to `folder`, and the scores on the holdout."""
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
    days = f"{split.training['flight_date'].min()} to {split.training['flight_date'].max()}"
    training = Training(
        fingerprint=fingerprint,
        tags={"mlflow.source.git.commit": git_commit, "training_days": days},
        parameters={**PARAMETERS, "rounds": fitted.rounds, "training_rows": len(split.training)},
        metrics={f"test_{name}": value for name, value in evaluation.scores.as_dict().items()},
        figures={
            "calibration.png": evaluation.calibration,
            "roc.png": evaluation.roc,
            "importance.png": evaluation.importance,
        },
        inputs=data.versions,
        code=Path(model.__file__),
        artifacts={name: folder / name for name in files},
        signature=ModelSignature(inputs=model.INPUTS, outputs=model.OUTPUTS),
        input_example=split.training[model.INPUTS.input_names()].tail(5).reset_index(drop=True),
        requirements=tuple(f"{package}=={installed(package)}" for package in _REQUIREMENTS),
        version_tags={
            "trained_until": str(split.trained_until),
            "base_rate": repr(float(split.training["is_late"].mean())),
            "git_commit": git_commit,
        },
        description=f"LightGBM, {fitted.rounds} rounds, on {len(split.training):,} flights of {days}.",
    )
    return training, evaluation.scores
