"""A request to score, in MLflow's four JSON forms, checked by pydantic against the model's signature.

Nothing is converted. A message names the column and the reason, never a value or a name that the caller made up.
Source of the forms: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from flight_delays.core.rules import Rule, about, broken
from flight_delays.core.signature import Column, Signature

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
REQUEST_ID = "client_request_id"
MAX_REQUEST_ID = 256
MIN_YEAR, MAX_YEAR = 1900, 2199  # calendars and time zones beyond them are guesses
_TIME = (
    r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,6})?)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?$"
)
_KINDS = {
    type(None): "null",
    bool: "a truth value",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
}
_PHRASES = {
    "missing": "is missing",
    "extra_forbidden": "has an unknown key",
    "literal_error": "is unknown",
    "list_type": "must be a list, not {kind}",
    "dict_type": "must be an object, not {kind}",
    "too_short": "has no rows",
    "too_long": "has more than {max_length:,} rows",
    "string_type": "must be a text, not {kind}",
    "string_too_long": "must have at most {max_length} characters",
    "string_unicode": "holds a character that is not allowed in text",
    "string_pattern_mismatch": "holds a character that is not allowed in text",
    "bool_type": "must be true or false, not {kind}",
    "int_type": "must be an integer, not {kind}",
    "float_type": "must be a number, not {kind}",
    "finite_number": "must be a finite number, and is too large",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "time": f"must be a time in UTC from {MIN_YEAR} to {MAX_YEAR}, like 2013-01-15T17:00:00",
}
"""By pydantic's types of errors, https://docs.pydantic.dev/latest/errors/validation_errors/, and ours of `_time`."""
# Of several errors the one that explains the others: a misspelt column is unknown, and missing.
_FIRST = ("extra_forbidden", "missing")


class BadRequestError(ValueError):
    """Why a request is refused, in one line for its caller."""


@dataclass(frozen=True, kw_only=True)
class ScoringRequest:
    """Columns of one length: text as objects, times as datetime64 in UTC, the rest as numbers, null as NaN."""

    columns: dict[str, npt.NDArray[Any]]
    rows: int
    client_request_id: str | None = None


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except ValueError:
        raise PydanticCustomError("time", "no such day") from None
    if not MIN_YEAR <= found.year <= MAX_YEAR:
        raise PydanticCustomError("time", "beyond the calendar in UTC")
    return found


_TEXT = cs.str_schema(pattern=r"^[^\x00]*$")
_SINGLE, _DOUBLE = (float(np.finfo(dtype).max) for dtype in (np.float32, np.float64))
# By the types of a signature: what a cell may be, and the type of a column's array.
_CELLS: dict[str, tuple[cs.CoreSchema, str]] = {
    "string": (_TEXT, "object"),
    "boolean": (cs.bool_schema(), "bool"),
    "integer": (cs.int_schema(ge=-(2**31), le=2**31 - 1), "int32"),
    "long": (cs.int_schema(ge=-(2**63), le=2**63 - 1), "int64"),
    "float": (cs.float_schema(ge=-_SINGLE, le=_SINGLE, allow_inf_nan=False), "float32"),
    "double": (cs.float_schema(ge=-_DOUBLE, le=_DOUBLE, allow_inf_nan=False), "float64"),
    "datetime": (cs.no_info_after_validator_function(_time, cs.str_schema(pattern=_TIME)), "datetime64[us]"),
}


