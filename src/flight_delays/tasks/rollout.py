"""One step of a rollout: put right what is not as decided, look at the clocks, decide, act."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta

from flight_delays.core.errors import UserError
from flight_delays.core.rollout import Action, Decided, Entry, Finding, Signal, decide, state_of
from flight_delays.core.settings import Promote, Rollout, Serving
from flight_delays.core.traffic import in_words
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import champion_in
from flight_delays.platform.registry import NotThereError
from flight_delays.platform.rollout_log import ROLLOUT, Logged, newest_rollout, rollout_under_way, write_step
from flight_delays.tasks.approval import require
from flight_delays.tasks.rollout_clocks import CLOCKS, Clock
from flight_delays.tasks.serving import make_champion, no_longer_challenger, serve, split

_ORDERS = {
    "pause": Action.PAUSE,
    "resume": Action.RESUME,
    "promote": Action.PROMOTE,
    "stop": Action.ROLL_BACK,
    "ab-test": Action.AB_TEST,
}


def run(context: Context, settings: Rollout, watched: Mapping[str, Clock] = CLOCKS) -> None:
    """Take the next step of the rollout under way, if there is one, or what a person orders instead.

    What is not as decided is put right before. Of two runs at once one takes the step. Killed anywhere, the next run
    goes on from the log. Raises UserError where a person has to decide, once that is written, and for an order that
    makes no sense.
    """
    decisions = context.decisions.find(model_name=settings.model_name)
    logged, champion = rollout_under_way(decisions), champion_in(decisions)
    if settings.order == "adopt":
        _adopt(context, settings, logged, champion)
        return
    if logged is not None and not logged.state.served:  # an earlier run was killed
        bring_about(context, settings, logged)
        if not settings.order:
            return
        decisions = context.decisions.find(model_name=settings.model_name)
        logged, champion = rollout_under_way(decisions), champion_in(decisions)
    if logged is None:
        _without_rollout(context, settings, champion)
        return
    if settings.version not in (None, logged.challenger):
        raise UserError(
            f"version {logged.challenger} is being rolled out; roll it back before version {settings.version} is "
            "promoted"
        )
    gone = _gone(context, logged)
    if not gone:
        aliases = {"champion": logged.champion, "challenger": logged.challenger}
        restore(context, settings, aliases, logged.state.percentage)
    decided = None if gone else _ordered(context, settings, logged)
    findings = [] if decided else gone or _findings(context, settings, logged, watched)
    _take(context, settings, logged, decided or decide(logged.state, findings, settings.policy, context.as_of))


def _take(context: Context, settings: Rollout, logged: Logged, decided: Decided) -> None:
    """Write the step, then bring it about."""
    entry = Entry(
        step=logged.state.step + 1,
        action=decided.action,
        percentage=decided.percentage,
        at=context.as_of,
        until=decided.until,
    )
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


def _without_rollout(context: Context, settings: Rollout, champion: int | None) -> None:
    """Put right what is not as decided, or promote the version that a person orders, past the gate."""
    name = settings.model_name
    if settings.order == "promote" and settings.version is not None:
        require(context, settings, settings.version)
        _promote(context, settings, settings.version, champion)
    elif settings.order:
        raise UserError(
            f"no version of {name} is being rolled out: nothing to {settings.order}; to promote one past the gate, "
            "give its number as version"
        )
    else:
        context.console.print(f"No version of {name} is being rolled out.")
        if champion is not None:
            restore(context, settings, {"champion": champion})


def _promote(context: Context, settings: Rollout, version: int, champion: int | None) -> None:
    """Make it the champion at once, by the order of whoever runs this."""
    context.registry.version(settings.model_name, version)
    if version == champion:
        context.console.print(f"Version {version} of {settings.model_name} is the champion already.")
        return
    order = f"order of {context.as_of.isoformat()}"
    make_champion(context, settings, version, previous=champion, allowed_by=order, reason=settings.reason)


def _adopt(context: Context, settings: Rollout, logged: Logged | None, champion: int | None) -> None:
    """Decide what the endpoint serves: a share of the rollout under way, or one version alone."""
    live = context.serving(settings.endpoint).configuration(settings.endpoint)
    shares = {one.model_version: one.percentage for one in live if one.model_name == settings.model_name}
    if logged is not None and shares and shares.keys() <= {logged.champion, logged.challenger}:
        share = shares.get(logged.challenger, 0)
        end_of = {0: Action.ROLL_BACK} if logged.challenger not in shares else {100: Action.PROMOTE}
        action = end_of.get(share, Action.ADVANCE)
        _take(context, settings, logged, Decided(action=action, percentage=share, reasons=(settings.reason,)))
    elif len(shares) == len(live) == 1:
        ended = end(context, settings.model_name, settings.reason)
        if ended is not None:
            no_longer_challenger(context, ended.model_name, ended.challenger)
            log_served(context, settings, ended)
        (version,) = shares
        _promote(context, settings, version, champion)
        restore(context, settings, {"champion": version})
    else:
        raise UserError(
            f"{settings.endpoint} serves {in_words(live)}: only one version alone can be adopted, or a share of the "
            "rollout under way; run rollout without an order to put back what was decided"
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
        no_longer_challenger(context, logged.model_name, logged.challenger)
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
    served = context.serving(settings.endpoint).configuration(settings.endpoint)
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


def _ordered(context: Context, settings: Rollout, logged: Logged) -> Decided | None:
    if not settings.order:
        return None
    if settings.order in ("promote", "ab-test"):
        require(context, settings, logged.challenger)
    action, policy = _ORDERS[settings.order], settings.policy
    shares = {Action.PROMOTE: 100, Action.ROLL_BACK: 0, Action.AB_TEST: policy.ab_test_share}
    return Decided(
        action=action,
        percentage=shares.get(action, logged.state.percentage),
        reasons=(settings.reason,),
        until=context.as_of + timedelta(days=policy.ab_test_days) if action is Action.AB_TEST else None,
    )


def _gone(context: Context, logged: Logged) -> list[Finding]:
    """That a version was deleted: without the challenger the rollout ends, without the champion a person decides."""
    for version, signal in ((logged.champion, Signal.INVALID), (logged.challenger, Signal.WORSE)):
        try:
            context.registry.version(logged.model_name, version)
        except NotThereError as error:
            return [Finding(name="version", signal=signal, reason=str(error))]
    return []


def _findings(context: Context, settings: Rollout, logged: Logged, watched: Mapping[str, Clock]) -> list[Finding]:
    """Of all clocks: one that fails measured nothing, and keeps none of the others from what they find."""
    findings = []
    for name, clock in watched.items():
        try:
            findings += clock(context, settings, logged)
        except NotThereError as error:
            findings.append(Finding(name="version", signal=Signal.WORSE, reason=str(error)))
        except Exception as error:  # whatever it was, nothing was measured: that holds, and is written
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            findings.append(Finding(name=name, signal=Signal.UNKNOWN, reason=said))
    return findings


def _tell(context: Context, logged: Logged, decided: Decided) -> None:
    context.task_values.set("rollout", decided.action)
    context.console.print(
        f"Version {logged.challenger} beside version {logged.champion}: {decided.action}, {decided.percentage} %"
    )
    for reason in decided.reasons:
        context.console.print(f"  {reason}")
