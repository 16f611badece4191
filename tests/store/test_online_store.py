"""The model's reader: what a request leaves out comes from the online store, or from nowhere."""

import asyncio
import gc
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pytest
from tests.store.stores import LOOKED_UP, PASSWORD, Postgresql, Sqlite, Store

from flight_delays.platform import online_table
from flight_delays.platform.online_table import OnlineStore
from flight_delays.platform.registry import Registry
from flight_delays.platform.shell import Columns, Lookup, Shell
from flight_delays.use_case import USE_CASE, prepare

KNOWN = {name: float(at) for at, name in enumerate(LOOKED_UP)}
FLIGHT = "UA-7-EWR-ORD-20130115T1700Z"
PATIENT, HASTY = {online_table.ONLINE_STORE_LIMIT_MS: "30000"}, {online_table.ONLINE_STORE_LIMIT_MS: "50"}
STRICT = {online_table.ONLINE_STORE_FAILURE: "error"}
NOTHING = dict.fromkeys(LOOKED_UP, np.nan)


def columns(*flights: int, carrier: str = "UA", **given: float | None) -> Columns:
    """A request of that many rows; the same values in each are `given`."""
    numbers = pd.DataFrame(
        {
            **{"carrier": carrier, "flight": flights or (7,), "origin": "EWR", "dest": "ORD", "distance": 719},
            **{"sched_dep_ts": pd.Timestamp("2013-01-15 17:00"), "sched_arr_time": 1345},
            **{name: np.float64("nan" if value is None else value) for name, value in given.items()},
        }
    )
    return {name: numbers[name].to_numpy() for name in numbers}


def reader(store: Store, *settings: Mapping[str, str]) -> Shell:
    """The model, with a time limit that only a store that does not answer reaches."""
    environment = {online_table.ONLINE_STORE: store.url, **PATIENT}
    for each in settings:
        environment |= each
    return shell_of(environment)


def shell_of(environment: Mapping[str, str]) -> Shell:
    """What `complete` needs of a version, and nothing to score with."""
    made = Shell()
    made.code, made.online, made.looked_up = prepare, online_table, list(USE_CASE.looked_up)
    made.connect(environment)
    return made


def row(found: Columns, at: int = 0) -> dict[str, float]:
    return {name: float(found[name][at]) for name in LOOKED_UP}


def same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one == pytest.approx(dict(other), nan_ok=True, abs=0, rel=0)


@pytest.mark.parametrize(
    ("given", "expected", "lookup"),
    [
        pytest.param({}, KNOWN, Lookup(asked=1, found=1), id="nothing"),
        pytest.param({"weather_temp": 9.5}, KNOWN | {"weather_temp": 9.5}, Lookup(asked=1, found=1), id="a value"),
        pytest.param({"weather_temp": None}, KNOWN | {"weather_temp": np.nan}, Lookup(asked=1, found=1), id="a null"),
        pytest.param(dict.fromkeys(LOOKED_UP, 9.5), dict.fromkeys(LOOKED_UP, 9.5), Lookup(), id="all values"),
        pytest.param(dict.fromkeys(LOOKED_UP), NOTHING, Lookup(), id="all nulls"),
    ],
)
def test_what_a_request_gives_stays_and_what_it_leaves_out_is_looked_up(
    store: Store, given: dict[str, float | None], expected: dict[str, float], lookup: Lookup
) -> None:
    store.fill({FLIGHT: KNOWN})
    request = columns(**given)
    before = {name: values.copy() for name, values in request.items()}
    found, told = reader(store).complete(request)
    assert same(row(found), expected)
    assert told == lookup
    assert {name: found[name].tolist() for name in USE_CASE.request} == {
        n: before[n].tolist() for n in USE_CASE.request
    }
    assert list(request) == list(before)


def test_each_row_gets_its_own_values_and_one_that_is_not_found_nulls(store: Store) -> None:
    store.fill({f"UA-{n}-EWR-ORD-20130115T1700Z": KNOWN | {"weather_temp": n} for n in (1, 2, 3)})
    found, lookup = reader(store).complete(columns(3, 8, 1, 3))
    assert found["weather_temp"].tolist() == pytest.approx([3, np.nan, 1, 3], nan_ok=True)
    assert same(row(found, 1), NOTHING)
    assert lookup == Lookup(asked=4, found=3)


