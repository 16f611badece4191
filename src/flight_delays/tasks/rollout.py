"""One step of a rollout: put right what is not as decided, look at the clocks, decide, act."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import timedelta

from flight_delays.core import clocks
from flight_delays.core.errors import UserError
from flight_delays.core.rollout import Action, Decided, Entry, Finding, Signal, decide, state_of
from flight_delays.core.settings import Promote, Rollout, Serving
from flight_delays.core.traffic import in_words
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import releases_in
from flight_delays.platform.registry import NotThereError
from flight_delays.platform.rollout_log import ROLLOUT, Logged, newest_rollout, rollout_under_way, write_step
from flight_delays.platform.served_requests import Period, both_forecasts, served
from flight_delays.tasks.serving import make_champion, serve, split

Measure = Callable[[Context, Rollout, Logged], list[Finding]]
LATE = timedelta(hours=1)  # that a payload may be: https://docs.databricks.com/ai-gateway/inference-tables


def measured(context: Context, settings: Rollout, logged: Logged) -> list[Finding]:
    """What all clocks find in the payloads of this stage.

    In shadow the challenger answers nobody, so only the versions' forecasts for the champion's requests are compared.
    """
    state, name, policy = logged.state, logged.model_name, settings.policy
    payloads, entities = settings.payload_table, settings.served_entities_table
    champion, challenger = logged.champion, logged.challenger
    findings = []
    if state.percentage:
        period = Period(begin=state.since, end=context.as_of, percentage=state.percentage)
        found = served(context.tables, payloads, entities, name, [period], champion=champion, challenger=challenger)
        findings += clocks.operations(found.champion, found.challenger, found.splits, policy)
        context.console.print(f"Newest logged request: {found.newest or 'none'}; by other versions: {found.others:,}")
    both = both_forecasts(
        *(context.tables, context.registry, context.use_case, payloads, entities, name),
        since=state.since,
        until=context.as_of,
        champion=champion,
        challenger=challenger,
    )
    for why, rows in both.left_out.items():
        context.console.print(f"{rows:,} logged requests are not compared: {why}")
    if both.failed:
        said = f"version {logged.challenger} fails on {both.failed:,} of {len(both.entities):,} requests: {both.why}"
        findings.append(Finding(name="answers", signal=Signal.WORSE, reason=said))
    findings += clocks.agreement(both.entities, both.champion, both.challenger, both.decisions, policy)
    earliest = context.as_of + LATE
    return [replace(one, earliest=earliest) if one.signal is Signal.UNKNOWN else one for one in findings]


def run(context: Context, settings: Rollout, measure: Measure = measured) -> None:
    """Take the next step of the rollout under way, if there is one. What is not as decided is put right before.

    Of two runs at once one takes the step. Killed anywhere, the next run goes on from the log. Raises UserError where
    a person has to decide, once that is written.
    """
    decisions = context.decisions.find(model_name=settings.model_name)
    logged = rollout_under_way(decisions)
    if logged is None:
        context.console.print(f"No version of {settings.model_name} is being rolled out.")
        for newest in releases_in(decisions)[-1:]:
            restore(context, settings, {"champion": newest.model_version})
        return
    if not logged.state.served:  # an earlier run was killed
        bring_about(context, settings, logged)
        return
    restore(context, settings, {"champion": logged.champion, "challenger": logged.challenger}, logged.state.percentage)
    decided = _ordered(settings, logged) or decide(
        logged.state, _findings(context, settings, logged, measure), settings.policy, context.as_of
    )
    entry = Entry(step=logged.state.step + 1, action=decided.action, percentage=decided.percentage, at=context.as_of)
    if not write_step(
        *(context.decisions, logged, entry, decided.reasons), as_of=context.as_of, policy=asdict(settings.policy)
    ):
        context.console.print(f"Another run has taken step {entry.step}; nothing is left to do.")
        return
    _tell(context, logged, decided)
    after = as_logged(context, settings.model_name)
    if after is not None and not after.state.served:
        bring_about(context, settings, after)
    if decided.action is Action.ASK:
        raise UserError(
            f"version {logged.challenger} at {logged.state.percentage} %: {decided.reasons[0]}; "
            "resume it, promote it or roll it back"
        )


def start(context: Context, settings: Promote, champion: int) -> None:
    """Begin the rollout of a version beside the champion, in its first stage."""
    name, share = settings.model_name, settings.rollout_stages[0]
    entry = Entry(step=0, action=Action.START, percentage=share, at=context.as_of)
    begun = Logged(
        model_name=name,
        challenger=settings.model_version,
        champion=champion,
        verdict_id=settings.verdict_id,
        state=state_of([entry]),
    )
    policy = {"rollout_stages": settings.rollout_stages}
    write_step(context.decisions, begun, entry, ("verdict PASS",), as_of=context.as_of, policy=policy)
    logged = as_logged(context, name)  # an earlier try may have got further
    if logged is not None and not logged.state.served:
        bring_about(context, settings, logged)
    context.task_values.set("champion", str(champion))
    context.console.print(f"Version {settings.model_version} of {name} is being rolled out, from {share} % on.")


def bring_about(context: Context, settings: Serving, logged: Logged) -> None:
    """Let the endpoint serve what the newest step decided, move the aliases at the end, and log that it is done."""
    state = logged.state
    if state.ended is Action.PROMOTE:
        make_champion(
            context,
            settings,
            logged.challenger,
            previous=logged.champion,
            allowed_by=logged.verdict_id,
            reason="verdict PASS, and a rollout through all stages",
        )
    elif state.ended is Action.ROLL_BACK:
        if context.registry.aliases(logged.model_name).get("challenger") == logged.challenger:
            context.registry.delete_alias(logged.model_name, "challenger")
        serve(context, settings, logged.champion)
    else:
        serve(context, settings, logged.champion, logged.challenger, state.percentage)
    log_served(context, settings, logged)


def log_served(context: Context, settings: Serving, logged: Logged) -> None:
    """Log that the endpoint serves what the newest step decided."""
    state = logged.state
    done = Entry(step=state.step + 1, action=Action.SERVE, percentage=state.percentage, at=context.clock())
    write_step(context.decisions, logged, done, (f"{settings.endpoint} serves it",), as_of=context.as_of)


def restore(context: Context, settings: Serving, aliases: Mapping[str, int], percentage: int = 0) -> None:
    """Put right what somebody has changed: the aliases, and the endpoint, that gives a challenger its `percentage`."""
    wanted = split(settings, aliases["champion"], aliases.get("challenger"), percentage)
    served = context.endpoints().configuration(settings.endpoint)
    if {*served} != {*wanted}:
        context.console.print(f"Restored: {settings.endpoint} served {in_words(served)}.")
        serve(context, settings, aliases["champion"], aliases.get("challenger"), percentage)
    found = context.registry.aliases(settings.model_name)
    for alias, version in aliases.items():
        if found.get(alias) != version:
            context.console.print(f"Restored: alias {alias} pointed at {found.get(alias, 'no version')}.")
            context.registry.set_alias(settings.model_name, alias, version)


def end(context: Context, model_name: str, reason: str) -> Logged | None:
    """Roll back, in the log alone, what is being rolled out, and return it: the endpoint is the caller's to change."""
    while (logged := as_logged(context, model_name)) is not None and logged.state.ended is None:
        entry = Entry(step=logged.state.step + 1, action=Action.ROLL_BACK, percentage=0, at=context.as_of)
        write_step(context.decisions, logged, entry, (reason,), as_of=context.as_of)
    return None if logged is None or logged.is_over else logged


