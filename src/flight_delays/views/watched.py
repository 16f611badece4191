"""What the monitor found and what was decided, to look at. Read once; a table that is not there says why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
from matplotlib.figure import Figure

from flight_delays.core.errors import UserError
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import Decision
from flight_delays.platform.delta import collected
from flight_delays.views import plots, production
from flight_delays.views.look import Look

_TABLES = ("open_incidents", "signals", "daily_performance", "estimated_performance")
_ROWS = 20_000  # of each table the newest


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Rows on one model by table, or why there are none, and its decisions in their order.

    `last_day` is the last one that had ended long enough for its outcomes to be known.
    """

    decisions: Sequence[Decision]
    tables: Mapping[str, pd.DataFrame | UserError]
    as_of: datetime
    last_day: date
    loss: str

    def table(self, name: str) -> pd.DataFrame:
        """Raises UserError for a table that is not there."""
        found = self.tables[name]
        if isinstance(found, UserError):
            raise found
        return found

    @property
    def looked_at(self) -> bool:
        """Whether there is any signal: without one, no incident says nothing."""
        signals = self.tables["signals"]
        return not isinstance(signals, UserError) and not signals.empty

    @property
    def unmeasured(self) -> list[str]:
        """What is not known, a line each."""
        signals = self.tables["signals"]
        if isinstance(signals, UserError):
            return [f"Not measured: {signals}."]
        return production.unmeasured(signals, self.last_day)

    @property
    def headline(self) -> str:
        """What to know first."""
        found = self.tables["open_incidents"]
        incidents = None if isinstance(found, UserError) else found
        health = production.health(incidents, self.unmeasured, looked_at=self.looked_at)
        return production.headline(self.decisions, health)


def watch(context: Context, model_name: str) -> Watched:
    """Read it."""
    try:
        decisions = context.decisions.find(model_name=model_name)
    except UserError:
        decisions = []
    return Watched(
        decisions=decisions,
        tables={name: _rows(context, name, model_name) for name in _TABLES},
        as_of=context.as_of,
        last_day=context.use_case.holdout(context.as_of, 1).first,
        loss=context.use_case.objective.loss_name,
    )


def _rows(context: Context, table: str, model_name: str) -> pd.DataFrame | UserError:
    try:
        rows = context.tables.read(table)
    except UserError as missing:
        return missing
    newest = rows.where(rows["model_name"] == model_name).orderBy(rows["day"].desc()).limit(_ROWS)
    return pd.DataFrame(collected(newest), columns=rows.columns)


def incidents(found: Watched) -> Look:
    """The open ones."""
    table = production.incident_table(found.table("open_incidents"), found.decisions)
    if len(table):
        return Look(notes=found.unmeasured, tables={"open": table})
    if found.table("signals").empty:
        raise UserError("nothing was looked at yet; run the monitor job")
    return Look(notes=["None is open.", *found.unmeasured])


def performance(found: Watched) -> Look:
    """Of the versions that served recently, one to pick."""
    measured, notes = found.table("daily_performance"), []
    try:
        estimates = found.table("estimated_performance")
    except UserError as missing:
        notes, estimates = [f"Not estimated: {missing}."], pd.DataFrame(columns=[*measured.columns, "estimated_loss"])
    groups = production.quality_days(measured, estimates, found.decisions, as_of=found.as_of)
    if not groups:
        raise UserError(f"nothing was measured in the last {production.RECENT_DAYS} days; run the monitor job")
    pictures: dict[str, dict[str, Figure]] = {}
    for (version, source), days in groups.items():
        title = f"version {version}, {source}"
        picture = {f"{found.loss} by day of {title}": plots.performance(days, title, found.loss)}
        pictures.setdefault(f"version {version}", {}).update(picture)
    choices = {name: Look(figures=those) for name, those in pictures.items()}
    return Look(notes=notes, tables={"newest": production.quality_table(groups)}, choices=choices)


def signals(found: Watched) -> Look:
    """Drift by column and window, and other alarms."""
    rows, notes, figures = found.table("signals"), [], {}
    if rows.empty:
        raise UserError("nothing was looked at yet; run the monitor job")
    for days, (levels, alarms) in production.drift_windows(rows).items():
        alarmed = ", ".join(alarms.index[alarms.iloc[:, -1]]) or "none"
        notes.append(f"Drift in the {days} days to {levels.columns[-1]}: {alarmed}.")
        figures[f"-log10 p of drift over {days} days, by column and window"] = plots.drift(levels, alarms, days)
    return Look(notes=notes, tables={"other alarms, newest first": production.alarm_table(rows)}, figures=figures)


def decisions(found: Watched) -> Look:
    """The newest ones, and the shares of recent rollouts."""
    if not found.decisions:
        raise UserError("nothing was decided yet; run the train job, which has each version judged")
    shares = production.shares(found.decisions, as_of=found.as_of)
    return Look(
        tables={"decisions": production.decision_table(found.decisions)},
        figures={f"share of the requests in rollouts of {', '.join(shares)}": plots.shares(shares)} if shares else {},
    )
