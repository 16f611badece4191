"""Creates what a bundle's deployment creates, in the world. Idempotent."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bundle_laptop.plan import Deployment
from bundle_laptop.world import tracking_uri
from bundle_laptop.yaml_file import Tree


def deploy(deployment: Deployment, folder: Path, secrets: Mapping[str, str]) -> None:
    """Models and experiments in MLflow's database, volumes as folders, the rest over the workspace API.

    `secrets` are values by scope/key. Schemas are left to Spark, once it is asked for (see spark.py).
    """
    for volume in deployment.volumes:
        volume.mkdir(parents=True, exist_ok=True)
    if deployment.registered_models or deployment.experiments:
        _register(deployment, folder)
    if deployment.endpoints or deployment.secret_scopes or deployment.synced_tables:
        _over_the_api(deployment, secrets)


def _register(deployment: Deployment, folder: Path) -> None:
    from mlflow import MlflowClient  # takes a second to import: only who needs it pays
    from mlflow.exceptions import MlflowException

    for noisy in ("mlflow", "alembic"):  # they log how they make the database
        logging.getLogger(noisy).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri(folder))
    for experiment in deployment.experiments:
        if client.get_experiment_by_name(experiment) is None:
            client.create_experiment(experiment, artifact_location=str(folder / "mlartifacts"))
    for model in deployment.registered_models:
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _over_the_api(deployment: Deployment, secrets: Mapping[str, str]) -> None:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.errors import ResourceAlreadyExists

    client = WorkspaceClient()

    def create(route: str, body: Tree) -> None:
        with suppress(ResourceAlreadyExists):
            client.api_client.do("POST", f"/api/2.0/{route}", body=body)

    for scope in deployment.secret_scopes:
        create("secrets/scopes/create", {"scope": scope})
    for name, value in secrets.items():
        scope, _, key = name.partition("/")
        if scope in deployment.secret_scopes:
            client.secrets.put_secret(scope, key, string_value=value)
    for table in deployment.synced_tables:
        spec = {name: value for name, value in table.items() if name != "synced_table_id"}
        create(f"postgres/synced_tables?synced_table_id={table['synced_table_id']}", {"spec": spec})
    for endpoint in deployment.endpoints:
        create("serving-endpoints", endpoint)
