"""How a service did under load, and whether that is good enough."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from flight_delays.core.settings import Limits


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Requests that were sent within `seconds`: the latency of each that was answered with 200, else its reason.

    An error adds neither to the latencies nor to the requests per second: a refusal is quick.
    """

    seconds: float
    latencies_ms: Sequence[float]
    reasons: Counter[str]

    @property
    def errors(self) -> int:
        """Requests that were not answered with 200."""
        return self.reasons.total()

    @property
    def requests(self) -> int:
        """All that were sent."""
        return len(self.latencies_ms) + self.errors

    @property
    def requests_per_second(self) -> float:
        """Without errors."""
        return len(self.latencies_ms) / self.seconds

    @property
    def why(self) -> str:
        """Each reason and how often it came, the most frequent first."""
        return ", ".join(f"{count:,} x {reason}" for reason, count in self.reasons.most_common())

    def percentile_ms(self, percent: float) -> float:
        """By nearest rank: the lowest latency that was kept in `percent` % of all answers; NaN if there is none."""
        if not len(self.latencies_ms):
            return nan
        return float(np.percentile(self.latencies_ms, percent, method="inverted_cdf"))


def broken(measured: Measured, limits: Limits) -> list[str]:
    """A line for each limit that was not kept. What was not measured is not healthy."""
    if not len(measured.latencies_ms):
        return [f"none of {measured.requests:,} requests was answered"]
    p99, rate, errors = measured.percentile_ms(99), measured.requests_per_second, measured.errors / measured.requests
    kept = {
        f"p99 is {p99:,.1f} ms, above {limits.max_p99_ms:g}": p99 <= limits.max_p99_ms,
        f"{errors:.2%} of requests failed, more than {limits.max_error_rate:.2%}": errors <= limits.max_error_rate,
        f"{rate:,.1f} requests/s, below {limits.min_requests_per_second:g}": rate >= limits.min_requests_per_second,
    }
    return [line for line, holds in kept.items() if not holds]
