"""A folder of a volume, or of this machine: by its path where that is mounted, else by the workspace's Files API."""

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath

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


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder reached over HTTP by `client`; without one, by its path on this machine.

    Methods raise UserError, in one line, for what keeps them from reading and writing.
    """

    path: str
    client: WorkspaceClient | None = None

    @property
    def parent(self) -> "Folder":
        """The one that it is in."""
        return replace(self, path=str(PurePosixPath(self.path).parent))

    def exists(self) -> bool:
        """Whether it is there, and a folder."""
        if self.client is None:
            return Path(self.path).is_dir()
        with _in_one_line(self):
            try:
                self.client.files.get_directory_metadata(self.path)
            except NotFound:
                return False
        return True

    def read_text(self, name: str) -> str:
        """What a file says."""
        with _in_one_line(self):
            if self.client is None:
                return Path(self.path, name).read_text(encoding="utf-8")
            contents = self.client.files.download(f"{self.path}/{name}").contents
            return contents.read().decode() if contents else ""

    def write(self, name: str, text: str) -> None:
        """Make a file say this, whatever it said."""
        with _in_one_line(self):
            if self.client is None:
                Path(self.path, name).write_text(text, encoding="utf-8")
            else:
                self.client.files.upload(f"{self.path}/{name}", BytesIO(text.encode()), overwrite=True)

    def remove_tree(self) -> None:
        """Remove it with all that is in it."""
        with _in_one_line(self):
            if self.client is None:
                shutil.rmtree(self.path)
            else:
                _remove_tree(self.client, self.path)


def folder(path: str) -> Folder:
    """The folder at a path, as this process reaches it. Raises UserError if no workspace is configured."""
    found = Folder(path=path)
    if not is_connected():
        return found
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # its warnings say what the error then says
    with _in_one_line(found, _SIGN_IN):
        return replace(found, client=WorkspaceClient(config=Config(retry_timeout_seconds=_PATIENCE_S)))


def _remove_tree(client: WorkspaceClient, path: str) -> None:
    """A folder's own files first: the API deletes it only when it is empty, and without them it is no checkpoint."""

    def delete(file: str) -> None:
        with suppress(NotFound):  # Spark deletes what it needs no more
            client.files.delete(file)

    entries = list(client.files.list_directory_contents(path))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(delete, [entry.path or "" for entry in entries if not entry.is_directory]))
    for entry in entries:
        if entry.is_directory:
            _remove_tree(client, entry.path or "")
    with suppress(NotFound):  # some clouds have no empty folders
        client.files.delete_directory(path)


@contextmanager
def _in_one_line(folder: Folder, fix: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: databricks-sdk finds no way to sign in
        fix = fix or (_SIGN_IN if folder.client else _SEE_IT)
        raise UserError(f"{folder.path} cannot be reached: {one_line(error)}; {fix}") from error
