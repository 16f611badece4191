"""Predictions that were made beforehand, looked up by entity in the online store."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, cast

from flight_delays.core.errors import UserError
from flight_delays.platform.shell import OnlineStore, online_store

PREDICTIONS_TABLE = "predictions_online"
COLUMNS = (
    *("entity_id", "prediction_ts", "model_name", "model_version"),
    *("scored_at", "probability", "prediction", "source"),
)
NEWEST_BY = ("scored_at", "prediction_ts", "model_version")
_Row: TypeAlias = tuple[str | datetime, str, int, str | datetime, float | None, float, str]
NO_TABLE = f"nothing is precomputed yet: the online store has no table {PREDICTIONS_TABLE}; run the job score_batch"
NOT_FOUND = "there is no precomputed prediction of this id; table predictions has those that there are"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The newest of an entity, as latest_predictions has it; times in UTC, `probability` None unless classified."""

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
        told = {name: getattr(self, name) for name in COLUMNS}
        times = {name: f"{value:%Y-%m-%dT%H:%M:%SZ}" for name, value in told.items() if isinstance(value, datetime)}
        return told | times


def predictions_store(environment: Mapping[str, str]) -> OnlineStore | None:
    """The store that `environment` names, if any, to find predictions in. Raises UserError for a wrong setting."""
    try:
        return online_store(environment, table=PREDICTIONS_TABLE, columns=COLUMNS[1:])
    except ValueError as error:
        raise UserError(str(error)) from None


def find_prediction(store: OnlineStore, entity_id: str) -> Prediction | None:
    """The newest prediction of an entity, None if there is none; `store` is one that predictions_store made.

    Raises NoTableError where nothing was ever precomputed, and ConnectionError for a store that fails.
    """
    row = store.find([entity_id]).get(entity_id)
    if row is None:
        return None
    prediction_ts, model_name, model_version, scored_at, probability, prediction, source = cast("_Row", row)
    return Prediction(
        entity_id=entity_id,
        prediction_ts=_time(prediction_ts),
        model_name=model_name,
        model_version=model_version,
        scored_at=_time(scored_at),
        probability=probability,
        prediction=prediction,
        source=source,
    )


def _time(value: str | datetime) -> datetime:
    """As sqlite or PostgreSQL has it; UTC where it names no offset."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
