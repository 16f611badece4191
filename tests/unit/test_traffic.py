"""What a release may set, and how requests fall on versions."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.traffic import Configuration, Served, choose, in_words


def served(name: str, version: int, percentage: int) -> Served:
    return Served(name=name, model_name="dev.flights.delay", model_version=version, percentage=percentage)


@pytest.mark.parametrize("share", [0, 1, 50, 99, 100])
def test_champion_and_challenger_share_the_traffic(share: int) -> None:
    both = (served("champion", 3, 100 - share), served("challenger", 4, share))
    assert Configuration(both) == both


def test_a_champion_may_have_all_of_it() -> None:
    assert Configuration([served("champion", 3, 100)]) == (served("champion", 3, 100),)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "the traffic does not sum to 100 %: nothing"),
        ([("champion", 3, 99)], "the traffic does not sum to 100 %: champion version 3 at 99 %"),
        (
            [("champion", 3, 100), ("challenger", 4, 1)],
            "the traffic does not sum to 100 %: champion version 3 at 100 %, challenger version 4 at 1 %",
        ),
        ([("champion", 3, 101)], "champion has 101 % of the traffic; give a whole number, 0 to 100"),
        (
            [("champion", 3, 101), ("challenger", 4, -1)],
            "champion has 101 % of the traffic; give a whole number, 0 to 100",
        ),
        (
            [("champion", 3, 100), ("challenger", 4, -1)],
            "challenger has -1 % of the traffic; give a whole number, 0 to 100",
        ),
        ([("champion", 3, 100.0)], "champion has 100.0 % of the traffic; give a whole number, 0 to 100"),
        ([("champion", 3, math.nan)], "champion has nan % of the traffic; give a whole number, 0 to 100"),
        ([("champion", 0, 100)], "champion has version 0; versions count from 1"),
        ([("shadow", 3, 100)], "'shadow' is served under no known name; there are champion and challenger"),
        (
            [("champion", 3, 50), ("champion", 4, 50)],
            "two versions are served under one name: champion version 3 at 50 %, champion version 4 at 50 %",
        ),
    ],
)
def test_what_no_release_may_set_is_refused_in_one_line(wrong: list[tuple[str, int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Configuration(served(*each) for each in wrong)
    assert str(error.value) == message


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
