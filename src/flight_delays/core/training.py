"""How a model is made: a search over expanding folds, a correction by their forecasts, a fit on all rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.learner import Fold as Fitting
from flight_delays.core.learner import Model, Parameters
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import calibration, corrected
from flight_delays.core.splits import Fold, expanding_folds
from flight_delays.core.use_case import LABEL, UseCase

SEED = 20130101
FOLDS = 3
FOLD_DAYS = 56  # together half a year, so that no choice suits one season only
FEWEST_FOLD_DAYS = 7  # each weekday once
GAP_DAYS = 1  # the day before is not over at prediction time
REPEATS = ("forecast_1", "forecast_2", "forecast_3")
RANDOM_TRIALS = 4  # before the sampler follows what it has seen


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting of the search: loss and best number of rounds of each fold it was tried on, oldest first.

    `state` is `complete`, or `pruned` after a fold on which it fell behind.
    """

    number: int
    parameters: Parameters
    losses: tuple[float, ...]
    rounds: tuple[int, ...]
    state: str

    @property
    def loss(self) -> float:
        """Mean loss over the folds."""
        return fmean(self.losses)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model, what was learnt to prepare rows for it, and how both were found.

    `correction` holds the slope and the intercept that correct its forecasts. `judged` holds uncorrected forecasts for
    the folds' days, by models with the chosen parameters and other random seeds than in the search: columns entity_id,
    prediction_ts, day, label and REPEATS.
    """

    use_case: UseCase
    model: Model
    learnt: Mapping[str, Any]
    rounds: int
    parameters: Parameters
    correction: Mapping[str, float]
    folds: tuple[Fold, ...]
    trials: tuple[Trial, ...]
    judged: pd.DataFrame

    @property
    def best(self) -> Trial:
        """The trial whose parameters were taken."""
        return _best(self.trials)

    def forecast(self, rows: pd.DataFrame) -> Floats:
        """The forecast of each row, as the registered model answers it."""
        raw = self.model.predict(prepared(self.use_case, rows, self.learnt).to_numpy())
        return corrected(self.use_case.objective, raw, **self.correction)


def columns_of(use_case: UseCase, rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """The columns that a model takes; a looked-up column that is missing is all NaN."""
    unknown = np.full(len(rows), np.nan)
    return {
        **{name: rows[name].to_numpy() for name in use_case.request},
        **{name: rows[name].to_numpy(dtype="float64") if name in rows else unknown for name in use_case.looked_up},
    }


def prepared(use_case: UseCase, rows: pd.DataFrame, learnt: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of features as input of the learner."""
    return pd.DataFrame(use_case.prepare.prepare(columns_of(use_case, rows), learnt), index=rows.index)


def folds_before(first: date, until: date) -> tuple[Fold, ...]:
    """The folds of days from `first` on and before `until`. Raises UserError where these are too few."""
    return expanding_folds(first, until, folds=FOLDS, days=FOLD_DAYS, gap=GAP_DAYS)


