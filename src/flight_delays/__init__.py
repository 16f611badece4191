"""From raw tables to monitored predictions on Azure Databricks, whatever the use case."""
