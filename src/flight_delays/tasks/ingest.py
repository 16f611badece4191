"""Land what the sources deliver in raw tables, and what is malformed in raw_rejects."""

from functools import partial

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from flight_delays.core.delivery import Delivery
from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract
from flight_delays.platform.context import Context
from flight_delays.platform.deliveries import has_key, inspect_delivery
from flight_delays.tasks.printing import show


def run(context: Context) -> None:
    """Bring the raw tables up to date: good rows known by `as_of` by their key, rejects by a digest of the row."""
    counts = [_land(context, source.contract, source.delivery) for source in context.use_case.sources]
    context.task_values.set("landed", f"{sum(count[2] for count in counts):,}")
    context.task_values.set("rejected", f"{sum(count[5] for count in counts):,}")
    show(
        context.console,
        f"Ingested as of {context.as_of:%Y-%m-%d %H:%M} UTC",
        ("table", "read", "landed", "of them new", "of them changed", "rejected", "not known yet"),
        counts,
    )


def _land(context: Context, contract: Contract, delivery: Delivery) -> tuple[str, int, int, int, int, int, int]:
    inspected = partial(inspect_delivery, context.tables.spark, delivery, contract, as_of=context.as_of)
    rows = inspected(repeats=False)
    read, landed, rejected, repeated = _count(context, contract, rows)
    if repeated:  # seldom, and to tell which rows these are takes a sort
        rows = inspected(repeats=True)
        read, landed, rejected, _ = _count(context, contract, rows)
    good = rows.where((F.size("reasons") == 0) & (F.col("known_at") <= F.lit(context.as_of)))
    written = context.tables.upsert(contract.table, good.select(*contract.columns), key=contract.key)
    if rejected:
        context.tables.append_new("raw_rejects", _rejects(contract, rows), key=["reject_id"])
    if rejected == read:
        reasons = rows.select(F.explode("reasons").alias("why")).groupBy("why").count().orderBy(F.desc("count"), "why")
        why = f": {reasons.head()['why']}" if read else ""  # type: ignore[index]  # there is one
        raise UserError(
            f"{contract.table}: the source delivered {read} rows as of {context.as_of:%Y-%m-%d} and none was good"
            f"{why}; fix the source or its contract in the use case (raw_rejects has them all)"
        )
    return contract.table, read, landed, written.inserted, written.updated, rejected, read - landed - rejected


def _count(context: Context, contract: Contract, rows: DataFrame) -> tuple[int, int, int, int]:
    """Rows read, rows to land, rejects, and rows of a key that another row has as well."""
    good, known = F.size("reasons") == 0, F.col("known_at") <= F.lit(context.as_of)
    of_key = rows.groupBy(*contract.key).agg(
        F.count("*").alias("read"), F.count_if(good & known).alias("landed"), F.count_if(~good).alias("rejected")
    )
    repeated = F.when(has_key(contract), F.col("read") - 1)
    (counts,) = of_key.agg(
        *(F.coalesce(F.sum(name), F.lit(0)) for name in ("read", "landed", "rejected", repeated))
    ).collect()
    return counts[0], counts[1], counts[2], counts[3]


def _rejects(contract: Contract, rows: DataFrame) -> DataFrame:
    same = Window.partitionBy("source_row").orderBy("source_row")
    number = F.row_number().over(same)
    return rows.where(F.size("reasons") > 0).select(
        F.sha2(F.concat_ws("|", F.lit(contract.table), number, "source_row"), 256).alias("reject_id"),
        F.lit(contract.table).alias("table_name"),
        "source_row",
        "reasons",
    )
