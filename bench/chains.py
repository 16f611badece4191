"""How far a model slides over a chain of releases, each judged against the one before: real days, drawn again.

Whichever version serves, the next challenger is another of the models, made worse (or better) than it by the same
amount. Holdouts are drawn anew for each release.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from flight_delays.core.backtest import level_at
from flight_delays.core.drawn import drawn_days, of_days
from flight_delays.core.gates import DayTotals, Evidence, Outcome, by_day, judge_days
from flight_delays.core.metrics import Floats
from flight_delays.core.releases import Promotion, served_recently
from flight_delays.core.settings import Policy

RELEASES = 10
EVERY = timedelta(days=30)
_BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
_APART = 3  # versions that served last: a challenger is none of their models, so that all differ row by row

Levels = Mapping[tuple[str, int], DayTotals]  # a model, and how many steps away from where the chain began


@dataclass(frozen=True, kw_only=True)
class Chain:
    """How many releases were promoted, and how much the loss went up."""

    promoted: int
    gained: float


def levels(evidence: Evidence, models: Mapping[str, Floats], weak: Floats, step: float) -> Levels:
    """Each model blended with the weak one to the loss of each of `RELEASES` steps; `evidence` has all but forecasts.

    The lowest loss is that of the worst model as it is. Where steps lead down, the chain begins at the highest.
    """
    labels, objective = evidence.labels, evidence.objective
    lowest = max(float(objective.loss(labels, forecasts).mean()) for forecasts in models.values())
    begin = lowest - min(step, 0) * RELEASES
    return {
        (name, number): by_day(
            replace(evidence, forecasts=level_at(begin + number * step, objective, labels, forecasts, weak))
        )
        for name, forecasts in models.items()
        for number in range(RELEASES + 1)
    }


def versus(candidate: DayTotals, champion: DayTotals, recent: Mapping[int, DayTotals]) -> DayTotals:
    """A candidate's totals against those of other models, each of them made as if no version served."""
    worse = [candidate.gain - one.gain for one in recent.values()]
    return replace(
        candidate,
        worse=candidate.gain - champion.gain,
        champion_excess=champion.excess,
        recent=tuple(recent),
        worse_than_recent=np.column_stack([np.empty((len(candidate.rows), 0)), *worse]),
        slices=replace(candidate.slices, worse=candidate.slices.worse - champion.slices.worse),
    )


def chain(found: Levels, step: float, policy: Policy, *, holdout_days: int, rng: np.random.Generator) -> Chain:
    """`RELEASES` challengers one after the other, `EVERY` so often; the first version is a model chosen at random."""
    names = sorted({name for name, _ in found})
    served = [str(rng.choice(names))]  # by version; a version's number is its level too
    promotions = [Promotion(version=0, as_of=_BEGIN)]
    for release in range(1, RELEASES + 1):
        as_of, champion = _BEGIN + release * EVERY, len(served) - 1
        name = str(rng.choice([each for each in names if each not in served[-_APART:]]))
        recent = served_recently(promotions, as_of=as_of, days=policy.recent_days, apart_from=(champion,))
        totals = versus(
            found[name, champion + 1],
            found[served[champion], champion],
            {version: found[served[version], version] for version in recent},
        )
        drawn = drawn_days(rng, len(totals.rows), holdout_days, 1)
        if judge_days(of_days(totals, drawn), policy).outcome is Outcome.PASS:
            served.append(name)
            promotions.append(Promotion(version=champion + 1, as_of=as_of))
    return Chain(promoted=len(served) - 1, gained=(len(served) - 1) * step)
