"""Serving endpoints, through databricks-sdk: what is served, setting it, asking for a prediction."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound
from databricks.sdk.service.serving import (
    EndpointState,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    Route,
    ServedEntityInput,
    ServedEntityOutput,
    ServedModelStateDeployment,
    ServingEndpointDetailed,
    TrafficConfig,
)

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import Served, in_words
from flight_delays.platform.sdk_errors import REFUSED, one_line

ONLINE_STORE_SECRET = "online-store"  # noqa: S105  # the name of the secret that holds the store's address

LIMIT_S = 3600  # until a version serves; its container alone can take half an hour to build
_PATIENCE_S = 30  # that the SDK itself repeats one call that is throttled, or that finds nobody
_FIRST_WAITS_S, _WAIT_S = (0.1, 0.2, 0.5, 1.0, 2.0), 5.0
_SERVED_NAME, _REQUEST_ID = "served-model-name", "x-request-id"
_FAILED = (EndpointStateConfigUpdate.UPDATE_FAILED, EndpointStateConfigUpdate.UPDATE_CANCELED)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """To one request: a prediction for each row; who gave it and the request's id, where the endpoint says so."""

    predictions: tuple[Mapping[str, object], ...]
    served_name: str | None
    request_id: str | None
    duration_ms: float  # that the caller waited


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The serving endpoints of a workspace."""

    client: WorkspaceClient
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def configuration(self, endpoint: str) -> tuple[Served, ...]:
        """What serves now; nothing before the first release. Raises UserError for an unknown endpoint."""
        try:
            return _served(self._get(endpoint))
        except OSError as error:
            raise UserError(
                f"endpoint {endpoint} cannot be looked at: {one_line(error)}; fix that and run it again"
            ) from error

    def configure(
        self,
        endpoint: str,
        wanted: Sequence[Served],
        *,
        workload_size: str,
        scale_to_zero: bool,
        environment: Mapping[str, str],
        progress: Callable[[str], None],
        limit_s: float = LIMIT_S,
    ) -> None:
        """Serve `wanted`, all set by one call, and wait until it serves; no call if it does so already.

        An update under way is waited for. Throttling, conflicts, server errors and time-outs are tried again until
        `limit_s` has passed. Raises UserError for what remains; then what served before still does.
        """
        entities = [
            ServedEntityInput(
                name=served.name,
                entity_name=served.model_name,
                entity_version=str(served.model_version),
                workload_size=workload_size,
                scale_to_zero_enabled=scale_to_zero,
                environment_vars=dict(environment),
            )
            for served in wanted
        ]
        traffic = TrafficConfig(
            routes=[Route(served_model_name=each.name, traffic_percentage=each.percentage) for each in wanted]
        )
        deadline, sent, serving, trouble = self.clock() + limit_s, False, "unknown", ""

        def failed(why: str) -> UserError:
            return UserError(
                f"endpoint {endpoint} does not serve {in_words(wanted)}: {why}; still serving: {serving}; "
                "fix that and run the job again"
            )

        for wait in chain(_FIRST_WAITS_S, repeat(_WAIT_S)):
            try:
                live = self._get(endpoint)
                state, served = live.state or EndpointState(), _served(live)
                serving, is_ready = in_words(served), state.ready is EndpointStateReady.READY
                if state.config_update is EndpointStateConfigUpdate.IN_PROGRESS:
                    trouble = "an update is in progress"
                elif not sent and not (is_ready and set(served) == set(wanted) and _runs(live, entities)):
                    self.client.serving_endpoints.update_config(
                        endpoint, served_entities=entities, traffic_config=traffic
                    )
                    sent, trouble = True, "the update was sent"
                elif sent and state.config_update in _FAILED:
                    raise failed(f"the update failed: {_why_failed(live)}")
                elif set(served) != set(wanted):
                    raise failed("it was set to that, but someone else has changed it since")
                elif is_ready:
                    return
                else:
                    trouble = "the update is done, but the endpoint is not ready"
            except REFUSED as error:
                raise failed(one_line(error)) from error
            except OSError as error:
                trouble = one_line(error)
            progress(f"endpoint {endpoint}: {trouble}")
            if self.clock() + wait > deadline:
                break
            self.sleep(wait)
        raise failed(f"{trouble} (tried for {limit_s:g} s)")

    def query(self, endpoint: str, payload: Mapping[str, object], served: str | None = None) -> Answer:
        """The endpoint's answer to a request in MLflow's protocol, or that of one version by its `served` name.

        Raises UserError if there is none.
        """
        started = self.clock()
        try:
            # The SDK's own query() takes no other headers along, and leaves out what it does not know of the payload.
            found = self.client.api_client.do(
                "POST",
                _invocations(endpoint, served),
                body=dict(payload),
                headers={"Accept": "application/json"},
                response_headers=[_SERVED_NAME, _REQUEST_ID],
            )
        except OSError as error:
            raise UserError(
                f"endpoint {endpoint} gave no prediction: {one_line(error)}; fix the request, or see the endpoint's "
                "page"
            ) from error
        match found:
            case {"predictions": [*rows]} if all(isinstance(row, dict) for row in rows):
                return Answer(
                    predictions=tuple(rows),
                    served_name=found.get(_SERVED_NAME),
                    request_id=found.get(_REQUEST_ID),
                    duration_ms=(self.clock() - started) * 1000,
                )
        raise UserError(f"endpoint {endpoint} answers without rows of predictions; it serves another kind of model")

    def address(self, endpoint: str, served: str | None = None) -> tuple[str, dict[str, str]]:
        """Where the endpoint is asked, or one version by its `served` name, and the headers that sign in."""
        config = self.client.config
        return f"{config.host}{_invocations(endpoint, served)}", config.authenticate()

    def _get(self, endpoint: str) -> ServingEndpointDetailed:
        try:
            return self.client.serving_endpoints.get(endpoint)
        except NotFound as error:
            raise UserError(f"endpoint {endpoint} does not exist; deploy the bundle, which creates it") from error


def connect() -> Endpoints:
    """Those of the workspace that the environment or the profile names."""
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # its warnings say what the error then says
    try:
        config = Config(retry_timeout_seconds=_PATIENCE_S)
    except ValueError as error:
        raise UserError(f"no workspace to ask: {one_line(error)}; sign in with `databricks auth login`") from error
    return Endpoints(client=WorkspaceClient(config=config))


def _invocations(endpoint: str, served: str | None) -> str:
    of = f"/served-models/{served}" if served else ""
    return f"/serving-endpoints/{endpoint}{of}/invocations"


def _served(live: ServingEndpointDetailed) -> tuple[Served, ...]:
    traffic = live.config.traffic_config if live.config else None
    shares = {
        route.served_model_name or route.served_entity_name: route.traffic_percentage
        for route in (traffic.routes if traffic else None) or []
    }
    served = []
    for entity in _entities(live):
        name, model, version = entity.name, entity.entity_name, entity.entity_version or ""
        if not (name and model and version.isdecimal()):
            raise UserError(f"endpoint {live.name} serves {name}, which is no version of a model; remove it")
        share = shares.get(name, 0)
        served.append(Served(name=name, model_name=model, model_version=int(version), percentage=share))
    return tuple(served)


def _entities(live: ServingEndpointDetailed) -> list[ServedEntityOutput]:
    return (live.config.served_entities if live.config else None) or []


def _runs(live: ServingEndpointDetailed, wanted: Sequence[ServedEntityInput]) -> bool:
    """Whether size and environment of what serves are as wanted."""

    def key(entity: ServedEntityInput | ServedEntityOutput) -> tuple[object, ...]:
        environment = sorted((entity.environment_vars or {}).items())
        return entity.name, entity.workload_size, bool(entity.scale_to_zero_enabled), environment

    return sorted(map(key, _entities(live))) == sorted(map(key, wanted))


def _why_failed(live: ServingEndpointDetailed) -> str:
    pending = (live.pending_config.served_entities if live.pending_config else None) or []
    for state in (entity.state for entity in (*pending, *_entities(live)) if entity.state):
        failed = state.deployment is ServedModelStateDeployment.DEPLOYMENT_FAILED
        if failed and state.deployment_state_message:
            return state.deployment_state_message
    return "see the build log on the endpoint's page"
