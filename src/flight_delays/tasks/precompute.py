"""Keep the newest prediction of each entity where it can be looked up."""

from pyspark.sql import Window
from pyspark.sql import functions as F

from flight_delays.platform.context import Context
from flight_delays.platform.online_store import fill_sqlite
from flight_delays.platform.precomputed import COLUMNS, PREDICTIONS_TABLE
from flight_delays.platform.runtime import Place, local_dir, place
from flight_delays.platform.runtime import online_store as online_store_of
from flight_delays.platform.tables import collected
from flight_delays.tasks.publish import by_month, sync

TABLE = "latest_predictions"


def merge(context: Context) -> None:
    """Merge latest_predictions by what was predicted since it was last done.

    What a killed run left out is made up for: predictions are taken from the newest that is there already on, or from
    `as_of`, if that is earlier.
    """
    (newest,) = collected(context.tables.read(TABLE).agg(F.max("scored_at").alias("scored_at")))
    made = context.tables.read("predictions").where(F.col("source") != "serving")
    if newest["scored_at"] is not None:
        first = min(newest["scored_at"], context.as_of)
        made = made.where((F.col("scored_at") >= F.lit(first)) & (F.col("scored_date") >= F.lit(first.date())))
    last = Window.partitionBy("entity_id").orderBy(
        F.desc("scored_at"), F.desc("prediction_ts"), F.desc("model_version"), F.desc("prediction_id")
    )
    rows = made.withColumn("_nth", F.row_number().over(last)).where("_nth = 1").select(*COLUMNS)
    context.tables.upsert(TABLE, rows, key=["entity_id"])


def publish(context: Context, *, online_store: bool) -> None:
    """Bring latest_predictions to the online store, if there is one."""
    table = context.tables.read(TABLE)
    if place() is Place.LOCAL:
        file, chunks = online_store_of(local_dir()), by_month(table, day="prediction_ts")
        fill_sqlite(file, PREDICTIONS_TABLE, chunks, columns=COLUMNS, key="entity_id", newest_by="scored_at")
    elif online_store:
        sync(context, f"{context.tables.schema}.{PREDICTIONS_TABLE}")
