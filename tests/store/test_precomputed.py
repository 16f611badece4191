"""Predictions that were made beforehand are found by their id, in either kind of store."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import LOOKED_UP, PASSWORD, Postgresql, Store

from flight_delays.core.errors import UserError
from flight_delays.local.dictionary import columns
from flight_delays.platform.precomputed import COLUMNS, PREDICTIONS_TABLE, find_prediction, predictions_store
from flight_delays.platform.shell import ONLINE_STORE, ONLINE_STORE_LIMIT_MS, ONLINE_TABLE, NoTableError, OnlineStore


def opened(url: str) -> OnlineStore:
    store = predictions_store({ONLINE_STORE: url, ONLINE_STORE_LIMIT_MS: "30000"})
    assert store is not None
    return store


def features(store: Store) -> OnlineStore:
    return OnlineStore(store.url, 30, table=ONLINE_TABLE, columns=LOOKED_UP)


def test_a_prediction_is_found_with_its_version_and_times_in_utc(store: Store) -> None:
    fill(store, replace(FOUND, entity_id="another", probability=0.9), FOUND)
    found = find_prediction(opened(store.url), FLIGHT)
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
    found = find_prediction(opened(store.url), FLIGHT)
    assert found == number
    assert found.as_json() == FOUND.as_json() | {"probability": None, "prediction": -12.75}


def test_times_are_in_utc_wherever_the_server_is(postgresql: Postgresql) -> None:
    fill(postgresql, FOUND)
    assert find_prediction(opened(f"{postgresql.url}&options=-ctimezone%3DAsia/Tokyo"), FLIGHT) == FOUND


@pytest.mark.parametrize("flight", ["", "UA", f"{FLIGHT} ", f"{FLIGHT}\0", "\0", "\ud800", "'; --", "%", "x" * 10_000])
def test_what_was_not_predicted_is_not_found(store: Store, flight: str) -> None:
    fill(store, FOUND)
    assert find_prediction(opened(store.url), flight) is None


@pytest.mark.parametrize("flight", ["Ü-飛行-🛩", "it's", '"', "\\", "a/b?c=d", "x" * 1_000])
def test_an_id_may_hold_any_character(store: Store, flight: str) -> None:
    fill(store, FOUND, replace(FOUND, entity_id=flight))
    assert find_prediction(opened(store.url), flight) == replace(FOUND, entity_id=flight)


def test_what_was_predicted_anew_is_found_from_then_on(store: Store) -> None:
    reader = opened(store.url)
    for version in (3, 4):
        fill(store, replace(FOUND, model_version=version))
        assert find_prediction(reader, FLIGHT) == replace(FOUND, model_version=version)


def test_a_store_without_predictions_says_so_and_features_are_still_found(store: Store) -> None:
    store.fill({FLIGHT: {"weather_temp": 1.5}})
    store.write(f"DROP TABLE IF EXISTS {PREDICTIONS_TABLE}")
    with pytest.raises(NoTableError):
        find_prediction(opened(store.url), FLIGHT)
    assert features(store).find([FLIGHT]).keys() == {FLIGHT}


def test_features_and_predictions_lie_in_one_store(store: Store) -> None:
    store.fill({FLIGHT: {"weather_temp": 1.5}})
    fill(store, FOUND)
    assert find_prediction(opened(store.url), FLIGHT) == FOUND
    assert 1.5 in features(store).find([FLIGHT])[FLIGHT]


def test_a_store_that_is_down_is_an_error_until_it_is_back(store: Store) -> None:
    fill(store, FOUND)
    reader = opened(store.url)
    store.stop()
    with pytest.raises(ConnectionError, match=r"^the online store failed: ") as error:
        find_prediction(reader, FLIGHT)
    assert not isinstance(error.value, NoTableError)
    store.start()
    assert find_prediction(reader, FLIGHT) == FOUND


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url,  # no table
        lambda url: url.replace("postgres:s3cret@", "nobody:s3cret@"),
        lambda _: "postgresql://u:pa@s3cret@h/db",
        lambda _: "mysql://u:s3cret@h/db",
    ],
    ids=["table", "user", "unquoted", "kind"],
)
def test_the_password_is_in_no_message(postgresql: Postgresql, change: Callable[[str], str]) -> None:
    url = change(postgresql.url)
    with pytest.raises((ConnectionError, UserError)) as error:
        find_prediction(opened(url), FLIGHT)
    assert PASSWORD not in "".join(traceback.format_exception(error.value))
    assert "\n" not in str(error.value)


def test_without_an_address_there_is_no_store() -> None:
    assert predictions_store({}) is None


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    with pytest.raises(UserError, match=r"_LIMIT_MS is 'soon'; set it to 1 to 60000 milliseconds$"):
        predictions_store({ONLINE_STORE: url, ONLINE_STORE_LIMIT_MS: "soon"})


def test_what_is_looked_up_are_the_columns_of_the_table() -> None:
    declared = files("flight_delays.sql").joinpath("predictions.sql").read_text(encoding="utf-8")
    assert {*COLUMNS} <= {name for name, *_ in columns(declared)}
