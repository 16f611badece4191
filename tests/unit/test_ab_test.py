"""A/B tests: who gets which version, which days count, and what is concluded in a sentence."""

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.ab_test import ABTest, Arm, Day, conclude, differences, gets_challenger
from flight_delays.core.quality import confidence_sequence
from flight_delays.core.rollout import Finding, Signal

FIRST = date(2013, 7, 1)
TEST = ABTest(model_name="delay", champion=2, challenger=3, loss="log loss", share=20, days_left=10)
AS_CONFIGURED = Finding(name="sample_ratio", signal=Signal.GOOD, reason="the challenger got 20 of 100 requests")
NOISE = [0.01, -0.01, 0.02, -0.02, 0.0]


def around(mean: float, days: int) -> list[float]:
    """Daily differences with exactly this mean, if days are a multiple of five."""
    return [mean + noise for noise in (NOISE * days)[:days]]


def arm(rows: int = 100, labelled: int = 100, loss: float | None = 0.5) -> Arm:
    return Arm(rows=rows, labelled=labelled, loss=loss)


@given(st.text(max_size=20))
def test_an_entity_stays_with_its_version_and_a_larger_share_takes_none_back(entity: str) -> None:
    got = [gets_challenger(entity, share) for share in (0, 1, 5, 20, 50, 99, 100)]
    assert got == sorted(got)
    assert not got[0]
    assert got[-1]
    assert got == [gets_challenger(entity, share) for share in (0, 1, 5, 20, 50, 99, 100)]


@pytest.mark.parametrize("share", [1, 20, 50])
def test_the_challenger_gets_its_share_of_the_entities_and_another_test_draws_others(share: int) -> None:
    entities = [f"UA-{number}" for number in range(20_000)]
    one, other = ([gets_challenger(entity, share, salt) for entity in entities] for salt in ("one", "other"))
    spread = math.sqrt(share * (100 - share) / len(entities))  # percentage points
    assert np.mean(one) * 100 == pytest.approx(share, abs=4 * spread)
    both = np.mean([a and b for a, b in zip(one, other, strict=True)]) * 10_000
    assert both == pytest.approx(share**2, rel=0.5)


@pytest.mark.parametrize("share", [-1, 101])
def test_a_share_that_is_no_percentage_is_refused(share: int) -> None:
    with pytest.raises(ValueError, match="give a percentage, 0 to 100"):
        gets_challenger("UA-1", share)


def test_days_count_in_their_order_where_enough_rows_of_both_versions_have_a_label() -> None:
    days = [
        Day(day=FIRST + timedelta(days=3), champion=arm(loss=0.5), challenger=arm(loss=0.7)),
        Day(day=FIRST, champion=arm(loss=0.5), challenger=arm(labelled=90, loss=0.6)),
        Day(day=FIRST + timedelta(days=1), champion=arm(), challenger=arm(labelled=89, loss=9.0)),
        Day(day=FIRST + timedelta(days=2), champion=arm(labelled=89), challenger=arm(loss=9.0)),
        Day(day=FIRST + timedelta(days=4), champion=arm(), challenger=arm(rows=0, labelled=0, loss=None)),
        Day(day=FIRST + timedelta(days=5), champion=arm(rows=0, labelled=0, loss=None), challenger=arm()),
    ]
    assert differences(days, 0.9) == pytest.approx([0.1, 0.2])


def test_a_better_version_is_called_better_with_bounds_that_have_no_sign_to_be_misread() -> None:
    found = conclude(TEST, around(-0.03, 30), 0.95, AS_CONFIGURED)
    bounds = confidence_sequence(np.array(around(-0.03, 30)), alpha_low=0.025, alpha_high=0.025)
    assert found.signal is Signal.GOOD
    assert found.sentence == (
        f"Version 3 is better than version 2: its log loss is 0.0300 lower (between {-bounds.high:.4f} and "
        f"{-bounds.low:.4f}), on 30 days."
    )
    assert found.changes.startswith("More days make the amount more exact; that it is lower would change only if")


