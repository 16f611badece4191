"""A workspace's API on loopback, for the unmodified WorkspaceClient. See the modules for how each part differs.

Any bearer token is let in, and whoever comes may do anything. It listens on 127.0.0.1 only.
"""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bundle_laptop.api.endpoints import Endpoints
from bundle_laptop.api.faults import Faults
from bundle_laptop.api.governed_tags import ACCOUNT, GovernedTags
from bundle_laptop.api.identities import Identities
from bundle_laptop.api.jobs import Jobs
from bundle_laptop.api.online_store import online_store_at
from bundle_laptop.api.scoring import Loader, load_version
from bundle_laptop.api.secret_scopes import Secrets
from bundle_laptop.api.server import DISCOVERY, listening
from bundle_laptop.api.state import write_atomically
from bundle_laptop.api.synced_tables import SyncedTables
from bundle_laptop.api.tables import PayloadLog
from bundle_laptop.api.volumes import Volumes
from bundle_laptop.api.web import Route, Router
from bundle_laptop.errors import LaptopError

_FOUND = {"oidc_endpoint": "", "account_id": ACCOUNT, "workspace_id": "1"}
_DISCOVERY: Route = ("GET", DISCOVERY, lambda _: _FOUND)


@contextmanager
def serve_workspace(
    folder: Path,
    *,
    port: int = 0,
    publish: bool = False,
    faults: Faults | None = None,
    online_store: str | None = None,
    loader: Loader = load_version,
    draw: Callable[[], float] = random.random,
) -> Iterator[str]:
    """The address (http://127.0.0.1:<port>) of the workspace API of the world in `folder`, until the context ends.

    With `publish` other processes find it there (`running_address`). Requests in flight and updates under way are
    finished at the end. `online_store` is where synced tables go: a postgresql:// address, or else online.db in the
    folder. `loader` loads versions of models, and `draw` gives the numbers, from 0 to below 1, that share out traffic.
    Raises LaptopError if the port is taken, or the world is served already.
    """
    if publish and (running := running_address(folder)):
        raise LaptopError(f"{folder.name} is served already, at {running}; end that first (Ctrl-C)")
    faults = faults or Faults()
    with (
        closing(PayloadLog(folder)) as payloads,
        closing(Endpoints(folder, loader, secrets := Secrets(folder), payloads, draw)) as endpoints,
        closing(SyncedTables(folder, online_store_at(folder, online_store))) as synced_tables,
    ):
        tags = GovernedTags(folder, identities := Identities(folder))
        parts = (endpoints, Volumes(folder), secrets, synced_tables, Jobs(folder), identities, tags)
        router = Router([_DISCOVERY, *(route for part in parts for route in part.routes())])
        with listening(router, faults, port) as address:
            if publish:
                write_atomically(_address_file(folder), address)
            try:
                yield address
            finally:
                if publish:
                    _address_file(folder).unlink(missing_ok=True)


def running_address(folder: Path) -> str | None:
    """The address at which the world in `folder` is served now, if it is; a killed server has left its file."""
    file = _address_file(folder)
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    try:
        socket.create_connection(("127.0.0.1", int(found.rpartition(":")[2])), timeout=1).close()
    except (ValueError, OSError):
        return None
    return found


def _address_file(folder: Path) -> Path:
    return folder / "api" / "address"
