"""Features and labels of the example."""

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flight_delays.platform.tables import Tables
from flight_delays.use_case.features import flight_features
from flight_delays.use_case.labels import flight_labels
from flight_delays.use_case.model import LOOKED_UP, REQUEST

READINGS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
# Prediction at noon. Origin (a station of the case's own), hour that its only weather row describes, and its age.
WEATHER = [
    ("known exactly at noon", "2013-06-01 11:00", 60.0),
    ("known a minute later", "2013-06-01 11:01", None),
    ("younger than 6 hours", "2013-06-01 06:01", 359.0),
    ("exactly 6 hours old", "2013-06-01 06:00", 360.0),
    ("older", "2013-06-01 05:59", None),
    ("no weather", None, None),
]
# Aircraft, its entry in the registry (year, seats, known at), and whether the features have it.
PLANES = [
    ("N1", (1999, 149, "2013-01-01 00:00"), True),
    ("N2", (2001, 50, "2013-06-01 12:00"), True),
    ("N3", (2001, 50, "2013-06-01 12:01"), False),
    ("N4", (None, None, "2013-01-01 00:00"), True),
    ("unknown", None, False),
    (None, (2002, 90, "2013-01-01 00:00"), False),
]


def flights(spark: SparkSession, rows: list[tuple[str | None, ...]]) -> DataFrame:
    """Flights (id, origin, tailnum) of 14:00 UTC, with the columns of raw_flights that features take."""
    return spark.createDataFrame(rows, "flight_id string, origin string, tailnum string").selectExpr(
        "*",
        "'UA' carrier",
        "1 flight",
        "'ORD' dest",
        "700L distance",
        "900L sched_arr_time",
        "date '2013-06-01' flight_date",
        "timestamp '2013-06-01 14:00' sched_dep_ts",
        "timestamp '2013-06-01 12:00' known_at",
        "double(null) dep_delay",
        "double(null) arr_delay",
        "timestamp(null) departure_known_at",
        "timestamp(null) outcome_known_at",
    )


# At noon UTC: what other flights from an airport of the case's own say of it. Scheduled, delay, when it was known.
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


def departures(spark: SparkSession) -> DataFrame:
    """The flights of OTHERS, and one at 14:00 from each airport, of an aircraft of its own."""
    rows = [
        (f"{case} {number}", case, day(scheduled), None if delay is None else float(delay), day(known))
        for case, (others, *_) in OTHERS.items()
        for number, (scheduled, delay, known) in enumerate(others)
    ]
    schema = "flight_id string, origin string, scheduled string, dep_delay double, known string"
    others = spark.createDataFrame(rows, schema).selectExpr(
        "flight_id",
        "origin",
        "flight_id tailnum",
        *("'UA' carrier", "1 flight", "'ORD' dest", "700L distance", "900L sched_arr_time"),
        "date '2013-06-01' flight_date",
        "timestamp(scheduled) sched_dep_ts",
        "timestamp(scheduled) - INTERVAL 2 HOURS known_at",
        "dep_delay",
        "double(null) arr_delay",
        "timestamp(known) departure_known_at",
        "timestamp(null) outcome_known_at",
    )
    return flights(spark, [(case, case, None) for case in OTHERS]).unionByName(others)


def day(time: str | None) -> str | None:
    return time and f"2013-06-01 {time}"


def weather(spark: SparkSession) -> DataFrame:
    hours = [(origin, hour) for origin, hour, _ in WEATHER if hour]
    return spark.createDataFrame(hours, "origin string, observed_at string").select(
        "origin",
        F.to_timestamp("observed_at").alias("observed_at"),
        (F.to_timestamp("observed_at") + F.expr("INTERVAL 1 HOUR")).alias("known_at"),
        *(F.lit(float(number)).alias(reading) for number, reading in enumerate(READINGS)),
    )


def planes(spark: SparkSession) -> DataFrame:
    entries = [(tail, *entry) for tail, entry, _ in PLANES if entry]
    schema = "tailnum string, year_built int, seats int, known_at string"
    return spark.createDataFrame(entries, schema).withColumns(
        {"known_at": F.to_timestamp("known_at"), "engines": F.lit(2)}
    )


def test_weather_is_the_last_of_6_hours_that_was_known_at_prediction_time(spark: SparkSession) -> None:
    found = flight_features(
        flights(spark, [(origin, origin, None) for origin, _, _ in WEATHER]), weather(spark), planes(spark)
    ).select("flight_id", *(f"weather_{reading}" for reading in READINGS), "weather_age_minutes")
    expected = [(origin, *((None,) * 9 if age is None else map(float, range(9))), age) for origin, _, age in WEATHER]
    assert_df_equality(found, spark.createDataFrame(expected, found.schema), ignore_row_order=True)