def test_a_null_in_the_store_stays_one(store: Store) -> None:
    store.fill({FLIGHT: {"weather_temp": 1.5}})
    found, lookup = reader(store).complete(columns())
    assert same(row(found), NOTHING | {"weather_temp": 1.5})
    assert lookup == Lookup(asked=1, found=1)


def test_no_rows_are_no_rows(store: Store) -> None:
    store.fill({FLIGHT: KNOWN})
    found, lookup = reader(store).complete({name: values[:0] for name, values in columns().items()})
    assert {len(values) for values in found.values()} == {0}
    assert lookup == Lookup()


@pytest.mark.parametrize("carrier", ["Ü", "飛行", "🛩", "it's", '"', "\\", "%s", "'; DROP TABLE x", "a b", "{}"])
def test_an_id_may_hold_any_character(store: Store, carrier: str) -> None:
    store.fill({FLIGHT.replace("UA", carrier): KNOWN, FLIGHT: {}})
    found, lookup = reader(store, STRICT).complete(columns(carrier=carrier))
    assert same(row(found), KNOWN)
    assert lookup == Lookup(asked=1, found=1)


@pytest.mark.parametrize("carrier", ["\0", f"{FLIGHT}\0", "\ud800"])
def test_what_no_store_can_hold_is_not_found_rather_than_a_failure(store: Store, carrier: str) -> None:
    store.fill({FLIGHT: KNOWN})
    found, lookup = reader(store, STRICT).complete(columns(carrier=carrier))
    assert same(row(found), NOTHING)
    assert lookup == Lookup(asked=1, found=0)


def test_without_a_store_nothing_is_asked() -> None:
    found, lookup = shell_of({}).complete(columns(weather_temp=1.5))
    assert found["weather_temp"].tolist() == [1.5]
    assert lookup == Lookup()


def down(store: Store) -> None:
    store.stop()


def empty(store: Store) -> None:
    store.write(f"DROP TABLE {online_table.ONLINE_TABLE}")


FAILURES = [
    pytest.param("sqlite", down, "failed: unable to open database file", id="sqlite, down"),
    pytest.param("sqlite", empty, "failed: no such table: features_online", id="sqlite, no table"),
    pytest.param("postgresql", down, "failed: OperationalError", id="postgresql, down"),
    pytest.param("postgresql", empty, "failed: UndefinedTable", id="postgresql, no table"),
]


@pytest.mark.parametrize(("kind", "broken", "why"), FAILURES)
@pytest.mark.parametrize("asked_before", [True, False])
def test_a_store_that_fails_is_told_or_raised_as_the_settings_say_until_it_is_back(
    request: pytest.FixtureRequest, kind: str, broken: Callable[[Store], None], why: str, asked_before: bool
) -> None:
    store: Store = request.getfixturevalue(kind)
    store.fill({FLIGHT: KNOWN})
    forgiving, strict = reader(store), reader(store, STRICT)
    if asked_before:
        assert forgiving.complete(columns())[1] == strict.complete(columns())[1] == Lookup(asked=1, found=1)
    broken(store)
    found, lookup = forgiving.complete(columns(weather_temp=1.5))
    assert lookup == Lookup(asked=1, found=0, failed=True)
    assert found["weather_temp"].tolist() == [1.5]
    assert np.isnan([values[0] for name, values in found.items() if name in LOOKED_UP and name != "weather_temp"]).all()
    with pytest.raises(ConnectionError, match=f"^the online store {why}$"):
        strict.complete(columns())
    assert strict.complete(dict.fromkeys(LOOKED_UP, np.array([1.5])) | columns())[1] == Lookup()  # nothing to ask

    store.start()
    store.fill({FLIGHT: KNOWN})
    for model in (forgiving, strict):
        found, lookup = model.complete(columns())
        assert same(row(found), KNOWN)
        assert lookup == Lookup(asked=1, found=1)


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_store_that_is_slow_fails_at_the_time_limit_and_answers_afterwards(store: Store, asked_before: bool) -> None:
    store.fill({FLIGHT: KNOWN})
    forgiving, strict = reader(store, HASTY), reader(store, HASTY, STRICT)
    if asked_before:
        answered(forgiving), answered(strict)
    with store.locked():
        started = time.monotonic()
        assert forgiving.complete(columns())[1] == Lookup(asked=1, failed=True)
        with pytest.raises(ConnectionError, match=r"^the online store (took more than 50 ms|.*database is locked)$"):
            strict.complete(columns())
        assert time.monotonic() - started < 2  # twice 50 ms, on a busy machine
    assert answered(forgiving) == answered(strict) == Lookup(asked=1, found=1)


