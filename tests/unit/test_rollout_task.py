"""One step of a rollout after the other, on a real registry and an endpoint over HTTP."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contexts import ROLLOUT, MemoryDecisions, decision, make_context, printed, promotion
from tests.faults.seams import killed_at_each, writes_of

from flight_delays.core.errors import UserError
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import Rollback, Rollout, Status
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import Decision
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.platform.rollout_log import newest_rollout
from flight_delays.tasks import promote, rollback, rollout, serving
from flight_delays.views.status import show_status

AS_OF = datetime(2013, 3, 1, 9, tzinfo=UTC)
HOUR = timedelta(minutes=ROLLOUT.rollout_stage_minutes)
POLICY = replace(ROLLOUT, rollout_stages=(0, 25, 100))
GOOD, WORSE, UNKNOWN, INVALID = Signal
SERVING = ("model_name", "endpoint", "serving_workload_size", "serving_scale_to_zero", "secret_scope", "online_store")


@pytest.fixture
def context_of(registry: Registry, endpoints: Endpoints, new_version: Callable[..., int]) -> Callable[[str], Context]:
    """Version 1 of a model serves; the verdict on version 2 is a PASS."""

    def make(name: str) -> Context:
        context = make_context(as_of=AS_OF, registry=registry, endpoints=lambda: endpoints, decisions=MemoryDecisions())
        for _ in range(2):
            new_version(name)
        for alias, version in {"champion": 1, "challenger": 2}.items():
            registry.set_alias(name, alias, version)
        context.decisions.append(verdict(name, 2))
        serving.serve(context, promotion(name, 1, "any"), 1)
        return context

    return make


def verdict(name: str, version: int) -> Decision:
    return decision("verdict", name, version, 1, f"verdict on {version}", AS_OF)


def settings(name: str, **change: object) -> Rollout:
    known = {key: getattr(promotion(name, 1, "any"), key) for key in SERVING}
    tables = {"payload_table": "a.b.c", "served_entities_table": "a.b.d"}
    return Rollout(**{**known, **tables, "policy": POLICY, "approval_required": False, **change})


def start(context: Context, name: str, version: int = 2, stages: tuple[int, ...] = POLICY.rollout_stages) -> None:
    promote.run(context, promotion(name, version, f"verdict on {version}", rollout_stages=stages))


def says(*signals: Signal) -> rollout.Clock:
    return lambda *_: [Finding(name=f"clock_{at}", signal=one, reason="said so") for at, one in enumerate(signals)]


def step(context: Context, name: str, measure: rollout.Clock, hours: int, **change: object) -> None:
    """The run that many hours after the start."""
    rollout.run(replace(context, as_of=AS_OF + hours * HOUR), settings(name, **change), {"measured": measure})


def began(context: Context, name: str) -> Context:
    """Its rollout's first stage is served since AS_OF."""
    start(context, name)
    return context


def served(context: Context) -> dict[int, int]:
    """Version to its share."""
    return {one.model_version: one.percentage for one in context.endpoints().configuration("delay")}


def actions(context: Context, name: str) -> list[str]:
    return [row.outcome for row in context.decisions.find(kind="rollout", model_name=name)]


def left(context: Context, name: str) -> dict[str, object]:
    promotions = context.decisions.find(kind="promotion", model_name=name)
    return {
        "aliases": context.registry.aliases(name),
        "served": served(context),
        "promotions": [(one.model_version, one.other_version, one.allowed_by) for one in promotions],
    }


PROMOTED = {
    "aliases": {"champion": 2, "previous_champion": 1},
    "served": {2: 100},
    "promotions": [(2, 1, "verdict on 2")],
}
KEPT = {"aliases": {"champion": 1}, "served": {1: 100}, "promotions": []}


