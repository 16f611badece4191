"""What tests share: one Spark session, one schema with all tables, one MLflow database, made-up flights."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pandas as pd
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.postgres import SyncedTable, SyncedTableSyncedTableSpec
from pyspark.sql import SparkSession
from tests.models import made_up_flights, tiny_training
from tests.worlds import SCHEMA, World, copied, folder_of, make_world

from bundle_laptop.api import Faults, serve_workspace
from bundle_laptop.api.scoring import Loader, load_version
from bundle_laptop.spark import KIND, spark_in
from bundle_laptop.world import mlflow_at, tracking_uri
from flight_delays.platform.delta import Tables
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry, Training, connect
from flight_delays.platform.session import spark_session
from flight_delays.tasks import tables as tables_task
from flight_delays.use_case import USE_CASE

EXPERIMENT = "experiment"
# Tests that share a session, and what they make on it, go to one process: those of whole jobs, those of tables.
SHARED = {
    "jobs": ("tests/faults/test_killed_stream.py", "tests/local/"),
    "tables": (
        "tests/faults/test_killed_job.py",
        "tests/faults/test_stream.py",
        "tests/faults/test_tasks.py",
        "tests/jobs/",
        "tests/spark/",
    ),
}
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--spark classic`: the same tests without Spark Connect."""
    parser.addoption("--spark", choices=["connect", "classic"], default="connect", help="Kind of the tests' Spark.")
    parser.addoption("--stream-cases", default=1, help="How many random streams are crashed and replayed.")
    parser.addoption("--stream-seed", default=1, help="Seed of the first of them.")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs Spark."""
    if "spark" in getattr(item, "fixturenames", ()):
        item.add_marker("spark")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Parallel processes go on file by file, but for those that share a session."""
    # By hand: `--dist loadgroup` of pytest-xdist 3.8 finds no group with pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((name for name, paths in SHARED.items() if file.startswith(paths)), file)

    return Sharing(config, log)


@pytest.fixture(scope="session", autouse=True)
def _spark_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Set for this process and those that tests start."""
    with pytest.MonkeyPatch.context() as environment:
        kind = str(request.config.getoption("--spark"))
        environment.setenv(KIND, kind)
        # Where a JVM lives for a minute, the second compiler and a parallel collector cost more than they bring.
        environment.setenv("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        yield kind


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Interprets its queries: of many with few rows, most of the time would go into compiling code for each."""
    with spark_in(tmp_path_factory.mktemp("spark")):
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("SPARK_SUBMIT_OPTS")  # it lives longer than that
            session = spark_session()
        session.conf.set("spark.sql.codegen.wholeStage", "false")
        session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        session.conf.set("spark.sql.shuffle.partitions", "1")
        yield session


@pytest.fixture(scope="session")
def template(spark: SparkSession) -> Tables:
    """All tables, empty, made by their SQL. To be copied, not written to."""
    template = Tables(spark=spark, schema="spark_catalog.template")
    spark.sql(f"CREATE SCHEMA {template.schema}")
    tables_task.create(template, USE_CASE)
    return template


@pytest.fixture(scope="session")
def new_tables(template: Tables) -> Callable[[str], Tables]:
    """Gives all tables in a schema of its own, empty at first."""
    return partial(copied, template)


@pytest.fixture(scope="session")
def tables(new_tables: Callable[[str], Tables]) -> Tables:
    """All tables; tests keep apart by key and by model name."""
    return new_tables("shared")


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    """50 days from 2013-01-01 with 20 labelled flights each; low visibility makes them late."""
    return made_up_flights()


@pytest.fixture(scope="session")
def training(flights: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Training]:
    """Makes a record of a tiny training run; `wrong` learns that low visibility keeps flights punctual."""

    def make(fingerprint: str = "fingerprint", *, wrong: bool = False) -> Training:
        return tiny_training(flights, tmp_path_factory.mktemp("model"), fingerprint, wrong=wrong)

    return make


@pytest.fixture(scope="session")
def _mlflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], AbstractContextManager[Registry]]:
    folder = tmp_path_factory.mktemp("mlflow")

    @contextmanager
    def connected() -> Iterator[Registry]:
        with mlflow_at(tracking_uri(folder)):
            registry = connect()
            if registry.client.get_experiment_by_name(EXPERIMENT) is None:
                registry.client.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
            yield registry

    return connected