def test_a_worse_version_is_called_worse() -> None:
    found = conclude(TEST, around(0.03, 30), 0.95, AS_CONFIGURED)
    assert found.signal is Signal.WORSE
    assert found.sentence.startswith("Version 3 is worse than version 2: its log loss is 0.0300 higher (between 0.0")


def test_without_a_difference_it_says_what_may_be_and_how_many_days_would_show_one() -> None:
    found = conclude(TEST, around(0.005, 10), 0.95, AS_CONFIGURED)
    assert found.signal is Signal.UNKNOWN
    assert found.sentence.startswith("No difference is shown between version 3 and version 2 after 10 days: its log")
    assert "0.0050 higher so far, and may as well be 0.0" in found.sentence
    assert "lower or 0.0" in found.sentence
    needed = int(found.changes.split("If it goes on like this, ")[1].split()[0])
    later, sooner = (conclude(TEST, around(0.005, 10 + days), 0.95, AS_CONFIGURED) for days in (needed, needed - 10))
    assert sooner.signal is Signal.UNKNOWN
    assert later.signal is Signal.WORSE
    assert "the 10 days that are left show one of 0.0" in found.changes
    assert found.changes.endswith("; a share closer to 50 % than 20 % would need fewer days.")


@pytest.mark.parametrize(
    ("test", "what"),
    [
        (
            ABTest(model_name="delay", champion=2, challenger=3, loss="log loss", share=50, days_left=0),
            "; the test is over.",
        ),
        (TEST, "; the 10 days that are left show one of "),
    ],
    ids=["over, and even", "under way"],
)
def test_what_is_no_longer_to_be_had_is_not_promised(test: ABTest, what: str) -> None:
    found = conclude(test, around(0.0, 30), 0.95, AS_CONFIGURED)
    assert found.changes.startswith("Differences as small as this are not shown within a year; ")
    assert what in found.changes


@pytest.mark.parametrize(("days", "signal"), [(6, Signal.UNKNOWN), (7, Signal.WORSE)])
def test_a_week_of_days_is_needed_however_clear_they_are(days: int, signal: Signal) -> None:
    found = conclude(
        TEST,
        [0.5 + 0.001 * at for at in range(days)][::-1] if days < 7 else [0.5, 0.501, 0.499, 0.5, 0.502, 0.498, 0.5],
        0.95,
        AS_CONFIGURED,
    )
    assert found.signal is signal
    if signal is Signal.UNKNOWN:
        assert found.changes == "Days with outcomes: 7 are needed at least, 6 are there."


@pytest.mark.parametrize("values", [[], [0.1]])
def test_nothing_is_known_of_a_day_or_none(values: list[float]) -> None:
    found = conclude(TEST, values, 0.95, AS_CONFIGURED)
    assert found.signal is Signal.UNKNOWN
    assert found.sentence == f"Nothing is known yet of version 3 beside version 2: {len(values)} days have outcomes."


def test_nothing_is_concluded_from_a_split_that_is_not_as_configured() -> None:
    strays = Finding(
        name="sample_ratio", signal=Signal.INVALID, reason="the challenger got 40 of 100 requests, 20 expected"
    )
    found = conclude(TEST, around(-0.03, 30), 0.95, strays)
    assert found.signal is Signal.INVALID
    assert found.sentence == "No conclusion can be trusted: the challenger got 40 of 100 requests, 20 expected."


def test_two_versions_that_are_the_same_are_called_different_in_few_tests_however_often_one_looks() -> None:
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(100):
        values = rng.normal(size=40)
        looks = (conclude(TEST, values[:n], 0.95, AS_CONFIGURED).signal for n in range(7, 41))
        wrong += any(signal is not Signal.UNKNOWN for signal in looks)
    assert wrong <= 5
