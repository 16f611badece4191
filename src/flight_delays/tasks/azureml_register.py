"""A version becomes a model in a workspace of Azure ML too."""

import tempfile
from pathlib import Path

from flight_delays.core.errors import UserError
from flight_delays.core.settings import AzuremlRegister
from flight_delays.platform.azure_ml import AzureML, place_of
from flight_delays.platform.registry import Registry


def run(given: AzuremlRegister, registry: Registry, azure: AzureML) -> str:
    """Returns what was done. Raises UserError for a version without a digest."""
    place_of(given.workspace, endpoint=False)
    version = registry.version(given.model_name, given.model_version)
    digest = registry.documentation(version).digest
    if digest is None:
        raise UserError(f"{version.name} version {version.number} has no digest; register it by the train job")
    with tempfile.TemporaryDirectory() as folder:
        files = registry.download(version.name, version.number, Path(folder))
        return azure.register(given.workspace, version, digest, files)
