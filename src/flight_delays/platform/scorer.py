"""A registered version applied to a DataFrame. Workers get the model's files; they never call the registry."""

import io
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from pyspark.sql import DataFrame
from pyspark.sql.types import DoubleType, LongType, StructField, StructType

from flight_delays.platform.registry import Registry, predict


def score(rows: DataFrame, registry: Registry, name: str, number: int, *, keep: Sequence[str]) -> DataFrame:
    """`keep` columns plus the model's outputs `probability` (double) and `prediction` (long), one row per row."""
    with tempfile.TemporaryDirectory() as folder:
        archive = _pack(registry.download(name, number, Path(folder)))
    outputs = [StructField("probability", DoubleType()), StructField("prediction", LongType())]
    schema = StructType([*(rows.schema[column] for column in keep), *outputs])

    def predict_batches(batches: Iterable[pd.DataFrame]) -> Iterable[pd.DataFrame]:
        model = _load(archive)
        for batch in batches:
            yield pd.concat([batch[list(keep)], predict(model, batch)], axis=1)

    return rows.mapInPandas(predict_batches, schema)


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return buffer.getvalue()


@cache
def _load(archive: bytes) -> PyFuncModel:
    """The unpacked model, loaded once per Python worker."""
    folder = tempfile.mkdtemp(prefix="model-")
    zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
    model: PyFuncModel = mlflow.pyfunc.load_model(folder)
    return model
