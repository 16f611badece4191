"""Looked-up features: what was known about a flight two hours before its scheduled departure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flight_delays.core.point_in_time import Newest, Sums, as_of_join
from flight_delays.use_case.labels import LATE_MINUTES
from flight_delays.use_case.sources import READINGS

WEATHER_TOLERANCE = timedelta(hours=6)
TREND_HOURS = 3
TRENDS = ("temp", "wind_speed", "pressure", "visib")
# An aircraft that left longer ago than this may have flown anywhere since.
AIRCRAFT_TOLERANCE = timedelta(hours=48)
# There, back and turned around: cruising at 450 mph, 45 minutes a flight for taxi, climb and descent, 45 on the ground.
ROUND_TRIP_MINUTES = "2 * (distance / 7.5 + 45) + 45"

DEPARTURE, ARRIVAL = ("departure_known_at", "dep_delay"), ("outcome_known_at", "arr_delay")


@dataclass(frozen=True)
class Trailing:
    """Flights that share `by` and whose departure or arrival became known within the last `hours`.

    Gives the columns `<name>_late_rate` (share 15 minutes late or more) and `<name>_delay` (mean, minutes), null where
    there was none, and with `count` their number, `<name>_flights`.
    """

    name: str
    by: tuple[str, ...]
    of: tuple[str, str]
    hours: int
    count: bool = False


TRAILING = (
    Trailing("origin_departures_2h", ("origin",), DEPARTURE, 2),
    Trailing("origin_departures_24h", ("origin",), DEPARTURE, 24),
    Trailing("carrier_departures_3h", ("carrier",), DEPARTURE, 3),
    Trailing("carrier_arrivals_24h", ("carrier",), ARRIVAL, 24),
    Trailing("dest_arrivals_6h", ("dest",), ARRIVAL, 6),
    Trailing("dest_arrivals_24h", ("dest",), ARRIVAL, 24),
    Trailing("route_arrivals_7d", ("origin", "dest"), ARRIVAL, 7 * 24),
    Trailing("number_arrivals_28d", ("carrier", "flight"), ARRIVAL, 28 * 24, count=True),
    Trailing("aircraft_arrivals_24h", ("tailnum",), ARRIVAL, 24),
)

# What was known longer ago plays no part in any feature.
FORGOTTEN = max([AIRCRAFT_TOLERANCE, *(timedelta(hours=trailing.hours) for trailing in TRAILING)])
WEATHER_FORGOTTEN = 2 * WEATHER_TOLERANCE + timedelta(hours=TREND_HOURS + 1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flights to answer for: those whose `flight_id` is in `flights`, none known before `since`."""

    flights: DataFrame
    since: datetime


def flight_features(
    flights: DataFrame, weather: DataFrame, planes: DataFrame, *, asked: Asked | None = None
) -> DataFrame:
    """One row per row of `flights`, or per one of them that is asked for, with the columns of table flight_features.

    `flights`, `weather` and `planes` have the columns of raw_flights, raw_weather and raw_planes. `prediction_ts` is
    the time a feature is as of: a schedule, a departure, an arrival, a row of weather or of planes is used only if it
    was known by then. Who asks for a few flights gets the same answers from the history that matters to them.
    """
    if asked is not None:
        of_late = F.greatest("sched_dep_ts", "known_at", "departure_known_at", "outcome_known_at")
        flights = flights.where(of_late >= F.lit(asked.since - FORGOTTEN))
        weather = weather.where(F.greatest("observed_at", "known_at") >= F.lit(asked.since - WEATHER_FORGOTTEN))
    # Nothing of a row is known before the row itself, which a late back-fill would otherwise pretend.
    flights = flights.withColumns(
        {
            time: F.when(F.col(time).isNotNull(), F.greatest(time, "known_at"))
            for time in ("departure_known_at", "outcome_known_at")
        }
    )
    spine = flights if asked is None else flights.join(asked.flights.select("flight_id"), "flight_id", "left_semi")
    spine = spine.select(
        "flight_id",
        F.col("known_at").alias("prediction_ts"),
        "flight_date",
        "carrier",
        F.col("flight").cast("long").alias("flight"),
        "origin",
        "dest",
        "tailnum",
        "distance",
        "sched_dep_ts",
        "sched_arr_time",
    )
    questions: list[Newest | Sums] = [
        _weather(weather),
        *_aircraft(flights, planes),
        *_trailing(flights),
        *_congestion(flights),
    ]
    rows = as_of_join(spine, questions, at="prediction_ts", since=asked.since if asked else None)
    return rows.select(
        *spine.columns,
        *(F.col(reading).alias(f"weather_{reading}") for reading in READINGS),
        _minutes("prediction_ts", "observed_at").alias("weather_age_minutes"),
        *(F.col(f"{name}_change").alias(f"weather_{name}_change") for name in TRENDS),
        *(F.col(name).cast("double").alias(f"plane_{name}") for name in ("year_built", "seats", "engines")),
        _minutes("sched_dep_ts", "back").alias("aircraft_slack"),
        _minutes("sched_dep_ts", "scheduled_back").alias("aircraft_scheduled_slack"),
        *(F.col(name).cast("double").alias(name) for name in ("origin_overdue", "origin_scheduled")),
        *(column for trailing in TRAILING for column in _rates(trailing)),
    )


