"""What goes on in production, in words and tables: pure, from rows of tables as frames and from the log of decisions.

What was not measured is said, and never healthy.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd

from flight_delays.core.gates import Outcome
from flight_delays.core.releases import Promotion, served_recently
from flight_delays.core.rollout import Action
from flight_delays.platform.decision_log import RETRAINING, ROLLBACK, VERDICT, Decision, releases_in
from flight_delays.platform.rollout_log import ROLLOUT, rollout_under_way

RECENT_DAYS = 90
_WEEK = timedelta(days=7)
_DECISIONS, _WINDOWS, _SUBJECTS, _ALARMS, _NAMED = 20, 30, 25, 15, 5  # at most this many are shown
_QUALITY = ["complete", "coverage", "loss", "loss_28_days", "loss_28_days_low", "loss_28_days_high", "estimated_loss"]


def headline(decisions: Sequence[Decision], health: str) -> str:
    """One sentence: what serves since when and why, how that goes, what is being rolled out."""
    serves = "No version serves yet"
    for one in releases_in(decisions)[-1:]:
        serves = f"V{serves_since(one)[1:]} ({one.kind}: {why(one)})"
    rolled, rollout = "no version is being rolled out", rollout_under_way(decisions)
    if rollout is not None:
        state = rollout.state
        how = ", paused" if state.paused else ", waiting for a person" if state.asked else ""
        rolled = f"version {rollout.challenger} is being rolled out{how}: {state.percentage} % of the requests"
        rolled += f" since {_time(state.since)} UTC"
    return f"{serves}; {health}; {rolled}."


def serves_since(release: Decision) -> str:
    """Which version does, since when and in place of which."""
    instead = f" in place of version {release.other_version}" if release.other_version else ""
    return f"version {release.model_version} serves since {_time(release.as_of)} UTC{instead}"


def health(incidents: pd.DataFrame | None, unmeasured: Sequence[str], *, looked_at: bool) -> str:
    """Whether anything is known to be wrong; without a table of incidents, or if nothing was looked at, nothing is."""
    if incidents is not None and len(incidents):
        waiting = int((~incidents["acknowledged"].astype(bool)).sum())
        count = "1 incident is open" if len(incidents) == 1 else f"{len(incidents)} incidents are open"
        return f"{count}, {waiting or 'none'} of them not acknowledged"
    if incidents is None or not looked_at:
        return "whether anything is wrong was not measured"
    return "no incident is open, but not all was measured" if unmeasured else "no incident is open"


def unmeasured(signals: pd.DataFrame, last_day: date) -> list[str]:
    """What nobody looked at in the newest windows: a line each; `last_day` is the last one whose outcomes are known."""
    if signals.empty:
        return ["Nothing was looked at yet; run the monitor job."]
    ends = signals.groupby("kind").agg(day=("day", "max"), days=("days", "min"))
    # Another window is due when as many days have passed as it has, or a week.
    old = [(kind, end) for kind, end, days in ends.itertuples() if last_day - end > min(timedelta(days=days), _WEEK)]
    lines = [f"Not looked at after {end}, and the last whole day is {last_day}: {kind}." for kind, end in old]
    newest = signals["day"] == signals.groupby(["kind", "days"])["day"].transform("max")
    unknown = signals[newest & (signals["outcome"] == "UNKNOWN")]
    if len(unknown):
        named = [f"{one.kind} of {one.subject} ({one.reason})" for one in unknown.head(_NAMED).itertuples()]
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        lines.append(f"Not measured in the newest windows: {', '.join(named)}{more}.")
    return lines


def incident_table(incidents: pd.DataFrame, decisions: Sequence[Decision]) -> pd.DataFrame:
    """Open incidents, newest first, each with what was decided since it began."""
    found = incidents.sort_values("since", ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "since": found["since"],
            "what": found["family"] + ": " + found["affected"].map(_affected),
            "what changed, and what to do": found["reason"],
            "what the system did": [_done(decisions, since) for since in found["since"]],
            "acknowledged": ["yes" if one else "no" for one in found["acknowledged"]],
            "version": found["model_version"],
            "seen until": found["day"],
        }
    )


def _affected(signals: str) -> str:
    """How many columns each kind of signal names; all of them are in table incidents."""
    of_kind: dict[str, list[str]] = {}
    for one in signals.split(", "):
        of_kind.setdefault(one.partition(" of ")[0], []).append(one)
    return ", ".join(
        f"{kind} of {len(ones):,} columns" if len(ones) > 2 else ", ".join(ones) for kind, ones in of_kind.items()
    )


def _done(decisions: Sequence[Decision], since: date) -> str:
    acts = [one for one in decisions if one.kind in (RETRAINING, ROLLBACK) and one.as_of.date() >= since]
    if not acts:
        return "nothing yet"
    return f"{acts[-1].kind} {acts[-1].outcome}, {_time(acts[-1].as_of)} UTC: {why(acts[-1])}"


def quality_days(
    performance: pd.DataFrame, estimates: pd.DataFrame, decisions: Sequence[Decision], *, as_of: datetime
) -> dict[tuple[int, str], pd.DataFrame]:
    """Quality by day, of each version that served recently and each source: that which serves first, then the newest.

    A day that is only estimated, or only measured, is there too.
    """
    releases = releases_in(decisions)
    promotions = [Promotion(version=one.model_version, as_of=one.as_of) for one in releases]
    served = served_recently(promotions, as_of=as_of, days=RECENT_DAYS)
    key = ["model_version", "source", "day"]
    # An empty frame has no types of its own.
    estimated, types = estimates[[*key, "estimated_loss"]], {"model_version": "int64"}
    rows = performance.astype(types).merge(estimated.astype(types), on=key, how="outer")
    rows = rows[rows["model_version"].isin(served) & (rows["day"] > as_of.date() - timedelta(days=RECENT_DAYS))]
    found = {
        (int(str(version)), str(source)): days.sort_values("day").set_index("day")[_QUALITY].astype("float64")
        for (version, source), days in rows.groupby(["model_version", "source"])
    }
    serving = [one.model_version for one in releases[-1:]]
    return dict(sorted(found.items(), key=lambda one: (one[0][0] not in serving, -one[0][0], one[0][1])))


def quality_table(found: Mapping[tuple[int, str], pd.DataFrame]) -> pd.DataFrame:
    """What was measured last of each version and source; the estimate may be of a later day."""
    lines = []
    for (version, source), days in found.items():
        measured = days["loss"].dropna()
        mean, low, high = _last(days, "loss_28_days", "loss_28_days_low", "loss_28_days_high")
        lines.append(
            {"version": version, "source": source, "days": len(measured), "last day": max(measured.index, default=None)}
            | {"loss": _last(days, "loss")[0], "over 28 days": mean, "from": low, "to": high}
            | {"estimated": _last(days, "estimated_loss")[0], "with outcome": _last(days, "coverage")[0]}
        )
    return pd.DataFrame(lines)


def _last(days: pd.DataFrame, *names: str) -> list[float]:
    """Values of the last day on which the first of them is known."""
    known = days.dropna(subset=[names[0]])
    return list(known[[*names]].iloc[-1]) if len(known) else [float("nan")] * len(names)


def drift_windows(signals: pd.DataFrame) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
    """By length in days: -log10 of each p-value by column and window, and which are alarms; the worst columns first.

    NaN is not measured.
    """
    drift = signals[signals["kind"] == "drift"].sort_values("model_version")
    drift = drift.drop_duplicates(["subject", "day", "days"], keep="last")
    found = {}
    for days, rows in drift.groupby("days"):
        with np.errstate(divide="ignore"):
            levels = rows.assign(level=-np.log10(rows["p_value"].astype("float64")), alarm=rows["outcome"] == "ALARM")
        newest = sorted(levels["day"].unique())[-_WINDOWS:]
        table = levels.pivot(index="subject", columns="day", values="level").reindex(columns=newest)
        alarms = levels.pivot(index="subject", columns="day", values="alarm").eq(True).reindex_like(table)
        worst = pd.DataFrame({"alarms": alarms.sum(axis=1), "level": table.max(axis=1)})
        names = worst.sort_values(["alarms", "level"], ascending=False).index[:_SUBJECTS]
        found[int(str(days))] = table.loc[names], alarms.loc[names]
    return found


def alarm_table(signals: pd.DataFrame) -> pd.DataFrame:
    """The newest alarms that are not of drift."""
    found = signals[(signals["outcome"] == "ALARM") & (signals["kind"] != "drift")]
    newest = found.sort_values("day", ascending=False, kind="stable").head(_ALARMS)
    return newest[["day", "kind", "subject", "value", "allowed", "reason"]].rename(columns={"subject": "of"})


def decision_table(decisions: Sequence[Decision]) -> pd.DataFrame:
    """The newest decisions, newest first, with a sentence on each; times are UTC.

    Of a rollout's steps that changed nothing, only the last one is there, and none that says what the endpoint serves.
    """
    steps = {one.allowed_by: one for one in decisions if one.kind == ROLLOUT and one.outcome != Action.SERVE}
    shown = [
        one
        for one in decisions
        if one.kind != ROLLOUT or one.outcome not in (Action.SERVE, Action.HOLD) or steps.get(one.allowed_by) is one
    ]
    return pd.DataFrame(
        [
            {"as of": _time(one.as_of), "kind": one.kind, "version": one.model_version, "outcome": one.outcome}
            | {"why": why(one), "written": one.recorded_at and _time(one.recorded_at)}
            for one in shown[: -_DECISIONS - 1 : -1]
        ]
    )


def why(decision: Decision) -> str:
    """One sentence: of a verdict what it comes to, of all else the first reason."""
    if decision.kind != VERDICT:
        return next(iter(decision.reasons), "no reason was given")
    others = [line for line in decision.reasons if not line.startswith(Outcome.PASS)]
    against = f"against version {decision.other_version}" if decision.other_version else "no version serving before"
    if decision.outcome == Outcome.PASS:
        return f"May serve: all {len(decision.reasons)} checks pass, {against}"
    start = "Undecided, so it may not serve" if decision.outcome == Outcome.INCONCLUSIVE else "May not serve"
    return f"{start}: {len(others)} of {len(decision.reasons)} checks do not pass; {'; '.join(others[:1])}"


def shares(decisions: Sequence[Decision], *, as_of: datetime) -> dict[str, pd.Series]:
    """The challenger's share in % from each step on, of each recent rollout; of one under way up to `as_of`."""
    steps, under_way, found = [one for one in decisions if one.kind == ROLLOUT], rollout_under_way(decisions), {}
    for verdict_id in dict.fromkeys(one.allowed_by for one in steps):
        own = sorted(
            (
                json.loads(one.evidence) | {"version": one.model_version}
                for one in steps
                if one.allowed_by == verdict_id
            ),
            key=lambda one: int(one["step"]),
        )
        points = {datetime.fromisoformat(one["at"]): one["percentage"] for one in own}
        if under_way is not None and under_way.verdict_id == verdict_id:
            points[max(as_of, *points)] = own[-1]["percentage"]
        if max(points) > as_of - timedelta(days=RECENT_DAYS):
            found[f"version {own[0]['version']} from {_time(min(points))}"] = pd.Series(points)
    return found


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
