"""Land what the sources deliver in raw tables, and what is malformed in raw_rejects."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract, inspect
from flight_delays.tasks.context import Context
from flight_delays.tasks.report import show
from flight_delays.use_case.sources import deliveries


def run(context: Context) -> None:
    """Merge every delivery: good rows known by `as_of` by their key, rejects by a digest of the row."""
    delivered = deliveries(context.tables.spark, context.as_of)
    counts = [_land(context, contract, rows) for contract, rows in delivered]
    context.task_values.set("landed", f"{sum(count[2] for count in counts):,}")
    context.task_values.set("rejected", f"{sum(count[5] for count in counts):,}")
    show(
        context.console,
        f"Ingested as of {context.as_of:%Y-%m-%d %H:%M} UTC",
        ("table", "read", "landed", "of them new", "of them changed", "rejected", "not known yet"),
        counts,
    )


def _land(context: Context, contract: Contract, delivered: DataFrame) -> tuple[str, int, int, int, int, int, int]:
    inspected = inspect(delivered, contract)
    good, known = F.size("reasons") == 0, F.col("row.known_at") <= F.lit(context.as_of)
    same = Window.partitionBy("source_row").orderBy("source_row")
    rejects = inspected.where(~good).select(
        F.sha2(F.concat_ws("|", F.lit(contract.table), F.row_number().over(same), "source_row"), 256).alias(
            "reject_id"
        ),
        F.lit(contract.table).alias("table_name"),
        "source_row",
        "reasons",
    )
    read, landed, rejected = inspected.agg(F.count("*"), F.count_if(good & known), F.count_if(~good)).collect()[0]
    merged = context.tables.upsert(contract.table, inspected.where(good & known).select("row.*"), key=contract.key)
    if rejected:
        context.tables.append_new("raw_rejects", rejects, key=["reject_id"])
    if rejected == read:
        raise UserError(
            f"{contract.table}: the source delivered {read} rows as of {context.as_of:%Y-%m-%d} and none was good; "
            "look at raw_rejects, then mend the source or its contract in use_case/sources.py"
        )
    return contract.table, read, landed, merged.inserted, merged.updated, rejected, read - landed - rejected
