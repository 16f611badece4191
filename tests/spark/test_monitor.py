"""The monitor on tables: signals are found once, a broken feed is one incident, and a killed run leaves no gap."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.contexts import RETRAINING, WATCH, make_context, printed
from tests.faults.seams import KilledError, Killer, Seam
from tests.spark.test_performance import predictions, write

from flight_delays.core.errors import UserError
from flight_delays.core.profiles import bins_json, bins_of_all
from flight_delays.core.settings import Incidents, Performance, Retraining, Signals
from flight_delays.core.training import columns_of
from flight_delays.platform.context import Context
from flight_delays.platform.delta import Tables, collected
from flight_delays.platform.registry import Version
from flight_delays.tasks import performance, retraining, signals
from flight_delays.tasks.record import BINS_FILE, FOLDS_FILE
from flight_delays.use_case import USE_CASE

NAME = "measured"
QUIET = date(2013, 2, 10)  # the last day before the feed breaks
WATCHED = replace(
    WATCH, watch_reference_days=28, min_reference_days=21, windows=(7, 14), permutations=199, max_decay=0.3
)
LOOK = Signals(model_name=NAME, watch=WATCHED)
DECIDE = Retraining(model_name=NAME, watch=WATCHED, policy=RETRAINING)


def after(day: date) -> datetime:
    """When the outcomes of a day are known."""
    return datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC) + timedelta(days=1)


@dataclass(frozen=True)
class Trained:
    """A registry with one version, the champion, and what its training kept."""

    files: dict[str, bytes]

    champion: tuple[int, ...] = (1,)

    def aliases(self, _: str) -> dict[str, int]:
        return dict.fromkeys(["champion"][: len(self.champion)], 1)

    def version(self, name: str, number: int) -> Version:
        return Version(name=name, number=number, run_id="run", tags={"trained_until": "2013-01-01"})

    def kept(self, version: Version, file: str) -> bytes:
        if file not in self.files:
            raise UserError(f"version {version.number} has kept no {file}")
        return self.files[file]


def trained(rows: pd.DataFrame) -> Any:
    labels, forecasts = rows["label"].to_numpy(), rows["forecast"].to_numpy()
    columns = {**columns_of(USE_CASE, rows), "forecast": forecasts, "label": labels}
    folds = io.BytesIO()
    rows[["label", "forecast"]].to_parquet(folds)
    return Trained({BINS_FILE: bins_json(bins_of_all(columns)).encode(), FOLDS_FILE: folds.getvalue()})


@pytest.fixture(scope="module")
def rows(flights: pd.DataFrame) -> pd.DataFrame:
    """Forecasts that are right; after the quiet days the feed of visibility is broken."""
    found = flights.assign(forecast=np.where(flights["weather_visib"] < 3, 0.8, 0.1))
    broken = found["day"] > QUIET
    found.loc[broken, "weather_visib"] = np.nan
    found.loc[broken, "forecast"] = 0.3
    return found


@pytest.fixture(scope="module")
def quiet(new_tables: Callable[[str], Tables], rows: pd.DataFrame) -> Context:
    """All quiet days, measured."""
    return world(new_tables("monitor"), rows)


def world(tables: Tables, rows: pd.DataFrame) -> Context:
    context = make_context(as_of=after(QUIET), tables=tables, registry=trained(rows[rows["day"] <= QUIET]))
    come_in(context, rows[rows["day"] <= QUIET])
    return context


def come_in(context: Context, some: pd.DataFrame) -> None:
    write(context.tables, "features", some)
    write(context.tables, "labels", some.rename(columns={"label_known_at": "known_at"}))
    write(context.tables, "predictions", predictions(some, 1, "batch", some["forecast"]).assign(model_name=NAME))


def monitor(context: Context) -> Any:
    """The job's tasks; the values they set."""
    performance.run(context, Performance(model_name=NAME))
    signals.run(context, LOOK)
    retraining.run(context, DECIDE)
    return context.task_values


