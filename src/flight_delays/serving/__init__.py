"""The scoring service: one FastAPI app for a container and Azure ML."""
