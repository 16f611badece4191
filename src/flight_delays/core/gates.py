"""May this version serve? A verdict on evidence whose unit is the day.

Two models are compared row by row on the same days; bounds come from resampled whole days (core.bootstrap).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from flight_delays.core.bootstrap import Interval, day_weights, interval, simultaneous
from flight_delays.core.metrics import CALIBRATION_BINS, Floats, calibration_bins
from flight_delays.core.objective import Objective
from flight_delays.core.settings import Policy


class Outcome(StrEnum):
    """Of a check or a whole verdict. Only PASS lets a version serve."""

    PASS = "PASS"  # noqa: S105
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class SliceOutcome(StrEnum):
    """Of one slice."""

    HARMED = "harmed"
    WORSE = "worse, harm not shown"
    NOT_SHOWN = "no harm shown"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One named question, its answer, why, and the numbers behind it.

    `measured` differs from one machine to the next: it is shown, but no part of what makes two verdicts the same.
    """

    name: str
    outcome: Outcome
    reason: str
    evidence: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def in_words(self) -> str:
        """The reason, with what was measured."""
        return self.reason + "".join(f"; {name} {value:g}" for name, value in self.measured.items())


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
    baseline: float  # the constant forecast, from the candidate's training period
    champion: Floats | None  # None where no version serves yet
    recent: Mapping[int, Floats] = field(default_factory=dict)  # of versions that served recently, by their numbers
    not_compared: tuple[str, ...] = ()  # of those the ones without forecasts, and why
    slices: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)  # dimension to each row's value


@dataclass(frozen=True, kw_only=True)
class SliceTotals:
    """Rows, and how much more is lost than by the other model, summed by day and slice."""

    names: tuple[tuple[str, str], ...]  # dimension and value
    rows: Floats
    worse: Floats


@dataclass(frozen=True, kw_only=True)
class DayTotals:
    """Evidence summed by day: all that the checks look at. Every array's first axis is the day."""

    objective: Objective
    rows: Floats
    gain: Floats  # loss minus the baseline's
    excess: Floats  # labels minus forecasts, by bin of equally filled calibration bins
    worse: Floats | None  # loss minus the champion's
    champion_excess: Floats | None
    recent: tuple[int, ...]
    worse_than_recent: Floats  # loss minus that of each of `recent`, a column each
    not_compared: tuple[str, ...]
    slices: SliceTotals  # against the champion, or the baseline where no version serves


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
    days, objective, labels, champion = evidence.days, evidence.objective, evidence.labels, evidence.champion
    rows = np.bincount(days).astype(np.float64)
    if not rows.all():
        raise ValueError("days must be numbered 0 to n - 1, each with a row")

    def excess(forecasts: Floats) -> Floats:
        bins = calibration_bins(forecasts)
        return _by_day_and_group(objective.excess(labels, forecasts), days, bins, CALIBRATION_BINS)

    loss = objective.loss(labels, evidence.forecasts)
    gain = loss - objective.loss(labels, np.full_like(loss, evidence.baseline))
    worse = None if champion is None else loss - objective.loss(labels, champion)
    recent = [np.bincount(days, weights=loss - objective.loss(labels, one)) for one in evidence.recent.values()]
    return DayTotals(
        objective=objective,
        rows=rows,
        gain=np.bincount(days, weights=gain).astype(np.float64),
        excess=excess(evidence.forecasts),
        worse=None if worse is None else np.bincount(days, weights=worse).astype(np.float64),
        champion_excess=None if champion is None else excess(champion),
        recent=tuple(evidence.recent),
        worse_than_recent=np.column_stack([np.empty((len(rows), 0)), *recent]),
        not_compared=evidence.not_compared,
        slices=by_slice(gain if worse is None else worse, days, evidence.slices),
    )


