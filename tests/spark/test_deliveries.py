"""Deliveries of each kind, inspected on Spark: all give what core/quarantine.py makes of their rows."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from flight_delays.core.columns import UTC_TIME
from flight_delays.core.delivery import Batches, Delivery, Files, FromTable
from flight_delays.core.errors import UserError
from flight_delays.core.quarantine import Contract, Field
from flight_delays.core.rules import Rule
from flight_delays.platform.dataset import labels_of
from flight_delays.platform.deliveries import inspect_delivery
from flight_delays.platform.delta import Tables
from flight_delays.use_case import USE_CASE

Texts: TypeAlias = tuple[str | None, ...]

AS_OF = datetime(2013, 2, 1, tzinfo=UTC)
CONTRACT = Contract(
    table="raw_things",
    key=("id", "day"),
    fields={
        "id": Field(source="ID", type=pa.string(), required=True),
        "seats": Field(source="seats", type=pa.int32(), required=True),
        "weight": Field(source="weight", type=pa.float64()),
        "day": Field(source="day", type=pa.date32()),
        "hour": Field(source="hour", type=UTC_TIME),
    },
    derived={"half": pa.float64()},
    derive=lambda things: {"half": things["seats"] / 2},
    rules=(
        Rule(reason="weight is negative", columns=("weight",), broken=lambda weight: weight < 0),
        Rule(reason="before 2013", columns=("hour",), broken=lambda hour: hour < np.datetime64("2013")),
    ),
    columns=("id", "half", "weight", "day", "hour"),
)
COLUMNS = {"ID": "string", "seats": "int", "weight": "double", "day": "date", "hour": "timestamp", "note": "string"}
WAYS = ("Files", "FromTable", "Batches")
DAY, HOUR = date(2013, 1, 15), datetime(2013, 1, 15, 17, tzinfo=UTC)
# Text of what a table can hold as well; the same as typed; and why it is a reject.
DELIVERED: list[tuple[Texts, tuple[object, ...], list[str]]] = [
    (("a", "10", "2.5", "2013-01-15", "2013-01-15T17:00:00Z", "å, å"), ("a", 5.0, 2.5, DAY, HOUR), []),
    (("b", "3", None, None, "2013-01-15T12:00:00-05:00", None), ("b", 1.5, None, None, HOUR), []),
    (("c", "10", "-0.5", None, None, 'a "note"'), ("c", 5.0, -0.5, None, None), ["weight is negative"]),
    (
        ("d", "-2147483648", "1.0E300", None, "2012-12-31T23:59:59.999999Z", "null"),
        ("d", -(2.0**30), 1e300, None, datetime(2012, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ["before 2013"],
    ),
    ((None, "10", None, "2013-01-15", None, None), (None, None, None, DAY, None), ["ID is missing"]),
    ((None,) * 6, (None,) * 5, ["ID is missing", "seats is missing"]),
]
REPEAT = "same id, day as another row"
# The key's id and day, seats and weight; and why a row is a reject, in whatever order they come.
REPEATED: list[tuple[Texts, list[str]]] = [
    (("k", "2013-01-15", "10", "1"), []),
    (("k", "2013-01-15", "10", "1"), [REPEAT]),
    (("k", "2013-01-16", "10", "1"), []),
    (("l", "2013-01-15", "10", "1"), []),
    (("l", "2013-01-15", "11", "1"), [REPEAT]),
    (("l", "2013-01-15", "12", "-1"), ["weight is negative", REPEAT]),
    (("m", "2013-01-15", "10", "-1"), ["weight is negative", REPEAT]),  # bad, and first in order
    (("m", "2013-01-15", "20", "1"), []),
    (("n", "2013-01-15", "10", "-1"), ["weight is negative"]),
    (("n", "2013-01-15", "20", "-1"), ["weight is negative", REPEAT]),
    (("o", "2013-01-15", "ten", "1"), ["seats is not a whole number of 32 bits: ten"]),
    ((None, "2013-01-15", "10", "1"), ["ID is missing"]),
    ((None, "2013-01-15", "10", "1"), ["ID is missing"]),
    *[(("p", None, "10", "1"), list[str]())] * 2,  # no key either
    *[((None,) * 4, ["ID is missing", "seats is missing"])] * 2,
]


def batches(rows: Sequence[Texts], columns: Sequence[str] = tuple(COLUMNS)) -> Batches:
    texts = pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(columns)})

    def read(as_of: datetime) -> list[pa.RecordBatch]:
        assert as_of == AS_OF
        return list(texts.to_batches(2))

    return Batches(read=read)


def csv(path: Path, rows: Sequence[Texts], columns: Sequence[str] = tuple(COLUMNS)) -> Files:
    lines = [
        ",".join("" if text is None else '"' + text.replace('"', '""') + '"' for text in row)
        for row in (columns, *rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return Files(path=str(path), options={"header": "true", "escape": '"'})


def table(tables: Tables, rows: Sequence[Texts], name: str, columns: Sequence[str] = tuple(COLUMNS)) -> FromTable:
    """A table of types, not of text."""
    texts = tables.spark.createDataFrame(list(rows), ", ".join(f"{column} string" for column in columns))
    typed = texts.select(*(F.col(column).cast(COLUMNS[column]).alias(column) for column in columns))
    typed.write.format("parquet").saveAsTable(f"{tables.schema}.{name}")
    return FromTable(name=f"{tables.schema}.{name}")


def inspected(spark: SparkSession, delivery: Delivery, *, repeats: bool) -> DataFrame:
    return inspect_delivery(spark, delivery, CONTRACT, as_of=AS_OF, repeats=repeats)


def collected(frames: dict[str, DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each frame by its name, from one job; times are in UTC."""
    named = [frame.withColumn("way", F.lit(name)) for name, frame in frames.items()]
    rows = reduce(DataFrame.unionByName, named).toArrow().to_pylist()
    return {name: [row for row in rows if row["way"] == name] for name in frames}


