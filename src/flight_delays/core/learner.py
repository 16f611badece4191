"""How models are fitted, with any library.

A learner's file is logged with each version. Beside this protocol it has a function `load(folder)` that returns, from
what `Model.save` wrote, an object with the same `predict`. It imports nothing of this project.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import pandas as pd

from flight_delays.core.metrics import Floats

Parameters: TypeAlias = Mapping[str, float | int | str | bool]


class Model(Protocol):
    """A fitted model."""

    def predict(self, matrix: Floats) -> Floats:
        """One forecast per row; the columns of `matrix` are those of the rows that it was fitted on, in order."""

    def save(self, folder: Path) -> None:
        """Write all that `load` needs into an empty folder: the same model, the same bytes."""

    def importance(self) -> Mapping[str, float]:
        """How much each column of the fitted rows contributes, 0 or more; 0 for one that is not used."""


class Fold(Protocol):
    """Rows to learn from and rows to evaluate on, prepared once for all parameters that are tried."""

    def fit(self, parameters: Parameters, repeat: int = 0) -> tuple[Floats, int]:
        """Forecasts of the rows to judge by, and the best number of rounds; 0 where a learner has no rounds.

        Each `repeat` is fitted with other random numbers, if the learner draws any.
        """


class Learner(Protocol):
    """Rows are columns of float64 as the use case prepares them; `categories` names those that are codes."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def parameters(self) -> Parameters:
        """Where the search begins."""

    @property
    def code(self) -> Path:
        """The file that is logged with each version."""

    @property
    def requirements(self) -> Sequence[str]:
        """Packages that the file imports."""

    def fold(
        self,
        rows: pd.DataFrame,
        labels: Floats,
        judged: pd.DataFrame,
        judged_labels: Floats,
        categories: Sequence[str],
    ) -> Fold:
        """A fold of the search."""

    def fit(
        self, rows: pd.DataFrame, labels: Floats, categories: Sequence[str], parameters: Parameters, rounds: int
    ) -> Model:
        """A model. The same rows and parameters give the same one."""
