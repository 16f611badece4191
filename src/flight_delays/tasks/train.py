"""Fit a model on the days before the holdout and register it as a new version."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from mlflow.models import ModelSignature
from rich.console import Console
from rich.progress import Progress

import flight_delays
from flight_delays.core import plots
from flight_delays.core.errors import UserError
from flight_delays.core.metrics import Metrics, day_intervals, metrics
from flight_delays.core.splits import midnight
from flight_delays.platform.registry import NestedRun, Training
from flight_delays.tasks.context import Context
from flight_delays.tasks.dataset import Dataset, holdout_of, labelled_flights
from flight_delays.tasks.report import show
from flight_delays.use_case import model
from flight_delays.use_case.card import Scored, model_card
from flight_delays.use_case.golden import golden_json, golden_requests
from flight_delays.use_case.slices import slices
from flight_delays.use_case.sources import ZONE
from flight_delays.use_case.training import FOLDS, GAP_DAYS, Fitted, Trial, fit

_REQUIREMENTS = ("lightgbm", "mlflow", "numpy", "pandas")  # of the model
_MADE_WITH = (*_REQUIREMENTS, "optuna", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to learn from, rows of the holdout, and the first day that no model may have seen."""

    training: pd.DataFrame
    test: pd.DataFrame
    trained_until: date


def run(context: Context, *, model_name: str, experiment: str, holdout_days: int, trials: int, git_commit: str) -> None:
    """Search with `trials` settings, register a version and hand its name and number on as task values.

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
    fingerprint = _fingerprint(data.rows, split.trained_until, trials)
    number = context.registry.find(experiment, model_name, fingerprint)
    if number is not None:
        context.console.print(f"Version {number} was made from exactly these rows, code and settings: it is taken.")
        context.registry.finish(model_name, number)
    else:
        context.console.print(f"Fitting on {len(split.training):,} flights before {split.trained_until} ...")
        with tempfile.TemporaryDirectory() as folder:
            fitted = searched(split, trials, context.console)
            settings = {"as_of": f"{context.as_of:%Y-%m-%dT%H:%M:%SZ}", "holdout_days": holdout_days}
            training, scores = _training(
                data, split, fitted, settings, model_name, fingerprint, git_commit, Path(folder)
            )
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


def searched(split: Split, trials: int, console: Console) -> Fitted:
    """A model fitted on the split's training rows; a line per trial, and on a terminal a bar."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Searching", total=trials)

        def on_trial(trial: Trial) -> None:
            console.print(f"Trial {trial.number + 1} of {trials}: log loss {trial.loss:.5f}, {trial.state}")
            progress.advance(bar)

        return fit(split.training, until=split.trained_until, trials=trials, on_trial=on_trial)


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


def _fingerprint(rows: pd.DataFrame, trained_until: date, trials: int) -> str:
    """Digest of what a model is made from: the rows, this package's code, the split, the length of the search."""
    package = Path(flight_delays.__file__).parent
    digest = sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    for folder in ("core", "use_case", "tasks"):
        for file in sorted((package / folder).glob("*.py")):
            digest.update(file.read_bytes())
    digest.update(f"{trained_until} {trials} {[installed(package) for package in _MADE_WITH]}".encode())
    return digest.hexdigest()


def _training(
    data: Dataset,
    split: Split,
    fitted: Fitted,
    settings: Mapping[str, object],
    model_name: str,
    fingerprint: str,
    git_commit: str,
    folder: Path,
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
    figures = {
        "calibration.png": evaluation.calibration,
        "roc.png": evaluation.roc,
        "importance.png": evaluation.importance,
    }
    ends = {
        f"{name}_{end}": value
        for name, found in evaluation.scored.ranges.items()
        for end, value in asdict(found).items()
    }
    days, test_days = _days(split.training), _days(split.test)
    base_rate = float(split.training["is_late"].mean())
    facts = {
        "learnt from": f"{len(split.training):,} flights of {days}, {base_rate:.1%} of them late",
        "holdout": f"{len(split.test):,} flights of {test_days}",
        **{table: f"Delta version {version}" for table, version in data.versions.items()},
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
            **{package: installed(package) for package in _MADE_WITH},
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
            "model_card.md": model_card(
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
        inputs=data.versions,
        code=Path(model.__file__),
        artifacts={name: folder / name for name in files},
        signature=ModelSignature(inputs=model.INPUTS, outputs=model.OUTPUTS),
        input_example=split.training[model.INPUTS.input_names()].tail(5).reset_index(drop=True),
        requirements=tuple(f"{package}=={installed(package)}" for package in _REQUIREMENTS),
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