def _weather(weather: DataFrame) -> Newest:
    """The readings, and as `<reading>_change` what changed in the TREND_HOURS before."""
    of_the_origin = partial(
        Newest, by=("origin",), event_time="observed_at", known_time="known_at", tolerance=WEATHER_TOLERANCE
    )
    changes = tuple(f"{name}_change" for name in TRENDS)
    # From reading to reading, which are few, not from flight to flight.
    earlier = of_the_origin(history=weather.withColumnsRenamed(dict(zip(TRENDS, changes, strict=True))), values=changes)
    before = F.col("known_at") - F.expr(f"INTERVAL {TREND_HOURS} HOURS")
    trends = as_of_join(weather.withColumn("_before", before), [earlier], at="_before").withColumns(
        {f"{name}_change": F.col(name) - F.col(f"{name}_change") for name in TRENDS}
    )
    return of_the_origin(history=trends, values=("observed_at", *READINGS, *changes))


def _aircraft(flights: DataFrame, planes: DataFrame) -> Iterator[Newest]:
    """What the registry says of the aircraft, and when its last flight from here should be `back`.

    `back` counts from when it is known to have left, `scheduled_back` from its schedule.
    """
    of_the_aircraft = partial(Newest, by=("tailnum",))
    registered = ("year_built", "seats", "engines")
    yield of_the_aircraft(history=planes, event_time="known_at", known_time="known_at", values=registered)
    left = F.timestamp_add("MINUTE", F.col("dep_delay").cast("int"), "sched_dep_ts")
    round_trip = F.expr(ROUND_TRIP_MINUTES).cast("int")
    back = flights.select(
        "tailnum",
        "known_at",
        "departure_known_at",
        F.col("sched_dep_ts").alias("scheduled"),
        left.alias("left"),
        F.timestamp_add("MINUTE", round_trip, left).alias("back"),
        F.timestamp_add("MINUTE", round_trip, "sched_dep_ts").alias("scheduled_back"),
    )
    recently = partial(of_the_aircraft, history=back, tolerance=AIRCRAFT_TOLERANCE)
    yield recently(event_time="left", known_time="departure_known_at", values=("back",))
    yield recently(event_time="scheduled", known_time="known_at", values=("scheduled_back",))


def _trailing(flights: DataFrame) -> Iterator[Sums]:
    """Of TRAILING, how many there were, how many of them late, and their delays' sum."""
    for trailing in TRAILING:
        known, delay = (F.col(name) for name in trailing.of)
        yield Sums(
            history=flights,
            by=trailing.by,
            start=known,
            end=known + F.expr(f"INTERVAL {trailing.hours} HOURS"),
            sums={
                f"{trailing.name}_flights": F.lit(1),
                f"{trailing.name}_late": (delay >= LATE_MINUTES).cast("int"),
                f"{trailing.name}_minutes": delay.cast("int"),
            },
        )


def _congestion(flights: DataFrame) -> Iterator[Sums]:
    """How many flights an origin should have let go, and how many it has to."""
    of_the_origin = partial(Sums, history=flights, by=("origin",))
    # Not known to have left, for two hours at most: what has not left by then was most often cancelled.
    until = F.least("departure_known_at", F.col("sched_dep_ts") + F.expr("INTERVAL 2 HOURS"))
    yield of_the_origin(start=F.greatest("sched_dep_ts", "known_at"), end=until, sums={"origin_overdue": F.lit(1)})
    known = F.col("known_at")
    yield of_the_origin(start=known, end=known + F.expr("INTERVAL 1 HOUR"), sums={"origin_scheduled": F.lit(1)})


def _rates(trailing: Trailing) -> Iterator[Column]:
    name, flights = trailing.name, F.col(f"{trailing.name}_flights")
    if trailing.count:
        yield flights.cast("double").alias(f"{name}_flights")
    yield F.try_divide(f"{name}_late", flights).alias(f"{name}_late_rate")
    yield F.try_divide(f"{name}_minutes", flights).alias(f"{name}_delay")


def _minutes(later: str, earlier: str) -> Column:
    return (F.col(later).cast("double") - F.col(earlier).cast("double")) / 60
