"""Let local Spark start quickly: Delta's jars in a folder, and beside them an archive of the classes that it loads.

`python -m bundle_laptop.quick_start` makes both, once per environment; without them a session finds the jars by Ivy,
and takes about twice as long to start.
Source: dynamic archives, https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

from bundle_laptop.spark import CLASSES, JARS, quick_start, spark_in


def main() -> None:
    """Make what is missing."""
    folder = quick_start()
    if (folder / CLASSES).exists():
        return
    print("Preparing Spark for quick starts (a minute, once) ...", flush=True)
    try:
        _make(folder)
    except subprocess.CalledProcessError as error:
        why = next((line for line in error.stderr.splitlines() if "Error: " in line), error)
        print(f"Spark could not be prepared for quick starts: {why}", file=sys.stderr)


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as made:
        new = Path(made) / folder.name
        (new / JARS).mkdir(parents=True)
        for jar in _run("jars", made).split(","):
            if Path(jar).name.startswith(("io.delta_", "io.unitycatalog_")):  # Spark has the others itself
                shutil.copy(jar.removeprefix("file:"), new / JARS)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(new, folder)
        archive = Path(made) / CLASSES
        _run("work", made, SPARK_SUBMIT_OPTS=f"-XX:ArchiveClassesAtExit={archive}")
        shutil.move(archive, folder)


def _run(what: str, folder: str, **environment: str) -> str:
    """What a process with a session of its own prints; until its JVM has ended too, which holds its output open."""
    command = [sys.executable, __file__, what, folder]
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def jars() -> None:
    """Print where Ivy has put the jars."""
    print(SparkSession.builder.getOrCreate().conf.get("spark.jars"))


def work() -> None:
    """What most sessions do; as it ends, the JVM writes its archive."""
    spark = SparkSession.builder.getOrCreate()
    rows = spark.range(100).selectExpr("id", "id % 7 AS day", "current_timestamp() AS at")
    rows.write.format("delta").saveAsTable("rows")
    rows.createOrReplaceTempView("new")
    spark.sql(
        "MERGE INTO rows USING new ON rows.id = new.id WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )
    spark.sql("SELECT day, count(*), max(at) FROM rows GROUP BY day ORDER BY day").toArrow()
    spark.sql("DESCRIBE HISTORY rows").collect()


if __name__ == "__main__":
    if sys.argv[1:]:
        with spark_in(Path(sys.argv[2])):
            {"jars": jars, "work": work}[sys.argv[1]]()
    else:
        main()