def test_a_good_version_goes_from_shadow_through_each_stage_to_champion(context_of: Callable[[str], Context]) -> None:
    context = began(context_of("good"), "good")
    seen = [served(context)]
    for hours in (1, 2):
        step(context, "good", says(GOOD), hours)
        seen.append(served(context))
    assert seen == [{1: 100, 2: 0}, {1: 75, 2: 25}, {2: 100}]
    assert left(context, "good") == PROMOTED
    assert actions(context, "good") == ["START", "SERVE", "ADVANCE", "SERVE", "PROMOTE", "SERVE"]
    step(context, "good", says(WORSE), 3)
    assert "No version of good is being rolled out." in printed(context)
    assert left(context, "good") == PROMOTED


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("pause", ["PAUSE", "HOLD", "RESUME", "HOLD", "ADVANCE", "SERVE"]),
        ("promote", ["PROMOTE", "SERVE"]),
    ],
)
def test_people_pause_resume_and_promote_with_a_reason(
    context_of: Callable[[str], Context], order: str, expected: list[str]
) -> None:
    context = began(context_of(f"ordered to {order}"), f"ordered to {order}")
    step(context, f"ordered to {order}", says(UNKNOWN), 1, order=order, reason="a holiday")
    resume = {"order": "resume", "reason": "it is over"}
    for hours, change in ((2, {}), (3, resume if order == "pause" else {}), (3, {}), (4, {})):
        step(context, f"ordered to {order}", says(GOOD), hours, **change)
    assert actions(context, f"ordered to {order}")[2:] == expected
    (row,) = [row for row in context.decisions.find(kind="rollout") if row.outcome == order.upper()]
    assert row.reasons == ("a holiday",)


@pytest.mark.parametrize(
    ("orders", "expected", "shares"),
    [
        ([(25 * 28, {})], ["HOLD", "ASK"], {1: 80, 2: 20}),
        ([(3, {"order": "stop", "reason": "enough"})], ["HOLD", "ROLL_BACK", "SERVE"], {1: 100}),
        ([(3, {"order": "promote", "reason": "clear"})], ["HOLD", "PROMOTE", "SERVE"], {2: 100}),
    ],
    ids=["over", "stopped", "promoted"],
)
def test_an_ab_test_keeps_its_share_until_it_is_over_or_a_person_ends_it(
    context_of: Callable[[str], Context],
    orders: list[tuple[int, dict[str, str]]],
    expected: list[str],
    shares: dict[int, int],
) -> None:
    name = f"tested {expected[-2]}"
    context = began(context_of(name), name)
    step(context, name, says(GOOD), 1, order="ab-test", reason="the airline wants to see it")
    assert served(context) == {1: 80, 2: 20}
    step(context, name, says(GOOD), 2)
    for hours, change in orders:
        with pytest.raises(UserError, match="the A/B test is over") if "ASK" in expected else nullcontext():
            step(context, name, says(GOOD), hours, **change)
    assert actions(context, name)[2:] == ["AB_TEST", "SERVE", *expected]
    assert served(context) == shares


def test_an_order_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="reason is missing; say why to pause"):
        settings("any", order="pause", reason=" ")
    with pytest.raises(ValueError, match="version goes with order promote only"):
        settings("any", order="pause", reason="why", version=2)


@pytest.mark.parametrize("order", ["pause", "resume", "promote", "stop", "ab-test"])
def test_an_order_to_a_rollout_that_is_not_there_is_refused(context_of: Callable[[str], Context], order: str) -> None:
    context = context_of(f"nothing to {order}")
    with pytest.raises(UserError, match=f"nothing to {order}; to promote one past the gate, give its number"):
        step(context, f"nothing to {order}", says(), 1, order=order, reason="a slip")
    assert context.registry.aliases(f"nothing to {order}") == {"champion": 1, "challenger": 2}


def decided(context: Context, name: str) -> Context:
    """That version 1 serves was logged."""
    context.decisions.append(
        replace(verdict(name, 1), kind="promotion", decision_id=f"first of {name}", other_version=None)
    )
    return context


def test_a_version_is_promoted_past_the_gate_by_an_order_and_stays(context_of: Callable[[str], Context]) -> None:
    context = decided(context_of("forced"), "forced")
    for _ in range(2):  # a run that is repeated changes nothing
        step(context, "forced", says(), 1, order="promote", version=2, reason="agreed with the airline")
    step(context, "forced", says(WORSE), 2)
    order = f"order of {(AS_OF + HOUR).isoformat()}"
    assert left(context, "forced") == {**PROMOTED, "promotions": [(1, None, None), (2, 1, order)]}
    (row,) = context.decisions.find(kind="promotion", model_version=2)
    assert row.reasons == ("agreed with the airline",)


