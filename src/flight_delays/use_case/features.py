"""Looked-up features: what was known about a flight two hours before its scheduled departure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial, reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flight_delays.core.point_in_time import as_of_join, sums_over_spans
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


def flight_features(flights: DataFrame, weather: DataFrame, planes: DataFrame) -> DataFrame:
    """One row per row of `flights`, with the columns of table flight_features.

    `flights`, `weather` and `planes` have the columns of raw_flights, raw_weather and raw_planes. `prediction_ts` is
    the time a feature is as of: a schedule, a departure, an arrival, a row of weather or of planes is used only if it
    was known by then.
    """
    # Nothing of a row is known before the row itself, which a late back-fill would otherwise pretend.
    flights = flights.withColumns(
        {
            time: F.when(F.col(time).isNotNull(), F.greatest(time, "known_at"))
            for time in ("departure_known_at", "outcome_known_at")
        }
    )
    spine = flights.select(
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
    rows = _with_weather(_with_aircraft(spine, flights, planes), weather)
    for by, spans in _spans(flights).items():
        rows = sums_over_spans(rows, spans, by=by, at="prediction_ts")
    return rows.select(
        *spine.columns,
        *(F.col(reading).alias(f"weather_{reading}") for reading in READINGS),
        _minutes("prediction_ts", "observed_at").alias("weather_age_minutes"),
        *(F.col(f"{name}_change").alias(f"weather_{name}_change") for name in TRENDS),
        *(F.col(name).cast("double").alias(f"plane_{name}") for name in ("year_built", "seats", "engines")),
        "aircraft_slack",
        "aircraft_scheduled_slack",
        *(F.col(name).cast("double").alias(name) for name in ("origin_overdue", "origin_scheduled")),
        *(column for trailing in TRAILING for column in _rates(trailing)),
    )


def _with_weather(rows: DataFrame, weather: DataFrame) -> DataFrame:
    """The readings known at `prediction_ts`, and as `<reading>_change` what changed in the TREND_HOURS before."""
    look_up = partial(
        as_of_join, by=["origin"], event_time="observed_at", known_time="known_at", tolerance=WEATHER_TOLERANCE
    )
    # From reading to reading, which are few, not from flight to flight.
    earlier = weather.withColumnsRenamed({name: f"{name}_change" for name in TRENDS})
    trends = look_up(
        weather.withColumn("_before", F.col("known_at") - F.expr(f"INTERVAL {TREND_HOURS} HOURS")),
        earlier,
        at="_before",
        values=[f"{name}_change" for name in TRENDS],
    ).withColumns({f"{name}_change": F.col(name) - F.col(f"{name}_change") for name in TRENDS})
    changes = [f"{name}_change" for name in TRENDS]
    return look_up(rows, trends, at="prediction_ts", values=["observed_at", *READINGS, *changes])


def _with_aircraft(rows: DataFrame, flights: DataFrame, planes: DataFrame) -> DataFrame:
    """What the registry says of the aircraft, and the minutes that its last flight from here leaves for this one.

    `aircraft_slack` counts from when it is known to have left, `aircraft_scheduled_slack` from its schedule.
    """
    look_up = partial(as_of_join, by=["tailnum"], at="prediction_ts")
    rows = look_up(
        rows, planes, event_time="known_at", known_time="known_at", values=["year_built", "seats", "engines"]
    )
    left = F.timestamp_add("MINUTE", F.col("dep_delay").cast("int"), "sched_dep_ts")
    back = flights.where("tailnum IS NOT NULL").select(
        "tailnum",
        "known_at",
        "departure_known_at",
        F.col("sched_dep_ts").alias("scheduled"),
        left.alias("left"),
        F.timestamp_add("MINUTE", F.expr(ROUND_TRIP_MINUTES).cast("int"), left).alias("back"),
        F.timestamp_add("MINUTE", F.expr(ROUND_TRIP_MINUTES).cast("int"), "sched_dep_ts").alias("scheduled_back"),
    )
    rows = look_up(
        rows,
        back,
        event_time="left",
        known_time="departure_known_at",
        values=["back"],
        tolerance=AIRCRAFT_TOLERANCE,
    )
    rows = look_up(
        rows,
        back,
        event_time="scheduled",
        known_time="known_at",
        values=["scheduled_back"],
        tolerance=AIRCRAFT_TOLERANCE,
    )
    return rows.withColumns(
        {
            "aircraft_slack": _minutes("sched_dep_ts", "back"),
            "aircraft_scheduled_slack": _minutes("sched_dep_ts", "scheduled_back"),
        }
    )


def _spans(flights: DataFrame) -> Mapping[tuple[str, ...], DataFrame]:
    """For each key, from when to when a flight counts in which sums."""
    spans: dict[tuple[str, ...], list[DataFrame]] = defaultdict(list)
    for trailing in TRAILING:
        known, delay = trailing.of
        spans[trailing.by].append(
            flights.select(
                *trailing.by,
                F.col(known).alias("start"),
                (F.col(known) + F.expr(f"INTERVAL {trailing.hours} HOURS")).alias("end"),
                F.lit(1).alias(f"{trailing.name}_flights"),
                (F.col(delay) >= LATE_MINUTES).cast("int").alias(f"{trailing.name}_late"),
                F.col(delay).cast("int").alias(f"{trailing.name}_minutes"),
            )
        )
    # Not known to have left, for two hours at most: what has not left by then was most often cancelled.
    spans["origin",].append(
        flights.select(
            "origin",
            F.greatest("sched_dep_ts", "known_at").alias("start"),
            F.least("departure_known_at", F.col("sched_dep_ts") + F.expr("INTERVAL 2 HOURS")).alias("end"),
            F.lit(1).alias("origin_overdue"),
        )
    )
    spans["origin",].append(
        flights.select(
            "origin",
            F.col("known_at").alias("start"),
            (F.col("known_at") + F.expr("INTERVAL 1 HOUR")).alias("end"),
            F.lit(1).alias("origin_scheduled"),
        )
    )
    return {by: reduce(partial(DataFrame.unionByName, allowMissingColumns=True), of) for by, of in spans.items()}


def _rates(trailing: Trailing) -> Iterator[Column]:
    name, flights = trailing.name, F.col(f"{trailing.name}_flights")
    if trailing.count:
        yield flights.cast("double").alias(f"{name}_flights")
    yield F.try_divide(f"{name}_late", flights).alias(f"{name}_late_rate")
    yield F.try_divide(f"{name}_minutes", flights).alias(f"{name}_delay")


def _minutes(later: str, earlier: str) -> Column:
    return (F.col(later).cast("double") - F.col(earlier).cast("double")) / 60
