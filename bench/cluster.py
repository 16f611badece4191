"""Releases on a real Kubernetes API server: `python -m bench.cluster` writes docs/cluster.md.

KUBEBUILDER_ASSETS names a folder with etcd, kube-apiserver and kube-controller-manager. Helm is that of the tests.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from threading import Event, Thread
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from mlflow import MlflowClient
from rich.console import Console
from tests.cluster import HTTP_ROUTES, of_module
from tests.serving.live import free_port
from tests.worlds import MODEL, TWO_MONTHS, World, make_world

from bench.live_rollout import run
from bench.proxied import wait_until
from bundle_laptop.session import opened
from flight_delays.core.errors import UserError
from flight_delays.core.markdown import table
from flight_delays.core.traffic import CHALLENGER, CHAMPION, NAMES
from flight_delays.platform.kubernetes import MODEL_VERSION, connect
from flight_delays.platform.registry import IMAGE
from flight_delays.platform.registry import connect as registry

ROOT = Path(__file__).parents[1]
CHART, HELM = ROOT / "deploy/helm/scoring", Path(sys.executable).with_name("helm")
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
NAMESPACE, RELEASE = "scoring", "delay"
ENDPOINT = f"kubernetes://{NAMESPACE}/{RELEASE}"
RELEASER = "releaser"  # whom the chart lets move the traffic, and nothing else
FAILS_S = 60
READY_S, GATEWAY_S = 8.0, 1.0  # until a pod is ready; until the gateway has seen a change
BROKEN, WORDS = 3, "serving: challenger at /opt/model cannot be loaded: no golden requests"
ROUTES = ("gateway.networking.k8s.io", "v1", NAMESPACE, "httproutes")
FOLLOWED = ("Accepted", "ResolvedRefs")  # what a gateway says of a route
PAGE = """\
# On a real API server

Made by `python -m bench.cluster`: the chart and the jobs `release`, `rollout` and `rollback`, with the address
`{endpoint}`, against etcd and Kubernetes {version}: its API server (schemas, admission, pod
security `restricted`, RBAC) and its own controllers (deployments, replica sets, services, disruption budgets).
The jobs sign in as `{releaser}`, who may do what the chart's role says.

No container runs here. In place of kubelet the program binds pods to a node and calls them ready after {ready:g} s;
those of version {broken} fail. In place of a gateway it reports that it follows the route. What callers notice is
measured in [proxied.md](proxied.md).

{steps}

*Weights* are those of the route, *pods* those that are ready, of the version in brackets.

## Refused by the API server

{refused}
"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What there is after a step."""

    what: str
    weights: str
    champion: str
    challenger: str
    seconds: float
    said: str


