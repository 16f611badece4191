"""Counts of requests, put together for the clocks of a rollout."""

from datetime import UTC, datetime

import pytest

from flight_delays.core.clocks import Answered, Split
from flight_delays.platform.served_requests import Group, Measured, Period, measured

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PERIODS = [
    Period(begin=NOON, end=NOON.replace(hour=13), percentage=5),
    Period(begin=NOON.replace(hour=13), end=NOON.replace(hour=14), percentage=25),
]


def test_each_group_counts_where_it_belongs() -> None:
    rows = [
        (0, 1, False, 10, 90),
        (1, 1, False, 10, 70),  # the same latency in another period
        (1, 1, False, None, 2),  # the caller's fault
        (0, 2, False, 20, 5),
        (1, 2, True, None, 3),
        (1, 3, False, 10, 4),  # of another version
        (1, None, True, None, 1),  # of nobody known
    ]
    groups = [Group(period=p, version=v, failed=f, ms=ms, requests=n) for p, v, f, ms, n in rows]
    assert measured(iter(groups), PERIODS, champion=1, challenger=2, newest=NOON) == Measured(
        champion=Answered(requests=162, errors=0, latencies_ms={10: 160}),
        challenger=Answered(requests=8, errors=3, latencies_ms={20: 5}),
        splits=(Split(percentage=5, challenger=5, all=95), Split(percentage=25, challenger=3, all=80)),
        others=5,
        newest=NOON,
    )


def test_nothing_served_is_no_request_of_anybody() -> None:
    found = measured([], PERIODS[:1], champion=1, challenger=2, newest=None)
    nothing = Answered(requests=0, errors=0, latencies_ms={})
    assert (found.champion, found.challenger, found.newest) == (nothing, nothing, None)
    assert found.splits == (Split(percentage=5, challenger=0, all=0),)


@pytest.mark.parametrize("ends", ["begin", "end"])
def test_a_period_has_a_zone(ends: str) -> None:
    with pytest.raises(ValueError, match="times with a zone"):
        Period(**{"begin": NOON, "end": NOON, ends: NOON.replace(tzinfo=None)}, percentage=5)
