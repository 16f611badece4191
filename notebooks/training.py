# Databricks notebook source
# MAGIC %md
# MAGIC # A model, as the code makes it now
# MAGIC
# MAGIC Fits a model on features that `use_case/` **as it stands** makes, and tries it on the last days before the holdout.
# MAGIC Nothing is registered, and the holdout stays unseen: a model that was chosen on it would pass by luck. To register and
# MAGIC release a version, run the job `train`.

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
dbutils.widgets.text("holdout_days", "92", "Days that only the release job may see")
dbutils.widgets.text("trial_days", "28", "Days before them, to try the model on")

# COMMAND ----------

context = open_context(USE_CASE, dbutils.widgets.get("schema"), dbutils.widgets.get("as_of"))
training = look.training(
    context,
    dbutils.widgets.get("raw_schema"),
    holdout_days=int(dbutils.widgets.get("holdout_days")),
    trial_days=int(dbutils.widgets.get("trial_days")),
)

# COMMAND ----------

# MAGIC %md How well it forecasts the trial days.

# COMMAND ----------

display(training.tables["scores"])

# COMMAND ----------

# MAGIC %md Does a forecast of 30 % come true in 30 % of cases?

# COMMAND ----------

display(training.figures["calibration"])

# COMMAND ----------

# MAGIC %md What it looks at.

# COMMAND ----------

display(training.figures["importance"])

# COMMAND ----------

# MAGIC %md How well it ranks.

# COMMAND ----------

display(training.figures["roc"])
