"""Ask a serving endpoint about a flight, and read its answer or what was predicted beforehand."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from flight_delays.core.errors import UserError
from flight_delays.platform.endpoints import Endpoints

if TYPE_CHECKING:
    from flight_delays.use_case.precomputed import Prediction

_PROBABILITY, _FORECAST = "probability of 15 minutes late or more", "so the forecast is"


def columns_in(text: str | None) -> dict[str, object] | None:
    """The columns of a flight that a JSON object tells, None for another text. Raises UserError for a broken one."""
    if text is None or not text.lstrip().startswith("{"):
        return None
    try:
        columns: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise UserError(f"the flight is no proper JSON object: {error}") from None
    return columns


def answer(endpoints: Endpoints, endpoint: str, columns: Mapping[str, object]) -> Table:
    """What `endpoint` says of one flight."""
    found = endpoints.query(endpoint, {"dataframe_records": [dict(columns)]})
    (forecast,) = found.predictions
    versions = {one.name: one.model_version for one in endpoints.configuration(endpoint)}
    table = Table(show_header=False)
    for name, value in columns.items():
        table.add_row(name, str(value))
    table.add_section()
    table.add_row(_PROBABILITY, f"{float(str(forecast['probability'])):.1%}")
    table.add_row(_FORECAST, _late(forecast["prediction"]))
    table.add_row("answered by", f"{found.served_name}, version {versions.get(found.served_name or '', 'unknown')}")
    table.add_row("in", f"{found.duration_ms:.1f} ms")
    return table


def precomputed(found: "Prediction") -> Table:
    """What was predicted of one flight beforehand."""
    told = found.as_json()
    table = Table(show_header=False)
    table.add_row("flight_id", found.flight_id)
    table.add_section()
    table.add_row(_PROBABILITY, f"{found.probability:.1%}")
    table.add_row(_FORECAST, _late(found.prediction))
    table.add_row("from what was known at", str(told["prediction_ts"]))
    table.add_row("predicted by", f"{found.model_name}, version {found.model_version} ({found.source})")
    table.add_row("as of", str(told["scored_at"]))
    return table


def _late(prediction: object) -> str:
    return "15 minutes late or more" if prediction == 1 else "less than 15 minutes late"
