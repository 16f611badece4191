"""Spark as a task finds it, what another process finds of its tables and views, and what is said if it can't start."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from bundle_laptop.spark import _find_views, keep_views, spark_in, why_not

Laptop = Callable[..., tuple[int, str, str]]
PATIENCE_S = 120
# Where a JVM lives for seconds, the second compiler and a parallel collector cost more than they bring.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Whoever has started the tests may have it ignore Ctrl-C.
PROGRAM = "import signal; signal.signal(2, signal.default_int_handler); from bundle_laptop.cli import main; main()"
# The path of a bundle, with what Spark, MLflow or Java could take for something else.
ROOT = "c d/é+=(1)"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("There is insufficient memory for the Java Runtime Environment to continue.", "too little memory"),
        ("error='Cannot allocate memory' (errno=12)", "too little memory"),
        ("Exception: java.lang.UnsupportedClassVersionError: org/apache/spark/Main", "Java 17 or 21"),
        ("JAVA_HOME is not set", "Java 17 or 21"),
        ("spark-class: line 71: /usr/lib/jvm/gone/bin/java: No such file or directory", "Java 17 or 21"),
        (":: UNRESOLVED DEPENDENCIES ::", "connect to the network"),
        ("java.net.BindException: Cannot assign requested address", "SPARK_LOCAL_IP"),
    ],
)
def test_a_cause_that_a_person_can_mend_is_named(log: str, said: str) -> None:
    assert said in why_not("[JAVA_GATEWAY_EXITED] Java gateway process exited", f"loading\n{log}\nbye")


def test_another_cause_is_the_errors_first_line() -> None:
    assert why_not("broken\n  at line 1", "nothing to see") == "broken"


def test_a_view_of_all_columns_is_found_again_as_it_was_though_its_table_has_got_more(
    spark: SparkSession, tmp_path: Path
) -> None:
    schema, world = "spark_catalog.grown", tmp_path / "dev"
    (world / "warehouse" / "grown.db").mkdir(parents=True)
    with spark_in(world, [schema]):
        SparkSession.builder.getOrCreate()
        spark.sql(f"CREATE TABLE {schema}.t USING delta AS SELECT 1 AS a")
        spark.sql(f"CREATE VIEW {schema}.v (a COMMENT 'First') COMMENT 'All' AS SELECT * FROM {schema}.t -- of them")
        spark.sql(f"CREATE VIEW {schema}.gone AS SELECT * FROM {schema}.t WHERE a > 1")
        spark.sql(f"ALTER TABLE {schema}.t ADD COLUMNS (b INT)")
        kept = []
        for _ in range(2):
            keep_views(world)
            kept.append((world / "views.json").read_text())
            spark.sql(f"DROP VIEW {schema}.v")
            _find_views(spark, world)
            assert spark.table(f"{schema}.v").columns == ["a"]
        assert kept[0] == kept[1]
        assert spark.sql(f"DESCRIBE {schema}.v").collect()[0]["comment"] == "First"
        spark.sql(f"DROP TABLE {schema}.t")
        keep_views(world)
        _find_views(spark, world)  # without an error


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("LAPTOP_SPARK", "livy", "LAPTOP_SPARK is 'livy'; set it to connect or classic"),
        ("JAVA_HOME", "/nowhere", "Spark did not start: it needs Java 17 or 21; install one and name it in JAVA_HOME "),
    ],
)
def test_a_spark_that_does_not_start_says_why_in_one_line(tmp_path: Path, variable: str, value: str, line: str) -> None:
    code = """
import sys
from pathlib import Path
from pyspark.sql import SparkSession
from bundle_laptop.errors import LaptopError
from bundle_laptop.spark import spark_in
with spark_in(Path(sys.argv[1])):
    try:
        SparkSession.builder.getOrCreate()
    except LaptopError as error:
        print(error)
"""
    environment = {name: each for name, each in os.environ.items() if not name.startswith("SPARK_")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(
        command, env=environment | {variable: value}, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert ended.stdout.startswith(line)
    assert ended.stdout.count("\n") == 1


def test_a_task_finds_the_processs_session_with_the_schemas_of_its_bundle(spark: SparkSession, tmp_path: Path) -> None:
    original = SparkSession.Builder.getOrCreate
    with spark_in(tmp_path, ["spark_catalog.spark_one", "spark_catalog.spark_two"]):
        assert not spark.catalog.databaseExists("spark_one")  # nobody has asked for Spark yet
        session = SparkSession.builder.appName("any").config("spark.sql.ansi.enabled", "false").getOrCreate()
        assert session is spark
        assert session.conf.get("spark.sql.ansi.enabled") == "false"
        assert session.conf.get("spark.sql.session.timeZone") == "UTC"
        assert {"spark_one", "spark_two"} <= {row[0] for row in session.sql("SHOW SCHEMAS").collect()}
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: SparkSession.builder.getOrCreate().range(3).count()).result() == 3
    assert SparkSession.Builder.getOrCreate is original
    spark.conf.set("spark.sql.ansi.enabled", "true")


@pytest.mark.usefixtures("spark")
def test_sql_shows_what_a_query_finds_and_a_mistake_in_one_line(project: Any, laptop: Laptop) -> None:
    project.world.mkdir(parents=True)
    code, out, _ = laptop("sql", "SELECT id + 1 AS n FROM range(60)")
    assert code == 0
    assert "only showing top 50 rows" in out
    assert "| 50|" in out
    code, _, err = laptop("sql", "SELECT * FROM nowhere")
    assert code == 2
    assert err.startswith("laptop: [TABLE_OR_VIEW_NOT_FOUND]")
    assert err.count("\n") == 1


NOTEBOOK = """# Databricks notebook source
dbutils.widgets.text("day", "none")
dbutils.widgets.text("rows", "3")

