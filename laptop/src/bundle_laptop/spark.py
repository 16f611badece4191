"""Spark with Delta in this process, as a task finds it in a workspace: `SparkSession.builder.getOrCreate()` gives it.

It is started when a task first asks for it. By default it is Spark Connect, which serverless compute and Databricks
Connect are too; LAPTOP_SPARK=classic makes it classic Spark. Its one catalog, spark_catalog, is kept in memory: tables
of an earlier process are found by their files, views by the statements that `keep_views` has written down.
"""

import json
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import cast

from pyspark import SparkContext
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from bundle_laptop.errors import LaptopError
from bundle_laptop.world import made, tables_in

KIND = "LAPTOP_SPARK"
JARS, CLASSES = "jars", "classes.jsa"  # in the folder of `quick_start`
_VIEWS = "views.json"
_AS = re.compile(r"(\nWITH SCHEMA [A-Z ]+\nAS )")  # where SHOW CREATE TABLE comes to a view's query
_found: set[Path] = set()  # tables that this process's session knows
_SERVER: list[str] = []  # the address of this process's own, once it is started
_ASKED: set[Path] = set()  # the worlds whose code has asked for the session
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
_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.sources.default": "delta",
    "spark.sql.legacy.createHiveTableByDefault": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # With a bound in bytes, which 10,000 rows do not reach, Spark measures all columns again at every row.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    # It would compute projections of small local data row by row, inside the optimizer, again for every query.
    "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.ConvertToLocalRelation",
    "spark.sql.shuffle.partitions": "2",
    # With so few partitions there is nothing to adapt, and each stage would be planned again.
    "spark.sql.adaptive.enabled": "false",
    # A run has more kinds of queries than the 100 whose code would be kept, and compiles them all again.
    "spark.sql.codegen.cache.maxEntries": "4000",
    "spark.databricks.delta.snapshotPartitions": "1",
    # To find out which files a query may leave out takes longer than to read the few there are.
    "spark.databricks.delta.stats.skipping": "false",
    # VACUUM starts as many tasks, 10,000 by default, to list the few folders of a table.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.driver.memory": "4g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


@contextmanager
def spark_in(folder: Path, schemas: Iterable[str] = ()) -> Iterator[None]:
    """While the context lasts, `SparkSession.builder.getOrCreate()` gives this process's session.

    The first use starts it, unless one is active, and creates `schemas` (<catalog>.<schema>). Raises LaptopError, then,
    for a Spark that does not start.
    """
    builder = SparkSession.Builder
    original, missing = builder.getOrCreate, list(schemas)

    def get_or_create(self: SparkSession.Builder) -> SparkSession:
        _ASKED.add(folder)
        session = SparkSession.getActiveSession()
        if session is None:
            builder.getOrCreate = original  # type: ignore[method-assign]
            try:
                session = _once_more() or _start(folder)
            finally:
                builder.getOrCreate = get_or_create  # type: ignore[method-assign]
        while missing:
            quoted = ".".join(f"`{part}`" for part in missing[0].split("."))
            session.sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
            del missing[0]
        _find_tables(session, folder)
        for key, value in self._options.items():
            if key.startswith("spark.sql.") and key not in _SETTINGS:
                session.conf.set(key, str(value))
        return session

    builder.getOrCreate = get_or_create  # type: ignore[method-assign]
    try:
        yield
    finally:
        builder.getOrCreate = original  # type: ignore[method-assign]


def keep_views(folder: Path) -> None:
    """Write down the statements that make this world's views, for the next process; if nobody used Spark, nothing."""
    session = SparkSession.getActiveSession() if folder in _ASKED else None
    if session is None:
        return
    schemas = ["default", *sorted(path.name.removesuffix(".db") for path in (folder / "warehouse").glob("*.db"))]
    statements = [
        _statement(session, f"spark_catalog.`{schema}`.`{row.viewName}`")
        for schema in schemas
        if session.catalog.databaseExists(f"spark_catalog.`{schema}`")
        for row in session.sql(f"SHOW VIEWS IN spark_catalog.`{schema}`").collect()
        if not row.isTemporary
    ]
    (folder / _VIEWS).write_text(json.dumps(statements, indent=1), encoding="utf-8")


