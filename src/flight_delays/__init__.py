"""Will this flight arrive 15 minutes late or more? From raw tables to monitored predictions on Azure Databricks."""
