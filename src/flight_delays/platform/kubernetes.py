"""Versions that are served on Kubernetes, by what the chart deploy/helm/scoring installs.

An endpoint's address is kubernetes://<namespace>/<route>. The route, an HTTPRoute of the Gateway API, splits the
traffic between the deployments <route>-champion and <route>-challenger. Their pods' annotations say which version it
is. Of these objects a release changes the weights, the image, the annotations and the number of pods, nothing else.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import NAMES, Served, in_words
from flight_delays.core.traffic_steps import (
    Await,
    Deployed,
    Release,
    Run,
    Scale,
    Share,
    Step,
    Weigh,
    carrying,
    plan,
)
from flight_delays.platform.registry import Registry

TOKEN = "FLIGHT_DELAYS_SERVING_TOKEN"  # noqa: S105  # names the variable
TOKEN_FILE = "FLIGHT_DELAYS_SERVING_TOKEN_FILE"  # noqa: S105  # names the file
CONTAINER = "scoring"
MODEL_NAME, MODEL_VERSION = "flight-delays/model-name", "flight-delays/model-version"
LEAST_PODS, MOST_PODS = "flight-delays/least-pods", "flight-delays/most-pods"
URL = "flight-delays/url"  # where the gateway is asked, if not at the route's first host name

LIMIT_S = 900  # until new pods are ready: a node starts, the image is pulled, the model is loaded
CAPACITY_S = 180  # until pods that serve already are more; without them the traffic moves all the same
SETTLE_S = 10  # from a route that is accepted to a gateway that follows it everywhere
_TIMEOUT_S = (5, 30)
_FIRST_WAITS_S, _WAIT_S = (0.1, 0.5, 1.0, 2.0), 5.0
_MOST_CHANGES = 40
_REFUSED = {400, 401, 403, 404, 422}
_GATEWAY_API = ("gateway.networking.k8s.io", "v1")


@dataclass(frozen=True, kw_only=True)
class _Live:
    """The route as it was read, and the deployments behind it; `trouble` says why the gateway does not follow it."""

    route: Mapping[str, Any]
    deployments: Mapping[str, client.V1Deployment]
    deployed: Mapping[str, Deployed]
    trouble: str


@dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """The endpoints of a cluster; `registry` says which image serves a version."""

    registry: Registry
    api: client.ApiClient
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def configuration(self, endpoint: str) -> tuple[Served, ...]:
        """What serves now; nothing before the first release. Raises UserError for an unknown endpoint."""
        try:
            return _served(self._live(endpoint).deployed)
        except (ApiException, HTTPError) as error:
            raise UserError(
                f"endpoint {endpoint} cannot be looked at: {_one_line(error)}; fix that and run it again"
            ) from error

    def configure(
        self,
        endpoint: str,
        wanted: Sequence[Served],
        *,
        workload_size: str,  # noqa: ARG002  # the chart's values say how large a pod is,
        scale_to_zero: bool,  # noqa: ARG002  # that an endpoint never scales to zero
        environment: Mapping[str, str],  # noqa: ARG002  # and from which Secret it knows the online store
        progress: Callable[[str], None],
        limit_s: float = LIMIT_S,
    ) -> None:
        """Serve `wanted`, and wait until it serves; nothing is changed if it does so already.

        New pods come first, then the traffic moves to them, then those go that nothing needs. Conflicts, throttling,
        server errors and time-outs are tried again until `limit_s` has passed without a change. Raises UserError for
        what remains; then the traffic stays where it is, and pods that never became ready are stopped.
        """
        shares = {
            one.name: Share(
                release=Release(
                    model_name=one.model_name,
                    model_version=one.model_version,
                    image=self.registry.image(one.model_name, one.model_version),
                ),
                percentage=one.percentage,
            )
            for one in wanted
        }
        since, changes, waits = self.clock(), 0, iter(_FIRST_WAITS_S)
        pods: int | None = None
        enough: frozenset[str] = frozenset()
        serving, trouble, awaited = "unknown", "", ""

        def failed(why: str) -> UserError:
            return UserError(
                f"endpoint {endpoint} does not serve {in_words(wanted)}: {why}; still serving: {serving}; "
                "fix that and run the job again"
            )

        while True:
            try:
                live = self._live(endpoint)
                serving = in_words(_served(live.deployed))
                pods = carrying(live.deployed) if pods is None else pods
                step = next(iter(plan(live.deployed, shares, pods=pods, enough=enough)), None)
                awaited, trouble = "", live.trouble
                if not trouble and step is None:
                    return
                if not trouble and isinstance(step, Await):
                    trouble = self._how_far(live, step)
                    if live.deployed[step.name].weight and live.deployed[step.name].available:
                        if self.clock() - since >= CAPACITY_S:
                            enough |= {step.name}
                    else:
                        awaited = step.name
                elif not trouble and step is not None:
                    if changes == _MOST_CHANGES:
                        raise failed("someone else keeps changing it")
                    self._take(endpoint, live, step)
                    progress(f"endpoint {endpoint}: {_told(step)}")
                    changes, since, waits = changes + 1, self.clock(), iter(_FIRST_WAITS_S)
                    if isinstance(step, Weigh):
                        self.sleep(SETTLE_S)
                    continue
            except ApiException as error:
                if error.status in _REFUSED:
                    raise failed(_one_line(error)) from error
                trouble = _one_line(error)
            except HTTPError as error:
                trouble = _one_line(error)
            progress(f"endpoint {endpoint}: {trouble}")
            wait = next(waits, _WAIT_S)
            if self.clock() + wait > since + limit_s:
                break
            self.sleep(wait)
        if awaited:
            self._give_up(endpoint, awaited)
        raise failed(f"{trouble} (waited for {limit_s:g} s)")

    def address(self, endpoint: str, served: str | None = None) -> tuple[str, dict[str, str]]:
        """Where the endpoint is asked, or one version by its `served` name, and the headers that sign in."""
        try:
            route = self._route(*_names(endpoint))
        except (ApiException, HTTPError) as error:
            raise UserError(
                f"endpoint {endpoint} cannot be looked at: {_one_line(error)}; fix that and run it again"
            ) from error
        hosts = route["spec"].get("hostnames") or []
        url = route["metadata"].get("annotations", {}).get(URL) or (f"https://{hosts[0]}" if hosts else None)
        if url is None:
            raise UserError(f"endpoint {endpoint} has no host name; set gateway.hostname in the chart's values")
        of = f"/served-models/{served}" if served else ""
        return f"{url.rstrip('/')}{of}/invocations", {"Authorization": f"Bearer {self._token()}"}

    def _token(self) -> str:
        if token := self.environment.get(TOKEN, "").strip():
            return token
        file = self.environment.get(TOKEN_FILE)
        if not file:
            raise UserError(f"no token to ask the endpoint with; set {TOKEN}, or {TOKEN_FILE} to a file that holds it")
        try:
            tokens = Path(file).read_text(encoding="utf-8").split()
        except OSError as error:
            raise UserError(f"{TOKEN_FILE}: {file} cannot be read: {error.strerror}") from None
        if not tokens:
            raise UserError(f"{TOKEN_FILE}: {file} is empty; write a bearer token into it")
        return tokens[0]

    def _route(self, namespace: str, name: str) -> Mapping[str, Any]:
        try:
            found: Any = client.CustomObjectsApi(self.api).get_namespaced_custom_object(
                *_GATEWAY_API, namespace, "httproutes", name, _request_timeout=_TIMEOUT_S
            )
        except ApiException as error:
            if error.status == 404:
                raise _missing(namespace, name) from error
            raise
        route: Mapping[str, Any] = found
        return route

    def _live(self, endpoint: str) -> _Live:
        namespace, name = _names(endpoint)
        route, deployments = self._route(namespace, name), {}
        for each in NAMES:
            try:
                deployments[each] = client.AppsV1Api(self.api).read_namespaced_deployment(
                    f"{name}-{each}", namespace, _request_timeout=_TIMEOUT_S
                )
            except ApiException as error:
                if error.status == 404:
                    raise _missing(namespace, name) from error
                raise
        weights = _weights(route, name)
        return _Live(
            route=route,
            deployments=deployments,
            deployed={each: _deployed(one, weights[each]) for each, one in deployments.items()},
            trouble=_not_followed(route),
        )

    def _take(self, endpoint: str, live: _Live, step: Step) -> None:
        """Change one object, unless somebody has changed it since it was read."""
        namespace, name = _names(endpoint)
        match step:
            case Weigh():
                version = live.route["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "spec": {"rules": _split(live.route, name, step)}}
                client.CustomObjectsApi(self.api).patch_namespaced_custom_object(
                    *(*_GATEWAY_API, namespace, "httproutes", name, body),
                    _content_type="application/merge-patch+json",
                    _request_timeout=_TIMEOUT_S,
                )
            case Run(name=each, release=release, pods=pods):
                template = {
                    "metadata": {
                        "annotations": {MODEL_NAME: release.model_name, MODEL_VERSION: str(release.model_version)}
                    },
                    "spec": {"containers": [{"name": CONTAINER, "image": release.image}]},
                }
                self._patch(namespace, live.deployments[each], {"replicas": pods, "template": template})
            case Scale(name=each, pods=pods):
                self._patch(namespace, live.deployments[each], {"replicas": pods})

    def _patch(self, namespace: str, deployment: client.V1Deployment, spec: Mapping[str, object]) -> None:
        metadata = deployment.metadata or client.V1ObjectMeta()
        client.AppsV1Api(self.api).patch_namespaced_deployment(
            metadata.name or "",
            namespace,
            {"metadata": {"resourceVersion": metadata.resource_version}, "spec": dict(spec)},
            _content_type="application/strategic-merge-patch+json",
            _request_timeout=_TIMEOUT_S,
        )

    def _give_up(self, endpoint: str, name: str) -> None:
        """Stop pods that never became ready; the next run starts them anew."""
        try:
            live = self._live(endpoint)
            if not live.deployed[name].weight:
                self._take(endpoint, live, Scale(name=name, pods=0))
        except (ApiException, HTTPError):
            return  # what is in the way is told already

    def _how_far(self, live: _Live, step: Await) -> str:
        """How many pods are ready, and what one says that is not."""
        deployment, one = live.deployments[step.name], live.deployed[step.name]
        metadata = deployment.metadata or client.V1ObjectMeta()
        labels = ",".join(f"{key}={value}" for key, value in (deployment.spec.selector.match_labels or {}).items())
        pods = client.CoreV1Api(self.api).list_namespaced_pod(
            metadata.namespace or "", label_selector=labels, _request_timeout=_TIMEOUT_S
        )
        version = str(one.release.model_version) if one.release else None
        said = [
            f"{pod.metadata.name}: {why}"
            for pod in pods.items
            if pod.metadata and (pod.metadata.annotations or {}).get(MODEL_VERSION) == version and (why := _why(pod))
        ]
        ready = f"{metadata.name} has {one.available} of {max(step.pods, 1)} pods ready"
        old = "" if one.settled else ", and older ones"
        return "; ".join([ready + old, *said[:1]])


def connect(registry: Registry) -> Kubernetes:
    """The cluster that this runs in, or that of the current context. Raises UserError without either."""
    found = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=found)
    except ConfigException:
        try:
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=found)
        except (ConfigException, OSError) as error:
            said = shorten(str(error), 200)
            raise UserError(
                f"no cluster to ask: {said}; sign in with `az aks get-credentials`, or set KUBECONFIG"
            ) from error
    found.retries = False  # configure repeats what may help
    return Kubernetes(registry=registry, api=client.ApiClient(found))


def _names(endpoint: str) -> tuple[str, str]:
    """Namespace and route of an address."""
    found = re.fullmatch(r"kubernetes://([a-z0-9-]+)/([a-z0-9-]+)", endpoint)
    if found is None:
        raise UserError(f"endpoint {endpoint} is no address; write kubernetes://<namespace>/<route>")
    return found[1], found[2]


def _missing(namespace: str, name: str) -> UserError:
    return UserError(
        f"endpoint kubernetes://{namespace}/{name} does not exist; install it: "
        f"helm upgrade --install {name} deploy/helm/scoring --namespace {namespace}"
    )


def _is_split(rule: Mapping[str, Any], name: str) -> bool:
    return {backend.get("name") for backend in rule.get("backendRefs", [])} == {f"{name}-{each}" for each in NAMES}


def _weights(route: Mapping[str, Any], name: str) -> Mapping[str, int]:
    for rule in route["spec"].get("rules", []):
        if _is_split(rule, name):
            found = {backend["name"]: int(backend.get("weight", 1)) for backend in rule["backendRefs"]}
            return {each: found[f"{name}-{each}"] for each in NAMES}
    raise UserError(f"route {name} splits no traffic between {name}-champion and {name}-challenger; install the chart")


def _split(route: Mapping[str, Any], name: str, step: Weigh) -> list[Mapping[str, Any]]:
    """The route's rules, with these weights."""
    weights = {f"{name}-champion": step.champion, f"{name}-challenger": step.challenger}
    return [
        {**rule, "backendRefs": [{**each, "weight": weights[each["name"]]} for each in rule["backendRefs"]]}
        if _is_split(rule, name)
        else rule
        for rule in route["spec"]["rules"]
    ]


