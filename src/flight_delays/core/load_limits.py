"""How a service did under load, and whether that is good enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from flight_delays.core.settings import Limits


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Requests that were sent within `seconds`, and the latency of each that was answered as it should be.

    An error adds neither to the latencies nor to the requests per second: a refusal is quick.
    """

    requests: int
    errors: int
    seconds: float
    latencies_ms: Sequence[float]

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.errors < 0 or len(self.latencies_ms) != self.requests - self.errors:
            raise ValueError("seconds must be above 0 and each request either has a latency or is an error")

    @property
    def requests_per_second(self) -> float:
        """Without errors."""
        return len(self.latencies_ms) / self.seconds

    @property
    def error_rate(self) -> float:
        """From 0 to 1; NaN if nothing was sent."""
        return self.errors / self.requests if self.requests else nan

    def percentile_ms(self, percent: float) -> float:
        """By nearest rank: the lowest latency that was kept in `percent` % of all answers; NaN if there is none."""
        if not len(self.latencies_ms):
            return nan
        return float(np.percentile(self.latencies_ms, percent, method="inverted_cdf"))


def broken(measured: Measured, limits: Limits) -> list[str]:
    """A line for each limit that was not kept. What was not measured is not healthy."""
    if not len(measured.latencies_ms):
        return [f"none of {measured.requests:,} requests was answered"]
    p99, rate, errors = measured.percentile_ms(99), measured.requests_per_second, measured.error_rate
    kept = {
        f"p99 is {p99:,.1f} ms, above {limits.max_p99_ms:g}": p99 <= limits.max_p99_ms,
        f"{errors:.2%} of requests failed, more than {limits.max_error_rate:.2%}": errors <= limits.max_error_rate,
        f"{rate:,.1f} requests/s, below {limits.min_requests_per_second:g}": rate >= limits.min_requests_per_second,
    }
    return [line for line, holds in kept.items() if not holds]
