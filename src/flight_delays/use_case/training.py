"""How the model is made: a search over expanding folds, a calibration on their forecasts, a fit on all rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from statistics import fmean, median

import lightgbm as lgb
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from sklearn.linear_model import LogisticRegression

from flight_delays.core.errors import UserError
from flight_delays.core.metrics import Floats, log_odds, row_log_loss
from flight_delays.core.splits import Fold, expanding_folds
from flight_delays.use_case.model import CATEGORIES, calibrated, levels, prepare

Parameters = Mapping[str, float | int | str | bool]

SEED = 20130101
PARAMETERS: dict[str, float | int | str | bool] = {
    "objective": "binary",
    "learning_rate": 0.07,
    "max_bin": 63,
    "num_leaves": 31,
    "min_data_in_leaf": 500,
    "lambda_l2": 0.1,
    "cat_smooth": 50.0,
    "cat_l2": 20.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": SEED,
    # Same rows, same model, whatever the machine's number of cores.
    "deterministic": True,
    "force_row_wise": True,
    # Binned once per fold, for whatever size of a leaf a trial asks.
    "feature_pre_filter": False,
    "verbose": -1,
}
"""Where the search begins."""

SPACE: dict[str, BaseDistribution] = {
    "num_leaves": IntDistribution(15, 127, log=True),
    "min_data_in_leaf": IntDistribution(100, 2_000, log=True),
    "lambda_l2": FloatDistribution(0.01, 100.0, log=True),
    "cat_smooth": FloatDistribution(5.0, 200.0, log=True),
    "feature_fraction": FloatDistribution(0.3, 1.0),
}
FOLDS = 3
FOLD_DAYS = 56  # together half a year: what suits one season only is neither chosen nor corrected for
FEWEST_FOLD_DAYS = 7  # each weekday once
GAP_DAYS = 1  # the day before is still being flown when a forecast is asked for
MAX_ROUNDS = 1_000
PATIENCE = 30
RANDOM_TRIALS = 4  # before the sampler follows what it has seen


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of the search: log loss and best number of rounds of each fold it was tried on, oldest first.

    `state` is `complete`, or `pruned` after a fold on which it fell behind.
    """

    number: int
    parameters: dict[str, float | int]
    losses: tuple[float, ...]
    rounds: tuple[int, ...]
    state: str

    @property
    def loss(self) -> float:
        """Mean log loss over the folds."""
        return fmean(self.losses)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A booster with the category levels, the rounds and the parameters it was fitted with, and how that was found.

    `calibration` holds the slope and the intercept that correct the booster's log odds.
    """

    booster: lgb.Booster
    levels: dict[str, list[str]]
    rounds: int
    parameters: Parameters
    calibration: dict[str, float]
    folds: tuple[Fold, ...]
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial whose parameters were taken."""
        return _best(self.trials)

    def forecast(self, rows: pd.DataFrame) -> Floats:
        """The probability of each row, as the registered model answers it."""
        return calibrated(np.asarray(self.booster.predict(prepare(rows, self.levels))), **self.calibration)

    def digest(self) -> str:
        """SHA-256 of all that the forecasts come from."""
        return sha256(f"{self.booster.model_to_string()}{self.levels}{self.calibration}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _FoldData:
    """What a trial meets in one fold; binned once, for all trials."""

    training: lgb.Dataset
    validation: lgb.Dataset
    judged: pd.DataFrame
    labels: Floats


def fit(rows: pd.DataFrame, *, until: date, trials: int, on_trial: Callable[[Trial], None] = lambda _: None) -> Fitted:
    """Fit on `rows` (columns of the model's inputs, `flight_date` and `is_late`), all from days before `until`.

    The first of `trials` settings is PARAMETERS, the others are drawn from SPACE; the one with the lowest mean log
    loss over the folds is taken. The rounds are the median of its folds' best ones, with which all rows are fitted; its
    forecasts of the folds' days give the calibration. `on_trial` sees each trial as it ends. The same
    rows give the same model. Raises UserError if there are too few days, or in a fold one class only.
    """
    folds = expanding_folds(rows["flight_date"].min(), until, folds=FOLDS, days=FOLD_DAYS, gap=GAP_DAYS)
    known = levels(rows)
    prepared = prepare(rows, known)
    data = [_fold_data(rows, prepared, fold) for fold in folds]
    tried, forecasts = _search(data, trials, on_trial)
    best = _best(tried)
    parameters = {**PARAMETERS, **best.parameters}
    rounds = int(median(best.rounds))
    return Fitted(
        booster=boost(prepared, rows["is_late"], parameters, rounds),
        levels=known,
        rounds=rounds,
        parameters=parameters,
        calibration=calibration([fold.labels for fold in data], forecasts),
        folds=folds,
        trials=tried,
    )


def boost(prepared: pd.DataFrame, labels: pd.Series, parameters: Parameters, rounds: int) -> lgb.Booster:
    """A booster on rows as `prepare` makes them."""
    return lgb.train(dict(parameters), _dataset(prepared, labels), rounds)


def calibration(labels: Sequence[Floats], forecasts: Sequence[Floats]) -> dict[str, float]:
    """Slope and intercept of the log odds that fit best, by logistic regression on all folds (Platt 1999).

    They are 1 and 0, which change nothing, unless such a fit on the other folds lowers the log loss of each fold in
    turn, on average: a correction that comes from one season harms the next.
    """
    kept, corrected = [], []
    for index, (late, forecast) in enumerate(zip(labels, forecasts, strict=True)):
        others = _platt([*labels[:index], *labels[index + 1 :]], [*forecasts[:index], *forecasts[index + 1 :]])
        kept.append(row_log_loss(late, forecast).mean())
        corrected.append(row_log_loss(late, calibrated(forecast, **others)).mean())
    return _platt(labels, forecasts) if fmean(corrected) < fmean(kept) else {"slope": 1.0, "intercept": 0.0}


def behind(losses: tuple[float, ...], complete: list[Trial]) -> bool:
    """Whether a trial's mean loss so far is above the median of what complete ones (three or more) had by then.

    Not optuna's pruner, which takes a trial's best step so far: folds differ more than trials do.
    """
    by_then = [fmean(trial.losses[: len(losses)]) for trial in complete]
    return len(by_then) >= 3 and fmean(losses) > median(by_then)


def _search(
    data: list[_FoldData], trials: int, on_trial: Callable[[Trial], None]
) -> tuple[tuple[Trial, ...], list[Floats]]:
    """All trials, and the best one's forecasts of each fold's days."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=RANDOM_TRIALS))
    study.enqueue_trial({name: PARAMETERS[name] for name in SPACE})
    tried: list[Trial] = []
    best: list[Floats] = []
    for number in range(trials):
        asked = study.ask(SPACE)
        complete = [trial for trial in tried if trial.state == "complete"]
        losses: tuple[float, ...] = ()
        rounds: tuple[int, ...] = ()
        forecasts: list[Floats] = []
        for fold in data:
            booster = lgb.train(
                {**PARAMETERS, **asked.params},
                fold.training,
                MAX_ROUNDS,
                valid_sets=[fold.validation],
                callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
            )
            losses = (*losses, float(booster.best_score["valid_0"]["binary_logloss"]))
            rounds = (*rounds, booster.best_iteration)
            forecasts.append(np.asarray(booster.predict(fold.judged)))
            asked.report(fmean(losses), len(losses))
            if len(losses) < len(data) and behind(losses, complete):
                break
        done = len(losses) == len(data)
        study.tell(asked, fmean(losses) if done else None, None if done else optuna.trial.TrialState.PRUNED)
        trial = Trial(
            number=number,
            parameters=asked.params,
            losses=losses,
            rounds=rounds,
            state="complete" if done else "pruned",
        )
        tried.append(trial)
        if _best(tried) is trial:
            best = forecasts
        on_trial(trial)
    return tuple(tried), best


def _platt(labels: Sequence[Floats], forecasts: Sequence[Floats]) -> dict[str, float]:
    odds = log_odds(np.concatenate(forecasts))
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    fitted.fit(odds[:, None], np.concatenate(labels))
    return {"slope": float(fitted.coef_[0, 0]), "intercept": float(fitted.intercept_[0])}


def _best(trials: tuple[Trial, ...] | list[Trial]) -> Trial:
    """The complete trial with the lowest loss, the first of equals."""
    return min((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.loss)


def _fold_data(rows: pd.DataFrame, prepared: pd.DataFrame, fold: Fold) -> _FoldData:
    earlier = rows["flight_date"] < fold.train_end
    judged = (rows["flight_date"] >= fold.first) & (rows["flight_date"] < fold.end)
    labels = rows["is_late"]
    if (
        fold.end - fold.first < timedelta(days=FEWEST_FOLD_DAYS)
        or labels[earlier].nunique() < 2
        or labels[judged].nunique() < 2
    ):
        days = (1 + FOLDS) * FEWEST_FOLD_DAYS + GAP_DAYS
        raise UserError(
            f"too little to learn from: {len(rows)} labelled flights before the holdout, and at least {days} days, "
            f"with both late and punctual ones before and after {fold.first}, are needed; lower holdout_days or move "
            f"as_of"
        )
    training = _dataset(prepared[earlier], labels[earlier])
    return _FoldData(
        training=training,
        validation=training.create_valid(prepared[judged], labels[judged]),
        judged=prepared[judged],
        labels=labels[judged].to_numpy(dtype=np.float64),
    )


def _dataset(prepared: pd.DataFrame, labels: pd.Series) -> lgb.Dataset:
    # The parameters already: they rule how values are binned.
    return lgb.Dataset(prepared, labels, categorical_feature=list(CATEGORIES), params=dict(PARAMETERS))
