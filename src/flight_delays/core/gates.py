"""May this version serve? A verdict on evidence whose unit is the day.

Flights of one day share its weather, so rows are not independent: intervals come from a bootstrap of whole days
(Field and Welsh 2007, clustered bootstrap), and two models are compared flight by flight on the same days.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from flight_delays.core.errors import UserError
from flight_delays.core.metrics import CALIBRATION_BINS, Floats, calibration_bins, row_log_loss


class Outcome(StrEnum):
    """What a check, or a whole verdict, says. Only PASS lets a version serve."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a version may serve. Losses are in nats per flight; errors and margins are >= 0."""

    min_holdout_days: int
    log_loss_margin: float
    max_calibration_error: float
    min_gain: float = 0.001  # over the base rate: knowing nothing is not enough
    confidence: float = 0.95  # of each one-sided bound
    draws: int = 2_000  # bootstrap resamples
    seed: int = 20130101

    def __post_init__(self) -> None:
        within = {
            "min_holdout_days, at least 1": self.min_holdout_days >= 1,
            "min_gain, above 0": self.min_gain > 0,
            "log_loss_margin, at least 0": self.log_loss_margin >= 0,
            "max_calibration_error, from 0 to 1": 0 <= self.max_calibration_error <= 1,
            "confidence, above 0.5 and below 1": 0.5 < self.confidence < 1,
            "draws, at least 1": self.draws >= 1,
        }
        for what, holds in within.items():
            if not holds:
                raise UserError(f"the policy needs {what}; mend it in databricks.yml")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate between two one-sided bounds."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One named question, its answer, why, and the numbers behind it."""

    name: str
    outcome: Outcome
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to all checks together."""

    outcome: Outcome
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Both models' probabilities for the same flights; `days` numbers the flight's day, 0 to n - 1."""

    labels: Floats
    probabilities: Floats
    days: npt.NDArray[np.int64]
    base_rate: float  # of the candidate's training period: what a model that knows nothing forecasts
    champion: Floats | None  # None where no version serves yet


def verdict(checks: Sequence[Check]) -> Verdict:
    """FAIL if any check fails, PASS if there are checks and all pass, else INCONCLUSIVE."""
    outcomes = {check.outcome for check in checks}
    if Outcome.FAIL in outcomes:
        outcome = Outcome.FAIL
    elif outcomes == {Outcome.PASS}:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.INCONCLUSIVE
    return Verdict(outcome=outcome, checks=tuple(checks))


def judge(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict on a candidate. Too few days give INCONCLUSIVE and nothing else is asked."""
    days = len(np.unique(evidence.days))
    enough = enough_days(days, policy)
    if enough.outcome is not Outcome.PASS:
        return verdict([enough])
    loss = row_log_loss(evidence.labels, evidence.probabilities)
    baseline = row_log_loss(evidence.labels, np.full_like(evidence.labels, evidence.base_rate))
    checks = [
        enough,
        at_most(
            "better_than_base_rate",
            "log loss above that of the training period's base rate",
            _mean_by_day(loss - baseline, evidence.days, policy),
            -policy.min_gain,
        ),
        at_most(
            "calibrated",
            "expected calibration error",
            _calibration_by_day(evidence, policy),
            policy.max_calibration_error,
        ),
    ]
    if evidence.champion is not None:
        worse_by = loss - row_log_loss(evidence.labels, evidence.champion)
        checks.append(
            at_most(
                "not_worse_than_champion",
                "log loss above the champion's",
                _mean_by_day(worse_by, evidence.days, policy),
                policy.log_loss_margin,
            )
        )
    return verdict(checks)


def enough_days(days: int, policy: Policy) -> Check:
    """INCONCLUSIVE below `min_holdout_days` whole days that neither model has seen."""
    enough = days >= policy.min_holdout_days
    comparison = f"{days} unseen days, at least {policy.min_holdout_days} needed"
    return Check(
        name="enough_days",
        outcome=Outcome.PASS if enough else Outcome.INCONCLUSIVE,
        reason=comparison if enough else f"{comparison}: wait for more labels, or hold out more days",
        evidence={"days": days, "needed": policy.min_holdout_days},
    )


def at_most(name: str, what: str, interval: Interval, limit: float) -> Check:
    """PASS if the whole interval is at or below the limit, FAIL if it lies above, else INCONCLUSIVE.

    Numbers count to the ninth digit, so that the last bits of another processor make no other verdict.
    """
    if interval.high <= limit:
        outcome, how = Outcome.PASS, "at most"
    elif interval.low > limit:
        outcome, how = Outcome.FAIL, "above"
    else:
        outcome, how = Outcome.INCONCLUSIVE, "not shown to be at most"
    interval = Interval(low=round(interval.low, 9), estimate=round(interval.estimate, 9), high=round(interval.high, 9))
    numbers = f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
    return Check(
        name=name,
        outcome=outcome,
        reason=f"{what} is {numbers}, {how} {limit:g}",
        evidence={"low": interval.low, "estimate": interval.estimate, "high": interval.high, "limit": limit},
    )


def _mean_by_day(values: Floats, days: npt.NDArray[np.int64], policy: Policy) -> Interval:
    """Mean of rows, its bounds from resampled days."""
    totals, counts = np.bincount(days, weights=values), np.bincount(days).astype(np.float64)
    draws = _day_weights(len(counts), policy)
    return _interval(float(totals.sum() / counts.sum()), (draws @ totals) / (draws @ counts), policy)


def _calibration_by_day(evidence: Evidence, policy: Policy) -> Interval:
    """Expected calibration error over the bins of the whole holdout, its bounds from resampled days."""
    bins, days = calibration_bins(evidence.probabilities), evidence.days
    n_days = int(days.max()) + 1
    excess = np.bincount(
        days * CALIBRATION_BINS + bins,
        weights=evidence.labels - evidence.probabilities,
        minlength=n_days * CALIBRATION_BINS,
    ).reshape(n_days, CALIBRATION_BINS)
    counts = np.bincount(days, minlength=n_days).astype(np.float64)
    draws = _day_weights(n_days, policy)
    estimate = float(np.abs(excess.sum(axis=0)).sum() / counts.sum())
    return _interval(estimate, np.abs(draws @ excess).sum(axis=1) / (draws @ counts), policy)


def _day_weights(days: int, policy: Policy) -> Floats:
    """How often each resample draws each day: draws x days."""
    rng = np.random.default_rng(policy.seed)
    return rng.multinomial(days, np.full(days, 1 / days), size=policy.draws).astype(np.float64)


def _interval(estimate: float, resampled: Floats, policy: Policy) -> Interval:
    low, high = np.quantile(resampled, [1 - policy.confidence, policy.confidence])
    return Interval(low=float(low), estimate=estimate, high=float(high))