# COMMAND ----------

print("on", dbutils.widgets.get("day"), spark.range(int(dbutils.widgets.get("rows"))).count())
"""


@pytest.mark.usefixtures("spark")
def test_notebooks_have_the_options_of_the_jobs_and_widgets_given_and_their_pages_are_named(
    project: Any, laptop: Laptop
) -> None:
    for name, code in {"a": NOTEBOOK, "b": NOTEBOOK, "broken": f"{NOTEBOOK}\nraise KeyError('lost')"}.items():
        project.write(f"notebooks/{name}.py", code)
    wheel = {"package_name": "toys", "entry_point": "toy", "parameters": ["--day=${bundle.target}day"]}
    project.add_job("j", {"task_key": "t", "python_wheel_task": wheel})
    code, out, _ = laptop("notebook", "a", "b", "--widget", "rows=7")
    pages = [project.world / f"notebooks/{name}.html" for name in "ab"]
    assert (code, out) == (0, f"a: running\n{pages[0]}\nb: running\n{pages[1]}\n")
    assert all("on devday 7" in page.read_text() for page in pages)
    code, _, err = laptop("notebook", "broken")
    assert (code, err) == (2, f"laptop: broken.py: KeyError: 'lost'; see {project.world}/notebooks/broken.html\n")


MAKE = """
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
spark.createDataFrame([("a", 1), ("b", 2)], "word string, n int").write.saveAsTable("words.counts")
spark.range(3).write.saveAsTable("in_default")
spark.sql("CREATE VIEW words.z AS SELECT * FROM words.counts WHERE n > 1")
spark.sql("CREATE VIEW words.a AS SELECT word FROM words.z")  # made again before what it selects from
spark.sql("CREATE TEMPORARY VIEW t AS SELECT 1")
if type(spark).__module__.startswith("pyspark.sql.connect"):
    spark.stop()  # it is the process's, not the task's
"""
LOOK = """
import json, os, time
from pathlib import Path
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
java = [p.name for p in Path("/proc").glob("[0-9]*") if (p / "status").exists() and
        f"PPid:\\t{os.getpid()}\\n" in (p / "status").read_text() and "java" in os.readlink(p / "exe")]
found = {"counts": spark.table("words.counts").count(), "default": spark.table("in_default").count(),
         "a": [row.word for row in spark.table("words.a").collect()], "java": java}
Path("found.tmp").write_text(json.dumps(found))
Path("found.tmp").rename("found.json")
time.sleep(60)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose job `make` has run, in a process of its own."""
    root = tmp_path_factory.mktemp("spark") / ROOT
    (root / "src").mkdir(parents=True)
    files = {"make": MAKE, "more": "print(spark.table('words.counts').count(), 'rows')", "look": LOOK}
    for name, code in files.items():
        (root / f"src/{name}.py").write_text(code)
    jobs: dict[str, Any] = {
        name: {"tasks": [{"task_key": name, "spark_python_task": {"python_file": f"src/{name}.py"}}]} for name in files
    }
    second = {"task_key": "again", "spark_python_task": {"python_file": "src/more.py"}}
    jobs["make"]["tasks"].append({**second, "depends_on": [{"task_key": "make"}]})
    jobs["make"]["parameters"] = [{"name": "schema", "default": "${resources.schemas.words.name}"}]
    resources = {"schemas": {"words": {"catalog_name": "spark_catalog", "name": "words"}}, "jobs": jobs}
    tree = {"bundle": {"name": "words"}, "targets": {"dev": {"default": True}}, "resources": resources}
    (root / "databricks.yml").write_text(json.dumps(tree))
    with started(root, "run", "make") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    assert "2 rows" in out
    return root


def started(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """`laptop` in a process of its own, which has no session yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=root,
        env=environment | {"SPARK_SUBMIT_OPTS": SHORT_LIVED},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.spark
def test_all_of_a_world_is_in_its_folder_whatever_its_path(bundle: Path) -> None:
    assert {path.name for path in bundle.parents[1].iterdir()} == {Path(ROOT).parts[0]}
    assert {path.name for path in bundle.parent.iterdir()} == {bundle.name}
    assert {path.name for path in bundle.iterdir()} == {".local", "databricks.yml", "src"}
    assert {path.name for path in (bundle / "src").iterdir()} == {"make.py", "more.py", "look.py"}
    tables = {str(log.parent.relative_to(bundle)) for log in bundle.rglob("_delta_log")}
    assert tables == {".local/dev/warehouse/words.db/counts", ".local/dev/warehouse/in_default"}


@pytest.mark.spark
def test_another_process_finds_tables_and_views_again_and_ctrl_c_ends_it_with_its_spark(bundle: Path) -> None:
    with started(bundle, "run", "look") as process:
        until = time.monotonic() + PATIENCE_S
        while not (bundle / "src/found.json").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        out, err = process.communicate(timeout=PATIENCE_S)
        took = time.monotonic() - asked
    found = json.loads((bundle / "src/found.json").read_text())
    (java,) = found.pop("java")
    assert found == {"counts": 2, "default": 3, "a": ["b"]}
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert took < 5, took
    until = time.monotonic() + PATIENCE_S
    while (Path("/proc") / java).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
