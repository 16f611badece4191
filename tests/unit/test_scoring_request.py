"""What a request to score may be, in four forms, and what a caller is told of one that is not."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_delays.core.rules import Rule, rules_of
from flight_delays.core.scoring_request import BadRequestError, RequestParser, ScoringRequest
from flight_delays.core.signature import Column, Signature
from flight_delays.use_case import USE_CASE

JSON: TypeAlias = Any
MAX_ROWS = 3
SIGNATURE = USE_CASE.signature
RULES = rules_of(USE_CASE.prepare.RULES)
ROW: dict[str, JSON] = {
    "carrier": "AA",
    "flight": 1,
    "origin": "EWR",
    "dest": "ORD",
    "distance": 700,
    "sched_dep_ts": "2013-01-15T17:00:00",
    "sched_arr_time": 900,
    "weather_visib": 7.5,
}
WAYS: dict[str, Callable[[list[dict[str, JSON]]], JSON]] = {
    "split": lambda rows: {
        "dataframe_split": {"columns": list(rows[0]), "data": [[row[name] for name in rows[0]] for row in rows]}
    },
    "records": lambda rows: {"dataframe_records": rows},
    "by column": lambda rows: {"inputs": {name: [row[name] for row in rows] for name in rows[0]}},
    "inputs": lambda rows: {"inputs": rows},
    "instances": lambda rows: {"instances": rows},
}  # fmt: skip

NOT_EXACTLY_ONE = "the body must have exactly one of dataframe_split, dataframe_records, inputs, instances, and has {}"
NO_OBJECT = "the body must be an object with one of dataframe_split, dataframe_records, inputs, instances, not {}"
NO_CONSTANT = "the body is invalid JSON: NaN and Infinity are no JSON; a value that is unknown is null"
A_TIME = (
    "dataframe_records, row 1, column sched_dep_ts must be a time in UTC from 1900 to 2199, like 2013-01-15T17:00:00"
)
NO_TEXT = "holds a character that is not allowed in text"


def parser(max_rows: int = MAX_ROWS, signature: Signature = SIGNATURE, rules: tuple[Rule, ...] = ()) -> RequestParser:
    return RequestParser(signature, max_rows=max_rows, rules=rules)


def parsed(body: JSON, rules: tuple[Rule, ...] = ()) -> ScoringRequest:
    return parser(rules=rules).parse(json.dumps(body).encode())


def records(*rows: JSON, **beside: JSON) -> bytes:
    return json.dumps({"dataframe_records": rows, **beside}).encode()


def without(name: str) -> dict[str, JSON]:
    return {other: value for other, value in ROW.items() if other != name}


def holding(column: str, text: str) -> bytes:
    """A good request but for the JSON `text` in place of a value."""
    return records(ROW | {column: "@"}).replace(b'"@"', text.encode())


def split(**changes: JSON) -> bytes:
    return json.dumps({"dataframe_split": {**WAYS["split"]([ROW])["dataframe_split"], **changes}}).encode()


def by_column(**changes: JSON) -> bytes:
    return json.dumps({"inputs": {**WAYS["by column"]([ROW])["inputs"], **changes}}).encode()


BAD: list[tuple[str, bytes, str]] = [
    # the body
    ("an empty body", b"", "the body is invalid JSON, at line 1, column 1"),
    ("cut off", records(ROW)[:-1], f"the body is invalid JSON, at line 1, column {len(records(ROW))}"),
    ("a second line is wrong", b'{"inputs":\n [}', "the body is invalid JSON, at line 2, column 3"),
    (
        "more after the end",
        records(ROW) + b" 1",
        f"the body is invalid JSON, at line 1, column {len(records(ROW)) + 2}",
    ),
    ("single quotes", b"{'inputs': []}", "the body is invalid JSON, at line 1, column 2"),
    ("a control character", b'{"inputs": "\x01"}', "the body is invalid JSON, at line 1, column 13"),
    ("a byte order mark", b"\xef\xbb\xbf" + records(ROW), "the body is invalid JSON, at line 1, column 1"),
    ("no UTF-8", records(ROW).replace(b"ORD", b"\xff"), "the body is not UTF-8 text"),
    ("UTF-16", records(ROW).decode().encode("utf-16"), "the body is not UTF-8 text"),
    ("UTF-8 of a surrogate", records(ROW).replace(b"ORD", b"\xed\xa0\x80"), "the body is not UTF-8 text"),
    ("a deep list", b"[" * 100_000, "the body is nested too deeply"),
    ("a deep object", b'{"inputs":' * 100_000, "the body is nested too deeply"),
    (
        "a number of 5000 digits",
        holding("flight", "9" * 5000),
        "the body is invalid JSON: a number has too many digits",
    ),
    ("a form twice", b'{"inputs": [], "inputs": []}', "the body is invalid JSON: an object names a key twice"),
    ("a column twice", holding("flight", '1, "flight": 2'), "the body is invalid JSON: an object names a key twice"),
    ("a list", b"[]", NO_OBJECT.format("a list")),
    ("a text", b'"inputs"', NO_OBJECT.format("a text")),
    ("an integer", b"1", NO_OBJECT.format("an integer")),
    ("a number", b"1.5", NO_OBJECT.format("a number")),
    ("a truth value", b"true", NO_OBJECT.format("a truth value")),
    ("null", b"null", NO_OBJECT.format("null")),
    ("no form", b"{}", NOT_EXACTLY_ONE.format(0)),
    ("a misspelt form", json.dumps({"instance": [ROW]}).encode(), NOT_EXACTLY_ONE.format(0)),
    ("two forms", records(ROW, inputs=[ROW]), NOT_EXACTLY_ONE.format(2)),
    ("all forms", records(ROW, inputs=[], instances=[], dataframe_split={}), NOT_EXACTLY_ONE.format(4)),
    ("params", records(ROW, params={}), "the body has an unknown key"),
    (
        "a request id of 257",
        records(ROW, client_request_id="i" * 257),
        "client_request_id must have at most 256 characters",
    ),
    (
        "a request id that is a number",
        records(ROW, client_request_id=1),
        "client_request_id must be a text, not an integer",
    ),
    (
        "a request id with NUL",
        records(ROW, client_request_id="\0"),
        f"client_request_id {NO_TEXT}",
    ),
    # dataframe_split
    ("split: a list", b'{"dataframe_split": []}', "dataframe_split must be an object, not a list"),
    ("split: null", b'{"dataframe_split": null}', "dataframe_split must be an object, not null"),
    ("split: no data", b'{"dataframe_split": {"columns": []}}', "dataframe_split, data is missing"),
    ("split: no columns", b'{"dataframe_split": {"data": [[]]}}', "dataframe_split, columns is missing"),
    ("split: more", split(dtypes=[]), "dataframe_split has an unknown key"),
    ("split: columns are a text", split(columns="carrier"), "dataframe_split, columns must be a list, not a text"),
    ("split: data is an object", split(data={}), "dataframe_split, data must be a list, not an object"),
    ("split: index is null", split(index=None), "dataframe_split, index must be a list, not null"),
    ("split: index is too long", split(index=[0, 1]), "dataframe_split, index must be as long as data"),
    ("split: no rows", split(data=[]), "dataframe_split, data has no rows"),
    ("split: a row too many", split(data=[list(ROW.values())] * 4), "dataframe_split, data has more than 3 rows"),
    ("split: no row is a list", split(data=[ROW]), "dataframe_split, data, row 1 must be a list, not an object"),
    (
        "split: ragged",
        split(data=[list(ROW.values()), [1]]),
        "dataframe_split, data, row 2 must be as long as columns",
    ),
    (
        "split: a column twice",
        split(columns=[*without("origin"), "dest"]),
        "dataframe_split, columns names a column twice",
    ),
    (
        "split: a misspelt column",
        split(columns=["carier", *without("carrier")]),
        "dataframe_split, columns, item 1 is unknown; did you mean carrier?",
    ),
    (
        "split: a column is a number",
        split(columns=[1, *without("carrier")]),
        "dataframe_split, columns, item 1 is unknown",
    ),
    (
        "split: a column is null",
        split(columns=[None, *without("carrier")]),
        "dataframe_split, columns, item 1 is unknown",
    ),
    (
        "split: a column is a list",
        split(columns=[["carrier"], *without("carrier")]),
        "dataframe_split, columns, item 1 is unknown",
    ),
    (
        "split: a column is an object",
        split(columns=[{}, *without("carrier")]),
        "dataframe_split, columns, item 1 is unknown",
    ),
    ("split: nothing at all", split(columns=[], data=[[]]), "dataframe_split, column carrier is missing"),
    (
        "split: a wrong value",
        split(data=[["AA", 1.5, *list(ROW.values())[2:]]]),
        "dataframe_split, column flight, row 1 must be an integer, not a number",
    ),
    # by column
    ("by column: no columns", b'{"inputs": {}}', "inputs, column carrier is missing"),
    ("by column: a value", by_column(flight=1), "inputs, column flight must be a list, not an integer"),
    ("by column: an extra column", by_column(colour=["red"]), "inputs has an unknown key"),
    ("by column: a misspelt column", by_column(tail=[], flights=[1]), "inputs has an unknown key"),
    ("by column: other lengths", by_column(flight=[1, 2]), "inputs, all columns must have the same number of values"),
    ("by column: a row too many", by_column(flight=[1] * 4), "inputs, column flight has more than 3 rows"),
    (
        "by column: no rows",
        json.dumps({"inputs": {name: [] for name in ROW}}).encode(),
        "inputs, column carrier has no rows",
    ),
    ("by column: a missing column", b'{"inputs": {"flight": [1]}}', "inputs, column carrier is missing"),
    (
        "by column: a wrong value",
        by_column(flight=["7"]),
        "inputs, column flight, row 1 must be an integer, not a text",
    ),
    # a list of objects
    ("records: an object", b'{"dataframe_records": {}}', "dataframe_records must be a list, not an object"),
    ("inputs: a text", b'{"inputs": "AA"}', "inputs must be a list, not a text"),
    (
        "instances: by column",
        json.dumps({"instances": {"flight": [1]}}).encode(),
        "instances must be a list, not an object",
    ),
    ("records: no rows", records(), "dataframe_records has no rows"),
    ("inputs: no rows", b'{"inputs": []}', "inputs has no rows"),
    ("instances: no rows", b'{"instances": []}', "instances has no rows"),
    ("records: a row too many", records(*[ROW] * 4), "dataframe_records has more than 3 rows"),
    ("instances: a row too many", json.dumps({"instances": [ROW] * 4}).encode(), "instances has more than 3 rows"),
    (
        "records: a row is a list",
        records(ROW, list(ROW.values())),
        "dataframe_records, row 2 must be an object, not a list",
    ),
    (
        "instances: a row is null",
        b'{"instances": [null]}',
        "instances, row 1 must be an object, not null",
    ),
    (
        "records: an extra column",
        records(ROW, ROW | {"colour": 1}),
        "dataframe_records, row 2 has an unknown key",
    ),
    (
        "records: a misspelt column",
        records(without("distance") | {"distanse": 1}),
        "dataframe_records, row 1 has an unknown key; did you mean distance?",
    ),
    (
        "records: a column of 10,000 characters",
        records(ROW | {"distance" * 1250: 1}),
        "dataframe_records, row 1 has an unknown key",
    ),
    ("records: an empty row", records({}), "dataframe_records, row 1, column carrier is missing"),
    (
        "records: an empty row before others",
        records({}, ROW),
        "dataframe_records, row 1, column carrier is missing",
    ),
    (
        "records: an empty row after others",
        records(ROW, {}),
        "dataframe_records, row 2, column carrier is missing",
    ),
    (
        "records: a column not in every row",
        records(ROW, without("weather_visib")),
        "dataframe_records, row 2, column weather_visib must be in every row or in none",
    ),
    *(
        (f"no {name}", records(without(name)), f"dataframe_records, row 1, column {name} is missing")
        for name in USE_CASE.request
    ),
    # cells
    *(
        (f"null in {name}", holding(name, "null"), f"dataframe_records, row 1, column {name} must be {what}, not null")
        for name, what in (
            ("carrier", "a text"),
            ("flight", "an integer"),
        )
    ),
    *(
        (
            f"{text} in an integer",
            holding("flight", text),
            f"dataframe_records, row 1, column flight must be an integer, not {what}",
        )
        for text, what in (
            ("1.5", "a number"),
            ("1.0", "a number"),
            ("1e999", "a number"),
            ("true", "a truth value"),
            ('"7"', "a text"),
            ("[7]", "a list"),
            ("{}", "an object"),
        )
    ),
    *(
        (
            f"{text} in an integer",
            holding("flight", text),
            f"dataframe_records, row 1, column flight must be at {limit}",
        )
        for text, limit in ((str(2**63), f"most {2**63 - 1}"), (str(-(2**63) - 1), f"least -{2**63}"))
    ),
    (
        "the second row is wrong",
        records(ROW, ROW | {"flight": 0.5}),
        "dataframe_records, row 2, column flight must be an integer, not a number",
    ),
    *(
        (
            f"{text} in a number",
            holding("weather_visib", text),
            f"dataframe_records, row 1, column weather_visib must be a number, not {what}",
        )
        for text, what in (
            ("true", "a truth value"),
            ('"7.5"', "a text"),
            ('"NaN"', "a text"),
            ("[]", "a list"),
            ("{}", "an object"),
        )
    ),
    *(
        (f"{text} in a number", holding("weather_visib", text), NO_CONSTANT)
        for text in ("NaN", "Infinity", "-Infinity")
    ),
    *(
        (
            f"{text[:6]} in a number",
            holding("weather_visib", text),
            "dataframe_records, row 1, column weather_visib must be a finite number, and is too large",
        )
        for text in ("1e999", "-1e999", str(10**400), str(-(10**309)))
    ),
    *(
        (
            f"{text} in a text",
            holding("dest", text),
            f"dataframe_records, row 1, column dest must be a text, not {what}",
        )
        for text, what in (
            ("7", "an integer"),
            ("7.5", "a number"),
            ("false", "a truth value"),
            ("[]", "a list"),
            ("{}", "an object"),
        )
    ),
    *(
        (f"{what} in a text", holding("dest", text), f"dataframe_records, row 1, column dest {NO_TEXT}")
        for what, text in (
            ("NUL", r'"\u0000"'),
            ("NUL beside others", r'"é\u0000"'),
            ("half a surrogate pair", r'"\ud800"'),
            ("the other half", r'"ORD\udfff"'),
        )
    ),
    *(
        (f"{text or 'nothing'} as a time", holding("sched_dep_ts", f'"{text}"'), A_TIME)
        for text in (
            "",
            "now",
            "17:00",
            "2013",
            "2013-01",
            "2013-01-15",
            "20130115T170000Z",
            "2013-02-29T17:00:00",
            "2013-01-15T25:00",
            "2013-01-15T24:00",
            "2013-01-15T17:00:60Z",
            "2013-01-15T17:00-24:00",
            "2013-01-15T17:00 America/New_York",
            "15.01.2013",
            "1/15/2013",
            "2013-01-15 ",
            "2013-01-15x17:00",
            r"2013-01-15\u000017:00",
            r"2013-01-15\ud80017:00",
            "٢٠١٣-01-15",
        )
    ),
    *(
        (f"{text} as a time", holding("sched_dep_ts", text), A_TIME)
        for text in ("1358269200", "1.5", "true", "[]", "null")
    ),
    *(
        (f"{text} as a time", holding("sched_dep_ts", f'"{text}"'), A_TIME)
        for text in (
            "1899-12-31T23:59:59Z",
            "1900-01-01T00:59:59+01:00",
            "2200-01-01T00:00:00Z",
            "2199-12-31T23:30:00-01:00",
            "0002-01-01",
            "9998-12-31",
        )
    ),
    *(
        (f"{text} as a time", holding("sched_dep_ts", f'"{text}"'), A_TIME)
        for text in ("0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00")
    ),
]


@pytest.mark.parametrize(("body", "message"), [pytest.param(body, message, id=name) for name, body, message in BAD])
def test_a_caller_is_told_in_one_line_what_is_wrong(body: bytes, message: str) -> None:
    with pytest.raises(BadRequestError) as error:
        parser().parse(body)
    assert str(error.value) == message


def cells(request: ScoringRequest) -> dict[str, tuple[str, list[object]]]:
    return {name: (str(values.dtype), values.tolist()) for name, values in request.columns.items()}


@pytest.mark.parametrize("way", WAYS)
def test_each_form_gives_the_same_columns_in_the_order_of_its_rows(way: str) -> None:
    rows = [ROW, ROW | {"carrier": "Å", "flight": -(2**63), "weather_visib": None, "sched_dep_ts": "2013-06-01T00:00"}]
    rows += [ROW | {"flight": 2**63 - 1, "weather_visib": 7, "sched_dep_ts": "2013-01-15T12:00:00.000001-05:00"}]
    found = parsed(WAYS[way](rows))
    assert (found.rows, found.client_request_id) == (3, None)
    assert np.isnan(found.columns["weather_visib"][1])
    found.columns["weather_visib"][1] = -1
    assert cells(found) == {
        "carrier": ("object", ["AA", "Å", "AA"]),
        "flight": ("int64", [1, -(2**63), 2**63 - 1]),
        "origin": ("object", ["EWR"] * 3),
        "dest": ("object", ["ORD"] * 3),
        "distance": ("int64", [700] * 3),
        "sched_dep_ts": (
            "datetime64[us]",
            np.array(["2013-01-15T17:00", "2013-06-01", "2013-01-15T17:00:00.000001"], "datetime64[us]").tolist(),
        ),
        "sched_arr_time": ("int64", [900] * 3),
        "weather_visib": ("float64", [7.5, -1.0, 7.0]),
    }


GOOD_ROWS = st.fixed_dictionaries(
    {
        "carrier": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        "flight": st.integers(-(2**63), 2**63 - 1),
        "origin": st.just("EWR"),
        "dest": st.just("ORD"),
        "distance": st.integers(0, 5000),
        "sched_dep_ts": st.datetimes(
            min_value=np.datetime64("1900-01-01", "us").item(), max_value=np.datetime64("2199-12-31", "us").item()
        ).map(lambda time: time.isoformat()),
        "sched_arr_time": st.integers(0, 2400),
        "weather_visib": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    }
)


@given(st.lists(GOOD_ROWS, min_size=1, max_size=MAX_ROWS))
def test_a_row_means_the_same_in_each_form(rows: list[dict[str, JSON]]) -> None:
    found = {way: parsed(told(rows)).columns for way, told in WAYS.items()}
    for name in ROW:
        told = np.array([row[name] for row in rows], dtype=found["split"][name].dtype)
        for columns in found.values():
            np.testing.assert_array_equal(columns[name], told)


@pytest.mark.parametrize("way", WAYS)
def test_as_many_rows_as_allowed_are_read(way: str) -> None:
    assert parsed(WAYS[way]([ROW] * MAX_ROWS)).rows == MAX_ROWS


@pytest.mark.parametrize("rows", [1, 2])
def test_an_index_is_read_over(rows: int) -> None:
    told = WAYS["split"]([ROW] * rows)
    told["dataframe_split"]["index"] = [["anything", 1.5, None]] * rows
    assert parsed(told).rows == rows


@pytest.mark.parametrize(("identity", "kept"), [("i" * 256, "i" * 256), ("Å", "Å"), ("", ""), (None, None)])
def test_a_client_may_name_its_request(identity: str | None, kept: str | None) -> None:
    assert parsed({"instances": [ROW], "client_request_id": identity}).client_request_id == kept


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("1900-01-01T00:00:00Z", "1900-01-01T00:00"),
        ("1900-01-01T01:00:00+01:00", "1900-01-01T00:00"),
        ("2199-12-31T23:59:59.999999Z", "2199-12-31T23:59:59.999999"),
        ("2199-12-31T22:59:59-01:00", "2199-12-31T23:59:59"),
        ("2013-01-15 17:00", "2013-01-15T17:00"),
        ("2013-01-15T17:00:00", "2013-01-15T17:00"),
        ("2013-01-15T17:00:00.5+05:30", "2013-01-15T11:30:00.5"),
    ],
)
def test_a_time_is_read_in_utc(text: str, utc: str) -> None:
    assert parsed({"instances": [ROW | {"sched_dep_ts": text}]}).columns["sched_dep_ts"] == np.datetime64(utc)


OTHERS = Signature(
    inputs=(
        Column(name="small", type="integer"),
        Column(name="single", type="float", required=False),
        Column(name="truth", type="boolean"),
        Column(name="word", type="string", required=False),
        Column(name="time", type="datetime", required=False),
    ),
    outputs=(),
)
OTHER_ROW: dict[str, JSON] = {
    "small": 2**31 - 1,
    "single": 3.4e38,
    "truth": True,
    "word": "a",
    "time": "2013-01-15T00:00:00",
}


def test_every_type_of_a_signature_has_its_own_array() -> None:
    rows = [OTHER_ROW, {"small": -(2**31), "single": None, "truth": False, "word": None, "time": None}]
    columns = parser(signature=OTHERS).parse(records(*rows)).columns
    kinds = {name: str(values.dtype) for name, values in columns.items()}
    assert kinds == {
        "small": "int32",
        "single": "float32",
        "truth": "bool",
        "word": "object",
        "time": "datetime64[us]",
    }
    assert (columns["small"][1], columns["truth"][1], columns["word"][1]) == (-(2**31), False, None)
    assert np.isnan(columns["single"][1])
    assert np.isnat(columns["time"][1])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("small", 2**31, "dataframe_records, row 1, column small must be at most 2147483647"),
        ("small", -(2**31) - 1, "dataframe_records, row 1, column small must be at least -2147483648"),
        ("single", 3.5e38, "dataframe_records, row 1, column single must be at most 3.4028234663852886e+38"),
        ("truth", 1, "dataframe_records, row 1, column truth must be true or false, not an integer"),
        ("truth", None, "dataframe_records, row 1, column truth must be true or false, not null"),
    ],
)
def test_smaller_types_have_smaller_ranges(column: str, value: JSON, message: str) -> None:
    with pytest.raises(BadRequestError) as error:
        parser(signature=OTHERS).parse(records(OTHER_ROW | {column: value}))
    assert str(error.value) == message


def test_a_column_that_json_cannot_carry_is_refused_before_any_request() -> None:
    with pytest.raises(ValueError, match="column picture is of type binary, which a JSON request cannot carry"):
        parser(signature=Signature(inputs=(Column(name="picture", type="binary"),), outputs=()))


NEGATIVE = "distance is not positive"
ARRIVES = "sched_arr_time is not a time of day"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"distance": value}, NEGATIVE) for value in (-(2**63), -5, 0)),
        *(({"distance": value}, None) for value in (1, 2**63 - 1)),
        *(({"sched_arr_time": value}, None) for value in (0, 1, 1459, 2359, 2400)),
        *(({"sched_arr_time": value}, ARRIVES) for value in (-(2**63), -1, 1460, 1499, 2401, 2**63 - 1)),
        ({"weather_visib": None}, None),
        ({"distance": 0, "sched_arr_time": 2401}, ARRIVES),  # one reason is enough: the first rule's
    ],
)
def test_a_row_that_ingest_would_reject_is_refused_by_its_number(
    way: str, changes: dict[str, JSON], reason: str | None
) -> None:
    for before in range(MAX_ROWS):
        body = WAYS[way]([*[ROW] * before, ROW | changes])
        if reason is None:
            assert parsed(body, RULES).rows == before + 1
        else:
            with pytest.raises(BadRequestError) as error:
                parsed(body, RULES)
            assert str(error.value) == f"row {before + 1}: {reason}"
    assert parsed(WAYS[way]([ROW | changes])).rows == 1  # without rules


def test_the_first_row_that_breaks_a_rule_is_told() -> None:
    bad = ROW | {"distance": 0}
    with pytest.raises(BadRequestError, match=f"^row 2: {NEGATIVE}$"):
        parsed({"inputs": [ROW, bad, bad]}, RULES)


def test_a_value_of_another_type_is_told_before_any_rule() -> None:
    with pytest.raises(BadRequestError, match=r"^inputs, row 2, column distance must be an integer, not a number$"):
        parsed({"inputs": [ROW | {"distance": 0}, ROW | {"distance": 1.5}]}, RULES)


ALWAYS = np.ones(1, dtype=bool)
LOW = Rule(reason="visibility is below 1", columns=("weather_visib",), broken=lambda visibility: visibility < 1)
UNKNOWN = Rule(reason="never judged", columns=("distance", "dep_delay"), broken=lambda *_: ALWAYS)
BOTH = Rule(
    reason="short and foggy",
    columns=("weather_visib", "distance"),
    broken=lambda visibility, distance: (visibility < 2) & (distance < 100),
)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW | {"weather_visib": 0.9}, "visibility is below 1"),
        (ROW | {"weather_visib": 1}, None),
        (ROW | {"weather_visib": 1.1}, None),
        (ROW | {"weather_visib": 1.9, "distance": 99}, "short and foggy"),
        (ROW | {"weather_visib": 1.9, "distance": 100}, None),
        (ROW | {"weather_visib": 2, "distance": 99}, None),
        (ROW | {"weather_visib": None, "distance": 1}, None),
        (without("weather_visib") | {"distance": 1}, None),
        (without("weather_visib") | {"distance": 0}, NEGATIVE),
    ],
)
def test_a_rule_about_a_column_that_is_not_there_is_not_judged(row: dict[str, JSON], reason: str | None) -> None:
    rules = (UNKNOWN, LOW, BOTH, *RULES)
    if reason is None:
        assert parsed({"inputs": [row]}, rules).rows == 1
    else:
        with pytest.raises(BadRequestError, match=f"^row 1: {reason}$"):
            parsed({"inputs": [row]}, rules)


MARK = "zebra"
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()).map(MARK.__add__),
        st.sampled_from([2**63, 10**400, "2013-01-15", "AA", "carrier", *ROW, *WAYS]),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text().map(MARK.__add__) | st.sampled_from([*ROW, "dataframe_split"]), inner, max_size=4)
    ),
)


def places(body: JSON, *path: JSON) -> list[tuple[JSON, ...]]:
    """Where something else could stand: each value of `body`, and beside each value of an object."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    beside = [(*path, MARK)] if isinstance(body, dict) else []
    return [path, *beside, *(place for key, value in inner for place in places(value, *path, key))]


def placed(body: JSON, path: tuple[JSON, ...], value: JSON) -> JSON:
    if not path:
        return value
    changed = body.copy()
    changed[path[0]] = placed(body.get(path[0]) if isinstance(body, dict) else body[path[0]], path[1:], value)
    return changed


@settings(max_examples=500)
@given(st.data(), st.sampled_from(sorted(WAYS)), ANYTHING)
def test_whatever_stands_anywhere_is_read_or_refused_and_never_told_again(
    data: st.DataObject, way: str, anything: JSON
) -> None:
    body = WAYS[way]([ROW, ROW]) | {"client_request_id": "mine"}
    body = placed(body, data.draw(st.sampled_from(places(body)), label="place"), anything)
    try:
        found = parsed(body, RULES)
    except BadRequestError as error:
        assert MARK not in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert {*USE_CASE.request} <= set(found.columns) <= {*USE_CASE.inputs}
        assert {len(values) for values in found.columns.values()} == {found.rows}


@given(st.binary() | st.text().map(str.encode))
def test_whatever_bytes_come_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        parser().parse(body)
