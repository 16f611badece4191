"""Every delivered row becomes a typed row or a reject with its reasons."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core import quarantine
from flight_delays.core.columns import UTC_TIME, Columns
from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract, Field, check_columns, inspect, inspected, read
from flight_delays.core.rules import Rule, about, broken

Texts: TypeAlias = tuple[str | None, ...]

NEGATIVE = Rule(reason="weight is negative", columns=("weight",), broken=lambda weight: weight < 0)
TOO_MUCH = Rule(reason="half is too much", columns=("half",), broken=lambda half: half >= 100)
CONTRACT = Contract(
    table="raw_things",
    key=("id",),
    fields={
        "id": Field(source="ID", type=pa.string(), required=True),
        "seats": Field(source="seats", type=pa.int32(), required=True),
        "weight": Field(source="weight", type=pa.float64()),
    },
    derived={"half": pa.float64()},
    derive=lambda things: {"half": things["seats"] / 2},
    rules=(NEGATIVE, TOO_MUCH),
    columns=("id", "half", "weight"),
)
COLUMNS = ("ID", "seats", "weight", "note")
SEATS, WEIGHT = "seats is not a whole number of 32 bits: ", "weight is not a finite number: "
# Row as delivered; id, half and weight as typed; and why it is rejected.
DELIVERED: list[tuple[Texts, tuple[object, ...], list[str]]] = [
    (("a", "10", "2.5", "all good"), ("a", 5.0, 2.5), []),
    (("b", "10", None, "nothing optional"), ("b", 5.0, None), []),
    (("c", "10", "0", "at the limit"), ("c", 5.0, 0.0), []),
    (("d", "10", "-0.1", "below it"), ("d", 5.0, -0.1), ["weight is negative"]),
    (("e", None, "1", "a required one missing"), ("e", None, 1.0), ["seats is missing"]),
    (("f", "ten", "1", "unreadable and required"), ("f", None, 1.0), [SEATS + "ten"]),
    (("g", "10", "heavy", "unreadable and optional"), ("g", 5.0, None), [WEIGHT + "heavy"]),
    (("g", "10", "NaN", "no number"), ("g", 5.0, None), [WEIGHT + "NaN"]),
    (("g", "10", "-Infinity", "no number either"), ("g", 5.0, None), [WEIGHT + "-Infinity"]),
    (("h", "99999999999", "1", "too long for its type"), ("h", None, 1.0), [SEATS + "99999999999"]),
    (("i", "199", "1", "below the other limit"), ("i", 99.5, 1.0), []),
    (("i", "200", "1", "at the other limit"), ("i", 100.0, 1.0), ["half is too much"]),
    (("i", "200", "-1", "two rules"), ("i", 100.0, -1.0), ["weight is negative", "half is too much"]),
    (("j", "x", "-1", "no rule is judged"), ("j", None, -1.0), [SEATS + "x"]),
    ((None, "200", "-1", "nor here"), (None, None, -1.0), ["ID is missing"]),
    ((None, "x", "y", "all at once"), (None, None, None), ["ID is missing", SEATS + "x", WEIGHT + "y"]),
    ((None, None, None, None), (None, None, None), ["ID is missing", "seats is missing"]),
    (("k", "10", "1", "a repeat is not noticed here"), ("k", 5.0, 1.0), []),
    (("k", "10", "1", "a repeat is not noticed here"), ("k", 5.0, 1.0), []),
]


def delivery(rows: list[Texts], columns: Texts = COLUMNS) -> pa.RecordBatch:
    texts = [pa.array([row[at] for row in rows], pa.string()) for at in range(len(columns))]
    return pa.RecordBatch.from_arrays(texts, names=list(columns))


def typed(found: pa.RecordBatch, contract: Contract = CONTRACT) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in contract.columns) for row in found.to_pylist()]


def reasons(found: pa.RecordBatch) -> list[list[str]]:
    told: list[list[str]] = found["reasons"].to_pylist()
    return told


def test_every_delivered_row_comes_out_once_in_its_place_with_its_values_and_its_reasons() -> None:
    found = inspect(delivery([row for row, _, _ in DELIVERED]), CONTRACT)
    assert typed(found) == [values for _, values, _ in DELIVERED]
    assert reasons(found) == [why for _, _, why in DELIVERED]
    assert found.schema == inspected(CONTRACT)
    assert found.schema.names == ["id", "half", "weight", "source_row", "reasons"]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="nothing"),
        pytest.param([row for row, _, why in DELIVERED if why], id="bad rows alone"),
        pytest.param([row for row, _, why in DELIVERED if not why], id="good rows alone"),
        pytest.param([(None, None, None, None)], id="nulls alone"),
    ],
)
def test_a_batch_may_hold(rows: list[Texts]) -> None:
    expected = {row: (values, why) for row, values, why in DELIVERED}
    found = inspect(delivery(rows), CONTRACT)
    assert list(zip(typed(found), reasons(found), strict=True)) == [expected[row] for row in rows]
    assert found.schema == inspected(CONTRACT)


def test_a_table_in_pieces_is_inspected_like_a_batch() -> None:
    rows = [row for row, _, _ in DELIVERED]
    pieces = pa.Table.from_batches([delivery(rows[:3]), delivery([]), delivery(rows[3:])])
    assert inspect(pieces, CONTRACT, sources=True).equals(inspect(delivery(rows), CONTRACT, sources=True))


@pytest.mark.parametrize("sources", [False, True])
def test_the_source_of_a_row_is_what_was_delivered_without_nulls(sources: bool) -> None:
    rows = [
        ("å", "10", "1", 'with "quotes"'),
        ("b", "10", None, None),
        (None, "ten", None, "a reject"),
        (None, None, None, None),
    ]
    found = inspect(delivery(rows), CONTRACT, sources=sources)["source_row"].to_pylist()
    good = ['{"ID":"å","seats":"10","weight":"1","note":"with \\"quotes\\""}', '{"ID":"b","seats":"10"}']
    assert found == [*(good if sources else [None, None]), '{"seats":"ten","note":"a reject"}', "{}"]


def test_a_contract_may_derive_nothing_and_have_no_rules() -> None:
    bare = Contract(table="raw_things", key=("id",), fields=CONTRACT.fields, columns=("id", "seats", "weight"))
    found = inspect(delivery([("a", "10", "-1", None), (None, None, None, None)]), bare)
    assert typed(found, bare) == [("a", 10, -1.0), (None, None, None)]
    assert reasons(found) == [[], ["ID is missing", "seats is missing"]]
    assert [str(field.type) for field in bare.schema] == ["string", "int32", "double"]


def test_columns_are_derived_of_the_rows_that_have_all_that_is_required() -> None:
    given: list[list[str]] = []

    def derive(things: Columns) -> Columns:
        given.append(things["id"].tolist())
        return {"half": things["seats"] // 2}

    whole = replace(CONTRACT, derived={"half": pa.int32()}, derive=derive)
    rows = [("a", None, "1", None), ("b", "11", None, None), (None, "7", "1", None), ("c", "x", "1", None)]
    found = inspect(delivery([*rows, ("d", "-4", "bad, but optional", None)]), whole)
    assert given == [["b", "d"]]
    assert found["half"].to_pylist() == [None, 5, None, None, -2]
    assert found["half"].type == pa.int32()


OPTIONAL = Contract(
    table="raw_optional",
    key=("id",),
    fields={
        "id": Field(source="id", type=pa.string(), required=True),
        "number": Field(source="number", type=pa.int32()),
        "measure": Field(source="measure", type=pa.float64()),
        "time": Field(source="time", type=UTC_TIME),
        "day": Field(source="day", type=pa.date32()),
    },
    rules=(
        Rule(reason="number is below 5", columns=("number",), broken=lambda number: number < 5),
        Rule(reason="measure is above 5", columns=("measure",), broken=lambda measure: measure > 5),
        Rule(reason="before 2013", columns=("time",), broken=lambda time: time < np.datetime64("2013")),
        Rule(reason="after 2013", columns=("day",), broken=lambda day: day > np.datetime64("2013-12-31")),
        Rule(reason="above the number", columns=("measure", "number"), broken=lambda measure, of: measure > of),
    ),
    columns=("id", "number", "measure", "time", "day"),
)


@pytest.mark.parametrize(
    ("number", "measure", "time", "day", "why"),
    [
        ("5", "5", "2013-01-01T00:00:00Z", "2013-12-31", []),
        ("4", None, None, None, ["number is below 5"]),
        ("6", "5.1", None, None, ["measure is above 5"]),
        (None, "5.1", None, None, ["measure is above 5"]),
        (None, None, "2012-12-31T23:59:59.999999Z", None, ["before 2013"]),
        (None, None, None, "2014-01-01", ["after 2013"]),
        ("4", "4.1", None, None, ["number is below 5", "above the number"]),
        (None, None, None, None, []),
    ],
)
def test_a_comparison_with_null_breaks_no_rule(
    number: str | None, measure: str | None, time: str | None, day: str | None, why: list[str]
) -> None:
    row = ("a", number, measure, time, day)
    found = inspect(delivery([row, ("null", *[None] * 4)], tuple(OPTIONAL.fields)), OPTIONAL)
    assert reasons(found) == [why, []]


NOT_READ = object()
SOME_TIME = datetime(2013, 1, 15, 17, tzinfo=UTC)
# Of each type, texts and what they say.
READ: list[tuple[pa.DataType, str, object]] = [
    *((pa.string(), text, text) for text in ("UA", " UA ", "", "NaN", "null", "10.5", "å\0")),
    *((kind, "10", 10) for kind in (pa.int32(), pa.int64())),
    *((kind, " 10 ", 10) for kind in (pa.int32(), pa.int64())),
    *((kind, "\t-10\n", -10) for kind in (pa.int32(), pa.int64())),
    *((kind, "10.0", 10) for kind in (pa.int32(), pa.int64())),
    *((kind, " -10.000 ", -10) for kind in (pa.int32(), pa.int64())),
    *((kind, "0010", 10) for kind in (pa.int32(), pa.int64())),
    *(
        (kind, text, NOT_READ)
        for kind in (pa.int32(), pa.int64())
        for text in (
            *("10.5", "-0.5", "0.999", "10.0000000000000000001", ".0", "ten", "", " ", "1 0", "1,000", "--1", "1_0"),
            *("NaN", "Infinity", "٣", "1.05e1", "1e400", "1e99", "e1"),
        )
    ),
    # An exponent that leaves it whole.
    *((pa.int64(), text, value) for text, value in (("1.0E7", 10_000_000), ("1.5e1", 15), ("1e3", 1_000))),
    (pa.int32(), "2147483647", 2**31 - 1),
    (pa.int32(), "2147483648", NOT_READ),
    (pa.int32(), "2147483647.0", 2**31 - 1),
    (pa.int32(), "2147483648.0", NOT_READ),
    (pa.int32(), "-2147483648", -(2**31)),
    (pa.int32(), "-2147483648.0", -(2**31)),
    (pa.int32(), "-2147483649", NOT_READ),
    (pa.int32(), "-2147483649.0", NOT_READ),
    (pa.int64(), "9223372036854775807", 2**63 - 1),
    (pa.int64(), "9223372036854775808", NOT_READ),
    (pa.int64(), "9223372036854775808.0", NOT_READ),
    (pa.int64(), "-9223372036854775808", -(2**63)),
    (pa.int64(), "-9223372036854775809", NOT_READ),
    (pa.int64(), "9007199254740993.0", 2**53 + 1),
    (pa.int64(), "9223372036854775807.0", 2**63 - 1),
    (pa.int64(), "-9223372036854775808.0", -(2**63)),
    *((pa.float64(), text, 2.5) for text in ("2.5", " 2.5 ", "2.50", "25e-1")),
    *((pa.float64(), text, 10.0) for text in ("10", "10.", "1e1", "1.0E1")),
    (pa.float64(), "-0.0", 0.0),
    (pa.float64(), "1.7976931348623157e308", 1.7976931348623157e308),
    (pa.float64(), "1e309", NOT_READ),
    (pa.float64(), "-1e309", NOT_READ),
    *((pa.float64(), text, NOT_READ) for text in ("NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "-inf")),
    *((pa.float64(), text, NOT_READ) for text in ("heavy", "", " ", "1,5", "2.5kg", "0x1p3", "1_0.5")),
    *((pa.bool_(), text, True) for text in ("true", "True", "TRUE", " true ")),
    *((pa.bool_(), text, False) for text in ("false", "False", " false")),
    *((pa.bool_(), text, NOT_READ) for text in ("yes", "t", "", "2", "truee")),
    *((pa.date32(), text, date(2013, 1, 15)) for text in ("2013-01-15", " 2013-01-15 ")),
    (pa.date32(), "2012-02-29", date(2012, 2, 29)),
    (pa.date32(), "2013-02-29", NOT_READ),
    (pa.date32(), "1699-12-31", NOT_READ),
    (pa.date32(), "1700-01-01", date(1700, 1, 1)),
    (pa.date32(), "2199-12-31", date(2199, 12, 31)),
    *(
        (pa.date32(), text, NOT_READ)
        for text in ("2200-01-01", "0000-06-01", "0001-01-01", "9999-12-31", "10000-01-01")
    ),
    *((pa.date32(), text, NOT_READ) for text in ("15.01.2013", "1/15/2013", "2013-13-01", "2013", "today", "")),
    *(
        (UTC_TIME, text, SOME_TIME)
        for text in (
            *("2013-01-15T17:00:00Z", " 2013-01-15T17:00:00Z ", "2013-01-15 17:00:00Z", "2013-01-15T12:00:00-05:00"),
            *("2013-01-15T22:30:00+0530", "2013-01-16T02:00:00+09:00", "2013-01-15T17:00:00", "2013-01-15 17:00"),
        )
    ),
    (UTC_TIME, "2013-01-15", datetime(2013, 1, 15, tzinfo=UTC)),
    (UTC_TIME, "2013-01-15T17:00:00.5Z", SOME_TIME.replace(microsecond=500_000)),
    (UTC_TIME, "2013-01-15T17:00:00.123456Z", SOME_TIME.replace(microsecond=123_456)),
    (UTC_TIME, "2013-01-15T17:00:00.123456", SOME_TIME.replace(microsecond=123_456)),
    (UTC_TIME, "2013-01-15T17:00:00.1234567Z", SOME_TIME.replace(microsecond=123_456)),  # cut off
    (UTC_TIME, "1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    (UTC_TIME, "1699-12-31T23:59:59.999999Z", NOT_READ),
    (UTC_TIME, "1700-01-01T00:00:00Z", datetime(1700, 1, 1, tzinfo=UTC)),
    (UTC_TIME, "2199-12-31T23:59:59.999999", datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    (UTC_TIME, "2199-12-31T23:59:59.999999-00:01", NOT_READ),
    *((UTC_TIME, f"{year}-06-01T00:00:00Z", NOT_READ) for year in ("0000", "0001", "2200", "9999")),
    *(
        (UTC_TIME, text, NOT_READ)
        for text in (
            *("yesterday", "", "17:00", "2013-02-29T17:00:00Z", "2013-01-15T25:00:00Z", "2013-01-15T17:00:60Z"),
            *("15.01.2013 17:00", "1358269200", "2013-01-15T17:00:00 America/New_York"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ, ids=[f"{kind}-{text!r}" for kind, text, _ in READ])
@pytest.mark.parametrize("others", [(), ("?",), ("10", "2013-01-15")], ids=["alone", "beside rubbish", "beside others"])
def test_a_text_is_read_as_a_type_whatever_stands_beside_it(
    kind: pa.DataType, text: str, value: object, others: tuple[str, ...]
) -> None:
    found = read(pa.array([text, None, *others, text], pa.string()), kind)
    assert found.type == kind
    first, null, *_, last = found.to_pylist()
    assert null is None
    assert first == last == (None if value is NOT_READ else value)
    assert type(first) is type(None if value is NOT_READ else value)


def test_texts_of_every_type_are_read_and_of_all_but_text_some_are_not() -> None:
    kinds = {*quarantine._NAMES}
    assert {kind for kind, _, value in READ if value is not NOT_READ} == kinds
    assert {kind for kind, _, value in READ if value is NOT_READ} == kinds - {pa.string()}


@pytest.mark.parametrize("kind", quarantine._NAMES, ids=str)
def test_nulls_alone_are_of_any_type(kind: pa.DataType) -> None:
    for rows in (0, 1, 3):
        found = read(pa.array([None] * rows, pa.string()), kind)
        assert (found.type, found.to_pylist()) == (kind, [None] * rows)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (pa.int32(), "10.5", "thing is not a whole number of 32 bits: 10.5"),
        (pa.float64(), "heavy", "thing is not a finite number: heavy"),
        (pa.float64(), "Infinity", "thing is not a finite number: Infinity"),
        (pa.bool_(), "perhaps", "thing is not true or false: perhaps"),
        (pa.date32(), "2013-02-29", "thing is not a date like 2013-01-31, from 1700 to 2199: 2013-02-29"),
        (pa.date32(), "1699-12-31", "thing is not a date like 2013-01-31, from 1700 to 2199: 1699-12-31"),
        (UTC_TIME, "yesterday", "thing is not a time like 2013-01-31T12:00:00Z, from 1700 to 2199: yesterday"),
        (UTC_TIME, "", "thing is not a time like 2013-01-31T12:00:00Z, from 1700 to 2199: "),
        (pa.int32(), None, "thing is missing"),
        (pa.string(), None, "thing is missing"),
    ],
)
@pytest.mark.parametrize("required", [False, True])
def test_a_reject_says_what_a_text_is_not(kind: pa.DataType, text: str | None, why: str, required: bool) -> None:
    fields = {"typed": Field(source="thing", type=kind, required=required)}
    contract = Contract(table="raw_things", key=("typed",), fields=fields, columns=("typed",))
    found = inspect(delivery([(text,), (None,)], ("thing",)), contract)
    missing = ["thing is missing"] if required else []
    assert reasons(found) == [[why] if text is not None else missing, missing]
    assert found["typed"].to_pylist() == [None, None]
    assert found["typed"].type == kind


WHOLE, UP_TO = "number is not a whole number of 64 bits: ", "number is not a whole number up to 2^53: "


@pytest.mark.parametrize(
    ("text", "value", "required_why", "optional_why"),
    [
        ("9007199254740992", 2**53, [], []),
        ("-9007199254740992", -(2**53), [], []),
        ("9007199254740993", 2**53 + 1, [], [UP_TO + "9007199254740993"]),
        ("-9007199254740993", -(2**53) - 1, [], [UP_TO + "-9007199254740993"]),
        ("9007199254740993.0", 2**53 + 1, [], [UP_TO + "9007199254740993.0"]),
        ("9223372036854775807", 2**63 - 1, [], [UP_TO + "9223372036854775807"]),
        ("9223372036854775808", None, [WHOLE + "9223372036854775808"], [UP_TO + "9223372036854775808"]),
        ("10.5", None, [WHOLE + "10.5"], [UP_TO + "10.5"]),
    ],
)
@pytest.mark.parametrize("others", [(), (None,), (None, "ten")], ids=["alone", "beside null", "beside rubbish"])
def test_a_number_that_may_be_null_is_at_most_what_float64_holds_exactly_whatever_stands_beside_it(
    text: str, value: int | None, required_why: list[str], optional_why: list[str], others: Texts
) -> None:
    for required, why in ((True, required_why), (False, optional_why)):
        fields = {"number": Field(source="number", type=pa.int64(), required=required)}
        contract = Contract(table="raw_things", key=("number",), fields=fields, columns=("number",))
        found = inspect(delivery([(text,), *((other,) for other in others)], ("number",)), contract)
        assert reasons(found)[0] == why
        assert found["number"][0].as_py() == (None if why else value)
        assert found["number"].type == pa.int64()


@pytest.mark.parametrize(
    ("columns", "lacking"),
    [
        (("ID", "seats", "weight"), None),
        (("note", "weight", "seats", "ID"), None),
        (("ID", "weight"), "seats"),
        (("seats",), "ID, weight"),
        (("id", "seats", "weight"), "ID"),
        ((), "ID, seats, weight"),
    ],
)
def test_a_delivery_that_lacks_columns_is_refused_by_their_names(columns: Texts, lacking: str | None) -> None:
    nulls = delivery([tuple(None for _ in columns)], columns)
    if lacking is None:
        check_columns(nulls.schema.names, CONTRACT)
        assert inspect(nulls, CONTRACT).num_rows == 1
        return
    message = f"^{re.escape(f'the source of raw_things has no column {lacking}; fix the contract in the use case')}$"
    with pytest.raises(UserError, match=message):
        check_columns(nulls.schema.names, CONTRACT)
    with pytest.raises(UserError, match=message):
        inspect(nulls, CONTRACT)


BOTH = Rule(reason="weight is above half", columns=("weight", "half"), broken=lambda weight, half: weight > half)


@pytest.mark.parametrize(
    ("columns", "rules"),
    [
        ((), ()),
        (("seats",), ()),
        (("weight",), (NEGATIVE,)),
        (("half", "seats"), (TOO_MUCH,)),
        (("half", "weight"), (BOTH, NEGATIVE, TOO_MUCH)),
        (("id", "half", "seats", "weight"), (BOTH, NEGATIVE, TOO_MUCH)),
    ],
)
def test_rules_about_some_columns_need_no_other(columns: tuple[str, ...], rules: tuple[Rule, ...]) -> None:
    assert about((BOTH, NEGATIVE, TOO_MUCH), columns) == rules
    assert about((), columns) == ()


@pytest.mark.parametrize(
    ("rule", "breaks"),
    [
        (NEGATIVE, [False, False, True, False]),
        (TOO_MUCH, [False, True, False, False]),
        (BOTH, [True, False, False, False]),
    ],
)
def test_a_rule_is_given_its_columns_in_its_order(rule: Rule, breaks: list[bool]) -> None:
    columns = {"half": np.array([0.5, 100, 1, np.nan]), "weight": np.array([0.6, 0, -0.1, np.nan]), "id": np.arange(4)}
    assert broken(rule, columns).tolist() == breaks
    assert broken(rule, {name: values[:0] for name, values in columns.items()}).tolist() == []


ALL_TYPES = Contract(
    table="raw_types",
    key=("text",),
    fields={
        "text": Field(source="text", type=pa.string(), required=True),
        "small": Field(source="small", type=pa.int32()),
        "large": Field(source="large", type=pa.int64(), required=True),
        "other": Field(source="other", type=pa.int64()),
        "number": Field(source="number", type=pa.float64()),
        "truth": Field(source="truth", type=pa.bool_()),
        "day": Field(source="day", type=pa.date32()),
        "time": Field(source="time", type=UTC_TIME, required=True),
    },
    derived={"next": UTC_TIME},
    derive=lambda row: {"next": row["time"] + np.timedelta64(1, "h")},
    rules=(
        Rule(reason="small is above large", columns=("small", "large"), broken=lambda small, large: small > large),
        Rule(reason="number is negative", columns=("number",), broken=lambda number: number < 0),
    ),
    columns=("text", "small", "large", "other", "number", "truth", "day", "time", "next"),
)
ANY_TEXT = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from([text for _, text, _ in READ]),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(str),
    st.datetimes().map(datetime.isoformat),
    st.sampled_from(["0000-01-01", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]),
)
GOOD_ROW = ("a", "1", "2", "3", "3.5", "true", "2013-01-15", "2013-01-15T17:00:00Z")
ANY_ROW = st.tuples(*(st.just(good) | ANY_TEXT for good in GOOD_ROW))


@given(st.lists(ANY_ROW, max_size=6))
def test_any_row_of_text_comes_out_typed_or_with_a_reason_whatever_stands_beside_it(rows: list[Texts]) -> None:
    columns: Any = tuple(ALL_TYPES.fields)
    found = inspect(delivery(rows, columns), ALL_TYPES, sources=True)
    assert found.num_rows == len(rows)
    for at, row in enumerate(rows):
        one = found.slice(at, 1)
        assert one.equals(inspect(delivery([row], columns), ALL_TYPES, sources=True))
        given = {name: text for name, text in zip(columns, row, strict=True) if text is not None}
        assert json.loads(one["source_row"][0].as_py()) == given
        if not reasons(one)[0]:
            assert {name for name in columns if one[name].null_count == 0} == {*given}
            assert {"text", "large", "time"} <= {*given}
            assert one["next"].null_count == 0


def test_a_field_of_a_type_that_no_text_is_read_as_is_refused_where_it_is_declared() -> None:
    with pytest.raises(
        ValueError, match=r"^seats: halffloat cannot be read; it is one of string, int32, int64, double"
    ):
        Field(source="seats", type=pa.float16())
