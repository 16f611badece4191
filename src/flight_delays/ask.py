"""Ask a serving endpoint about a flight, and read its answer."""

import json
from collections.abc import Mapping

from rich.table import Table

from flight_delays.core.errors import UserError
from flight_delays.platform.endpoints import Endpoints


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
    late = "15 minutes late or more" if forecast["prediction"] == 1 else "less than 15 minutes late"
    table.add_row("probability of 15 minutes late or more", f"{float(str(forecast['probability'])):.1%}")
    table.add_row("so the forecast is", late)
    table.add_row("answered by", f"{found.served_name}, version {versions.get(found.served_name or '', 'unknown')}")
    table.add_row("in", f"{found.duration_ms:.1f} ms")
    return table
