"""Validation and deployment: what lets a version serve."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from tests.contexts import POLICY, MemoryDecisions, MemoryRows, decision, make_context, promotion

from flight_delays.core.errors import UserError
from flight_delays.core.settings import Judge, Policy
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import Decision
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.registry import Registry
from flight_delays.tasks import judge, promote

# The last days told by this as_of are 6 to 19 February.
AS_OF = datetime(2013, 2, 21, tzinfo=UTC)
CONTRACT = ["schema_compatible", "golden_requests", "fast_enough", "small_enough", "documented"]


@pytest.fixture
def context(registry: Registry, endpoints: Endpoints, flights: pd.DataFrame) -> Context:
    return make_context(
        as_of=AS_OF,
        registry=registry,
        endpoints=lambda: endpoints,
        labelled=MemoryRows(flights),
        decisions=MemoryDecisions(),
    )


def validated(context: Context, name: str, number: int, policy: Policy = POLICY) -> Decision:
    """The verdict that was written; there is one."""
    judge.run(context, Judge(model_name=name, model_version=number, holdout_days=14, policy=policy))
    told = context.task_values
    (verdict,) = context.decisions.find(decision_id=told["verdict_id"])
    assert verdict.outcome == told["verdict"]
    assert (verdict.kind, verdict.model_name, verdict.model_version) == ("verdict", name, number)
    assert verdict.allowed_by is None
    return verdict


def holdout(verdict: Decision) -> tuple[str, str]:
    """The first day that a verdict rests on, and the one after the last."""
    evidence = json.loads(verdict.evidence)
    return evidence["holdout_first"], evidence["holdout_end"]


def deployed(context: Context, name: str, number: int, verdict_id: str) -> None:
    promote.run(context, promotion(name, number, verdict_id))


def served(context: Context) -> list[tuple[str, int, int]]:
    """Name, version and percentage of what the endpoint serves."""
    live = context.endpoints().configuration("delay")
    return [(one.name, one.model_version, one.percentage) for one in live]


def deployments(context: Context, name: str) -> list[tuple[int, int | None]]:
    found = context.decisions.find(model_name=name, kind="promotion")
    return sorted((one.model_version, one.other_version) for one in found)


def test_versions_are_judged_against_the_champion_and_released_one_after_the_other(
    context: Context, new_version: Callable[..., int]
) -> None:
    name, aliases = "released", lambda: context.registry.aliases("released")
    first, second = new_version(name), new_version(name)

    verdict = validated(context, name, first)
    assert (verdict.outcome, verdict.other_version) == ("PASS", None)
    assert holdout(verdict) == ("2013-02-06", "2013-02-20")
    evidence = json.loads(verdict.evidence)
    names = ["enough_days", "better_than_baseline", "calibrated", "no_slice_harmed", *CONTRACT]
    assert [check["name"] for check in evidence["checks"]] == names
    assert {one["dimension"] for one in evidence["slices"]} == {"carrier", "origin", "time of day"}
    assert [one["rows"] for one in evidence["slices"] if one["dimension"] == "time of day"] == [14 * 20]
    assert len(evidence["holdout_digest"]) == 64
    assert aliases() == {"challenger": first}
    assert served(context) == []
    deployed(context, name, first, verdict.decision_id)
    assert aliases() == {"champion": first}
    assert served(context) == [("champion", first, 100)]

    verdict = validated(context, name, second)
    assert (verdict.outcome, verdict.other_version) == ("PASS", first)
    assert [line for line in verdict.reasons if " not_worse_than_champion: " in line] == [
        "PASS not_worse_than_champion: log loss minus the champion's is 0.0000 [0.0000, 0.0000], at most 0.005"
    ]
    assert aliases() == {"champion": first, "challenger": second}
    version = context.registry.version(name, second)
    assert (version.tags["verdict"], version.tags["decision_id"]) == ("PASS", verdict.decision_id)
    report = mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md")
    assert report.startswith(f"# PASS: {name} version {second}\n\nagainst champion version {first}, on 14 days")
    assert "| origin JFK |" in report
    assert json.loads(verdict.evidence)["holdout_digest"] in report
    deployed(context, name, second, verdict.decision_id)
    released = {"champion": second, "previous_champion": first}
    assert aliases() == released
    assert served(context) == [("champion", second, 100)]

    # The release job once more: the same question, though the version is the champion now.
    assert validated(context, name, second) == verdict
    deployed(context, name, second, verdict.decision_id)
    assert aliases() == released
    assert deployments(context, name) == [(first, None), (second, first)]


def test_a_worse_version_fails_and_gets_no_alias(context: Context, new_version: Callable[..., int]) -> None:
    name = "worsened"
    context.registry.set_alias(name, "champion", new_version(name))
    worse = new_version(name, wrong=True)
    verdict = validated(context, name, worse)
    assert verdict.outcome == "FAIL"
    with pytest.raises(UserError, match="the verdict on version 2 is FAIL: only PASS is promoted"):
        deployed(context, name, worse, verdict.decision_id)
    assert context.registry.aliases(name) == {"champion": 1}


def test_a_version_is_timed_once_so_that_judging_it_again_says_the_same(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "timed"
    number = new_version(name)
    first = validated(context, name, number)
    taken = context.registry.version(name, number).tags["latency_ms"]
    assert float(taken) > 0
    assert float(context.registry.version(name, number).tags["size_mb"]) > 0
    assert validated(context, name, number) == first
    assert context.registry.version(name, number).tags["latency_ms"] == taken

    slow = new_version(name)
    context.registry.tag_version(context.registry.version(name, slow), {"latency_ms": "1000.5", "size_mb": "0.1"})
    verdict = validated(context, name, slow)
    assert [line for line in verdict.reasons if not line.startswith("PASS")] == [
        "FAIL fast_enough: one request takes more than 1000 ms"
    ]


def test_what_was_measured_is_told_and_is_no_part_of_the_verdicts_id(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "measured"
    number = new_version(name)

    def judged_with(latency_ms: str) -> tuple[Decision, str]:
        version = context.registry.version(name, number)
        context.registry.tag_version(version, {"latency_ms": latency_ms, "size_mb": "0.25"})
        verdict = validated(replace(context, decisions=MemoryDecisions()), name, number)
        return verdict, mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md")

    (fast, report), (faster, _) = judged_with("12.5"), judged_with("11.5")
    assert fast.decision_id == faster.decision_id
    assert fast.reasons == faster.reasons
    measured = [
        {check["name"]: check["measured"] for check in json.loads(one.evidence)["checks"] if check["measured"]}
        for one in (fast, faster)
    ]
    assert measured[0] == {"fast_enough": {"latency_ms": 12.5}, "small_enough": {"size_mb": 0.25}}
    assert measured[1]["fast_enough"] == {"latency_ms": 11.5}
    assert "| fast_enough | PASS | one request takes at most 1000 ms; latency_ms 12.5 |" in report
    assert "| small_enough | PASS | the model's files take at most 100 MB; size_mb 0.25 |" in report


RECENTLY = timedelta(days=30)


def promoted(context: Context, name: str, *found: tuple[int, timedelta]) -> None:
    """Promotions of versions, how long ago, as if promote had written them; the last one is the champion."""
    for number, ago in found:
        context.decisions.append(decision("promotion", name, number, None, f"{name} {number} {ago}", AS_OF - ago))
    context.registry.set_alias(name, "champion", found[-1][0])


def of_recent(verdict: Decision) -> list[str]:
    """What a verdict says of the versions that served recently."""
    return [line for line in verdict.reasons if " not_worse_than_recent: " in line]


def test_a_third_release_is_compared_with_the_first_too_and_says_the_same_once_it_serves(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "third"
    for number in (1, 2, 3):
        assert new_version(name) == number
        verdict = validated(context, name, number)
        assert verdict.outcome == "PASS"
        deployed(context, name, number, verdict.decision_id)
    assert of_recent(verdict) == [
        "PASS not_worse_than_recent: log loss minus that of version 1, the best of 1 that served in the last 90 days, "
        "is 0.0000 [0.0000, 0.0000], at most 0.005"
    ]
    assert validated(context, name, 3) == verdict


@pytest.mark.parametrize(
    ("replaced", "recent_days", "compared"),
    [(89, 90, True), (90, 90, False), (91, 90, False), (29, 30, True), (30, 30, False), (1, 0, False)],
)
def test_a_version_as_bad_as_the_champion_fails_against_a_better_one_that_served_recently(
    context: Context, new_version: Callable[..., int], replaced: int, recent_days: int, compared: bool
) -> None:
    name = f"slid {replaced} {recent_days}"
    good, champion, candidate = new_version(name), new_version(name, wrong=True), new_version(name, wrong=True)
    promoted(context, name, (good, 10 * RECENTLY), (champion, timedelta(days=replaced)))
    verdict = validated(context, name, candidate, replace(POLICY, recent_days=recent_days))
    found = {line.split(": ")[0] for line in verdict.reasons}
    assert "PASS not_worse_than_champion" in found
    assert ("FAIL not_worse_than_recent" in found) == compared
    assert len(of_recent(verdict)) == compared
    if compared:
        assert "log loss minus that of version 1, the best of 1 that served in the last" in of_recent(verdict)[0]


def test_versions_that_cannot_be_compared_are_named_and_take_no_day_from_the_holdout(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "incomparable"
    deleted, seen, unseen = new_version(name), new_version(name, until=date(2013, 2, 7)), new_version(name)
    champion, candidate = new_version(name), new_version(name)
    served = [deleted, seen, unseen, champion]
    promoted(context, name, *((number, RECENTLY - timedelta(days=number)) for number in served))
    context.registry.client.delete_model_version(name, str(deleted))
    verdict = validated(context, name, candidate)
    assert (verdict.outcome, holdout(verdict)[0]) == ("PASS", "2013-02-06")
    (line,) = of_recent(verdict)
    assert "minus that of version 3, the best of 1 that served" in line
    assert line.endswith(
        "; not compared: version 1, which was deleted"
        "; not compared: version 2, which has seen the days before 2013-02-07"
    )


def test_a_version_whose_files_are_gone_counts_as_deleted_and_any_other_trouble_decides_nothing(
    context: Context, new_version: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "lost"
    lost, champion, candidate = (new_version(name) for _ in range(3))
    promoted(context, name, (lost, RECENTLY), (champion, RECENTLY / 2))
    load = mlflow.pyfunc.load_model

    def without(trouble: Exception) -> Callable[[str], Any]:
        def loaded(address: str) -> Any:
            if address.endswith(f"/{lost}"):
                raise trouble
            return load(address)

        return loaded

    gone = MlflowException("No such artifact", error_code=RESOURCE_DOES_NOT_EXIST)
    monkeypatch.setattr("mlflow.pyfunc.load_model", without(gone))
    verdict = validated(context, name, candidate)
    assert of_recent(verdict) == [
        "PASS not_worse_than_recent: no other version that served in the last 90 days can be compared; "
        "not compared: version 1, which was deleted"
    ]
    assert verdict.outcome == "PASS"

    monkeypatch.setattr("mlflow.pyfunc.load_model", without(OSError("the network is down")))
    with pytest.raises(OSError, match="the network is down"):
        validated(context, name, candidate)
    assert context.task_values["verdict"] == "INCONCLUSIVE"


def test_an_undocumented_version_fails_and_says_what_is_missing(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "undocumented"
    number = new_version(name)
    context.registry.client.update_model_version(name, str(number), description="")
    context.registry.client.delete_model_version_tag(name, str(number), "git_commit")
    verdict = validated(context, name, number)
    assert verdict.outcome == "FAIL"
    assert [line for line in verdict.reasons if not line.startswith("PASS")] == [
        "FAIL documented: missing: a description, the tag git_commit; register it by the train job"
    ]


def test_an_exception_is_a_written_inconclusive_verdict_and_raised_again(
    context: Context, new_version: Callable[..., int]
) -> None:
    name = "broken"
    number = new_version(name)
    context.registry.set_alias(name, "challenger", number)
    context.registry.tag_version(context.registry.version(name, number), {"baseline": "a fifth"})
    with pytest.raises(ValueError, match="could not convert string to float"):
        validated(context, name, number)
    (row,) = context.decisions.find(model_name=name)
    assert row.outcome == "INCONCLUSIVE"
    (line,) = row.reasons
    assert line.startswith(
        "INCONCLUSIVE judged_without_error: ValueError: could not convert string to float: 'a fifth'"
    )
    assert context.task_values == {"verdict": "INCONCLUSIVE", "verdict_id": row.decision_id}
    version = context.registry.version(name, number)
    assert (version.tags["verdict"], version.tags["decision_id"]) == ("INCONCLUSIVE", row.decision_id)
    report = mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md")
    assert report.startswith(f"# INCONCLUSIVE: {name} version {number}")
    assert context.registry.aliases(name) == {}


@pytest.mark.parametrize(
    ("candidate", "champion", "first", "reason"),
    [
        (date(2013, 2, 8), date(2013, 2, 13), date(2013, 2, 13), "7 unseen days, at least 14 needed"),
        (date(2013, 3, 1), date(2013, 2, 1), date(2013, 2, 20), "0 unseen days, at least 14 needed"),
    ],
)
def test_days_that_either_model_has_seen_are_no_evidence_and_too_few_are_inconclusive(
    context: Context, new_version: Callable[..., int], candidate: date, champion: date, first: date, reason: str
) -> None:
    name = f"seen until {candidate}"
    context.registry.set_alias(name, "champion", new_version(name, until=champion))
    verdict = validated(context, name, new_version(name, until=candidate))
    assert (verdict.outcome, holdout(verdict)[0]) == ("INCONCLUSIVE", str(first))
    (line,) = verdict.reasons
    assert line.startswith(f"INCONCLUSIVE enough_days: {reason}")
    assert context.registry.aliases(name) == {"champion": 1}


VERDICTS = [
    ("failed", "guarded", 2, "FAIL", 1),
    ("passed", "guarded", 2, "PASS", 1),
    ("inconclusive", "guarded", 2, "INCONCLUSIVE", 1),
    ("on version 3", "guarded", 3, "PASS", 1),
    ("on another model", "another", 2, "PASS", 1),
    ("against version 3", "guarded", 2, "PASS", 3),
    ("against nobody", "guarded", 2, "PASS", None),
    ("first", "deployed first", 1, "PASS", None),
    ("taken back", "taken back", 2, "PASS", 1),
]


@pytest.fixture
def after_verdicts(context: Context) -> Context:
    """Verdicts (id, model, version, outcome, version compared with) as if judge had written them."""
    for decision_id, name, number, outcome, other in VERDICTS:
        found = decision("verdict", name, number, other, decision_id, AS_OF)
        context.decisions.append(replace(found, outcome=outcome))
    return context


@pytest.mark.parametrize(
    ("verdict_id", "says"),
    [
        ("failed", "the verdict on version 2 is FAIL: only PASS is promoted"),
        ("inconclusive", "the verdict on version 2 is INCONCLUSIVE: only PASS is promoted"),
        ("on version 3", "verdict on version 3 is on guarded version 3, not on guarded version 2; run the release job"),
        ("on another model", "verdict on another model is on another version 2, not on guarded version 2"),
        ("against version 3", "version 2 was judged against version 3, but version 1 serves now; run the release job"),
        ("against nobody", "version 2 was judged against version None, but version 1 serves now"),
        ("invented", "no verdict invented; run the release job"),
    ],
)
def test_only_a_pass_on_this_version_against_what_serves_now_deploys(
    after_verdicts: Context, new_version: Callable[..., int], verdict_id: str, says: str
) -> None:
    context = after_verdicts
    assert (verdict_id in {name for name, *_ in VERDICTS}) == (verdict_id != "invented")
    if not context.registry.client.search_registered_models("name = 'guarded'"):
        for _ in range(3):
            new_version("guarded")
    before = {"champion": 1, "challenger": 2}
    for alias, number in before.items():
        context.registry.set_alias("guarded", alias, number)
    with pytest.raises(UserError) as error:
        deployed(context, "guarded", 2, verdict_id)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert context.registry.aliases("guarded") == before
    assert deployments(context, "guarded") == []
    assert served(context) == []


def test_the_row_of_a_deployment_is_written_once_and_says_why(
    after_verdicts: Context, new_version: Callable[..., int]
) -> None:
    context = after_verdicts
    number = new_version("deployed first")
    for later in (AS_OF, AS_OF.replace(month=3)):
        deployed(replace(context, as_of=later), "deployed first", number, "first")
    (row,) = context.decisions.find(model_name="deployed first", kind="promotion")
    assert (row.outcome, row.allowed_by, row.reasons) == ("DONE", "first", ("verdict PASS",))
    assert row.other_version is None
    assert row.as_of == AS_OF


def test_a_version_that_was_taken_back_is_not_deployed_again_by_the_same_verdict(
    after_verdicts: Context, new_version: Callable[..., int]
) -> None:
    context = after_verdicts
    for _ in range(2):
        new_version("taken back")
    context.registry.set_alias("taken back", "champion", 1)
    deployed(context, "taken back", 2, "taken back")
    context.registry.set_alias("taken back", "champion", 1)
    with pytest.raises(UserError, match="this verdict promoted version 2 before, and it was taken back since"):
        deployed(context, "taken back", 2, "taken back")
    assert context.registry.aliases("taken back")["champion"] == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"secret_scope": "nowhere"}, "environment_vars: FLIGHT_DELAYS_ONLINE_STORE: there is no secret"),
        ({"endpoint": "gone"}, "endpoint gone does not exist; deploy the bundle, which creates it"),
    ],
)
def test_where_the_endpoint_cannot_serve_it_a_version_becomes_no_champion(
    after_verdicts: Context, new_version: Callable[..., int], changes: dict[str, str], says: str
) -> None:
    context = after_verdicts
    name = "guarded"
    while new_version(name) < 2:
        pass
    for alias in context.registry.aliases(name):
        context.registry.delete_alias(name, alias)
    context.registry.set_alias(name, "champion", 1)
    settings = replace(promotion(name, 2, "passed"), **changes)
    with pytest.raises(UserError, match=re.escape(says)) as error:
        promote.run(context, settings)
    assert "\n" not in str(error.value)
    assert context.registry.aliases(name) == {"champion": 1}
    assert deployments(context, name) == []
