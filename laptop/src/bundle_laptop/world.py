"""The world of one target: the folder that holds its tables, models, volumes and runs, and what leads tasks to it."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bundle_laptop.errors import LaptopError

FOLDER = ".local"
FOLDER_VARIABLE = "LAPTOP_FOLDER"
"""Names the world's folder to processes that run within it."""

STORE_VARIABLE = "LAPTOP_ONLINE_STORE"
_LOOPBACK = ("127.0.0.1", "localhost")
_PLACE = "place.txt"
_REFUSED = re.compile(r"""[^\w\-.+@=~!^() /]""")
_RUNTIME = Path(__file__).with_name("runtime")


def find_root(start: Path) -> Path:
    """The nearest folder, from `start` upwards, with a databricks.yml. Raises LaptopError if there is none."""
    for folder in (start, *start.parents):
        if (folder / "databricks.yml").exists():
            return folder
    raise LaptopError(f"databricks.yml: not found in {start} or above; run this in the bundle's folder")


def world_of(root: Path, target: str) -> Path:
    """The folder of a target's world.

    Raises LaptopError for a path that Spark or MLflow would take for another, and for a world that was made elsewhere.
    """
    folder = root.resolve() / FOLDER / target
    if found := _REFUSED.search(str(folder)):
        raise LaptopError(f"{root.resolve()}: a path with {found[0]!r} does not work with Spark; move the project")
    place = folder / _PLACE
    made_in = place.read_text(encoding="utf-8") if place.exists() else str(folder)
    if made_in != str(folder):
        raise LaptopError(
            f"{FOLDER}/{target} was made in {made_in}, and MLflow and Spark look for their files there; "
            f"start anew (laptop reset {target})"
        )
    return folder


def made(folder: Path) -> Path:
    """The folder, which now exists and knows where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PLACE).write_text(str(folder), encoding="utf-8")
    return folder


def online_store(folder: Path) -> str:
    """Where synced tables go: the PostgreSQL database that the environment names, or else a sqlite file."""
    return os.environ.get(STORE_VARIABLE) or f"sqlite:///{folder / 'online.db'}"


def tracking_uri(folder: Path) -> str:
    """MLflow's database."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def environment(address: str) -> dict[str, str | None]:
    """Variables that make `WorkspaceClient()` talk to `address` and to nothing else; None: unset it.

    A person's own sign-in, profile and cluster stay out of it. Loopback never goes through a proxy: NO_PROXY and
    no_proxy keep what they have and gain loopback.
    """
    own = [name for name in os.environ if name.startswith(("ARM_", "DATABRICKS_", "GOOGLE_CREDENTIALS"))]
    return {
        **dict.fromkeys(own),
        "DATABRICKS_HOST": address,
        "DATABRICKS_TOKEN": "local",
        "DATABRICKS_AUTH_TYPE": "pat",
        "DATABRICKS_CONFIG_FILE": os.devnull,
        **_without_proxy(),
    }


def _without_proxy() -> dict[str, str]:
    known = [os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy")]
    hosts = dict.fromkeys(filter(None, (host.strip() for host in ",".join([*known, *_LOOPBACK]).split(","))))
    value = "*" if "*" in hosts else ",".join(hosts)
    return {"NO_PROXY": value, "no_proxy": value}


@contextmanager
def environment_of(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables set, or unset (None), for a while."""
    before = {key: os.environ.get(key) for key in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for key, value in variables.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Tasks in this process, and processes that it starts, find this world for as long as the context lasts."""
    paths = [str(_RUNTIME), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    elsewhere = ("DATABRICKS_RUNTIME_VERSION", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")
    variables = {
        **dict.fromkeys(elsewhere),
        FOLDER_VARIABLE: str(folder),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "mlartifacts"),  # MLflow's default is the working directory
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        **_without_proxy(),
    }
    _forget_runtime()  # what it found, in a workspace's runtime or in another world, must not last
    sys.path.insert(0, str(_RUNTIME))
    try:
        with environment_of(variables), mlflow_at(tracking_uri(folder)):
            yield
    finally:
        sys.path.remove(str(_RUNTIME))
        _forget_runtime()


def _forget_runtime() -> None:
    for module in ("databricks.sdk.runtime", "dbruntime"):
        sys.modules.pop(module, None)


@contextmanager
def mlflow_at(uri: str) -> Iterator[None]:
    """MLflow finds its database at `uri` for a while, whatever it was told before in this process."""

    def tell(tracking: str | None, registry: str | None) -> tuple[str | None, str | None]:
        """Tell it other addresses; those that it was told before, None where it goes by its variables."""
        if "mlflow" not in sys.modules:
            return None, None
        from mlflow.tracking._model_registry import utils as registries
        from mlflow.tracking._tracking_service import utils as services

        before = services._tracking_uri, registries._registry_uri
        services.set_tracking_uri(tracking)  # type: ignore[arg-type]
        registries.set_registry_uri(registry)  # type: ignore[arg-type]
        return before

    with environment_of({"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri}):
        before = tell(uri, None)
        try:
            yield
        finally:
            tell(*before)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run and reset of this world out (POSIX only). Raises LaptopError if one is under way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("a") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = f"another run or reset of {folder.name} is under way"
                raise LaptopError(f"{FOLDER}/{folder.name}: {what}; wait for it") from None
        yield


def targets(root: Path) -> list[str]:
    """Targets that have a world."""
    return sorted(path.name for path in (root / FOLDER).glob("*") if path.is_dir())


def reset(root: Path, target: str) -> None:
    """Delete a target's world. Raises LaptopError while a run is under way."""
    folder = root / FOLDER / target
    with locked(folder):
        shutil.rmtree(folder)


def tables_in(folder: Path) -> list[tuple[str, Path]]:
    """The Delta tables in a world's folder, each with its schema."""
    warehouse = folder / "warehouse"
    found = [(log.parents[1].name.removesuffix(".db"), log.parent) for log in warehouse.glob("*.db/*/_delta_log")]
    return sorted([*found, *(("default", log.parent) for log in warehouse.glob("*/_delta_log"))])
