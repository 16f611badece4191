"""Where this process runs: in a Databricks workspace, or on a laptop."""

import os
from pathlib import Path

from flight_delays.core.errors import UserError

LOCAL_DIR = "FLIGHT_DELAYS_LOCAL_DIR"
TASK_VALUES = "FLIGHT_DELAYS_TASK_VALUES"


def in_workspace() -> bool:
    """Whether a Databricks runtime (a cluster's or serverless) runs this process."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def local_dir() -> Path:
    """Folder of the laptop's world: tables, MLflow, logs. Raises UserError for an unknown FLIGHT_DELAYS_ variable."""
    unknown = sorted(
        key for key in os.environ if key.startswith("FLIGHT_DELAYS_") and key not in (LOCAL_DIR, TASK_VALUES)
    )
    if unknown:
        raise UserError(f"unknown environment variable {unknown[0]}; known are {LOCAL_DIR} and {TASK_VALUES}")
    return Path(os.environ.get(LOCAL_DIR, ".local/dev")).resolve()


def tracking_uri(folder: Path) -> str:
    """MLflow's database on a laptop."""
    return f"sqlite:///{folder / 'mlflow.db'}"
