"""`python -m flight_delays.serving`: serve the versions that the environment names, until told to end."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import mlflow
import uvicorn
import yaml
from mlflow.pyfunc import PyFuncModel

from flight_delays.core.errors import UserError
from flight_delays.platform.precomputed import predictions_store
from flight_delays.serving.app import create_app
from flight_delays.serving.configuration import Settings, Source, settings, sources
from flight_delays.serving.payloads import PayloadLog
from flight_delays.serving.service import Entity, LoadedModel, Service, load_checked

DRAIN_S = 30


def main() -> None:
    """Serve. What a person can fix is one line and exit code 2."""
    # A request is answered by one thread, others at the same time: read once, when the first learner is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        chosen, wanted = settings(), sources()
        failure = serve(chosen, wanted, os.environ)
    except UserError as error:
        failure = error
    if failure:
        print(f"serving: {failure}", file=sys.stderr)
        sys.exit(2)


def serve(chosen: Settings, wanted: tuple[Source, ...], environment: Mapping[str, str]) -> UserError | None:
    """Until SIGTERM or Ctrl-C, after which requests in flight are finished; why it could not, if it could not."""
    service = Service(chosen.endpoint)
    precomputed = predictions_store(environment)
    payloads = PayloadLog(chosen.payload_table) if chosen.payload_table else None
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(service, chosen, payloads, precomputed=precomputed),
            host=chosen.host,
            port=chosen.port,
            access_log=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    failures: list[UserError] = []

    def load() -> None:  # probes are answered meanwhile
        try:
            service.configure([_entity(source, chosen, environment) for source in wanted])
        except UserError as error:
            failures.append(error)
            server.should_exit = True
        # What was made until now stays: a collection that looked at all of it would hold up a request.
        gc.collect()
        gc.freeze()

    Thread(target=load, name="load", daemon=True).start()
    server.run()
    return failures[0] if failures else None


def _entity(source: Source, chosen: Settings, environment: Mapping[str, str]) -> Entity:
    try:
        name, version = registered(source.address)
        model = loaded(source.address, environment, max_rows=chosen.max_rows)
    except UserError as error:
        raise UserError(f"{source.name} at {source.address}: {error}") from None
    identity = f"{source.name}-{version}"
    return Entity(
        id=identity, name=source.name, model_name=name, version=version, percentage=source.percentage, loaded=model
    )


def loaded(
    address: str | Path, environment: Mapping[str, str] = MappingProxyType({}), *, max_rows: int = Settings.max_rows
) -> LoadedModel:
    """The version at an address, checked by its golden requests. Raises UserError for one that can't serve."""
    try:
        model: PyFuncModel = mlflow.pyfunc.load_model(str(address))
        return load_checked(model, environment, max_rows=max_rows)
    except UserError:
        raise
    except Exception as error:  # whatever a registry, a store or a model's code may raise
        raise UserError(f"it cannot be loaded: {' '.join(str(error).split())}") from error


def registered(address: str) -> tuple[str, int]:
    """Name and number of a version: in models:/<name>/<number>, or in the file that MLflow writes beside its files."""
    if address.startswith("models:/"):
        name, _, number = address.removeprefix("models:/").rpartition("/")
    else:
        file = Path(address) / "registered_model_meta"
        if not file.exists():
            raise UserError(f"{file} is missing; download the version by mlflow artifacts download -u models:/...")
        meta = yaml.safe_load(file.read_text(encoding="utf-8"))
        name, number = str(meta["model_name"]), str(meta["model_version"])
    if not (number.isascii() and number.isdigit()):
        raise UserError(f"{number!r} is no version number; a version is served by its number, never by an alias")
    return name, int(number)


if __name__ == "__main__":
    main()