def by_slice(worse: Floats, days: npt.NDArray[np.int64], slices: Mapping[str, npt.NDArray[np.str_]]) -> SliceTotals:
    """`worse` of each row summed by its day, 0 to n - 1, and by its value in each dimension of `slices`."""
    n_days = int(days.max()) + 1
    names: list[tuple[str, str]] = []
    rows, totals = [np.empty((n_days, 0))], [np.empty((n_days, 0))]
    for dimension, values in slices.items():
        found, codes = np.unique(values, return_inverse=True)
        names += [(dimension, str(value)) for value in found]
        rows.append(_by_day_and_group(np.ones_like(worse), days, codes, len(found)))
        totals.append(_by_day_and_group(worse, days, codes, len(found)))
    return SliceTotals(names=tuple(names), rows=np.hstack(rows), worse=np.hstack(totals))


def _by_day_and_group(
    values: Floats, days: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], n_groups: int
) -> Floats:
    n_days = int(days.max()) + 1
    sums = np.bincount(days * n_groups + groups, weights=values, minlength=n_days * n_groups)
    return sums.astype(np.float64).reshape(n_days, n_groups)


def judge_days(totals: DayTotals, policy: Policy) -> Verdict:
    """The verdict on evidence summed by day."""
    enough = enough_days(len(totals.rows), policy)
    if enough.outcome is not Outcome.PASS:
        return verdict([enough])
    weights = day_weights(len(totals.rows), policy.draws, policy.seed)
    loss, baseline, error = totals.objective.loss_name, totals.objective.baseline_name, "expected calibration error"
    # The first resample is the evidence itself: every day once.
    drawn = np.vstack([np.ones(len(totals.rows)), weights])
    rows = drawn @ totals.rows

    def check(name: str, what: str, values: Floats, limit: float) -> Check:
        return at_most(name, what, interval(float(values[0]), values[1:], policy.confidence), limit)

    def calibration_error(excess: Floats) -> Floats:  # over the bins of the whole holdout
        return np.asarray(np.abs(drawn @ excess).sum(axis=1) / rows)

    less, calibration = f"{loss} minus that of the training period's {baseline}", calibration_error(totals.excess)
    checks = [
        enough,
        check("better_than_baseline", less, drawn @ totals.gain / rows, -policy.min_gain),
        check("calibrated", error, calibration, policy.max_calibration_error),
    ]
    if totals.worse is not None and totals.champion_excess is not None:
        worse, above = drawn @ totals.worse / rows, calibration - calibration_error(totals.champion_excess)
        bounds = interval(float(worse[0]), worse[1:], policy.confidence)
        checks += [
            not_worse("not_worse_than_champion", f"{loss} minus the champion's", bounds, policy),
            check("calibration_not_worse", f"{error} minus the champion's", above, policy.calibration_margin),
        ]
    if totals.recent or totals.not_compared:
        worse = drawn @ totals.worse_than_recent / rows[:, None]
        recent = dict(zip(totals.recent, simultaneous(worse[0], worse[1:], policy.confidence), strict=True))
        checks.append(not_worse_than_recent(recent, totals.not_compared, loss, policy))
    slices = harm_by_slice(
        totals.slices,
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

    Evidence is rounded to nine digits, so that another processor's last bits do not change a verdict's id.
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
        reason=f"{what} is {interval}, {how} {limit:g}",
        evidence={"low": interval.low, "estimate": interval.estimate, "high": interval.high, "limit": limit},
    )


def not_worse(name: str, what: str, interval: Interval, policy: Policy) -> Check:
    """`at_most` the margin of loss; and FAIL if the whole interval lies above 0, unless the policy allows that.

    So a loss that is shown is never taken for none because it is small: the next version might lose as much again.
    """
    margin, check = policy.loss_margin, at_most(name, what, interval, policy.loss_margin)
    shown = _rounded(interval).low > 0  # not in the last bits alone
    if policy.allow_worse_within_margin or not shown or check.outcome is Outcome.FAIL:
        return check
    how = (
        f"shown to be above 0 though at most {margin:g} (worse_within_margin)"
        if check.outcome is Outcome.PASS
        else f"shown to be above 0 and not shown to be at most {margin:g}"
    )
    return replace(check, outcome=Outcome.FAIL, reason=f"{what} is {_rounded(interval)}, {how}")


