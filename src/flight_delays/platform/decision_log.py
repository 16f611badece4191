"""The log of decisions: rows are only added."""

from dataclasses import dataclass, fields
from typing import Protocol

from flight_delays.core.decisions import Decision
from flight_delays.platform.delta import Tables, collected


class Decisions(Protocol):
    """Where decisions are kept."""

    def find(self, **values: str | int) -> list[Decision]:
        """Those with these values, by column; the one recorded first comes first."""

    def append(self, decision: Decision) -> None:
        """Add a decision, unless its id is there."""


@dataclass(frozen=True)
class DecisionTable:
    """Decisions in a Delta table."""

    tables: Tables

    def find(self, **values: str | int) -> list[Decision]:
        """Those with these values."""
        rows = self.tables.read("decisions")
        for name, value in values.items():
            rows = rows.where(rows[name] == value)
        named = [field.name for field in fields(Decision)]
        found = collected(rows.orderBy("recorded_at").select(*named))
        return [Decision(**{**row, "reasons": tuple(row["reasons"])}) for row in found]

    def append(self, decision: Decision) -> None:
        """Add it, with the time of the clock."""
        row = self.tables.decision("decisions", {**vars(decision), "reasons": [*decision.reasons]})
        self.tables.append_new("decisions", row, key=["decision_id"])
