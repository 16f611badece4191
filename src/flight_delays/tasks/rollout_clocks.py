"""What a rollout looks at before it decides: each clock reads its evidence, and core says what that means."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from pyspark.sql import DataFrame

from flight_delays.core import clocks
from flight_delays.core.ab_test import conclude, differences
from flight_delays.core.quality import quality as quality_of
from flight_delays.core.rollout import Finding, Signal
from flight_delays.core.settings import Rollout
from flight_delays.core.traffic import NAMES
from flight_delays.platform.ab_tests import ab_test_of, arms
from flight_delays.platform.context import Context
from flight_delays.platform.delta import collected
from flight_delays.platform.paired_days import paired_days
from flight_delays.platform.replay import replay
from flight_delays.platform.rollout_log import Logged
from flight_delays.platform.served_requests import Period, both_forecasts, newest_answered, served
from flight_delays.tasks.approval import approval_in

Clock = Callable[[Context, Rollout, Logged], list[Finding]]
_COMPARED = 20_000  # of the newest requests, both versions' forecasts
LATE = timedelta(hours=1)  # that a payload may be: https://docs.databricks.com/ai-gateway/inference-tables


def operations(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """Errors, latency and the split, from the payloads of this stage.

    In shadow the challenger answers nobody, so it is sent what callers have asked the champion, and so is the champion.
    """
    state, policy = logged.state, settings.policy
    if state.percentage:
        period = Period(begin=state.since, end=context.as_of, percentage=state.percentage)
        payloads = context.tables, settings.payload_table, settings.served_entities_table, logged.model_name
        found = served(*payloads, [period], champion=logged.champion, challenger=logged.challenger)
        context.console.print(f"Newest logged request: {found.newest or 'none'}; by other versions: {found.others:,}")
        ratio = clocks.sample_ratio(found.splits, policy)
        return _later(context, [*clocks.operations(found.champion, found.challenger, policy), ratio])
    newest = _requests(context, settings, logged).select("request").limit(policy.rollout_min_requests)
    asked = [row["request"] for row in collected(newest)]
    context.console.print(f"Replaying {len(asked):,} requests to each version ...")
    platform = context.serving(settings.endpoint)
    champion, challenger = (replay(platform, settings.endpoint, name, asked) for name in NAMES)
    return _later(context, clocks.operations(champion, challenger, policy))


def agreement(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """How far apart both versions' forecasts are for the requests that the champion answered in this stage."""
    both = both_forecasts(
        _requests(context, settings, logged),
        *(context.tables, context.registry, context.use_case, logged.model_name),
        until=context.as_of,
        champion=logged.champion,
        challenger=logged.challenger,
        limit=_COMPARED,
    )
    for why, rows in both.left_out.items():
        context.console.print(f"{rows:,} logged requests are not compared: {why}")
    findings = clocks.agreement(both.entities, both.champion, both.challenger, both.decisions, settings.policy)
    if both.failed:
        said = f"version {logged.challenger} fails on {both.failed:,} of {len(both.entities):,} requests: {both.why}"
        findings.append(Finding(name="answers", signal=Signal.WORSE, reason=said))
    return _later(context, findings)


def quality(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """How good both versions' forecasts turned out on the entities that both scored since the rollout began."""
    use_case, begun = context.use_case, logged.state.begun
    days = paired_days(
        *(context.tables, use_case, logged.model_name),
        champion=logged.champion,
        challenger=logged.challenger,
        since=begun,
        as_of=context.as_of,
    )
    return quality_of(
        *(days, settings.policy),
        begin=begun,
        as_of=context.as_of,
        zone=use_case.zone,
        maturity=use_case.maturity,
    )


def ab_test(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """What the A/B test says so far, if there is one: worse ends it."""
    state = logged.state
    if state.test_until is None:
        return []
    test = ab_test_of(context.use_case, logged, context.as_of)
    days = arms(context.tables, context.use_case, test, since=state.since)
    values = differences(days, settings.policy.quality_min_label_coverage)
    return [conclude(test, values, settings.policy.quality_confidence).finding]


def approval(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """Whether a person still approves of the challenger, if that is required: for shadow nobody has to."""
    if not settings.approval_required:
        return []
    return [approval_in(context, logged.model_name, logged.challenger).finding]


CLOCKS: Mapping[str, Clock] = {
    "operations": operations,
    "agreement": agreement,
    "quality": quality,
    "approval": approval,
    "ab_test": ab_test,
}


def _requests(context: Context, settings: Rollout, logged: Logged) -> DataFrame:
    return newest_answered(
        *(context.tables, settings.payload_table, settings.served_entities_table, logged.model_name),
        version=logged.champion,
        since=logged.state.since,
        until=context.as_of,
        limit=_COMPARED,
    )


def _later(context: Context, findings: list[Finding]) -> list[Finding]:
    earliest = context.as_of + LATE
    return [replace(one, earliest=earliest) if one.signal is Signal.UNKNOWN else one for one in findings]