@pytest.mark.parametrize(
    ("rolled_out", "version", "says_why"),
    [
        (True, 1, "version 2 is being rolled out; roll it back before version 1 is promoted"),
        (False, 9, "forced in vain False has no version 9"),
    ],
)
def test_another_version_than_can_be_promoted_is_refused(
    context_of: Callable[[str], Context], rolled_out: bool, version: int, says_why: str
) -> None:
    name = f"forced in vain {rolled_out}"
    context = decided(context_of(name), name)
    if rolled_out:
        start(context, name)
    before = left(context, name)
    with pytest.raises(UserError, match=says_why):
        step(context, name, says(), 1, order="promote", version=version, reason="a slip")
    assert left(context, name) == before


@pytest.mark.parametrize(
    ("rolled_out", "live", "expected", "actions_after"),
    [
        (True, (1, 2, 50), {"champion": 1, "challenger": 2}, ["ADVANCE", "SERVE"]),
        (True, (1,), {"champion": 1}, ["ROLL_BACK", "SERVE"]),
        (True, (2,), {"champion": 2, "previous_champion": 1}, ["PROMOTE", "SERVE"]),
        (True, (3,), {"champion": 3, "previous_champion": 1}, ["ROLL_BACK", "SERVE"]),
        (False, (2,), {"champion": 2, "previous_champion": 1}, []),
        (False, (1,), {"champion": 1, "challenger": 2}, []),
    ],
    ids=["another share", "challenger taken out", "challenger alone", "a third version", "by hand", "as decided"],
)
def test_what_somebody_let_the_endpoint_serve_is_adopted_by_an_order_and_stays(
    context_of: Callable[[str], Context],
    new_version: Callable[..., int],
    rolled_out: bool,
    live: tuple[int, ...],
    expected: dict[str, int],
    actions_after: list[str],
) -> None:
    name = f"adopted {rolled_out} {live}"
    context = decided(context_of(name), name)
    new_version(name)
    if rolled_out:
        start(context, name)
    serving.serve(context, settings(name), *live)
    before = served(context)
    for change in ({"order": "adopt", "reason": "the night shift was right"}, {}):
        step(context, name, says(UNKNOWN), 1, **change)
        assert served(context) == before
        found = {key: value for key, value in context.registry.aliases(name).items() if rolled_out or key in expected}
        assert found == expected
    assert [row for row in actions(context, name) if row != "HOLD"] == ["START", "SERVE"] * rolled_out + actions_after
    assert show_status(context, Status(model_name=name, endpoint="delay"))


@pytest.mark.parametrize("rolled_out", [True, False])
def test_what_cannot_be_adopted_is_refused_and_nothing_changes(
    context_of: Callable[[str], Context], new_version: Callable[..., int], rolled_out: bool
) -> None:
    name = f"not adopted {rolled_out}"
    context = decided(context_of(name), name)
    new_version(name)
    if rolled_out:
        start(context, name)
    serving.serve(context, settings(name), 1, 3, 50)
    before = left(context, name), actions(context, name)
    with pytest.raises(UserError, match="only one version alone can be adopted, or a share of the rollout under way"):
        step(context, name, says(UNKNOWN), 1, order="adopt", reason="a slip")
    assert (left(context, name), actions(context, name)) == before


def test_of_two_runs_at_once_one_takes_the_step(context_of: Callable[[str], Context]) -> None:
    context = began(context_of("raced"), "raced")

    def measure(*_: object) -> list[Finding]:
        step(context, "raced", says(GOOD), 1)  # the other run, from its begin to its end
        return [Finding(name="clock", signal=GOOD, reason="said so")]

    step(context, "raced", measure, 1)
    assert actions(context, "raced") == ["START", "SERVE", "ADVANCE", "SERVE"]
    assert served(context) == {1: 75, 2: 25}
    assert "Another run has taken step 2; nothing is left to do." in printed(context)


@pytest.mark.parametrize("worse", [False, True], ids=["promoted", "rolled back"])
def test_a_rollout_killed_before_any_of_its_writes_and_run_again_ends_as_one_that_nobody_disturbed(
    context_of: Callable[[str], Context], worse: bool
) -> None:
    def whole(name: str) -> Callable[[Context], None]:
        def run(context: Context) -> None:
            start(context, name)
            for hours in (1, 2, 3):
                step(context, name, says(WORSE if worse and served(context).get(2) else GOOD), hours)

        return run

    context = context_of(f"undisturbed rollout {worse}")
    writes = writes_of(whole(f"undisturbed rollout {worse}"), context)
    expected = left(context, f"undisturbed rollout {worse}")
    assert expected == (KEPT if worse else PROMOTED)
    assert len(writes) > 7
    for name, context, where in killed_at_each(writes, f"rollout {worse}", whole, context_of):
        logged = newest_rollout(context.decisions.find(model_name=name))
        if logged is None or logged.state.step == 0:
            start(context, name)  # the task is tried again
        for hours in (4, 5, 6):
            step(context, name, says(WORSE if worse and served(context).get(2) else GOOD), hours)
        assert left(context, name) == expected, where


