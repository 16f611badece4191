"""What the clocks of a rollout find of a challenger while it serves beside the champion.

Each takes counts or forecasts and gives findings for core/rollout.py. The same evidence is looked at again and again,
so what is called WORSE is shown at `rollout_confidence` at each look.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from flight_delays.core.metrics import Floats
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import RolloutPolicy

_MIN_VALUES = 100  # for the normal approximation of a binomial: five of them lie beyond p95


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What one version answered in this stage.

    Requests, those that failed by its fault, and latency in ms to how many took it.
    """

    requests: int
    errors: int
    latencies_ms: Mapping[float, int]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Requests while the split stayed the same: the challenger's configured share in %, and those it got of all."""

    percentage: int
    challenger: int
    all: int


def operations(champion: Answered, challenger: Answered, policy: RolloutPolicy) -> list[Finding]:
    """Errors and latency, of callers' requests or of those that were replayed."""
    return [
        enough_requests(champion, challenger, policy),
        errors(champion, challenger, policy),
        latency(champion, challenger, policy),
    ]


def enough_requests(champion: Answered, challenger: Answered, policy: RolloutPolicy) -> Finding:
    """UNKNOWN until both versions answered enough requests."""
    fewest = min(champion.requests, challenger.requests)
    return Finding(
        name="enough_requests",
        signal=Signal.GOOD if fewest >= policy.rollout_min_requests else Signal.UNKNOWN,
        reason=f"the champion answered {champion.requests:,} requests and the challenger {challenger.requests:,}, at "
        f"least {policy.rollout_min_requests:,} each needed",
    )


def errors(champion: Answered, challenger: Answered, policy: RolloutPolicy) -> Finding:
    """WORSE if the error rate is shown to exceed the champion's by more than allowed, GOOD if it does not exceed it so.

    The bound on the difference of two shares is Newcombe's from two Wilson intervals (1998, Statistics in Medicine 17,
    method 10).
    """
    if not champion.requests or not challenger.requests:
        return _unmeasured("errors", champion, challenger)
    z = NormalDist().inv_cdf(policy.rollout_confidence)
    p, q = challenger.errors / challenger.requests, champion.errors / champion.requests
    low, _ = _wilson(challenger.errors, challenger.requests, z)
    _, high = _wilson(champion.errors, champion.requests, z)
    at_least = p - q - math.hypot(p - low, high - q)
    limit = policy.max_error_rate_increase
    return _compared(
        "errors",
        f"{p:.2%} of the challenger's requests fail and {q:.2%} of the champion's, at most {limit:.2%} more allowed",
        worse=at_least > limit,
        good=p - q <= limit,
    )


def latency(champion: Answered, challenger: Answered, policy: RolloutPolicy) -> Finding:
    """WORSE if p95 is shown to exceed the champion's by more than allowed, GOOD if it does not exceed it so.

    Bounds of a quantile are order statistics (David and Nagaraja 2003, Order Statistics, 7.1).
    """
    if not champion.latencies_ms or not challenger.latencies_ms:
        return _unmeasured("latency", champion, challenger)
    p, q = _p95(challenger.latencies_ms, policy), _p95(champion.latencies_ms, policy)
    limit = policy.max_p95_increase_ms
    return _compared(
        "latency",
        f"p95 is {p[1]:.0f} ms, the champion's {q[1]:.0f} ms, at most {limit:g} ms more allowed",
        worse=p[0] - q[2] > limit,
        good=p[1] - q[1] <= limit,
    )


def sample_ratio(splits: Sequence[Split], policy: RolloutPolicy) -> Finding:
    """INVALID if the challenger's share of the requests can't be chance: some are lost, or counted for another version.

    Score test over all periods of the stage together (Fabijan et al. 2019, sample ratio mismatch, KDD).
    """
    expected = sum(each.all * each.percentage / 100 for each in splits)
    variance = sum(each.all * each.percentage * (100 - each.percentage) / 10_000 for each in splits)
    got, total = sum(each.challenger for each in splits), sum(each.all for each in splits)
    if not variance:
        strays = got != expected
        return Finding(
            name="sample_ratio",
            signal=Signal.INVALID if strays else Signal.GOOD if total else Signal.UNKNOWN,
            reason=f"the challenger got {got:,} of {total:,} requests, {expected:,.0f} expected",
        )
    # Half a request closer, as counts are whole (Yates).
    z = max(abs(got - expected) - 0.5, 0) / math.sqrt(variance)
    p = 2 * NormalDist().cdf(-z)
    return Finding(
        name="sample_ratio",
        signal=Signal.INVALID if p < policy.sample_ratio_p else Signal.GOOD,
        reason=f"the challenger got {got:,} of {total:,} requests, {expected:,.0f} expected (p = {p:.2g})",
    )


