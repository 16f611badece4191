"""What is looked up by id in either kind of store: predictions made beforehand, and columns to ask with."""

import asyncio
import traceback
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import LOOKED_UP, PASSWORD, Postgresql, Sqlite, Store

from flight_delays.core.errors import UserError
from flight_delays.platform.ddl import columns
from flight_delays.platform.online_table import (
    ONLINE_STORE,
    ONLINE_STORE_LIMIT_MS,
    ONLINE_TABLE,
    NoTableError,
    OnlineStore,
)
from flight_delays.platform.precomputed import (
    COLUMNS,
    PREDICTIONS_TABLE,
    find_prediction,
    predictions_store,
    request_columns,
)


def opened(url: str) -> OnlineStore:
    store = predictions_store({ONLINE_STORE: url, ONLINE_STORE_LIMIT_MS: "30000"})
    assert store is not None
    return store


def features(store: Store) -> OnlineStore:
    return OnlineStore(store.url, 30, table=ONLINE_TABLE, columns=LOOKED_UP)


def test_a_prediction_is_found_with_its_version_and_times_in_utc(store: Store) -> None:
    fill(store, replace(FOUND, entity_id="another", probability=0.9), FOUND)
    found = asyncio.run(find_prediction(opened(store.url), FLIGHT))
    assert found == FOUND
    assert found.as_json() == {
        "entity_id": FLIGHT,
        "prediction_ts": "2013-01-01T08:15:00Z",
        "model_name": "cat.flights.delay",
        "model_version": 3,
        "scored_at": "2013-01-01T09:00:00Z",
        "probability": 0.30000000000000004,
        "prediction": 0.0,
        "source": "batch",
    }


def test_a_forecast_of_a_number_has_no_probability(store: Store) -> None:
    number = replace(FOUND, probability=None, prediction=-12.75)
    fill(store, number)
    found = asyncio.run(find_prediction(opened(store.url), FLIGHT))
    assert found == number
    assert found.as_json() == FOUND.as_json() | {"probability": None, "prediction": -12.75}


def test_times_are_in_utc_wherever_the_server_is(postgresql: Postgresql) -> None:
    fill(postgresql, FOUND)
    assert asyncio.run(find_prediction(opened(f"{postgresql.url}&options=-ctimezone%3DAsia/Tokyo"), FLIGHT)) == FOUND


def test_what_was_not_predicted_is_not_found(store: Store) -> None:
    fill(store, FOUND)
    reader = opened(store.url)
    assert [
        asyncio.run(find_prediction(reader, flight)) for flight in ("", "UA", f"{FLIGHT} ", "'; --", "%", "x" * 10_000)
    ] == [None] * 6


def test_a_store_without_predictions_says_so_and_features_are_still_found(store: Store) -> None:
    store.fill({FLIGHT: {"weather_temp": 1.5}})
    store.write(f"DROP TABLE IF EXISTS {PREDICTIONS_TABLE}")
    with pytest.raises(NoTableError):
        asyncio.run(find_prediction(opened(store.url), FLIGHT))
    assert asyncio.run(features(store).find([FLIGHT])).keys() == {FLIGHT}


def test_without_an_address_there_is_no_store() -> None:
    assert predictions_store({}) is None


def test_a_wrong_setting_is_one_line_without_a_password(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    with pytest.raises(UserError, match=r"_LIMIT_MS is 'soon'; set it to 1 to 60000 milliseconds$"):
        predictions_store({ONLINE_STORE: url, ONLINE_STORE_LIMIT_MS: "soon"})
    with pytest.raises(UserError, match=r"^FLIGHT_DELAYS_ONLINE_STORE is neither ") as error:
        predictions_store({ONLINE_STORE: f"mysql://u:{PASSWORD}@h/db"})
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_what_is_looked_up_are_the_columns_of_the_table() -> None:
    declared = files("flight_delays.sql").joinpath("predictions.sql").read_text(encoding="utf-8")
    assert {*COLUMNS} <= {name for name, *_ in columns(declared)}


@pytest.fixture
def asked(store: Store) -> Store:
    """With features of three flights, of which two were asked for last."""
    declared = "entity_id TEXT, prediction_ts TIMESTAMPTZ, carrier TEXT, flight INTEGER, sched_dep_ts TIMESTAMPTZ"
    store.write(f"DROP TABLE IF EXISTS {ONLINE_TABLE}", f"CREATE TABLE {ONLINE_TABLE} ({declared})")
    for number, hour in ((1, 15), (3, 16), (2, 16)):
        values = f"'id-{number}', '2013-01-15 {hour}:00:00Z', NULL, {number}, '2013-01-15T{hour + 2}:00:00'"
        store.write(f"INSERT INTO {ONLINE_TABLE} VALUES ({values})")
    return store


REQUEST = ("carrier", "flight", "sched_dep_ts")


@pytest.mark.parametrize(("entity_id", "number"), [("id-1", 1), ("id-3", 3), (None, 2), ("id-4", None), ("'", None)])
def test_the_columns_to_ask_with_are_those_of_the_id_or_else_of_who_was_asked_for_last(
    asked: Store, entity_id: str | None, number: int | None
) -> None:
    found = request_columns(asked.url, REQUEST, entity_id)
    if number is None:
        assert found is None
    else:
        departs = f"2013-01-15T{17 + (number > 1)}:00:00"
        assert found == {"carrier": None, "flight": number, "sched_dep_ts": departs}


def test_columns_to_ask_with_have_times_in_utc_wherever_the_server_is(postgresql: Postgresql) -> None:
    at = "TIMESTAMPTZ '2013-01-15T17:00:00Z' AS at"
    postgresql.write(f"CREATE TABLE {ONLINE_TABLE} AS SELECT 'id' AS entity_id, {at}")
    url = f"{postgresql.url}&options=-ctimezone%3DAsia/Tokyo"
    assert request_columns(url, ["at"], "id") == {"at": "2013-01-15T17:00:00"}


def test_a_store_that_has_no_features_is_one_line(store: Store) -> None:
    for prepare in (lambda: store.write(f"DROP TABLE IF EXISTS {ONLINE_TABLE}"), store.stop):
        prepare()
        with pytest.raises(UserError, match=r"^the online store has no features to ask with \(\w+\); run the features"):
            request_columns(store.url, REQUEST, None)
    store.start()


def test_a_file_that_is_not_there_is_not_made(sqlite: Sqlite) -> None:
    with pytest.raises(UserError):
        request_columns(sqlite.url, REQUEST, None)
    assert not sqlite.file.exists()


@pytest.mark.parametrize(
    "url", ["mysql://u:s3cret@h/db", "s3cret", "sqlite:///online.db", "postgresql://u:s3cret%ZZ@h"]
)
def test_what_is_no_address_is_one_line_without_a_password(url: str) -> None:
    with pytest.raises(UserError, match=r"^FLIGHT_DELAYS_ONLINE_STORE is neither ") as error:
        request_columns(url, REQUEST, "id")
    assert PASSWORD not in "".join(traceback.format_exception(error.value))
