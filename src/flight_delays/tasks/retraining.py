"""Decide whether a new version is needed, and open, extend or close incidents."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from hashlib import sha256
from zoneinfo import ZoneInfo

from flight_delays.core.errors import UserError
from flight_delays.core.incidents import Event, Family, change
from flight_delays.core.retraining import MONTH, WEEK, Choice, Decided, decide
from flight_delays.core.settings import Incidents, Retraining
from flight_delays.platform.context import Adapters, Context
from flight_delays.platform.decision_log import RETRAINING, VERDICT, Decision
from flight_delays.platform.signal_log import Happened, Logged, SignalLog, open_incident, resolved_at, unresolved
from flight_delays.tasks.printing import show


def run(context: Context, settings: Retraining) -> None:
    """Decide by the signals known by now, once per day; sets `retraining`, RETRAIN or KEEP, and `incidents`, the open.

    Idempotent: the same day's decision is found in the log and stands.
    """
    name, watch, policy = settings.model_name, settings.watch, settings.policy
    zone, day = context.use_case.zone, context.use_case.holdout(context.as_of, 1).first
    today = context.as_of.astimezone(zone).date()
    champion = context.registry.aliases(name).get("champion")
    if champion is None:
        context.task_values.set("retraining", Choice.KEEP)
        context.task_values.set("incidents", "0")
        context.console.print(f"{name} has no champion: nothing is decided")
        return
    log = SignalLog(context.tables, name)
    reach = max(MONTH, WEEK * policy.retrain_windows, *watch.windows)
    signals = log.signals(day - timedelta(days=reach + watch.watch_reference_days))
    decisions = context.decisions.find(model_name=name)
    decision_id = sha256(f"{name}|{RETRAINING}|{day}".encode()).hexdigest()
    before = [one for one in decisions if one.decision_id != decision_id and one.as_of <= context.as_of]
    ordered = [_day(one, zone) for one in before if one.kind == RETRAINING and one.outcome == Choice.RETRAIN]
    trained = [*ordered, *(_day(one, zone) for one in before if one.kind == VERDICT)]
    logged = [one for one in decisions if one.decision_id == decision_id]
    if logged:
        decided = Decided(choice=Choice(logged[0].outcome), reasons=logged[0].reasons)
    else:
        ours = [one.signal for one in signals if one.model_version == champion]
        decided = decide(ours, trained=max(trained, default=None), ordered=ordered, day=today, policy=policy)
        context.decisions.append(
            Decision(
                decision_id=decision_id,
                kind=RETRAINING,
                model_name=name,
                model_version=champion,
                other_version=None,
                outcome=decided.choice,
                reasons=decided.reasons,
                policy=json.dumps(asdict(policy), sort_keys=True),
                as_of=context.as_of,
            )
        )
    context.task_values.set("retraining", decided.choice)
    context.console.print(f"{decided.choice}: {'; '.join(decided.reasons)}")
    _follow(context, log, signals, champion, day, watch.quiet_days, decided)


def _follow(
    context: Context,
    log: SignalLog,
    signals: Sequence[Logged],
    champion: int,
    day: date,
    quiet_days: int,
    decided: Decided,
) -> None:
    """Write what becomes of the incidents, and show the open ones."""
    events = log.events()
    done = "A new version is being trained" if decided.choice is Choice.RETRAIN else "The champion still serves"
    for family in Family:
        opened, over = open_incident(events, family), resolved_at(events, family)
        ours = [one.signal for one in signals if over is None or one.as_of > over]
        found = change(family, opened, ours, day=day, quiet_days=quiet_days, done=done)
        if found is not None:
            begun = sha256(f"{log.model_name}|{family}|{day}".encode()).hexdigest()
            happened = Happened(
                incident_id=opened.incident_id if opened else begun,
                number=opened.number + 1 if opened else 0,
                event=found.event,
                model_version=champion,
                family=family,
                subjects=found.subjects,
                since=found.since,
                day=day,
                reason=found.reason,
                as_of=context.as_of,
            )
            log.add(happened)
            events.append(happened)
            context.console.print(f"Incident {found.event}: {found.reason}", soft_wrap=True)
    context.task_values.set("incidents", str(len(unresolved(events))))


def incidents(adapters: Adapters, settings: Incidents) -> None:
    """Show those that are open, or acknowledge one. Raises UserError for an id that names none, or several."""
    log = SignalLog(adapters.tables, settings.model_name)
    events = log.events()
    still = unresolved(events)
    if settings.acknowledge:
        meant = [one for one in still if one.incident_id.startswith(settings.acknowledge)]
        if len(meant) != 1:
            raise UserError(
                f"{len(meant)} open incidents have an id that begins with {settings.acknowledge}; "
                f"there are {', '.join(one.incident_id[:12] for one in still) or 'none'}"
            )
        (one,) = meant
        log.add(replace(one, number=one.number + 1, event=Event.ACKNOWLEDGED, reason=settings.reason))
        adapters.console.print(f"Incident {one.incident_id[:12]} is acknowledged: nobody is called for it any more")
        return
    acknowledged = {one.incident_id for one in events if one.event is Event.ACKNOWLEDGED}
    show(
        adapters.console,
        f"{len(still)} open incidents of {settings.model_name}",
        ("id", "since", "of", "affected", "acknowledged"),
        [
            (
                one.incident_id[:12],
                str(one.since),
                str(one.family),
                ", ".join(one.subjects),
                "yes" if one.incident_id in acknowledged else "no",
            )
            for one in still
        ],
    )
    for one in still:
        said = [each for each in events if each.incident_id == one.incident_id]
        for each in said:
            adapters.console.print(f"{one.incident_id[:12]} {each.day} {each.event}: {each.reason}", soft_wrap=True)


def _day(decision: Decision, zone: ZoneInfo) -> date:
    return decision.as_of.astimezone(zone).date()
