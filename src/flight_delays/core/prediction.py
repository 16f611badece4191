"""A prediction, as table predictions and the online store have it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was forecast, when and by which version; times in UTC, `probability` None unless classified."""

    entity_id: str
    prediction_ts: datetime
    model_name: str
    model_version: int
    scored_at: datetime
    probability: float | None
    prediction: float
    source: str

    def as_json(self) -> dict[str, str | int | float | None]:
        """Its fields by name; times in ISO 8601."""
        return {
            name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, kw_only=True)
class Recorded(Prediction):
    """A row of table predictions, whose SQL says what each column holds."""

    prediction_id: str
    run_id: str | None
