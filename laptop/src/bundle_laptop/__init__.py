"""Runs the jobs, notebooks and serving endpoints of a Databricks bundle without a workspace."""
