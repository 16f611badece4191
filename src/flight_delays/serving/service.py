"""Versions that are served, and which of them answers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from mlflow.pyfunc import PyFuncModel

from flight_delays.core.contract import GOLDEN_TOLERANCE
from flight_delays.core.errors import UserError
from flight_delays.core.rules import rules_of
from flight_delays.core.scoring_request import RequestParser, ScoringRequest
from flight_delays.core.signature import Signature
from flight_delays.core.traffic import choose
from flight_delays.platform.registry import golden_difference, signature
from flight_delays.serving.configuration import Settings

FEW_ROWS = 16


class Lookup(Protocol):
    """What came of asking the online store for rows."""

    asked: int
    found: int
    failed: bool


class ScoringModel(Protocol):
    """What the service calls of a registered pyfunc, whose `predict` is made of the same (platform/shell.py)."""

    async def complete_async(
        self, columns: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[Mapping[str, npt.NDArray[Any]], Lookup]:
        """Add looked-up columns. Raises ConnectionError where it can't, and is told not to take their defaults."""

    def score(self, columns: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """The output columns."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A loaded version."""

    signature: Signature
    parser: RequestParser
    model: ScoringModel

    async def answer(self, request: ScoringRequest) -> tuple[list[dict[str, object]], Lookup]:
        """The output columns of each row, and what came of looking up. Many rows are scored in a thread."""
        columns, lookup = await self.model.complete_async(request.columns)
        few, score = request.rows <= FEW_ROWS, self.model.score
        answers = score(columns) if few else await asyncio.to_thread(score, columns)
        lists = [np.asarray(answers[column.name]).tolist() for column in self.signature.outputs]
        names = [column.name for column in self.signature.outputs]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)], lookup


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A served version; `id` is of this configuration of it, `percentage` its share of the traffic."""

    id: str
    name: str
    model_name: str
    version: int
    percentage: int
    loaded: LoadedModel = field(repr=False)


class Service:
    """The entities of one endpoint. Requests in flight end with the entity that they began with."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.entities: tuple[Entity, ...] = ()

    def configure(self, entities: Sequence[Entity]) -> None:
        """Serve these from now on, all at once. Raises UserError unless their percentages make 100."""
        if sum(entity.percentage for entity in entities) != 100:
            raise UserError("the percentages of the served versions must add up to 100")
        self.entities = tuple(entities)

    def route(self, draw: float) -> Entity | None:
        """The entity for a number drawn from 0 to below 1; None while there is none."""
        entities = self.entities
        return entities[choose([entity.percentage for entity in entities], draw)] if entities else None

    def named(self, name: str) -> Entity | None:
        """The entity of that name."""
        return next((entity for entity in self.entities if entity.name == name), None)


def load_checked(
    model: PyFuncModel, environment: Mapping[str, str], *, max_rows: int = Settings.max_rows
) -> LoadedModel:
    """A version that was checked by its own golden requests. `environment` names its online store.

    Raises UserError for a model that is none of this project's, or whose answers are not those recorded with it.
    """
    python_model = model.unwrap_python_model()
    if not all(hasattr(python_model, name) for name in ("connect", "complete_async", "score", "rules")):
        raise UserError(
            "the model is not one of this project's, or of an older release of it; register it by the train job"
        )
    difference = golden_difference(model)
    if not difference <= GOLDEN_TOLERANCE:
        raise UserError(f"an answer to a golden request is {difference:.3g} from the one recorded with the model")
    try:
        python_model.connect(environment)
        found = signature(model)
        parser = RequestParser(found, max_rows=max_rows, rules=rules_of(python_model.rules))
    except ValueError as error:
        raise UserError(str(error)) from None
    return LoadedModel(signature=found, parser=parser, model=python_model)
