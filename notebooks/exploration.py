# Databricks notebook source
# MAGIC %md
# MAGIC # Yours to explore
# MAGIC
# MAGIC Tables by SQL or DataFrame, the package's functions by import; a change of the package counts from the next cell on.
# MAGIC Nothing here is part of a job. What proves useful moves into `use_case/`, with a test.

# COMMAND ----------

# MAGIC %pip install --quiet --editable ..

# COMMAND ----------

# MAGIC %restart_python

# COMMAND ----------

# MAGIC %load_ext autoreload
# MAGIC %autoreload 2

# COMMAND ----------

from flight_delays.platform.context import open_context
from flight_delays.use_case import USE_CASE

# COMMAND ----------

dbutils.widgets.text("schema", "", "Schema: <catalog>.<schema>")
dbutils.widgets.text("as_of", "2014-01-02T00:00:00Z", "As of, UTC")

# COMMAND ----------

context = open_context(USE_CASE, dbutils.widgets.get("schema"), dbutils.widgets.get("as_of"))
spark.sql(f"USE {context.tables.schema}")

# COMMAND ----------

# MAGIC %md For example: does the hour of departure matter more than the airport?

# COMMAND ----------

display(
    spark.sql("""
        SELECT origin, hour(from_utc_timestamp(sched_dep_ts, 'America/New_York')) AS hour,
               count(*) AS flights, round(avg(label), 3) AS late
        FROM features JOIN labels USING (entity_id)
        GROUP BY ALL ORDER BY late DESC
    """)
)