def answered(model: Shell) -> Lookup:
    """Of the first request that found the store in time: a busy machine may miss 50 ms."""
    deadline = time.monotonic() + 30
    while (lookup := _asked(model)).failed and time.monotonic() < deadline:
        pass
    return lookup


def _asked(model: Shell) -> Lookup:
    try:
        return model.complete(columns())[1]
    except ConnectionError:
        return Lookup(asked=1, failed=True)


def test_a_server_that_no_longer_answers_holds_up_no_request(postgresql: Postgresql) -> None:
    postgresql.fill({FLIGHT: KNOWN})
    model = reader(postgresql, HASTY)
    answered(model)
    with postgresql.frozen():
        started = time.monotonic()
        for _ in range(3 * online_table.STORE_CONNECTIONS):
            assert model.complete(columns())[1] == Lookup(asked=1, failed=True)
        assert time.monotonic() - started < 5  # twelve times 50 ms, on a busy machine
    assert answered(model) == Lookup(asked=1, found=1)


def test_a_lookup_that_took_too_long_is_not_done_again(postgresql: Postgresql) -> None:
    """Else a slow store would get twice the load."""
    postgresql.fill({FLIGHT: KNOWN})
    before, model = _connections(postgresql), reader(postgresql, {online_table.ONLINE_STORE_LIMIT_MS: "300"})
    answered(model)
    kept = _connections(postgresql) - before  # those of other tests may end meanwhile
    with postgresql.locked():
        assert model.complete(columns())[1].failed
        assert model.complete(columns())[1].failed  # by now the server has ended the first
    assert kept
    assert kept <= _connections(postgresql)


