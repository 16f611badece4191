"""The registered model: one pyfunc with its preparation inside.

MLflow stores this file itself as the model's code ("models from code"), so a version always runs the preparation it
was trained with, whatever package is installed where it is loaded. It therefore imports nothing of this project.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import lightgbm as lgb
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from pandas.tseries.holiday import USFederalHolidayCalendar
from psycopg.conninfo import conninfo_to_dict

ZONE = ZoneInfo("America/New_York")
A_MONDAY = np.datetime64("1970-01-05", "D")
THRESHOLD = 0.5  # a flight is called late from this probability on

# What a request must say ...
REQUEST = {
    "carrier": DataType.string,
    "flight": DataType.long,
    "origin": DataType.string,
    "dest": DataType.string,
    "distance": DataType.long,
    "sched_dep_ts": DataType.datetime,
    "sched_arr_time": DataType.long,
}
# ... and what is looked up for it. Null is each one's stated default: nothing was known in time.
GROUPS = {
    "weather": (
        *(f"weather_{name}" for name in ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust")),
        *(f"weather_{name}" for name in ("precip", "pressure", "visib", "age_minutes")),
        *(f"weather_{name}_change" for name in ("temp", "wind_speed", "pressure", "visib")),
    ),
    "plane": ("plane_year_built", "plane_seats", "plane_engines"),
    "origin": (
        "origin_overdue",
        "origin_scheduled",
        "origin_departures_2h_late_rate",
        "origin_departures_2h_delay",
        "origin_departures_24h_late_rate",
        "origin_departures_24h_delay",
    ),
    "carrier": (
        "carrier_departures_3h_late_rate",
        "carrier_departures_3h_delay",
        "carrier_arrivals_24h_late_rate",
        "carrier_arrivals_24h_delay",
    ),
    "destination": (
        "dest_arrivals_6h_late_rate",
        "dest_arrivals_6h_delay",
        "dest_arrivals_24h_late_rate",
        "dest_arrivals_24h_delay",
    ),
    "route": ("route_arrivals_7d_late_rate", "route_arrivals_7d_delay"),
    "flight number": ("number_arrivals_28d_flights", "number_arrivals_28d_late_rate", "number_arrivals_28d_delay"),
    "aircraft": (
        "aircraft_slack",
        "aircraft_scheduled_slack",
        "aircraft_arrivals_24h_late_rate",
        "aircraft_arrivals_24h_delay",
    ),
}
LOOKED_UP = {name: DataType.double for group in GROUPS.values() for name in group}
INPUTS = Schema(
    [
        *(ColSpec(kind, name) for name, kind in REQUEST.items()),
        *(ColSpec(kind, name, required=False) for name, kind in LOOKED_UP.items()),
    ]
)
OUTPUTS = Schema([ColSpec(DataType.double, "probability"), ColSpec(DataType.long, "prediction")])

CATEGORIES = ("carrier", "origin", "dest")


# Environment of whoever loads the model: where the online store is (a URL: sqlite:////path or postgresql://...), how
# long a request may wait for it, and what it then gets: `default` (each column's stated one) or `error`.
ONLINE_STORE = "FLIGHT_DELAYS_ONLINE_STORE"
ONLINE_STORE_LIMIT_MS = "FLIGHT_DELAYS_ONLINE_STORE_LIMIT_MS"
ONLINE_STORE_FAILURE = "FLIGHT_DELAYS_ONLINE_STORE_FAILURE"
ONLINE_TABLE = "flight_features_online"
SELECT = f"SELECT flight_id, {', '.join(LOOKED_UP)} FROM {ONLINE_TABLE} WHERE flight_id"
STORE_CONNECTIONS = 4
FEW_ROWS = 100

Value: TypeAlias = float | int | str | datetime | None
"""What an online store holds; sqlite has times as ISO 8601 text in UTC."""

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Columns of INPUTS, of one length: text as objects, times as datetime64 in UTC, the rest as numbers."""


