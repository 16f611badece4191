"""The log of decisions: rows are only added."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime

from flight_delays.platform.delta import Tables, collected

# Kinds.
VERDICT, APPROVAL, PROMOTION, ROLLBACK, RETRAINING = "verdict", "approval", "promotion", "rollback", "retraining"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A row of table decisions, whose SQL says what each column holds; `recorded_at` only of one that was read."""

    decision_id: str
    kind: str
    model_name: str
    model_version: int
    other_version: int | None
    outcome: str
    reasons: tuple[str, ...]
    evidence: str = "{}"
    policy: str = "{}"
    allowed_by: str | None = None
    as_of: datetime
    recorded_at: datetime | None = field(default=None, compare=False)


def releases_in(decisions: Iterable[Decision]) -> list[Decision]:
    """Those from which on another version serves, in their order."""
    return [one for one in decisions if one.kind in (PROMOTION, ROLLBACK)]


def champion_in(decisions: Iterable[Decision]) -> int | None:
    """The version that was decided to serve, of the decisions on one model in their order; None before the first."""
    newest = releases_in(decisions)[-1:]
    return newest[0].model_version if newest else None


@dataclass(frozen=True)
class Decisions:
    """Decisions in a Delta table."""

    tables: Tables

    def find(self, **values: str | int) -> list[Decision]:
        """Those with these values, by column; the one recorded first comes first."""
        rows = self.tables.read("decisions")
        for name, value in values.items():
            rows = rows.where(rows[name] == value)
        found = collected(rows.orderBy("recorded_at").select(*(field.name for field in fields(Decision))))
        return [Decision(**{**row, "reasons": tuple(row["reasons"])}) for row in found]

    def append(self, decision: Decision) -> bool:
        """Add it, with the time of the clock, unless its id is there; whether it was added."""
        row = self.tables.decision("decisions", {**vars(decision), "reasons": [*decision.reasons]})
        return self.tables.append_new("decisions", row, key=["decision_id"]).inserted > 0
