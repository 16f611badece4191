"""Deployments behind one endpoint, each with a version: in which steps they come to serve what is wanted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from flight_delays.core.traffic import CHALLENGER, CHAMPION


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """`runs` identifies what it runs; it is ready once that has started."""

    runs: str
    is_ready: bool = True


@dataclass(frozen=True, kw_only=True)
class Live:
    """Deployments by name; who gets which percentage of the requests, or of their copies. None gets 0."""

    deployments: Mapping[str, Deployment] = field(default_factory=dict)
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Put:
    """Create a deployment or update it, and wait until it is ready."""

    name: str
    runs: str

    def __str__(self) -> str:
        return f"deploy {self.name}"


@dataclass(frozen=True, kw_only=True)
class Route:
    """Set all traffic, and what is mirrored, at once."""

    traffic: Mapping[str, int]
    mirror: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        shares = [f"{name} {share} %" for name, share in self.traffic.items()]
        return ", ".join(["traffic", *shares, *(f"{name} a copy of {share} %" for name, share in self.mirror.items())])


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete a deployment without traffic."""

    name: str

    def __str__(self) -> str:
        return f"delete {self.name}"


Step = Put | Route | Delete


def plan(live: Live, wanted: Live) -> tuple[Step, ...]:
    """The steps from `live` to `wanted`, which has a champion; none if it is so already.

    A deployment with traffic is not updated: the traffic moves away first, to a ready deployment of a version that is
    wanted as champion or that had the traffic before. So a new champion goes through the other deployment. If a step
    fails, or nobody takes the next one, what is live serves; a plan from there ends the same.
    """
    return tuple(_steps(live, wanted))


def after(live: Live, step: Step) -> Live:
    """What is live when the step is done."""
    match step:
        case Put(name=name, runs=runs):
            return replace(live, deployments={**live.deployments, name: Deployment(runs=runs)})
        case Route(traffic=traffic, mirror=mirror):
            return replace(live, traffic=traffic, mirror=mirror)
        case Delete(name=gone):
            return replace(live, deployments={name: one for name, one in live.deployments.items() if name != gone})


def _steps(live: Live, wanted: Live) -> Iterator[Step]:
    while (step := _next(live, wanted)) is not None:
        yield step
        live = after(live, step)


def _next(live: Live, wanted: Live) -> Step | None:
    champion = wanted.deployments[CHAMPION]
    if live.deployments.get(CHAMPION) != champion:
        return _towards_champion(live, champion)
    challenger = wanted.deployments.get(CHALLENGER)
    if challenger and live.deployments.get(CHALLENGER) != challenger:
        return Route(traffic={CHAMPION: 100}) if CHALLENGER in live.traffic else _put(live, CHALLENGER, challenger)
    if (live.traffic, live.mirror) != (wanted.traffic, wanted.mirror):
        return Route(traffic=wanted.traffic, mirror=wanted.mirror)
    return next((Delete(name=name) for name in live.deployments if name not in wanted.deployments), None)


def _towards_champion(live: Live, champion: Deployment) -> Step:
    if CHAMPION not in live.traffic:
        return _put(live, CHAMPION, champion)
    if live.deployments.get(CHALLENGER) == champion:
        return Route(traffic={CHALLENGER: 100})
    if CHALLENGER not in live.traffic:
        return _put(live, CHALLENGER, champion)
    # Another version has a share there. It gets no more than that, unless it is the only one that is ready.
    for name in (CHAMPION, CHALLENGER, *live.traffic):
        if name in live.deployments and live.deployments[name].is_ready:
            return Route(traffic={name: 100})
    return Put(name=CHALLENGER, runs=champion.runs)


def _put(live: Live, name: str, wanted: Deployment) -> Step:
    """For a deployment without traffic. One that failed is made anew."""
    if name not in live.deployments or live.deployments[name].is_ready:
        return Put(name=name, runs=wanted.runs)
    return Route(traffic=live.traffic) if name in live.mirror else Delete(name=name)
