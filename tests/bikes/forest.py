"""A random forest, by scikit-learn. This file travels with each version: it imports nothing of the project."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

Floats = npt.NDArray[np.float64]
FILE = "forest.joblib"


@dataclass(frozen=True)
class Trees:
    """A fitted forest; `names` are its columns."""

    forest: RandomForestRegressor
    names: list[str]

    def predict(self, matrix: Floats) -> Floats:
        """The mean of the trees."""
        return np.asarray(self.forest.predict(matrix))

    def save(self, folder: Path) -> None:
        """By joblib, as scikit-learn's own pages say."""
        joblib.dump((self.forest, self.names), folder / FILE)

    def importance(self) -> Mapping[str, float]:
        """Share of the variance that the splits by each column take away."""
        return dict(zip(self.names, map(float, self.forest.feature_importances_), strict=True))


def load(folder: Path) -> Trees:
    """What `save` wrote."""
    return Trees(*joblib.load(folder / FILE))


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to judge by."""

    rows: pd.DataFrame
    labels: Floats
    judged: pd.DataFrame

    def fit(self, parameters: Mapping[str, Any], repeat: int = 0) -> tuple[Floats, int]:
        """A forest has no rounds."""
        return _fitted(self.rows, self.labels, parameters, repeat).predict(self.judged.to_numpy()), 0


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Sixty trees with `parameters` by scikit-learn's own names."""

    parameters: Mapping[str, float]

    name = "random forest"
    code = Path(__file__)
    requirements = ("joblib", "numpy", "pandas", "scikit-learn")

    def fold(
        self,
        rows: pd.DataFrame,
        labels: Floats,
        judged: pd.DataFrame,
        judged_labels: Floats,  # noqa: ARG002
        categories: Sequence[str],  # noqa: ARG002
    ) -> Fold:
        """Nothing to make ready."""
        return Fold(rows, labels, judged)

    def fit(
        self,
        rows: pd.DataFrame,
        labels: Floats,
        categories: Sequence[str],  # noqa: ARG002
        parameters: Mapping[str, Any],
        rounds: int,  # noqa: ARG002
    ) -> Trees:
        """The same rows, the same forest."""
        return _fitted(rows, labels, parameters)


def _fitted(rows: pd.DataFrame, labels: Floats, parameters: Mapping[str, Any], repeat: int = 0) -> Trees:
    forest = RandomForestRegressor(n_estimators=60, random_state=2011 + repeat, **parameters)
    return Trees(forest.fit(rows.to_numpy(), labels), [str(name) for name in rows])
