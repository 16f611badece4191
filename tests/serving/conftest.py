"""Two tiny models, registered, and loaded as they are served."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel
from tests.serving.live import VERSIONS

from flight_delays.platform.registry import Registry
from flight_delays.serving.service import LoadedModel, load_checked


@pytest.fixture(scope="session")
def folders(
    _mlflow: Callable[[], AbstractContextManager[Registry]],
    _logged: dict[bool, tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The files of each served version, as downloaded; the challenger has learned the opposite."""
    saved = {}
    with _mlflow():
        for name, number in VERSIONS.items():
            source, _ = _logged[name == "challenger"]
            folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(tmp_path_factory.mktemp(name))))
            (folder / "registered_model_meta").write_text(f"model_name: delay\nmodel_version: '{number}'\n")
            saved[name] = folder
    return saved


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, PyFuncModel]:
    return {name: mlflow.pyfunc.load_model(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def loaded_models(models: dict[str, PyFuncModel]) -> dict[str, LoadedModel]:
    """Of models without an online store."""
    return {name: load_checked(model, {}) for name, model in models.items()}