@dataclass(kw_only=True)
class Cluster:
    """A control plane, its files in `folder`, and who plays its nodes and its gateway."""

    folder: Path
    api: client.ApiClient
    version: str
    told: list[Told] = field(default_factory=list)
    ended: Event = field(default_factory=Event)

    def route(self) -> dict[str, Any]:
        """The chart's."""
        found: dict[str, Any] = client.CustomObjectsApi(self.api).get_namespaced_custom_object(*ROUTES, RELEASE)
        return found

    def helm(self, *arguments: str) -> str:
        """Install or upgrade the chart; which revision that is."""
        command = [HELM, "upgrade", "--install", RELEASE, CHART, "-n", NAMESPACE, f"--set=releaser={RELEASER}"]
        environment = {**os.environ, "KUBECONFIG": str(self.folder / "admin.json")}
        ended = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        found = re.search(r"REVISION: (\d+)", ended.stdout)
        if found is None:
            sys.exit(ended.stderr)
        return f"revision {found[1]}"

    def note(self, what: str, act: Callable[[], object]) -> None:
        """Do it, and remember what there is then, and the text that came out."""
        begun = time.monotonic()
        came = act()
        said = came if isinstance(came, str) else ""
        seconds = time.monotonic() - begun
        weights = [str(one["weight"]) for one in self.route()["spec"]["rules"][-1]["backendRefs"]]
        pods = {name: self._pods(name) for name in NAMES}
        self.told.append(Told(what=what, weights=" : ".join(weights), **pods, seconds=seconds, said=said))
        print(self.told[-1], flush=True)

    def _pods(self, name: str) -> str:
        deployment = client.AppsV1Api(self.api).read_namespaced_deployment(f"{RELEASE}-{name}", NAMESPACE)
        version = (deployment.spec.template.metadata.annotations or {}).get(MODEL_VERSION, "none")
        return f"{deployment.status.ready_replicas or 0} ({version})"

    def play(self) -> None:
        """Kubelet and gateway, until the end."""
        core = client.CoreV1Api(self.api)
        while not self.ended.wait(0.2):
            for pod in core.list_namespaced_pod(NAMESPACE).items:
                with suppress(ApiException):  # it has just changed, or gone
                    self._live(core, pod)
            with suppress(ApiException):
                self._follow()

    def _live(self, core: client.CoreV1Api, pod: client.V1Pod) -> None:
        name, now = pod.metadata.name, datetime.now(UTC)
        if pod.metadata.deletion_timestamp:
            core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        elif not pod.spec.node_name:
            target = client.V1ObjectReference(kind="Node", name="node")
            body = client.V1Binding(metadata=client.V1ObjectMeta(name=name), target=target)
            core.create_namespaced_pod_binding(name, NAMESPACE, body, _preload_content=False)
        elif pod.status.phase == "Pending" and (now - pod.metadata.creation_timestamp).total_seconds() > READY_S:
            broken = (pod.metadata.annotations or {}).get(MODEL_VERSION) == str(BROKEN)
            core.patch_namespaced_pod_status(name, NAMESPACE, {"status": _status(pod, now.isoformat(), broken=broken)})

    def _follow(self) -> None:
        route = self.route()
        generation = route["metadata"]["generation"]
        parents = route.get("status", {}).get("parents", [])
        if parents and parents[0]["conditions"][0]["observedGeneration"] == generation:
            return
        time.sleep(GATEWAY_S)
        at = {"observedGeneration": generation, "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        conditions = [{"type": kind, "status": "True", "reason": kind, "message": "", **at} for kind in FOLLOWED]
        ref = route["spec"]["parentRefs"][0]
        parent = {"parentRef": ref, "controllerName": "example.com/bench", "conditions": conditions}
        client.CustomObjectsApi(self.api).patch_namespaced_custom_object_status(
            *ROUTES, RELEASE, {"status": {"parents": [parent]}}, _content_type="application/merge-patch+json"
        )


def _status(pod: client.V1Pod, now: str, *, broken: bool) -> dict[str, Any]:
    """What kubelet says of a pod that has started, or that ends again and again."""
    running = {"running": {"startedAt": now}}
    ended = {"exitCode": 2, "reason": "Error", "message": WORDS, "startedAt": now, "finishedAt": now}
    failing = {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
        "lastState": {"terminated": ended},
    }
    return {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": "False" if broken else "True", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [
            {"name": one.name, "image": one.image, "imageID": one.image, "ready": not broken, "started": not broken,
             "restartCount": 3 * broken, **(failing if broken else {"state": running})}
            for one in pod.spec.containers
        ],
    }  # fmt: skip


