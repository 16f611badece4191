"""The only code that touches the world: Spark and Delta, the MLflow registry, the job that runs a task."""
