"""`flight-delays lookup`, as a person calls it."""

import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import PASSWORD, Sqlite

from flight_delays import cli
from flight_delays.core.objective import Objective, Regression
from flight_delays.platform.online_table import ONLINE_STORE
from flight_delays.use_case import USE_CASE
from flight_delays.views.ask import precomputed


def looked_up(
    *arguments: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["flight-delays", "lookup", *arguments])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stopped:
        cli.console()
    printed = capfd.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


def rows_of(told: str) -> list[list[str]]:
    """The cells of a table as printed."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in told.splitlines() if "│" in line]


@pytest.fixture
def store(tmp_path: Path) -> Sqlite:
    """With one prediction."""
    store = Sqlite(tmp_path / "online.db")
    fill(store, FOUND)
    return store


@pytest.mark.parametrize("named", ["by an option", "by the environment"])
def test_a_prediction_is_told(
    store: Sqlite, named: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [f"--store-address={store.url}"] if named == "by an option" else []
    monkeypatch.setenv(ONLINE_STORE, "" if given else store.url)
    code, out, err = looked_up(FLIGHT, *given, capfd=capfd, monkeypatch=monkeypatch)
    assert (code, err) == (0, "")
    assert rows_of(out) == [
        ["flight", FLIGHT],
        ["Will this flight arrive 15 minutes late or more?", "late with a probability of 30.0%"],
        ["so the forecast is", "on time"],
        ["from what was known at", "2013-01-01T08:15:00Z"],
        ["predicted by", "cat.flights.delay, version 3 (batch)"],
        ["as of", "2013-01-01T09:00:00Z"],
    ]


@pytest.mark.parametrize(
    ("objective", "forecast", "lines"),
    [
        (USE_CASE.objective, (0.5, 1.0), ["late with a probability of 50.0%", "late"]),
        (Regression(unit="minutes", scale=40.0), (None, 1234.5678), ["1,235"]),
        (Regression(unit="minutes", scale=40.0), (None, -0.25), ["-0.25"]),
    ],
)
def test_a_forecast_is_told_as_its_objective_has_it(
    objective: Objective, forecast: tuple[float | None, float], lines: list[str]
) -> None:
    probability, prediction = forecast
    found = replace(FOUND, probability=probability, prediction=prediction)
    console = Console(file=StringIO(), width=120)
    console.print(precomputed(replace(USE_CASE, objective=objective), found))
    assert isinstance(console.file, StringIO)
    named = [cells for cells in rows_of(console.file.getvalue()) if cells[0].endswith(("?", "forecast is"))]
    assert [cell for _, cell in named] == lines


def no_table(store: Sqlite) -> None:
    store.write("DROP TABLE predictions_online")


@pytest.mark.parametrize(
    ("broken", "url", "says"),
    [
        (lambda _: None, None, "there is no precomputed prediction of this id; table predictions has those that there"),
        (no_table, None, "nothing is precomputed yet: the online store has no table predictions_online; run the job"),
        (Sqlite.stop, None, "the online store failed: unable to open database file; see that it is up, and that --sto"),
        (Sqlite.stop, f"mysql://u:{PASSWORD}@h/db", "FLIGHT_DELAYS_ONLINE_STORE is neither sqlite:////<path> nor post"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_2(
    store: Sqlite,
    broken: Callable[[Sqlite], None],
    url: str | None,
    says: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(store)
    given = f"--store-address={url or store.url}"
    code, out, err = looked_up("unknown", given, capfd=capfd, monkeypatch=monkeypatch)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"flight-delays: {says}")
    assert PASSWORD not in err
