"""Bundles in temporary folders, a toy package whose tasks their jobs run, and one Spark for all tests."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from bundle_laptop.bundle import load_bundle
from bundle_laptop.cli import main
from bundle_laptop.completed import completed, loaded
from bundle_laptop.plan import Plan, make_plan
from bundle_laptop.references import Resolver
from bundle_laptop.results import Result
from bundle_laptop.session import Session, opened
from bundle_laptop.settings import read_settings
from bundle_laptop.spark import spark_in

MAIN = """
bundle: {name: demo}
include: [resources/*.yml]
targets:
  dev: {default: true, mode: development}
  prod: {mode: production}
"""
# What a task does is its first argument; all of them go to a log in the world.
TOYS = """
import json, os, sys
from pathlib import Path

class Unfit(Exception): pass

class Late(Unfit): pass

def main():
    called_as, what, *rest = sys.argv
    assert called_as == "toy"
    log = Path(os.environ["LAPTOP_FOLDER"]) / "log.txt"
    with log.open("a") as file:
        file.write(" ".join([what, *rest]) + "\\n")
    if what == "set":
        from databricks.sdk.runtime import dbutils
        for key, value in json.loads(rest[0]).items():
            dbutils.jobs.taskValues.set(key=key, value=value)
    elif what == "set_long":
        from databricks.sdk.runtime import dbutils
        dbutils.jobs.taskValues.set("k", "x" * int(rest[0]))
    elif what == "get":
        from databricks.sdk.runtime import dbutils
        print(dbutils.jobs.taskValues.get(*rest), dbutils.widgets.getAll())
    elif what == "unfit":
        raise Late("no rows in May; run load first")
    elif what == "bug":
        raise KeyError("a lost key")
    elif what == "exit":
        sys.exit(int(rest[0]))
    elif what == "flaky" and log.read_text().count("flaky") < int(rest[0]):
        raise RuntimeError("not yet")
    elif what == "sleep":
        import time
        print("asleep", flush=True)
        time.sleep(60)
"""
# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("laptop", deadline=None)
hypothesis.settings.load_profile("laptop")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs Spark."""
    if "spark" in getattr(item, "fixturenames", ()):
        item.add_marker("spark")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A bundle in a folder."""

    root: Path

    def write(self, name: str, content: object) -> Path:
        """A file; what is no text is written as JSON, which is YAML."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    def add_job(self, key: str, *tasks: Mapping[str, Any], **rest: Any) -> None:
        """A job in a file of its own."""
        self.write(f"resources/{key}.yml", {"resources": {"jobs": {key: {"tasks": tasks, **rest}}}})

    def resolver(self, target: str | None = None, **variables: str) -> Resolver:
        bundle = load_bundle(self.root, target)
        folder, configured = self.root / ".local" / bundle.target, read_settings(self.root).variables
        return completed(loaded(Resolver(bundle=bundle, folder=folder, variables=variables, configured=configured)))

    def plan(self, *jobs: str, target: str | None = None, **variables: str) -> Plan:
        return make_plan(self.resolver(target, **variables), jobs or ["j"])

    @contextmanager
    def opened(self, target: str | None = None, **variables: str) -> Iterator[tuple[Session, io.StringIO]]:
        """Its session, and what is printed meanwhile."""
        printed = io.StringIO()
        with opened(self.root, target, variables, Console(file=printed, width=200)) as session:
            yield session, printed

    def run(self, *jobs: str, only: Sequence[str] = (), **parameters: str) -> list[Result]:
        with self.opened() as (session, _):
            return session.run(list(jobs or ["j"]), parameters, only)

    @property
    def world(self) -> Path:
        return self.root / ".local" / "dev"

    @property
    def log(self) -> list[str]:
        """What the toys did."""
        file = self.world / "log.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A bundle with two targets, dev and prod, and nothing else."""
    project = Project(root=tmp_path / "project")
    project.write("databricks.yml", MAIN)
    return project


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder in which a package is installed: modules by name, entry points by group."""

    def installed(name: str, modules: Mapping[str, str], entry_points: Mapping[str, str]) -> Path:
        site = tmp_path_factory.mktemp("site")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        groups = "\n".join(f"[{group}]\n{entry}" for group, entry in entry_points.items())
        (info / "entry_points.txt").write_text(groups, encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        for module, code in modules.items():
            (site / f"{module}.py").write_text(code, encoding="utf-8")
        return site

    return installed


@pytest.fixture(scope="session")
def toys_site(install: Callable[..., Path]) -> Path:
    entry_points = {"any_group": "toy = toys_module:main", "console_scripts": "toy = toys_module:main"}
    return install("toys", {"toys_module": TOYS}, entry_points)


@pytest.fixture
def toys(toys_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package `toys`, also for processes that a test starts."""
    monkeypatch.syspath_prepend(str(toys_site))
    monkeypatch.setenv("PYTHONPATH", str(toys_site))
    yield toys_site
    sys.modules.pop("toys_module", None)


@pytest.fixture
def laptop(
    project: Project,
    toys: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Runs the program in the bundle's folder, in this process: its exit code, and what it printed."""
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["laptop", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session of this process. If another test has started it already, its tables are in another folder.

    It interprets its queries: of many with few rows, most of the time would go into compiling code for each.
    """
    with spark_in(tmp_path_factory.mktemp("spark")):
        session = SparkSession.builder.getOrCreate()
        session.conf.set("spark.sql.codegen.wholeStage", "false")
        session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        yield session
