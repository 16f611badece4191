"""Creates what a bundle's deployment creates, in the local world. Done again, it changes nothing."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from flight_delays.local.plan import Deployment
from flight_delays.platform.runtime import tracking_uri


def deploy(deployment: Deployment, local_dir: Path) -> None:
    """Schemas and tables of endpoints in Spark, models and experiments in MLflow's database, volumes as folders."""
    local_dir.mkdir(parents=True, exist_ok=True)
    for volume in deployment.volumes:
        volume.mkdir(parents=True, exist_ok=True)
    if deployment.schemas:
        _create_schemas(deployment.schemas)
    if deployment.endpoints:
        # The web service takes a second to import: only a job that needs it pays.
        from flight_delays.local.endpoints import create_tables

        create_tables(local_dir, deployment)
    if deployment.registered_models or deployment.experiments:
        _register(deployment, local_dir)


def endpoints(deployment: Deployment, local_dir: Path) -> AbstractContextManager[str | None]:
    """The address of a control plane with the deployment's endpoints while the context lasts; None if it has none."""
    if not deployment.endpoints:
        return nullcontext()
    from flight_delays.local.endpoints import served

    return served(local_dir, deployment)


def _create_schemas(names: tuple[str, ...]) -> None:
    # Spark and MLflow take seconds to import: only a job that needs them pays.
    from flight_delays.platform.session import spark_session

    for name in names:
        quoted = ".".join(f"`{part}`" for part in name.split("."))
        spark_session().sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")


def _register(deployment: Deployment, local_dir: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from flight_delays.platform.registry import quieten

    quieten()
    client = MlflowClient(tracking_uri(local_dir))
    for experiment in deployment.experiments:
        if client.get_experiment_by_name(experiment) is None:
            client.create_experiment(experiment, artifact_location=(local_dir / "mlartifacts").as_uri())
    for model in deployment.registered_models:
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
