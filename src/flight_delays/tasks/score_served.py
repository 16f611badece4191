"""Add what the endpoint answered to `predictions`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import DoubleType, StringType, StructField, StructType

from flight_delays.core.scoring import SERVING, served_id
from flight_delays.core.scoring_request import BadRequestError, RequestParser, answers_in
from flight_delays.core.settings import ScoreServed
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Context
from flight_delays.platform.registry import signature
from flight_delays.platform.served_requests import requests_in, table_named, with_versions

# Payloads come late, by an hour at most as Databricks says: https://docs.databricks.com/ai-gateway/inference-tables
LATE = timedelta(days=2)
_KEPT = ("databricks_request_id", "served_entity_id", "model_version", "request_time", "execution_duration_ms")
_PARSED = (
    StructField("row_id", StringType()),
    StructField("entity_id", StringType()),
    StructField("probability", DoubleType()),
    StructField("prediction", DoubleType()),
    StructField("source_row", StringType()),
    StructField("reason", StringType()),
)


def run(context: Context, settings: ScoreServed) -> None:
    """Merge `predictions` for every row of every request answered by `as_of`, by whatever version.

    `payload_table` has the columns of an inference table, `served_entities_table` those of
    system.serving.served_entities. A request whose rows or version can't be told goes to raw_rejects with its reason.
    Features are taken to be as of the request. Done again, it adds nothing.
    """
    model_name = settings.model_name
    payloads = _new_payloads(context, settings)
    numbers = [row[0] for row in payloads.select("model_version").distinct().collect() if row[0] is not None]
    parsers = {
        number: RequestParser(signature(context.registry.load(model_name, number)), max_rows=1_000_000)
        for number in numbers
    }
    schema = StructType([*(payloads.schema[name] for name in _KEPT), *_PARSED])
    parsed = payloads.mapInArrow(_parsed(context.use_case, parsers, to_arrow_schema(schema)), schema)
    merged = context.tables.append_new(
        "predictions",
        parsed.where("reason IS NULL").select(
            F.col("row_id").alias("prediction_id"),
            "entity_id",
            F.col("request_time").alias("prediction_ts"),
            F.lit(model_name).alias("model_name"),
            "model_version",
            F.col("request_time").alias("scored_at"),
            F.to_date("request_time").alias("scored_date"),
            "probability",
            "prediction",
            F.col("execution_duration_ms").cast("double").alias("response_time_ms"),
            F.lit(SERVING).alias("source"),
            F.lit(None).cast("string").alias("run_id"),
        ),
        key=["prediction_id"],
    )
    rejected = context.tables.append_new(
        "raw_rejects",
        parsed.where("reason IS NOT NULL").select(
            F.col("row_id").alias("reject_id"),
            F.lit("predictions").alias("table_name"),
            "source_row",
            F.array("reason").alias("reasons"),
        ),
        key=["reject_id"],
    )
    context.task_values.set("served", f"{merged.inserted:,}")
    context.task_values.set("rejected", f"{rejected.inserted:,}")
    context.console.print(
        f"{merged.inserted:,} answers of the endpoint are new in predictions; {rejected.inserted:,} requests that "
        "could not be interpreted went to raw_rejects."
    )


def _new_payloads(context: Context, settings: ScoreServed) -> DataFrame:
    """Answered requests that may not be in `predictions` yet, with the version that answered."""
    served = context.tables.read("predictions").where(F.col("source") == SERVING)
    (last,) = served.agg(F.max("scored_date")).collect()[0]
    answered = requests_in(context.tables, settings.payload_table).where(
        (F.col("status_code") == 200) & (F.col("request_time") <= F.lit(context.as_of))
    )
    if last is not None:
        answered = answered.where(F.col("request_date") >= F.lit(last - LATE))
    entities = table_named(context.tables, settings.served_entities_table)
    return with_versions(answered, entities, settings.model_name).select(*_KEPT, "request", "response")


def _parsed(
    use_case: UseCase, parsers: Mapping[int, RequestParser], schema: pa.Schema
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    entity_ids, outputs = use_case.prepare.entity_ids, use_case.objective.outputs

    def told(payload: Mapping[str, object]) -> list[dict[str, object]]:
        """Each row of a request with its answer, or one row with the reason why that can't be told."""
        number, request_id = payload["model_version"], str(payload["databricks_request_id"])
        try:
            if not isinstance(number, int):
                raise BadRequestError(f"served entity {payload['served_entity_id']} is of no known version")
            request = parsers[number].parse(str(payload["request"] or "").encode())
            answers = answers_in(payload["response"], request.rows, outputs)
            return [
                {"row_id": served_id(request_id, at), "entity_id": entity, **answer}
                for at, (entity, answer) in enumerate(zip(entity_ids(request.columns), answers, strict=True), 1)
            ]
        except BadRequestError as error:
            row = {name: payload[name] for name in ("databricks_request_id", "request", "response")}
            return [{"row_id": served_id(request_id, 0), "source_row": json.dumps(row), "reason": str(error)}]

    def batches(payloads: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in payloads:
            rows = [{**payload, **row} for payload in batch.to_pylist() for row in told(payload)]
            yield pa.RecordBatch.from_pylist(rows, schema)

    return batches
