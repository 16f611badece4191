# Databricks notebook source
# MAGIC %md
# MAGIC # What was forecast, and what happened
# MAGIC
# MAGIC Predictions of every version, and the champion's against the outcomes of days that it was not trained on.

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
dbutils.widgets.text("model_name", "", "Registered model: <catalog>.<schema>.<name>")
dbutils.widgets.text("as_of", "2014-01-02T00:00:00Z", "As of, UTC")

# COMMAND ----------

context = open_context(USE_CASE, dbutils.widgets.get("schema"), dbutils.widgets.get("as_of"))
predictions = look.predictions(context, dbutils.widgets.get("model_name"))

# COMMAND ----------

display(predictions.tables["by version"])

# COMMAND ----------

# MAGIC %md Mean forecast and share of late flights, day by day.

# COMMAND ----------

display(predictions.figures["by day"])

# COMMAND ----------

# MAGIC %md The further the two are apart, the better the model tells late flights from punctual ones.

# COMMAND ----------

display(predictions.figures["distribution"])
