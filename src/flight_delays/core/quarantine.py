"""A row as delivered becomes a typed row, or a reject with its reasons. None is dropped, none is guessed.

The rules are functions on columns, and the same for what ingest lands, an event tells, or a request asks.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.columns import UTC_TIME, Columns, Rows, exact, from_arrow, one_array, to_arrow
from flight_delays.core.errors import UserError
from flight_delays.core.rules import Rule, broken

SOURCE_ROW, REASONS = "source_row", "reasons"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One delivered column: its name in the source, its type, and whether a row needs it."""

    source: str
    type: pa.DataType
    required: bool = False

    def __post_init__(self) -> None:
        if self.type not in _NAMES:
            raise ValueError(f"{self.source}: {self.type} cannot be read; it is one of {', '.join(map(str, _NAMES))}")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a raw table takes from a source.

    `fields` maps the names of typed columns to what is read. `derive` makes of them, in rows that have all that is
    required, the columns that `derived` gives the types of. `columns` are landed; `key` is unique.
    """

    table: str
    key: tuple[str, ...]
    fields: Mapping[str, Field]
    derived: Mapping[str, pa.DataType] = field(default_factory=dict)
    derive: Callable[[Columns], Columns] = field(default=lambda _: {})
    rules: tuple[Rule, ...] = ()
    columns: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """Of the rows that are landed."""
        types = {**{name: spec.type for name, spec in self.fields.items()}, **self.derived}
        return pa.schema([(name, types[name]) for name in self.columns])


def inspect(delivered: Rows, contract: Contract, *, sources: bool = False) -> pa.RecordBatch:
    """Each delivered row of strings as the contract's columns, `source_row` and `reasons`; good without a reason.

    `source_row` is the row as delivered, JSON; null for a good row unless `sources` asks for all. That a key is told
    twice is not noticed here. Raises UserError if the delivery lacks a column of the contract.
    """
    check_columns(delivered.schema.names, contract)
    reasons: list[list[str]] = [[] for _ in range(delivered.num_rows)]
    complete = np.ones(delivered.num_rows, dtype=bool)
    typed = dict[str, pa.Array]()
    for name, spec in contract.fields.items():
        given = one_array(delivered[spec.source])
        values, what = read(given, spec.type), _NAMES[spec.type]
        if pa.types.is_integer(spec.type) and not spec.required:
            # Beside nulls it becomes float64: what that cannot hold exactly is refused, whatever it stands beside.
            values, what = pc.if_else(exact(values), values, None), what.replace("of 64 bits", "up to 2^53")
        typed[name] = values
        missing, null = (column.is_null().to_numpy(zero_copy_only=False) for column in (given, values))
        for at in np.flatnonzero(null & ~missing):
            reasons[at].append(f"{spec.source} is not {what}: {given[at].as_py()}")
        if spec.required:
            complete &= ~null
            for at in np.flatnonzero(missing):
                reasons[at].append(f"{spec.source} is missing")
    rows = np.flatnonzero(complete)
    columns = from_arrow(
        pa.RecordBatch.from_pydict({name: column.take(pa.array(rows)) for name, column in typed.items()})
    )
    columns |= contract.derive(columns)
    for rule in contract.rules:
        for at in rows[broken(rule, columns)]:
            reasons[at].append(rule.reason)
    places = np.full(delivered.num_rows, -1)
    places[rows] = np.arange(len(rows))
    derived = to_arrow(columns, pa.schema(contract.derived))
    for name in derived.schema.names:
        typed[name] = derived[name].take(pa.array(places, mask=places < 0))
    landed = [typed[name] for name in contract.columns]
    told = np.array([sources or bool(why) for why in reasons], dtype=bool)
    return pa.RecordBatch.from_arrays(
        [*landed, _as_json(delivered, told), pa.array(reasons, pa.list_(pa.string()))], schema=inspected(contract)
    )


def check_columns(names: Sequence[str], contract: Contract) -> None:
    """Raises UserError for columns that a delivery lacks."""
    missing = sorted({spec.source for spec in contract.fields.values()} - {*names})
    if missing:
        raise UserError(
            f"the source of {contract.table} has no column {', '.join(missing)}; fix the contract in the use case"
        )


def inspected(contract: Contract) -> pa.Schema:
    """Of what `inspect` gives."""
    return contract.schema.append(pa.field(SOURCE_ROW, pa.string())).append(pa.field(REASONS, pa.list_(pa.string())))


def read(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts as values of a type; null where they are none.

    A whole number may be written with decimals or an exponent (10.0, 1.0E7) that leave it whole. A time without an
    offset is in UTC, what is finer than a microsecond is cut off, and no time or date is outside of 1700 to 2199, which
    is what calendars and time zones are made for.
    """
    try:
        values = texts.cast(kind)
    except pa.ArrowInvalid:
        words = texts.dictionary_encode()  # most text repeats
        values = pa.array([_value(word, kind) for word in words.dictionary.to_pylist()], kind).take(words.indices)
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(values), values, None)  # NaN and the infinities measure nothing
    if pa.types.is_temporal(kind):
        first, end = (pa.scalar(moment).cast(pa.timestamp("us")).cast(kind) for moment in _YEARS)
        return pc.if_else(pc.and_(pc.greater_equal(values, first), pc.less(values, end)), values, None)
    return values


def _value(text: str, kind: pa.DataType) -> pa.Scalar | None:
    word = text.strip()
    if pa.types.is_integer(kind):
        number = Decimal(word) if _WHOLE.fullmatch(word) else Decimal("NaN")
        word = str(int(number)) if number == number.to_integral_value() else ""
    elif kind == UTC_TIME:
        word = _BEYOND_MICROSECONDS.sub("", word)
    for way in (kind, *([pa.timestamp("us")] if kind == UTC_TIME else [])):
        with suppress(pa.ArrowInvalid):
            return pa.scalar(word).cast(way).cast(kind)
    return None


_WHOLE = re.compile(r"[+-]?\d+(\.\d*)?([eE]\+?\d{1,2})?", re.ASCII)
_BEYOND_MICROSECONDS = re.compile(r"(?<=\.\d{6})\d+", re.ASCII)
_YEARS = (datetime(1700, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001  # UTC, as Arrow takes them
_NAMES = {
    pa.string(): "a text",
    pa.int32(): "a whole number of 32 bits",
    pa.int64(): "a whole number of 64 bits",
    pa.float64(): "a finite number",
    pa.bool_(): "true or false",
    pa.date32(): "a date like 2013-01-31, from 1700 to 2199",
    UTC_TIME: "a time like 2013-01-31T12:00:00Z, from 1700 to 2199",
}


def _as_json(delivered: Rows, told: npt.NDArray[np.bool_]) -> pa.Array:
    """The rows that are told, as JSON objects without their nulls."""
    texts = np.full(len(told), None, dtype=object)
    rows = delivered.filter(pa.array(told)).to_pylist() if told.any() else []
    given = ({name: value for name, value in row.items() if value is not None} for row in rows)
    texts[told] = [json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in given]
    return pa.array(texts, pa.string())
