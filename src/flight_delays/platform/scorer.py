"""A registered version applied to a DataFrame. Workers get the model's files; they never call the registry."""

import io
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
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
    digest = sha256(archive).hexdigest()
    outputs = [StructField("probability", DoubleType()), StructField("prediction", LongType())]
    schema = StructType([*(rows.schema[column] for column in keep), *outputs])

    def predict_batches(batches: Iterable[pd.DataFrame]) -> Iterable[pd.DataFrame]:
        model = _load(digest, archive)
        for batch in batches:
            yield pd.concat([batch[list(keep)], predict(model, batch)], axis=1)

    return rows.mapInPandas(predict_batches, schema)


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, arcname="model")
    return buffer.getvalue()


@cache
def _models() -> dict[str, PyFuncModel]:
    return {}


def _load(digest: str, archive: bytes) -> PyFuncModel:
    """The unpacked model, loaded once per Python worker."""
    if digest not in _models():
        folder = Path(tempfile.mkdtemp(prefix="model-"))
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        _models()[digest] = mlflow.pyfunc.load_model(str(folder / "model"))
    return _models()[digest]
