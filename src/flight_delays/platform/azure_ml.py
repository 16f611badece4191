"""Managed online endpoints of Azure ML and its registry of models, through the REST API of Azure Resource Manager.

By azure-core's client: the stable azure-mgmt-machinelearningservices (1.0.1) knows no online endpoints.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.pipeline.transport import HttpTransport, RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.identity import DefaultAzureCredential

from flight_delays.core.deployments import Delete, Deployment, Live, Put, Route, Step, plan
from flight_delays.core.errors import UserError
from flight_delays.core.traffic import CHALLENGER, CHAMPION, Served, in_words
from flight_delays.platform.registry import IMAGE, Registry, Version

LIMIT_S = 3600  # until all is as wanted; one deployment alone can take a quarter of an hour
MIRRORED = 50  # %: the copies of requests that a challenger gets whose own share is 0; Azure allows no more
SIZES: Mapping[str, tuple[str, int]] = {
    "Small": ("Standard_F2s_v2", 1),
    "Medium": ("Standard_F4s_v2", 2),
    "Large": ("Standard_F8s_v2", 3),
}
"""Instance type and least number of instances by workload size."""
ENVIRONMENT = "scoring"
ROUTES = {
    route: {"path": path, "port": 8080}
    for route, path in (("livenessRoute", "/ping"), ("readinessRoute", "/ready"), ("scoringRoute", "/invocations"))
}

_API = "2025-12-01"  # that of azure-ai-ml 1.35
_MANAGEMENT, _SCORING, _STORAGE = "https://management.azure.com", "https://ml.azure.com", "https://storage.azure.com"
_PATIENCE_S = 30  # that one look, or one file, is tried again
_FIRST_WAITS_S, _WAIT_S, _TELL_S = (0.1, 0.5, 2.0), 5.0, 60.0
_MODEL, _NUMBER, _RUN, _DIGEST = "model_name", "model_version", "run_id", "model_digest"
_OURS, _SERVED = "FLIGHT_DELAYS_", "FLIGHT_DELAYS_SERVED"
_SETTLED, _FAILED = ("Succeeded", "Failed", "Canceled"), ("Failed", "Canceled")
_SECRET = re.compile(r"\{\{secrets/([^/}]+)/([^/}]+)\}\}")
_STORE = "workspaceblobstore"

T = TypeVar("T")
Json: TypeAlias = Mapping[str, Any]
Client: TypeAlias = PipelineClient[HttpRequest, HttpResponse]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A workspace, and where asked for one of its endpoints."""

    subscription: str
    group: str
    workspace: str
    endpoint: str = ""

    @property
    def path(self) -> str:
        """The workspace, in Azure Resource Manager."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )

    @property
    def endpoint_path(self) -> str:
        """The endpoint, in Azure Resource Manager."""
        return f"{self.path}/onlineEndpoints/{self.endpoint}"


def place_of(address: str, *, endpoint: bool = True) -> Place:
    """Of azureml://<subscription>/<resource group>/<workspace>[/<endpoint>]. Raises UserError for another address."""
    scheme, _, rest = address.partition("://")
    parts = rest.split("/")
    if scheme != "azureml" or len(parts) != 3 + endpoint or not all(re.fullmatch(r"[\w.()-]+", part) for part in parts):
        form = "azureml://<subscription>/<resource group>/<workspace>" + "/<endpoint>" * endpoint
        raise UserError(f"{address} is no address in Azure ML; write {form}")
    subscription, group, workspace, *name = parts
    return Place(subscription=subscription, group=group, workspace=workspace, endpoint="".join(name))


