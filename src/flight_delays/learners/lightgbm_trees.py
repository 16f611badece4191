"""Gradient boosted trees, by LightGBM. This file travels with each version: it imports nothing of this project.

LightGBM has one number of threads per process, and crashes where two calls at the same time name different ones
(https://github.com/lightgbm-org/LightGBM/issues/4705). So no call names any: OMP_NUM_THREADS says it, once per process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:  # half a second to import, which nobody waits for who neither fits nor loads
    import lightgbm as lgb

FILE = "booster.txt"


@dataclass(frozen=True)
class Trees:
    """A booster."""

    booster: "lgb.Booster"

    def predict(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """As LightGBM's objective says, before any correction."""
        return np.asarray(self.booster.predict(matrix))

    def save(self, folder: Path) -> None:
        """In LightGBM's own text format."""
        (folder / FILE).write_text(self.booster.model_to_string(), encoding="utf-8")

    def importance(self) -> Mapping[str, float]:
        """Total gain of each column's splits."""
        gains = map(float, self.booster.feature_importance("gain"))
        return dict(zip(self.booster.feature_name(), gains, strict=True))


def load(folder: Path) -> Trees:
    """What `save` wrote."""
    import lightgbm as lgb

    return Trees(lgb.Booster(model_file=folder / FILE))


@dataclass(frozen=True, kw_only=True)
class LightGBM:
    """LightGBM with `parameters` by its own names, `objective` among them.

    A fold gets at most `most_rounds`, and fewer where `patience` further ones bring nothing.
    """

    parameters: Mapping[str, float | int | str | bool]
    most_rounds: int = 1_000
    patience: int = 30

    name = "LightGBM"
    code = Path(__file__)
    requirements = ("lightgbm", "numpy", "pandas")

    def fold(
        self,
        rows: pd.DataFrame,
        labels: npt.NDArray[np.float64],
        judged: pd.DataFrame,
        judged_labels: npt.NDArray[np.float64],
        categories: Sequence[str],
    ) -> "_Fold":
        """Binned once, for whatever parameters are tried."""
        training = self._dataset(rows, labels, categories)
        return _Fold(self, training, training.create_valid(judged, judged_labels), judged.to_numpy())

    def fit(
        self,
        rows: pd.DataFrame,
        labels: npt.NDArray[np.float64],
        categories: Sequence[str],
        parameters: Mapping[str, Any],
        rounds: int,
    ) -> Trees:
        """So many rounds."""
        import lightgbm as lgb

        return Trees(lgb.train({**self.given, **parameters}, self._dataset(rows, labels, categories), rounds))

    @property
    def given(self) -> dict[str, Any]:
        """Same rows, same model, whatever the number of cores; binned for whatever size of a leaf is tried."""
        fixed = {"deterministic": True, "force_row_wise": True, "feature_pre_filter": False, "verbose": -1}
        return {**fixed, **self.parameters}

    def _dataset(self, rows: pd.DataFrame, labels: npt.NDArray[np.float64], categories: Sequence[str]) -> "lgb.Dataset":
        import lightgbm as lgb

        # The parameters already: they rule how values are binned.
        return lgb.Dataset(rows, labels, categorical_feature=list(categories), params=self.given)


@dataclass(frozen=True)
class _Fold:
    learner: LightGBM
    training: "lgb.Dataset"
    validation: "lgb.Dataset"
    judged: npt.NDArray[np.float64]

    def fit(self, parameters: Mapping[str, Any], repeat: int = 0) -> tuple[npt.NDArray[np.float64], int]:
        import lightgbm as lgb

        settings = {**self.learner.given, **parameters}
        booster = lgb.train(
            {**settings, "seed": settings.get("seed", 0) + repeat},
            self.training,
            self.learner.most_rounds,
            valid_sets=[self.validation],
            callbacks=[lgb.early_stopping(self.learner.patience, verbose=False)],
        )
        return np.asarray(booster.predict(self.judged)), booster.best_iteration