@pytest.fixture(scope="module")
def found(spark: SparkSession, tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [row for row, *_ in DELIVERED]
    repeated = [(key, seats, weight, day, None, None) for (key, day, seats, weight), _ in REPEATED]
    deliveries: dict[str, Delivery] = {
        "Files": csv(tmp_path_factory.mktemp("delivered") / "things.csv", rows),
        "FromTable": table(tables, rows, "delivered_things"),
        "Batches": batches(rows),
    }
    frames = {name: inspected(spark, delivery, repeats=False) for name, delivery in deliveries.items()}
    frames["forwards"] = inspected(spark, batches(repeated), repeats=True)
    frames["backwards"] = inspected(spark, batches(repeated[::-1]), repeats=True)
    return collected(frames)


@pytest.mark.parametrize("way", WAYS)
def test_each_kind_of_delivery_gives_every_row_typed_and_with_its_reasons(
    way: str, found: dict[str, list[dict[str, Any]]]
) -> None:
    rows = [(tuple(row[name] for name in CONTRACT.columns), row["reasons"]) for row in found[way]]
    assert sorted(rows, key=repr) == sorted(((values, why) for _, values, why in DELIVERED), key=repr)
    assert set(found[way][0]) == {*CONTRACT.columns, "source_row", "reasons", "way"}


@pytest.mark.parametrize("way", WAYS)
def test_a_reject_keeps_its_source_and_a_good_row_does_not(way: str, found: dict[str, list[dict[str, Any]]]) -> None:
    sources = [json.loads(row["source_row"]) for row in found[way] if row["reasons"]]
    assert all(None not in source.values() for source in sources)
    names = [name for name in COLUMNS if name != "hour"]  # which a table tells in another way
    told = [tuple(source.get(name) for name in names) for source in sources]
    rejects = [dict(zip(COLUMNS, row, strict=True)) for row, _, why in DELIVERED if why]
    assert sorted(told, key=repr) == sorted((tuple(row[name] for name in names) for row in rejects), key=repr)
    assert [row["source_row"] for row in found[way] if not row["reasons"]] == [None, None]


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_one_row_of_a_key_stands_the_first_good_one_in_whatever_order_they_come(
    order: str, found: dict[str, list[dict[str, Any]]]
) -> None:
    rows = []
    for row in found[order]:
        source = json.loads(row["source_row"])
        rows.append((tuple(source.get(name) for name in ("ID", "day", "seats", "weight")), row["reasons"]))
    assert sorted(rows, key=repr) == sorted(REPEATED, key=repr)
    stands = {(row["id"], row["day"]): row["half"] for row in found[order] if not row["reasons"]}
    assert stands == {
        ("k", DAY): 5.0,
        ("k", date(2013, 1, 16)): 5.0,
        ("l", DAY): 5.0,
        ("m", DAY): 10.0,
        ("p", None): 5.0,
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_delivery_that_lacks_columns_is_refused_before_anything_runs(
    way: str, spark: SparkSession, tables: Tables, tmp_path: Path
) -> None:
    columns, rows = ("id", "seats", "weight", "hour"), [("a", "10", "1", None), (None,) * 4]
    delivery: Delivery
    if way == "Files":
        delivery = csv(tmp_path / "things.csv", rows, columns)
    elif way == "FromTable":
        spark.sql(
            f"CREATE TABLE {tables.schema}.lacking_things (id INT, seats INT, weight INT, hour INT) USING parquet"
        )
        delivery = FromTable(name=f"{tables.schema}.lacking_things")
    else:
        delivery = batches(rows, columns)
    message = "the source of raw_things has no column ID, day; fix the contract in the use case"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        inspected(spark, delivery, repeats=True)


@pytest.mark.parametrize(
    "given", [[], [pa.RecordBatch.from_pydict({name: pa.array([], pa.string()) for name in COLUMNS})]]
)
def test_a_function_may_deliver_nothing(spark: SparkSession, given: list[pa.RecordBatch]) -> None:
    assert inspected(spark, Batches(read=lambda _: given), repeats=False).count() == 0


def test_a_column_that_the_contract_does_not_take_may_have_any_name(spark: SparkSession, tmp_path: Path) -> None:
    delivery = csv(tmp_path / "things.csv", [], (*COLUMNS, "a `quoted`, dotted.name"))
    assert inspected(spark, delivery, repeats=False).columns == [*CONTRACT.columns, "source_row", "reasons"]


def test_labels_say_how_it_ended_with_the_types_of_their_table_and_null_without_an_outcome(
    spark: SparkSession, tables: Tables
) -> None:
    outcomes = {"early": -3.0, "a minute less": 14.0, "late": 15.0, "a minute more": 16.0, "never arrived": None}
    rows = [(name, DAY, delay, "2013-01-15 17:00") for name, delay in outcomes.items()]
    texts = [*rows, ("null", None, None, None)]
    flights = spark.createDataFrame(texts, "flight_id string, flight_date date, arr_delay double, known string")
    known = F.col("known").cast(tables.read("raw_flights").schema["outcome_known_at"].dataType)
    found = labels_of(USE_CASE, flights.withColumn("outcome_known_at", known))
    kinds, expected = (
        {field.name: field.dataType for field in schema} for schema in (found.schema, tables.read("labels").schema)
    )
    assert kinds == expected
    labels = {"early": 0.0, "a minute less": 0.0, "late": 1.0, "a minute more": 1.0, "never arrived": None}
    assert sorted(found.toArrow().to_pylist(), key=lambda label: str(label["entity_id"])) == sorted(
        [
            *({"entity_id": name, "day": DAY, "label": label, "known_at": HOUR} for name, label in labels.items()),
            {"entity_id": "null", "day": None, "label": None, "known_at": None},
        ],
        key=lambda label: str(label["entity_id"]),
    )