@dataclass(frozen=True, kw_only=True)
class Build:
    """What a deployment runs, but for the name that it serves under; `tags` say where it comes from."""

    tags: tuple[tuple[str, str], ...]
    environment: str
    instance_type: str
    variables: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        """The same for equals; Azure may write an instance type in another case."""
        return sha256(repr(replace(self, instance_type=self.instance_type.lower())).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Found:
    """An endpoint and its deployments, as Azure has them."""

    endpoint: Json
    deployments: tuple[Json, ...]

    @property
    def is_busy(self) -> bool:
        return not all(_state(one) in _SETTLED for one in (self.endpoint, *self.deployments))

    @property
    def live(self) -> Live:
        properties = self.endpoint["properties"]
        return Live(
            deployments={
                one["name"]: Deployment(runs=_build_in(one).id, is_ready=_state(one) == "Succeeded")
                for one in self.deployments
            },
            traffic=_shares(properties.get("traffic")),
            mirror=_shares(properties.get("mirrorTraffic")),
        )

    @property
    def served(self) -> tuple[Served, ...]:
        traffic, served = self.live.traffic, []
        for one in self.deployments:
            name, tags = one["name"], dict(_build_in(one).tags)
            if name in traffic or _state(one) == "Succeeded":
                number = int(tags[_NUMBER])
                share = traffic.get(name, 0)
                served.append(Served(name=name, model_name=tags[_MODEL], model_version=number, percentage=share))
        return tuple(served)


@dataclass(frozen=True, kw_only=True)
class AzureML:
    """The workspaces that a credential may see; `registry` says which image serves a version."""

    credential: TokenCredential
    management: Client
    storage: Client
    registry: Registry
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def configuration(self, endpoint: str) -> tuple[Served, ...]:
        """What serves now; nothing before the first release. Raises UserError for an unknown endpoint.

        A deployment that is not ready counts only if it has traffic.
        """
        place = place_of(endpoint)
        return self._patiently(f"endpoint {endpoint} cannot be looked at", lambda: self._look(place)).served

    def configure(
        self,
        endpoint: str,
        wanted: Sequence[Served],
        *,
        workload_size: str,
        scale_to_zero: bool,  # noqa: ARG002  # a deployment here has at least one instance
        environment: Mapping[str, str],
        progress: Callable[[str], None],
        limit_s: float = LIMIT_S,
    ) -> None:
        """Serve `wanted`, by the steps of core/deployments.py, and wait until it serves; no step if it does so already.

        A change under way is waited for. Throttling, conflicts, server errors and time-outs are tried again until
        `limit_s` has passed. Raises UserError for what remains; then what served before still does.
        """
        place = place_of(endpoint)
        builds = {one.name: self._build(one, workload_size, environment) for one in wanted}
        end, by_id = _wanted(wanted, builds), {build.id: build for build in builds.values()}
        serving, trouble, told, told_at = "unknown", "", "", 0.0
        done: Step | None = None
        under_way: tuple[Step, str] | None = None
        deadline = self.clock() + limit_s

        def failed(why: str) -> UserError:
            return UserError(
                f"endpoint {endpoint} does not serve {in_words(wanted)}: {why}; still serving: {serving}; "
                "fix that and run the job again"
            )

        for wait in chain(_FIRST_WAITS_S, repeat(_WAIT_S)):
            pause = wait
            try:
                if under_way is not None:
                    step, operation = under_way
                    status, why = self._status(operation)
                    if status in _FAILED:
                        raise failed(f"{step}: {status.lower()}: {why or 'see the logs of the deployment'}")
                    trouble = f"{step}: {status}"
                    if status == "Succeeded":
                        done, under_way = step, None
                if under_way is None:
                    found = self._look(place)
                    serving = in_words(found.served)
                    if found.is_busy:
                        trouble = "a change is under way"
                    elif not (steps := plan(found.live, end)):
                        return
                    elif steps[0] == done:
                        raise failed("it was set to that, but someone else has changed it since")
                    else:
                        trouble = str(steps[0])
                        under_way = steps[0], self._take(place, found, steps[0], by_id)
            except AzureError as error:
                if not _may_pass(error):
                    raise failed(_one_line(error)) from error
                trouble, pause = _one_line(error), max(wait, _retry_after(error))
            if trouble != told or self.clock() >= told_at + _TELL_S:
                progress(f"endpoint {endpoint}: {trouble}")
                told, told_at = trouble, self.clock()
            if self.clock() + pause > deadline:
                break
            self.sleep(pause)
        raise failed(f"{trouble} (tried for {limit_s:g} s)")

    def address(self, endpoint: str, served: str | None = None) -> tuple[str, dict[str, str]]:
        """Where the endpoint is asked, or one version by its `served` name, and the headers that sign in."""
        place = place_of(endpoint)

        def token(how: str) -> str:
            if how == "Key":
                return str(self._ask("POST", f"{place.endpoint_path}/listKeys").json()["primaryKey"])
            if how == "AMLToken":
                return str(self._ask("POST", f"{place.endpoint_path}/token").json()["accessToken"])
            return self.credential.get_token(f"{_SCORING}/.default").token

        def asked() -> tuple[str, dict[str, str]]:
            properties = self._endpoint(place)["properties"]
            chosen = {"azureml-model-deployment": served} if served else {}
            return properties["scoringUri"], {"Authorization": f"Bearer {token(properties['authMode'])}", **chosen}

        return self._patiently(f"endpoint {endpoint} cannot be asked", asked)

    def register(self, workspace: str, version: Version, digest: str, files: Path) -> str:
        """Register `files` of a version as a model of the workspace, tagged with where they come from.

        Returns what was done: nothing, if it was before. Raises UserError if the number is taken by other files.
        """
        place, failed = (
            place_of(workspace, endpoint=False),
            f"{version.name} version {version.number} is not registered",
        )
        name = re.sub(r"[^\w-]", "-", version.name)
        path, folder = f"{place.path}/models/{name}/versions/{version.number}", f"{name}/{version.number}"
        tags = {_MODEL: version.name, _NUMBER: str(version.number), _RUN: version.run_id, _DIGEST: digest}
        there = self._patiently(failed, lambda: self._find(path))
        if there is not None:
            if (there["properties"].get("tags") or {}).get(_DIGEST) != digest:
                raise UserError(
                    f"{failed}: {place.workspace} has another model {name} of that number; archive it there"
                )
            return f"{name} version {version.number} was registered in {place.workspace} before."
        found = self._patiently(failed, lambda: self._ask("GET", f"{place.path}/datastores/{_STORE}").json())
        store = found["properties"]
        account = f"https://{store['accountName']}.blob.{store.get('endpoint') or 'core.windows.net'}"
        for file in sorted(one for one in files.rglob("*") if one.is_file()):
            upload = HttpRequest(
                "PUT",
                f"{account}/{store['containerName']}/{quote(f'{folder}/{file.relative_to(files).as_posix()}')}",
                headers={"x-ms-blob-type": "BlockBlob", "x-ms-version": "2023-11-03"},
                content=file.read_bytes(),
            )
            self._patiently(failed, lambda request=upload: _sent(self.storage, request))  # type: ignore[misc]
        uri = (
            f"azureml://subscriptions/{place.subscription}/resourcegroups/{place.group}/workspaces/{place.workspace}"
            f"/datastores/{_STORE}/paths/{folder}"
        )
        model = {"properties": {"modelType": "mlflow_model", "modelUri": uri, "tags": tags}}
        self._patiently(failed, lambda: self._ask("PUT", path, model))
        return f"{name} version {version.number} is registered in {place.workspace}."

    def _build(self, served: Served, workload_size: str, environment: Mapping[str, str]) -> Build:
        image = self.registry.image(served.model_name, served.model_version)
        run = self.registry.version(served.model_name, served.model_version).run_id
        tags = {_MODEL: served.model_name, _NUMBER: str(served.model_version), _RUN: run, IMAGE: image}
        # A secret of a scope in Databricks is here a credential of the same name in a connection of the workspace.
        variables = {
            name: _SECRET.sub(r"${{azureml://connections/\1/credentials/\2}}", value)
            for name, value in environment.items()
        }
        return Build(
            tags=tuple(sorted(tags.items())),
            environment=sha256(image.encode()).hexdigest()[:32],
            instance_type=SIZES[workload_size][0],
            variables=tuple(sorted({**variables, "FLIGHT_DELAYS_SERVING_AUTH": "off"}.items())),
        )

    def _take(self, place: Place, found: _Found, step: Step, builds: Mapping[str, Build]) -> str:
        """Begin the step. Returns the address of the operation, if it has one."""
        match step:
            case Put(name=name, runs=runs):
                build = builds[runs]
                image = {"properties": {"image": dict(build.tags)[IMAGE], "inferenceConfig": ROUTES, "osType": "Linux"}}
                environment = f"{place.path}/environments/{ENVIRONMENT}/versions/{build.environment}"
                if self._find(environment) is None:
                    self._ask("PUT", environment, image)
                sizes = dict(SIZES.values())
                instances = [one["sku"]["capacity"] for one in found.deployments if one.get("sku")]
                least = sizes[build.instance_type]
                body = deployment_body(
                    name,
                    build,
                    environment,
                    instances=max(least, *instances, 0),
                    location=found.endpoint["location"],
                )
                response = self._ask("PUT", f"{place.endpoint_path}/deployments/{name}", body)
            case Route(traffic=traffic, mirror=mirror):
                response = self._ask("PUT", place.endpoint_path, _routed(found.endpoint, traffic, mirror))
            case Delete(name=name):
                response = self._ask("DELETE", f"{place.endpoint_path}/deployments/{name}")
        return response.headers.get("Azure-AsyncOperation", "")

    def _status(self, operation: str) -> tuple[str, str]:
        """How far an operation is, and if it failed, why."""
        if not operation:
            return "Succeeded", ""  # at once; what became of it is looked at next
        found = _sent(self.management, HttpRequest("GET", operation)).json()
        return found["status"], shorten((found.get("error") or {}).get("message") or "", 300)

    def _look(self, place: Place) -> _Found:
        endpoint, deployments = self._endpoint(place), []
        page = self._ask("GET", f"{place.endpoint_path}/deployments").json()
        deployments += page["value"]
        while page.get("nextLink"):
            page = _sent(self.management, HttpRequest("GET", page["nextLink"])).json()
            deployments += page["value"]
        return _Found(endpoint=endpoint, deployments=tuple(deployments))

    def _endpoint(self, place: Place) -> Json:
        found = self._find(place.endpoint_path)
        if found is None:
            raise UserError(
                f"endpoint {place.endpoint} does not exist in {place.workspace}; create it by `az ml online-endpoint "
                "create --file deploy/azureml/endpoint.yml`"
            )
        return found

    def _find(self, path: str) -> Json | None:
        try:
            found: Json = self._ask("GET", path).json()
        except HttpResponseError as error:
            if error.status_code == 404:
                return None
            raise
        return found

    def _ask(self, method: str, path: str, body: Json | None = None) -> HttpResponse:
        url = f"{_MANAGEMENT}{path}"
        return _sent(self.management, HttpRequest(method, url, params={"api-version": _API}, json=body))

    def _patiently(self, failed: str, call: Callable[[], T]) -> T:
        deadline = self.clock() + _PATIENCE_S
        for wait in chain(_FIRST_WAITS_S, repeat(_WAIT_S)):
            try:
                return call()
            except AzureError as error:
                pause = max(wait, _retry_after(error))
                if not _may_pass(error) or self.clock() + pause > deadline:
                    raise UserError(f"{failed}: {_one_line(error)}; fix that and run it again") from error
            self.sleep(pause)
        raise AssertionError("the waits never end")


def connect(registry: Registry) -> AzureML:
    """As whoever the environment, a managed identity or `az login` says."""
    return connect_as(DefaultAzureCredential(), registry)


def connect_as(
    credential: TokenCredential, registry: Registry, transport: HttpTransport[Any, Any] | None = None
) -> AzureML:
    """As the owner of `credential`; over `transport`, if given."""
    over = transport or RequestsTransport(connection_timeout=10, read_timeout=60)

    def client(resource: str) -> Client:
        # No policy for retries: what is to be tried again depends on what is live by then.
        policies = [BearerTokenCredentialPolicy(credential, f"{resource}/.default")]
        return PipelineClient(resource, policies=policies, transport=over)

    return AzureML(credential=credential, management=client(_MANAGEMENT), storage=client(_STORAGE), registry=registry)


def deployment_body(name: str, build: Build, environment: str, *, instances: int, location: str) -> dict[str, object]:
    """A deployment, as the API takes it; the same that `az ml` makes of deploy/azureml/deployment.yml."""
    probe = {"period": "PT10S", "timeout": "PT2S", "successThreshold": 1, "initialDelay": "PT10S"}
    return {
        "location": location,
        "sku": {"name": "Default", "capacity": instances},
        "tags": dict(build.tags),
        "properties": {
            "endpointComputeType": "Managed",
            "environmentId": environment,
            "environmentVariables": {**dict(build.variables), _SERVED: f"{name}=/opt/model"},
            "instanceType": build.instance_type,
            "appInsightsEnabled": False,
            "egressPublicNetworkAccess": "Enabled",
            "requestSettings": {"requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 64},
            "livenessProbe": {**probe, "failureThreshold": 30},
            "readinessProbe": {**probe, "failureThreshold": 30},
        },
    }


def _routed(endpoint: Json, traffic: Mapping[str, int], mirror: Mapping[str, int]) -> dict[str, object]:
    """The endpoint as it is, without what only Azure sets, and with other traffic."""
    read_only = ("scoringUri", "swaggerUri", "provisioningState", "keys")
    kept = {name: value for name, value in endpoint["properties"].items() if name not in read_only}
    identity = endpoint.get("identity") or {"type": "None"}
    users: dict[str, object] = {key: {} for key in identity.get("userAssignedIdentities") or ()}
    return {
        **{name: endpoint[name] for name in ("location", "tags", "kind", "sku") if endpoint.get(name)},
        "identity": {"type": identity["type"], **({"userAssignedIdentities": users} if users else {})},
        "properties": {**kept, "traffic": dict(traffic), "mirrorTraffic": dict(mirror)},
    }


def _wanted(served: Sequence[Served], builds: Mapping[str, Build]) -> Live:
    shares = {one.name: one.percentage for one in served if one.percentage}
    copied = CHALLENGER in builds and shares == {CHAMPION: 100}
    return Live(
        deployments={name: Deployment(runs=build.id) for name, build in builds.items()},
        traffic=shares,
        mirror={CHALLENGER: MIRRORED} if copied else {},
    )


def _build_in(deployment: Json) -> Build:
    tags, properties = deployment.get("tags") or {}, deployment["properties"]
    if not ({_MODEL, _NUMBER, _RUN, IMAGE} <= tags.keys() and str(tags[_NUMBER]).isdecimal()):
        raise UserError(f"deployment {deployment['name']} is no version of a model by its tags; delete it")
    variables = properties.get("environmentVariables") or {}
    return Build(
        tags=tuple((key, tags[key]) for key in sorted((_MODEL, _NUMBER, _RUN, IMAGE))),
        environment=(properties.get("environmentId") or "").rpartition("/")[2],
        instance_type=properties.get("instanceType") or "",
        variables=tuple(sorted((k, v) for k, v in variables.items() if k.startswith(_OURS) and k != _SERVED)),
    )


def _state(resource: Json) -> str:
    return str(resource["properties"].get("provisioningState"))


def _shares(given: Mapping[str, int] | None) -> dict[str, int]:
    return {name: share for name, share in (given or {}).items() if share}


def _sent(client: Client, request: HttpRequest) -> HttpResponse:
    response = client.send_request(request)
    response.raise_for_status()
    return response


def _may_pass(error: AzureError) -> bool:
    """Whether it may be gone the next time: not if the request itself is refused."""
    if isinstance(error, ClientAuthenticationError):
        return False
    status = error.status_code if isinstance(error, HttpResponseError) else None
    return status is None or status < 400 or status in (408, 409, 429) or status >= 500


def _retry_after(error: AzureError) -> float:
    """Seconds that the service asks to wait; 0 if it does not say."""
    response = error.response if isinstance(error, HttpResponseError) else None
    given = response.headers.get("Retry-After", "") if isinstance(response, HttpResponse) else ""
    return float(given) if given.isdecimal() else 0


def _one_line(error: AzureError) -> str:
    said = error.error.message if isinstance(error, HttpResponseError) and error.error else error.message
    return shorten(str(said or error) or type(error).__name__, 300)
