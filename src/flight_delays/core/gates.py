"""May this version serve? A verdict on evidence whose unit is the day.

Two models are compared row by row on the same days; bounds come from resampled whole days (core.bootstrap).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval, day_weights, interval, simultaneous
from flight_delays.core.metrics import CALIBRATION_BINS, Floats, calibration_bins
from flight_delays.core.objective import Objective
from flight_delays.core.settings import Policy


class Outcome(StrEnum):
    """What a check, or a whole verdict, says. Only PASS lets a version serve."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class SliceOutcome(StrEnum):
    """What is known of one slice."""

    HARMED = "harmed"
    NOT_SHOWN = "no harm shown"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One named question, its answer, why, and the numbers behind it."""

    name: str
    outcome: Outcome
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Slice:
    """How much more the candidate loses in one slice; `worse_by` is None where too little was measured."""

    dimension: str
    value: str
    rows: int
    days: int
    outcome: SliceOutcome
    worse_by: Interval | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to all checks together."""

    outcome: Outcome
    checks: tuple[Check, ...]
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Both models' forecasts for the same rows; `days` numbers the row's day, 0 to n - 1."""

    objective: Objective
    labels: Floats
    forecasts: Floats
    days: npt.NDArray[np.int64]
    baseline: float  # what a model that knows nothing forecasts, from the candidate's training period
    champion: Floats | None  # None where no version serves yet
    slices: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)  # dimension to each row's value


@dataclass(frozen=True, kw_only=True)
class DayTotals:
    """Evidence summed by day: all that the checks look at. Every array's first axis is the day."""

    objective: Objective
    rows: Floats
    gain: Floats  # loss minus the baseline's
    excess: Floats  # labels minus forecasts, by bin of equally filled calibration bins
    worse: Floats | None  # loss minus the champion's
    champion_excess: Floats | None
    slices: tuple[tuple[str, str], ...]  # dimension and value, in the order of the two below
    slice_rows: Floats
    slice_worse: Floats  # loss minus the champion's, or the baseline's where no version serves

    def of_days(self, days: npt.NDArray[np.int64]) -> "DayTotals":
        """The totals of these days, in this order; one may be there more than once."""
        return DayTotals(
            objective=self.objective,
            rows=self.rows[days],
            gain=self.gain[days],
            excess=self.excess[days],
            worse=None if self.worse is None else self.worse[days],
            champion_excess=None if self.champion_excess is None else self.champion_excess[days],
            slices=self.slices,
            slice_rows=self.slice_rows[days],
            slice_worse=self.slice_worse[days],
        )


def verdict(checks: Sequence[Check], slices: Sequence[Slice] = ()) -> Verdict:
    """FAIL if any check fails, PASS if there are checks and all pass, else INCONCLUSIVE."""
    outcomes = {check.outcome for check in checks}
    if Outcome.FAIL in outcomes:
        outcome = Outcome.FAIL
    elif outcomes == {Outcome.PASS}:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.INCONCLUSIVE
    return Verdict(outcome=outcome, checks=tuple(checks), slices=tuple(slices))


