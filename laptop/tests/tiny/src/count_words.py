"""Counts the words of a text."""

import argparse
from collections import Counter
from pathlib import Path

import mlflow
from databricks.sdk import WorkspaceClient
from databricks.sdk.runtime import dbutils
from pyspark.sql import SparkSession

arguments = argparse.ArgumentParser()
arguments.add_argument("--schema")
arguments.add_argument("--volume")
given = arguments.parse_args()
spark = SparkSession.builder.getOrCreate()
text = Path("text.txt").read_text()

counts = Counter(text.split())
frame = spark.createDataFrame([*counts.items()], "word string, n long")
frame.write.mode("overwrite").saveAsTable(f"{given.schema}.counts")
spark.sql(f"CREATE OR REPLACE VIEW {given.schema}.twice AS SELECT word FROM {given.schema}.counts WHERE n > 1")

path = f"/Volumes/{given.volume.replace('.', '/')}/text.txt"
WorkspaceClient().files.upload(path, open("text.txt", "rb"), overwrite=True)  # noqa: PTH123, SIM115

mlflow.start_run(run_name="count")  # of no experiment, and left open
mlflow.log_text(text, "text.txt")

longest = sorted(counts, key=lambda word: (-len(word), word))[:2]
dbutils.jobs.taskValues.set(key="words", value=len(counts))
dbutils.jobs.taskValues.set(key="longest", value=longest)
