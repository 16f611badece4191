"""The as-of kernel on Spark: rows that ask, and the history that each can see, in chunks of time that fit in memory.

A worker gets all it needs of a chunk as a few packed Arrow batches, and calls the same function as everybody else.
Works the same with classic Spark and Spark Connect; nothing is cached.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from flight_delays.core.as_of import (
    SUPERSEDED,
    Newest,
    Question,
    Table,
    Times,
    look_backs,
    matters,
    names,
    prepared,
    reach,
    superseded,
)
from flight_delays.core.chunks import ASKING, HOUR, Chunks, Hours, split
from flight_delays.core.columns import UTC_TIME, from_arrow
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import KEY, PREDICTION_TIME, Features
from flight_delays.platform.batches import pack, unpack

BOUND = 256 * 2**20
"""Bytes that a chunk may take in a worker, working copies included. Serverless compute gives user code 1 GB."""

Grouped: TypeAlias = Literal["arrow", "pandas"]
"""Which of Spark's grouped functions runs the kernel; applyInPandas is the one documented for all compute."""

# What a worker holds at its peak, measured: each byte of its rows so many times, and so many bytes for each answer.
_COPIES, _PER_ANSWER = 8, 24
_MOST_BUCKETS = 256
_ALWAYS = 2**40  # hours
_SHIPMENT = pa.schema({"chunk": pa.int32(), "of": pa.string(), "rows": pa.binary()})
_BUCKET = "_bucket"

Batches: TypeAlias = Iterable[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """`features` whose questions are answered together, in chunks of time; with `buckets`, each split by key `by`."""

    features: Features
    chunks: Chunks
    by: tuple[str, ...] = ()
    buckets: int = 1


def build_features(
    features: Features,
    asking: DataFrame,
    tables: Mapping[str, DataFrame],
    *,
    bound: int = BOUND,
    grouped: Grouped = "arrow",
) -> DataFrame:
    """What `features.build` makes of `asking` and `tables`, in any order. A Spark job measures first how they spread.

    No worker holds more than about `bound` bytes at a time. A question whose look-back does not fit is answered by
    chunks of its keys as well. Raises UserError, naming the question, where even one key does not fit.
    """
    loads = _loads(features, asking, tables)
    together, *apart = _planned(features, asking, tables, loads, bound)
    sizes = loads.groupby("of")["bytes"].sum() // bound
    whole = {
        name: _with_end(features, name, rows, 1 + int(sizes.get(name, 0))) for name, rows in _facts(features, tables)
    }
    rows = _run(together, asking, whole, grouped, finished=not apart)
    if not apart:
        return rows
    for part in apart:
        more = _run(part, asking, whole, grouped, finished=False)
        others = [name for name in part.features.keep.names if name not in KEY]
        rows = rows.join(more.drop(*others).dropDuplicates([*KEY]), [*KEY], "left")
    return rows.mapInArrow(_finishing(features), _spark(features.build(*_nothing(features, asking, whole)).schema))


def recent(features: Features, tables: Mapping[str, DataFrame], since: datetime) -> dict[str, DataFrame]:
    """Of the tables that answer, the rows that can matter to who asks as of `since` or later."""
    spans, found = look_backs(features.questions), dict[str, DataFrame]()
    for name, table in features.tables().items():
        rows, span = tables[name], spans[name]
        latest = F.greatest(*table.times, table.times[0])  # of two columns or more
        found[name] = rows if span is None else rows.where(latest >= F.lit(since - span))
    return found


def _finishing(features: Features) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def finished(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from features.finished(batch).to_batches()

    return finished


# Planning: which questions are answered together, and in which chunks.


def _planned(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], loads: pd.DataFrame, bound: int
) -> list[_Part]:
    """All questions in one part if they fit; else those with the longest look-back in parts of their own."""
    apart = list[_Part]()
    while True:
        chunks = split(loads, bound)
        # Facts that ask others would need those by their own keys.
        long = [one for one in features.questions if reach(one) is not None and not one.facts.asks]
        if chunks and (chunks.few or not long):
            return [_Part(features=features, chunks=chunks), *apart]
        if not long:
            raise UserError(
                f"features: what the rows of one hour need ({names(features.questions[0])[0]}, ...) does not fit in "
                f"{bound / 2**20:.3g} MB; raise the bound"
            )
        longest = max(long, key=lambda one: reach(one) or timedelta(0))
        apart.append(_by_key(features, longest, asking, tables, bound))
        features = replace(features, questions=tuple(one for one in features.questions if one is not longest))
        loads = _loads(features, asking, tables)


def _by_key(
    features: Features, question: Question, asking: DataFrame, tables: Mapping[str, DataFrame], bound: int
) -> _Part:
    """One question, its keys in the fewest buckets that fit."""
    needed = {*KEY, *question.by}
    keep = pa.schema([field for field in features.keep if field.name in needed])
    alone = replace(features, questions=(question,), keep=keep)
    loads = _loads(alone, asking, tables, question.by)
    fitting = None
    for buckets in (2**power for power in range(1, 9)):
        chunks = split(loads.assign(bucket=loads["bucket"] % buckets), bound)
        if chunks:
            fitting = _Part(features=alone, chunks=chunks, by=question.by, buckets=buckets)
            if chunks.few:
                break
    if fitting is None:
        key = ", ".join(question.by)
        raise UserError(
            f"features: {names(question)[0]}: the history of one {key} within {reach(question)} "
            f"does not fit in {bound / 2**20:.3g} MB; shorten its look-back, or raise the bound"
        )
    return fitting


def _loads(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], by: tuple[str, ...] = ()
) -> pd.DataFrame:
    """At most so many bytes in a worker, by what they are `of`, `first` and `last` hour that need them, and bucket.

    A fact is needed from the earliest of its times on, until the look-back of all questions after the latest; of a
    table of which the newest row is asked, however old, a row of each key always.
    """
    raw = tuple(features.raw(name) for name in by)
    answers = _PER_ANSWER * sum(len(names(question)) for question in features.questions)
    parts = [_load(ASKING, _narrow(features, asking), [features.raw(PREDICTION_TIME)], timedelta(0), answers, raw)]
    finite = look_backs([question for question in features.questions if reach(question) is not None])
    for name, rows in _facts(features, tables):
        span = finite.get(name, timedelta(0))
        parts.append(_load(name, rows, features.tables()[name].times, span or timedelta(0), 0, by))
    for question in _endless(features):
        name = question.facts.table.name
        seen = F.approx_count_distinct(F.concat_ws("|", *question.by)) * F.avg(size(tables[name]))
        ends = [F.lit(end).alias(column) for column, end in (("first", -_ALWAYS), ("last", _ALWAYS))]
        always = [
            F.lit(name).alias("of"),
            *ends,
            F.lit(0).alias("bucket"),
            F.coalesce("bytes", F.lit(0)).alias("bytes"),
        ]
        parts.append(tables[name].agg(seen.cast("long").alias("bytes")).select(*always))
    keys = ["of", "first", "last", "bucket"]
    loads: pd.DataFrame = (
        reduce(DataFrame.unionByName, parts).groupBy(*keys).agg(F.sum("bytes").alias("bytes")).toPandas()
    )
    return loads


