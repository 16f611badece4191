"""A registered version applied to a DataFrame. Workers get the model's files; they never call the registry."""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import mlflow
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type

from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import KEY
from flight_delays.core.scoring import PREDICTIONS, REJECTS, TYPES, inputs_of, predictions, problems, rejects
from flight_delays.core.signature import Signature
from flight_delays.platform.registry import Registry, signature

# What Spark calls the types that may be given for a declared one without a loss.
_NARROWER: Mapping[str, frozenset[str]] = {
    "integer": frozenset({"tinyint", "smallint"}),
    "long": frozenset({"tinyint", "smallint", "int"}),
    "float": frozenset({"tinyint", "smallint"}),
    "double": frozenset({"tinyint", "smallint", "int", "float"}),
}
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

    def predictions(self, rows: DataFrame, *, scored_at: datetime, source: str, run_id: str) -> DataFrame:
        """The columns of table predictions, and `reasons` why a row can't be scored: null if it was.

        One row per row; of one that was not scored there are the reasons alone. Raises UserError if a column of the
        signature is absent, or of a type that can't be taken for the declared one.
        """
        given = {field.name: field.dataType.simpleString() for field in rows.schema}
        for column in self.signature.inputs:
            declared = from_arrow_type(TYPES[column.type]).simpleString()
            actual = given.get(column.name)
            if actual not in {declared, *_NARROWER.get(column.type, ())}:
                raise UserError(
                    f"column {column.name} is {actual or 'absent'}; {self.files.name} version {self.files.number} "
                    f"takes {declared}"
                )
        files, signature = self.files, self.signature  # all that workers take along
        reasons = pa.field("reasons", pa.list_(pa.string()))
        schema = PREDICTIONS.append(reasons)

        def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            model = _load(files)
            for batch in batches:
                found = problems(signature, batch)
                unfit = [{reasons.name: why} for why in found if why]
                good = batch.filter(pa.array([not why for why in found])) if unfit else batch
                if good.num_rows:
                    made = predictions(
                        good,
                        model.score(inputs_of(signature, good)),
                        model_name=files.name,
                        model_version=files.number,
                        scored_at=scored_at,
                        source=source,
                        run_id=run_id,
                    )
                    yield made.append_column(reasons, pa.nulls(made.num_rows, reasons.type))
                if unfit:
                    yield pa.RecordBatch.from_pylist(unfit, schema)

        inputs = [column.name for column in signature.inputs]
        return rows.select(*dict.fromkeys([*KEY, *inputs])).mapInArrow(scored, from_arrow_schema(schema))

    def rejects(self, rows: DataFrame, *, source: str) -> DataFrame:
        """The columns of table raw_rejects, for those of the rows that `predictions` has reasons for."""
        files, signature = self.files, self.signature

        def rejected(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                found = problems(signature, batch)
                unfit = batch.filter(pa.array([bool(why) for why in found], pa.bool_()))
                reasons = [why for why in found if why]
                yield rejects(unfit, reasons, model_name=files.name, model_version=files.number, source=source)

        return rows.mapInArrow(rejected, from_arrow_schema(REJECTS))


def read_scorer(registry: Registry, name: str, number: int) -> Scorer:
    """A version by its number, as the registry has it."""
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(name, number, Path(folder))
        columns = signature(mlflow.pyfunc.load_model(str(files)))
        packed = _pack(files)
    return Scorer(signature=columns, files=_Files(name, number, hashlib.sha256(packed).hexdigest(), packed))


def load_model(scorer: Scorer) -> ColumnModel:
    """The version itself, to be applied in this process."""
    return _load(scorer.files)


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
