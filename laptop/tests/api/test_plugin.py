"""The pytest plugin, as the tests of any bundle use it."""

import os
from typing import Any

import mlflow
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import ResourceConflict


def test_a_test_has_a_workspace_of_its_own(laptop_workspace: Any) -> None:
    laptop_workspace.client.secrets.create_scope("scope")
    assert [scope.name for scope in WorkspaceClient().secrets.list_scopes()] == ["scope"]
    assert os.environ["DATABRICKS_HOST"] == laptop_workspace.address
    assert (laptop_workspace.folder / "api/secrets.json").exists()
    assert mlflow.get_tracking_uri() == f"sqlite:///{laptop_workspace.folder}/mlflow.db"


def test_faults_are_injected(laptop_workspace: Any) -> None:
    laptop_workspace.faults.add(method="POST", path="scopes/create", action="conflict")
    with pytest.raises(ResourceConflict):
        laptop_workspace.client.secrets.create_scope("scope")
    laptop_workspace.client.secrets.create_scope("scope")
