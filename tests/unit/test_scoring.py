"""Which rows can't be scored, what a model is given, and the rows of the tables that come of it."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from flight_delays.core.columns import UTC_TIME, Rows
from flight_delays.core.scoring import PREDICTIONS, REJECTS, inputs_of, predictions, problems, rejects
from flight_delays.core.signature import Column, Signature

SIGNATURE = Signature(
    inputs=(
        Column(name="name", type="string"),
        Column(name="size", type="double"),
        Column(name="count", type="long", required=False),
        Column(name="temp", type="double", required=False),
        Column(name="at", type="datetime", required=False),
    ),
    outputs=(Column(name="prediction", type="double"),),
)
NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        *(("entity_id", pa.string()), ("prediction_ts", UTC_TIME), ("name", pa.string()), ("size", pa.float64())),
        *(("count", pa.int64()), ("temp", pa.float64()), ("at", UTC_TIME), ("day", pa.date32())),
    ]
)
GOOD = {"entity_id": "é1", "prediction_ts": NOON, "name": "é", "size": 1.5, "count": 7, "temp": 2.5, "at": NOON}
VERSION = {"model_name": "m", "model_version": 3, "source": "batch"}
FIRST, LAST = datetime(1700, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
INFINITE, NAN = float("inf"), float("nan")


def rows(*changes: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist([GOOD | change for change in changes], SCHEMA)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, []),
        ({"name": "never seen"}, []),
        ({"name": ""}, []),
        ({"count": None, "temp": None, "at": None}, []),
        ({"temp": NAN}, []),
        ({"name": None}, ["name is missing"]),
        ({"size": None}, ["size is missing"]),
        ({"size": NAN}, ["size is not a number"]),
        ({"size": INFINITE}, ["size is infinite"]),
        ({"temp": -INFINITE}, ["temp is infinite"]),
        ({"temp": 1e308}, []),
        ({"at": FIRST - MICROSECOND}, ["at is not between 1700 and 2200"]),
        ({"at": FIRST}, []),
        ({"at": LAST}, []),
        ({"at": LAST + MICROSECOND}, ["at is not between 1700 and 2200"]),
        ({"temp": INFINITE, "name": None, "size": None}, ["name is missing", "size is missing", "temp is infinite"]),
    ],
)
def test_a_row_that_cannot_be_scored_says_why(change: dict[str, object], why: list[str]) -> None:
    table = rows({}, change, {})
    assert problems(SIGNATURE, table) == [[], why, []]
    assert problems(SIGNATURE, table.to_batches()[0]) == [[], why, []]


def test_no_rows_have_no_problems_and_are_no_predictions() -> None:
    none = rows()
    assert problems(SIGNATURE, none) == []
    assert predictions(none, {"prediction": np.array([])}, scored_at=NOON, run_id=None, **VERSION).num_rows == 0
    assert rejects(none, [], **VERSION).num_rows == 0


def test_narrower_columns_are_taken_for_the_declared_ones() -> None:
    narrow = rows({}, {"count": None})
    for name, kind in (("count", pa.int8()), ("size", pa.float32())):
        at = narrow.schema.get_field_index(name)
        narrow = narrow.set_column(at, name, narrow[name].cast(kind))
    assert problems(SIGNATURE, narrow) == [[], []]
    assert {name: str(values.dtype) for name, values in inputs_of(SIGNATURE, narrow.slice(0, 1)).items()} == {
        **{"name": "object", "size": "float64", "count": "int64", "temp": "float64"},
        "at": "datetime64[us]",
    }


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_model_is_given_text_times_in_utc_and_nulls_as_nan(zone: str) -> None:
    table = rows({}, {"name": None, "count": None, "temp": None, "at": None})
    at = table.schema.get_field_index("at")
    in_zone = table.set_column(at, "at", table["at"].cast(pa.timestamp("us", zone)))
    for given in (in_zone, pa.concat_tables([in_zone.slice(0, 1), in_zone.slice(1)]), in_zone.to_batches()[0]):
        found = inputs_of(SIGNATURE, given)
        assert list(found) == ["name", "size", "count", "temp", "at"]
        assert found["name"].tolist() == ["é", None]
        np.testing.assert_array_equal(found["count"], [7, np.nan])
        np.testing.assert_array_equal(found["temp"], [2.5, np.nan])
        np.testing.assert_array_equal(found["at"], np.array(["2013-01-31T12:00", "NaT"], "datetime64[us]"))


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (NOON, "2013-01-31 12:00:00"),
        (NOON + timedelta(seconds=10), "2013-01-31 12:00:10"),
        (NOON + timedelta(milliseconds=500), "2013-01-31 12:00:00.5"),
        (NOON + MICROSECOND, "2013-01-31 12:00:00.000001"),
        (NOON.astimezone(timezone(timedelta(hours=-5))), "2013-01-31 12:00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_id_of_a_prediction_follows_from_its_row_and_its_version_in_every_zone(
    when: datetime, text: str, zone: str
) -> None:
    table = rows({"prediction_ts": when})
    given: Rows = table.set_column(1, "prediction_ts", table["prediction_ts"].cast(pa.timestamp("us", zone)))
    expected = sha256(f"é1|{text}|m|3|batch".encode()).hexdigest()
    scored = predictions(given, {"prediction": np.array([0.0])}, scored_at=NOON, run_id="r", **VERSION)
    assert scored["prediction_id"].to_pylist() == [expected]
    assert rejects(given, [["why"]], **VERSION)["reject_id"].to_pylist() == [expected]


def test_predictions_have_the_answers_and_what_made_them() -> None:
    answers = {"probability": np.array([0.25, 0.75]), "prediction": np.array([0, 1])}
    made = predictions(rows({}, {"entity_id": "b"}), answers, scored_at=NOON, run_id="r", **VERSION)
    assert made.schema == PREDICTIONS
    first, second = (made.drop_columns(["prediction_id"])).to_pylist()
    assert first == {
        **{"entity_id": "é1", "prediction_ts": NOON, "model_name": "m", "model_version": 3, "scored_at": NOON},
        **{"scored_date": date(2013, 1, 31), "probability": 0.25, "prediction": 0.0, "response_time_ms": None},
        **{"source": "batch", "run_id": "r"},
    }
    assert second == first | {"entity_id": "b", "probability": 0.75, "prediction": 1.0}


def test_a_forecast_of_a_number_has_no_probability_and_its_day_is_in_utc() -> None:
    late = datetime(2013, 1, 31, 22, tzinfo=timezone(timedelta(hours=-5)))
    made = predictions(rows({}), {"prediction": np.array([-3.5])}, scored_at=late, run_id=None, **VERSION)
    (row,) = made.to_pylist()
    assert (row["probability"], row["prediction"], row["run_id"]) == (None, -3.5, None)
    assert (row["scored_at"], row["scored_date"]) == (late, date(2013, 2, 1))


def test_a_reject_has_its_row_as_valid_json_without_nulls() -> None:
    beyond = pa.array([253_402_300_800_000_000, 1], pa.timestamp("us", "UTC"))  # the year 10000, which Python has not
    table = rows({"temp": INFINITE, "count": None, "day": date(2013, 1, 31)}, {"temp": NAN, "name": 'a "b"'})
    table = table.set_column(table.schema.get_field_index("at"), "at", beyond)
    made = rejects(table, [["one", "two"], ["three"]], **VERSION)
    assert made.schema == REJECTS
    assert made["table_name"].to_pylist() == ["predictions", "predictions"]
    assert made["reasons"].to_pylist() == [["one", "two"], ["three"]]
    first, second = (json.loads(text, parse_constant=pytest.fail) for text in made["source_row"].to_pylist())
    assert first.pop("at")
    assert first == {
        **{"entity_id": "é1", "prediction_ts": "2013-01-31 12:00:00.000000", "name": "é", "size": 1.5},
        **{"temp": "inf", "day": "2013-01-31"},
    }
    assert (second["temp"], second["name"], second["at"]) == ("nan", 'a "b"', "1970-01-01 00:00:00.000001")
