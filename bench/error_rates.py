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
from flight_delays.core.drawn import drawn_days, of_days
from flight_delays.core.gates import DayTotals, Evidence, Outcome, at_most, by_day, judge_days
from flight_delays.core.metrics import Floats
from flight_delays.core.settings import Policy

GATE, OLD_GATE = "the gate", "the old gate"
DAY_LEVEL, ROW_LEVEL, POINT = "loss by day", "loss by row", "lower loss"
RULES = (GATE, OLD_GATE, DAY_LEVEL, ROW_LEVEL, POINT)
Tally = Counter[tuple[str, str]]  # (rule, outcome), and (check, outcome) for what kept the gate from PASS


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


def row_level(pair: Pair, days: npt.NDArray[np.int64], confidence: float) -> Interval:
    """Loss above the champion's, bounded as if rows were independent: the normal limit of resampled rows."""
    if pair.totals.worse is None:
        raise ValueError("a pair needs a champion")
    rows = pair.totals.rows[days].sum()
    mean = float(pair.totals.worse[days].sum() / rows)
    error = float(np.sqrt(max(pair.worse_squares[days].sum() / rows - mean**2, 0) / rows))
    reach = NormalDist().inv_cdf(confidence) * error
    return Interval(low=mean - reach, estimate=mean, high=mean + reach)


def worse_in_words(worse_by: float) -> str:
    """How much worse a challenger is, for people."""
    if not worse_by:
        return "equal"
    return f"{abs(worse_by):g} {'worse' if worse_by > 0 else 'better'}"
