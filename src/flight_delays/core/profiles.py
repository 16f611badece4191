"""How the values of each column are spread over a day's rows: counts in bins that a version's training rows define.

Counts of days add up, so that any window, and any permutation of days, is a sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flight_delays.core.metrics import Floats

Counts = npt.NDArray[np.int64]
BINS = 20
LEVELS = 30
"""Most bins of a number, and levels of a text that have one of their own."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of a column. A number falls between rising `edges`; a text is one of `levels`, or another, the bin after.

    The last bin holds null.
    """

    column: str
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.edges) + 2 if self.levels is None else len(self.levels) + 2

    def count(self, values: npt.NDArray[Any]) -> Counts:
        """Rows in each bin; a number that is NaN is null."""
        unknown = pd.isna(values)
        known = values[~unknown]
        if self.levels is None:
            at = np.searchsorted(self.edges, known.astype(np.float64), side="right")
        else:
            places = {level: at for at, level in enumerate(self.levels)}
            at = np.array([places.get(value, len(places)) for value in known.tolist()], dtype=np.int64)
        counts = np.bincount(at, minlength=self.size)
        counts[-1] = int(unknown.sum())
        return counts.astype(np.int64)


def bins_of(column: str, values: npt.NDArray[Any]) -> Bins:
    """Bins that hold about as many of these rows each, as far as ties allow; of text its most frequent levels."""
    known = values[~pd.isna(values)]
    if known.dtype.kind == "O":
        return Bins(column=column, levels=tuple(sorted(pd.Series(known).value_counts().index[:LEVELS])))
    numbers = known.astype(np.float64)
    if not len(numbers):
        return Bins(column=column)
    # A value that many rows have starts a bin, so that it is not mixed with those below it.
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    return Bins(column=column, edges=tuple(float(edge) for edge in edges if edge > numbers.min()))
