"""What people complain about in rollout controllers, and what happens here: a real registry, an endpoint over HTTP."""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from threading import Event

import pytest
from databricks.sdk.service.serving import ServedEntityInput, ServingEndpointsAPI
from tests.conftest import EXPERIMENT
from tests.contexts import MemoryDecisions, Time, make_context, printed, promotion
from tests.faults.seams import KilledError, Killer
from tests.unit.test_rollout_task import (
    AS_OF,
    GOOD,
    KEPT,
    PROMOTED,
    actions,
    left,
    says,
    start,
    step,
    verdict,
)

from bundle_laptop.api import Faults
from bundle_laptop.api.scoring import Loader, Scored, Scorer
from flight_delays.core import clocks
from flight_delays.core.errors import UserError
from flight_delays.core.rollout import Finding
from flight_delays.core.settings import Rollout
from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.platform.rollout_log import Logged
from flight_delays.platform.served_requests import Group, Period, measured
from flight_delays.tasks import rollout, serving


def failing(error: Exception) -> rollout.Clock:
    def measure(*_: object) -> list[Finding]:
        raise error

    return measure


def logs(champion: int, challenger: int, *fails: int) -> rollout.Clock:
    """What the clocks find in so many logged requests; those of the versions that fail have status 500."""

    def measure(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
        groups = [
            Group(period=0, version=number, failed=number in fails, ms=None if number in fails else 20, requests=asked)
            for number, asked in ((logged.champion, champion), (logged.challenger, challenger))
        ]
        period = Period(begin=logged.state.since, end=context.as_of, percentage=logged.state.percentage)
        found = measured(groups, [period], champion=logged.champion, challenger=logged.challenger, newest=None)
        ask = (clocks.enough_requests, clocks.errors, clocks.latency)
        findings = [clock(found.champion, found.challenger, settings.policy) for clock in ask]
        return [*findings, clocks.sample_ratio(found.splits, settings.policy)]

    return measure


def asks_for_both(context: Context, _: Rollout, logged: Logged) -> list[Finding]:
    """As the clock on their forecasts does, which loads them."""
    for version in (logged.champion, logged.challenger):
        context.registry.version(logged.model_name, version)
    return [Finding(name="clock_0", signal=GOOD, reason="said so")]


@dataclass(frozen=True, kw_only=True)
class World:
    """A rollout whose challenger gets 25 % of the requests, and what can get in its way."""

    name: str
    context: Context
    faults: Faults
    may_load: Event

    @property
    def serving_endpoints(self) -> ServingEndpointsAPI:
        return self.context.endpoints().client.serving_endpoints

    def refused(self, times: int | None, speed: int = 1) -> Context:
        """Updates of the endpoint meet a conflict; to wait takes no time, but on the clock `speed` times its own."""
        self.faults.add(method="PUT", path="/config", action="conflict", times=times)
        clock = Time()
        patient = replace(self.context.endpoints(), clock=clock.time, sleep=lambda s: clock.sleep(speed * s))
        return replace(self.context, endpoints=lambda: patient)

    def killed_before(self, write: str) -> Context:
        return Killer(lambda writes: writes[-1] == write).around(self.context)

    def updated_by_others(self) -> Context:
        """To version 2 alone, which does not load before somebody waits for it."""
        self.may_load.clear()
        entity = ServedEntityInput(name="champion", entity_name=self.name, entity_version="2")
        self.serving_endpoints.update_config("delay", served_entities=[entity])
        waiting = replace(self.context.endpoints(), sleep=lambda _: self.may_load.set())
        return replace(self.context, endpoints=lambda: waiting)

    def without_endpoint(self) -> Context:
        self.serving_endpoints.delete("delay")
        return self.context

    def without_version(self, number: int) -> Context:
        self.context.registry.client.delete_model_version(self.name, str(number))
        return self.context

    def clear(self) -> None:
        """Nothing is in the way any more; a deploy has made an endpoint that is missing."""
        self.faults.clear()
        if not [*self.serving_endpoints.list()]:
            self.serving_endpoints.create("delay")


@pytest.fixture
def may_load() -> Event:
    """Whether the endpoint may load versions."""
    event = Event()
    event.set()
    return event


@pytest.fixture
def loader(registry: Registry, may_load: Event) -> Loader:
    """Loads no model, but knows whether the version is there: what is answered is not asked here."""

    def load(name: str, version: int, _: Mapping[str, str]) -> Scorer:
        registry.version(name, version)
        assert may_load.wait(20)
        return lambda *_: Scored(status=200, content_type="application/json", text="{}")

    return load


@pytest.fixture
def new_world(registry: Registry, endpoints: Endpoints, faults: Faults, may_load: Event) -> Callable[[str], World]:
    """Version 1 of a model serves, and version 2 gets 25 % of its requests since AS_OF."""

    def make(name: str) -> World:
        quick = replace(endpoints, sleep=lambda _: time.sleep(0.01))
        context = make_context(as_of=AS_OF, registry=registry, endpoints=lambda: quick, decisions=MemoryDecisions())
        (experiment,) = registry.client.search_experiments(filter_string=f"name = '{EXPERIMENT}'")
        run = registry.client.create_run(experiment.experiment_id).info
        registry.client.create_registered_model(name)
        for version, alias in enumerate(("champion", "challenger"), 1):
            registry.client.create_model_version(name, run.artifact_uri, run.run_id)
            registry.set_alias(name, alias, version)
        context.decisions.append(verdict(name, 2))
        serving.serve(context, promotion(name, 1, "any"), 1)
        start(context, name, stages=(25, 100))
        return World(name=name, context=context, faults=faults, may_load=may_load)

    return make


AT_25 = {**KEPT, "aliases": {"champion": 1, "challenger": 2}, "served": {1: 75, 2: 25}}
ALL_GOOD = says(GOOD)
RESUME_IT = "; resume it, promote it or roll it back"


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """What a controller of rollouts is said to do wrong somewhere: here, what happens, and what is right.

    The run writes `steps`, the first for a `reason`, `prints` a line or `raises` (a UserError is exit code 2), and
    leaves the endpoint and the aliases as in `left`; None: there is no endpoint. With nothing in the way and all clocks
    good, the next run writes `then`.
    """

    steps: tuple[str, ...]
    reason: str = "GOOD clock_0: said so"
    happens: Callable[[World], Context] = lambda world: world.context
    measure: rollout.Clock = ALL_GOOD
    hours: int = 2
    prints: str = ""
    raises: tuple[type[BaseException], str] | None = None
    left: dict[str, object] | None = field(default_factory=lambda: AT_25)
    then: tuple[str, ...] = ("PROMOTE", "SERVE")


COMPLAINTS = {
    "no data is no reason to go on": Complaint(
        measure=logs(0, 0),
        steps=("HOLD",),
        reason="UNKNOWN enough_requests: the champion answered 0 requests and the challenger 0, at least 500 each "
        "needed",
    ),
    "an empty result is no reason to go on": Complaint(measure=says(), steps=("HOLD",), reason="nothing was measured"),
    "payloads that are late are waited for": Complaint(
        measure=logs(1_200, 400),
        steps=("HOLD",),
        reason="UNKNOWN enough_requests: the champion answered 1,200 requests and the challenger 400, at least 500 "
        "each needed",
    ),
    "all queries failing is no reason to go on": Complaint(
        measure=failing(RuntimeError("no column\nstatus_code")),
        steps=("HOLD",),
        reason="UNKNOWN measured: RuntimeError: no column status_code",
    ),
    "queries that fail for three days are a question": Complaint(
        measure=failing(OSError("the warehouse is gone")),
        hours=73,
        steps=("ASK",),
        reason="UNKNOWN measured: OSError: the warehouse is gone",
        raises=(UserError, f"version 2 at 25 %: undecided for 73 hours at 25 %{RESUME_IT}"),
        then=("HOLD",),
    ),
    "traffic that never comes is a question": Complaint(
        measure=logs(0, 0),
        hours=73,
        steps=("ASK",),
        reason="UNKNOWN sample_ratio: the challenger got 0 of 0 requests, 0 expected",
        raises=(UserError, f"version 2 at 25 %: undecided for 73 hours at 25 %{RESUME_IT}"),
        then=("HOLD",),
    ),
    "traffic split in another way is a question": Complaint(
        measure=logs(1_000, 1_000),
        steps=("ASK",),
        reason="what was measured can't be trusted",
        raises=(UserError, f"version 2 at 25 %: what was measured can't be trusted{RESUME_IT}"),
        then=("HOLD",),
    ),
    "all requests of both versions failing is not equally good": Complaint(
        measure=logs(1_500, 500, 1, 2),
        steps=("HOLD",),
        reason="UNKNOWN latency: no request of either version was timed",
    ),
    "all requests of the challenger failing rolls back at once": Complaint(
        measure=logs(1_500, 500, 2),
        hours=0,
        steps=("ROLL_BACK", "SERVE"),
        reason="WORSE errors: 100.00% of the challenger's requests fail and 0.00% of the champion's, at most 1.00% "
        "more allowed",
        left=KEPT,
        then=(),
    ),
    "a run killed after its claim is completed by the next": Complaint(
        happens=lambda world: world.killed_before("configure delay"),
        steps=("PROMOTE",),
        raises=(KilledError, "configure delay"),
        then=("SERVE",),
    ),
    "a conflict is waited out": Complaint(
        happens=lambda world: world.refused(2),
        steps=("PROMOTE", "SERVE"),
        prints="endpoint delay: conflict, injected by the laptop's faults",
        left=PROMOTED,
        then=(),
    ),
    "a conflict that never ends moves no alias": Complaint(
        happens=lambda world: world.refused(None, speed=200),
        steps=("PROMOTE",),
        raises=(
            UserError,
            "endpoint delay does not serve champion version 2 at 100 %: conflict, injected by the laptop's faults "
            "(tried for 3600 s); still serving: champion version 1 at 75 %, challenger version 2 at 25 %; fix that and "
            "run the job again",
        ),
        then=("SERVE",),
    ),
    "an update in progress is waited for": Complaint(
        happens=World.updated_by_others,
        steps=("PROMOTE", "SERVE"),
        prints="endpoint delay: an update is in progress",
        left=PROMOTED,
        then=(),
    ),
    "an endpoint that is gone is made by a deploy": Complaint(
        happens=World.without_endpoint,
        steps=(),
        raises=(UserError, "endpoint delay does not exist; deploy the bundle, which creates it"),
        left=None,
    ),
    "a challenger that was deleted rolls back": Complaint(
        happens=lambda world: world.without_version(2),
        measure=asks_for_both,
        steps=("ROLL_BACK", "SERVE"),
        reason="WORSE version: model a challenger that was deleted rolls back has no version 2; take a number that the "
        "train job printed",
        left=KEPT,
        then=(),
    ),
    "a champion that was deleted is a question": Complaint(
        happens=lambda world: world.without_version(1),
        steps=("ASK",),
        reason="INVALID version: model a champion that was deleted is a question has no version 1; take a number that "
        "the train job printed",
        raises=(UserError, f"version 2 at 25 %: what was measured can't be trusted{RESUME_IT}"),
        left=None,
        then=("HOLD",),
    ),
}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [pytest.param(*each, id=each[0]) for each in COMPLAINTS.items()],
)
def test_a_run_on_a_bad_day_says_why_and_the_next_one_goes_on(
    new_world: Callable[[str], World], name: str, complaint: Complaint
) -> None:
    world = new_world(name)
    context, begun = world.context, len(actions(world.context, name))
    disturbed = complaint.happens(world)
    kind, text = complaint.raises or (None, "")
    with pytest.raises(kind, match=f"^{re.escape(text)}$") if kind else nullcontext():
        step(disturbed, name, complaint.measure, complaint.hours)
    rows = context.decisions.find(kind="rollout", model_name=name)[begun:]
    assert tuple(row.outcome for row in rows) == complaint.steps
    assert not rows or complaint.reason in rows[0].reasons
    assert complaint.prints in printed(context)
    assert complaint.left is None or left(context, name) == complaint.left

    world.clear()
    step(context, name, says(GOOD), complaint.hours + 1)
    assert tuple(actions(context, name)[begun + len(rows) :]) == complaint.then
