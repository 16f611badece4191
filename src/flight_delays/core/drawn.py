"""Holdouts, rollouts and A/B tests on real days, drawn again and decided by the code that is deployed.

Days are drawn in blocks that follow each other, with replacement (circular block bootstrap: Politis and Romano 1992).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from flight_delays.core.ab_test import FEWEST_DAYS
from flight_delays.core.backtest import History
from flight_delays.core.gates import DayTotals
from flight_delays.core.metrics import Floats
from flight_delays.core.quality import PairedDay, confidence_sequence, quality
from flight_delays.core.rollout import Action, Finding, Rollout, Signal, decide
from flight_delays.core.settings import RolloutPolicy

BLOCK = 14  # days
_UTC = ZoneInfo("UTC")
_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
_OTHERS = Finding(name="other clocks", signal=Signal.GOOD, reason="taken to be good")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How rollouts ended, one value each; days until then (the limit if undecided), rows to the challenger and all."""

    promoted: npt.NDArray[np.bool_]
    rolled_back: npt.NDArray[np.bool_]
    days: Floats
    exposed: Floats
    rows: Floats


def drawn_days(rng: np.random.Generator, days: int, length: int, block: int) -> npt.NDArray[np.int64]:
    """`length` of `days` days in blocks; the last day is followed by the first."""
    starts = rng.integers(days, size=-(-length // block))
    return ((starts[:, None] + np.arange(block)) % days).ravel()[:length]


def of_days(totals: DayTotals, days: npt.NDArray[np.int64]) -> DayTotals:
    """The totals of these days, in this order; one may be there more than once."""
    worse, champion_excess = (None if one is None else one[days] for one in (totals.worse, totals.champion_excess))
    return replace(
        totals,
        rows=totals.rows[days],
        gain=totals.gain[days],
        excess=totals.excess[days],
        worse=worse,
        champion_excess=champion_excess,
        worse_than_recent=totals.worse_than_recent[days],
        slices=replace(totals.slices, rows=totals.slices.rows[days], worse=totals.slices.worse[days]),
    )


def rolled_out(
    found: Sequence[PairedDay],
    drawn: Iterable[npt.NDArray[np.int64]],
    policy: RolloutPolicy,
    maturity: timedelta,
) -> Ended:
    """Rollouts by the code that is deployed, one per row of `drawn` days; each midnight is a look.

    Outcomes are known `maturity` after their day ended.
    """
    runs = [_rolled_out([found[day] for day in days], policy, maturity) for days in drawn]
    actions, days, exposed, rows = zip(*runs, strict=True)
    return Ended(
        promoted=np.array([action is Action.PROMOTE for action in actions]),
        rolled_back=np.array([action is Action.ROLL_BACK for action in actions]),
        days=np.array(days),
        exposed=np.array(exposed),
        rows=np.array(rows),
    )


def _rolled_out(
    drawn: Sequence[PairedDay], policy: RolloutPolicy, maturity: timedelta
) -> tuple[Action, float, float, float]:
    days = [replace(one, day=_BEGIN.date() + timedelta(days=at)) for at, one in enumerate(drawn)]
    state = Rollout(step=0, begun=_BEGIN, percentage=policy.rollout_stages[0], since=_BEGIN, served=True)
    now, exposed, rows = _BEGIN, 0.0, 0.0
    known, findings = -1, [_OTHERS]
    while True:
        past = (now - _BEGIN) // timedelta(days=1)
        if past != known:
            clock = quality(days[:past], policy, begin=_BEGIN, as_of=now, zone=_UTC, maturity=maturity)
            known, findings = past, [_OTHERS, *clock]
        decided = decide(state, findings, policy, now)
        if decided.action in (Action.PROMOTE, Action.ROLL_BACK, Action.ASK):
            return decided.action, (now - _BEGIN) / timedelta(days=1), exposed, rows
        if decided.action is Action.ADVANCE:
            state = replace(state, percentage=decided.percentage, since=now)
        due = state.since + timedelta(minutes=policy.rollout_stage_minutes)
        later = due if due > now else _BEGIN + timedelta(days=past + 1)
        scored = days[past % len(days)].rows * ((later - now) / timedelta(days=1))
        now, rows, exposed = later, rows + scored, exposed + scored * state.percentage / 100


def within(ended: Ended, days: int) -> Ended:
    """The same rollouts with a shorter limit; rows are those of the whole."""
    inside = ended.days <= days
    return replace(
        ended,
        promoted=ended.promoted & inside,
        rolled_back=ended.rolled_back & inside,
        days=np.minimum(ended.days, days),
    )


def ab_differences(
    history: History,
    challenger: Floats,
    champion: Floats,
    drawn: Sequence[npt.NDArray[np.int64]],
    share: int,
    rng: np.random.Generator,
) -> Floats:
    """Daily differences in loss, challenger minus champion, of A/B tests on `drawn` days: one test per row.

    Each row of a day is the challenger's with a probability of `share` %; NaN for a day on which one version has none.
    """
    objective, labels = history.evidence.objective, history.evidence.labels
    own, other = (history.by_day(objective.loss(labels, one)) for one in (challenger, champion))

    def difference(day: int) -> float:
        gets = rng.random(len(own[day])) * 100 < share
        return float(own[day][gets].mean() - other[day][~gets].mean()) if 0 < gets.sum() < len(gets) else math.nan

    return np.array([[difference(day) for day in days] for days in drawn])


def first_shown(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    """After how many days each test concludes that the challenger is better, and that it is worse; infinite if never.

    A test ends at its first conclusion.
    """
    found = np.full((2, len(values)), math.inf)
    alpha = (1 - confidence) / 2
    for at, row in enumerate(values):
        known = row[~np.isnan(row)]
        for n in range(FEWEST_DAYS, len(known) + 1):
            bounds = confidence_sequence(known[:n], alpha_low=alpha, alpha_high=alpha)
            if bounds.high < 0 or bounds.low > 0:
                found[int(bounds.low > 0), at] = n
                break
    return found[0], found[1]