def kept(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """What the monitor left, without the clock's times and as of when."""
    found = {}
    for name in ("signals", "incidents", "decisions", "estimated_performance", "profiles"):
        frame = tables.read(name).drop("recorded_at", "as_of", "digest")
        found[name] = sorted(collected(frame), key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return found


@pytest.fixture(scope="module")
def first(quiet: Context) -> dict[str, list[dict[str, Any]]]:
    """What a quiet day leaves."""
    assert {**monitor(quiet)}["retraining"] == "KEEP"
    return kept(quiet.tables)


def test_while_nothing_happens_nothing_is_called_an_incident(quiet: Context, first: dict[str, Any]) -> None:
    assert not [row for row in first["signals"] if row["outcome"] == "ALARM"], printed(quiet)
    assert not first["incidents"]
    (decision,) = first["decisions"]
    assert (decision["kind"], decision["outcome"]) == ("retraining", "KEEP")
    assert decision["reasons"] == ["0 alarms in 2 measured weeks of the last 4, 3 needed", "no training is on record"]
    kinds = {row["kind"] for row in first["signals"] if row["outcome"] == "OK"}
    assert {"drift", "decay", "coverage", "volume", "freshness", "duplicates", "nulls", "range"} <= kinds
    assert {row["subject"] for row in first["signals"] if row["kind"] == "drift"} >= {"forecast", "label", "carrier"}


def test_what_was_said_before_labels_were_known_is_near_to_what_came(quiet: Context, first: dict[str, Any]) -> None:
    realised = {row["day"]: row["loss"] for row in collected(quiet.tables.read("daily_performance"))}
    estimates = [row for row in first["estimated_performance"] if row["estimated_loss"] is not None]
    assert len(estimates) > 20
    for row in estimates:
        assert row["expected_loss"] == pytest.approx(0.36, abs=0.1)
    mean = np.mean([row["estimated_loss"] - realised[row["day"]] for row in estimates])
    assert abs(mean) < 0.05


def test_a_second_run_finds_nothing_new(quiet: Context, first: dict[str, Any]) -> None:
    versions = {name: quiet.tables.version(name) for name in ("signals", "profiles", "estimated_performance")}
    monitor(quiet)
    assert {name: quiet.tables.version(name) for name in versions} == versions
    assert kept(quiet.tables) == first


@pytest.fixture(scope="module")
def broken(quiet: Context, first: dict[str, Any], rows: pd.DataFrame) -> Context:
    """The day after, as the job sees it."""
    assert not first["incidents"]
    day = QUIET + timedelta(days=1)
    context = replace(quiet, as_of=after(day), clock=lambda: after(day))
    come_in(context, rows[rows["day"] == day])
    monitor(context)
    return context


def test_a_broken_feed_is_noticed_on_its_first_day_and_is_one_incident(broken: Context) -> None:
    found = kept(broken.tables)
    alarms = {(row["kind"], row["subject"], row["day"]) for row in found["signals"] if row["outcome"] == "ALARM"}
    assert ("nulls", "weather_visib", QUIET + timedelta(days=1)) in alarms
    data = [row for row in found["incidents"] if row["family"] == "data"]
    assert {row["incident_id"] for row in data} == {data[0]["incident_id"]}
    assert [row["event"] for row in data].count("OPENED") == 1
    (opened,) = (row for row in data if row["event"] == "OPENED")
    assert opened["since"] == QUIET + timedelta(days=1)
    assert "nulls of weather_visib, on 2013-02-11: 100.0% of rows have no value" in opened["reason"]
    assert "The champion still serves. To do: find out " in opened["reason"]
    view = collected(broken.tables.read("open_incidents").where("family = 'data'"))
    assert [(row["acknowledged"], "nulls of weather_visib" in row["affected"]) for row in view] == [(False, True)]


def test_an_incident_can_be_acknowledged_by_the_beginning_of_its_id(broken: Context) -> None:
    (row, *_) = collected(broken.tables.read("open_incidents").where("family = 'data'"))
    with pytest.raises(UserError, match="0 open incidents have an id that begins with nothing"):
        retraining.incidents(broken, Incidents(model_name=NAME, acknowledge="nothing", reason="seen"))
    retraining.incidents(broken, Incidents(model_name=NAME, acknowledge=row["incident_id"][:8], reason="seen"))
    (now, *_) = collected(broken.tables.read("open_incidents").where("family = 'data'"))
    assert (now["acknowledged"], now["reason"]) == (True, row["reason"])
    before = kept(broken.tables)["incidents"]
    monitor(broken)
    assert kept(broken.tables)["incidents"] == before
    retraining.incidents(broken, Incidents(model_name=NAME))
    assert row["incident_id"][:12] in printed(broken)


def test_killed_before_any_write_the_next_run_leaves_what_an_undisturbed_one_does(
    new_tables: Callable[[str], Tables], rows: pd.DataFrame
) -> None:
    some = rows[rows["day"] > QUIET - timedelta(days=26)]

    def ready(name: str) -> Context:
        context = world(new_tables(name), some)
        come_in(context, some[some["day"] == QUIET + timedelta(days=1)])
        context = replace(context, as_of=after(QUIET + timedelta(days=1)))
        performance.run(context, Performance(model_name=NAME))
        return context

    def look_and_decide(context: Context) -> None:
        signals.run(context, LOOK)
        retraining.run(context, DECIDE)

    def around(killer: Killer, context: Context) -> Context:
        decisions: Any = Seam(context.decisions, killer, {"append"}.__contains__)
        return replace(context, tables=killer.of_tables(context.tables), decisions=decisions)

    undisturbed, disturbed, all_of_them = ready("undisturbed"), ready("disturbed"), Killer()
    look_and_decide(around(all_of_them, undisturbed))
    writes = ["upsert profiles", "upsert signals", "append", "append_new incidents"]
    assert all_of_them.writes == writes
    for write_of in writes:
        with pytest.raises(KilledError, match=write_of):
            look_and_decide(around(Killer(lambda seen, last=write_of: seen[-1] == last), disturbed))
    look_and_decide(disturbed)
    assert kept(disturbed.tables) == kept(undisturbed.tables)


def test_without_a_champion_or_its_bins_nothing_is_watched_and_that_is_said(quiet: Context) -> None:
    for registry, said in (
        (Trained({}, ()), "has no champion"),
        (Trained({}), "Nothing is watched: version 1 has kept no"),
    ):
        context = make_context(as_of=after(QUIET), tables=quiet.tables, registry=registry)  # type: ignore[arg-type]
        signals.run(context, LOOK)
        assert said in printed(context)
        assert {**context.task_values} == {"alarms": "0"}  # type: ignore[dict-item]
