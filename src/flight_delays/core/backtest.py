"""A history to try policies on: models of the first half of the days, and what they forecast for the second."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY
from flight_delays.core.gates import Evidence
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import Objective
from flight_delays.core.quality import PairedDay, paired_day
from flight_delays.core.splits import split_at
from flight_delays.core.training import columns_of, fit, prepared
from flight_delays.core.use_case import LABEL, UseCase

FEWEST_DAYS = 60  # of the second half
_STEPS = 40  # halvings: to the last digits


@dataclass(frozen=True, kw_only=True)
class History:
    """Labelled days that no model learnt from: `evidence` is the champion's, compared with no version.

    `challengers` holds other models' forecasts by what they are, `weak` those of one that knows little.
    """

    evidence: Evidence
    challengers: Mapping[str, Floats]
    weak: Floats

    def apart(self, challenger: str, delta: float) -> tuple[Floats, Floats]:
        """Forecasts of a challenger and the champion, the challenger's mean loss `delta` above the champion's."""
        evidence, own = self.evidence, self.challengers[challenger]
        return worse_by(delta, evidence.objective, evidence.labels, own, evidence.forecasts, self.weak)

    def paired(self, challenger: Floats, champion: Floats) -> tuple[PairedDay, ...]:
        """Both forecasts compared by day; the day itself is left open."""
        labels, own, other = map(self.by_day, (self.evidence.labels, champion, challenger))
        objective = self.evidence.objective
        return tuple(paired_day(date.min, *one, objective) for one in zip(labels, own, other, strict=True))

    def by_day(self, values: Floats) -> list[Floats]:
        """Rows' values, day by day."""
        order = np.argsort(self.evidence.days, kind="stable")
        return np.split(values[order], np.cumsum(np.bincount(self.evidence.days))[:-1])

    @property
    def days(self) -> int:
        """How many."""
        return int(self.evidence.days.max()) + 1

    @property
    def room(self) -> float:
        """By how much any challenger's loss can be set apart from the champion's."""
        models = (self.evidence.forecasts, *self.challengers.values())
        weak, *losses = (
            float(self.evidence.objective.loss(self.evidence.labels, one).mean()) for one in (self.weak, *models)
        )
        return weak - max(losses)


def backtest(use_case: UseCase, rows: pd.DataFrame, *, on_model: Callable[[str], None] = lambda _: None) -> History:
    """Models as a team might release them one after the other; `rows` are features with their labels.

    `on_model` is told what is fitted next. Raises UserError if there are too few days.
    """
    days = np.unique(rows[DAY])
    if len(days) < 2 * FEWEST_DAYS:
        raise UserError(
            f"{len(days)} days with labels are too few to try a policy on; {2 * FEWEST_DAYS} are needed at least"
        )
    split = split_at(rows, days[len(days) // 2], use_case.zone)
    on_model("the champion")
    fitted = fit(use_case, split.training, until=split.trained_until, trials=1)
    categories = use_case.prepare.CATEGORIES

    def forecasts(what: str, some: pd.DataFrame, *unknown: str) -> Floats:
        on_model(what)
        learnt = use_case.prepare.learn(columns_of(use_case, some))
        ready, asked = (prepared(use_case, one.drop(columns=[*unknown]), learnt) for one in (some, split.test))
        labels = some[LABEL].to_numpy(dtype=np.float64)
        model = use_case.learner.fit(ready, labels, categories, fitted.parameters, fitted.rounds)
        return model.predict(asked.to_numpy())

    earlier = np.unique(split.training[DAY])
    looked_up = use_case.looked_up
    used = {name: share for name, share in fitted.model.importance().items() if name in looked_up}
    made = {
        "learnt from every other day": (split.training[split.training[DAY].isin(earlier[::2])],),
        "learnt from the later half": (split.training[split.training[DAY] >= earlier[len(earlier) // 2]],),
        "without every other feature": (split.training, *looked_up[::2]),
    }
    if used:
        most = max(used, key=lambda name: used[name])
        made[f"without {most}"] = (split.training, most)
    labels = split.test[LABEL].to_numpy(dtype=np.float64)
    return History(
        evidence=Evidence(
            objective=use_case.objective,
            labels=labels,
            forecasts=forecasts("the champion", split.training),
            days=pd.factorize(split.test[DAY], sort=True)[0].astype(np.int64),
            baseline=float(split.training[LABEL].mean()),
            champion=None,
            slices=use_case.slices(split.test),
        ),
        challengers={what: forecasts(what, *given) for what, given in made.items()},
        weak=forecasts("a model that knows the request alone", split.training, *looked_up),
    )


def worse_by(
    delta: float, objective: Objective, labels: Floats, challenger: Floats, champion: Floats, weak: Floats
) -> tuple[Floats, Floats]:
    """Challenger and champion such that the challenger's mean loss is `delta` above the champion's.

    The better side is blended, on the objective's scale, with the forecasts of a weak model. Raises ValueError where
    even the weak model is not enough.
    """
    losses = [float(objective.loss(labels, forecast).mean()) for forecast in (challenger, champion)]
    if losses[0] - losses[1] <= delta:
        return level_at(losses[1] + delta, objective, labels, challenger, weak), champion
    return challenger, level_at(losses[0] - delta, objective, labels, champion, weak)


def level_at(loss: float, objective: Objective, labels: Floats, forecast: Floats, weak: Floats) -> Floats:
    """`forecast` blended with that of a weak model, on the objective's scale, to this mean loss.

    Raises ValueError where even the weak model is not enough.
    """
    own, other = objective.link(forecast), objective.link(weak)

    def blended(share: float) -> Floats:
        return objective.unlink((1 - share) * own + share * other)

    low, high = 0.0, 1.0
    if objective.loss(labels, weak).mean() < loss:
        raise ValueError("the weak model is too good to make another this much worse")
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if objective.loss(labels, blended(middle)).mean() < loss:
            low = middle
        else:
            high = middle
    return blended(high)
