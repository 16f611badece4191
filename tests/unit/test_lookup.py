"""`flight-delays lookup`, as a person calls it."""

import sys
from pathlib import Path

import pytest
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import PASSWORD, Sqlite

from flight_delays import cli
from flight_delays.use_case.model import ONLINE_STORE


def looked_up(flight: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["flight-delays", "lookup", flight])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stopped:
        cli.console()
    printed = capfd.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


@pytest.fixture
def store(tmp_path: Path) -> Sqlite:
    """The laptop's own of a checkout, with one prediction."""
    (tmp_path / "databricks.yml").write_text("bundle: {name: b}\ntargets: {dev: {default: true}}\n")
    store = Sqlite(tmp_path / ".local/dev/online.db")
    fill(store, FOUND)
    return store


@pytest.mark.parametrize("named", [True, False], ids=["by its address", "of the checkout"])
def test_a_prediction_is_told(
    store: Sqlite, named: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv(ONLINE_STORE, store.url)
    else:
        monkeypatch.delenv(ONLINE_STORE, raising=False)
        monkeypatch.chdir(tmp_path)
    code, out, err = looked_up(FLIGHT, capfd, monkeypatch)
    assert (code, err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    assert rows == [
        ["flight_id", FLIGHT],
        ["probability of 15 minutes late or more", "30.0%"],
        ["so the forecast is", "less than 15 minutes late"],
        ["from what was known at", "2013-01-01T08:15:00Z"],
        ["predicted by", "cat.flights.delay, version 3 (batch)"],
        ["as of", "2013-01-01T09:00:00Z"],
    ]


def unknown(store: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLINE_STORE, store.url)


def no_table(store: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLINE_STORE, store.url)
    store.write("DROP TABLE predictions_online")


def down(store: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLINE_STORE, store.url)
    store.stop()


def no_file(store: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ONLINE_STORE, raising=False)
    monkeypatch.chdir(store.file.parents[2])
    store.stop()


def wrong_address(_: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLINE_STORE, f"mysql://u:{PASSWORD}@h/db")


def in_a_wheel(_: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ONLINE_STORE, raising=False)
    monkeypatch.setattr(cli, "_CHECKOUT", False)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (unknown, "there is no precomputed prediction of this flight; its id is like UA-1545-EWR-IAH-20130101T1015Z"),
        (no_table, "nothing is precomputed yet: the online store has no table predictions_online; run the job"),
        (down, "the online store failed: unable to open database file; see that it is up"),
        (no_file, "there is no online store yet; run flight-delays local run features train score_batch"),
        (wrong_address, "FLIGHT_DELAYS_ONLINE_STORE is neither sqlite:////<path> nor postgresql://<user>:<password>@"),
        (in_a_wheel, "FLIGHT_DELAYS_ONLINE_STORE is missing; set it to the online store's address"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(
    store: Sqlite, broken: object, says: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(broken)
    broken(store, monkeypatch)
    code, out, err = looked_up("unknown", capfd, monkeypatch)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"flight-delays: {says}")
    assert PASSWORD not in err