def _connections(server: Postgresql) -> set[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT entity_id, %'"
    with psycopg.connect(server.url) as connection:
        return {row[0] for row in connection.execute(query)}


def test_a_restart_between_two_requests_is_not_noticed(store: Store) -> None:
    store.fill({FLIGHT: KNOWN})
    model = reader(store, STRICT)
    for _ in range(3):
        assert model.complete(columns())[1] == Lookup(asked=1, found=1)
        store.stop()
        store.start()


def test_a_table_that_is_made_anew_is_read_from_then_on(store: Store) -> None:
    model = reader(store, STRICT)
    for value in (1.5, 2.5, 3.5, 4.5):
        store.fill({FLIGHT: {"weather_temp": value}})
        for _ in range(3):  # PostgreSQL prepares what it is asked repeatedly
            assert model.complete(columns())[0]["weather_temp"].tolist() == [value]


def test_a_file_that_is_replaced_is_read_from_then_on(sqlite: Sqlite) -> None:
    model = reader(sqlite, STRICT)
    for value in (1.5, 2.5):
        other = Sqlite(sqlite.file.with_name("other"))
        other.fill({FLIGHT: {"weather_temp": value}})
        other.file.replace(sqlite.file)
        assert model.complete(columns())[0]["weather_temp"].tolist() == [value]


def test_a_version_that_is_no_longer_served_keeps_no_connection(postgresql: Postgresql) -> None:
    postgresql.fill({FLIGHT: KNOWN})
    before, model = _connections(postgresql), reader(postgresql, STRICT)
    model.complete(columns())
    kept = _connections(postgresql) - before
    assert len(kept) == 1
    del model
    deadline = time.monotonic() + 30
    while kept & _connections(postgresql) and time.monotonic() < deadline:
        pass
    assert not kept & _connections(postgresql)


def test_a_version_that_is_no_longer_served_leaves_nothing_open(store: Store) -> None:
    store.fill({FLIGHT: KNOWN})
    before, model = {*threading.enumerate()}, reader(store, STRICT)
    model.complete(columns())
    (own,) = (one for one in threading.enumerate() if one.name == "online-store" and one not in before)
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del model
        own.join(30)
        gc.collect()
    assert not own.is_alive()
    assert [str(one.message) for one in told] == []


def test_many_threads_get_their_own_rows(store: Store) -> None:
    store.fill({f"UA-{n}-EWR-ORD-20130115T1700Z": {"weather_temp": n} for n in range(200)})
    model = reader(store, STRICT)

    def ask(first: int) -> npt.NDArray[np.float64]:
        numbers = [first, (first * 7) % 200, first + 1_000]
        return model.complete(columns(*numbers))[0]["weather_temp"] - [numbers[0], numbers[1], 0]

    with ThreadPoolExecutor(16) as threads:
        differences = np.array(list(threads.map(ask, range(200))))
    assert differences[:, :2].tolist() == [[0, 0]] * 200
    assert np.isnan(differences[:, 2]).all()


URL = f"postgresql://u:{PASSWORD}@h/db"
WRONG = [
    (
        {online_table.ONLINE_STORE_FAILURE: "ignore"},
        "FLIGHT_DELAYS_ONLINE_STORE_FAILURE is 'ignore'; set it to default or err",
    ),
    ({online_table.ONLINE_STORE_LIMIT_MS: "soon"}, "soon"),
    *(
        ({online_table.ONLINE_STORE_LIMIT_MS: text}, f"_LIMIT_MS is {text}; set it to 1 ")
        for text in ("0", "-1", "nan", "inf")
    ),
    *(
        (
            {online_table.ONLINE_STORE: url},
            "FLIGHT_DELAYS_ONLINE_STORE is neither sqlite:////<path> nor postgresql://<user>:",
        )
        for url in (
            *("/data/online.db", "sqlite:online.db", "sqlite:///online.db", "mysql://u:s3cret@h/db", "s3cret"),
            *(f"{URL}?s3cret=1", "postgresql://u:s3cret%ZZ@h/db", "postgresql:u:s3cret", "postgresql://"),
        )
    ),
]


@pytest.mark.parametrize(("settings", "says"), WRONG)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError) as error:
        shell_of({online_table.ONLINE_STORE: URL, **settings})
    assert says in str(error.value)
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("postgres:s3cret@", "nobody:s3cret@"),
        lambda url: url.replace("s3cret", "Xs3cretX"),
        lambda url: url.replace("/postgres?", "/s3cret?"),
        lambda url: url.replace("?host=", "?host=/s3cret"),
        lambda url: url.replace("?", "?options=-cs3cret%3D1&"),
        lambda _: "postgresql://u:pa@s3cret@h/db",  # who forgets to write @ as %40 has a password in the host's name
    ],
    ids=["user", "password", "database", "host", "options", "unquoted"],
)
def test_the_password_is_in_no_message(postgresql: Postgresql, change: Callable[[str], str]) -> None:
    store = OnlineStore(change(postgresql.url), 30, table=online_table.ONLINE_TABLE, columns=LOOKED_UP)
    with pytest.raises(ConnectionError, match=r"^the online store failed: [A-Za-z]+$") as error:
        asyncio.run(store.find([FLIGHT]))
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


def test_a_registered_version_answers_with_what_the_store_holds(
    store: Store, registry: Registry, new_version: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = new_version("online")
    bare = pd.DataFrame(columns(1, 2, 3, carrier="AA"))
    whole = bare.assign(**NOTHING | {"weather_visib": [0.5, 9.5, np.nan]})
    expected = registry.load("online", number).predict(whole)
    assert expected["probability"].nunique() == 3

    store.fill({f"AA-{n}-EWR-ORD-20130115T1700Z": {"weather_visib": value} for n, value in ((1, 0.5), (2, 9.5))})
    for name, value in (PATIENT | STRICT | {online_table.ONLINE_STORE: store.url}).items():
        monkeypatch.setenv(name, value)
    loaded = registry.load("online", number)
    pd.testing.assert_frame_equal(loaded.predict(bare), expected, check_exact=True)
    given = whole.assign(weather_visib=[9.5, 0.5, 0.5])
    assert (loaded.predict(given)["probability"] != expected["probability"]).all()
