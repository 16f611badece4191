"""What a release may set, and how requests fall on versions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.traffic import Served, choose, in_words


def served(name: str, version: int, percentage: int) -> Served:
    return Served(name=name, model_name="dev.flights.delay", model_version=version, percentage=percentage)


def test_what_is_served_is_told_in_words() -> None:
    both = (served("champion", 3, 90), served("challenger", 4, 10))
    assert in_words(both) == "champion version 3 at 90 %, challenger version 4 at 10 %"
    assert in_words(()) == "nothing"


@pytest.mark.parametrize(
    ("weights", "u", "index"),
    [
        ([100], 0.0, 0),
        ([100], math.nextafter(1, 0), 0),
        ([90, 10], math.nextafter(0.9, 0), 0),
        ([90, 10], 0.9, 1),
        ([0, 100], 0.0, 1),
        ([100, 0], math.nextafter(1, 0), 0),
        ([50, 0, 50], 0.5, 2),
    ],
)
def test_a_request_falls_on_the_version_whose_share_it_hits(weights: list[int], u: float, index: int) -> None:
    assert choose(weights, u) == index


@given(st.lists(st.integers(0, 100), min_size=1).filter(any), st.floats(0, 1, exclude_max=True))
def test_a_version_without_traffic_gets_no_request(weights: list[int], u: float) -> None:
    assert weights[choose(weights, u)] > 0


@given(st.integers(0, 100))
def test_of_evenly_spread_requests_each_version_gets_its_percentage(share: int) -> None:
    fell = [choose([100 - share, share], (position + 0.5) / 1_000) for position in range(1_000)]
    assert sum(fell) == share * 10


@pytest.mark.parametrize(("weights", "u"), [([], 0.5), ([0, 0], 0.0), ([100], 1.0), ([100], math.nan)])
def test_there_must_be_something_to_choose_from(weights: list[int], u: float) -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        choose(weights, u)