def judge(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict on a candidate's forecasts. Too few days give INCONCLUSIVE and nothing else is asked."""
    return judge_days(by_day(evidence), policy)


def by_day(evidence: Evidence) -> DayTotals:
    """What the checks look at, summed by day. Raises ValueError for a day without rows."""
    days, objective, labels = evidence.days, evidence.objective, evidence.labels
    n_days = int(days.max()) + 1

    def totals(values: Floats, groups: npt.NDArray[np.int64], n: int) -> Floats:
        sums = np.bincount(days * n + groups, weights=values, minlength=n_days * n)
        return sums.astype(np.float64).reshape(n_days, n)

    def excess(forecasts: Floats) -> Floats:
        return totals(objective.excess(labels, forecasts), calibration_bins(forecasts), CALIBRATION_BINS)

    all_rows = np.zeros_like(days)
    ones = np.ones(len(days))
    rows = totals(ones, all_rows, 1)[:, 0]
    if not rows.all():
        raise ValueError("days must be numbered 0 to n - 1, each with a row")
    loss = objective.loss(labels, evidence.forecasts)
    gain = loss - objective.loss(labels, np.full_like(loss, evidence.baseline))
    worse = None if evidence.champion is None else loss - objective.loss(labels, evidence.champion)
    harm = gain if worse is None else worse

    slices: list[tuple[str, str]] = []
    slice_rows, slice_worse = [np.empty((n_days, 0))], [np.empty((n_days, 0))]
    for dimension, values in evidence.slices.items():
        names, codes = np.unique(values, return_inverse=True)
        slices += [(dimension, str(name)) for name in names]
        slice_rows.append(totals(ones, codes, len(names)))
        slice_worse.append(totals(harm, codes, len(names)))
    return DayTotals(
        objective=objective,
        rows=rows,
        gain=totals(gain, all_rows, 1)[:, 0],
        excess=excess(evidence.forecasts),
        worse=None if worse is None else totals(worse, all_rows, 1)[:, 0],
        champion_excess=None if evidence.champion is None else excess(evidence.champion),
        slices=tuple(slices),
        slice_rows=np.hstack(slice_rows),
        slice_worse=np.hstack(slice_worse),
    )


def judge_days(totals: DayTotals, policy: Policy) -> Verdict:
    """The verdict on evidence summed by day."""
    enough = enough_days(len(totals.rows), policy)
    if enough.outcome is not Outcome.PASS:
        return verdict([enough])
    weights = day_weights(len(totals.rows), policy.draws, policy.seed)
    loss, baseline = totals.objective.loss_name, totals.objective.baseline_name
    rows, resampled_rows = totals.rows.sum(), weights @ totals.rows

    def mean(values: Floats) -> Interval:
        return interval(float(values.sum() / rows), weights @ values / resampled_rows, policy.confidence)

    error, resampled_error = _calibration_error(totals.excess, weights, totals.rows)
    checks = [
        enough,
        at_most(
            "better_than_baseline",
            f"{loss} minus that of the training period's {baseline}",
            mean(totals.gain),
            -policy.min_gain,
        ),
        at_most(
            "calibrated",
            "expected calibration error",
            interval(error, resampled_error, policy.confidence),
            policy.max_calibration_error,
        ),
    ]
    if totals.worse is not None and totals.champion_excess is not None:
        champion, resampled_champion = _calibration_error(totals.champion_excess, weights, totals.rows)
        checks += [
            at_most("not_worse_than_champion", f"{loss} minus the champion's", mean(totals.worse), policy.loss_margin),
            at_most(
                "calibration_not_worse",
                "expected calibration error minus the champion's",
                interval(error - champion, resampled_error - resampled_champion, policy.confidence),
                policy.calibration_margin,
            ),
        ]
    slices = harm_by_slice(
        totals,
        weights,
        margin=policy.slice_margin,
        confidence=policy.confidence,
        min_days=policy.min_slice_days,
        min_rows=policy.min_slice_rows,
    )
    other = baseline if totals.worse is None else "champion"
    return verdict([*checks, no_slice_harmed(slices, f"{loss} above the {other}'s", policy)], slices)


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
    interval = _rounded(interval)
    return Check(
        name=name,
        outcome=outcome,
        reason=f"{what} is {in_words(interval)}, {how} {limit:g}",
        evidence={"low": interval.low, "estimate": interval.estimate, "high": interval.high, "limit": limit},
    )


def no_slice_harmed(slices: Sequence[Slice], what: str, policy: Policy) -> Check:
    """FAIL if harm is shown in a slice. Never INCONCLUSIVE: what is too small to be measured is listed and no more."""
    measured = [found for found in slices if found.worse_by is not None]
    harmed = [found for found in measured if found.outcome is SliceOutcome.HARMED]
    scope = f"{len(measured)} of {len(slices)} slices had enough days and rows to be measured"
    more = f"{what} by more than {policy.slice_margin:g}"
    named = ", ".join(
        f"{found.dimension} {found.value} {in_words(found.worse_by)}" for found in harmed if found.worse_by
    )
    return Check(
        name="no_slice_harmed",
        outcome=Outcome.FAIL if harmed else Outcome.PASS,
        reason=f"{more} in {named}; {scope}" if harmed else f"{more} is shown in none; {scope}",
        evidence={"slices": len(slices), "measured": len(measured), "harmed": len(harmed)},
    )


def in_words(interval: Interval) -> str:
    """The estimate and its bounds, to four digits."""
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _calibration_error(excess: Floats, weights: Floats, rows: Floats) -> tuple[float, Floats]:
    """Expected calibration error over the bins of the whole holdout, and that of each resample."""
    estimate = float(np.abs(excess.sum(axis=0)).sum() / rows.sum())
    return estimate, np.abs(weights @ excess).sum(axis=1) / (weights @ rows)


def harm_by_slice(
    totals: DayTotals, weights: Floats, *, margin: float, confidence: float, min_days: int, min_rows: int
) -> list[Slice]:
    """How much more is lost in each slice, between bounds that hold for all at once with this confidence."""
    rows, days = totals.slice_rows.sum(axis=0), (totals.slice_rows > 0).sum(axis=0)
    total = totals.slice_worse.sum(axis=0)
    measured = (rows >= min_rows) & (days >= min_days) & np.isfinite(total)
    estimates = total[measured] / rows[measured]
    resampled_rows = weights @ totals.slice_rows[:, measured]
    # A resample that drew none of a slice's days says nothing against its estimate.
    resampled = np.divide(
        weights @ totals.slice_worse[:, measured],
        resampled_rows,
        out=np.broadcast_to(estimates, resampled_rows.shape).copy(),
        where=resampled_rows > 0,
    )
    bounds = iter(simultaneous(estimates, resampled, confidence))
    found = []
    for position, (dimension, value) in enumerate(totals.slices):
        worse_by = _rounded(next(bounds)) if measured[position] else None
        if worse_by is None:
            outcome = SliceOutcome.NOT_MEASURED
        else:
            outcome = SliceOutcome.HARMED if worse_by.low > margin else SliceOutcome.NOT_SHOWN
        found.append(
            Slice(
                dimension=dimension,
                value=value,
                rows=int(rows[position]),
                days=int(days[position]),
                outcome=outcome,
                worse_by=worse_by,
            )
        )
    return found


def _rounded(interval: Interval) -> Interval:
    return Interval(low=round(interval.low, 9), estimate=round(interval.estimate, 9), high=round(interval.high, 9))
