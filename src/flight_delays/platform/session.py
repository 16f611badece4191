"""The Spark session: that of the runtime, or a workspace's over Databricks Connect."""

from pyspark.sql import SparkSession

from flight_delays.platform.connected import connected_session, is_connected


def spark_session() -> SparkSession:
    """The process's session, in UTC; started on first use."""
    session = connected_session() if is_connected() else SparkSession.builder.getOrCreate()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session
