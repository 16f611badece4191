"""A request to score: MLflow's four JSON forms, checked against the model's signature. Nothing is cast or guessed.

Messages name the column and the reason, never a value, nor a name that the caller made up.
Source of the forms: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flight_delays.core.quarantine import Rule, about, broken
from flight_delays.core.signature import Column, Signature

Cells: TypeAlias = Sequence[object]

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
REQUEST_ID = "client_request_id"
MAX_REQUEST_ID = 256
FIRST_YEAR, LAST_YEAR = 1900, 2199  # calendars and time zones beyond them are guesses
_TIME = re.compile(r"[\d TtWZz:.,+-]*", re.ASCII)  # Python takes any character between day and hour
_KINDS = {
    type(None): "null",
    bool: "a truth value",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
}
_BITS = {"integer": 32, "long": 64, "float": 32, "double": 64}


class BadRequestError(ValueError):
    """Why a request is refused, in one line for its caller."""


@dataclass(frozen=True, kw_only=True)
class ScoringRequest:
    """Columns of one length: text as objects, times as datetime64 in UTC, the rest as numbers, null as NaN."""

    columns: dict[str, npt.NDArray[Any]]
    rows: int
    client_request_id: str | None = None


class RequestParser:
    """Reads requests to one model."""

    def __init__(self, signature: Signature, *, max_rows: int, rules: Sequence[Rule] = ()) -> None:
        """`rules` that are about a request's columns alone are checked. Raises ValueError for a column type that JSON
        has no agreed form of.
        """  # fmt: skip
        self._required = [column.name for column in signature.inputs if column.required]
        self._read = {column.name: _reader(column) for column in signature.inputs}
        self._doubles = {column.name for column in signature.inputs if column.type == "double" and not column.required}
        self._max_rows = max_rows
        self._rules = about(rules, [column.name for column in signature.inputs])

    def parse(self, body: bytes) -> ScoringRequest:
        """The request in a JSON body. Raises BadRequestError."""
        told = _json(body)
        if not isinstance(told, dict):
            raise BadRequestError(f"the body must be an object with one of {', '.join(FORMS)}, not {_kind(told)}")
        given = [form for form in FORMS if form in told]
        if len(given) != 1:
            raise BadRequestError(f"the body must have exactly one of {', '.join(FORMS)}, and has {len(given)}")
        if set(told) - {given[0], REQUEST_ID}:
            raise BadRequestError(f"the body may have nothing beside {given[0]} and {REQUEST_ID}")
        identity = told.get(REQUEST_ID)
        if identity is not None and not (isinstance(identity, str) and len(identity) <= MAX_REQUEST_ID):
            raise BadRequestError(f"{REQUEST_ID} must be a text of at most {MAX_REQUEST_ID} characters")
        if isinstance(identity, str):
            _check_text(identity, REQUEST_ID)
        cells, rows = self._cells(given[0], told[given[0]])
        missing = [name for name in self._required if name not in cells]
        if missing:
            raise BadRequestError(f"column {missing[0]} is missing")
        columns = self._columns(cells, rows)
        for rule in about(self._rules, [*columns]):
            for at in np.flatnonzero(broken(rule, columns))[:1]:
                raise BadRequestError(f"row {at + 1}: {rule.reason}")
        return ScoringRequest(columns=columns, rows=rows, client_request_id=identity)

    def _columns(self, cells: Mapping[str, Cells], rows: int) -> dict[str, npt.NDArray[Any]]:
        """Each column read. Most are numbers that may be null: one look at all of them passes, if none is wrong."""
        numbers = [name for name in cells if name in self._doubles]
        values = [value for name in numbers for value in cells[name]]
        passed: dict[str, npt.NDArray[Any]] = {}
        if {float, int, type(None)}.issuperset(map(type, values)):
            with suppress(OverflowError):
                read = np.array(values, dtype="float64").reshape(len(numbers), rows)
                passed = {} if np.isinf(read).any() else dict(zip(numbers, read, strict=True))
        return {name: passed[name] if name in passed else self._read[name](cells[name]) for name in cells}

    def _cells(self, form: str, told: object) -> tuple[dict[str, Cells], int]:
        """Column to its cells, all of one length."""
        if form == "dataframe_split":
            cells, rows = self._split(told)
        elif form == "inputs" and isinstance(told, dict):
            cells, rows = self._by_column(told)
        else:
            cells, rows = self._records(form, told)
        if rows == 0:
            raise BadRequestError(f"{form} has no rows")
        return cells, rows

    def _split(self, told: object) -> tuple[dict[str, Cells], int]:
        if not isinstance(told, dict) or not {"columns", "data"} <= set(told) <= {"columns", "data", "index"}:
            raise BadRequestError("dataframe_split must be an object with columns and data, and at most index")
        names, data = told["columns"], told["data"]
        if not isinstance(names, list) or not isinstance(data, list):
            raise BadRequestError("dataframe_split: columns and data must be lists")
        self._check_rows("dataframe_split", len(data))
        if "index" in told and not (isinstance(told["index"], list) and len(told["index"]) == len(data)):
            raise BadRequestError("dataframe_split: index must be a list as long as data")
        for at, name in enumerate(names, 1):
            self._check_name(name, f"dataframe_split: column {at}")
        if len(set(names)) < len(names):
            raise BadRequestError("dataframe_split: a column is named twice")
        for at, row in enumerate(data, 1):
            if not isinstance(row, list) or len(row) != len(names):
                raise BadRequestError(f"dataframe_split: row {at} of data must be a list as long as columns")
        return {name: [row[at] for row in data] for at, name in enumerate(names)}, len(data)

    def _by_column(self, told: Mapping[str, object]) -> tuple[dict[str, Cells], int]:
        cells: dict[str, Cells] = {}
        for at, (name, values) in enumerate(told.items(), 1):
            self._check_name(name, f"inputs: column {at}")
            if not isinstance(values, list):
                raise BadRequestError(f"inputs: column {name} must be a list, one value per row")
            self._check_rows("inputs", len(values))
            cells[name] = values
        lengths = {len(values) for values in cells.values()}
        if len(lengths) > 1:
            raise BadRequestError("inputs: all columns must have the same number of values")
        return cells, max(lengths, default=0)

    def _records(self, form: str, told: object) -> tuple[dict[str, Cells], int]:
        if not isinstance(told, list):
            raise BadRequestError(f"{form} must be a list of objects, one per row")
        self._check_rows(form, len(told))
        names: list[str] = []
        for at, row in enumerate(told, 1):
            if not isinstance(row, dict):
                raise BadRequestError(f"{form}: row {at} must be an object of columns and values, not {_kind(row)}")
            if not row.keys() <= self._read.keys():
                for name in row:
                    self._check_name(name, f"{form}: row {at}, one of its columns")
            names = list(row) if at == 1 else names
            # What a row leaves out would be looked up, and null would not: which of them is meant can't be told.
            if other := row.keys() ^ set(names):
                raise BadRequestError(f"{form}: row {at}: column {min(other)} must be in every row or in none")
        return {name: [row[name] for row in told] for name in names}, len(told)

    def _check_rows(self, form: str, rows: int) -> None:
        if rows > self._max_rows:
            raise BadRequestError(f"{form} has more than {self._max_rows:,} rows")

    def _check_name(self, name: object, where: str) -> None:
        if isinstance(name, str) and name in self._read:
            return
        near = get_close_matches(name, self._read, 1) if isinstance(name, str) and len(name) <= 100 else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadRequestError(f"{where} is none of the model's{hint}")


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
        raise BadRequestError("the body is no UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise BadRequestError(f"the body is invalid JSON, at line {error.lineno}, column {error.colno}") from None
    except ValueError:
        raise BadRequestError("the body is invalid JSON: a number has too many digits") from None
    except RecursionError:
        raise BadRequestError("the body is nested too deep") from None


def _reader(column: Column) -> Callable[[Cells], npt.NDArray[Any]]:
    name = column.name

    def refuse(at: int, value: object, must: str) -> BadRequestError:
        return BadRequestError(f"column {name}, row {at}: must be {must}, not {_kind(value)}")

    bits = _BITS.get(column.type, 64)
    largest = float(np.finfo(np.float32 if bits == 32 else np.float64).max)

    def integers(cells: Cells) -> npt.NDArray[Any]:
        for at, value in enumerate(cells, 1):
            if type(value) is not int:
                raise refuse(at, value, "an integer")
            if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
                raise BadRequestError(f"column {name}, row {at}: must be an integer of {bits} bits")
        return np.array(cells, dtype=f"int{bits}")

    def numbers(cells: Cells) -> npt.NDArray[Any]:
        found = []
        for at, value in enumerate(cells, 1):
            if value is None and not column.required:
                found.append(math.nan)
            elif type(value) is not float and type(value) is not int:
                raise refuse(at, value, "a number")
            elif not -largest <= value <= largest:
                raise BadRequestError(f"column {name}, row {at}: must be a finite number, and is too large")
            else:
                found.append(value)
        return np.array(found, dtype=f"float{bits}")

    def texts(cells: Cells) -> npt.NDArray[Any]:
        for at, value in enumerate(cells, 1):
            if isinstance(value, str):
                _check_text(value, f"column {name}, row {at}")
            elif value is not None or column.required:
                raise refuse(at, value, "a text")
        return np.array(cells, dtype=object)

    def times(cells: Cells) -> npt.NDArray[Any]:
        return np.array([time(at, value) for at, value in enumerate(cells, 1)], dtype="datetime64[us]")

    def time(at: int, value: object) -> datetime | None:
        if value is None and not column.required:
            return None
        must = "a time in ISO 8601, like 2013-01-15T17:00:00Z"
        if not isinstance(value, str):
            raise refuse(at, value, must)
        try:
            found = datetime.fromisoformat(value if _TIME.fullmatch(value) else "")
            found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
        except (ValueError, OverflowError):
            raise BadRequestError(f"column {name}, row {at}: must be {must}") from None
        if not FIRST_YEAR <= found.year <= LAST_YEAR:
            raise BadRequestError(f"column {name}, row {at}: must be from {FIRST_YEAR} to {LAST_YEAR}")
        return found

    def truths(cells: Cells) -> npt.NDArray[Any]:
        for at, value in enumerate(cells, 1):
            if not isinstance(value, bool):
                raise refuse(at, value, "true or false")
        return np.array(cells, dtype=bool)

    readers = {
        "string": texts,
        "datetime": times,
        "boolean": truths,
        **dict.fromkeys(("integer", "long"), integers),
        **dict.fromkeys(("float", "double"), numbers),
    }
    if column.type not in readers:
        raise ValueError(f"column {name} is of type {column.type}, which a JSON request cannot carry")
    return readers[column.type]


def _check_text(text: str, where: str) -> None:
    if text.isascii():
        fine = "\0" not in text
    else:
        try:
            fine = b"\0" not in text.encode()
        except UnicodeEncodeError:
            fine = False
    if not fine:
        raise BadRequestError(f"{where}: holds a character that no text has")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "an object")
