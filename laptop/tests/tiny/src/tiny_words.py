"""What the wheel tasks of the tiny bundle call."""

import argparse

from databricks.sdk.runtime import dbutils


class UnfitError(Exception):
    """What a person has to fix."""


def given(*names: str) -> argparse.Namespace:
    """The options of the task."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def complain() -> None:
    """Fail, as there are too few words."""
    raise UnfitError("too few words; write more")


def shout() -> None:
    """Tell a word."""
    options = given("word", "schema", "target")
    dbutils.jobs.taskValues.set("said", f"{options.word.upper()} in {options.schema}, {options.target}")


def train() -> None:
    """Register a model that knows how long a word is."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from mlflow.pyfunc import PythonModel

    class Length(PythonModel):  # type: ignore[misc]  # MLflow's is untyped
        def predict(self, context: object, model_input: pd.DataFrame) -> list[int]:  # noqa: ARG002
            return [len(word) for word in model_input["word"]]

    options = given("experiment", "model")
    mlflow.set_experiment(options.experiment)
    example = pd.DataFrame({"word": ["tiny"]})
    with mlflow.start_run(run_name="train"):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=Length(),
            signature=infer_signature(example, [4.0]),
            input_example=example,
            registered_model_name=options.model,
            pip_requirements=[],
        )
    dbutils.jobs.taskValues.set("version", logged.registered_model_version)


def deploy() -> None:
    """Serve a version, and ask it."""
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServedEntityInput

    options = given("endpoint", "model", "version", "word")
    served = ServedEntityInput(
        entity_name=options.model, entity_version=options.version, workload_size="Small", scale_to_zero_enabled=True
    )
    endpoints = WorkspaceClient().serving_endpoints
    endpoints.update_config_and_wait(options.endpoint, served_entities=[served])
    answer = endpoints.query(options.endpoint, dataframe_records=[{"word": options.word}])
    dbutils.jobs.taskValues.set("length", answer.predictions[0])