def _not_followed(route: Mapping[str, Any]) -> str:
    """Why no gateway follows the route as it is now; empty if all do that it names."""
    name, generation = route["metadata"]["name"], route["metadata"].get("generation", 0)
    parents = route.get("status", {}).get("parents", [])
    if len(parents) < len(route["spec"].get("parentRefs", [])):
        return f"no gateway has taken route {name} yet"
    for parent in parents:
        conditions = {one["type"]: one for one in parent.get("conditions", [])}
        for kind in ("Accepted", "ResolvedRefs"):
            one = conditions.get(kind)
            if one is None or one.get("observedGeneration", 0) < generation:
                return f"the gateway has not taken the change of route {name} yet"
            if one["status"] != "True":
                return f"the gateway refuses route {name}: {shorten(one.get('message') or one['reason'], 300)}"
    return ""


def _deployed(deployment: client.V1Deployment, weight: int) -> Deployed:
    metadata, spec = deployment.metadata or client.V1ObjectMeta(), deployment.spec
    status = deployment.status or client.V1DeploymentStatus()
    of_pods = (spec.template.metadata.annotations if spec.template.metadata else None) or {}
    annotations = metadata.annotations or {}
    containers = spec.template.spec.containers if spec.template.spec else []
    image = next((one.image for one in containers if one.name == CONTAINER), None)
    name, version = of_pods.get(MODEL_NAME), of_pods.get(MODEL_VERSION, "")
    release = None
    if name and image and version.isdecimal() and int(version):
        release = Release(model_name=name, model_version=int(version), image=image)
    seen = (status.observed_generation or 0) >= (metadata.generation or 0)
    least = _whole(annotations.get(LEAST_PODS), 1)
    return Deployed(
        release=release,
        pods=1 if spec.replicas is None else spec.replicas,
        available=status.available_replicas or 0,
        settled=seen and (status.replicas or 0) == (status.updated_replicas or 0),
        weight=weight,
        least=least,
        most=_whole(annotations.get(MOST_PODS), least),
    )


