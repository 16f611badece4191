"""No feature knows the future. On a week of real flights, with a snow storm in its middle."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from tests.raw import KNOWN, MEASURED, Raw, changed, gone, other, raw_tables

from flight_delays.core.as_of import Question
from flight_delays.core.columns import Columns
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.features import FLIGHTS

T = datetime(2013, 2, 8, 18, tzinfo=UTC)
Build = Callable[[Raw], pd.DataFrame]


@pytest.fixture(scope="module")
def raw() -> Raw:
    """4 to 10 February 2013."""
    return raw_tables(datetime(2013, 2, 4, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC))


def built(raw: Raw) -> pd.DataFrame:
    return USE_CASE.features.build(raw["raw_flights"], raw).to_pandas()


def careless(raw: Raw) -> pd.DataFrame:
    """Counts a delay from the scheduled departure on, weather from the hour before it; knows the mean of the day."""

    def hasty(flights: Columns) -> Columns:
        return {time: np.where(np.isnat(flights[time]), flights[time], flights["sched_dep_ts"]) for time in KNOWN}

    def early(weather: Columns) -> Columns:
        return dict.fromkeys(("known_at", "observed_at"), weather["observed_at"] - np.timedelta64(1, "h"))

    flights = changed(raw["raw_flights"], hasty)
    weather = changed(raw["raw_weather"], early)
    features = replace(USE_CASE.features, questions=tuple(map(unchecked, USE_CASE.questions)))
    rows = features.build(flights, {**raw, "raw_flights": flights, "raw_weather": weather}).to_pandas()
    of_day = raw["raw_flights"]["arr_delay"].to_pandas().groupby(rows["day"])
    return rows.assign(delay_of_the_day=of_day.transform("mean"))


def unchecked(question: Question) -> Question:
    """A delay that is known before the flight has left would be refused."""
    facts = question.facts
    if facts.table is not FLIGHTS:
        return question
    return replace(question, facts=replace(facts, table=replace(FLIGHTS, times=(*FLIGHTS.times, "left"))))


def leaks(build: Build, one: Raw, another: Raw) -> set[str]:
    """The features at T or before that differ between two worlds, which knew the same until T."""
    first, second = (build(world).set_index("entity_id").query("prediction_ts <= @T") for world in (one, another))
    first, second = first.align(second)
    same = first.eq(second) | (first.isna() & second.isna())
    return {name for name in same if not same[name].all()}


@pytest.mark.parametrize("future", [gone, other], ids=["is empty", "is another"])
def test_no_feature_at_t_changes_when_all_that_became_known_later(
    raw: Raw, future: Callable[[Raw, datetime], Raw]
) -> None:
    """Compared with what the real future gave."""
    assert leaks(built, raw, future(raw, T)) == set()


def test_features_that_do_leak_are_caught(raw: Raw) -> None:
    caught = leaks(careless, raw, other(raw, T))
    late = {name for name in USE_CASE.looked_up if "_departures_" in name or "_arrivals_" in name}
    weather = {f"weather_{name}" for name in MEASURED}
    trends = {f"weather_{name}_change" for name in ("temp", "wind_speed", "pressure", "visib")}
    # It also tells which of the overdue flights were going to be cancelled.
    assert caught == late | weather | trends | {"aircraft_slack", "origin_overdue", "delay_of_the_day"}


def test_each_flight_has_one_row_of_features(raw: Raw) -> None:
    found = USE_CASE.features.build(raw["raw_flights"], raw)
    assert len({*found["entity_id"].to_pylist()}) == found.num_rows > 5_000
    assert found["entity_id"].equals(raw["raw_flights"]["flight_id"])
