"""Where this process runs, and so whose Spark, tables and models it works with."""

import os
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from flight_delays.core.errors import UserError

LOCAL_DIR = "FLIGHT_DELAYS_LOCAL_DIR"
LOCAL_SPARK = "FLIGHT_DELAYS_LOCAL_SPARK"
TASK_VALUES = "FLIGHT_DELAYS_TASK_VALUES"
CONTROL_PLANE = "FLIGHT_DELAYS_CONTROL_PLANE"
_KNOWN = (LOCAL_DIR, LOCAL_SPARK, TASK_VALUES, CONTROL_PLANE)
_OF_OTHERS = (  # the command line, the model and serving/
    *("FLIGHT_DELAYS_USE_CASE", "FLIGHT_DELAYS_ONLINE_STORE"),
    *("FLIGHT_DELAYS_PAYLOAD", "FLIGHT_DELAYS_SERV"),
)


class Place(StrEnum):
    """What a process runs in. In all but LOCAL, Spark, Unity Catalog and MLflow are the workspace's."""

    RUNTIME = "a Databricks runtime: a job, a cluster's or serverless notebook"
    CONNECTED = "a laptop with Databricks Connect"
    LOCAL = "a laptop with Spark of its own"


def place() -> Place:
    """Where this process runs. Raises UserError for a laptop that is told to be both."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return Place.RUNTIME
    if find_spec("databricks.connect") is None:
        return Place.LOCAL
    if LOCAL_DIR in os.environ:
        raise UserError("a local run needs Spark of its own, not Databricks Connect; use the .venv that dev.py makes")
    return Place.CONNECTED


def local_dir() -> Path:
    """Folder of the laptop's world: tables, MLflow, logs. Raises UserError for an unknown FLIGHT_DELAYS_ variable."""
    ours = {key for key in os.environ if key.startswith("FLIGHT_DELAYS_") and not key.startswith(_OF_OTHERS)}
    unknown = sorted(ours - {*_KNOWN})
    if unknown:
        raise UserError(f"unknown environment variable {unknown[0]}; known are {', '.join(_KNOWN)}")
    return Path(os.environ.get(LOCAL_DIR, ".local/dev")).resolve()


def local_spark() -> str:
    """The kind of a laptop's Spark: `connect`, as serverless compute has, or `classic`. Raises UserError for others."""
    kind = os.environ.get(LOCAL_SPARK, "connect")
    if kind not in ("connect", "classic"):
        raise UserError(f"{LOCAL_SPARK} is {kind!r}; set it to connect or classic")
    return kind


def tracking_uri(folder: Path) -> str:
    """MLflow's database on a laptop."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def online_store(folder: Path) -> Path:
    """The online store of a laptop, a sqlite file."""
    return folder / "online.db"
