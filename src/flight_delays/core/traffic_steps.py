"""From what two deployments serve to what they are to serve, step by step and without losing a request.

Traffic goes only to a deployment whose pods are ready on the release that it has. One that has traffic keeps its
release: another release starts on the deployment without traffic, which then takes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from flight_delays.core.traffic import CHALLENGER, CHAMPION

_MOST_STEPS = 20  # more than any change takes


@dataclass(frozen=True, kw_only=True)
class Release:
    """A version of a model and the container image that serves it."""

    model_name: str
    model_version: int
    image: str


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """A deployment and its part of the traffic.

    `pods` are asked for, `available` of them answer; it is settled if none of another release is left. It runs
    `least` to `most` pods unless it is stopped.
    """

    release: Release | None = None
    pods: int = 0
    available: int = 0
    settled: bool = True
    weight: int = 0
    least: int = 1
    most: int = 1

    @property
    def carries(self) -> bool:
        """Whether requests would be lost if it stopped."""
        return self.weight > 0 and self.available > 0


@dataclass(frozen=True, kw_only=True)
class Share:
    """A release that is to get `percentage` of the traffic."""

    release: Release
    percentage: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """Let a deployment run a release, on that many pods."""

    name: str
    release: Release
    pods: int


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Give a deployment more pods; 0 stops it."""

    name: str
    pods: int


@dataclass(frozen=True, kw_only=True)
class Await:
    """Wait until that many of a deployment's pods are available, and none of another release is left."""

    name: str
    pods: int


@dataclass(frozen=True, kw_only=True)
class Weigh:
    """Split the traffic."""

    champion: int
    challenger: int


Step = Run | Scale | Await | Weigh


def carrying(live: Mapping[str, Deployed]) -> int:
    """How many pods the traffic has."""
    return sum(one.pods for one in live.values() if one.weight)


def plan(
    live: Mapping[str, Deployed],
    wanted: Mapping[str, Share],
    *,
    pods: int | None = None,
    enough: frozenset[str] = frozenset(),
) -> tuple[Step, ...]:
    """All steps from `live` to `wanted`, which has a champion, if each of them succeeds; none if it serves that.

    All traffic takes as many `pods`, or those that carry it now; for deployments in `enough` one that is available will
    do. Taken from any point on the way, the rest comes out.
    """
    steps: list[Step] = []
    pods = carrying(live) if pods is None else pods
    while (step := _next(live, wanted, pods, enough)) is not None:
        if len(steps) == _MOST_STEPS:
            raise AssertionError(f"no end of steps: {steps}")
        steps.append(step)
        live = after(live, step)
    return tuple(steps)


def after(live: Mapping[str, Deployed], step: Step) -> Mapping[str, Deployed]:
    """What there is once a step has succeeded."""
    match step:
        case Weigh():
            return {name: replace(one, weight=getattr(step, name)) for name, one in live.items()}
        case Run():
            one = replace(live[step.name], release=step.release, pods=step.pods, settled=False)
        case Scale():
            one = replace(live[step.name], pods=step.pods, available=min(step.pods, live[step.name].available))
        case Await():
            one = replace(live[step.name], available=live[step.name].pods, settled=True)
    return {**live, step.name: one}


def _next(live: Mapping[str, Deployed], wanted: Mapping[str, Share], pods: int, enough: frozenset[str]) -> Step | None:
    champion, challenger = live[CHAMPION], live[CHALLENGER]
    first, second = wanted[CHAMPION], wanted.get(CHALLENGER)

    def ready(name: str, release: Release | None, percentage: int) -> Step | None:
        """What is left to do before a deployment can take its part."""
        one = live[name]
        needed = min(max(ceil(pods * percentage / 100), one.least), one.most)
        if release is not None and one.release != release:
            return Run(name=name, release=release, pods=needed)
        if one.pods and one.weight >= percentage:
            needed = 1  # what it carries already, it can
        if one.pods < needed:
            return Scale(name=name, pods=needed)
        if not one.settled or one.available < (1 if name in enough else needed):
            return Await(name=name, pods=needed)
        return None

    to_champion, to_challenger = Weigh(champion=100, challenger=0), Weigh(champion=0, challenger=100)
    if champion.release != first.release and champion.carries:
        if challenger.release != first.release and challenger.carries:
            return ready(CHAMPION, champion.release, 100) or to_champion
        return ready(CHALLENGER, first.release, 100) or to_challenger
    if second and challenger.release != second.release and challenger.carries:
        return ready(CHAMPION, first.release, 100) or to_champion
    for name, share in wanted.items():
        if step := ready(name, share.release, share.percentage):
            return step
    split = Weigh(champion=first.percentage, challenger=second.percentage if second else 0)
    if split != Weigh(champion=champion.weight, challenger=challenger.weight):
        return split
    return Scale(name=CHALLENGER, pods=0) if second is None and challenger.pods else None
