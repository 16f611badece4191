"""The as-of kernel on Spark: rows that ask, and the history that each can see, in chunks of time that fit in memory.

A worker gets all it needs of a chunk as a few packed Arrow batches, and calls the same function as everybody else.
Works the same with classic Spark and Spark Connect; nothing is cached.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from flight_delays.core.as_of import Question, look_backs, names, reach
from flight_delays.core.chunks import ASKING, Chunks, split
from flight_delays.core.columns import from_arrow
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import KEY, PREDICTION_TIME, Features
from flight_delays.platform.batches import pack, unpack

BOUND = 256 * 2**20
"""Bytes that a chunk may take in a worker, working copies included. Serverless compute gives user code 1 GB."""

# What a worker holds at its peak, measured: each byte of its rows so many times, and so many bytes for each answer.
_COPIES, _PER_ANSWER = 8, 24
_MOST_BUCKETS = 256
_HOUR = 3_600_000_000  # microseconds
_NO_TIME, _ALWAYS = -(2**40), 2**40  # hours: that of a row which asks without a time, and when old facts end to matter
_SHIPMENT = pa.schema({"chunk": pa.int32(), "of": pa.string(), "rows": pa.binary()})
_NEEDED = ("_first", "_last", "_bucket")

Batches: TypeAlias = Iterable[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """`features` whose questions are answered together, in chunks of time; with `buckets`, each split by key `by`."""

    features: Features
    chunks: Chunks
    by: tuple[str, ...] = ()
    buckets: int = 1


def build_features(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], *, bound: int = BOUND
) -> DataFrame:
    """What `features.build` makes of `asking` and `tables`, in any order. A Spark job measures first how they spread.

    No worker holds more than about `bound` bytes at a time. A question whose look-back does not fit is answered by
    chunks of its keys as well. Raises UserError, naming the question, where even one key does not fit.
    """
    together, *apart = _planned(features, asking, tables, bound)
    rows = _run(together, asking, tables, finished=not apart)
    if not apart:
        return rows
    for part in apart:
        more = _run(part, asking, tables, finished=False)
        others = [name for name in part.features.keep.names if name not in KEY]
        rows = rows.join(more.drop(*others).dropDuplicates([*KEY]), [*KEY], "left")

    def finish(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from features.finished(batch).to_batches()

    return rows.mapInArrow(finish, from_arrow_schema(features.build(*_nothing(features, asking, tables)).schema))


def recent(features: Features, tables: Mapping[str, DataFrame], since: datetime) -> dict[str, DataFrame]:
    """Of the tables that answer, the rows that can matter to who asks as of `since` or later."""
    spans, found = look_backs(features.questions), dict[str, DataFrame]()
    for name, table in features.tables().items():
        rows, span = tables[name], spans[name]
        latest = F.greatest(*table.times, table.times[0])  # of two columns or more
        found[name] = rows if span is None else rows.where(latest >= F.lit(since - span))
    return found


# Planning: which questions are answered together, and in which chunks.


def _planned(features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], bound: int) -> list[_Part]:
    """All questions in one part if they fit; else those with the longest look-back in parts of their own."""
    apart = list[_Part]()
    while True:
        chunks = split(_loads(features, asking, tables), bound)
        # Facts that ask others would need those by their own keys.
        alone = [one for one in features.questions if not one.facts.asks]
        if chunks and (chunks.few or not alone):
            return [_Part(features=features, chunks=chunks), *apart]
        if not alone:
            raise UserError(
                f"features: what the rows of one hour need ({names(features.questions[0])[0]}, ...) does not fit in "
                f"{bound / 2**20:.3g} MB; raise the bound"
            )
        longest = max(alone, key=lambda one: reach(one) or timedelta.max)
        apart.append(_by_key(features, longest, asking, tables, bound))
        features = replace(features, questions=tuple(one for one in features.questions if one is not longest))


def _by_key(
    features: Features, question: Question, asking: DataFrame, tables: Mapping[str, DataFrame], bound: int
) -> _Part:
    """One question, its keys in the fewest buckets that fit."""
    needed = {*KEY, *question.by}
    keep = pa.schema([field for field in features.keep if field.name in needed])
    alone = replace(features, questions=(question,), keep=keep)
    loads = _loads(alone, asking, tables, question.by)
    for buckets in (2**power for power in range(1, 9)):
        chunks = split(loads.assign(bucket=loads["bucket"] % buckets), bound)
        if chunks and (chunks.few or buckets == _MOST_BUCKETS):
            return _Part(features=alone, chunks=chunks, by=question.by, buckets=buckets)
    raise UserError(
        f"features: {names(question)[0]}: the history of one {', '.join(question.by)} within {reach(question)} "
        f"does not fit in {bound / 2**20:.3g} MB; shorten its look-back, or raise the bound"
    )


def _loads(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], by: tuple[str, ...] = ()
) -> pd.DataFrame:
    """At most so many bytes in a worker, by what they are `of`, `first` and `last` hour that need them, and bucket."""
    answers = _PER_ANSWER * sum(len(names(question)) for question in features.questions)
    parts = [
        rows.select(
            F.lit(of).alias("of"),
            *(F.col(name).alias(name.removeprefix("_")) for name in _NEEDED),
            (size(rows.drop(*_NEEDED)) + (0 if of else answers)).cast("long").alias("bytes"),
        )
        for of, rows in _needed(features, asking, tables, by, _MOST_BUCKETS)
    ]
    keys = ["of", "first", "last", "bucket"]
    loads: pd.DataFrame = (
        reduce(DataFrame.unionByName, parts).groupBy(*keys).agg(F.sum("bytes").alias("bytes")).toPandas()
    )
    return loads


def size(rows: DataFrame) -> Column:
    """Bytes that a worker holds of a row."""
    texts = (F.coalesce(F.octet_length(name), F.lit(0)) for name, kind in rows.dtypes if kind == "string")
    return reduce(Column.__add__, texts, F.lit(8 * len(rows.columns))) * _COPIES


def _needed(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame], by: tuple[str, ...], buckets: int
) -> Iterator[tuple[str, DataFrame]]:
    """The rows that ask and those that answer, each with the first and the last hour that need it, and its bucket.

    A fact is needed from the earliest of its times on, until the look-back of all questions after the latest.
    """
    spans = look_backs(features.questions)
    at = F.coalesce(_hour(features.raw(PREDICTION_TIME)), F.lit(_NO_TIME))
    found = [(ASKING, _narrow(features, asking), (at, at, _bucket([features.raw(name) for name in by], buckets)))]
    for name, rows in _facts(features, tables).items():
        hours = [_hour(time) for time in features.tables()[name].times]
        span, latest = spans[name], F.greatest(*hours, hours[0])  # of two columns or more
        last = F.lit(_ALWAYS) if span is None else latest - (-span // timedelta(hours=1))
        found.append((name, rows, (F.least(*hours, hours[0]), last, _bucket(by, buckets))))
    for name, rows, needed in found:
        yield (
            name,
            rows.withColumns(dict(zip(_NEEDED, needed, strict=True))).where("_first IS NOT NULL AND _bucket >= 0"),
        )


def _hour(time: str) -> Column:
    return F.floor(F.unix_micros(time) / _HOUR)


def _bucket(by: Sequence[str], buckets: int) -> Column:
    """A number below `buckets` for each key; -1 where a part of it is null. Text, since 1 hashes as its type does."""
    known = reduce(Column.__and__, (F.col(name).isNotNull() for name in by), F.lit(True))
    digest = F.xxhash64(*(F.col(name).cast("string") for name in by)) if by else F.lit(0)
    return F.when(known, F.pmod(digest, F.lit(buckets)).cast("int")).otherwise(F.lit(-1))


# Running: chunks are packed, brought together by Spark, and answered.


def _run(part: _Part, asking: DataFrame, tables: Mapping[str, DataFrame], *, finished: bool) -> DataFrame:
    build = part.features.build if finished else part.features.answered
    nothing = _nothing(part.features, asking, tables)
    empty = {ASKING: nothing[0], **nothing[1]}
    shipments = [
        rows.mapInArrow(_shipping(part, of), from_arrow_schema(_SHIPMENT))
        for of, rows in _needed(part.features, asking, tables, part.by, part.buckets)
    ]

    def kernel(chunk: pa.Table) -> pa.Table:
        of, packed = chunk["of"].to_pylist(), chunk["rows"]
        rows = {
            name: pa.Table.from_batches(
                [unpack(packed[at]) for at, one in enumerate(of) if one == name], nothing.schema
            )
            for name, nothing in empty.items()
        }
        return build(rows.pop(ASKING), rows)

    chunks = reduce(DataFrame.unionByName, shipments).groupBy("chunk")
    return chunks.applyInArrow(kernel, from_arrow_schema(build(*nothing).schema))


def _shipping(part: _Part, of: str) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """Packs what each chunk needs of a table's rows, or of those that ask."""

    def shipments(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            first, last, bucket = from_arrow(batch, _NEEDED).values()
            batch = batch.select(batch.schema.names[: -len(_NEEDED)])
            start = np.searchsorted(part.chunks.ends, first, "left")
            end = np.searchsorted(part.chunks.starts, last, "right") - 1
            there = start <= end
            chunks = range(int(start[there].min(initial=len(part.chunks.ends))), int(end[there].max(initial=-1)) + 1)
            chosen = [
                (chunk * part.buckets + keys, there & (start <= chunk) & (chunk <= end) & (bucket == keys))
                for chunk in chunks
                for keys in np.unique(bucket[there])
            ]
            packed = [(number, of, pack(batch.filter(pa.array(rows)))) for number, rows in chosen if rows.any()]
            yield pa.RecordBatch.from_pylist(
                [dict(zip(_SHIPMENT.names, one, strict=True)) for one in packed], _SHIPMENT
            )

    return shipments


def _narrow(features: Features, asking: DataFrame) -> DataFrame:
    """The columns that are kept of rows that ask, by their raw names."""
    return asking.select(*dict.fromkeys(features.raw(name) for name in features.keep.names))


def _facts(features: Features, tables: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """The tables that answer; of their columns, those that are read."""
    return {name: tables[name].select(*table.columns) for name, table in features.tables().items()}


def _nothing(
    features: Features, asking: DataFrame, tables: Mapping[str, DataFrame]
) -> tuple[pa.Table, Mapping[str, pa.Table]]:
    """No rows, with the columns that a worker gets."""
    return (
        to_arrow_schema(_narrow(features, asking).schema).empty_table(),
        {name: to_arrow_schema(rows.schema).empty_table() for name, rows in _facts(features, tables).items()},
    )
