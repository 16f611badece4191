"""A registered version applied to a DataFrame. Workers get the model's files; they never call the registry."""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import mlflow
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from flight_delays.core.errors import UserError
from flight_delays.core.signature import Signature
from flight_delays.platform.registry import Registry, signature

# What the registry calls a type, what Spark calls it, and what else may be given for it without a loss.
_TYPES: Mapping[str, tuple[DataType, frozenset[str]]] = {
    "string": (StringType(), frozenset()),
    "boolean": (BooleanType(), frozenset()),
    "integer": (IntegerType(), frozenset({"tinyint", "smallint"})),
    "long": (LongType(), frozenset({"tinyint", "smallint", "int"})),
    "float": (FloatType(), frozenset({"tinyint", "smallint"})),
    "double": (DoubleType(), frozenset({"tinyint", "smallint", "int", "float"})),
    "datetime": (TimestampType(), frozenset()),
}
# pandas holds times to the nanosecond from 1678 to 2261, and models look some years around a time.
_TIMES = (datetime(1700, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_CACHED = 2  # versions that a Python worker keeps: the champion, and the one before it


class ColumnModel(Protocol):
    """What is called of a registered pyfunc, whose `predict` is made of the same (platform/shell.py)."""

    def score(self, columns: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """The output columns."""


@dataclass(frozen=True)
class _Files:
    """A version's files, packed. Two of one name, number and digest are the same."""

    name: str
    number: int
    digest: str
    packed: bytes = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A version, read once, to be applied to as many DataFrames as come."""

    signature: Signature
    files: _Files

    def reasons(self) -> Column:
        """Why a row can't be scored, array<string>; empty if it can.

        A required column is null, a number infinite, or a time beyond those that pandas holds.

        A category that training never saw, and a looked-up column that is null, are scored: as unknown.
        """
        found = []
        for column in self.signature.inputs:
            value = F.col(column.name)
            if column.required:
                found.append(F.when(value.isNull(), F.lit(f"{column.name} is missing")))
            if column.type in ("double", "float"):
                found.append(F.when(F.abs(value) == float("inf"), F.lit(f"{column.name} is infinite")))
                if column.required:
                    found.append(F.when(F.isnan(value), F.lit(f"{column.name} is not a number")))
            if column.type == "datetime":
                found.append(F.when(~value.between(*_TIMES), F.lit(f"{column.name} is not between 1700 and 2200")))
        return F.array_compact(F.array(*found))

    def fits(self) -> Column:
        """Whether a row can be scored: it has no `reasons`.

        One condition per column, not one on all `reasons`: Spark infers constraints from a filter, from an expression
        of many columns as many as there are subsets of them.
        """
        conditions = [F.lit(True)]
        for column in self.signature.inputs:
            value = F.col(column.name)
            if column.required:
                conditions.append(value.isNotNull())
            if column.type in ("double", "float"):
                number = F.abs(value) < float("inf")  # nor is it true of NaN, which is greater than any number
                conditions.append(number if column.required else value.isNull() | F.isnan(value) | number)
            if column.type == "datetime":
                conditions.append(value.isNull() | value.between(*_TIMES))
        return _all(conditions)

    def score(self, rows: DataFrame, *, keep: Sequence[str]) -> DataFrame:
        """`keep` columns plus the model's outputs, one row per row; rows that do not fit are the caller's to leave out.

        Raises UserError if a column of the signature is absent, or of a type that can't be taken for the declared one.
        """
        given = {field.name: field.dataType.simpleString() for field in rows.schema}
        for column in self.signature.inputs:
            declared, others = _TYPES[column.type]
            actual = given.get(column.name)
            if actual not in {declared.simpleString(), *others}:
                raise UserError(
                    f"column {column.name} is {actual or 'absent'}; {self.files.name} version {self.files.number} "
                    f"takes {declared.simpleString()}"
                )
        outputs = [StructField(column.name, _TYPES[column.type][0]) for column in self.signature.outputs]
        schema = StructType([*(rows.schema[name] for name in keep), *outputs])
        inputs = to_arrow_schema(
            StructType([StructField(one.name, _TYPES[one.type][0]) for one in self.signature.inputs])
        )
        scoring = _scoring(self.files, inputs, keep, to_arrow_schema(schema))
        return rows.select(*dict.fromkeys([*keep, *inputs.names])).mapInArrow(scoring, schema)


def read_scorer(registry: Registry, name: str, number: int) -> Scorer:
    """A version by its number, as the registry has it."""
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(name, number, Path(folder))
        columns = signature(mlflow.pyfunc.load_model(str(files)))
        packed = _pack(files)
    return Scorer(signature=columns, files=_Files(name, number, hashlib.sha256(packed).hexdigest(), packed))


def _all(conditions: Sequence[Column]) -> Column:
    """All of one or more, as a tree: Spark Connect takes no expression that is a hundred levels deep."""
    half = len(conditions) // 2
    return _all(conditions[:half]) & _all(conditions[half:]) if half else conditions[0]


def _scoring(
    files: _Files, inputs: pa.Schema, keep: Sequence[str], schema: pa.Schema
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker does; it takes along nothing but the version's files."""

    def batches(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = _load(files)
        for batch in rows:
            answers = model.score({column.name: _values(batch[column.name].cast(column.type)) for column in inputs})
            kept = [batch[name].cast(schema.field(name).type) for name in keep]
            given = [pa.array(answers[name], schema.field(name).type) for name in schema.names[len(kept) :]]
            yield pa.RecordBatch.from_arrays([*kept, *given], schema=schema)

    return batches


def _values(column: pa.Array) -> npt.NDArray[Any]:
    """Text as objects, times as datetime64 in UTC, null numbers as NaN."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us"))
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            # Without the time of the file: the same version is packed to the same bytes.
            entry = zipfile.ZipInfo(str(file.relative_to(folder)))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@lru_cache(_CACHED)
def _load(files: _Files) -> ColumnModel:
    """The unpacked model, loaded once per Python worker."""
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        zipfile.ZipFile(io.BytesIO(files.packed)).extractall(folder)
        model: ColumnModel = mlflow.pyfunc.load_model(folder).unwrap_python_model()
    return model
