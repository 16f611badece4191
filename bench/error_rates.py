"""How often a gate errs: real days of real model pairs, drawn again and judged.

A challenger is made worse than its champion by an exact amount over all days; holdouts are drawn from these days, with
replacement, and judged by `judge_days` itself. Beside it on the same holdouts: simpler rules.
"""

from collections import Counter
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval
from flight_delays.core.gates import DayTotals, Evidence, Outcome, at_most, by_day, judge_days
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import Objective
from flight_delays.core.settings import Policy

GATE, OLD_GATE = "the gate", "the old gate"
DAY_LEVEL, ROW_LEVEL, POINT = "loss by day", "loss by row", "lower loss"
RULES = (GATE, OLD_GATE, DAY_LEVEL, ROW_LEVEL, POINT)
Tally = Counter[tuple[str, str]]  # (rule, outcome), and (check, outcome) for what kept the gate from PASS
_STEPS = 40  # halvings: to the last digits


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A challenger and a champion on the same days; `worse_squares` sums the squared differences in loss by day."""

    totals: DayTotals
    worse_squares: Floats


def pair(evidence: Evidence) -> Pair:
    """Evidence summed by day."""
    if evidence.champion is None:
        raise ValueError("a pair needs a champion")
    loss = evidence.objective.loss
    worse = loss(evidence.labels, evidence.forecasts) - loss(evidence.labels, evidence.champion)
    return Pair(totals=by_day(evidence), worse_squares=np.bincount(evidence.days, weights=worse**2).astype(np.float64))


def old(policy: Policy) -> Policy:
    """The rule before: a loss that is shown passes within the margin, and only the champion is compared."""
    return replace(policy, allow_worse_within_margin=True, recent_days=0)


def of_days(totals: DayTotals, days: npt.NDArray[np.int64]) -> DayTotals:
    """The totals of these days, in this order; one may be there more than once."""
    arrays = {name: value[days] for name, value in vars(totals).items() if isinstance(value, np.ndarray)}
    slices = replace(totals.slices, rows=totals.slices.rows[days], worse=totals.slices.worse[days])
    return replace(totals, **arrays, slices=slices)


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


def tally(
    pair: Pair,
    policy: Policy,
    *,
    holdout_days: int,
    replicates: int,
    seed: int,
    block: int = 1,
) -> Tally:
    """Outcomes on `replicates` holdouts of `holdout_days` days, drawn in blocks of `block` days that follow each other.

    Calibration bins stay those of all days.
    """
    rng = np.random.default_rng(seed)
    found: Tally = Counter()
    for _ in range(replicates):
        drawn = drawn_days(rng, len(pair.totals.rows), holdout_days, block)
        totals = of_days(pair.totals, drawn)
        decision = judge_days(totals, policy)
        checks = {check.name: check for check in decision.checks}
        worse = row_level(pair, drawn, policy.confidence)
        found.update(
            [
                (GATE, str(decision.outcome)),
                (OLD_GATE, str(judge_days(totals, old(policy)).outcome)),
                (DAY_LEVEL, str(checks["not_worse_than_champion"].outcome)),
                (ROW_LEVEL, str(at_most(ROW_LEVEL, "", worse, policy.loss_margin).outcome)),
                (POINT, str(Outcome.PASS if worse.estimate <= 0 else Outcome.FAIL)),
                *((check.name, str(check.outcome)) for check in decision.checks if check.outcome is not Outcome.PASS),
            ]
        )
    return found


def drawn_days(rng: np.random.Generator, days: int, length: int, block: int) -> npt.NDArray[np.int64]:
    """`length` of `days` days in blocks; the last day is followed by the first (circular block bootstrap)."""
    starts = rng.integers(days, size=-(-length // block))
    return ((starts[:, None] + np.arange(block)) % days).ravel()[:length]


def row_level(pair: Pair, days: npt.NDArray[np.int64], confidence: float) -> Interval:
    """Loss above the champion's, bounded as if rows were independent: the normal limit of resampled rows."""
    if pair.totals.worse is None:
        raise ValueError("a pair needs a champion")
    rows = pair.totals.rows[days].sum()
    mean = float(pair.totals.worse[days].sum() / rows)
    error = float(np.sqrt(max(pair.worse_squares[days].sum() / rows - mean**2, 0) / rows))
    reach = NormalDist().inv_cdf(confidence) * error
    return Interval(low=mean - reach, estimate=mean, high=mean + reach)


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


def worse_in_words(worse_by: float) -> str:
    """How much worse a challenger is, for people."""
    if not worse_by:
        return "equal"
    return f"{abs(worse_by):g} {'worse' if worse_by > 0 else 'better'}"


def percent(share: float) -> str:
    """A share with one digit, as the pages write it."""
    return f"{share:.1%}".replace("%", " %")
