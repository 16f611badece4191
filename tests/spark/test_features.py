"""Features and labels of the example."""

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
        "'ORD' dest",
        "700L distance",
        "900L sched_arr_time",
        "date '2013-06-01' flight_date",
        "timestamp '2013-06-01 14:00' sched_dep_ts",
        "timestamp '2013-06-01 12:00' known_at",
    )


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
    schedule = ("flight_id", "prediction_ts", "flight_date", "carrier", "origin", "dest", "tailnum", "distance")
    schedule += ("sched_dep_ts", "sched_arr_time")
    assert_df_equality(
        flight_features(given, weather(spark), planes(spark)).select(*schedule),
        given.withColumnRenamed("known_at", "prediction_ts").select(*schedule),
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
