"""Every delivered row becomes a typed row or a reject with its reasons."""

import json

import pytest
from chispa import assert_df_equality
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract, Field, inspect

CONTRACT = Contract(
    table="raw_things",
    key=("id",),
    fields={
        "id": Field(source="ID", type="string", required=True),
        "seats": Field(source="seats", type="int", required=True),
        "weight": Field(source="weight", type="double"),
    },
    derived={"half": "seats / 2"},
    rules={"weight is negative": "weight >= 0", "half is too much": "half < 100"},
    columns=("id", "half", "weight"),
)
COLUMNS = "ID string, seats string, weight string, note string"
# Row as delivered, and why it is rejected.
DELIVERED = [
    (("a", "10", "2.5", "all good"), []),
    (("b", "10", None, "nothing optional"), []),
    (("c", "10", "0", "at the limit"), []),
    (("d", "10", "-0.1", "below it"), ["weight is negative"]),
    (("e", None, "1", "a required one missing"), ["seats is missing"]),
    (("f", "ten", "1", "unreadable and required"), ["seats is not int: ten"]),
    (("g", "10", "heavy", "unreadable and optional"), ["weight is not double: heavy"]),
    (("g2", "10", "NaN", "no number"), ["weight is not double: NaN"]),
    (("g3", "10", "-Infinity", "no number either"), ["weight is not double: -Infinity"]),
    (("h", "99999999999", "1", "too long for its type"), ["seats is not int: 99999999999"]),
    (("i", "200", "-1", "two rules"), ["weight is negative", "half is too much"]),
    ((None, "x", "y", "all at once"), ["ID is missing", "seats is not int: x", "weight is not double: y"]),
    ((None, "10", "1", "no key"), ["ID is missing"]),
    ((None, "10", "1", "no key either: not the same key"), ["ID is missing"]),
    (("k", "10", "1", "exact duplicate"), []),
    (("k", "10", "1", "exact duplicate"), ["same id as another row"]),
    (("l", "10", "1", "first"), []),
    (("l", "11", "1", "second"), ["same id as another row"]),
    (("l", "12", "-1", "third"), ["weight is negative", "same id as another row"]),
    (("m", "10", "-1", "bad, and first in order"), ["weight is negative", "same id as another row"]),
    (("m", "20", "1", "good, and so the one that stands"), []),
]


@pytest.fixture(scope="module")
def inspected(spark: SparkSession) -> list[Row]:
    return inspect(spark.createDataFrame([row for row, _ in DELIVERED], COLUMNS), CONTRACT).collect()


def test_every_delivered_row_comes_out_once_with_its_reasons_and_all_its_columns(inspected: list[Row]) -> None:
    def text(row: tuple[str | None, ...], reasons: list[str]) -> str:
        named = zip(("ID", "seats", "weight", "note"), row, strict=True)
        return json.dumps([{name: value for name, value in named if value is not None}, reasons])

    found = [json.dumps([json.loads(row["source_row"]), row["reasons"]]) for row in inspected]
    assert sorted(found) == sorted(text(row, reasons) for row, reasons in DELIVERED)


def test_good_rows_are_typed_and_derived(spark: SparkSession) -> None:
    delivered = spark.createDataFrame([row for row, _ in DELIVERED], COLUMNS)
    good = inspect(delivered, CONTRACT).where(F.size("reasons") == 0).select("row.*")
    expected = [("a", 5.0, 2.5), ("b", 5.0, None), ("c", 5.0, 0.0), ("k", 5.0, 1.0), ("l", 5.0, 1.0), ("m", 10.0, 1.0)]
    assert_df_equality(
        good, spark.createDataFrame(expected, "id string, half double, weight double"), ignore_row_order=True
    )


def test_a_delivery_that_lacks_columns_is_refused_by_their_names(spark: SparkSession) -> None:
    with pytest.raises(UserError, match=r"^the source of raw_things has no column ID, weight; mend use_case/sources"):
        inspect(spark.createDataFrame([("1",)], "seats string"), CONTRACT)


@pytest.mark.parametrize("order", [1, -1])
def test_which_of_two_rows_is_the_repeat_does_not_depend_on_their_order(spark: SparkSession, order: int) -> None:
    rows = [("l", "10", "1", None), ("l", "11", "1", None)][::order]
    found = inspect(spark.createDataFrame(rows, COLUMNS), CONTRACT).where(F.size("reasons") == 0).collect()
    assert [row["row"]["half"] for row in found] == [5.0]
