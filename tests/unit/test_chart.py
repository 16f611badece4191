"""The chart of the scoring service: what it renders is valid, does what it says, and keeps what a release has set."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes import client
from tests.cluster import DEPLOYMENTS, HTTP_ROUTES, ROUTES, Cluster, Fault, of_module
from tests.cluster import served as api_server
from tests.contexts import Time

from flight_delays.core.traffic import NAMES, Served
from flight_delays.platform.kubernetes import Kubernetes
from flight_delays.serving.__main__ import DRAIN_S

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/scoring"
HELM = Path(sys.executable).with_name("helm")
DIGEST = f"registry.example.com/delay@sha256:{'a' * 64}"
FIRST = ("champion.image=" + DIGEST, "champion.modelName=dev.flights.delay", "champion.modelVersion=1")
Object = dict[str, Any]

if not HELM.exists():
    pytest.skip("no helm in this environment: helm-binary has none for this platform", allow_module_level=True)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), "template", "delay", str(CHART), "--namespace", "scoring", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(values: str = "values", *settings: str, more: tuple[str, ...] = ()) -> list[Object]:
    ended = helm("-f", str(CHART / f"{values}.yaml"), *(f"--set={one}" for one in settings), *more)
    assert ended.returncode == 0, ended.stderr
    return [one for one in yaml.safe_load_all(ended.stdout) if one]


@pytest.fixture(scope="module")
def charts() -> Mapping[str, list[Object]]:
    everything = (
        *FIRST,
        "pods.requestsInFlight=8",
        "workloadIdentity.clientId=01234567-89ab-cdef-0123-456789abcdef",
        "payloadTable=abfss://tables@account.dfs.core.windows.net/payloads",
        "onlineStore.secretName=online-store",
        "environment.FLIGHT_DELAYS_ONLINE_STORE_FAILURE=error",
        "network.egress[0].cidr=10.0.0.0/24",
        "network.egress[0].port=5432",
        "gateway.url=https://gateway.example.com",
        "monitoring.podMonitor=true",
        "releaser=01234567-89ab-cdef-0123-456789abcdef",
    )
    found = {name: rendered(name) for name in ("values", "values-staging", "values-prod")}
    return {**found, "everything": rendered("values", *everything)}


KINDS = ("values", "values-staging", "values-prod", "everything")


def of(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


@pytest.mark.parametrize("values", KINDS)
def test_kubernetes_takes_what_is_rendered(charts: Mapping[str, list[Object]], values: str) -> None:
    core = [one for one in charts[values] if one["kind"] not in ("HTTPRoute", "PodMonitor")]
    for one in core:
        kubernetes_validate.validate(one, "1.34", strict=True)
    assert len(core) == (12 if values == "everything" else 10)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda pod: pod["containers"][0]["livenessProbe"]["httpGet"].update(pth="/ping"),
        lambda pod: pod["containers"][0]["readinessProbe"].update(periodSeconds="5s"),
        lambda pod: pod["containers"][0]["startupProbe"]["httpGet"].pop("port"),
        lambda pod: pod["containers"][0]["lifecycle"]["preStop"].update(sleep="10"),
        lambda pod: pod.update(terminationGracePeriod=60),
    ],
)
def test_kubernetes_does_not_take_a_wrong_probe(charts: Mapping[str, list[Object]], wrong: Any) -> None:
    deployment = deepcopy(of(charts["values"], "Deployment", "delay-champion"))
    wrong(deployment["spec"]["template"]["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34", strict=True)


@pytest.fixture(scope="module")
def crds() -> Mapping[str, Object]:
    """Schemas of the kinds that Kubernetes itself does not know, from the modules that define them."""
    found = {}
    for module, file in (
        HTTP_ROUTES,
        (
            "github.com/prometheus-operator/prometheus-operator@v0.85.0",
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        ),
    ):
        if (there := of_module(module, file)) is None:
            pytest.skip(f"{module} with its schema cannot be fetched, or there is no go to fetch it")
        crd = yaml.safe_load(there.read_text())
        schemas = {one["name"]: one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"]}
        found[crd["spec"]["names"]["kind"]] = _strict(schemas["v1"])
    return found


def _strict(schema: Any) -> Any:
    """The schema, which refuses what it does not know: the API server would drop it."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    known = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {"additionalProperties": False, **strict} if known and "additionalProperties" not in schema else strict


def check(crds: Mapping[str, Object], one: Object) -> None:
    schema = crds[one["kind"]]
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(one, schema)


@pytest.mark.parametrize("values", KINDS)
def test_its_route_and_its_monitor_keep_to_their_schemas(
    charts: Mapping[str, list[Object]], values: str, crds: Mapping[str, Object]
) -> None:
    custom = [one for one in charts[values] if one["kind"] in ("HTTPRoute", "PodMonitor")]
    for one in custom:
        check(crds, one)
    assert len(custom) == (2 if values in ("values-prod", "everything") else 1)