@pytest.fixture
def registry(_mlflow: Callable[[], AbstractContextManager[Registry]]) -> Iterator[Registry]:
    """A registry in sqlite with one experiment and no model; MLflow's own settings come back afterwards."""
    with _mlflow() as registry:
        yield registry


@pytest.fixture(scope="session")
def _logged(
    _mlflow: Callable[[], AbstractContextManager[Registry]], training: Callable[..., Training]
) -> dict[bool, tuple[str, str]]:
    """Source and run of a good and of a wrong model, from which versions are made at no cost."""
    logged = {}
    with _mlflow() as registry:
        registry.client.create_registered_model("logged")
        for wrong in (False, True):
            number = registry.register(EXPERIMENT, "logged", training(f"wrong={wrong}", wrong=wrong))
            version = registry.client.get_model_version("logged", str(number))
            logged[wrong] = version.source, version.run_id
    return logged


@pytest.fixture
def new_version(registry: Registry, _logged: dict[bool, tuple[str, str]]) -> Callable[..., int]:
    """Registers a version of a model (made on first use) that was trained on the days before `until`."""

    def make(name: str, *, wrong: bool = False, until: date = date(2013, 2, 1)) -> int:
        if not registry.client.search_registered_models(f"name = '{name}'"):
            registry.client.create_registered_model(name)
        source, run = _logged[wrong]
        tags = {"trained_until": str(until), "baseline": "0.31", "git_commit": "0a1b2c3"}
        return int(registry.client.create_model_version(name, source, run, tags=tags, description="Tiny.").version)

    return make


@pytest.fixture
def faults() -> Faults:
    """What the workspace of `endpoints` meets with."""
    return Faults()


@pytest.fixture
def loader() -> Loader:
    """How the workspace of `endpoints` loads a version."""
    return load_version


@pytest.fixture
def endpoints(registry: Registry, faults: Faults, loader: Loader, tmp_path: Path) -> Iterator[Endpoints]:  # noqa: ARG001
    """A workspace with one endpoint, `delay`, that serves versions of the registry; nothing serves yet."""
    with serve_workspace(tmp_path, faults=faults, loader=loader) as address:
        client = WorkspaceClient(host=address, token="local")
        client.secrets.create_scope("scope")
        client.secrets.put_secret("scope", "online-store", string_value=f"sqlite:///{tmp_path / 'online.db'}")
        client.serving_endpoints.create("delay")
        yield Endpoints(client=client, sleep=lambda _: time.sleep(0.05))


@pytest.fixture
def sync(spark: SparkSession, endpoints: Endpoints, tmp_path: Path) -> Callable[[str, str, str], None]:
    """Has the workspace of `endpoints` sync a table of this Spark: its name, its copy's, and what tells the newest."""
    (tmp_path / "warehouse").symlink_to(folder_of(spark, "any").parent)

    def make(source: str, name: str, newest_by: str) -> None:
        spec = SyncedTableSyncedTableSpec(
            source_table_full_name=source, primary_key_columns=["entity_id"], timeseries_key=newest_by
        )
        endpoints.client.postgres.create_synced_table(SyncedTable(spec=spec), name).wait()

    return make


@pytest.fixture(scope="session")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Features, training, release and scoring have run once, on two months, in this process and its Spark."""
    world = make_world(tmp_path_factory.mktemp("world"))
    (world.folder / "warehouse").mkdir(parents=True)
    for schema in (SCHEMA, "system_serving"):
        (folder := folder_of(spark, schema)).mkdir(parents=True, exist_ok=True)
        (world.folder / "warehouse" / folder.name).symlink_to(folder)
    world.run("features", "train", "score_batch")
    return world


@pytest.fixture(scope="session")
def write_flights(flights: pd.DataFrame) -> Callable[[Tables], None]:
    """Writes the flights to features and labels."""

    def write(tables: Tables) -> None:
        labels = flights.rename(columns={"label_known_at": "known_at"})
        for table, rows in (("features", flights), ("labels", labels)):
            schema = tables.read(table).schema
            frame = tables.spark.createDataFrame(rows.reindex(columns=schema.names), schema)
            frame.write.format("delta").mode("append").saveAsTable(tables.name(table))

    return write


@pytest.fixture(scope="session")
def loaded(tables: Tables, write_flights: Callable[[Tables], None], flights: pd.DataFrame) -> pd.DataFrame:
    """The flights, in features and labels."""
    write_flights(tables)
    return flights
