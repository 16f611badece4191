"""Fit a model on the days before the holdout and register it as a new version."""

import tempfile
from datetime import date
from hashlib import sha256
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress

import flight_delays
from flight_delays.core.errors import UserError
from flight_delays.core.settings import Train
from flight_delays.core.splits import Split, split_at
from flight_delays.core.training import Fitted, Trial, fit
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Context
from flight_delays.tasks.printing import show
from flight_delays.tasks.record import made_with, record


def run(context: Context, settings: Train) -> None:
    """Search with `trials` settings, register a version and hand its name and number on as task values.

    The same rows, code and settings make the same model: a version made from them already is taken instead of a new
    one. Raises UserError if there is too little to learn from.
    """
    use_case, model_name = context.use_case, settings.model_name
    holdout = use_case.holdout(context.as_of, settings.holdout_days)
    data = context.labelled.read(as_of=context.as_of, first=None, end=holdout.end)
    split = split_at(data.rows, holdout.first, use_case.zone)
    if split.training.empty or split.test.empty:
        raise UserError(
            f"{len(split.training)} rows with a label before and {len(split.test)} after {holdout.first}, as of "
            f"{context.as_of:%Y-%m-%d}: run the features job with this as_of, or lower holdout_days"
        )
    fingerprint = _fingerprint(use_case, data.rows, split.trained_until, settings.trials)
    number = context.registry.find(settings.experiment, model_name, fingerprint)
    if number is not None:
        context.console.print(f"Version {number} was made from exactly these rows, code and settings: reusing it.")
        context.registry.finish(model_name, number)
    else:
        context.console.print(f"Fitting on {len(split.training):,} rows before {split.trained_until} ...")
        with tempfile.TemporaryDirectory() as folder:
            training, scores = record(
                searched(use_case, split, settings.trials, context.console),
                split=split,
                versions=data.versions,
                settings={"as_of": f"{context.as_of:%Y-%m-%dT%H:%M:%SZ}", "holdout_days": settings.holdout_days},
                model_name=model_name,
                fingerprint=fingerprint,
                git_commit=settings.git_commit,
                folder=Path(folder),
            )
            number = context.registry.register(settings.experiment, model_name, training)
        loss = use_case.objective.loss_name.replace(" ", "_")
        context.task_values.set("test_loss", f"{scores[loss]:.4f}")
        show(
            context.console,
            f"{model_name} version {number}, on {scores['rows']:,.0f} rows from {split.trained_until}",
            tuple(scores),
            [tuple(scores.values())],
        )
    context.task_values.set("model_name", model_name)
    context.task_values.set("model_version", str(number))


def searched(use_case: UseCase, split: Split, trials: int, console: Console) -> Fitted:
    """A model fitted on the split's training rows; a line per trial, and on a terminal a bar."""
    loss = use_case.objective.loss_name
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Searching", total=trials)

        def on_trial(trial: Trial) -> None:
            console.print(f"Trial {trial.number + 1} of {trials}: {loss} {trial.loss:.5f}, {trial.state}")
            progress.advance(bar)

        return fit(use_case, split.training, until=split.trained_until, trials=trials, on_trial=on_trial)


def _fingerprint(use_case: UseCase, rows: pd.DataFrame, trained_until: date, trials: int) -> str:
    """Digest of what a model is made from: the rows, the code, the split, the length of the search."""
    package = Path(flight_delays.__file__).parent
    digest = sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    folders = (package / "core", package / "tasks", package / "views", use_case.sql.parent)
    code = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    for file in (
        *code,
        package / "platform" / "shell.py",
        package / "platform" / "online_table.py",
        use_case.prepare_file,
        use_case.learner.code,
    ):
        digest.update(file.read_bytes())
    digest.update(f"{trained_until} {trials} {made_with(use_case.learner)}".encode())
    return digest.hexdigest()
