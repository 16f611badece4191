"""What is kept of a training run: all that it takes to judge the model, to trust it and to make it again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path
from platform import python_version

import numpy as np
import pandas as pd

from flight_delays.core.contract import MODEL_CARD
from flight_delays.core.evaluation import evaluate
from flight_delays.core.feature_set import DAY
from flight_delays.core.golden import choose_golden_requests, golden_json
from flight_delays.core.learner import Learner
from flight_delays.core.objective import corrected
from flight_delays.core.performance import FORECAST
from flight_delays.core.profiles import bins_json, bins_of_all
from flight_delays.core.splits import Split
from flight_delays.core.training import FOLDS, GAP_DAYS, REPEATS, Fitted, columns_of
from flight_delays.core.use_case import LABEL
from flight_delays.platform import online_table
from flight_delays.platform.registry import DIGEST, Training, digest_of
from flight_delays.views import plots
from flight_delays.views.model_card import model_card

SEARCH, FOLDS_FILE = "search.json", "folds.parquet"  # of the search: what was found, and what its folds forecast
BINS_FILE = "bins.json"  # of what the model is given, what it forecasts and how that turned out: core/profiles.py
_SHELL_NEEDS = ("mlflow", "numpy", "pandas")
_SEARCHED_WITH = ("optuna", "scikit-learn")


def made_with(learner: Learner) -> dict[str, str]:
    """The packages that a model comes from, with their versions."""
    packages = sorted({*_SHELL_NEEDS, *_SEARCHED_WITH, *learner.requirements})
    return {package: installed(package) for package in packages}


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
) -> tuple[Training, Mapping[str, float]]:
    """What is kept of a training run, its model files written to `folder`, and the scores on the holdout.

    `versions` maps the tables read to their Delta versions; `settings` are the run's own, logged as parameters.
    """
    use_case, learner = fitted.use_case, fitted.use_case.learner
    found = evaluate(use_case, split.test, fitted.forecast(split.test))
    labels = split.training[LABEL].to_numpy(dtype=np.float64)
    forecasts = corrected(use_case.objective, fitted.judged[REPEATS[0]].to_numpy(dtype=np.float64), **fitted.correction)
    judged = fitted.judged.assign(**{FORECAST: forecasts})
    figures = {
        f"{name}.png": figure
        for name, figure in {
            **plots.quality(use_case.objective, found.labels, found.forecasts),
            "importance": plots.importance(fitted.model.importance()),
        }.items()
    }
    ends = {
        f"{name}_{end}": value
        for name, bounds in found.scored.ranges.items()
        for end, value in (("low", bounds.low), ("high", bounds.high))
    }
    days, test_days = _days(split.training), _days(split.test)
    kept = artifacts(fitted, split.training, folder)
    digest = digest_of(kept.values())
    facts = {
        "learnt from": f"{len(labels):,} rows of {days}, {use_case.objective.describe(labels)}",
        "holdout": f"{len(split.test):,} rows of {test_days}",
        **{table: f"Delta version {version}" for table, version in versions.items()},
        "code": f"commit {git_commit}",
        "model digest": digest,
        **{key: str(value) for key, value in settings.items()},
    }
    training = Training(
        fingerprint=fingerprint,
        tags={
            "mlflow.source.git.commit": git_commit,
            "training_days": days,
            DIGEST: digest,
            "python": python_version(),
            **made_with(learner),
        },
        parameters={
            **fitted.parameters,
            **settings,
            **{f"correction_{name}": value for name, value in fitted.correction.items()},
            "rounds": fitted.rounds,
            "trials": len(fitted.trials),
            "folds": FOLDS,
            "fold_days": (fitted.folds[0].end - fitted.folds[0].first).days,
            "gap_days": GAP_DAYS,
            "training_rows": len(labels),
        },
        metrics={f"test_{name}": value for name, value in {**found.scored.metrics, **ends}.items()},
        figures=figures,
        texts={
            MODEL_CARD: model_card(name=model_name, fitted=fitted, data=facts, found=found, pictures=tuple(figures)),
            SEARCH: json.dumps(
                {
                    "parameters": fitted.best.parameters,
                    "folds": [{name: str(day) for name, day in asdict(fold).items()} for fold in fitted.folds],
                    "columns": [*fitted.model.importance()],
                }
            ),
            BINS_FILE: bins_json(
                bins_of_all({**columns_of(use_case, split.training), FORECAST: forecasts, LABEL: labels})
            ),
        },
        frames={FOLDS_FILE: judged},
        trials=fitted.trials,
        inputs=versions,
        artifacts=kept,
        signature=use_case.signature,
        input_example=split.training[[*use_case.request]].tail(1).reset_index(drop=True),
        requirements=tuple(
            f"{package}=={installed(package.partition('[')[0])}"
            for package in sorted({*_SHELL_NEEDS, "psycopg[binary]", *learner.requirements})
        ),
        version_tags={
            "trained_until": str(split.trained_until),
            "baseline": repr(float(labels.mean())),
            "git_commit": git_commit,
        },
        description=f"{learner.name}, {fitted.rounds} rounds, on {len(labels):,} rows of {days}.",
    )
    return training, found.scored.metrics


def artifacts(fitted: Fitted, rows: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """What travels with a version, as platform/shell.py reads it, written to `folder`; by name."""
    use_case = fitted.use_case
    requests = choose_golden_requests(use_case, rows)
    shell = {
        "objective": use_case.objective.kind,
        "threshold": getattr(use_case.objective, "threshold", None),
        **fitted.correction,
        "learnt": fitted.learnt,
        "request": use_case.request,
        "looked_up": use_case.looked_up,
    }
    texts = {
        "shell": json.dumps(shell),
        "golden": golden_json(use_case, requests, fitted.forecast(requests)),
        "prepare": use_case.prepare_file.read_text(encoding="utf-8"),
        "learner": use_case.learner.code.read_text(encoding="utf-8"),
        "online": Path(online_table.__file__).read_text(encoding="utf-8"),
    }
    found = {name: folder / f"{name}.{'json' if name in ('shell', 'golden') else 'py'}" for name in texts}
    for name, file in found.items():
        file.write_text(texts[name], encoding="utf-8")
    model = folder / "model"
    model.mkdir()
    fitted.model.save(model)
    return {**found, "model": model}


def _days(rows: pd.DataFrame) -> str:
    return f"{rows[DAY].min()} to {rows[DAY].max()}"
