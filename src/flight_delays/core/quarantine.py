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
    """Delivered rows of strings as `source_row` (JSON), `row` (struct of typed columns) and `reasons` (array).

    A row without reasons is good. Raises UserError if the delivery lacks a column of the contract.
    """
    missing = sorted({spec.source for spec in contract.fields.values()} - set(delivered.columns))
    if missing:
        raise UserError(f"the source of {contract.table} has no column {', '.join(missing)}; mend use_case/sources.py")

    typed = delivered.select(
        F.struct(*delivered.columns).alias("_source"),
        *(F.col(spec.source).alias(f"_raw_{name}") for name, spec in contract.fields.items()),
        *(_typed(spec).alias(name) for name, spec in contract.fields.items()),
    )
    for name, expression in contract.derived.items():
        typed = typed.withColumn(name, F.expr(expression))
    reasons = [_field_reason(name, spec) for name, spec in contract.fields.items()]
    reasons += [F.when(~F.expr(rule), F.lit(reason)) for reason, rule in contract.rules.items()]
    typed = typed.withColumn("_reasons", F.array_compact(F.array(*reasons)))

    # Of several rows of one key the first good one stands; which is first does not hang on the order of delivery.
    of_key = Window.partitionBy(*contract.key).orderBy(F.size("_reasons"), "_source")
    typed = typed.withColumn("_nth", F.row_number().over(of_key))
    has_key = reduce(Column.__and__, (F.col(name).isNotNull() for name in contract.key))
    repeated = F.when(has_key & (F.col("_nth") > 1), F.array(F.lit(f"same {', '.join(contract.key)} as another row")))
    return typed.select(
        F.to_json("_source").alias("source_row"),
        F.struct(*contract.columns).alias("row"),
        F.concat("_reasons", F.coalesce(repeated, F.array().cast("array<string>"))).alias("reasons"),
    )


def _typed(spec: Field) -> Column:
    value = F.col(spec.source).try_cast(spec.type)
    # NaN and the infinities can be read as a double, but measure nothing; NaN is greater than any number.
    return F.when(F.abs(value) < float("inf"), value) if spec.type == "double" else value


def _field_reason(name: str, spec: Field) -> Column:
    unreadable = F.col(f"_raw_{name}").isNotNull() & F.col(name).isNull()
    reason = F.when(unreadable, F.concat(F.lit(f"{spec.source} is not {spec.type}: "), F.col(f"_raw_{name}")))
    if spec.required:
        reason = reason.when(F.col(name).isNull(), F.lit(f"{spec.source} is missing"))
    return reason
