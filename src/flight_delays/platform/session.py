"""The Spark session: the workspace's, from within or over Databricks Connect, or a local one with Delta."""

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import cast

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from flight_delays.core.errors import UserError
from flight_delays.platform.connected import connected_session
from flight_delays.platform.ddl import views
from flight_delays.platform.runtime import Place, local_dir, local_spark, place

_START_FAILURES = {
    r"No space left on device": "the disk is full; free some and run it again",
    r"[Cc]annot allocate memory|insufficient memory|Could not reserve enough space|OutOfMemoryError": (
        "too little memory for its 4 GiB; free some and run it again"
    ),
    r"UnsupportedClassVersionError|Unrecognized option|JAVA_HOME is not set|java: (?:command not found|No such file)": (
        "it needs Java 17 or 21; install one and name it in JAVA_HOME"
    ),
    r"unresolved dependenc|UNRESOLVED DEPENDENCIES": (
        "the jars of Delta could not be fetched from Maven Central; connect to the network and run it again"
    ),
    r"BindException|Address already in use": (
        "a port was taken meanwhile, or SPARK_LOCAL_IP is no address of this machine; run it again"
    ),
}
"""What the log of a Spark that failed to start says, and what a person can do about it."""


JARS, CLASSES = "jars", "classes.jsa"  # in the folder of `quick_start`


def quick_start() -> Path:
    """Where `local/quick_start.py` puts Delta's jars and an archive of classes."""
    return Path(sys.prefix) / "share" / f"delta-{version('delta-spark')}"


def spark_session() -> SparkSession:
    """The process's session, in UTC; started on first use."""
    match place():
        case Place.RUNTIME:
            session = SparkSession.builder.getOrCreate()
        case Place.CONNECTED:
            session = connected_session()
        case Place.LOCAL:
            session = _local_session(local_dir())
    session.conf.set("spark.sql.session.timeZone", "UTC")
    return session


def _local_session(folder: Path) -> SparkSession:
    """Spark Connect, as serverless compute and Databricks Connect are; classic Spark if the environment asks for it."""
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    folder.mkdir(parents=True, exist_ok=True)
    warehouse = folder / "warehouse"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = (
        SparkSession.builder.master("local[*]")
        .appName("flight-delays")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.warehouse.dir", str(warehouse))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        # With a bound in bytes, which 10,000 rows do not reach, Spark measures all columns again at every row.
        .config("spark.sql.execution.arrow.maxBytesPerBatch", str(2**31 - 1))
        # It would compute projections of small local data row by row, inside the optimizer, again for every query.
        .config("spark.sql.optimizer.excludedRules", "org.apache.spark.sql.catalyst.optimizer.ConvertToLocalRelation")
        .config("spark.sql.shuffle.partitions", "2")
        # A run has more kinds of queries than the 100 whose code would be kept, and compiles them all again.
        .config("spark.sql.codegen.cache.maxEntries", "4000")
        .config("spark.databricks.delta.snapshotPartitions", "1")
        # To find out which files a query may leave out takes longer than to read the few there are.
        .config("spark.databricks.delta.stats.skipping", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
    )
    # PySpark logs every error that it raises, as JSON with the JVM's stack; the exception says it already.
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A process that has Spark Connect leaves this to those that it starts.
    os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    # All of it is in this machine, whose own name need not lead anywhere.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    log = folder / "spark.log"
    try:
        with _stderr_to(log):
            builder = _with_delta(builder)
            session = builder.getOrCreate() if local_spark() == "classic" else _connect(builder)
    except Exception as error:
        why = why_not(str(error), log.read_text(errors="replace"))
        raise UserError(f"Spark did not start: {why} (log: {log})") from error
    _register_tables(session, warehouse)
    return session


def _with_delta(builder: SparkSession.Builder) -> SparkSession.Builder:
    """With Delta's jars: those that are prepared, or what Ivy finds."""
    prepared = quick_start()
    if not (prepared / JARS).exists():
        # Delta is a development dependency: the wheel does not carry it.
        from delta import configure_spark_with_delta_pip

        return configure_spark_with_delta_pip(builder)
    if (prepared / CLASSES).exists():
        builder = builder.config("spark.driver.extraJavaOptions", f"-XX:SharedArchiveFile={prepared / CLASSES}")
    return builder.config("spark.driver.extraClassPath", f"{prepared / JARS}/*")


def _connect(builder: SparkSession.Builder) -> SparkSession:
    """A session with a server of this process's own, on a port that is free: several may run side by side."""
    # After Delta's, and not at the top: it needs gRPC, which the wheel does not carry.
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = secrets.token_hex()
    builder.config("spark.plugins", "org.apache.spark.sql.connect.SparkConnectPlugin").config(
        "spark.connect.grpc.binding.port", str(port)
    ).getOrCreate()
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    return cast(SparkSession, ConnectSession.builder.remote(f"sc://localhost:{port}").getOrCreate())


def why_not(error: str, log: str) -> str:
    """What a person can do about a Spark that failed to start; without a better idea, the error's first line."""
    for pattern, advice in _START_FAILURES.items():
        if re.search(pattern, log):
            return advice
    return error.partition("\n")[0]


@contextmanager
def _stderr_to(log: Path) -> Iterator[None]:
    """The JVM inherits this process's stderr: what Spark has to say goes to a log of its own, not between our lines."""
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _register_tables(session: SparkSession, warehouse: Path) -> None:
    """Spark's in-memory catalog forgets; the Delta tables on disk are what counts. Views are made of them again."""
    schemas = set[str]()
    for table_log in sorted(warehouse.glob("*.db/*/_delta_log")):
        table = table_log.parent
        schema = table.parent.name.removesuffix(".db")
        schemas.add(f"spark_catalog.{schema}")
        session.sql(f"CREATE SCHEMA IF NOT EXISTS spark_catalog.{schema}")
        session.sql(
            f"CREATE TABLE IF NOT EXISTS spark_catalog.{schema}.{table.name} USING delta LOCATION '{table.as_uri()}'"
        )
    for schema in schemas:
        for statement in views(schema):
            with suppress(AnalysisException):  # the tables task has not made what it selects from
                session.sql(statement)
