# Databricks notebook source
# MAGIC %md
# MAGIC # Words

# COMMAND ----------

# MAGIC %pip install --quiet tiny-words

# COMMAND ----------

dbutils.widgets.text("schema", "", "Schema")
dbutils.widgets.text("title", "none")

# COMMAND ----------

words = spark.table(dbutils.widgets.get("schema") + ".twice").orderBy("word")
display(words)

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT 1 + 1 AS two

# COMMAND ----------

dbutils.jobs.taskValues.set("twice", ", ".join(row.word for row in words.collect()))
dbutils.notebook.exit(dbutils.widgets.get("title"))