@contextmanager
def control_plane(programs: Path) -> Iterator[Cluster]:
    """Etcd, the API server and the controllers, on ports that are free; they and their files go at the end."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        store, peer, secure, controllers = [free_port() for _ in range(4)]
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        signing = folder / "accounts.key"
        signing.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        certificate = folder / "certificates" / "apiserver.crt"
        tokens = {"admin": "system:masters", RELEASER: "releasers"}
        (folder / "tokens.csv").write_text("".join(f'{who},{who},{who},"{of}"\n' for who, of in tokens.items()))
        for who in tokens:
            (folder / f"{who}.json").write_text(
                json.dumps(_kubeconfig(f"https://127.0.0.1:{secure}", str(certificate), who))
            )

        def start(program: str, **options: object) -> None:
            given = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
            log = stack.enter_context((folder / f"{program}.log").open("w"))
            process = subprocess.Popen([programs / program, *given], stdout=log, stderr=log)
            stack.callback(lambda: (process.kill(), process.wait()))

        urls = [f"http://127.0.0.1:{port}" for port in (store, peer)]
        start(
            "etcd",
            data_dir=folder / "etcd",
            listen_client_urls=urls[0],
            advertise_client_urls=urls[0],
            listen_peer_urls=urls[1],
            initial_advertise_peer_urls=urls[1],
            initial_cluster=f"default={urls[1]}",
            unsafe_no_fsync="true",
        )
        start(
            "kube-apiserver",
            etcd_servers=urls[0],
            bind_address="127.0.0.1",
            secure_port=secure,
            cert_dir=certificate.parent,
            token_auth_file=folder / "tokens.csv",
            authorization_mode="RBAC",
            service_account_issuer="https://127.0.0.1",
            service_account_key_file=signing,
            service_account_signing_key_file=signing,
            service_cluster_ip_range="10.0.0.0/24",
        )
        log = folder / "kube-apiserver.log"
        wait_until(certificate.exists, "the API server does not start", log)
        api = config.new_client_from_config(str(folder / "admin.json"))
        wait_until(lambda: _is_ready(api), "the API server is not ready", log)
        start(
            "kube-controller-manager",
            kubeconfig=folder / "admin.json",
            bind_address="127.0.0.1",
            secure_port=controllers,
            cert_dir=folder / "controllers",
            service_account_private_key_file=signing,
            leader_elect="false",
        )
        version = client.VersionApi(api).get_code().git_version
        cluster = Cluster(folder=folder, api=api, version=version)
        playing = Thread(target=cluster.play)
        stack.callback(lambda: (cluster.ended.set(), playing.join()))
        playing.start()
        yield cluster


def _kubeconfig(address: str, authority: str, who: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": address, "certificate-authority": authority}}],
        "users": [{"name": who, "user": {"token": who}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": who}}],
        "current-context": "bench",
    }


def _is_ready(api: client.ApiClient) -> bool:
    with suppress(Exception):  # it is just starting
        return bool(client.CoreV1Api(api).read_namespace("kube-system"))
    return False


def prepare(cluster: Cluster) -> None:
    """What an administrator makes before: the kinds of the Gateway API, a node, the namespace, the tokens."""
    if (crd := of_module(*HTTP_ROUTES)) is None:
        sys.exit(f"{HTTP_ROUTES[0]} cannot be fetched, or there is no go to fetch it")
    client.ApiextensionsV1Api(cluster.api).create_custom_resource_definition(yaml.safe_load(crd.read_text()))
    core = client.CoreV1Api(cluster.api)
    core.create_node({"metadata": {"name": "node"}})
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": level}})
    secret = {"metadata": {"name": "scoring-tokens"}, "stringData": {"tokens": "secret", "metrics": "secret"}}
    core.create_namespaced_secret(NAMESPACE, secret)

    def known() -> bool:
        with suppress(ApiException):
            client.CustomObjectsApi(cluster.api).list_namespaced_custom_object(*ROUTES)
            return True
        return False

    wait_until(known, "the Gateway API is not there")


def released(cluster: Cluster, world: World) -> None:
    """Install, release, roll out, upgrade in between, fail, roll back."""
    variables = {**TWO_MONTHS, "serving_endpoint": ENDPOINT, "rollout_stages": "0,100", "loss_margin": "1"}
    with opened(world.root, "dev", variables, Console()) as session:
        run(session, "features")
        session.run(["train"], {}, ["train"])
        give_images()
        order = {"reason": "tried"}
        cluster.note("`helm upgrade --install`", cluster.helm)
        for number in (1, 2):
            cluster.note(
                f"job `release`, version {number}", partial(run, session, "release", model_version=str(number))
            )
        cluster.note("job `rollout`, `order=ab-test`", lambda: run(session, "rollout", order="ab-test", **order))
        cluster.note(
            "`helm upgrade`: `resources.requests.cpu` 0.5",
            lambda: cluster.helm("--set=resources.requests.cpu=500m"),
        )
        cluster.note("job `rollout`, `order=promote`", lambda: run(session, "rollout", order="promote", **order))
        cluster.note("job `rollback`", lambda: run(session, "rollback", **order))
        cluster.note(f"version {BROKEN}, whose pods fail, within {FAILS_S} s", failing)


def failing() -> str:
    """Asks for a version whose pods never get ready, as the jobs do, but for a shorter time; what it says."""
    platform = connect(registry())
    (champion,) = platform.configuration(ENDPOINT)
    challenger = replace(champion, name=CHALLENGER, model_version=BROKEN, percentage=10)
    try:
        platform.configure(
            ENDPOINT,
            (replace(champion, percentage=90), challenger),
            workload_size="Small",
            scale_to_zero=False,
            environment={},
            progress=print,
            limit_s=FAILS_S,
        )
    except UserError as error:
        return str(error)
    sys.exit(f"version {BROKEN} serves")


def give_images() -> None:
    """To version 1 and to copies of it, each by its number."""
    there = MlflowClient()
    first = there.get_model_version(MODEL, "1")
    for number in range(1, BROKEN + 1):
        if number > 1:
            there.create_model_version(
                MODEL, first.source, first.run_id, tags=first.tags, description=first.description
            )
        there.set_model_version_tag(MODEL, str(number), IMAGE, f"registry.example.com/delay@sha256:{number:064x}")


def refused(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """What the API server does not take, and what it says."""
    apps, custom = client.AppsV1Api(cluster.api), client.CustomObjectsApi(cluster.api)
    name = f"{RELEASE}-{CHAMPION}"

    def patched(spec: Mapping[str, Any], **more: str) -> Callable[[], object]:
        body = {"spec": {"template": {"spec": spec}}}
        return lambda: apps.patch_namespaced_deployment(name, NAMESPACE, body, dry_run="All", **more)

    def weighed(weight: object) -> Callable[[], object]:
        rules = cluster.route()["spec"]["rules"]
        rules[-1]["backendRefs"][0]["weight"] = weight
        body = {"spec": {"rules": rules}}
        form = {"_content_type": "application/merge-patch+json", "dry_run": "All"}
        return lambda: custom.patch_namespaced_custom_object(*ROUTES, RELEASE, body, **form)

    probe = {"httpGet": {"path": "/ping", "port": "no such port!"}}
    root = {"containers": [{"name": "scoring", "image": "a", "securityContext": {"runAsUser": 0}}]}
    releaser = config.new_client_from_config(str(cluster.folder / f"{RELEASER}.json"))
    core = client.CoreV1Api(releaser)
    for what, act in {
        "a probe at a port that cannot be": patched({"containers": [{"name": "scoring", "livenessProbe": probe}]}),
        "a field that does not exist": patched({"terminationGracePeriod": 60}, field_validation="Strict"),
        "a weight of -1": weighed(-1),
        "a weight that is text": weighed("10"),
        "a pod that runs as root": lambda: client.CoreV1Api(cluster.api).create_namespaced_pod(
            NAMESPACE, {"metadata": {"name": "root"}, "spec": root}, dry_run="All"
        ),
        f"`{RELEASER}` reads the tokens": lambda: core.read_namespaced_secret("scoring-tokens", NAMESPACE),
        f"`{RELEASER}` changes a service": lambda: core.patch_namespaced_service(name, NAMESPACE, {}),
        f"`{RELEASER}` changes another deployment": lambda: client.AppsV1Api(releaser).patch_namespaced_deployment(
            "other", NAMESPACE, {}
        ),
    }.items():
        try:
            act()
        except ApiException as error:
            said = json.loads(error.body)["message"]
            yield what, f"{error.status}: {shorten(said, 200, placeholder=' ...')}"
        else:
            sys.exit(f"{what}: the API server takes it")


def main() -> None:
    """Start a cluster, release there, write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    programs = Path(os.environ.get("KUBEBUILDER_ASSETS", ""))
    if missing := [name for name in PROGRAMS if not (programs / name).is_file()]:
        print(f"bench.cluster: no {missing[0]} there; set KUBEBUILDER_ASSETS to a folder with it", file=sys.stderr)
        sys.exit(2)
    with TemporaryDirectory() as folder, control_plane(programs.absolute()) as cluster:
        prepare(cluster)
        os.environ["KUBECONFIG"] = str(cluster.folder / f"{RELEASER}.json")
        released(cluster, make_world(Path(folder)))
        page = PAGE.format(
            endpoint=ENDPOINT,
            version=cluster.version,
            releaser=RELEASER,
            ready=READY_S,
            broken=BROKEN,
            steps=table(
                ("step", "weights", "champion's pods", "challenger's pods", "s", "said"),
                [(one.what, one.weights, one.champion, one.challenger, f"{one.seconds:.0f}", one.said)
                 for one in cluster.told],
            ),
            refused=table(("what", "answer"), [*refused(cluster)]),
        )  # fmt: skip
    (ROOT / "docs" / "cluster.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
