# Databricks notebook source
# MAGIC %md
# MAGIC # What the data looks like
# MAGIC
# MAGIC Rows of each table, rows that were refused on the way in, and how many flights arrived late each day.
# MAGIC The widgets say which schema to look at; `databricks bundle summary` names yours.

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
from flight_delays.views import look

# COMMAND ----------

dbutils.widgets.text("schema", "", "Schema: <catalog>.<schema>")
dbutils.widgets.text("raw_schema", "", "Schema of the raw tables")
dbutils.widgets.text("as_of", "2014-01-02T00:00:00Z", "As of, UTC")

# COMMAND ----------

context = open_context(USE_CASE, dbutils.widgets.get("schema"), dbutils.widgets.get("as_of"))
data = look.data(context, dbutils.widgets.get("raw_schema"))

# COMMAND ----------

# MAGIC %md Rows by table. A table without rows has not been written by its job yet.

# COMMAND ----------

display(data.tables["rows"])

# COMMAND ----------

# MAGIC %md Rows that broke their contract, with every reason.

# COMMAND ----------

display(data.tables["rejects"])

# COMMAND ----------

# MAGIC %md Flights per day (bars) and the share of them that arrived 15 minutes late or more. Bad days come in spells: that is why the day, not the flight, is the unit of evidence.

# COMMAND ----------

display(data.figures["by day"])
