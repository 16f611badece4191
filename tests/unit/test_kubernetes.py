"""What the release does on Kubernetes, by the real client over HTTP, with whatever may go wrong on the way."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster import DEPLOYMENTS, ROUTES, Cluster, Fault
from tests.cluster import served as api_server
from tests.contexts import Time

from flight_delays.core.errors import UserError
from flight_delays.core.traffic import Served
from flight_delays.platform import kubernetes
from flight_delays.platform.kubernetes import Kubernetes, connect
from flight_delays.platform.serving_platform import PLATFORMS

MODEL = "dev.flights.delay"
ENDPOINT = "kubernetes://scoring/delay"
BROKEN = 8
TOKENS = {"FLIGHT_DELAYS_SERVING_TOKEN": "secret"}


def image(_: str, version: int) -> str:
    return f"registry.example.com/delay@sha256:{version:064x}"


def served(version: int, percentage: int = 100, name: str = "champion") -> Served:
    return Served(name=name, model_name=MODEL, model_version=version, percentage=percentage)


def deployment(name: str, version: int | None, pods: int) -> dict[str, Any]:
    annotations = {} if version is None else {
        "flight-delays/model-name": MODEL, "flight-delays/model-version": str(version)
    }  # fmt: skip
    labels = {"flight-delays/served": name}
    containers = [
        {"name": "scoring", "image": "none" if version is None else image(MODEL, version), "env": [{"name": "A"}]},
        {"name": "sidecar", "image": "registry.example.com/sidecar"},
    ]
    return {
        "metadata": {
            "name": f"delay-{name}",
            "annotations": {"flight-delays/least-pods": "2", "flight-delays/most-pods": "10"},
        },
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": containers},
            },
        },
    }


def route(champion: int, challenger: int) -> dict[str, Any]:
    by_name = [
        {"matches": [{"path": {"type": "Exact", "value": f"/served-models/{name}/invocations"}}],
         "backendRefs": [{"name": f"delay-{name}", "port": 80}]}
        for name in ("champion", "challenger")
    ]  # fmt: skip
    split = [
        {"name": "delay-champion", "port": 80, "weight": champion},
        {"name": "delay-challenger", "port": 80, "weight": challenger},
    ]
    rules = [*by_name, {"matches": [{"path": {"type": "Exact", "value": "/invocations"}}], "backendRefs": split}]
    spec = {"parentRefs": [{"name": "gateway"}], "hostnames": ["delay.example.com"], "rules": rules}
    return {"metadata": {"name": "delay", "annotations": {}}, "spec": spec}


@dataclass
class World:
    """What the chart has installed, and a release that talks to it; version 1 serves on 4 pods."""

    cluster: Cluster
    platform: Kubernetes
    told: list[str] = field(default_factory=list)

    def configure(self, *wanted: Served, limit_s: float = 900, **changes: Any) -> None:
        progress = changes.pop("progress", self.told.append)
        replace(self.platform, **changes).configure(
            ENDPOINT,
            wanted,
            workload_size="Small",
            scale_to_zero=False,
            environment={},
            progress=progress,
            limit_s=limit_s,
        )

    def now(self) -> tuple[Served, ...]:
        return self.platform.configuration(ENDPOINT)

    @property
    def patches(self) -> list[str]:
        return [one.split()[1] for one in self.cluster.requests if one.startswith("PATCH") and one.endswith("200")]

    def pods(self, name: str) -> int:
        found: int = self.cluster.objects[f"{DEPLOYMENTS}/delay-{name}"]["spec"]["replicas"]
        return found


@pytest.fixture
def world() -> Iterator[World]:
    cluster = Cluster(time=Time())
    cluster.broken[image(MODEL, BROKEN)] = "serving: champion at /opt/model cannot be loaded: no golden requests"
    cluster.put(DEPLOYMENTS, deployment("champion", 1, 4))
    cluster.put(DEPLOYMENTS, deployment("challenger", None, 0))
    cluster.put(ROUTES, route(100, 0))
    with api_server(cluster) as address:
        configuration = client.Configuration(host=address)
        configuration.retries = False
        registry: Any = SimpleNamespace(image=image)
        with client.ApiClient(configuration) as api:
            time = cluster.time
            yield World(
                cluster,
                Kubernetes(registry=registry, api=api, clock=time.time, sleep=time.sleep, environment=TOKENS),
            )
    assert cluster.lost == []


BOTH = served(1, 90), served(2, 10, "challenger")


def test_the_champion_that_the_chart_has_installed_is_seen(world: World) -> None:
    assert world.now() == (served(1),)


def test_what_serves_already_is_not_touched(world: World) -> None:
    world.configure(served(1))
    assert (world.patches, world.told) == ([], [])


def test_before_the_first_release_nothing_serves_and_the_release_starts_it(world: World) -> None:
    world.cluster.put(DEPLOYMENTS, deployment("champion", None, 0))
    world.cluster.put(ROUTES, route(0, 0))
    assert world.now() == ()
    world.configure(served(3))
    assert world.now() == (served(3),)
    assert world.patches == ["delay-champion", "delay"]


def test_a_challenger_gets_traffic_once_its_pods_are_ready(world: World) -> None:
    world.configure(*BOTH)
    assert world.now() == BOTH
    assert world.patches == ["delay-challenger", "delay"]
    assert world.cluster.time.now > 30
    found = world.cluster.objects[f"{DEPLOYMENTS}/delay-challenger"]["spec"]["template"]["spec"]["containers"]
    assert found[0] == {"name": "scoring", "image": image(MODEL, 2), "env": [{"name": "A"}]}
    assert found[1]["name"] == "sidecar"
    assert world.told[0] == f"endpoint {ENDPOINT}: challenger starts version 2 on 2 pods"
    assert f"endpoint {ENDPOINT}: delay-challenger has 0 of 2 pods ready" in world.told
    assert world.told[-1] == f"endpoint {ENDPOINT}: 90 % of the traffic go to the champion, 10 % to the challenger"


def test_a_shadow_version_is_ready_and_has_no_traffic(world: World) -> None:
    world.configure(served(1), served(2, 0, "challenger"))
    assert world.now() == (served(1), served(2, 0, "challenger"))
    assert world.patches == ["delay-challenger"]


@pytest.mark.parametrize(
    "released",
    [
        [(served(1, 90), served(2, 10, "challenger")), (served(1, 50), served(2, 50, "challenger")), (served(2),)],
        [(served(2),)],
        [(served(1, 50), served(2, 50, "challenger")), (served(1),)],
        [(served(1, 90), served(2, 10, "challenger")), (served(1, 90), served(3, 10, "challenger")), (served(4),)],
    ],
)
def test_a_release_loses_no_request_and_leaves_no_challenger(
    world: World, released: Sequence[Sequence[Served]]
) -> None:
    for wanted in released:
        world.configure(*wanted)
        assert world.now() == tuple(wanted)
    assert world.pods("challenger") == 0
    assert world.pods("champion") >= 4


def test_a_gateway_that_is_slow_is_waited_for_before_pods_change_or_go(world: World) -> None:
    world.cluster.gateway_s = 60
    world.configure(served(2))
    assert world.now() == (served(2),)
    told = f"endpoint {ENDPOINT}: the gateway has not taken the change of route delay yet"
    assert told in world.told
    assert world.told[-1] == f"endpoint {ENDPOINT}: challenger is stopped"


def test_the_rules_of_other_paths_are_left_as_they_are(world: World) -> None:
    before = world.cluster.objects[f"{ROUTES}/delay"]["spec"]["rules"][:2]
    world.configure(*BOTH)
    assert world.cluster.objects[f"{ROUTES}/delay"]["spec"]["rules"][:2] == before


class KilledError(Exception):
    pass


@pytest.mark.parametrize("wanted", [BOTH, (served(2),)])
def test_killed_anywhere_and_run_again_it_serves_the_same(world: World, wanted: Sequence[Served]) -> None:
    kills = 0
    for after in range(1000):
        told: list[str] = []

        def progress(text: str, told: list[str] = told, after: int = after) -> None:
            told.append(text)
            if len(told) > after % 7:
                raise KilledError

        try:
            world.configure(*wanted, progress=progress)
            break
        except KilledError:
            kills += 1
            world.cluster.time.sleep(3)
    assert kills > 5
    assert world.now() == tuple(wanted)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("how", [409, 429, 500, 503, "cut", "lost"])
def test_what_passes_is_waited_out(world: World, method: str, how: int | str) -> None:
    faults = [Fault(method, path, how, times=2) for path in ("httproutes/delay", "champion", "challenger")]
    world.cluster.faults += faults
    world.configure(*BOTH)
    world.configure(served(2))
    assert all(fault.times == 0 or (how == "lost" and method == "PATCH") for fault in faults)
    assert world.now() == (served(2),)


def test_a_change_by_someone_else_meanwhile_is_seen_and_the_release_goes_on_from_it(world: World) -> None:
    stolen: list[str] = []

    def progress(text: str) -> None:
        if "challenger starts version 2" in text and not stolen:
            stolen.append(text)
            world.cluster.change(f"{ROUTES}/delay", {"metadata": {"labels": {"by": "someone"}}})
            world.cluster.change(f"{DEPLOYMENTS}/delay-champion", {"spec": {"replicas": 6}})

    world.configure(*BOTH, progress=progress)
    assert stolen
    assert world.now() == BOTH
    assert world.cluster.objects[f"{ROUTES}/delay"]["metadata"]["labels"] == {"by": "someone"}
    assert world.pods("champion") == 6


def test_an_object_that_changed_since_it_was_read_is_not_overwritten(world: World) -> None:
    live = world.platform._live(ENDPOINT)
    world.cluster.change(f"{ROUTES}/delay", {"metadata": {"labels": {"by": "someone"}}})
    with pytest.raises(client.ApiException) as error:
        world.platform._take(ENDPOINT, live, kubernetes.Weigh(champion=50, challenger=50))
    assert error.value.status == 409


WANTED = f"endpoint {ENDPOINT} does not serve champion version 2 at 100 %: "
MEND = "; still serving: champion version 1 at 100 %; fix that and run the job again"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_is_refused_is_one_line_and_not_tried_again(world: World, status: int) -> None:
    world.cluster.faults.append(Fault("PATCH", "", status, times=100, message="the release may not patch"))
    with pytest.raises(UserError) as error:
        world.configure(served(2))
    assert str(error.value) == f"{WANTED}the release may not patch{MEND}"
    assert (len([one for one in world.cluster.requests if "PATCH" in one]), world.cluster.time.now) == (1, 0)


@pytest.mark.parametrize("how", [409, 429, 500, "cut"])
def test_what_does_not_pass_ends_in_one_line_and_nothing_moves(world: World, how: int | str) -> None:
    world.cluster.faults.append(Fault("PATCH", "", how, times=10_000))
    with pytest.raises(UserError) as error:
        world.configure(served(2), limit_s=60)
    assert re.fullmatch(f"{re.escape(WANTED)}[^\n]+ \\(waited for 60 s\\){re.escape(MEND)}", str(error.value))
    assert world.cluster.time.now == pytest.approx(60, abs=6)
    assert world.now() == (served(1),)


def test_pods_that_do_not_get_ready_leave_the_traffic_alone_say_why_and_are_stopped(world: World) -> None:
    with pytest.raises(UserError) as error:
        world.configure(served(1, 90), served(BROKEN, 10, "challenger"), limit_s=100)
    assert str(error.value) == (
        f"endpoint {ENDPOINT} does not serve champion version 1 at 90 %, challenger version {BROKEN} at 10 %: "
        "delay-challenger has 0 of 2 pods ready; delay-challenger-x0: serving: champion at /opt/model cannot be "
        f"loaded: no golden requests (waited for 100 s){MEND}"
    )
    assert "delay" not in world.patches
    assert world.now() == (served(1),)
    assert world.pods("challenger") == 0
    world.configure(*BOTH)
    assert world.now() == BOTH


def test_a_version_that_does_not_start_is_never_put_on_the_champion(world: World) -> None:
    with pytest.raises(UserError, match="no golden requests"):
        world.configure(served(BROKEN), limit_s=100)
    assert world.patches == ["delay-challenger", "delay-challenger"]
    assert world.now() == (served(1),)


def test_a_full_cluster_is_said_to_be_full(world: World) -> None:
    world.cluster.full_since = 0
    with pytest.raises(UserError, match=r"delay-challenger-x0: 0/3 nodes are available: Insufficient cpu \(waited"):
        world.configure(*BOTH, limit_s=100)
    assert world.now() == (served(1),)


def test_a_full_cluster_does_not_keep_a_version_that_is_to_go(world: World) -> None:
    world.configure(served(1, 50), served(2, 50, "challenger"))
    world.cluster.full_since = begun = world.cluster.time.now
    world.configure(served(1))
    assert world.now() == (served(1),)
    assert 180 <= world.cluster.time.now - begun < 240


def test_a_route_that_the_gateway_refuses_is_one_line(world: World) -> None:
    world.cluster.refused = "host name is taken"
    with pytest.raises(UserError, match=r"the gateway refuses route delay: host name is taken \(waited for 60 s\)"):
        world.configure(*BOTH, limit_s=60)
    assert world.patches == []


def test_an_endpoint_that_cannot_be_looked_at_is_said_to_serve_nobody_knows_what(world: World) -> None:
    world.cluster.faults.append(Fault("GET", "", 500, times=10_000))
    with pytest.raises(UserError, match=rf"^{WANTED}injected \(waited for 20 s\); still serving: unknown; fix that"):
        world.configure(served(2), limit_s=20)
    for ask in (world.now, lambda: world.platform.address(ENDPOINT)):
        with pytest.raises(UserError, match=rf"^endpoint {ENDPOINT} cannot be looked at: injected; fix that and run"):
            ask()


def test_a_version_without_an_image_changes_nothing(world: World) -> None:
    def image(_: str, __: int) -> str:
        raise UserError("it has no image")

    with pytest.raises(UserError, match="it has no image"):
        world.configure(served(2), registry=SimpleNamespace(image=image))
    assert world.cluster.requests == []


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        (
            "kubernetes://scoring/nobody",
            "does not exist; install it: helm upgrade --install nobody deploy/",
        ),
        ("kubernetes://scoring", "is no address; write kubernetes://<namespace>/<route>"),
        ("kubernetes://Scoring/delay", "is no address; write kubernetes://<namespace>/<route>"),
    ],
)
def test_an_unknown_endpoint_is_one_line_that_says_what_to_do(world: World, endpoint: str, message: str) -> None:
    asks: list[Callable[[], object]] = [
        lambda: world.platform.configuration(endpoint),
        lambda: world.platform.address(endpoint),
    ]
    for ask in asks:
        with pytest.raises(UserError, match=re.escape(f"endpoint {endpoint} {message}")):
            ask()


def test_a_route_that_is_not_the_charts_is_not_touched(world: World) -> None:
    world.cluster.change(f"{ROUTES}/delay", {"spec": {"rules": []}})
    with pytest.raises(UserError, match=r"^route delay splits no traffic between delay-champion and delay-challenger"):
        world.configure(served(2))
    world.cluster.lost.clear()


@pytest.mark.parametrize(
    ("of", "path"), [(None, "/invocations"), ("challenger", "/served-models/challenger/invocations")]
)
def test_the_gateway_is_asked_with_the_token(world: World, of: str | None, path: str) -> None:
    signed = {"Authorization": "Bearer secret"}
    assert world.platform.address(ENDPOINT, of) == (f"https://delay.example.com{path}", signed)
    world.cluster.change(f"{ROUTES}/delay", {"metadata": {"annotations": {"flight-delays/url": "http://127.0.0.1:1/"}}})
    assert world.platform.address(ENDPOINT, of) == (f"http://127.0.0.1:1{path}", signed)


def test_the_token_may_stand_in_a_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    asked = replace(world.platform, environment={"FLIGHT_DELAYS_SERVING_TOKEN_FILE": str(file)})
    for text, message in ((None, "cannot be read: No such file"), ("\n", "is empty; write a bearer token into it")):
        if text is not None:
            file.write_text(text)
        with pytest.raises(UserError, match=f"^FLIGHT_DELAYS_SERVING_TOKEN_FILE: {file} {message}"):
            asked.address(ENDPOINT)
    file.write_text("first\nsecond\n")
    assert asked.address(ENDPOINT)[1] == {"Authorization": "Bearer first"}
    with pytest.raises(UserError, match=r"^no token to ask the endpoint with; set FLIGHT_DELAYS_SERVING_TOKEN, or "):
        replace(world.platform, environment={}).address(ENDPOINT)


def test_a_route_without_a_host_name_has_no_address(world: World) -> None:
    world.cluster.change(f"{ROUTES}/delay", {"spec": {"hostnames": None}})
    with pytest.raises(UserError, match=r"has no host name; set gateway.hostname in the chart's values$"):
        world.platform.address(ENDPOINT)


def test_the_cluster_of_the_kubeconfig_is_asked(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(UserError, match=r"^no cluster to ask: .*; sign in with `az aks get-credentials`, or set KUBEC"):
        connect(world.platform.registry)
    named = {"name": "here", "cluster": {"server": world.platform.api.configuration.host}}
    user = {"name": "me", "user": {"token": "any"}}
    context = {"name": "it", "context": {"cluster": "here", "user": "me"}}
    config = {"clusters": [named], "users": [user], "contexts": [context], "current-context": "it"}
    (tmp_path / "config").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    assert PLATFORMS["kubernetes"](world.platform.registry).configuration(ENDPOINT) == (served(1),)
