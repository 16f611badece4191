"""Two tiny models, saved as they are registered and loaded as they are served."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel
from tests.serving.live import VERSIONS

from flight_delays.platform.registry import Training
from flight_delays.serving.service import Scorer, load_scorer


@pytest.fixture(scope="session")
def folders(training: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of each served version, as downloaded; the challenger has learned the opposite."""
    saved = {name: tmp_path_factory.mktemp("saved") / name for name in VERSIONS}
    for name, folder in saved.items():
        made = training(wrong=name == "challenger")
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(made.code),
            artifacts={artifact: str(path) for artifact, path in made.artifacts.items()},
            signature=made.signature,
            pip_requirements=list(made.requirements),
        )
        (folder / "registered_model_meta").write_text(f"model_name: delay\nmodel_version: '{VERSIONS[name]}'\n")
    return saved


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, PyFuncModel]:
    return {name: mlflow.pyfunc.load_model(str(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def scorers(models: dict[str, PyFuncModel]) -> dict[str, Scorer]:
    """Of models without an online store."""
    return {name: load_scorer(model, {}) for name, model in models.items()}
