"""Requests that callers have sent already, sent once more to a version that serves nobody yet."""

import json
from collections import Counter
from collections.abc import Sequence

from flight_delays.core.clocks import Answered
from flight_delays.core.scoring_request import REQUEST_ID
from flight_delays.platform.load_generator import WAKE_S, drive
from flight_delays.platform.served_requests import REPLAYED
from flight_delays.platform.serving_platform import ServingPlatform

_CONNECTIONS = 2


def replay(platform: ServingPlatform, endpoint: str, served: str, requests: Sequence[str]) -> Answered:
    """How the version of that `served` name answers each of the requests, JSON objects; any status but 200 is an error.

    Asked by its name, so also one that gets 0 % of the requests:
    https://docs.databricks.com/machine-learning/model-serving/serve-multiple-models-to-serving-endpoint
    """
    url, headers = platform.address(endpoint, served)
    bodies = [json.dumps({**json.loads(request), REQUEST_ID: REPLAYED}).encode() for request in requests]
    if bodies:
        drive(url, headers, bodies[:1], 1, 0, timeout_s=WAKE_S)
    found = drive(url, headers, bodies, _CONNECTIONS, 0, once=True)
    latencies = Counter(float(round(latency)) for latency in found.latencies_ms)
    return Answered(requests=found.requests, errors=found.errors, latencies_ms=latencies)
