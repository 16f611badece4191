"""Workspace APIs of worlds in temporary folders, and clients of theirs."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config

from bundle_laptop.api import Faults, environment, serve_workspace


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A world that is served."""

    folder: Path
    address: str
    faults: Faults

    def new_client(self, **config: Any) -> WorkspaceClient:
        return WorkspaceClient(config=Config(**{"retry_timeout_seconds": 5, **config}))

    @property
    def client(self) -> WorkspaceClient:
        return self.new_client()

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """A plain request with a token."""
        headers = {"Authorization": "Bearer any", **options.pop("headers", {})}
        return requests.request(method, self.address + path, headers=headers, timeout=20, **options)

    def raw(self, text: bytes) -> bytes:
        """What is answered to bytes on the wire, until the connection is closed."""
        with socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), timeout=20) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


Serve = Callable[..., AbstractContextManager[Workspace]]


@contextmanager
def _served(folder: Path, patch: pytest.MonkeyPatch, **options: Any) -> Iterator[Workspace]:
    faults = options.pop("faults", None) or Faults()
    with serve_workspace(folder, faults=faults, **{"publish": True, **options}) as address:
        for name, value in environment(address).items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        yield Workspace(folder=folder, address=address, faults=faults)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Serves the world of a test, again and again if wanted; clients find it by the environment."""

    def served(**options: Any) -> AbstractContextManager[Workspace]:
        return _served(tmp_path / "dev", monkeypatch, **options)

    return served


@pytest.fixture(scope="module")
def serve_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Serves one world for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:

        def served(**options: Any) -> AbstractContextManager[Workspace]:
            return _served(tmp_path_factory.mktemp("world") / "dev", patch, **options)

        yield served


@pytest.fixture
def workspace(serve: Serve) -> Iterator[Workspace]:
    with serve() as workspace:
        yield workspace