def as_logged(context: Context, model_name: str) -> Logged | None:
    """The rollout that was started last, as the log is now."""
    return newest_rollout(context.decisions.find(kind=ROLLOUT, model_name=model_name))


def _ordered(settings: Rollout, logged: Logged) -> Decided | None:
    if not settings.order:
        return None
    action = {"pause": Action.PAUSE, "resume": Action.RESUME, "promote": Action.PROMOTE}[settings.order]
    share = 100 if action is Action.PROMOTE else logged.state.percentage
    return Decided(action=action, percentage=share, reasons=(settings.reason,))


def _findings(context: Context, settings: Rollout, logged: Logged, measure: Measure) -> list[Finding]:
    try:
        return measure(context, settings, logged)
    except NotThereError as error:
        return [Finding(name="version", signal=Signal.WORSE, reason=str(error))]
    except Exception as error:  # whatever it was, nothing was measured: that holds, and is written
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return [Finding(name="measured", signal=Signal.UNKNOWN, reason=said)]


def _tell(context: Context, logged: Logged, decided: Decided) -> None:
    context.task_values.set("rollout", decided.action)
    context.console.print(
        f"Version {logged.challenger} beside version {logged.champion}: {decided.action}, {decided.percentage} %"
    )
    for reason in decided.reasons:
        context.console.print(f"  {reason}")