def agreement(
    entities: npt.NDArray[np.str_],
    champion: Floats,
    challenger: Floats,
    decisions: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None,
    policy: RolloutPolicy,
) -> list[Finding]:
    """How far the two versions' forecasts for the same requests are apart, and the entities that move most.

    One value per request in each array; `decisions` are the champion's and the challenger's, None for a regression.
    A figure is WORSE if requests like these are shown to be beyond its bound, GOOD if it does not exceed it: the mean
    by the normal approximation, shares by Wilson's interval, distributions by the inequality of Dvoretzky, Kiefer and
    Wolfowitz (Massart 1990) for each. A forecast that is not a number is WORSE.
    """
    rows = len(entities)
    if rows < policy.rollout_min_requests:
        reason = f"{rows:,} requests were scored by both versions, at least {policy.rollout_min_requests:,} needed"
        return [Finding(name="agreement", signal=Signal.UNKNOWN, reason=reason)]
    moved, z = challenger - champion, NormalDist().inv_cdf(policy.rollout_confidence)
    ordered = np.argsort(-np.abs(moved), kind="stable")
    furthest = ordered[np.sort(np.unique(entities[ordered], return_index=True)[1])[:3]]  # each entity once
    most = ", ".join(f"{entities[at]} {champion[at]:.3g} to {challenger[at]:.3g}" for at in furthest)
    shift, distance = abs(float(moved.mean())), _distance(champion, challenger)
    of_shift = z * float(moved.std()) / math.sqrt(rows)
    of_distance = 2 * math.sqrt(math.log(4 / (1 - policy.rollout_confidence)) / (2 * rows))
    bounded = [
        ("mean_shift", f"mean forecasts are {shift:.4f} apart", shift, shift - of_shift, policy.max_mean_shift),
        ("distance", f"the forecasts' distributions are {distance:.4f} apart", distance, distance - of_distance,
         policy.max_distance),
    ]  # fmt: skip
    if decisions is not None:
        differ = int((decisions[0] != decisions[1]).sum())
        share, at_least = differ / rows, _wilson(differ, rows, z)[0]
        bounded.append(("changed", f"{share:.2%} of the decisions differ", share, at_least, policy.max_changed_share))
    return [
        _compared(name, f"{what}, at most {limit:g} allowed, on {rows:,} requests; furthest: {most}",
                  worse=not at_least <= limit, good=value <= limit)
        for name, what, value, at_least, limit in bounded
    ]  # fmt: skip


def _compared(name: str, reason: str, *, worse: bool, good: bool) -> Finding:
    signal = Signal.WORSE if worse else Signal.GOOD if good else Signal.UNKNOWN
    return Finding(name=name, signal=signal, reason=reason)


def _unmeasured(name: str, champion: Answered, challenger: Answered) -> Finding:
    who = " and ".join(
        who for who, served in (("the champion", champion), ("the challenger", challenger)) if not served.requests
    )
    return Finding(name=name, signal=Signal.UNKNOWN, reason=f"no request of {who or 'either version'} was timed")


def _wilson(count: int, total: int, z: float) -> tuple[float, float]:
    share, z2 = count / total, z * z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return middle - reach, middle + reach


def _p95(latencies_ms: Mapping[float, int], policy: RolloutPolicy) -> tuple[float, float, float]:
    """Lower bound, estimate and upper bound; a bound is infinite where too few values are beyond it."""
    values = sorted(latencies_ms)
    up_to = list(accumulate(latencies_ms[value] for value in values))

    def at(rank: float) -> float:  # the value that this many are at most
        return values[bisect_left(up_to, rank)]

    n, z = up_to[-1], NormalDist().inv_cdf(policy.rollout_confidence)
    reach = z * math.sqrt(n * 0.95 * 0.05)
    low = at(math.floor(n * 0.95 - reach) + 1) if n >= _MIN_VALUES else -math.inf
    high = at(last) if (last := math.ceil(n * 0.95 + reach) + 1) <= n else math.inf
    return low, at(math.ceil(n * 0.95)), high


def _distance(first: Floats, second: Floats) -> float:
    """Kolmogorov-Smirnov: the largest difference between the two distribution functions."""
    points = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())
