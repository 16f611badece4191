"""Two tiny models, registered, and loaded as they are served."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel
from rich.console import Console
from tests.serving.images import BASE_IMAGE, ROOT, UV, Unpacked, offline_or_not, process_of, ready, unpacked
from tests.serving.live import VERSIONS, free_port

from flight_delays.core.settings import Image
from flight_delays.platform.registry import Registry
from flight_delays.serving.__main__ import loaded
from flight_delays.serving.service import LoadedModel, load_checked
from flight_delays.tasks import image as image_task


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


@dataclass(frozen=True, kw_only=True)
class RunningImage:
    """A service that was started as the image starts it, and how long it took until it was ready."""

    url: str
    seconds: float
    image: Unpacked


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's."""
    folder = tmp_path_factory.mktemp("wheel")
    offline_or_not(UV, "build", "--wheel", "--quiet", "--out-dir", str(folder))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def image(
    _mlflow: Callable[[], AbstractContextManager[Registry]],
    _logged: dict[bool, tuple[str, str]],
    wheel: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Unpacked:
    """The image of the champion's model, as version 1 of `in_an_image`."""
    folder = tmp_path_factory.mktemp("image")
    with _mlflow() as registry:
        registry.client.create_registered_model("in_an_image")
        source, run = _logged[False]
        registry.client.create_model_version("in_an_image", source, run, tags={"git_commit": "0a1b2c3"})
        settings = Image(
            model_name="in_an_image",
            model_version=1,
            base_image=BASE_IMAGE,
            folder=folder / "context",
            wheel=wheel,
            dockerfile=ROOT / "deploy/image/Dockerfile",
            requirements=ROOT / "requirements/image.txt",
        )
        created = datetime(2014, 1, 2, tzinfo=UTC)
        image_task.run(registry, settings, created=created, check=loaded, console=Console(quiet=True))
    return unpacked(folder / "context", folder)


@pytest.fixture(scope="session")
def running_image(image: Unpacked) -> Iterator[RunningImage]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process_of(image, image.command, FLIGHT_DELAYS_SERVING_PORT=str(port)) as process:
        yield RunningImage(url=url, seconds=ready(process, url), image=image)
