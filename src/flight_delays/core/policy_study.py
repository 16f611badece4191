"""How often a policy errs on a team's own history, and which margins and days would keep its errors small."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from statistics import fmean
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from flight_delays.core.backtest import History
from flight_delays.core.drawn import BLOCK, Ended, ab_differences, drawn_days, first_shown, of_days, rolled_out, within
from flight_delays.core.gates import Check, Outcome, Verdict, by_day, judge_days
from flight_delays.core.metrics import Floats
from flight_delays.core.quality import CALIBRATION
from flight_delays.core.settings import Policy, RolloutPolicy

Rates = TypeVar("Rates", "GateRates", "RolloutRates")

TIMES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # the policy's margins, up to a first one that holds
HOLDOUTS, LIMITS = (15, 30, 60, 90), (30, 60, 90)  # days, besides those of the policy
WORSE = 2.0  # margins: what should not pass
KINDS = {"equal": 0.0, "worse": WORSE, "better": -WORSE}  # margins by which a challenger is worse
MAX_PASSED, MIN_PASSED = 0.05, 0.5  # at the gate: of worse ones, of equal ones
MAX_PROMOTED, MIN_PROMOTED, MAX_ROLLED_BACK = 0.01, 0.5, 0.05  # of worse ones, of equal ones, of equal ones


@dataclass(frozen=True, kw_only=True)
class Passed:
    """Shares of holdouts of `days` days that one challenger passes: equal, and worse or better by `WORSE` margins.

    `stopped` has of each check how many equal ones it keeps from passing, `bounds` the limit with which 9 of 10 pass.
    """

    challenger: str
    margin: float
    days: int
    equal: float
    worse: float
    better: float
    stopped: Mapping[str, float]
    bounds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RolledOut:
    """How one challenger's rollouts ended: equal, and worse or better by `WORSE` margins."""

    challenger: str
    margin: float
    equal: Ended
    worse: Ended
    better: Ended


def try_gate(
    history: History, challenger: str, policy: Policy, lengths: Sequence[int], replicates: int
) -> list[Passed]:
    """One challenger judged on drawn holdouts of each length. Raises ValueError where it can't be made that worse."""
    evidence, rng = history.evidence, np.random.default_rng(policy.seed)
    judged = dict[str, list[list[Verdict]]]()
    for kind, times in KINDS.items():
        own, champion = history.apart(challenger, times * policy.loss_margin)
        totals = by_day(replace(evidence, forecasts=own, champion=champion))
        drawn = [_drawn(rng, history.days, days, replicates) for days in lengths]
        judged[kind] = [[judge_days(of_days(totals, days), policy) for days in some] for some in drawn]
    return [
        Passed(
            challenger=challenger,
            margin=policy.loss_margin,
            days=days,
            **{kind: fmean(one.outcome is Outcome.PASS for one in judged[kind][at]) for kind in KINDS},
            stopped=_by_check(
                judged["equal"][at], lambda checks: fmean(one.outcome is not Outcome.PASS for one in checks)
            ),
            bounds=_by_check(judged["equal"][at], _bound),
        )
        for at, days in enumerate(lengths)
    ]


def _by_check(verdicts: Sequence[Verdict], what: Callable[[Sequence[Check]], float]) -> dict[str, float]:
    return {checks[0].name: what(checks) for checks in zip(*(one.checks for one in verdicts), strict=True)}


def _bound(checks: Sequence[Check]) -> float:
    return float(np.quantile([one.evidence.get("high", -math.inf) for one in checks], 0.9, method="higher"))


def _drawn(rng: np.random.Generator, days: int, length: int, replicates: int) -> list[npt.NDArray[np.int64]]:
    return [drawn_days(rng, days, length, min(BLOCK, length)) for _ in range(replicates)]


