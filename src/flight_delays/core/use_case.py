"""What a use case is: all that is particular to it, as one value. Nothing else in this package knows of any."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from optuna.distributions import BaseDistribution

from flight_delays.core.as_of import Question
from flight_delays.core.columns import UTC_TIME, Columns
from flight_delays.core.delivery import Delivery
from flight_delays.core.events import Events
from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME, Features
from flight_delays.core.learner import Learner
from flight_delays.core.objective import Objective
from flight_delays.core.quarantine import Contract
from flight_delays.core.scoring import TYPES
from flight_delays.core.signature import Column, Signature
from flight_delays.core.splits import Holdout

LABEL, KNOWN_AT, LABEL_KNOWN_AT = "label", "known_at", "label_known_at"
LABELS = pa.schema({ENTITY: pa.string(), DAY: pa.date32(), LABEL: pa.float64(), KNOWN_AT: UTC_TIME})
"""Columns of table labels."""

_WORDS = {kind: word for word, kind in TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raw table: what a row of it looks like, what delivers it, and which events tell it, if any do."""

    contract: Contract
    delivery: Delivery
    events: Events | None = None


@dataclass(frozen=True, kw_only=True)
class Spine:
    """Which rows are to be forecast: those of raw table `table`.

    `entity_id` (text), `prediction_ts` (UTC) and `day` (date) name its columns that tell what is forecast, as of when,
    and on which day it counts. A live request must bring the columns `request`; table features has these and `also`.
    """

    table: str
    entity_id: str
    prediction_ts: str
    day: str
    request: pa.Schema
    also: pa.Schema = field(default_factory=lambda: pa.schema([]))


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How it ended: `make` gives the columns of LABELS for rows of raw table `table`, of which it sees `columns`.

    A row without an outcome has the label NaN or the time NaT, and no row in table labels.
    """

    table: str
    columns: tuple[str, ...]
    make: Callable[[Columns], Columns]


class Preparation(Protocol):
    """A module that travels with each version, and therefore imports nothing of this project (models from code)."""

    __file__: str | None

    @property
    def CATEGORIES(self) -> Sequence[str]:  # noqa: N802
        """Prepared columns that are codes."""

    @property
    def RULES(self) -> Sequence[tuple[str, tuple[str, ...], Callable[..., npt.NDArray[np.bool_]]]]:  # noqa: N802
        """What a request may not be: reason, columns of the request, and which rows of these break it."""

    def learn(self, columns: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, Any]:
        """What is to be known of the training rows in order to prepare others, as JSON takes it."""

    def prepare(
        self, columns: Mapping[str, npt.NDArray[Any]], learnt: Mapping[str, Any]
    ) -> Mapping[str, npt.NDArray[np.float64]]:
        """Request and looked-up columns to the columns that a learner takes; one value out per row in."""

    def entity_ids(self, columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
        """What a request's rows are about, by its required columns."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the model is for, and where it is not to be trusted, as its model card tells them."""

    purpose: str
    limits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class UseCase:
    """One use case, whole.

    `entity` is what is forecast, in the singular; `maturity` how long after a day's end its outcomes are known;
    `slices` gives for rows of features each dimension's values, in none of which a new version may do harm; `sql` is
    the folder that declares its raw tables and its table features.
    """

    name: str
    entity: str
    question: str
    zone: ZoneInfo
    maturity: timedelta
    objective: Objective
    sources: tuple[Source, ...]
    spine: Spine
    questions: tuple[Question, ...]
    finish: Callable[[Columns], Columns]
    labels: Labels
    learner: Learner
    prepare: Preparation
    search_space: Mapping[str, BaseDistribution]
    slices: Callable[[pd.DataFrame], Mapping[str, npt.NDArray[np.str_]]]
    card: Card
    sql: Path

    @cached_property
    def features(self) -> Features:
        """What is asked of history, and what is made of the answers."""
        spine = self.spine
        keep = {ENTITY: pa.string(), PREDICTION_TIME: UTC_TIME, DAY: pa.date32()}
        return Features(
            table=spine.table,
            keep=pa.schema([*keep.items(), *spine.request, *spine.also]),
            renamed={ENTITY: spine.entity_id, PREDICTION_TIME: spine.prediction_ts, DAY: spine.day},
            questions=self.questions,
            finish=self.finish,
        )

    @cached_property
    def looked_up(self) -> tuple[str, ...]:
        """The features, by name: what a request may leave out."""
        nothing = {
            name: self.contract(name).schema.empty_table() for name in {*self.features.tables(), self.spine.table}
        }
        made = self.features.build(nothing[self.spine.table], nothing).schema.names
        return tuple(name for name in made if name not in self.features.keep.names)

    @property
    def prepare_file(self) -> Path:
        """The file that travels."""
        if self.prepare.__file__ is None:
            raise ValueError(f"{self.name}: prepare is no module of a file")
        return Path(self.prepare.__file__)

    @property
    def request(self) -> tuple[str, ...]:
        """What a request must have."""
        return tuple(self.spine.request.names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """All columns that a model takes."""
        return (*self.request, *self.looked_up)

    @cached_property
    def signature(self) -> Signature:
        """What a model takes and answers."""
        return Signature(
            inputs=(
                *(Column(name=one.name, type=_WORDS[one.type]) for one in self.spine.request),
                *(Column(name=name, type="double", required=False) for name in self.looked_up),
            ),
            outputs=tuple(Column(name=name, type=kind) for name, kind in self.objective.outputs.items()),
        )

    def holdout(self, as_of: datetime, days: int) -> Holdout:
        """The last `days` local days that had ended at least `maturity` before `as_of` (time zone aware).

        The maturity lets outcomes come in: a day that is judged too early lacks those that take long.
        """
        end = (as_of - self.maturity).astimezone(self.zone).date()
        return Holdout(first=end - timedelta(days=days), end=end)

    @property
    def told(self) -> list[tuple[Contract, Events]]:
        """The raw tables that events tell."""
        return [(source.contract, source.events) for source in self.sources if source.events]

    def contract(self, table: str) -> Contract:
        """Of a raw table. Raises KeyError for one that no source has."""
        return {source.contract.table: source.contract for source in self.sources}[table]
