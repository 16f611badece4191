"""Features and labels of the example. Flights leave at 14:00 UTC and are predicted at noon, unless a case says else."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bench.flights import GROUPS
from tests.raw import raw_tables

from flight_delays.core.as_of import Facts, Question, prepared, usable
from flight_delays.core.columns import from_arrow, to_arrow
from flight_delays.core.use_case import LABELS
from flight_delays.platform.ddl import TYPES, columns, declarations
from flight_delays.use_case import USE_CASE
from flight_delays.use_case.labels import flight_labels
from flight_delays.use_case.sources import FLIGHTS, PLANES, READINGS, WEATHER

DAY = date(2013, 6, 1)
Row = Mapping[str, Any]


def utc(time: str | None) -> datetime | None:
    """On the day."""
    return None if time is None else datetime.fromisoformat(f"{DAY}T{time}Z")


FLIGHT = {
    "flight_id": "this",
    "carrier": "UA",
    "flight": 1,
    "origin": "EWR",
    "dest": "ORD",
    "distance": 700,
    "flight_date": DAY,
    "sched_dep_ts": utc("14:00"),
    "sched_arr_time": 900,
    "known_at": utc("12:00"),
}


def flights(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist([{**FLIGHT, **row} for row in rows], FLIGHTS.schema)


def build(
    asking: Sequence[Row], others: Sequence[Row] = (), weather: Sequence[Row] = (), planes: Sequence[Row] = ()
) -> pa.Table:
    """Features of the flights that ask."""
    tables = {
        "raw_flights": flights(*asking, *others),
        "raw_weather": pa.Table.from_pylist(weather, WEATHER.schema),
        "raw_planes": pa.Table.from_pylist(planes, PLANES.schema),
    }
    return USE_CASE.features.build(flights(*asking), tables)


def rows(features: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in features.select(names).to_pylist()]


# Origin (a station of the case's own), hour that its only weather row describes, and its age.
REPORTS = {
    "known exactly at noon": ("11:00", 60.0),
    "known a minute later": ("11:01", None),
    "younger than 6 hours": ("06:01", 359.0),
    "exactly 6 hours old": ("06:00", 360.0),
    "older": ("05:59", None),
    "no weather": (None, None),
}


def test_weather_is_the_last_of_6_hours_that_was_known_at_prediction_time() -> None:
    readings = {name: float(number) for number, name in enumerate(READINGS)}
    weather = [
        {"origin": origin, "observed_at": utc(hour), "known_at": utc(hour) + timedelta(hours=1), **readings}
        for origin, (hour, _) in REPORTS.items()
        if hour
    ]
    features = build([{"flight_id": origin, "origin": origin} for origin in REPORTS], weather=weather)
    found = rows(features, "entity_id", *(f"weather_{name}" for name in READINGS), "weather_age_minutes")
    assert found == [(origin, *(readings.values() if age else [None] * 9), age) for origin, (_, age) in REPORTS.items()]


def test_a_trend_is_the_change_from_the_last_report_of_6_hours_that_was_known_3_hours_before() -> None:
    """Three hours before 11:00, when the newest became known, that of 07:00 was the last one known."""
    hours = {"05:00": 30.0, "07:00": 40.0, "07:01": 50.0, "10:00": 60.0}
    weather = [
        {"origin": "EWR", "observed_at": utc(hour), "known_at": utc(hour) + timedelta(hours=1), "temp": temp}
        for hour, temp in hours.items()
    ]
    names = ("weather_temp", "weather_temp_change", "weather_visib_change")
    assert rows(build([{}], weather=weather), *names) == [(60.0, 20.0, None)]
    assert rows(build([{}], weather=weather[-2:]), *names) == [(60.0, None, None)]


# What other flights from an airport of the case's own say of it. Scheduled, delay, when it was known.
OTHERS = {
    "none": ([], (None, None), 0),
    "known at noon": ([("11:00", 20, "12:00")], (1.0, 20.0), 0),
    "known a minute later": ([("11:00", 20, "12:01")], (None, None), 1),
    "known two hours ago": ([("09:00", 20, "10:00")], (None, None), 0),
    "known a minute less ago": ([("09:00", 20, "10:01")], (1.0, 20.0), 0),
    "late from 15 minutes on": ([("11:00", 14, "11:30"), ("11:00", 15, "11:31")], (0.5, 14.5), 0),
    "early": ([("11:00", -5, "11:10")], (0.0, -5.0), 0),
    "overdue from its schedule on": ([("12:00", None, None), ("12:01", None, None)], (None, None), 1),
    "overdue for two hours": ([("10:00", None, None), ("10:01", None, None)], (None, None), 1),
}


def departure(origin: str, scheduled: str, delay: float | None, known: str | None, **other: Any) -> Row:
    """A flight that was announced two hours before its schedule."""
    times = {"sched_dep_ts": utc(scheduled), "known_at": utc(scheduled) - timedelta(hours=2)}
    left = {"dep_delay": delay, "departure_known_at": utc(known)}
    return {"flight_id": f"{origin} {scheduled}", "origin": origin, **times, **left, **other}


def test_departures_from_an_airport_count_once_known_and_for_two_hours() -> None:
    others = [departure(case, *told) for case, (departures, *_) in OTHERS.items() for told in departures]
    features = build([{"flight_id": case, "origin": case} for case in OTHERS], others)
    found = rows(
        features, "entity_id", "origin_departures_2h_late_rate", "origin_departures_2h_delay", "origin_overdue"
    )
    assert found == [(case, *rates, overdue) for case, (_, rates, overdue) in OTHERS.items()]


@pytest.mark.parametrize(("filled", "known"), [("11:59", True), ("12:00", True), ("12:01", False)])
def test_nothing_of_a_flight_is_known_before_the_row_itself(filled: str, known: bool) -> None:
    """However early a late back-fill says that its departure and arrival were known."""
    late = {"known_at": utc(filled), "arr_delay": 30.0, "outcome_known_at": utc("11:00"), "tailnum": "N1"}
    features = build([{"tailnum": "N1"}], [departure("EWR", "09:00", 20, "09:40", **late)])
    names = ("number_arrivals_28d_flights", "origin_departures_24h_delay", "aircraft_arrivals_24h_delay")
    names += ("aircraft_slack", "aircraft_scheduled_slack")
    (found,) = rows(features, *names)
    # There, back and turned around takes 321 minutes.
    assert found == ((1.0, 20.0, 30.0, -41.0, -21.0) if known else (0.0, None, None, None, None))


@pytest.mark.parametrize(
    ("known", "slack"),
    [
        # It left at 08:30; there, back and turned around takes 321 minutes: ready at 13:51.
        ("08:45", 9.0),
        ("12:00", 9.0),
        ("12:01", None),
    ],
)
def test_an_aircraft_has_the_time_left_since_it_should_be_back(known: str, slack: float | None) -> None:
    features = build([{"tailnum": "N1"}], [departure("EWR", "08:00", 30, known, tailnum="N1")])
    assert rows(features, "aircraft_slack", "aircraft_scheduled_slack") == [(slack, 39.0)]


# Aircraft, its entry in the registry (year, seats, known at), and whether the features have it.
ENTRIES = [
    ("N1", (1999, 149, datetime(2013, 1, 1, tzinfo=UTC)), True),
    ("N2", (2001, 50, utc("12:00")), True),
    ("N3", (2001, 50, utc("12:01")), False),
    ("N4", (None, None, datetime(2013, 1, 1, tzinfo=UTC)), True),
    ("unknown", None, False),
    (None, (2002, 90, datetime(2013, 1, 1, tzinfo=UTC)), False),
]


def test_the_plane_is_found_by_its_tail_number_and_otherwise_unknown() -> None:
    planes = [
        {"tailnum": tail, "engines": 2, **dict(zip(("year_built", "seats", "known_at"), entry, strict=True))}
        for tail, entry, _ in ENTRIES
        if entry
    ]
    features = build([{"tailnum": tail} for tail, *_ in ENTRIES], planes=planes)
    expected = [
        (tail, *entry[:2], 2.0) if entry and known else (tail, None, None, None) for tail, entry, known in ENTRIES
    ]
    assert rows(features, "tailnum", "plane_year_built", "plane_seats", "plane_engines") == expected


def test_a_flight_keeps_its_schedule_and_is_as_of_the_time_it_was_known() -> None:
    given = [{"flight_id": "a", "tailnum": "N1"}, *[{"flight_id": "b", "origin": "nowhere"}] * 2]
    known = flights(*given)
    names = {"flight_id": "entity_id", "known_at": "prediction_ts", "flight_date": "day"}
    keep = USE_CASE.features.keep
    kept = known.rename_columns(names).select(keep.names).cast(keep)
    assert build(given).select(keep.names).equals(kept)
    assert keep.names == [*names.values(), *USE_CASE.request, "tailnum"]


def test_features_and_labels_have_the_columns_and_types_of_their_tables_and_all_that_the_model_takes() -> None:
    built, sql = build([{}]).schema, declarations(USE_CASE.sql)
    for name, schema in (("features", built), ("labels", LABELS)):
        declared = {name: TYPES[kind] for name, kind, *_ in columns(sql[name])}
        assert dict(zip(schema.names, schema.types, strict=True)) == declared
    assert {*USE_CASE.inputs} <= {*built.names}
    assert USE_CASE.looked_up == tuple(built.names[len(USE_CASE.features.keep) :])
    assert {built.field(name).type for name in USE_CASE.looked_up} == {pa.float64()}


def test_every_feature_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(USE_CASE.looked_up)


def test_a_flight_is_late_from_15_minutes_on_and_has_no_label_without_an_arrival() -> None:
    delays = {"14": 14.0, "15": 15.0, "16": 16.0, "early": -20.0, "never": None}
    known = utc("18:00")
    given = flights(
        *({"flight_id": key, "arr_delay": delay, "outcome_known_at": known} for key, delay in delays.items())
    )
    found = to_arrow(flight_labels(from_arrow(given, USE_CASE.labels.columns)), LABELS)
    labels = {"14": 0.0, "15": 1.0, "16": 1.0, "early": 0.0, "never": None}
    assert rows(found, *LABELS.names) == [(key, DAY, late, known) for key, late in labels.items()]


def test_every_fact_becomes_usable_between_the_earliest_and_the_latest_time_of_its_row() -> None:
    """In January 2013."""
    raw = raw_tables(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC))
    found = {*facts_of(USE_CASE.questions)}
    assert len(found) == 8
    for facts in found:
        known = prepared(facts.table, from_arrow(raw[facts.table.name], facts.table.columns))
        start, times = usable(facts, known), [known[name] for name in facts.table.times]
        there = ~np.isnat(start)
        assert there.sum() > 1_000
        assert (np.fmin.reduce(times) <= start)[there].all()
        assert (start <= np.fmax.reduce(times))[there].all()


def facts_of(questions: Sequence[Question]) -> Iterator[Facts]:
    for question in questions:
        yield question.facts
        yield from facts_of(question.facts.asks)
