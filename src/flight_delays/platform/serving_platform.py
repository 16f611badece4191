"""Where versions are served: what the release needs of Model Serving, of Kubernetes and of Azure ML alike."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Protocol

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import Served
from flight_delays.platform.registry import Registry


class ServingPlatform(Protocol):
    """A platform's endpoints, each by its address."""

    def configuration(self, endpoint: str) -> tuple[Served, ...]:
        """What serves now; nothing before the first release. Raises UserError for an unknown endpoint."""

    def configure(
        self,
        endpoint: str,
        wanted: Sequence[Served],
        *,
        workload_size: str,
        scale_to_zero: bool,
        environment: Mapping[str, str],
        progress: Callable[[str], None],
    ) -> None:
        """Serve `wanted`, and wait until it serves; nothing is changed if it does so already.

        Raises UserError if it can't; then what served before still does.
        """

    def address(self, endpoint: str, served: str | None = None) -> tuple[str, dict[str, str]]:
        """Where the endpoint is asked, or one version by its `served` name, and the headers that sign in."""


Connect = Callable[[Registry], ServingPlatform]
"""The registry says which image serves a version."""


def _connect(module: str) -> Connect:
    def connect(registry: Registry) -> ServingPlatform:
        # Their clients are extras of this package: who has no such endpoint does without.
        try:
            platform: ServingPlatform = import_module(f"flight_delays.platform.{module}").connect(registry)
        except ModuleNotFoundError as error:
            extra = module.replace("_", "")
            raise UserError(f"{error.name} is not installed; install flight-delays[{extra}]") from error
        return platform

    return connect


PLATFORMS: Mapping[str, Connect] = {"kubernetes": _connect("kubernetes"), "azureml": _connect("azure_ml")}
"""By the scheme of an endpoint's address; an address without one is the name of an endpoint of Model Serving."""
