"""A workspace's API on loopback, for the unmodified WorkspaceClient. See the modules for how each part differs.

Any bearer token is let in, and whoever comes may do anything. It listens on 127.0.0.1 only.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bundle_laptop.api.endpoints import Endpoints
from bundle_laptop.api.faults import Faults
from bundle_laptop.api.jobs import Jobs, RunNow
from bundle_laptop.api.payloads import PayloadLog
from bundle_laptop.api.scoring import Loader, load_version
from bundle_laptop.api.secret_scopes import Secrets
from bundle_laptop.api.server import DISCOVERY, listening
from bundle_laptop.api.state import address_file, running_address, write_atomically
from bundle_laptop.api.synced_tables import SyncedTables, online_store_at
from bundle_laptop.api.volumes import Volumes
from bundle_laptop.api.web import Answer, Route, Router, json_answer
from bundle_laptop.errors import LaptopError


@contextmanager
def serve_workspace(
    folder: Path,
    *,
    port: int = 0,
    publish: bool = False,
    faults: Faults | None = None,
    online_store: str | None = None,
    run_now: RunNow | None = None,
    loader: Loader = load_version,
    draw: Callable[[], float] = random.random,
) -> Iterator[str]:
    """The address (http://127.0.0.1:<port>) of the workspace API of the world in `folder`, until the context ends.

    With `publish` other processes find it there (`running_address`). Requests in flight and updates under way are
    finished at the end. `online_store` is where synced tables go: a
    postgresql:// address, or else online.db in the folder. `run_now` starts runs of jobs, `loader` loads versions of
    models, and `draw` gives the numbers, from 0 to below 1, that share out traffic. Raises LaptopError if the port is
    taken, or the world is served already.
    """
    if publish and (running := running_address(folder)):
        raise LaptopError(f"{folder.name} is served already, at {running}; end that first (Ctrl-C)")
    faults = faults or Faults()
    with (
        closing(PayloadLog(folder)) as payloads,
        closing(Endpoints(folder, loader, secrets := Secrets(folder), payloads, draw)) as endpoints,
        closing(SyncedTables(folder, online_store_at(folder, online_store))) as synced_tables,
    ):
        parts = (faults, endpoints, Volumes(folder), secrets, synced_tables, Jobs(folder, run_now))
        routes = [*_identity(), *(route for part in parts for route in part.routes())]
        with listening(Router(routes), faults, port) as address:
            if publish:
                write_atomically(address_file(folder), address)
            try:
                yield address
            finally:
                if publish:
                    address_file(folder).unlink(missing_ok=True)


def _identity() -> list[Route]:
    me = {"id": "1", "userName": "local", "displayName": "local", "active": True, "emails": [{"value": "local"}]}

    def answer(_: object) -> Answer:
        return json_answer(me, headers={"X-Databricks-Org-Id": "1"})

    return [
        ("GET", DISCOVERY, lambda _: {"oidc_endpoint": ""}),
        ("GET", "/api/2.0/preview/scim/v2/Me", answer),
    ]
