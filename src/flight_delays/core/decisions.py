"""What was decided on a model version, and why."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A row of table decisions, whose SQL says what each column holds."""

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