def test_departures_from_an_airport_count_once_known_and_for_two_hours(spark: SparkSession) -> None:
    rates = ("origin_departures_2h_late_rate", "origin_departures_2h_delay", "origin_overdue")
    found = (
        flight_features(departures(spark), weather(spark), planes(spark))
        .where(F.col("flight_id").isin(*OTHERS))
        .select("flight_id", *rates)
    )
    expected = [(case, *rates, float(overdue)) for case, (_, rates, overdue) in OTHERS.items()]
    assert_df_equality(found, spark.createDataFrame(expected, found.schema), ignore_row_order=True)


@pytest.mark.parametrize(
    ("known", "slack"),
    [
        # It left at 08:30; there, back and turned around takes 321 minutes: ready at 13:51.
        ("2013-06-01 08:45", 9.0),
        ("2013-06-01 12:00", 9.0),
        ("2013-06-01 12:01", None),
    ],
)
def test_an_aircraft_has_the_time_left_since_it_should_be_back(
    spark: SparkSession, known: str, slack: float | None
) -> None:
    earlier = flights(spark, [("earlier", "EWR", "N1")]).withColumns(
        {
            "sched_dep_ts": F.lit("2013-06-01 08:00").cast("timestamp"),
            "known_at": F.lit("2013-06-01 06:00").cast("timestamp"),
            "dep_delay": F.lit(30.0),
            "departure_known_at": F.lit(known).cast("timestamp"),
        }
    )
    both = earlier.unionByName(flights(spark, [("this", "EWR", "N1")]))
    (row,) = flight_features(both, weather(spark), planes(spark)).where("flight_id = 'this'").collect()
    assert (row["aircraft_slack"], row["aircraft_scheduled_slack"]) == (slack, 39.0)


def test_the_plane_is_found_by_its_tail_number_and_otherwise_unknown(spark: SparkSession) -> None:
    spine = [(f"flight of {tail}", "EWR", tail) for tail, _, _ in PLANES]
    found = flight_features(flights(spark, spine), weather(spark), planes(spark)).select(
        "flight_id", "tailnum", "plane_year_built", "plane_seats", "plane_engines"
    )
    expected = []
    for tail, entry, known in PLANES:
        year, seats, _ = entry if entry and known else (None, None, None)
        numbers = (None if year is None else float(year), None if seats is None else float(seats))
        expected.append((f"flight of {tail}", tail, *numbers, 2.0 if known else None))
    assert_df_equality(found, spark.createDataFrame(expected, found.schema), ignore_row_order=True)


def test_a_flight_keeps_its_schedule_and_is_as_of_the_time_it_was_known(spark: SparkSession) -> None:
    given = flights(spark, [("a", "EWR", "N1"), ("b", "nowhere", None), ("b", "nowhere", None)])
    schedule = ("flight_id", "prediction_ts", "flight_date", "carrier", "flight", "origin", "dest", "tailnum")
    schedule += ("distance", "sched_dep_ts", "sched_arr_time")
    assert_df_equality(
        flight_features(given, weather(spark), planes(spark)).select(*schedule),
        given.withColumnRenamed("known_at", "prediction_ts")
        .withColumn("flight", F.col("flight").cast("long"))
        .select(*schedule),
        ignore_row_order=True,
        ignore_nullable=True,
    )


def test_features_have_the_columns_and_types_of_their_table_and_all_that_the_model_takes(
    spark: SparkSession, tables: Tables
) -> None:
    made = flight_features(flights(spark, [("a", "EWR", None)]), weather(spark), planes(spark))
    assert dict(made.dtypes) == dict(tables.read("flight_features").dtypes)
    assert {*REQUEST, *LOOKED_UP} <= set(made.columns)


def test_a_flight_is_late_from_15_minutes_on_and_has_no_label_without_an_arrival(
    spark: SparkSession, tables: Tables
) -> None:
    given = spark.createDataFrame(
        [("14", 14.0), ("15", 15.0), ("16", 16.0), ("early", -20.0), ("never", None)],
        "flight_id string, arr_delay double",
    ).selectExpr(
        "*",
        "date '2013-06-01' flight_date",
        "timestamp '2013-06-01 18:00' outcome_known_at",
        "timestamp '2013-06-01 12:00' known_at",
    )
    found = flight_labels(given)
    labels = [("14", 0, 14.0), ("15", 1, 15.0), ("16", 1, 16.0), ("early", 0, -20.0)]
    expected = spark.createDataFrame(labels, "flight_id string, is_late int, arr_delay double").selectExpr(
        "flight_id", "date '2013-06-01' flight_date", "is_late", "arr_delay", "timestamp '2013-06-01 18:00' known_at"
    )
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)
    assert dict(found.dtypes) == dict(tables.read("flight_labels").dtypes)
