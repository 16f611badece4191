"""The registered model: one pyfunc, whatever the use case, with its preparation and its learner inside.

MLflow stores this file itself as the model's code ("models from code"), and a version's own `prepare.py` and learner
are among its artifacts: so a version runs what it was trained with, whatever package is installed where it is loaded,
and whatever other versions the process holds. It imports nothing of this project.
"""

import importlib.util
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Columns of one length: text as objects, times as datetime64 in UTC, the rest as numbers."""

_LOADING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What came of asking the online store for rows: how many were asked for, how many found, or that it `failed`."""

    asked: int = 0
    found: int = 0
    failed: bool = False


class Shell(PythonModel):
    """A registered version. Artifacts: `prepare`, `learner` and `online` (code), `model` (a folder that the learner
    wrote), `golden` (requests with the answers that each must get) and `shell`, JSON: `objective` (binary or
    regression), `threshold`, `slope` and `intercept` of the correction, `learnt` (what `prepare` is told of the
    training rows), and the columns: `request`, which are required, and `looked_up`, of which null is the default.

    A service that checks requests itself calls `complete_async` and `score`, without pandas.
    """  # fmt: skip

    store: Any = None  # an OnlineStore of `online`, if the environment names one
    default_on_failure = True

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifacts; the environment says where the online store is."""
        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.code = load_code(artifacts["prepare"])
        self.online = load_code(artifacts["online"])
        self.model = load_code(artifacts["learner"]).load(artifacts["model"])
        self.golden: dict[str, list[Any]] = json.loads(artifacts["golden"].read_text(encoding="utf-8"))
        self.settings: dict[str, Any] = json.loads(artifacts["shell"].read_text(encoding="utf-8"))
        self.looked_up: list[str] = self.settings["looked_up"]
        self.connect(os.environ)

    def connect(self, environment: Mapping[str, str]) -> None:
        """Use the online store that ONLINE_STORE names, if any. Raises ValueError for settings that make no sense."""
        online, name = self.online, self.online.ONLINE_STORE_FAILURE
        failure = environment.get(name, "default")
        if failure not in ("default", "error"):
            raise ValueError(f"{name} is {failure!r}; set it to default or error")
        self.default_on_failure = failure == "default"
        self.store = online.online_store(environment, table=online.ONLINE_TABLE, columns=self.looked_up)

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
        """As `complete_async`, for a caller that has no event loop."""
        if self.store is None:
            return columns, Lookup()
        completed: tuple[Columns, Lookup] = self.store.wait(self.complete_async(columns))
        return completed

    async def complete_async(self, columns: Columns) -> tuple[Columns, Lookup]:
        """`columns` with all that is looked up. Those given stay, nulls too; the others are read from the online store.

        Null where they are not found, or where no store is named. Raises ConnectionError if the store fails and the
        environment asks for an error then.
        """
        absent = [(at, name) for at, name in enumerate(self.looked_up) if name not in columns]
        if not absent or self.store is None:
            return columns, Lookup()
        ids = self.entity_ids(columns)
        try:
            known = await self.store.find(ids)
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
