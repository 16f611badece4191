# Databricks notebook source
# MAGIC %md
# MAGIC # May this version serve?
# MAGIC
# MAGIC The latest verdict on the model, and the last decisions: verdicts before it, and changes of the version that serves.

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
verdict = look.verdict(context, dbutils.widgets.get("model_name"))

# COMMAND ----------

# MAGIC %md Each check of the latest verdict and its reason. Only PASS everywhere lets a version serve.

# COMMAND ----------

display(verdict.tables["checks"])

# COMMAND ----------

# MAGIC %md Estimate and bounds from resampled days. A check passes if its whole interval lies at or left of the black line; a loss compared with another version's fails if it lies right of 0.

# COMMAND ----------

display(verdict.figures["intervals"])

# COMMAND ----------

# MAGIC %md How much higher the loss is in each slice; bounds hold for all slices at once. Only shown harm fails.

# COMMAND ----------

display(verdict.tables["slices"])

# COMMAND ----------

display(verdict.figures["slices"])

# COMMAND ----------

# MAGIC %md The last decisions, newest first, with a sentence on each: verdicts, and which version served from when on.

# COMMAND ----------

display(verdict.tables["decisions"])
