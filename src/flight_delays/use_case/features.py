"""Looked-up features: what was known about a flight two hours before its scheduled departure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from flight_delays.core.as_of import Facts, Newest, Question, Sums, Table
from flight_delays.core.columns import UTC_TIME, Column, Columns
from flight_delays.core.use_case import Spine
from flight_delays.use_case.labels import LATE_MINUTES
from flight_delays.use_case.sources import MINUTE, READINGS

WEATHER_TOLERANCE = timedelta(hours=6)
TREND = timedelta(hours=3)
TRENDS = ("temp", "wind_speed", "pressure", "visib")
# An aircraft that left longer ago than this may have flown anywhere since.
AIRCRAFT_TOLERANCE = timedelta(hours=48)
# What has not left two hours after its schedule was most often cancelled.
OVERDUE = timedelta(hours=2)
REGISTERED = ("year_built", "seats", "engines")

SPINE = Spine(
    table="raw_flights",
    entity_id="flight_id",
    prediction_ts="known_at",
    day="flight_date",
    request=pa.schema(
        {
            "carrier": pa.string(),
            "flight": pa.int64(),
            "origin": pa.string(),
            "dest": pa.string(),
            "distance": pa.int64(),
            "sched_dep_ts": UTC_TIME,
            "sched_arr_time": pa.int64(),
        }
    ),
    also=pa.schema({"tailnum": pa.string()}),
)


def derive(flights: Columns) -> Columns:
    """When a flight left, should have been reported, and should be back; its delays in whole minutes; whether late.

    Nothing of a row is known before the row itself, which a late back-fill would otherwise pretend.
    """
    scheduled = flights["sched_dep_ts"]
    # There, back, turned around: at 450 mph, 45 minutes a flight for taxi, climb and descent, 45 on the ground.
    round_trip = (2 * (flights["distance"] / 7.5 + 45) + 45).astype("int64") * MINUTE
    left = scheduled + _minutes(flights["dep_delay"])
    departure_known = np.maximum(flights["departure_known_at"], flights["known_at"])
    return {
        "left": np.minimum(left, departure_known),  # at the latest when that was known
        "back": left + round_trip,
        "scheduled_back": scheduled + round_trip,
        "overdue_until": np.fmin(flights["departure_known_at"], scheduled + np.timedelta64(OVERDUE, "us")),
        "departure_known": departure_known,
        "arrival_known": np.maximum(flights["outcome_known_at"], flights["known_at"]),
        "departure_minutes": _whole(flights["dep_delay"]),
        "departure_late": (flights["dep_delay"] >= LATE_MINUTES).astype("int64"),
        "arrival_minutes": _whole(flights["arr_delay"]),
        "arrival_late": (flights["arr_delay"] >= LATE_MINUTES).astype("int64"),
    }


def _whole(minutes: Column) -> Column:
    """Cut to whole ones; none as 0."""
    return np.nan_to_num(np.trunc(minutes)).astype("int64")


def _minutes(minutes: Column) -> Column:
    known = np.isfinite(minutes)
    return np.where(known, np.where(known, minutes, 0).astype("int64") * MINUTE, np.timedelta64("NaT", "m"))


FLIGHTS = Table(
    name="raw_flights",
    columns=(
        *("carrier", "flight", "origin", "dest", "tailnum", "distance", "sched_dep_ts", "known_at"),
        *("dep_delay", "arr_delay", "departure_known_at", "outcome_known_at"),
    ),
    times=("sched_dep_ts", "known_at", "departure_known_at", "outcome_known_at"),
    derive=derive,
)
WEATHER = Table(
    name="raw_weather", columns=("origin", "observed_at", "known_at", *READINGS), times=("observed_at", "known_at")
)
PLANES = Table(name="raw_planes", columns=("tailnum", "known_at", *REGISTERED), times=("known_at",))

ANNOUNCED = Facts(table=FLIGHTS, event_time="known_at", known_time="known_at")
SCHEDULED = Facts(table=FLIGHTS, event_time="sched_dep_ts", known_time="known_at")
LEFT = Facts(table=FLIGHTS, event_time="left", known_time="departure_known")
DEPARTED = Facts(table=FLIGHTS, event_time="departure_known", known_time="departure_known")
ARRIVED = Facts(table=FLIGHTS, event_time="arrival_known", known_time="arrival_known")
REGISTRY = Facts(table=PLANES, event_time="known_at", known_time="known_at")
REPORTS = Facts(table=WEATHER, event_time="observed_at", known_time="known_at")
# Each report with what the one of TREND before it said.
TRENDING = Facts(
    table=WEATHER,
    event_time="observed_at",
    known_time="known_at",
    before=TREND,
    asks=(
        Newest(
            facts=REPORTS,
            by=("origin",),
            values={f"{name}_before": name for name in TRENDS},
            tolerance=WEATHER_TOLERANCE,
        ),
    ),
)


@dataclass(frozen=True)
class Trailing:
    """Flights that share `by` and whose departure or arrival became known within the last `hours`.

    Gives the columns `<name>_late_rate` (share 15 minutes late or more) and `<name>_delay` (mean, minutes), null where
    there was none, and with `count` their number, `<name>_flights`.
    """

    name: str
    by: tuple[str, ...]
    of: Facts
    hours: int
    count: bool = False

    def question(self) -> Sums:
        """How many there were, how many of them late, and their delays' sum."""
        what = "departure" if self.of is DEPARTED else "arrival"
        return Sums(
            facts=self.of,
            by=self.by,
            within=timedelta(hours=self.hours),
            count=f"{self.name}_flights",
            sums={f"{self.name}_late": f"{what}_late", f"{self.name}_minutes": f"{what}_minutes"},
        )

    def features(self, answers: Columns) -> Iterator[tuple[str, Column]]:
        """The columns, by name."""
        flights = answers[f"{self.name}_flights"]
        some = np.where(flights > 0, flights, np.nan)
        if self.count:
            yield f"{self.name}_flights", flights
        yield f"{self.name}_late_rate", answers[f"{self.name}_late"] / some
        yield f"{self.name}_delay", answers[f"{self.name}_minutes"] / some