@pytest.mark.parametrize("weight", [-1, "10", 1_000_001, 0.5])
def test_a_weight_that_cannot_be_is_found(
    charts: Mapping[str, list[Object]], weight: object, crds: Mapping[str, Object]
) -> None:
    route = deepcopy(of(charts["values"], "HTTPRoute"))
    route["spec"]["rules"][-1]["backendRefs"][0]["weight"] = weight
    with pytest.raises(jsonschema.ValidationError):
        check(crds, route)


@pytest.mark.parametrize(
    "setting",
    [
        "pods.least=0",
        "pods.most=many",
        "pods.leest=3",
        "pods.cpuPercent=101",
        "user=0",
        "champion.image=registry.example.com/delay:latest",
        "champion.image=" + DIGEST,  # of which version?
        "champion.weight=50",
        "gateway.hostname=Delay.example.com",
        "resources.limits.memory=much",
        "network.egress[0].cidr=anywhere",
        "environment.lower=x",
        "token=secret",
    ],
)
def test_a_value_that_cannot_work_is_refused(setting: str) -> None:
    ended = helm(f"--set={setting}")
    assert ended.returncode != 0
    assert "values don't meet the specifications of the schema" in ended.stderr


def test_a_number_that_is_not_whole_is_refused_where_text_is_wanted() -> None:
    assert helm("--set-string=pods.least=2").returncode != 0
    assert helm("--set=environment.A=1").returncode != 0
    assert helm("--set-string=environment.A=1").returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_drains_before_it_ends_and_loads_before_it_is_asked(
    charts: Mapping[str, list[Object]], name: str
) -> None:
    deployment = of(charts["values"], "Deployment", f"delay-{name}")["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleeps + DRAIN_S
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    startup, readiness, liveness = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 2 * 30
    assert [one["httpGet"]["path"] for one in (startup, readiness, liveness)] == ["/ready", "/ready", "/ping"]
    assert {"name": "FLIGHT_DELAYS_SERVED", "value": f"{name}=/opt/model"} in container["env"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0


def test_before_the_first_release_nothing_runs_and_nothing_has_traffic(charts: Mapping[str, list[Object]]) -> None:
    objects = charts["values"]
    assert [of(objects, "Deployment", f"delay-{name}")["spec"]["replicas"] for name in NAMES] == [0, 0]
    assert [one["weight"] for one in of(objects, "HTTPRoute")["spec"]["rules"][-1]["backendRefs"]] == [0, 0]


@pytest.fixture
def cluster() -> Iterator[tuple[Cluster, str, Kubernetes]]:
    cluster = Cluster(time=Time())
    for one in rendered("values", *FIRST):
        if one["kind"] in ("Deployment", "HTTPRoute"):
            cluster.put(DEPLOYMENTS if one["kind"] == "Deployment" else ROUTES, one)
    with api_server(cluster) as address, client.ApiClient(client.Configuration(host=address)) as api:
        registry: Any = SimpleNamespace(image=lambda _, version: DIGEST.replace("a" * 64, f"{version:064x}"))
        yield (
            cluster,
            address,
            Kubernetes(registry=registry, api=api, clock=cluster.time.time, sleep=cluster.time.sleep),
        )
    assert cluster.lost == []


def test_an_upgrade_keeps_what_the_release_has_set(cluster: tuple[Cluster, str, Kubernetes]) -> None:
    kept, address, platform = cluster
    endpoint = "kubernetes://scoring/delay"

    def served(version: int, percentage: int, name: str) -> Served:
        return Served(name=name, model_name="dev.flights.delay", model_version=version, percentage=percentage)

    assert platform.configuration(endpoint) == (served(1, 100, "champion"),)
    server = ("--dry-run=server", f"--kube-apiserver={address}", "--kube-token=any")
    for wanted in (
        (served(1, 70, "champion"), served(2, 30, "challenger")),
        (served(2, 100, "champion"),),
    ):
        platform.configure(
            endpoint, wanted, workload_size="Small", scale_to_zero=False, environment={}, progress=lambda _: None
        )
        assert platform.configuration(endpoint) == wanted
        upgraded = rendered("values", *FIRST, "user=20002", more=server)
        for name in NAMES:
            live, now = kept.objects[f"{DEPLOYMENTS}/delay-{name}"], of(upgraded, "Deployment", f"delay-{name}")
            assert now["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 20002
            assert now["spec"]["replicas"] == live["spec"]["replicas"]
            new, old = now["spec"]["template"], live["spec"]["template"]
            assert new["metadata"] == old["metadata"]
            assert new["spec"]["containers"] == old["spec"]["containers"]
        assert of(upgraded, "HTTPRoute")["spec"] == kept.objects[f"{ROUTES}/delay"]["spec"]


def test_an_upgrade_that_cannot_see_what_serves_fails(cluster: tuple[Cluster, str, Kubernetes]) -> None:
    kept, address, _ = cluster
    kept.faults.append(Fault("GET", "/namespaces/", 403, times=100, message="you may not look"))
    ended = helm("--dry-run=server", f"--kube-apiserver={address}", "--kube-token=any")
    assert ended.returncode != 0
    assert "you may not look" in ended.stderr
