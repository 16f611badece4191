"""A folder of a volume, or of this machine: by its path where that is mounted, else by the workspace's Files API."""

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Protocol

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound

from flight_delays.core.errors import UserError
from flight_delays.platform.sdk_errors import one_line
from flight_delays.platform.session import is_connected

_PATIENCE_S = 15
"""How long a workspace that does not answer is asked again."""

_AT_ONCE = 8
"""Files that are deleted at the same time."""

_SIGN_IN = (
    "sign in with `databricks auth login`, name the profile in DATABRICKS_CONFIG_PROFILE, and see that you may read "
    "and write the volume"
)
_SEE_IT = "see that it is there, and that you may read and write it"


class Folder(Protocol):
    """Of files by their name. Raises UserError, in one line, for what keeps it from reading and writing them."""

    @property
    def path(self) -> str:
        """Where it is."""

    @property
    def parent(self) -> "Folder":
        """The one that it is in."""

    def exists(self) -> bool:
        """Whether it does."""

    def read_text(self, name: str) -> str:
        """What a file says."""

    def write(self, name: str, text: str) -> None:
        """Make a file say this, whatever it said."""

    def remove_tree(self) -> None:
        """Remove it with all that is in it."""


@dataclass(frozen=True, kw_only=True)
class MountedFolder:
    """A folder of this machine: a laptop's own, or one of /Volumes on a Databricks runtime."""

    path: str

    @property
    def parent(self) -> "MountedFolder":
        """The one that it is in."""
        return MountedFolder(path=str(Path(self.path).parent))

    def exists(self) -> bool:
        """Whether it does."""
        return Path(self.path).is_dir()

    def read_text(self, name: str) -> str:
        """What a file says."""
        with _in_one_line(self.path, _SEE_IT):
            return Path(self.path, name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        """Make a file say this, whatever it said."""
        with _in_one_line(self.path, _SEE_IT):
            Path(self.path, name).write_text(text, encoding="utf-8")

    def remove_tree(self) -> None:
        """Remove it with all that is in it."""
        with _in_one_line(self.path, _SEE_IT):
            shutil.rmtree(self.path)


@dataclass(frozen=True, kw_only=True)
class WorkspaceFolder:
    """A folder of a volume, over HTTP: what a laptop with Databricks Connect sees of it."""

    path: str
    client: WorkspaceClient

    @property
    def parent(self) -> "WorkspaceFolder":
        """The one that it is in."""
        return replace(self, path=str(PurePosixPath(self.path).parent))

    def exists(self) -> bool:
        """Whether it does."""
        with _in_one_line(self.path):
            try:
                self.client.files.get_directory_metadata(self.path)
            except NotFound:
                return False
        return True

    def read_text(self, name: str) -> str:
        """What a file says."""
        with _in_one_line(self.path):
            contents = self.client.files.download(f"{self.path}/{name}").contents
            return contents.read().decode() if contents else ""

    def write(self, name: str, text: str) -> None:
        """Make a file say this, whatever it said."""
        with _in_one_line(self.path):
            self.client.files.upload(f"{self.path}/{name}", BytesIO(text.encode()), overwrite=True)

    def remove_tree(self) -> None:
        """Remove it with all that is in it, its own files first: the API deletes a folder only when it is empty."""
        with _in_one_line(self.path):
            entries = list(self.client.files.list_directory_contents(self.path))
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                list(threads.map(self._delete, [entry.path or "" for entry in entries if not entry.is_directory]))
            for entry in entries:
                if entry.is_directory:
                    replace(self, path=entry.path or "").remove_tree()
            with suppress(NotFound):  # some clouds have no empty folders
                self.client.files.delete_directory(self.path)

    def _delete(self, file: str) -> None:
        with suppress(NotFound):  # Spark deletes what it needs no more
            self.client.files.delete(file)


def folder(path: str) -> Folder:
    """The folder at a path, as this process reaches it. Raises UserError if no workspace is configured."""
    if not is_connected():
        return MountedFolder(path=path)
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # its warnings say what the error then says
    with _in_one_line(path):
        return WorkspaceFolder(path=path, client=WorkspaceClient(config=Config(retry_timeout_seconds=_PATIENCE_S)))


@contextmanager
def _in_one_line(path: str, fix: str = _SIGN_IN) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: databricks-sdk finds no way to sign in
        raise UserError(f"{path} cannot be reached: {one_line(error)}; {fix}") from error
