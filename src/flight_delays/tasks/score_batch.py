"""Score every flight that the champion has not scored yet."""

from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.platform.scorer import score
from flight_delays.tasks.context import Context
from flight_delays.tasks.report import show

_SOURCE = "batch"


def run(context: Context, *, model_name: str) -> None:
    """Merge `predictions` for the flights of flight_features known by `as_of`; what was scored stays as it was.

    The champion is resolved once, and its number is what loads the model and is written on every row. Raises
    UserError if no version is champion.
    """
    number = context.registry.aliases(model_name).get("champion")
    if number is None:
        raise UserError(f"{model_name} has no champion; run the train job, which releases a version that passes")
    features = context.tables.read("flight_features").where(F.col("prediction_ts") <= F.lit(context.as_of))
    ours = (F.col("model_name") == model_name) & (F.col("model_version") == number) & (F.col("source") == _SOURCE)
    done = context.tables.read("predictions").where(ours).select("flight_id", "prediction_ts")
    new = features.join(done, ["flight_id", "prediction_ts"], "left_anti")
    scored = score(new, context.registry, model_name, number, keep=["flight_id", "prediction_ts"])

    as_of = F.lit(context.as_of)
    identity = F.concat_ws("|", "flight_id", "prediction_ts", F.lit(model_name), F.lit(number), F.lit(_SOURCE))
    merged = context.tables.append_new(
        "predictions",
        scored.select(
            F.sha2(identity, 256).alias("prediction_id"),
            "flight_id",
            "prediction_ts",
            F.lit(model_name).alias("model_name"),
            F.lit(number).alias("model_version"),
            as_of.alias("scored_at"),
            F.to_date(as_of).alias("scored_date"),
            "probability",
            "prediction",
            F.lit(None).cast("double").alias("response_time_ms"),
            F.lit(_SOURCE).alias("source"),
        ),
        key=["prediction_id"],
    )
    if merged.inserted:
        context.tables.optimize("predictions", where=f"scored_date = '{context.as_of:%Y-%m-%d}'", zorder="flight_id")
    context.task_values.set("scored", f"{merged.inserted:,}")
    months = (
        context.tables.read("predictions")
        .where(ours)
        .groupBy(F.date_format("prediction_ts", "yyyy-MM").alias("month"))
        .agg(F.count("*"), F.avg("probability"), F.avg("prediction"))
        .orderBy("month")
        .collect()
    )
    show(
        context.console,
        f"{context.tables.schema}.predictions by version {number}: {merged.inserted:,} new flights scored",
        ("month (UTC)", "flights", "mean probability", "share called late"),
        months,
    )
