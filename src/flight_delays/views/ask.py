"""Ask a serving endpoint, and read its answer or what was predicted beforehand."""

import json
from collections.abc import Mapping

from rich.table import Table

from flight_delays.core.errors import UserError
from flight_delays.core.objective import BinaryClassification
from flight_delays.core.prediction import Prediction
from flight_delays.core.scoring_request import BadRequestError, RequestParser
from flight_delays.core.use_case import UseCase
from flight_delays.platform.endpoints import Endpoints


def columns_in(text: str | None) -> dict[str, object] | None:
    """The columns that a JSON object tells, None for another text. Raises UserError for a broken one."""
    if text is None or not text.lstrip().startswith("{"):
        return None
    try:
        columns: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise UserError(f"invalid JSON: {error}") from None
    return columns


def answer(use_case: UseCase, endpoints: Endpoints, endpoint: str, columns: Mapping[str, object]) -> Table:
    """What `endpoint` says of one row."""
    found = endpoints.query(endpoint, {"dataframe_records": [dict(columns)]})
    (forecast,) = found.predictions
    versions = {one.name: one.model_version for one in endpoints.configuration(endpoint)}
    table = Table(show_header=False)
    table.add_row(f"id of the {use_case.entity}", _entity_id(use_case, columns))
    times = {column.name for column in use_case.signature.inputs if column.type == "datetime"}
    for name, value in columns.items():
        table.add_row(f"{name} (UTC)" if name in times else name, str(value))
    table.add_section()
    _add_forecast(table, use_case, forecast)
    table.add_row("request", found.request_id or "unknown")
    table.add_row("answered by", f"{found.served_name}, version {versions.get(found.served_name or '', 'unknown')}")
    table.add_row("in", f"{found.duration_ms:.1f} ms")
    return table


def _entity_id(use_case: UseCase, columns: Mapping[str, object]) -> str:
    """What was asked about, as `lookup` knows it."""
    body = json.dumps({"dataframe_records": [dict(columns)]}).encode()
    try:
        return use_case.prepare.entity_ids(RequestParser(use_case.signature, max_rows=1).parse(body).columns)[0]
    except BadRequestError:  # the endpoint serves a version that takes other columns
        return "unknown"


def precomputed(use_case: UseCase, found: Prediction) -> Table:
    """What was predicted beforehand."""
    told = found.as_json()
    table = Table(show_header=False)
    table.add_row(use_case.entity, found.entity_id)
    table.add_section()
    _add_forecast(table, use_case, told)
    table.add_row("from what was known at", str(told["prediction_ts"]))
    table.add_row("predicted by", f"{found.model_name}, version {found.model_version} ({found.source})")
    table.add_row("as of", str(told["scored_at"]))
    return table


def _add_forecast(table: Table, use_case: UseCase, forecast: Mapping[str, object]) -> None:
    objective = use_case.objective
    value = float(str(forecast[objective.forecast]))
    if isinstance(objective, BinaryClassification):
        table.add_row(use_case.question, f"{objective.positive} with a probability of {value:.1%}")
        called = objective.positive if float(str(forecast["prediction"])) == 1 else objective.negative
        table.add_row("so the forecast is", called)
    else:
        table.add_row(use_case.question, f"{value:,.4g}")