def _statement(session: SparkSession, view: str) -> str:
    """What makes a view, with the columns that it has now: what it selects all columns of may have got more since."""
    whole = str(session.sql(f"SHOW CREATE TABLE {view}").collect()[0][0])
    head, between, query = _AS.split(whole, maxsplit=1)
    try:
        columns = ", ".join(f"`{name}`" for name in session.table(view).columns)
    except AnalysisException:  # what it selects from is gone
        return whole
    select = f"SELECT {columns} FROM (\n"
    return whole if query.startswith(select) else f"{head}{between}{select}{query.rstrip()}\n)\n"


def _find_views(session: SparkSession, folder: Path) -> None:
    views = folder / _VIEWS
    left = json.loads(views.read_text(encoding="utf-8")) if views.exists() else []
    while left:
        failed = [statement for statement in left if not _runs(session, statement)]
        if failed == left:  # what they select from is gone
            break
        left = failed  # what they select from may be another view


def _runs(session: SparkSession, statement: str) -> bool:
    with suppress(AnalysisException):
        session.sql(statement)
        return True
    return False


def _find_tables(session: SparkSession, folder: Path) -> None:
    """Those of an earlier process, and those that the workspace itself has made since."""
    for name, table in tables_in(folder):
        if table not in _found:
            schema = f"spark_catalog.`{name}`"
            with suppress(AnalysisException):  # it is just being made
                session.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                session.sql(f"CREATE TABLE IF NOT EXISTS {schema}.`{table.name}` USING delta LOCATION '{table}'")
                _found.add(table)


def quick_start() -> Path:
    """Where `quick_start.py` puts Delta's jars and an archive of classes."""
    return Path(sys.prefix) / "share" / f"delta-{version('delta-spark')}"


def why_not(error: str, log: str) -> str:
    """What a person can do about a Spark that failed to start; without a better idea, the error's first line."""
    advice = (advice for pattern, advice in _START_FAILURES.items() if re.search(pattern, log))
    return next(advice, error.partition("\n")[0])


def _start(folder: Path) -> SparkSession:
    kind = os.environ.get(KIND, "connect")
    if kind not in ("connect", "classic"):
        raise LaptopError(f"{KIND} is {kind!r}; set it to connect or classic")
    # A process that has Spark Connect leaves these to those that it starts.
    for inherited in ("SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"):
        os.environ.pop(inherited, None)
    # PySpark logs every error that it raises, as JSON with the JVM's stack; the exception says it already.
    for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # All of it is in this machine, whose own name need not lead anywhere.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    log, warehouse = made(folder) / "spark.log", str(folder / "warehouse")
    builder = SparkSession.Builder().master("local[*]").appName("laptop")
    builder = builder.config(map={**_SETTINGS, "spark.sql.warehouse.dir": warehouse})
    try:
        with _stderr_to(log):
            builder = _with_delta(builder)
            session = builder.getOrCreate() if kind == "classic" else _connect(builder)
    except Exception as error:
        why = why_not(str(error), log.read_text(errors="replace"))
        raise LaptopError(f"Spark did not start: {why} (log: {log})") from error
    _find_tables(session, folder)
    _find_views(session, folder)
    return session


def _with_delta(builder: SparkSession.Builder) -> SparkSession.Builder:
    """With Delta's jars: those that are prepared, or what Ivy finds."""
    prepared = quick_start()
    if not (prepared / JARS).exists():
        from delta import configure_spark_with_delta_pip

        return configure_spark_with_delta_pip(builder)
    if (prepared / CLASSES).exists():
        builder = builder.config("spark.driver.extraJavaOptions", f"-XX:SharedArchiveFile={prepared / CLASSES}")
    return builder.config("spark.driver.extraClassPath", f"{prepared / JARS}/*")


def _once_more() -> SparkSession | None:
    """The session that this process has started already: for another thread, or after somebody's `stop()`."""
    if _SERVER:
        return _client()
    return SparkSession.Builder().getOrCreate() if SparkContext._active_spark_context else None


def _connect(builder: SparkSession.Builder) -> SparkSession:
    """A session with a server of this process's own, on a port that is free: several may run side by side."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = secrets.token_hex()
    builder = builder.config("spark.plugins", "org.apache.spark.sql.connect.SparkConnectPlugin")
    builder.config("spark.connect.grpc.binding.port", str(port)).getOrCreate()
    os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
    _SERVER[:] = [f"sc://localhost:{port}"]
    os.environ["SPARK_REMOTE"] = _SERVER[0]  # for notebooks, whose kernels share it
    return _client()


def _client() -> SparkSession:
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    return cast(SparkSession, ConnectSession.builder.remote(_SERVER[0]).getOrCreate())


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