def levels(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The values of each categorical column, sorted: the codes that training and scoring share."""
    return {column: sorted(rows[column].dropna().unique()) for column in CATEGORIES}


def columns_of(rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """Those of INPUTS that `rows` has."""
    return {name: rows[name].to_numpy() for name in (*REQUEST, *LOOKED_UP) if name in rows}


def prepare(rows: pd.DataFrame, levels: dict[str, list[str]]) -> pd.DataFrame:
    """Request and looked-up columns to the columns that the booster takes; one row out per row in."""
    return pd.DataFrame(prepared(columns_of(rows), levels), index=rows.index)


def prepared(columns: Columns, levels: dict[str, list[str]]) -> dict[str, npt.NDArray[np.float64]]:
    """Request and looked-up columns to the columns that the booster takes, in its order.

    `sched_arr_time` is local hhmm. A category not seen in training, like a missing value, becomes NaN, which the
    booster treats as unknown; so does a looked-up column that is not there.
    """
    local = _local(columns["sched_dep_ts"])
    day = local.astype("datetime64[D]")
    departure = np.floor((local - day) / np.timedelta64(1, "m"))
    arrival = columns["sched_arr_time"] // 100 * 60 + columns["sched_arr_time"] % 100
    turn = 2 * np.pi * departure / 1440
    unknown = np.full(len(local), np.nan)
    known = {name: np.asarray(columns.get(name, unknown), dtype="float64") for name in LOOKED_UP}
    built = known.pop("plane_year_built")
    return {
        **{column: _codes(columns[column], values) for column, values in levels.items()},
        "distance": np.asarray(columns["distance"], dtype="float64"),
        # A day's clock has no end: 23:59 is near 00:00.
        "hour_sin": np.sin(turn),
        "hour_cos": np.cos(turn),
        "departure_minute": departure,
        "weekday": (day - A_MONDAY) / np.timedelta64(1, "D") % 7,
        "days_from_holiday": days_from_holiday(day),
        # On the clocks of both ends: the time zone between them goes with the destination.
        "scheduled_minutes": np.asarray((arrival - departure) % 1440, dtype="float64"),
        **known,
        "plane_age": (day.astype("datetime64[Y]") - np.datetime64(0, "Y")) / np.timedelta64(1, "Y") + 1970 - built,
    }


def _codes(values: npt.NDArray[Any], known: list[str]) -> npt.NDArray[np.float64]:
    codes = {value: code for code, value in enumerate(known)}
    return np.array([codes.get(value, np.nan) for value in values.tolist()], dtype="float64")


def _local(utc: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """On the clocks of ZONE, which change at a full hour. Much faster on one row than pandas, and as fast on many."""
    hours, of_row = np.unique(utc.astype("datetime64[h]"), return_inverse=True)
    offsets = [
        None if hour is None else hour.replace(tzinfo=UTC).astimezone(ZONE).utcoffset() for hour in hours.tolist()
    ]
    local: npt.NDArray[np.datetime64] = utc + np.array(offsets, dtype="timedelta64[us]")[of_row]
    return local


def days_from_holiday(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
    """Days since the nearest federal holiday of the United States, negative before it; in a tie the coming one."""
    known = days[~np.isnat(days)]
    if not len(known):
        return np.full(len(days), np.nan)
    years = known.astype("datetime64[Y]").astype(int) + 1970
    holidays = _holidays(int(years.min()) - 1, int(years.max()) + 1)
    following = np.searchsorted(holidays[:-1], days)  # no time is sorted to the end
    ahead, since = (np.abs(holidays[at] - days) / np.timedelta64(1, "D") for at in (following, following - 1))
    return np.where(ahead <= since, -ahead, since)


@cache
def _holidays(first_year: int, last_year: int) -> npt.NDArray[np.datetime64]:
    days = USFederalHolidayCalendar().holidays(datetime(first_year, 1, 1), datetime(last_year, 12, 31))  # noqa: DTZ001
    return np.asarray(days, dtype="datetime64[D]")


def calibrated(forecast: npt.NDArray[np.float64], slope: float, intercept: float) -> npt.NDArray[np.float64]:
    """Platt scaling on the log odds (Platt 1999): slope 1 and intercept 0 change nothing."""
    forecast = np.clip(forecast, 1e-15, 1 - 1e-15)
    odds: npt.NDArray[np.float64] = np.log(forecast) - np.log1p(-forecast)
    return 1 / (1 + np.exp(-(intercept + slope * odds)))


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What came of asking the online store for rows: how many were asked for, how many found, or that it `failed`."""

    asked: int = 0
    found: int = 0
    failed: bool = False


class NoTableError(ConnectionError):
    """The online store answers, and has not got the table."""


class OnlineStore:
    """A table of a sqlite file or a PostgreSQL database, by flight_id; any thread may ask.

    `select` names the columns, flight_id first, and the table, and ends where the ids follow. A small pool asks, one
    connection to PostgreSQL kept per thread: a store that hangs holds up no more than that.
    """

    def __init__(self, url: str, limit_s: float, *, select: str = SELECT) -> None:
        if not 0.001 <= limit_s <= 60:
            raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_s * 1000:g}; set it to 1 to 60000 milliseconds")
        self._url, self._limit_s, self._is_file = url, limit_s, url.startswith("sqlite:///")
        self._select = select
        try:
            if self._is_file:
                self._url = f"{Path(url.removeprefix('sqlite:///')).as_uri()}?mode=ro"
            elif not url.startswith("postgresql://") or not conninfo_to_dict(url):
                raise ValueError
        except (ValueError, psycopg.ProgrammingError):
            # Neither the URL nor what its reader says of it: they may hold a password.
            raise ValueError(
                f"{ONLINE_STORE} is neither sqlite:////<path> nor postgresql://<user>:<password>@<host>/<database>, "
                "with special characters as %XX"
            ) from None
        self._threads = ThreadPoolExecutor(STORE_CONNECTIONS, thread_name_prefix="online-store")
        self._kept = threading.local()

    def find(self, ids: list[str]) -> dict[str, tuple[Value, ...]]:
        """The selected values of each id that is there. Raises ConnectionError if that fails or takes too long."""
        failure = ConnectionError
        asked = self._threads.submit(self._ask_sqlite if self._is_file else self._ask_postgresql, ids)
        try:
            return {row[0]: row[1:] for row in asked.result(self._limit_s)}
        except (TimeoutError, psycopg.errors.QueryCanceled):
            asked.cancel()
            why = f"took more than {self._limit_s * 1000:g} ms"
        except (sqlite3.Error, psycopg.Error, OSError) as error:
            # PostgreSQL's words, and so the error itself, may hold a password that was not written as a URL wants it.
            why = f"failed: {error if isinstance(error, sqlite3.Error) else type(error).__name__}"
            if isinstance(error, psycopg.errors.UndefinedTable) or str(error).startswith("no such table: "):
                failure = NoTableError
        raise failure(f"the online store {why}")

    def _ask_sqlite(self, ids: list[str]) -> list[tuple[Any, ...]]:
        # Opened anew, in a third of a millisecond: a kept connection would go on reading a file that was replaced.
        with closing(sqlite3.connect(self._url, uri=True, timeout=self._limit_s)) as opened:
            return opened.execute(f"{self._select} IN (SELECT value FROM json_each(?))", (json.dumps(ids),)).fetchall()

    def _ask_postgresql(self, ids: list[str]) -> list[tuple[Any, ...]]:
        query = f"{self._select} = ANY(%s)"
        # What is no text in PostgreSQL is no flight's id either, rather than a failure.
        ids = [key for key in ids if "\0" not in key and key == key.encode(errors="ignore").decode()]
        kept: psycopg.Connection[tuple[Any, ...]] | None = getattr(self._kept, "connection", None)
        if kept is not None:
            try:
                return kept.execute(query, (ids,)).fetchall()
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.Error:  # it has broken since: once more on a new one
                kept.close()
        # Without the second time-out a connection that is cut in silence would be waited on for a quarter of an hour.
        kept = psycopg.connect(
            self._url, autocommit=True, connect_timeout=2, tcp_user_timeout=2000, prepare_threshold=1
        )
        kept.execute(f"SET statement_timeout = {round(self._limit_s * 1000)}")
        self._kept.connection = kept
        return kept.execute(query, (ids,)).fetchall()


