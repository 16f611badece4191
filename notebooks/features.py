# Databricks notebook source
# MAGIC %md
# MAGIC # Features, as the code makes them now
# MAGIC
# MAGIC The features are made from the raw tables by `use_case/features.py` **as it stands**, and written nowhere. Change the
# MAGIC code, run the cell of `look.features` again, and see what it does: `%autoreload` takes the change up without installing.

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
features = look.features(context, dbutils.widgets.get("raw_schema"))

# COMMAND ----------

# MAGIC %md The first flights, with what was known about each two hours before its scheduled departure.

# COMMAND ----------

display(features.tables["sample"])

# COMMAND ----------

# MAGIC %md `missing` is the share of flights without a value. An input that nobody fills shows here first.

# COMMAND ----------

display(features.tables["summary"])

# COMMAND ----------

# MAGIC %md The share of late flights over each feature: a flat line says little by itself. The dashed line is all flights.

# COMMAND ----------

display(features.figures["mean label"])