def test_what_somebody_changed_is_put_right_and_told(context_of: Callable[[str], Context]) -> None:
    context = began(context_of("tampered"), "tampered")
    serving.serve(context, settings("tampered"), 1, 2, 50)
    context.registry.set_alias("tampered", "champion", 2)
    context.registry.delete_alias("tampered", "challenger")
    step(context, "tampered", says(UNKNOWN), 1)
    assert left(context, "tampered") == {**KEPT, "aliases": {"champion": 1, "challenger": 2}, "served": {1: 100, 2: 0}}
    lines = [line.rstrip() for line in printed(context).splitlines() if line.startswith("Restored")]
    assert lines == [
        "Restored: delay served champion version 1 at 50 %, challenger version 2 at 50 %.",
        "Restored: alias champion pointed at 2.",
        "Restored: alias challenger pointed at no version.",
    ]


def test_where_nothing_is_rolled_out_the_champion_that_was_decided_is_put_right(
    context_of: Callable[[str], Context],
) -> None:
    context = context_of("put back")
    step(context, "put back", says(), 1)  # nothing was ever decided
    assert served(context) == {1: 100}
    context.decisions.append(replace(verdict("put back", 1), kind="promotion", decision_id="first"))
    serving.serve(context, settings("put back"), 2)
    context.registry.set_alias("put back", "champion", 2)
    step(context, "put back", says(WORSE), 1)
    assert served(context) == {1: 100}
    assert context.registry.aliases("put back")["champion"] == 1
    assert actions(context, "put back") == []
    assert printed(context).count("Restored") == 2


@pytest.mark.parametrize("hours", [0, 1], ids=["from shadow", "from 25 %"])
def test_a_rollback_takes_the_challenger_out_and_leaves_the_champion(
    context_of: Callable[[str], Context], hours: int
) -> None:
    name = f"taken out after {hours}"
    context = began(context_of(name), name)
    if hours:
        step(context, name, says(GOOD), hours)
    known = {key: getattr(settings(name), key) for key in SERVING}
    for _ in range(2):  # a run that is repeated changes nothing
        rollback.run(context, Rollback(**known, reason="too many errors"))
        assert left(context, name) == KEPT
    assert actions(context, name)[-2:] == ["ROLL_BACK", "SERVE"]
    (row,) = context.decisions.find(kind="rollback", model_name=name)
    assert (row.model_version, row.other_version) == (1, 2)
    with pytest.raises(UserError, match="this verdict's rollout of version 2 was rolled back; judge it on newer days"):
        start(context, name)


def test_while_one_version_is_rolled_out_no_other_is(
    context_of: Callable[[str], Context], new_version: Callable[..., int]
) -> None:
    context = began(context_of("busy"), "busy")
    context.decisions.append(verdict("busy", new_version("busy")))
    with pytest.raises(UserError, match="version 2 is being rolled out, at 0 %; run the release job for version 3"):
        start(context, "busy", 3)


def test_to_start_a_rollout_again_changes_nothing(context_of: Callable[[str], Context]) -> None:
    context = began(context_of("again"), "again")
    start(context, "again")
    assert actions(context, "again") == ["START", "SERVE"]
    assert served(context) == {1: 100, 2: 0}


def test_status_shows_the_rollout_under_way_and_why_it_is_where_it_is(context_of: Callable[[str], Context]) -> None:
    context = began(context_of("shown in a rollout"), "shown in a rollout")
    decided(context, "shown in a rollout")
    step(context, "shown in a rollout", says(GOOD), 1)
    step(context, "shown in a rollout", says(GOOD, UNKNOWN), 2)
    assert show_status(context, Status(model_name="shown in a rollout", endpoint="delay"))
    lines = [line.rstrip() for line in printed(context).splitlines()]
    at = lines.index("Rollout of version 2, under way: 25 % of the requests since 2013-03-01 09:00 UTC; its last step:")
    assert lines[at + 1 : at + 4] == [
        "  not everything is known",
        "  GOOD clock_0: said so",
        "  UNKNOWN clock_1: said so",
    ]