def _load(
    of: str, rows: DataFrame, times: Sequence[str], span: timedelta, per_row: int, by: tuple[str, ...]
) -> DataFrame:
    hours = [F.floor(F.unix_micros(name) / HOUR) for name in times]
    return rows.select(
        F.lit(of).alias("of"),
        F.least(*hours, hours[0]).alias("first"),
        (F.greatest(*hours, hours[0]) - (-span // timedelta(hours=1))).alias("last"),
        _bucket(by, _MOST_BUCKETS).alias("bucket"),
        (size(rows) + per_row).cast("long").alias("bytes"),
    ).where("bucket >= 0")


def size(rows: DataFrame) -> Column:
    """Bytes that a worker holds of a row."""
    texts = (F.coalesce(F.octet_length(name), F.lit(0)) for name, kind in rows.dtypes if kind == "string")
    return reduce(Column.__add__, texts, F.lit(8 * len(rows.columns))) * _COPIES


# Running: chunks are packed, brought together by Spark, and answered.


def _run(
    part: _Part,
    asking: DataFrame,
    tables: Mapping[str, DataFrame],
    grouped: Grouped,
    *,
    finished: bool,
) -> DataFrame:
    build = part.features.build if finished else part.features.answered
    nothing = _nothing(part.features, asking, tables)
    schema = build(*nothing).schema
    sources = [(ASKING, _narrow(part.features, asking)), *_facts(part.features, tables)]
    shipments = [
        rows.withColumn(_BUCKET, _bucket(by, part.buckets)).mapInArrow(_shipping(part, of), _spark(_SHIPMENT))
        for of, rows in sources
        for by in [part.by if of else tuple(part.features.raw(name) for name in part.by)]
    ]
    chunks = reduce(DataFrame.unionByName, shipments).groupBy("chunk")

    def kernel(chunk: pa.Table) -> pa.Table:
        rows = {ASKING: nothing[0], **nothing[1]}
        of, packed = chunk["of"].to_pylist(), chunk["rows"]
        for name, empty in rows.items():
            batches = [unpack(packed[at]) for at, one in enumerate(of) if one == name]
            rows[name] = pa.Table.from_batches(batches, empty.schema)
        return build(rows.pop(ASKING), rows)

    if grouped == "arrow":
        return chunks.applyInArrow(kernel, _spark(schema))

    def kernel_of_pandas(chunk: pd.DataFrame) -> pd.DataFrame:
        rows: pd.DataFrame = kernel(pa.Table.from_pandas(chunk, _SHIPMENT, preserve_index=False)).to_pandas()
        return rows

    return chunks.applyInPandas(kernel_of_pandas, _spark(schema))


def _shipping(part: _Part, of: str) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """Packs what each chunk needs of a table's rows, or of those that ask."""

    def shipments(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            bucket, batch = from_arrow(batch, [_BUCKET])[_BUCKET], batch.select(batch.schema.names[:-1])
            first, last = _matters(part.features, of, batch)
            start = np.searchsorted(part.chunks.ends, _hours(first), "left")
            end = np.searchsorted(part.chunks.starts, _hours(last), "right") - 1
            there = (bucket >= 0) & (start <= end) & (~np.isnat(first) if of else True)
            chunks = range(int(start[there].min(initial=len(part.chunks.ends))), int(end[there].max(initial=-1)) + 1)
            chosen = [
                (chunk * part.buckets + keys, there & (start <= chunk) & (chunk <= end) & (bucket == keys))
                for chunk in chunks
                for keys in np.unique(bucket[there])
            ]
            packed = [(number, pack(batch.filter(pa.array(rows)))) for number, rows in chosen if rows.any()]
            numbers, rows = [number for number, _ in packed], [row for _, row in packed]
            yield pa.RecordBatch.from_arrays(
                [pa.array(numbers, pa.int32()), pa.array([of] * len(rows)), pa.array(rows, pa.binary())],
                schema=_SHIPMENT,
            )

    return shipments


def _matters(features: Features, of: str, batch: pa.RecordBatch) -> tuple[Times, Times]:
    """Between which times each row matters; a row that asks, at its own."""
    if of == ASKING:
        at: Times = from_arrow(features.kept(batch), [PREDICTION_TIME])[PREDICTION_TIME]
        return at, at
    return matters(features.questions, of, prepared(features.tables()[of], from_arrow(batch)))


def _endless(features: Features) -> list[Newest]:
    """The questions for the newest row, however old."""
    return [one for one in features.questions if isinstance(one, Newest) and reach(one) is None]


def _with_end(features: Features, name: str, rows: DataFrame, buckets: int) -> DataFrame:
    """The rows that are read of a table; with the time until which each is the newest, if that is what ends it."""
    table = features.tables()[name]
    for question in _endless(features):
        if question.facts.table is table:
            schema = to_arrow_schema(rows.schema)
            if SUPERSEDED not in rows.columns:
                schema = schema.append(pa.field(SUPERSEDED, UTC_TIME))
            by_key = rows.groupBy(_bucket(question.by, buckets))
            rows = by_key.applyInArrow(_ending(question, table, schema), _spark(schema))
    return rows


def _ending(question: Newest, table: Table, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
    def ended(rows: pa.Table) -> pa.Table:
        until = superseded(question, prepared(table, from_arrow(rows)))
        if SUPERSEDED in rows.column_names:
            until = np.fmax(until, from_arrow(rows, [SUPERSEDED])[SUPERSEDED])
            rows = rows.drop_columns([SUPERSEDED])
        return rows.append_column(schema.field(SUPERSEDED), pa.array(until).cast(UTC_TIME))

    return ended


def _narrow(features: Features, asking: DataFrame) -> DataFrame:
    """The columns that are kept of rows that ask, by their raw names."""
    return asking.select(*dict.fromkeys(features.raw(name) for name in features.keep.names))


def _facts(features: Features, tables: Mapping[str, DataFrame]) -> list[tuple[str, DataFrame]]:
    """The tables that answer; of their columns, those that are read."""
    return [
        (name, tables[name].select(*table.columns, *({SUPERSEDED} & {*tables[name].columns})))
        for name, table in features.tables().items()
    ]


def _nothing(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame]
) -> tuple[pa.Table, Mapping[str, pa.Table]]:
    """No rows, with the columns that a worker gets."""
    return (
        to_arrow_schema(_narrow(features, asking).schema).empty_table(),
        {name: to_arrow_schema(rows.schema).empty_table() for name, rows in _facts(features, tables)},
    )


def _hours(times: Times) -> Hours:
    return times.astype("datetime64[us]").view("int64") // HOUR


def _bucket(by: Sequence[str], buckets: int) -> Column:
    """A number below `buckets` for each key; -1 where a part of it is null. Text, since 1 hashes as its type does."""
    known = reduce(Column.__and__, (F.col(name).isNotNull() for name in by), F.lit(True))
    digest = F.xxhash64(*(F.col(name).cast("string") for name in by)) if by else F.lit(0)
    return F.when(known, F.pmod(digest, F.lit(buckets)).cast("int")).otherwise(F.lit(-1))


def _spark(schema: pa.Schema) -> StructType:
    return from_arrow_schema(schema)
