"""An earlier champion serves again: which one, what is left, and what `status` says of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contexts import MemoryDecisions, decision, make_context, printed, promotion
from tests.faults.seams import killed_at_each, writes_of

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Rollback, Status
from flight_delays.platform.context import Context
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.tasks import promote, rollback, serving
from flight_delays.views.status import show_status

AS_OF = datetime(2013, 3, 1, 9, tzinfo=UTC)
PROMOTIONS = [(1, None), (2, 1), (3, 2)]  # version, and the one before it


@pytest.fixture
def context_of(registry: Registry, endpoints: Endpoints, new_version: Callable[..., int]) -> Callable[[str], Context]:
    """Versions 1, 2 and 3 of a model were promoted one after the other; 4 never was, and is the challenger."""

    def make(name: str) -> Context:
        context = make_context(as_of=AS_OF, registry=registry, endpoints=lambda: endpoints, decisions=MemoryDecisions())
        for _ in range(4):
            new_version(name)
        for version, before in PROMOTIONS:
            at = AS_OF - timedelta(days=10 - version)
            context.decisions.append(decision("promotion", name, version, before, f"promotion of {version}", at))
        for alias, version in {"champion": 3, "previous_champion": 2, "challenger": 4}.items():
            registry.set_alias(name, alias, version)
        serving.serve(context, promotion(name, 3, "any"), 3)
        return context

    return make


def roll_back(name: str, to_version: int | None = None) -> Callable[[Context], None]:
    serving = {
        key: value for key, value in vars(promotion(name, 1, "any")).items() if key[:7] not in ("model_v", "verdict")
    }
    return lambda context: rollback.run(context, Rollback(**serving, to_version=to_version, reason="too many errors"))


def left(context: Context, name: str) -> dict[str, object]:
    rows = context.decisions.find(model_name=name, kind="rollback")
    return {
        "aliases": context.registry.aliases(name),
        "served": [(one.name, one.model_version, one.percentage) for one in context.endpoints().configuration("delay")],
        "rows": [(one.model_version, one.other_version, one.outcome, one.reasons, one.as_of) for one in rows],
    }


@pytest.mark.parametrize(
    ("to_version", "champion", "previous"),
    [(None, 2, {"previous_champion": 1}), (2, 2, {"previous_champion": 1}), (1, 1, {})],
)
def test_an_earlier_champion_serves_again(
    context_of: Callable[[str], Context], to_version: int | None, champion: int, previous: dict[str, int]
) -> None:
    context = context_of(name := f"rolled back to {to_version}")
    roll_back(name, to_version)(context)
    assert left(context, name) == {
        "aliases": {"champion": champion, **previous},
        "served": [("champion", champion, 100)],
        "rows": [(champion, 3, "DONE", ("too many errors",), AS_OF)],
    }
    assert context.task_values == {"champion": str(champion)}
    assert f"Champion of {name} is version {champion} again, served by delay, in place of version 3" in printed(context)


def test_a_second_rollback_goes_further_back_and_not_to_what_was_rolled_back(
    context_of: Callable[[str], Context],
) -> None:
    context = context_of("twice")
    roll_back("twice")(context)
    roll_back("twice")(replace(context, as_of=AS_OF + timedelta(hours=1)))
    assert left(context, "twice")["aliases"] == {"champion": 1}
    with pytest.raises(UserError, match="no version served before version 1; train another one"):
        roll_back("twice")(replace(context, as_of=AS_OF + timedelta(hours=2)))


def test_a_version_that_was_rolled_back_and_passes_anew_serves_again_and_that_is_logged(
    context_of: Callable[[str], Context],
) -> None:
    context = context_of("passed anew")
    roll_back("passed anew")(context)
    context.decisions.append(decision("verdict", "passed anew", 3, 2, "a later verdict", AS_OF))
    promote.run(context, promotion("passed anew", 3, "a later verdict"))
    assert left(context, "passed anew")["served"] == [("champion", 3, 100)]
    assert show_status(context, Status(model_name="passed anew", endpoint="delay"))


def test_a_rollback_killed_before_any_of_its_writes_and_run_again_ends_as_one_that_nobody_disturbed(
    context_of: Callable[[str], Context],
) -> None:
    undisturbed = context_of("undisturbed rollback")
    writes = writes_of(roll_back("undisturbed rollback"), undisturbed)
    expected = left(undisturbed, "undisturbed rollback")
    assert len(writes) > 4
    for name, context, where in killed_at_each(writes, "a rollback", roll_back, context_of):
        roll_back(name)(context)
        assert left(context, name) == expected, where


@pytest.mark.parametrize(
    ("to_version", "aliases", "says"),
    [
        (3, {"champion": 3}, "version 3 is the champion already; flight-delays status shows whether it serves"),
        (4, {"champion": 3}, "version 4 never served; run the release job for it, which judges it"),
        (9, {"champion": 3}, "version 9 never served; run the release job for it, which judges it"),
        (None, {"champion": 1}, "no version served before version 1; train another one"),
        (None, {}, "no version serves; run the train job, which releases one that passes"),
    ],
)
def test_what_cannot_be_rolled_back_is_one_line_and_changes_nothing(
    context_of: Callable[[str], Context], to_version: int | None, aliases: dict[str, int], says: str
) -> None:
    context = context_of(name := f"refused {to_version} {len(aliases)} {says[:9]}")
    for alias in context.registry.aliases(name):
        context.registry.delete_alias(name, alias)
    for alias, number in aliases.items():
        context.registry.set_alias(name, alias, number)
    with pytest.raises(UserError) as refused:
        roll_back(name, to_version)(context)
    assert str(refused.value) == says
    assert left(context, name) == {"aliases": aliases, "served": [("champion", 3, 100)], "rows": []}


def test_a_version_that_was_deleted_is_not_gone_back_to(context_of: Callable[[str], Context]) -> None:
    context = context_of("deleted")
    context.registry.client.delete_model_version("deleted", "2")
    with pytest.raises(UserError, match="model deleted has no version 2"):
        roll_back("deleted")(context)
    assert left(context, "deleted")["rows"] == []


def status(context: Context, name: str) -> tuple[bool, list[str]]:
    agrees = show_status(context, Status(model_name=name, endpoint="delay"))
    return agrees, [line.rstrip() for line in printed(context).splitlines()]


def test_status_says_what_serves_since_when_and_why(context_of: Callable[[str], Context]) -> None:
    context = context_of("shown")
    roll_back("shown")(context)
    agrees, lines = status(context, "shown")
    assert agrees
    at = lines.index("shown version 2 serves since 2013-03-01 09:00 UTC in place of version 3")
    assert lines[at + 1 : at + 4] == [
        "by a rollback: too many errors",
        "Endpoint delay: champion version 2 at 100 %",
        "Aliases: champion 2, previous_champion 1",
    ]
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert table[0] == ["2013-03-01 09:00", "rollback", "2", "DONE", "too many errors"]
    assert len(table) == 4


def test_status_finds_what_is_not_as_it_was_decided(context_of: Callable[[str], Context]) -> None:
    context = context_of("disagreeing")
    context.registry.set_alias("disagreeing", "champion", 2)
    serving.serve(context, promotion("disagreeing", 1, "any"), 1)
    agrees, lines = status(context, "disagreeing")
    assert not agrees
    assert [line for line in lines if line.startswith("DISAGREES")] == [
        "DISAGREES: alias champion points at version 2, and version 3 was decided",
        "DISAGREES: the endpoint serves champion version 1 at 100 %, and version 3 at 100 % was decided",
    ]


def test_status_of_a_model_that_was_never_released(
    registry: Registry, endpoints: Endpoints, new_version: Callable[..., int]
) -> None:
    new_version("new")
    context = make_context(as_of=AS_OF, registry=registry, endpoints=lambda: endpoints, decisions=MemoryDecisions())
    agrees, lines = status(context, "new")
    assert lines[0] == "No version of new serves yet; run the train job, which releases one that passes."
    assert agrees == (not endpoints.configuration("delay"))
