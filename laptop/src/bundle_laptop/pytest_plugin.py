"""The fixture `laptop_workspace`: a workspace for one test, in a folder of its own.

    def test_the_key_is_read(laptop_workspace):
        laptop_workspace.client.secrets.create_scope("scope")
        ...

Code under test that calls WorkspaceClient() finds it by the environment, and MLflow finds its own database there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from bundle_laptop.api import Faults


@dataclass(frozen=True, kw_only=True)
class LaptopWorkspace:
    """A world, served at `address` as long as the test lasts, and the faults that it can be given."""

    folder: Path
    address: str
    faults: Faults

    @cached_property
    def client(self) -> WorkspaceClient:
        """A client of it."""
        from databricks.sdk import WorkspaceClient

        return WorkspaceClient(host=self.address, token="local", auth_type="pat")  # noqa: S106 (any will do)


@pytest.fixture
def laptop_workspace(tmp_path: Path) -> Iterator[LaptopWorkspace]:
    """A workspace of the test's own."""
    from bundle_laptop.api import Faults, environment, serve_workspace
    from bundle_laptop.world import environment_of, mlflow_at, tracking_uri

    folder, faults = tmp_path / "workspace", Faults()
    with (
        serve_workspace(folder, faults=faults) as address,
        environment_of(environment(address)),
        mlflow_at(tracking_uri(folder)),
    ):
        yield LaptopWorkspace(folder=folder, address=address, faults=faults)
