"""Run on its own, for Spark takes jars only when it starts: send messages to a topic, then go on reading it."""

import json
import sys
from pathlib import Path

from bundle_laptop.spark import spark_in
from flight_delays.platform.event_source import from_messages
from flight_delays.platform.session import spark_session
from flight_delays.use_case import USE_CASE


def main(address: str, messages: str, folder: Path) -> None:
    """Send `messages`, a JSON list of partition and text, in this order; add rows to `folder`/rows."""
    spark = spark_session()
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    broker = {"kafka.bootstrap.servers": address}
    sent = spark.createDataFrame([tuple(each) for each in json.loads(messages)], "partition int, value string")
    sent.coalesce(1).write.format("kafka").options(**broker, topic="events").save()

    options = {**broker, "subscribe": "events", "startingOffsets": "earliest", "maxOffsetsPerTrigger": "5"}
    events = from_messages(spark.readStream.format("kafka").options(**options).load(), USE_CASE)
    query = (
        events.writeStream.format("parquet")
        .options(checkpointLocation=str(folder / "checkpoint"), path=str(folder / "rows"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


if __name__ == "__main__":
    with spark_in(Path(sys.argv[3]) / "spark"):
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
