"""What the quality clock of a rollout finds: how good the forecasts turned out, judged day by day as labels come in.

Both versions score the same rows, so a day gives one number per metric: the mean difference, challenger minus champion,
where more is worse. A confidence sequence over these numbers may be looked at every day. Error rates of whole rollouts
are in docs/rollout-error-rates.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from flight_delays.core.bootstrap import Interval
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import Objective
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import RolloutPolicy

QUALITY, CALIBRATION = "quality", "calibration"
EFFECT_SIZE = 0.5  # expected mean over standard deviation of a day: where the sequence is narrow
NEVER = 101  # %
_MAX_CORRELATION = 0.9
_SHOWN = 3  # days that a reason names


@dataclass(frozen=True, kw_only=True)
class PairedDay:
    """A local day: rows that both versions scored, how many have a label, and mean differences on those that do.

    A difference is the challenger's value minus the champion's, more is worse: `loss`, and `guardrails` by name. They
    are NaN if there is no label. Raises ValueError for counts that can't be, and for a difference that is not a number.
    """

    day: date
    rows: int
    labelled: int
    loss: float
    guardrails: Mapping[str, float]

    def __post_init__(self) -> None:
        if not 0 <= self.labelled <= self.rows:
            raise ValueError(f"{self.day}: {self.labelled} labels for {self.rows} rows")
        if self.labelled and not np.isfinite([self.loss, *self.guardrails.values()]).all():
            raise ValueError(f"{self.day}: a difference between the versions is not a number")


def paired_day(day: date, labels: Floats, champion: Floats, challenger: Floats, objective: Objective) -> PairedDay:
    """A day's values from its rows: labels (NaN where there is none yet) and both versions' forecasts.

    Calibration is how far the day's mean forecast is from the mean label, in units of `objective.excess`.
    """
    known = ~np.isnan(labels)
    labelled = int(known.sum())
    loss, calibration = np.nan, np.nan
    if labelled:
        pairs = [(labels[known], forecasts[known]) for forecasts in (challenger, champion)]
        losses = [float(objective.loss(*pair).mean()) for pair in pairs]
        biases = [abs(float(objective.excess(*pair).mean())) for pair in pairs]
        loss, calibration = losses[0] - losses[1], biases[0] - biases[1]
    return PairedDay(day=day, rows=len(labels), labelled=labelled, loss=loss, guardrails={CALIBRATION: calibration})


def quality(
    days: Sequence[PairedDay],
    policy: RolloutPolicy,
    *,
    begin: datetime,
    as_of: datetime,
    zone: ZoneInfo,
    maturity: timedelta,
) -> list[Finding]:
    """The success criterion, loss, and each guardrail, from the days since the rollout began, in any order.

    A day's outcomes are known `maturity` after it ended in `zone`. It counts from then on, if at least
    `quality_min_label_coverage` of its rows have a label. Every day counts the same, however many rows it has.

    - GOOD: the upper bound is at most the margin, `max_loss_increase` or that of the guardrail (non-inferior), on at
      least `quality_min_days` days. The version is promoted if all are GOOD.
    - WORSE: the lower bound is above 0 for loss, above its margin for a guardrail. A loss before `quality_min_days` has
      to be above its margin too.
    - UNKNOWN otherwise. It holds back shares from `quality_needed_for` on, for at most `quality_limit_days`.

    Each upper bound holds on all days at `quality_confidence`: all metrics have to be GOOD, so that the error of
    promoting is that of one (intersection-union test, Berger 1982). Lower bounds share the error evenly, as one of them
    is enough to roll back (Bonferroni). This is the decision rule of Schultzberg et al. 2024, arXiv 2402.11609.

    Raises ValueError for a day that is there twice, or lacks a guardrail.
    """
    days = sorted(days, key=lambda one: one.day)
    margins = {CALIBRATION: policy.max_calibration_increase}
    if len({one.day for one in days}) < len(days):
        raise ValueError("a day is there twice")
    if any(one.guardrails.keys() != margins.keys() for one in days):
        raise ValueError(f"a day's guardrails should be {', '.join(margins)}")
    until = (as_of - maturity).astimezone(zone).date()  # the first day whose outcomes are not known

    def known_at(day: date) -> datetime:
        return datetime.combine(day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC) + maturity

    counted, left_out = [], []
    for one in days:
        if one.day >= until:
            left_out.append(f"{one.day} is known at {known_at(one.day):%Y-%m-%d %H:%M} UTC")
        elif not one.labelled or one.labelled / one.rows < policy.quality_min_label_coverage:
            left_out.append(f"{one.day} has labels for {one.labelled:,} of {one.rows:,} rows")
        else:
            counted.append(one)
    n, needed = len(counted), policy.quality_min_days
    awaited = max(until, begin.astimezone(zone).date()) + timedelta(days=max(needed - n, 1) - 1)
    margin, alpha = policy.max_loss_increase, 1 - policy.quality_confidence

    def finding(name: str, values: Sequence[float], margin: float, worse_above: float) -> Finding:
        bounds = confidence_sequence(np.array(values), alpha_low=alpha / (1 + len(margins)), alpha_high=alpha)
        worse, good = bounds.low > worse_above, n >= needed and bounds.high <= margin
        signal = Signal.WORSE if worse else Signal.GOOD if good else Signal.UNKNOWN
        found = f"{bounds} above the champion's, at most {margin:g} allowed, " if n else ""
        return Finding(
            name=name,
            signal=signal,
            reason=f"{found}{n} days counted, at least {needed} needed{_named(left_out)}",
            earliest=known_at(awaited) if signal is Signal.UNKNOWN else None,
            needed_for=policy.quality_needed_for or NEVER,
            limit=begin + timedelta(days=policy.quality_limit_days),
        )

    return [
        finding(QUALITY, [one.loss for one in counted], margin, 0 if n >= needed else max(margin, 0)),
        *(finding(name, [one.guardrails[name] for one in counted], limit, limit) for name, limit in margins.items()),
    ]


def _named(left_out: Sequence[str]) -> str:
    earlier = len(left_out) - _SHOWN
    named = [*([f"{earlier} earlier ones"] if earlier > 0 else []), *left_out[-_SHOWN:]]
    return f"; not counted: {', '.join(named)}" if named else ""


def confidence_sequence(values: Floats, *, alpha_low: float, alpha_high: float) -> Interval:
    """Bounds of the mean of daily values, in the order of the days, that hold on all days at once.

    The true mean is ever below the lower bound with a probability of at most `alpha_low`, ever above the upper one of
    at most `alpha_high` (both below 0.5), if values are normal and independent; their variance may be unknown. The
    bounds invert the sequential t-test with a normal prior on the effect size (Gronau et al. 2020, The American
    Statistician 74; Wang and Ramdas 2024, arXiv 2310.03722). For skewed values, and for days that resemble the day
    before, which count for less (`effective_days`), the errors are known from simulation alone. Infinite for few days.
    Rounded to nine digits, as the gate's.
    """
    if len(values) < 2:
        return Interval(low=-math.inf, estimate=float(values.mean()) if len(values) else math.nan, high=math.inf)
    n, mean = effective_days(values), float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(n)
    below, above = reach(n, alpha_low), reach(n, alpha_high)
    return Interval(
        low=round(mean - below * error, 9) if below < math.inf else -math.inf,
        estimate=mean,
        high=round(mean + above * error, 9) if above < math.inf else math.inf,
    )


def reach(days: float, alpha: float) -> float:
    """How many standard errors a bound is away from the mean of so many independent days; infinite for few.

    The two-sided sequence at twice alpha: by symmetry each end errs half as often, but for the rare sequences that
    leave it at both ends.
    """
    if days <= 1:
        return math.inf
    wider = 1 + days * EFFECT_SIZE**2
    ratio = (math.sqrt(wider) / (2 * alpha)) ** (2 / days)
    return math.sqrt((days - 1) * (ratio - 1) / (1 - ratio / wider)) if ratio < wider else math.inf


def effective_days(values: Floats) -> float:
    """How many independent days tell as much about the mean as these, at most all (Bayley and Hammersley 1946).

    n (1 - r) / (1 + r), r the correlation of each day with the day before, corrected for its bias (Marriott and Pope
    1954); a negative one counts as 0.
    """
    n, centred = len(values), values - values.mean()
    total = float(centred @ centred)
    if total == 0:
        return n
    found = float(centred[1:] @ centred[:-1]) / total
    correlation = min(max(found + (1 + 3 * found) / n, 0), _MAX_CORRELATION)
    return n * (1 - correlation) / (1 + correlation)
