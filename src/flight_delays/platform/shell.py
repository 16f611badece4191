"""The registered model: one pyfunc, whatever the use case, with its preparation and its learner inside.

MLflow stores this file itself as the model's code ("models from code"), and a version's own `prepare.py` and learner
are among its artifacts: so a version runs what it was trained with, whatever package is installed where it is loaded,
and whatever other versions the process holds. It imports nothing of this project.
"""

import importlib.util
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from psycopg.conninfo import conninfo_to_dict

# Environment of whoever loads the model: where the online store is (a URL: sqlite:////path or postgresql://...), how
# long a request may wait for it, and what it then gets: `default` (each column's stated one) or `error`.
ONLINE_STORE = "FLIGHT_DELAYS_ONLINE_STORE"
ONLINE_STORE_LIMIT_MS = "FLIGHT_DELAYS_ONLINE_STORE_LIMIT_MS"
ONLINE_STORE_FAILURE = "FLIGHT_DELAYS_ONLINE_STORE_FAILURE"
ONLINE_TABLE = "features_online"
STORE_CONNECTIONS = 4

Value: TypeAlias = float | int | str | datetime | None
"""What an online store holds; sqlite has times as ISO 8601 text in UTC."""

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Columns of one length: text as objects, times as datetime64 in UTC, the rest as numbers."""

_LOADING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What came of asking the online store for rows: how many were asked for, how many found, or that it `failed`."""

    asked: int = 0
    found: int = 0
    failed: bool = False


class NoTableError(ConnectionError):
    """The online store answers, and has not got the table."""


class OnlineStore:
    """A table of a sqlite file or a PostgreSQL database, by entity_id; any thread may ask.

    `columns` of `table` are found. A small pool asks, one connection to PostgreSQL kept per thread: a store that hangs
    holds up no more than that.
    """

    def __init__(self, url: str, limit_s: float, *, table: str, columns: Sequence[str]) -> None:
        if not 0.001 <= limit_s <= 60:
            raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_s * 1000:g}; set it to 1 to 60000 milliseconds")
        self._url, self._limit_s, self._is_file = url, limit_s, url.startswith("sqlite:///")
        self._select = f"SELECT entity_id, {', '.join(columns)} FROM {table} WHERE entity_id"
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
        """The values of each id that is there. Raises ConnectionError if that fails or takes too long."""
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
        # What is no text in PostgreSQL is nobody's id either, rather than a failure.
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


def online_store(environment: Mapping[str, str], *, table: str, columns: Sequence[str]) -> OnlineStore | None:
    """The store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
    limit_ms, url = environment.get(ONLINE_STORE_LIMIT_MS, "100"), environment.get(ONLINE_STORE)
    try:
        limit_s = float(limit_ms) / 1000
    except ValueError:
        raise ValueError(f"{ONLINE_STORE_LIMIT_MS} is {limit_ms!r}; set it to 1 to 60000 milliseconds") from None
    return OnlineStore(url, limit_s, table=table, columns=columns) if url else None


class Shell(PythonModel):
    """A registered version. Artifacts: `prepare` and `learner` (files of code), `model` (a folder that the learner
    wrote), `golden` (requests with the answers that each must get) and `shell`, JSON: `objective` (binary or
    regression), `threshold`, `slope` and `intercept` of the correction, `learnt` (what `prepare` is told of the
    training rows), and the columns: `request`, which are required, and `looked_up`, of which null is the default.

    A service that checks requests itself calls `complete` and `score`, of which `predict` is made, without pandas.
    """  # fmt: skip

    store: OnlineStore | None = None
    default_on_failure = True

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts; the environment says where the online store is."""
        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.code = load_code(artifacts["prepare"])
        self.model = load_code(artifacts["learner"]).load(artifacts["model"])
        self.golden: dict[str, list[Any]] = json.loads(artifacts["golden"].read_text(encoding="utf-8"))
        self.settings: dict[str, Any] = json.loads(artifacts["shell"].read_text(encoding="utf-8"))
        self.looked_up: list[str] = self.settings["looked_up"]
        self.connect(os.environ)

    def connect(self, environment: Mapping[str, str]) -> None:
        """Use the online store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
        failure = environment.get(ONLINE_STORE_FAILURE, "default")
        if failure not in ("default", "error"):
            raise ValueError(f"{ONLINE_STORE_FAILURE} is {failure!r}; set it to default or error")
        self.default_on_failure = failure == "default"
        self.store = online_store(environment, table=ONLINE_TABLE, columns=self.looked_up)

    @property
    def rules(self) -> Sequence[tuple[str, tuple[str, ...], Any]]:
        """What a request may not be: reason, columns, and which rows of them break it."""
        rules: Sequence[tuple[str, tuple[str, ...], Any]] = self.code.RULES
        return rules

    def entity_ids(self, columns: Columns) -> list[str]:
        """What the rows are about."""
        ids: list[str] = self.code.entity_ids(columns)
        return ids

    def complete(self, columns: Columns) -> tuple[Columns, Lookup]:
        """`columns` with all that is looked up. Those given stay, nulls too; the others are read from the online store.

        Null where they are not found, or where no store is named. Raises ConnectionError if the store fails and the
        environment asks for an error then.
        """
        absent = [(at, name) for at, name in enumerate(self.looked_up) if name not in columns]
        if not absent or self.store is None:
            return columns, Lookup()
        ids = self.entity_ids(columns)
        try:
            known = self.store.find(ids)
        except ConnectionError:
            if not self.default_on_failure:
                raise
            return columns, Lookup(asked=len(ids), failed=True)
        nothing = (None,) * len(self.looked_up)
        rows = np.array([known.get(key, nothing) for key in ids], dtype="float64").reshape(len(ids), len(nothing))
        found = {name: rows[:, at] for at, name in absent}
        return {**columns, **found}, Lookup(asked=len(ids), found=sum(key in known for key in ids))

    def score(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """The outputs of each row: a `prediction`, and of a classification its `probability`."""
        rows = len(columns[self.settings["request"][0]])
        unknown = np.full(rows, np.nan)
        given = {name: columns[name] for name in self.settings["request"]}
        given |= {name: np.asarray(columns.get(name, unknown), dtype="float64") for name in self.looked_up}
        prepared = self.code.prepare(given, self.settings["learnt"])
        matrix = np.empty((rows, len(prepared)))
        for at, values in enumerate(prepared.values()):
            matrix[:, at] = values
        forecast = np.asarray(self.model.predict(matrix))
        slope, intercept = self.settings["slope"], self.settings["intercept"]
        if self.settings["objective"] == "regression":
            return {"prediction": intercept + slope * forecast}
        certain = np.clip(forecast, 1e-15, 1 - 1e-15)
        odds = np.log(certain) - np.log1p(-certain)
        probability = 1 / (1 + np.exp(-(intercept + slope * odds)))
        return {
            "probability": probability,
            "prediction": (probability >= self.settings["threshold"]).astype("int64"),
        }

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """The answers of `score`, completed before; one row out per row in. Times without a zone are in UTC."""
        names = (*self.settings["request"], *self.looked_up)
        columns = {name: _values(model_input[name]) for name in names if name in model_input}
        return pd.DataFrame(self.score(self.complete(columns)[0]), index=model_input.index)


def load_code(file: Path) -> ModuleType:
    """The module that a file is, by its contents: two versions of it in one process are two modules."""
    name = f"{file.stem}_{sha256(file.read_bytes()).hexdigest()}"
    with _LOADING:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None:
                raise ImportError(f"{file} is no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]


def _values(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    """Times with a zone in UTC."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column.to_numpy()


mlflow.models.set_model(Shell())
