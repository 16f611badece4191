"""The label: did the flight arrive 15 minutes late or more?"""

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

LATE_MINUTES = 15

# A day may be judged this long after its end: by then all but a handful of its flights have landed.
MATURITY = timedelta(hours=18)


def flight_labels(flights: DataFrame) -> DataFrame:
    """One row per flight of raw_flights that arrived, with the columns of table flight_labels.

    A flight without an arrival (never departed, or diverted) has no row: its label is unknown, not 0.
    """
    return flights.where(F.col("arr_delay").isNotNull()).select(
        "flight_id",
        "flight_date",
        (F.col("arr_delay") >= LATE_MINUTES).cast("int").alias("is_late"),
        "arr_delay",
        F.col("outcome_known_at").alias("known_at"),
    )