def _whole(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() else otherwise


def _served(deployed: Mapping[str, Deployed]) -> tuple[Served, ...]:
    """What has traffic, or is ready to be asked by its name."""
    total = sum(one.weight for one in deployed.values())
    return tuple(
        Served(
            name=name,
            model_name=one.release.model_name,
            model_version=one.release.model_version,
            percentage=round(100 * one.weight / total) if total else 0,
        )
        for name, one in deployed.items()
        if one.release and (one.weight or (one.pods and one.settled and one.available))
    )


def _told(step: Step) -> str:
    match step:
        case Run():
            return f"{step.name} starts version {step.release.model_version} on {step.pods} pods"
        case Scale(pods=0):
            return f"{step.name} is stopped"
        case Weigh():
            return f"{step.champion} % of the traffic go to the champion, {step.challenger} % to the challenger"
    return f"{step.name} gets {step.pods} pods"


def _why(pod: client.V1Pod) -> str:
    """Why a pod is not ready; empty if it is, or just starts."""
    status = pod.status or client.V1PodStatus()
    for one in status.container_statuses or []:
        waits, ended = one.state and one.state.waiting, one.last_state and one.last_state.terminated
        ended = ended or (one.state and one.state.terminated)
        if not one.ready and ended:
            return shorten(ended.message or f"exit code {ended.exit_code}, {ended.reason}", 300)
        if not one.ready and waits and waits.reason not in ("ContainerCreating", "PodInitializing"):
            return shorten(waits.message or waits.reason or "waits", 300)
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return shorten(condition.message or "no node takes it", 300)
    return ""


def _one_line(error: Exception) -> str:
    """What an error says: of the API server its own message."""
    if isinstance(error, ApiException):
        try:
            return shorten(str(json.loads(error.body or "")["message"]), 300)
        except (ValueError, KeyError, TypeError):
            return shorten(f"{error.status} {error.reason}", 300)
    return shorten(str(error) or type(error).__name__, 300)
