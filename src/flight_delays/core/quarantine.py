"""A row as delivered becomes a typed row, or a reject with its reasons. None is dropped, none is guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Field:
    """One delivered column: its name in the source, its SQL type, and whether a row needs it."""

    source: str
    type: str
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a raw table takes from a source.

    `fields` and `derived` map the names of typed columns to what is read and to SQL over the typed columns; `rules`
    maps a reason to the SQL that holds for a good row (null holds). `columns` are landed; `key` is unique.
    """

    table: str
    key: tuple[str, ...]
    fields: Mapping[str, Field]
    derived: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...]


def inspect(delivered: DataFrame, contract: Contract) -> DataFrame:
    """Delivered rows of strings as `source_row` (JSON), `row` (struct of typed columns), `reasons` (array) and `nth`.

    A row without reasons is good; `nth` counts rows of one key. Raises UserError if a column of it is missing.
    """
    missing = sorted({spec.source for spec in contract.fields.values()} - set(delivered.columns))
    if missing:
        raise UserError(f"the source of {contract.table} has no column {', '.join(missing)}; mend use_case/sources.py")

    typed = delivered.select(
        F.struct(*delivered.columns).alias("_source"),
        *(F.col(spec.source).alias(f"_raw_{name}") for name, spec in contract.fields.items()),
        *(F.col(spec.source).try_cast(spec.type).alias(name) for name, spec in contract.fields.items()),
    )
    for name, expression in contract.derived.items():
        typed = typed.withColumn(name, F.expr(expression))
    repeats = Window.partitionBy(*contract.key).orderBy("_source")
    typed = typed.withColumn("_nth_of_key", F.row_number().over(repeats))

    reasons = [_field_reason(name, spec) for name, spec in contract.fields.items()]
    reasons += [F.when(~F.expr(rule), F.lit(reason)) for reason, rule in contract.rules.items()]
    has_key = reduce(Column.__and__, (F.col(name).isNotNull() for name in contract.key))
    reasons.append(
        F.when(has_key & (F.col("_nth_of_key") > 1), F.lit(f"same {', '.join(contract.key)} as another row"))
    )
    return typed.select(
        F.to_json("_source").alias("source_row"),
        F.struct(*contract.columns).alias("row"),
        F.array_compact(F.array(*reasons)).alias("reasons"),
        F.col("_nth_of_key").alias("nth"),
    )


def _field_reason(name: str, spec: Field) -> Column:
    unreadable = F.col(f"_raw_{name}").isNotNull() & F.col(name).isNull()
    reason = F.when(unreadable, F.concat(F.lit(f"{spec.source} is not {spec.type}: "), F.col(f"_raw_{name}")))
    if spec.required:
        reason = reason.when(F.col(name).isNull(), F.lit(f"{spec.source} is missing"))
    return reason