def try_rollout(
    history: History, challenger: str, policy: RolloutPolicy, maturity: timedelta, replicates: int
) -> RolledOut:
    """One challenger rolled out on drawn days, until the policy's limit. Raises ValueError as `try_gate`."""
    rng, found = np.random.default_rng(1), dict[str, Ended]()
    for kind, times in KINDS.items():
        days = history.paired(*history.apart(challenger, times * policy.max_loss_increase))
        drawn = _drawn(rng, history.days, policy.quality_limit_days, replicates)
        found[kind] = rolled_out(days, drawn, policy, maturity)
    return RolledOut(challenger=challenger, margin=policy.max_loss_increase, **found)


@dataclass(frozen=True, kw_only=True)
class ABRates:
    """A/B tests by the policy: how many call two versions that are the same different, and find one that is `worse`."""

    wrong: float
    worse: float
    found: float


def try_ab_test(history: History, policy: RolloutPolicy, replicates: int) -> ABRates:
    """A/A tests of the champion with itself, and A/B tests of all challengers, `WORSE` margins worse."""
    rng, worse = np.random.default_rng(1), WORSE * policy.max_loss_increase

    def concluded(challenger: Floats, champion: Floats) -> tuple[Floats, Floats]:
        drawn = _drawn(rng, history.days, policy.ab_test_days, replicates)
        values = ab_differences(history, challenger, champion, drawn, policy.ab_test_share, rng)
        return first_shown(values, policy.quality_confidence)

    same = concluded(history.evidence.forecasts, history.evidence.forecasts)
    found = [concluded(*history.apart(name, worse))[1] for name in history.challengers]
    return ABRates(
        wrong=float(np.isfinite(np.minimum(*same)).mean()),
        worse=worse,
        found=float(np.isfinite(np.concatenate(found)).mean()),
    )


@dataclass(frozen=True, kw_only=True)
class GateRates:
    """All challengers at one margin and length: mean shares that pass, and those of the worst challenger."""

    margin: float
    days: int
    equal: float
    worse: float
    better: float
    most_worse: float
    fewest_equal: float

    @property
    def holds(self) -> bool:
        """Whether worse ones are kept out, and enough equal ones are not."""
        return self.worse <= MAX_PASSED and self.equal >= MIN_PASSED


@dataclass(frozen=True, kw_only=True)
class RolloutRates:
    """All challengers at one margin and limit: mean shares, those of the worst challenger, and days (medians).

    `exposed` is the mean of the rows that a worse one answers until its rollout ends, of `rows` in all.
    """

    margin: float
    days: int
    equal_promoted: float
    equal_rolled_back: float
    worse_promoted: float
    worse_rolled_back: float
    better_promoted: float
    most_equal_rolled_back: float
    most_worse_promoted: float
    days_equal: float
    days_worse: float
    days_better: float
    exposed: float
    rows: float

    @property
    def holds(self) -> bool:
        """Whether worse ones are not promoted, equal ones not rolled back, and enough of them promoted."""
        return (
            self.worse_promoted <= MAX_PROMOTED
            and self.equal_rolled_back <= MAX_ROLLED_BACK
            and self.equal_promoted >= MIN_PROMOTED
        )


def gate_rates(found: Iterable[Passed]) -> list[GateRates]:
    """By margin and length, in that order."""
    ordered = sorted(found, key=lambda one: (one.margin, one.days))
    groups = [[*some] for _, some in groupby(ordered, lambda one: (one.margin, one.days))]
    return [
        GateRates(
            margin=some[0].margin,
            days=some[0].days,
            equal=fmean(one.equal for one in some),
            worse=fmean(one.worse for one in some),
            better=fmean(one.better for one in some),
            most_worse=max(one.worse for one in some),
            fewest_equal=min(one.equal for one in some),
        )
        for some in groups
    ]


def rollout_rates(found: Iterable[RolledOut], limits: Sequence[int]) -> list[RolloutRates]:
    """By margin and limit, in that order; none is above that of the rollouts."""
    ordered = sorted(found, key=lambda one: one.margin)
    groups = [(margin, [*some]) for margin, some in groupby(ordered, lambda one: one.margin)]
    return [_rollout_rates(margin, days, some) for margin, some in groups for days in limits]