def not_worse_than_recent(
    worse_by: Mapping[int, Interval], not_compared: Sequence[str], loss: str, policy: Policy
) -> Check:
    """`not_worse` than the best of the versions that served recently. PASS where none can be compared.

    `worse_by` has each version's bounds, which hold for all at once: the best is picked on the days that judge it.
    """
    name, served = "not_worse_than_recent", f"served in the last {policy.recent_days} days"
    if worse_by:
        best = max(worse_by, key=lambda version: worse_by[version].estimate)
        what = f"{loss} minus that of version {best}, the best of {len(worse_by)} that {served},"
        check = not_worse(name, what, worse_by[best], policy)
        check = replace(check, evidence={**check.evidence, "version": best, "compared": len(worse_by)})
    else:
        check = Check(name=name, outcome=Outcome.PASS, reason=f"no other version that {served} can be compared")
    return replace(check, reason="; ".join([check.reason, *(f"not compared: {which}" for which in not_compared)]))


def no_slice_harmed(slices: Sequence[Slice], what: str, policy: Policy) -> Check:
    """FAIL if harm is shown in a slice. Never INCONCLUSIVE: slices too small to be measured are only listed.

    Those that are shown to be worse, but not by more than the margin, are named.
    """
    measured = [found for found in slices if found.worse_by is not None]
    harmed, worse = (
        [found for found in measured if found.outcome is outcome]
        for outcome in (SliceOutcome.HARMED, SliceOutcome.WORSE)
    )

    def named(found: Sequence[Slice]) -> str:
        return ", ".join(f"{one.dimension} {one.value} {one.worse_by}" for one in found)

    more = f"{what} by more than {policy.slice_margin:g}"
    reasons = [f"{more} in {named(harmed)}" if harmed else f"{more} is shown in none"]
    if worse:
        reasons.append(f"above it, but not shown by more than that, in {named(worse)}")
    reasons.append(f"{len(measured)} of {len(slices)} slices had enough days and rows to be measured")
    return Check(
        name="no_slice_harmed",
        outcome=Outcome.FAIL if harmed else Outcome.PASS,
        reason="; ".join(reasons),
        evidence={
            "slices": len(slices),
            "measured": len(measured),
            "harmed": len(harmed),
            "worse": len(worse),
        },
    )


def harm_by_slice(
    totals: SliceTotals,
    weights: Floats,
    *,
    margin: float,
    confidence: float,
    min_days: int = Policy.min_slice_days,
    min_rows: int = Policy.min_slice_rows,
) -> list[Slice]:
    """How much more is lost in each slice, between bounds that hold for all at once with this confidence."""
    rows, days, worse = totals.rows.sum(axis=0), (totals.rows > 0).sum(axis=0), totals.worse.sum(axis=0)
    measured = (rows >= min_rows) & (days >= min_days) & np.isfinite(worse)
    estimates = worse[measured] / rows[measured]
    resampled_rows = weights @ totals.rows[:, measured]
    # A resample that drew none of a slice's days says nothing against its estimate.
    resampled = np.divide(
        weights @ totals.worse[:, measured],
        resampled_rows,
        out=np.broadcast_to(estimates, resampled_rows.shape).copy(),
        where=resampled_rows > 0,
    )
    bounds = iter(simultaneous(estimates, resampled, confidence))
    found = []
    for (dimension, value), n_rows, n_days, is_measured in zip(totals.names, rows, days, measured, strict=True):
        worse_by, outcome = None, SliceOutcome.NOT_MEASURED
        if is_measured:
            worse_by = _rounded(next(bounds))
            outcome = SliceOutcome.WORSE if worse_by.low > 0 else SliceOutcome.NOT_SHOWN
            if worse_by.low > margin:
                outcome = SliceOutcome.HARMED
        found.append(
            Slice(
                dimension=dimension,
                value=value,
                rows=int(n_rows),
                days=int(n_days),
                outcome=outcome,
                worse_by=worse_by,
            )
        )
    return found


def _rounded(interval: Interval) -> Interval:
    return Interval(low=round(interval.low, 9), estimate=round(interval.estimate, 9), high=round(interval.high, 9))
