"""A target's serving endpoints on a laptop: their tables, their secrets, and the control plane that serves them."""

import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from databricks.sdk.errors import NotFound
from databricks.sdk.service.serving import ServedModelStateDeployment
from deltalake import DeltaTable, write_deltalake
from fastapi import FastAPI

from flight_delays.core.errors import UserError
from flight_delays.core.use_case import UseCase
from flight_delays.local.control_plane import serve_in_background
from flight_delays.local.endpoints_api import ServedEntityRow
from flight_delays.local.plan import Deployment
from flight_delays.local.references import LAPTOP_VARIABLES
from flight_delays.local.wheel import environment_of
from flight_delays.platform import registry
from flight_delays.platform.endpoints import ONLINE_STORE_SECRET, connect
from flight_delays.platform.runtime import CONTROL_PLANE, online_store
from flight_delays.platform.shell import ONLINE_TABLE
from flight_delays.serving.app import create_app
from flight_delays.serving.payloads import SCHEMA as PAYLOAD_SCHEMA
from flight_delays.serving.payloads import PayloadLog
from flight_delays.serving.service import Scorer, Service, load_scorer
from flight_delays.serving.settings import Settings

SERVED_ENTITIES = LAPTOP_VARIABLES["served_entities_table"]
ADDRESS = "control_plane.txt"
_SERVED_ENTITIES_SCHEMA = pa.schema(
    [
        ("served_entity_id", pa.string()),
        ("endpoint_name", pa.string()),
        ("served_entity_name", pa.string()),
        ("entity_type", pa.string()),
        ("entity_name", pa.string()),
        ("entity_version", pa.string()),
        ("endpoint_config_version", pa.int64()),
        ("change_time", pa.timestamp("us", tz="UTC")),
    ]
)


def location(local_dir: Path, table: str) -> Path:
    """Where a table, named <catalog>.<schema>.<table>, lies in a local world."""
    _, schema, name = table.split(".")
    return local_dir / "warehouse" / f"{schema}.db" / name


def create_tables(local_dir: Path, deployment: Deployment) -> None:
    """Make the tables that a workspace itself would write and that do not exist, for Spark too."""
    from flight_delays.platform.session import spark_session

    tables = [(SERVED_ENTITIES, _SERVED_ENTITIES_SCHEMA, "What each served entity was")]
    kept = [endpoint.inference_table for endpoint in deployment.endpoints if endpoint.inference_table]
    tables += [(table, PAYLOAD_SCHEMA, "Requests to the endpoint, as Databricks logs them") for table in kept]
    for table, schema, description in tables:
        folder = location(local_dir, table)
        DeltaTable.create(folder, schema, mode="ignore", description=description)
        spark_session().sql(f"CREATE SCHEMA IF NOT EXISTS {table.rpartition('.')[0]}")
        spark_session().sql(f"CREATE TABLE IF NOT EXISTS {table} USING delta LOCATION '{folder.as_uri()}'")


@contextmanager
def served(local_dir: Path, deployment: Deployment, *, port: int = 0) -> Iterator[str]:
    """The address of the control plane with the deployment's endpoints, which tasks of this process then talk to.

    That of `flight-delays local serve`, if it runs for this world; otherwise one of its own, until the context ends.
    """
    running = address(local_dir)
    if running and port:
        raise UserError(f"{local_dir.name} is served already, at {running}; end that first (Ctrl-C)")
    serving: AbstractContextManager[str] = nullcontext(running) if running else _started(local_dir, deployment, port)
    with serving as found, environment_of({CONTROL_PLANE: found}):
        client = connect().client
        for endpoint in deployment.endpoints:
            try:
                live = client.serving_endpoints.get(endpoint.name)
            except NotFound:
                client.serving_endpoints.create(endpoint.name)
                continue
            for entity in (live.config.served_entities if live.config else None) or []:
                if entity.state and entity.state.deployment is ServedModelStateDeployment.DEPLOYMENT_FAILED:
                    why = entity.state.deployment_state_message
                    print(f"Endpoint {endpoint.name} does not serve what was released: {why}", file=sys.stderr)
        yield found


def address(local_dir: Path) -> str | None:
    """Of the control plane that serves this world now, if one does; one that was killed has left its file."""
    file = local_dir / ADDRESS
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    try:
        socket.create_connection(("127.0.0.1", int(found.rpartition(":")[2])), timeout=1).close()
    except (ValueError, OSError):
        return None
    return found


@contextmanager
def _started(local_dir: Path, deployment: Deployment, port: int) -> Iterator[str]:
    inference_tables = {endpoint.name: endpoint.inference_table for endpoint in deployment.endpoints}

    def make_app(service: Service) -> FastAPI:
        table = inference_tables.get(service.endpoint)
        log = PayloadLog(str(location(local_dir, table))) if table else None
        return create_app(service, Settings(tokens=None), log)

    def on_served(rows: Sequence[ServedEntityRow]) -> None:
        found = pa.Table.from_pylist([asdict(row) for row in rows], _SERVED_ENTITIES_SCHEMA)
        write_deltalake(location(local_dir, SERVED_ENTITIES), found, mode="append")

    store = f"sqlite:///{online_store(local_dir)}"
    secrets = {f"{scope}/{ONLINE_STORE_SECRET}": store for scope in deployment.secret_scopes}
    with serve_in_background(local_dir, load, make_app, secrets=secrets, on_served=on_served, port=port) as found:
        file = local_dir / ADDRESS
        file.write_text(found, encoding="utf-8")
        try:
            yield found
        finally:
            file.unlink(missing_ok=True)


def request_for(use_case: UseCase, local_dir: Path, entity_id: str | None) -> dict[str, object]:
    """What a request for an entity says, from the online store; None is the one that was asked for last."""
    try:
        with closing(sqlite3.connect(f"{online_store(local_dir).as_uri()}?mode=ro", uri=True)) as store:
            where, order = ("WHERE entity_id = ?", "") if entity_id else ("", "ORDER BY prediction_ts DESC, entity_id")
            query = f"SELECT {', '.join(use_case.request)} FROM {ONLINE_TABLE} {where} {order} LIMIT 1"
            row = store.execute(query, (entity_id,) if entity_id else ()).fetchone()
    except sqlite3.OperationalError as error:
        raise UserError("there is no online store yet; run flight-delays local run features") from error
    if row is None:
        raise UserError(
            f"no {use_case.entity} {entity_id} in the online store; table features has those that there are"
        )
    return dict(zip(use_case.request, row, strict=True))


def load(name: str, version: int, environment: Mapping[str, str]) -> Scorer:
    """A version from the world's registry."""
    return load_scorer(registry.connect().load(name, version), environment)