def _rollout_rates(margin: float, limit: int, found: Sequence[RolledOut]) -> RolloutRates:
    equal, worse, better = ([within(getattr(one, kind), limit) for one in found] for kind in KINDS)

    def shares(ended: Sequence[Ended], what: str) -> list[float]:
        return [float(getattr(one, what).mean()) for one in ended]

    def median(ended: Sequence[Ended], what: str) -> float:
        days = np.concatenate([one.days[getattr(one, what)] for one in ended])
        return float(np.median(days)) if len(days) else float("nan")

    return RolloutRates(
        margin=margin,
        days=limit,
        equal_promoted=fmean(shares(equal, "promoted")),
        equal_rolled_back=fmean(shares(equal, "rolled_back")),
        worse_promoted=fmean(shares(worse, "promoted")),
        worse_rolled_back=fmean(shares(worse, "rolled_back")),
        better_promoted=fmean(shares(better, "promoted")),
        most_equal_rolled_back=max(shares(equal, "rolled_back")),
        most_worse_promoted=max(shares(worse, "promoted")),
        days_equal=median(equal, "promoted"),
        days_worse=median(worse, "rolled_back"),
        days_better=median(better, "promoted"),
        exposed=fmean(float(one.exposed.mean()) for one in worse),
        rows=fmean(float(one.rows.mean()) for one in worse),
    )


LIMIT_OF = {
    "calibrated": "max_calibration_error",
    "calibration_not_worse": "calibration_margin",
}
"""Checks of the gate that do not look at loss, and the limit of each."""


def loosened(policy: Policy, found: Iterable[Passed]) -> Policy:
    """The policy with limits that 9 of 10 equal ones keep, whichever the challenger; none is lowered."""
    found = list(found)
    bounds = {limit: max(one.bounds.get(check, -math.inf) for one in found) for check, limit in LIMIT_OF.items()}
    return replace(policy, **{limit: max(getattr(policy, limit), _rounded_up(one)) for limit, one in bounds.items()})


def _rounded_up(value: float) -> float:
    """To two digits."""
    if not 0 < value < math.inf:
        return value
    unit = 10 ** (math.floor(math.log10(value)) - 1)
    return float(round(math.ceil(value / unit - 1e-9) * unit, 12))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations of an equal challenger's daily differences in loss and in calibration."""

    loss: float
    calibration: float


def spread_of(history: History) -> dict[str, Spread]:
    """Of each challenger, made equal."""
    equal = {name: history.paired(*history.apart(name, 0)) for name in history.challengers}
    return {
        name: Spread(
            loss=float(np.std([day.loss for day in days], ddof=1)),
            calibration=float(np.std([day.guardrails[CALIBRATION] for day in days], ddof=1)),
        )
        for name, days in equal.items()
    }


def with_margin(policy: RolloutPolicy, margin: float, spread: Mapping[str, Spread]) -> RolloutPolicy:
    """The policy with this `max_loss_increase`; calibration may increase so much that it is known as soon as loss."""
    ratio = fmean(one.calibration / one.loss for one in spread.values())
    return replace(
        policy,
        max_loss_increase=margin,
        max_calibration_increase=max(policy.max_calibration_increase, _rounded_up(margin * ratio)),
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found. `now` is the gate as it is, by challenger; `gate` and `limits` are the rates where `loosened`.

    `calibration` has the `max_calibration_increase` that went with each margin of the rollouts.
    """

    days: int
    rows: int
    replicates: int
    spread: Mapping[str, Spread]
    now: tuple[Passed, ...]
    limits: Policy
    gate: tuple[GateRates, ...]
    rollouts: tuple[RolloutRates, ...]
    calibration: Mapping[float, float]
    ab_test: ABRates


def recommended(rates: Iterable[Rates]) -> Rates | None:
    """The smallest margin that holds, on the fewest days; None if none does."""
    return min((one for one in rates if one.holds), key=lambda one: (one.margin, one.days), default=None)