TRAILING = (
    Trailing("origin_departures_2h", ("origin",), DEPARTED, 2),
    Trailing("origin_departures_24h", ("origin",), DEPARTED, 24),
    Trailing("carrier_departures_3h", ("carrier",), DEPARTED, 3),
    Trailing("carrier_arrivals_24h", ("carrier",), ARRIVED, 24),
    Trailing("dest_arrivals_6h", ("dest",), ARRIVED, 6),
    Trailing("dest_arrivals_24h", ("dest",), ARRIVED, 24),
    Trailing("route_arrivals_7d", ("origin", "dest"), ARRIVED, 7 * 24),
    Trailing("number_arrivals_28d", ("carrier", "flight"), ARRIVED, 28 * 24, count=True),
    Trailing("aircraft_arrivals_24h", ("tailnum",), ARRIVED, 24),
)

QUESTIONS: tuple[Question, ...] = (
    Newest(
        facts=TRENDING,
        by=("origin",),
        values={name: name for name in ("observed_at", *READINGS, *(f"{name}_before" for name in TRENDS))},
        tolerance=WEATHER_TOLERANCE,
    ),
    Newest(facts=REGISTRY, by=("tailnum",), values={name: name for name in REGISTERED}),
    Newest(facts=LEFT, by=("tailnum",), values={"back": "back"}, tolerance=AIRCRAFT_TOLERANCE),
    Newest(facts=SCHEDULED, by=("tailnum",), values={"scheduled_back": "scheduled_back"}, tolerance=AIRCRAFT_TOLERANCE),
    *(trailing.question() for trailing in TRAILING),
    # How many flights an origin should have let go and is not known to have, and how many it has to.
    Sums(facts=SCHEDULED, by=("origin",), within=OVERDUE, end="overdue_until", count="origin_overdue"),
    Sums(facts=ANNOUNCED, by=("origin",), within=timedelta(hours=1), count="origin_scheduled"),
)


def finish(rows: Columns) -> Columns:
    """The looked-up features, float64, of a flight's schedule and the answers."""
    return {
        **{f"weather_{reading}": rows[reading] for reading in READINGS},
        "weather_age_minutes": _between(rows["prediction_ts"], rows["observed_at"]),
        **{f"weather_{name}_change": rows[name] - rows[f"{name}_before"] for name in TRENDS},
        **{f"plane_{name}": rows[name] for name in REGISTERED},
        "aircraft_slack": _between(rows["sched_dep_ts"], rows["back"]),
        "aircraft_scheduled_slack": _between(rows["sched_dep_ts"], rows["scheduled_back"]),
        **{name: rows[name] for name in ("origin_overdue", "origin_scheduled")},
        **{name: values for trailing in TRAILING for name, values in trailing.features(rows)},
    }


def _between(later: Column, earlier: Column) -> Column:
    """Minutes."""
    return (later - earlier) / MINUTE