def online_store(environment: Mapping[str, str], *, select: str = SELECT) -> OnlineStore | None:
    """The store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
    limit_ms, url = environment.get(ONLINE_STORE_LIMIT_MS, "100"), environment.get(ONLINE_STORE)
    try:
        limit_s = float(limit_ms) / 1000
    except ValueError:
        raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_ms!r}; set it to 1 to 60000 milliseconds") from None
    return OnlineStore(url, limit_s, select=select) if url else None


class DelayModel(PythonModel):
    """Columns as INPUTS and OUTPUTS. Artifacts: `booster` (LightGBM's own text format), and JSON files `levels`,
    `calibration` (slope, intercept) and `golden` (requests, and the probability that each must get).

    A service that checks requests itself calls `complete` and `score`, of which `predict` is made, without pandas.
    """  # fmt: skip

    store: OnlineStore | None = None
    default_on_failure = True

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts; the environment says where the online store is."""
        self.booster = lgb.Booster(model_file=context.artifacts["booster"])
        self.levels: dict[str, list[str]] = _read(context, "levels")
        self.calibration: dict[str, float] = _read(context, "calibration")
        self.golden: dict[str, list[Any]] = _read(context, "golden")
        self.connect(os.environ)

    def connect(self, environment: Mapping[str, str]) -> None:
        """Use the online store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
        failure = environment.get(ONLINE_STORE_FAILURE, "default")
        if failure not in ("default", "error"):
            raise ValueError(f"{ONLINE_STORE_FAILURE} is {failure!r}; set it to default or error")
        self.default_on_failure, self.store = failure == "default", online_store(environment)

    def complete(self, columns: Columns) -> tuple[Columns, Lookup]:
        """`columns` with all of LOOKED_UP. Those given stay, nulls too; the others are read from the online store.

        Null where they are not found, or where no store is named. Raises ConnectionError if the store fails and the
        environment asks for an error then.
        """
        absent = [(at, name) for at, name in enumerate(LOOKED_UP) if name not in columns]
        if not absent or self.store is None:
            return columns, Lookup()
        ids = flight_ids(columns)
        try:
            known = self.store.find(ids)
        except ConnectionError:
            if not self.default_on_failure:
                raise
            return columns, Lookup(asked=len(ids), failed=True)
        nothing = (None,) * len(LOOKED_UP)
        rows = np.array([known.get(key, nothing) for key in ids], dtype="float64").reshape(len(ids), len(LOOKED_UP))
        looked_up = {name: rows[:, at] for at, name in absent}
        return {**columns, **looked_up}, Lookup(asked=len(ids), found=sum(key in known for key in ids))

    def score(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """Probability of arriving late, and 1 from THRESHOLD on, of each row; a looked-up column may be missing."""
        features = prepared(columns, self.levels)
        matrix = np.empty((len(features["distance"]), len(features)))
        for at, values in enumerate(features.values()):
            matrix[:, at] = values
        # To start threads takes longer than a few rows do.
        forecast = np.asarray(self.booster.predict(matrix, num_threads=1 if len(matrix) <= FEW_ROWS else 0))
        probability = calibrated(forecast, **self.calibration)
        return {"probability": probability, "prediction": (probability >= THRESHOLD).astype("int64")}

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """The answers of `score`, completed before; one row out per row in."""
        return pd.DataFrame(self.score(self.complete(columns_of(model_input))[0]), index=model_input.index)


def flight_ids(columns: Columns) -> list[str]:
    """As raw_flights makes them: carrier-flight-origin-dest-scheduled departure in UTC."""
    departures = np.datetime_as_string(columns["sched_dep_ts"].astype("datetime64[m]")).tolist()
    parts = (columns[name].tolist() for name in ("carrier", "flight", "origin", "dest"))
    return [
        f"{carrier}-{flight}-{origin}-{dest}-{departure.replace('-', '').replace(':', '')}Z"
        for carrier, flight, origin, dest, departure in zip(*parts, departures, strict=True)
    ]


def _read(context: PythonModelContext, artifact: str) -> Any:  # noqa: ANN401  # JSON
    return json.loads(Path(context.artifacts[artifact]).read_text())


mlflow.models.set_model(DelayModel())