class RequestParser:
    """Reads requests to one model."""

    def __init__(self, signature: Signature, *, max_rows: int, rules: Sequence[Rule] = ()) -> None:
        """`rules` that are about a request's columns alone are checked. Raises ValueError for a column type that JSON
        has no agreed form of.
        """  # fmt: skip
        self._rules = about(rules, [column.name for column in signature.inputs])
        self._types = {column.name: column.type for column in signature.inputs}
        optional = [column.name for column in signature.inputs if not column.required]
        cells = {column.name: _cell(column) for column in signature.inputs}

        def some(item: cs.CoreSchema) -> cs.CoreSchema:
            return cs.list_schema(item, min_length=1, max_length=max_rows, fail_fast=True)

        rows = some(_object(cells, optional))
        by_column = _object({name: some(cell) for name, cell in cells.items()}, optional)
        names = cs.list_schema(cs.literal_schema([*cells]))
        split = _object({"columns": names, "data": some(cs.list_schema()), "index": cs.list_schema()}, ["index"])
        # `inputs` has two shapes, each with a type of its own: an error about one does not list those of the other.
        shapes = [("dataframe_split", split), *((form, rows) for form in FORMS[1:]), ("inputs", by_column)]
        identity = cs.nullable_schema(cs.str_schema(pattern=_TEXT["pattern"], max_length=MAX_REQUEST_ID))
        self._schemas = [_object({form: shape, REQUEST_ID: identity}, [REQUEST_ID]) for form, shape in shapes]
        *forms, columns = (SchemaValidator(schema) for schema in self._schemas)
        self._forms, self._by_column = dict(zip(FORMS, forms, strict=True)), columns

    def json_schema(self) -> dict[str, Any]:
        """What `parse` takes, as far as JSON Schema can say it."""
        return GenerateJsonSchema().generate(cs.union_schema([*self._schemas]))

    def parse(self, body: bytes) -> ScoringRequest:
        """The request in a JSON body. Raises BadRequestError."""
        told = _json(body)
        if not isinstance(told, dict):
            raise BadRequestError(f"the body must be an object with one of {', '.join(FORMS)}, not {_kind(told)}")
        given = [form for form in FORMS if form in told]
        if len(given) != 1:
            raise BadRequestError(f"the body must have exactly one of {', '.join(FORMS)}, and has {len(given)}")
        (form,) = given
        try:
            by_column = form == "inputs" and isinstance(told[form], dict)
            checked = (self._by_column if by_column else self._forms[form]).validate_python(told)
            cells = self._cells(form, checked[form])
        except ValidationError as error:
            raise BadRequestError(self._explain(error, form)) from None
        columns = {name: np.array(values, _CELLS[self._types[name]][1]) for name, values in cells.items()}
        for rule in about(self._rules, [*columns]):
            for at in np.flatnonzero(broken(rule, columns))[:1]:
                raise BadRequestError(f"row {at + 1}: {rule.reason}")
        rows = len(next(iter(cells.values())))
        return ScoringRequest(columns=columns, rows=rows, client_request_id=checked.get(REQUEST_ID))

    def _cells(self, form: str, told: Any) -> Mapping[str, Sequence[object]]:  # noqa: ANN401  # as JSON is
        """Column to its cells, all of one length."""
        if form == "dataframe_split":
            return self._split(told["columns"], told["data"], told.get("index", told["data"]))
        if isinstance(told, dict):
            if len({len(values) for values in told.values()}) > 1:
                raise BadRequestError("inputs, all columns must have the same number of values")
            columns: Mapping[str, Sequence[object]] = told
            return columns
        names = told[0].keys()
        for at, row in enumerate(told, 1):
            # What a row leaves out would be looked up, and null would not: which of them is meant can't be told.
            if other := row.keys() ^ names:
                raise BadRequestError(f"{form}, row {at}, column {min(other)} must be in every row or in none")
        return {name: [row[name] for row in told] for name in names}

    def _split(self, names: list[str], data: list[list[object]], index: list[object]) -> Mapping[str, Sequence[object]]:
        if len(index) != len(data):
            raise BadRequestError("dataframe_split, index must be as long as data")
        if len(set(names)) < len(names):
            raise BadRequestError("dataframe_split, columns names a column twice")
        for at, row in enumerate(data, 1):
            if len(row) != len(names):
                raise BadRequestError(f"dataframe_split, data, row {at} must be as long as columns")
        columns = dict(zip(names, map(list, zip(*data, strict=True)), strict=True))
        found: Mapping[str, Sequence[object]] = self._by_column.validate_python({"inputs": columns})["inputs"]
        return found

    def _explain(self, error: ValidationError, form: str) -> str:
        """The first error in a caller's words."""
        errors = error.errors(include_url=False)
        first = min(errors, key=lambda each: _FIRST.index(each["type"]) if each["type"] in _FIRST else len(_FIRST))
        kind, value, (top, *path) = first["type"], first["input"], first["loc"]
        if kind == "float_type" and type(value) is int:  # beyond all floating-point numbers
            kind = "finite_number"
        if kind.startswith("string_") and "datetime" in (self._types.get(str(place)) for place in path):
            kind = "time"
        unknown = path[-1] if kind == "extra_forbidden" and path else value if kind == "literal_error" else None
        if kind == "extra_forbidden":  # a name that the caller made up
            top, *path = [top, *path][:-1] or ["the body"]
        counted = "item" if path[:1] == ["columns"] else "row"
        places = [f"{counted} {place + 1}" if isinstance(place, int) else place for place in path]
        places = [f"column {place}" if place in self._types else str(place) for place in places]
        where = ", ".join([form if top in FORMS else str(top), *places])
        known = [*self._types] if isinstance(unknown, str) and len(unknown) <= 100 else []
        near = get_close_matches(str(unknown), known, 1, 0.7)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where} {_PHRASES[kind].format(kind=_kind(value), **first.get('ctx', {}))}{hint}"


def answers_in(response: object, rows: int, outputs: Iterable[str]) -> list[dict[str, float]]:
    """A logged response's `outputs` for each row of its request. Raises BadRequestError if it has not got them."""
    try:
        answers = [{name: float(one[name]) for name in outputs} for one in json.loads(str(response))["predictions"]]
    except (KeyError, TypeError, ValueError):
        answers = []
    if len(answers) != rows:
        raise BadRequestError("the response has no prediction, or not one for each row of the request")
    return answers


def _object(fields: Mapping[str, cs.CoreSchema], optional: Sequence[str]) -> cs.CoreSchema:
    """A JSON object with these keys and no others."""
    told = {name: cs.typed_dict_field(field, required=name not in optional) for name, field in fields.items()}
    return cs.typed_dict_schema(told, extra_behavior="forbid", config=cs.CoreConfig(strict=True))


def _cell(column: Column) -> cs.CoreSchema:
    if column.type not in _CELLS:
        raise ValueError(f"column {column.name} is of type {column.type}, which a JSON request cannot carry")
    kind, _ = _CELLS[column.type]
    return kind if column.required else cs.nullable_schema(kind)


def _json(body: bytes) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadRequestError("the body is invalid JSON: an object names a key twice")
        return found

    def refused(_: str) -> object:
        raise BadRequestError("the body is invalid JSON: NaN and Infinity are no JSON; a value that is unknown is null")

    try:
        return json.loads(body.decode(), object_pairs_hook=unique, parse_constant=refused)
    except BadRequestError:
        raise
    except UnicodeDecodeError:
        raise BadRequestError("the body is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise BadRequestError(f"the body is invalid JSON, at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise BadRequestError("the body is invalid JSON: a number has too many digits") from None
    except RecursionError:
        raise BadRequestError("the body is nested too deeply") from None


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "an object")
