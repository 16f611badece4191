"""Which days are held out, told in New York's days whatever the time zone of as_of."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.errors import UserError
from flight_delays.core.splits import Fold, Holdout, expanding_folds, split_at
from flight_delays.use_case import USE_CASE

NEW_YORK = ZoneInfo("America/New_York")
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("day_ended", "day"),
    [
        ("2013-06-02T04:00:00+00:00", date(2013, 6, 1)),  # summer time
        ("2013-12-02T05:00:00+00:00", date(2013, 12, 1)),  # winter time
        ("2013-03-11T04:00:00+00:00", date(2013, 3, 10)),  # a day of 23 hours
        ("2013-11-04T05:00:00+00:00", date(2013, 11, 3)),  # a day of 25 hours
    ],
)
@pytest.mark.parametrize("maturity", [timedelta(0), timedelta(hours=18)])
@pytest.mark.parametrize("late", [-SECOND, timedelta(0), SECOND])
def test_a_day_counts_from_the_second_on_at_which_it_ended_long_enough_ago(
    day_ended: str, day: date, maturity: timedelta, late: timedelta
) -> None:
    as_of = datetime.fromisoformat(day_ended) + maturity + late
    last = day if late >= timedelta(0) else day - timedelta(days=1)
    end = last + timedelta(days=1)
    assert replace(USE_CASE, zone=NEW_YORK, maturity=maturity).holdout(as_of, 7) == Holdout(
        first=end - timedelta(days=7), end=end
    )


def test_the_same_instant_told_in_another_time_zone_gives_the_same_days() -> None:
    utc = datetime(2013, 6, 1, 23, tzinfo=UTC)
    tokyo = utc.astimezone(ZoneInfo("Asia/Tokyo"))
    assert USE_CASE.holdout(utc, 3) == USE_CASE.holdout(tokyo, 3)


@pytest.mark.parametrize(
    ("trained_until", "first", "days"),
    [
        ([], 10, 10),
        ([9], 10, 10),
        ([10], 10, 10),
        ([11], 11, 9),
        ([12, 11], 12, 8),
        ([9, 15], 15, 5),
        ([20], 20, 0),
        ([25], 20, 0),
    ],
)
def test_days_that_any_model_was_trained_on_are_not_used(trained_until: list[int], first: int, days: int) -> None:
    holdout = Holdout(first=date(2013, 6, 10), end=date(2013, 6, 20))
    unseen = holdout.unseen_by(*(date(2013, 6, day) for day in trained_until))
    assert (unseen, unseen.days) == (Holdout(first=date(2013, 6, first), end=date(2013, 6, 20)), days)


def test_a_holdout_that_ends_before_it_begins_has_no_days() -> None:
    assert Holdout(first=date(2013, 6, 2), end=date(2013, 6, 1)).days == 0


@pytest.mark.parametrize(("day", "hour"), [(date(2013, 7, 1), 4), (date(2013, 3, 10), 5), (date(2013, 3, 11), 4)])
def test_a_day_begins_at_local_midnight(day: date, hour: int) -> None:
    midnight = pd.Timestamp(day) + pd.Timedelta(hours=hour)
    rows = pd.DataFrame({"day": [day - timedelta(days=1)] * 2, "label_known_at": [midnight, midnight + SECOND]})
    assert split_at(rows, day, NEW_YORK).training.index.tolist() == [0]


@pytest.mark.parametrize(
    ("day", "known_at", "learns", "judges"),
    [
        ("2013-06-30", "2013-06-30 23:00", True, False),
        ("2013-06-30", "2013-07-01 04:00", True, False),  # at midnight in New York
        ("2013-06-30", "2013-07-01 04:00:01", False, False),  # later: it could not have been learnt from
        ("2013-07-01", "2013-07-01 23:00", False, True),
        ("2013-07-01", "2013-07-01 04:00", False, True),
        ("2013-07-20", "2013-07-21 04:00", False, True),
    ],
)
def test_rows_before_the_split_whose_outcome_was_known_by_then_are_learnt_from_and_later_ones_judge(
    day: str, known_at: str, learns: bool, judges: bool
) -> None:
    rows = pd.DataFrame({"day": [date.fromisoformat(day)], "label_known_at": [pd.Timestamp(known_at)]})
    found = split_at(rows, date(2013, 7, 1), NEW_YORK)
    assert (len(found.training), len(found.test), found.trained_until) == (learns, judges, date(2013, 7, 1))


JUNE = date(2013, 6, 1)


def june(day: int) -> date:
    return JUNE + timedelta(days=day - 1)


@pytest.mark.parametrize(
    ("days", "gap", "windows"),
    [
        (5, 0, [(11, 11, 16), (16, 16, 21), (21, 21, 26)]),
        (5, 2, [(9, 11, 16), (14, 16, 21), (19, 21, 26)]),
        (6, 0, [(8, 8, 14), (14, 14, 20), (20, 20, 26)]),  # the first learns from seven days
        (6, 1, [(7, 8, 14), (13, 14, 20), (19, 20, 26)]),  # the first learns from as many days as it is judged by
        (6, 2, [(9, 11, 16), (14, 16, 21), (19, 21, 26)]),  # from fewer: the windows shrink
        (99, 1, [(7, 8, 14), (13, 14, 20), (19, 20, 26)]),
    ],
)
def test_each_window_is_judged_by_a_model_of_all_days_that_end_a_gap_before_it(
    days: int, gap: int, windows: list[tuple[int, int, int]]
) -> None:
    found = expanding_folds(JUNE, june(26), folds=3, days=days, gap=gap)
    assert found == tuple(Fold(train_end=june(a), first=june(b), end=june(c)) for a, b, c in windows)


@pytest.mark.parametrize(("available", "refused"), [(4, True), (5, False), (6, False), (0, True), (-1, True)])
def test_fewer_days_than_windows_of_one_day_need_are_refused(available: int, refused: bool) -> None:
    end = JUNE + timedelta(days=available)
    if not refused:
        assert expanding_folds(JUNE, end, folds=3, days=28, gap=1)[0].train_end > JUNE
        return
    with pytest.raises(UserError, match=rf"{max(available, 0)} days .* too few for 3 folds .* lower holdout_days"):
        expanding_folds(JUNE, end, folds=3, days=28, gap=1)


@given(st.integers(0, 400), st.integers(1, 6), st.integers(1, 60), st.integers(0, 10))
def test_folds_follow_one_another_up_to_the_end_and_learn_only_from_before_the_gap(
    available: int, folds: int, days: int, gap: int
) -> None:
    end = JUNE + timedelta(days=available)
    try:
        found = expanding_folds(JUNE, end, folds=folds, days=days, gap=gap)
    except UserError:
        assert available < folds + 1 + gap
        return
    assert len(found) == folds
    assert found[-1].end == end
    lengths = {fold.end - fold.first for fold in found}
    assert len(lengths) == 1
    assert timedelta(days=1) <= lengths.pop() <= timedelta(days=days)
    for fold in found:
        assert fold.first - fold.train_end == timedelta(days=gap)
        assert fold.train_end - JUNE >= fold.end - fold.first
    for one, two in pairwise(found):
        assert one.end == two.first
