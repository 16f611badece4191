"""Which versions served recently, and whether what serves is as it was decided."""

from datetime import UTC, date, datetime, timedelta

import pytest

from flight_delays.core.releases import Promotion, disagreements, served_recently, why_not_compared
from flight_delays.core.splits import Holdout
from flight_delays.core.traffic import Served

NOW = datetime(2013, 12, 1, tzinfo=UTC)
LIMIT = timedelta(days=90)
SECOND = timedelta(seconds=1)


def promotions(*found: tuple[int, timedelta]) -> list[Promotion]:
    """Versions and how long ago each was promoted, in the order of their recording."""
    return [Promotion(version=version, as_of=NOW - ago) for version, ago in found]


@pytest.mark.parametrize(
    ("found", "versions"),
    [
        ([], ()),
        ([(1, 4 * LIMIT)], (1,)),  # it still serves
        ([(1, 4 * LIMIT), (2, LIMIT + SECOND)], (2,)),  # version 1 ended before the limit,
        ([(1, 4 * LIMIT), (2, LIMIT)], (2,)),  # exactly at it,
        ([(1, 4 * LIMIT), (2, LIMIT - SECOND)], (1, 2)),  # and after it
        ([(1, 4 * LIMIT), (2, 3 * LIMIT), (3, LIMIT / 2)], (2, 3)),
        ([(1, 4 * LIMIT), (2, 3 * LIMIT), (1, 2 * LIMIT), (3, LIMIT / 2)], (1, 3)),  # version 1 served twice,
        ([(1, 4 * LIMIT), (2, LIMIT / 2), (1, LIMIT / 3), (3, LIMIT / 4)], (1, 2, 3)),  # and is named once
        ([(1, 4 * LIMIT), (1, LIMIT / 2), (2, LIMIT / 3)], (1, 2)),
        ([(2, LIMIT / 2), (1, 4 * LIMIT)], (1, 2)),  # recorded late
        ([(1, 4 * LIMIT), (2, 0 * LIMIT)], (1, 2)),  # promoted now
        ([(1, 4 * LIMIT), (2, -SECOND)], (1,)),  # not known yet
        ([(1, 0 * LIMIT), (2, 0 * LIMIT), (3, 0 * LIMIT)], (1, 2, 3)),  # all as of the same time
    ],
)
def test_a_version_served_recently_if_another_took_its_place_after_the_limit_or_none_did(
    found: list[tuple[int, timedelta]], versions: tuple[int, ...]
) -> None:
    assert served_recently(promotions(*found), as_of=NOW, days=90) == versions


@pytest.mark.parametrize(("apart_from", "versions"), [((), (1, 2, 3)), ((3, 2), (1,)), ((7,), (1, 2, 3))])
def test_versions_that_are_compared_elsewhere_are_left_out(
    apart_from: tuple[int, ...], versions: tuple[int, ...]
) -> None:
    found = promotions((1, 4 * LIMIT), (2, LIMIT / 2), (3, LIMIT / 3))
    assert served_recently(found, as_of=NOW, days=90, apart_from=apart_from) == versions


@pytest.mark.parametrize(("days", "versions"), [(0, ()), (1, (2,)), (2, (1, 2))])
def test_a_longer_time_reaches_further_back_and_none_finds_nothing(days: int, versions: tuple[int, ...]) -> None:
    found = promotions((1, 4 * LIMIT), (2, timedelta(days=1)))
    assert served_recently(found, as_of=NOW, days=days) == versions


@pytest.mark.parametrize(
    ("champion", "shares", "alias", "served", "found"),
    [
        (None, {}, None, [], []),
        (2, {2: 100}, 2, [(2, 100)], []),
        (2, {2: 100, 3: 0}, 2, [(2, 100), (3, 0)], []),  # in shadow
        (2, {2: 75, 3: 25}, 2, [(3, 25), (2, 75)], []),
        (2, {2: 100}, None, [(2, 100)], ["alias champion points at no version, and version 2 was decided"]),
        (None, {}, 1, [], ["alias champion points at version 1, and no version was decided"]),
        (2, {2: 100}, 1, [(2, 100)], ["alias champion points at version 1, and version 2 was decided"]),
        (2, {2: 100}, 2, [], ["the endpoint serves nothing, and version 2 at 100 % was decided"]),
        (2, {2: 100}, 2, [(1, 100)], ["the endpoint serves v1 version 1 at 100 %, and version 2 at 100 % was decided"]),
        (
            2,
            {2: 99, 3: 1},
            2,
            [(2, 100)],
            ["the endpoint serves v2 version 2 at 100 %, and version 2 at 99 %, version 3 at 1 % was decided"],
        ),
        (
            2,
            {2: 100},
            2,
            [(2, 100), (3, 0)],
            ["the endpoint serves v2 version 2 at 100 %, v3 version 3 at 0 %, and version 2 at 100 % was decided"],
        ),
        (None, {}, None, [(1, 100)], ["the endpoint serves v1 version 1 at 100 %, and nothing was decided"]),
    ],
)
def test_what_is_not_as_it_was_decided_is_named(
    champion: int | None, shares: dict[int, int], alias: int | None, served: list[tuple[int, int]], found: list[str]
) -> None:
    aliases = {} if alias is None else {"champion": alias}
    live = [
        Served(name=f"v{number}", model_name="m", model_version=number, percentage=share) for number, share in served
    ]
    assert disagreements(champion, shares, aliases, live) == found


@pytest.mark.parametrize(
    ("until", "takes", "why"),
    [
        (date(2013, 9, 30), "origin", None),
        (date(2013, 10, 1), "origin", None),  # the first day of the holdout is the first that it has not seen
        (date(2013, 10, 2), "origin", "has seen the days before 2013-10-02"),
        (date(2014, 1, 1), "origin", "has seen the days before 2014-01-01"),
        (date(2013, 10, 1), "", None),
        (date(2013, 10, 1), "origin dest", None),
        (date(2013, 10, 1), "wind origin gust", "takes columns that are gone: gust, wind"),
        (date(2013, 10, 2), "wind", "has seen the days before 2013-10-02"),
    ],
)
def test_a_version_can_be_compared_on_days_that_it_has_not_seen_with_the_columns_that_it_takes(
    until: date, takes: str, why: str | None
) -> None:
    holdout = Holdout(first=date(2013, 10, 1), end=date(2013, 12, 1))
    found = why_not_compared(
        holdout=holdout, trained_until=until, takes=takes.split(), columns=["origin", "dest", "day"]
    )
    assert found == why
