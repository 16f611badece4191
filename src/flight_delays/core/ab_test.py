"""An A/B test of two versions: what is known of their losses by day, in a sentence for whoever decides.

Each version answers its own entities, so a day gives one difference of two means. Days are the units: what makes a
day hard for both cancels out. The bounds may be looked at every day (core/quality.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

import numpy as np

from flight_delays.core.bootstrap import Interval
from flight_delays.core.quality import confidence_sequence, effective_days, reach
from flight_delays.core.rollout import Finding, Signal

FEWEST_DAYS = 7
_LONGEST = 365  # days that are looked ahead


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one version answered on one day: entities, those with a label, and the mean loss of these."""

    rows: int
    labelled: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Day:
    """One local day of both versions."""

    day: date
    champion: Arm
    challenger: Arm


@dataclass(frozen=True, kw_only=True)
class ABTest:
    """Of which versions, by which loss, on how many % of the requests, and how many more days it will take."""

    model_name: str
    champion: int
    challenger: int
    loss: str
    share: int
    days_left: int


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What is known: the challenger is BETTER or worse (`signal`), or not known to be either; what would change it."""

    signal: Signal
    difference: Interval
    days: int
    sentence: str
    changes: str

    @property
    def finding(self) -> Finding:
        """It as a clock's; that of the split itself is the clock of operations'."""
        return Finding(name="ab_test", signal=self.signal, reason=f"{self.sentence} {self.changes}")


def gets_challenger(entity_id: str, share: int, salt: str = "") -> bool:
    """Whether an entity is one of the challenger's `share` %, the same at each request (for a client that routes).

    Another `salt`, the name of a test, draws others. Raises ValueError for a share that is no percentage.
    """
    if not 0 <= share <= 100:
        raise ValueError(f"share is {share}; give a percentage, 0 to 100")
    drawn = int.from_bytes(sha256(f"{salt}|{entity_id}".encode()).digest()[:8])
    return drawn * 100 < share << 64


def differences(days: Sequence[Day], coverage: float) -> list[float]:
    """Challenger minus champion, of each day on which at least `coverage` of both versions' rows have a label."""
    ordered = sorted(days, key=lambda one: one.day)
    return [
        one.challenger.loss - one.champion.loss
        for one in ordered
        if one.challenger.loss is not None
        and one.champion.loss is not None
        and all(arm.labelled >= coverage * arm.rows for arm in (one.champion, one.challenger))
    ]


def conclude(test: ABTest, values: Sequence[float], confidence: float, split: Finding | None = None) -> Conclusion:
    """What daily differences say at this confidence (both sides together), unless the split is known to be wrong.

    Looked at every day, a test of two versions that are the same ends with a difference in at most 1 - confidence.
    """
    n, alpha = len(values), (1 - confidence) / 2
    found = confidence_sequence(np.array(values), alpha_low=alpha, alpha_high=alpha)
    who, other = f"Version {test.challenger}", f"version {test.champion}"
    if split is not None and split.signal is Signal.INVALID:
        return Conclusion(
            signal=Signal.INVALID,
            difference=found,
            days=n,
            sentence=f"No conclusion can be trusted: {split.reason}.",
            changes="Find out where requests are lost, or who sends them past the split; then begin a new test.",
        )
    enough = n >= FEWEST_DAYS
    if enough and (found.high < 0 or found.low > 0):
        better = found.high < 0
        bounds = sorted((abs(found.low), abs(found.high)))
        return Conclusion(
            signal=Signal.GOOD if better else Signal.WORSE,
            difference=found,
            days=n,
            sentence=f"{who} is {'better' if better else 'worse'} than {other}: its {test.loss} is "
            f"{abs(found.estimate):.4f} {'lower' if better else 'higher'} (between {bounds[0]:.4f} and "
            f"{bounds[1]:.4f}), on {n} days.",
            changes="More days make the amount more exact; that it is "
            f"{'lower' if better else 'higher'} would change only if these days are unlike those to come.",
        )
    if n < 2:
        sentence = f"Nothing is known yet of {who[0].lower()}{who[1:]} beside {other}: {n} days have outcomes."
        return Conclusion(signal=Signal.UNKNOWN, difference=found, days=n, sentence=sentence, changes=_fewest(n))
    return Conclusion(
        signal=Signal.UNKNOWN,
        difference=found,
        days=n,
        sentence=f"No difference is shown between {who[0].lower()}{who[1:]} and {other} after {n} days: its "
        f"{test.loss} is {_signed(found.estimate)} so far, and may as well be {_range(found)}.",
        changes=_fewest(n) if not enough else _ahead(test, np.array(values), alpha),
    )


def _fewest(n: int) -> str:
    return f"Days with outcomes: {FEWEST_DAYS} are needed at least, {n} are there."


def _signed(value: float) -> str:
    return f"{abs(value):.4f} {'lower' if value < 0 else 'higher'}"


def _range(found: Interval) -> str:
    if not math.isfinite(found.low):
        return "anything"
    return f"{_signed(found.low)} or {_signed(found.high)}"


def _ahead(test: ABTest, values: np.ndarray, alpha: float) -> str:
    """How many more days it would take if they were like those before, and what the days that are left can show."""
    n, spread = len(values), float(values.std(ddof=1))
    counted = effective_days(values) / n
    needed = next(
        (days for days in range(n + 1, _LONGEST) if _bound(days, counted, spread, alpha) < abs(values.mean())), None
    )
    end = n + test.days_left
    seen = _bound(end, counted, spread, alpha)
    told = (
        f"If it goes on like this, {needed - n} more days show a difference"
        if needed
        else "Differences as small as this are not shown within a year"
    )
    shown = (
        f"the {test.days_left} days that are left show one of {seen:.4f} or more"
        if test.days_left > 0
        else "the test is over"
    )
    more = f"; a share closer to 50 % than {test.share} % would need fewer days" if test.share != 50 else ""
    return f"{told}; {shown}{more}."


def _bound(days: int, counted: float, spread: float, alpha: float) -> float:
    """How far the bounds of a mean of so many days will be from it."""
    effective = days * counted
    return reach(effective, alpha) * spread / math.sqrt(effective)
