"""The scoring service: one FastAPI app for a laptop, a container and Azure ML."""