def fit(
    use_case: UseCase,
    rows: pd.DataFrame,
    *,
    until: date,
    trials: int,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Fitted:
    """Fit on `rows` of features with their labels, all from days before `until`.

    The first of `trials` settings is the learner's own, the others are drawn from the search space; the one with the
    lowest mean loss over the folds is taken. The rounds are the median of its folds' best ones, with which all rows are
    fitted; its forecasts of the folds' days give the correction. `on_trial` sees each trial as it ends. The same rows
    give the same model. Raises UserError if there are too few days, or in a fold nothing to be learnt.
    """
    start = {name: use_case.learner.parameters[name] for name in use_case.search_space}
    return refit(use_case, rows, folds_before(rows[DAY].min(), until), start, trials, on_trial)


def refit(
    use_case: UseCase,
    rows: pd.DataFrame,
    folds: tuple[Fold, ...],
    parameters: Parameters,
    trials: int = 1,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Fitted:
    """The same with these folds, where the search begins with `parameters`, a setting of the search space."""
    learnt = use_case.prepare.learn(columns_of(use_case, rows))
    ready = prepared(use_case, rows, learnt)
    labels = rows[LABEL].to_numpy(dtype="float64")
    data = [_fold_data(use_case, rows, ready, labels, fold) for fold in folds]
    tried, forecasts = _search(use_case, data, parameters, trials, on_trial)
    best = _best(tried)
    taken = {**use_case.learner.parameters, **best.parameters}
    rounds = int(median(best.rounds))
    judged = [
        rows.loc[each.judged, [*KEY, DAY, LABEL]].assign(
            **{name: each.fold.fit(taken, repeat)[0] for repeat, name in enumerate(REPEATS, 1)}
        )
        for each in data
    ]
    return Fitted(
        use_case=use_case,
        model=use_case.learner.fit(ready, labels, use_case.prepare.CATEGORIES, taken, rounds),
        learnt=learnt,
        rounds=rounds,
        parameters=taken,
        correction=calibration(use_case.objective, [fold.labels for fold in data], forecasts),
        folds=folds,
        trials=tried,
        judged=pd.concat(judged, ignore_index=True),
    )


def behind(losses: Sequence[float], complete: Sequence[Trial]) -> bool:
    """Whether a trial's mean loss so far is above the median of what complete ones (three or more) had by then.

    Not optuna's pruner, which takes a trial's best step so far: folds differ more than trials do.
    """
    by_then = [fmean(trial.losses[: len(losses)]) for trial in complete]
    return len(by_then) >= 3 and fmean(losses) > median(by_then)


@dataclass(frozen=True, kw_only=True)
class _FoldData:
    """One fold for all trials: `judged` marks the rows that it is evaluated on, `labels` are theirs."""

    fold: Fitting
    judged: npt.NDArray[np.bool_]
    labels: Floats


def _fold_data(use_case: UseCase, rows: pd.DataFrame, ready: pd.DataFrame, labels: Floats, fold: Fold) -> _FoldData:
    earlier = (rows[DAY] < fold.train_end).to_numpy()
    judged = ((rows[DAY] >= fold.first) & (rows[DAY] < fold.end)).to_numpy()
    is_long = fold.end - fold.first >= timedelta(days=FEWEST_FOLD_DAYS)
    if not (is_long and all(use_case.objective.learnable(labels[side]) for side in (earlier, judged))):
        days = (1 + FOLDS) * FEWEST_FOLD_DAYS + GAP_DAYS
        raise UserError(
            f"too little to learn from: {len(rows)} rows with a label before the holdout, and at least {days} days, "
            f"with labels that differ before and after {fold.first}, are needed; lower holdout_days or move as_of"
        )
    fitting = use_case.learner.fold(
        ready[earlier], labels[earlier], ready[judged], labels[judged], use_case.prepare.CATEGORIES
    )
    return _FoldData(fold=fitting, judged=judged, labels=labels[judged])


def _search(
    use_case: UseCase, data: list[_FoldData], first: Parameters, trials: int, on_trial: Callable[[Trial], None]
) -> tuple[tuple[Trial, ...], list[Floats]]:
    """All trials, and the best one's forecasts of each fold's days."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED, n_startup_trials=RANDOM_TRIALS))
    study.enqueue_trial({**first})
    tried: list[Trial] = []
    best: list[Floats] = []
    for number in range(trials):
        asked = study.ask({**use_case.search_space})
        complete = [trial for trial in tried if trial.state == "complete"]
        losses: list[float] = []
        rounds: list[int] = []
        forecasts: list[Floats] = []
        for each in data:
            forecast, best_rounds = each.fold.fit({**use_case.learner.parameters, **asked.params})
            losses.append(float(use_case.objective.loss(each.labels, forecast).mean()))
            rounds.append(best_rounds)
            forecasts.append(forecast)
            asked.report(fmean(losses), len(losses))
            if len(losses) < len(data) and behind(losses, complete):
                study.tell(asked, state=optuna.trial.TrialState.PRUNED)
                state = "pruned"
                break
        else:
            study.tell(asked, fmean(losses))
            state = "complete"
        trial = Trial(number=number, parameters=asked.params, losses=tuple(losses), rounds=tuple(rounds), state=state)
        tried.append(trial)
        if _best(tried) is trial:
            best = forecasts
        on_trial(trial)
    return tuple(tried), best


def _best(trials: Sequence[Trial]) -> Trial:
    """The complete trial with the lowest loss, the first of equals."""
    return min((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.loss)
