"""Which days are held out, told in New York's days whatever the time zone of as_of."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from flight_delays.core.errors import UserError
from flight_delays.core.splits import Holdout, last_whole_days, midnight

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
    assert last_whole_days(as_of, 7, zone=NEW_YORK, maturity=maturity) == Holdout(
        first=end - timedelta(days=7), end=end
    )


def test_the_same_instant_told_in_another_time_zone_gives_the_same_days() -> None:
    utc = datetime(2013, 6, 1, 23, tzinfo=UTC)
    tokyo = utc.astimezone(ZoneInfo("Asia/Tokyo"))
    kept = {"zone": NEW_YORK, "maturity": timedelta(hours=18)}
    assert last_whole_days(utc, 3, **kept) == last_whole_days(tokyo, 3, **kept)


@pytest.mark.parametrize("days", [0, -1])
def test_a_holdout_of_no_days_is_refused(days: int) -> None:
    with pytest.raises(UserError, match=f"a holdout of {days} days holds nothing; set holdout_days"):
        last_whole_days(datetime(2013, 6, 1, tzinfo=UTC), days, zone=NEW_YORK, maturity=timedelta(0))


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
    assert midnight(day, NEW_YORK) == datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
