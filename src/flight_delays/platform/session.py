"""The Spark session: that of the runtime, or a workspace's over Databricks Connect."""

import logging
import os
import tempfile
from hashlib import sha256
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from zipfile import ZipFile, ZipInfo

from pyspark.sql import SparkSession

import flight_delays
from flight_delays.core.errors import UserError

_PATIENCE_S = 15
"""How long a workspace that does not answer is asked again."""


def is_connected() -> bool:
    """Whether this process has Databricks Connect, and is not in a Databricks runtime, which has it too."""
    return "DATABRICKS_RUNTIME_VERSION" not in os.environ and find_spec("databricks.connect") is not None


def spark_session() -> SparkSession:
    """The process's session, in UTC; started on first use. Raises UserError for whatever keeps a laptop from one."""
    session = _connected_session() if is_connected() else SparkSession.builder.getOrCreate()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


def _connected_session() -> SparkSession:
    """On the cluster that the environment or the profile names, else on serverless compute; again: the same session."""
    # Only the dependency group `workspace` brings it.
    from databricks.connect import DatabricksEnv, DatabricksSession
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config

    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # its warnings say what the error then says
    try:
        config = Config(retry_timeout_seconds=_PATIENCE_S)
        WorkspaceClient(config=config).current_user.me()  # says what is wrong sooner, and better, than gRPC does
        if not config.cluster_id:
            config.serverless_compute_id = "auto"
        # For the functions that workers run. A job's workers have libraries and code from its wheel.
        libraries = DatabricksEnv().withDependencies(requires("flight-delays") or [])
        session: SparkSession = DatabricksSession.builder.sdkConfig(config).withEnvironment(libraries).getOrCreate()
        with tempfile.TemporaryDirectory() as folder:
            session.addArtifacts(_packed(Path(folder)).as_uri(), pyfile=True)
    except Exception as error:
        why = shorten(": ".join(str(part) for part in (error, error.__cause__) if part), 300)
        raise UserError(
            f"no session on a workspace's compute: {why}; sign in with `databricks auth login`, and name profile and"
            " cluster in DATABRICKS_CONFIG_PROFILE and DATABRICKS_CLUSTER_ID (no cluster: serverless)"
        ) from error
    return session


def _packed(folder: Path) -> Path:
    """This package's code as a zip in `folder`. The same code has the same name, and may be sent again."""
    package = Path(flight_delays.__file__).parent
    code = {str(file.relative_to(package.parent)): file.read_bytes() for file in sorted(package.rglob("*.py"))}
    zipped = folder / f"flight_delays-{sha256(repr(code).encode()).hexdigest()[:12]}.zip"
    with ZipFile(zipped, "w") as archive:
        for name, text in code.items():
            archive.writestr(ZipInfo(name), text)  # without the time, which would make it another
    return zipped
