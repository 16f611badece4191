"""How the values of each column are spread over a day's rows: counts in bins that a version's training rows define.

Counts of days add up, so that any window, and any permutation of days, is a sum.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Counts = npt.NDArray[np.int64]
BINS = 20
LEVELS = 30
"""Most bins of a number, and levels of a text that have a bin of their own."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Bins of a column: a number falls between rising `edges`, a text is one of `levels`, or another: the bin after.

    The last bin holds null. A time has no bins: it never comes back.
    """

    column: str
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return 2 + len(self.edges if self.levels is None else self.levels)

    def place(self, values: npt.NDArray[Any]) -> Counts:
        """The bin of each row, from 0; a number that is NaN is null."""
        unknown = np.asarray(pd.isna(values))
        places = np.full(len(values), self.size - 1, dtype=np.int64)
        known = values[~unknown]
        if self.levels is None:
            places[~unknown] = np.searchsorted(self.edges, known.astype(np.float64), side="right")
        else:
            at = {level: number for number, level in enumerate(self.levels)}
            places[~unknown] = [at.get(value, len(at)) for value in known.tolist()]
        return places

    def count(self, values: npt.NDArray[Any]) -> Counts:
        """Rows in each bin."""
        return np.bincount(self.place(values), minlength=self.size).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A column on one day: rows in each bin, and of numbers the lowest, the mean and the highest, None without any."""

    day: date
    column: str
    counts: tuple[int, ...]
    lowest: float | None = None
    mean: float | None = None
    highest: float | None = None

    @property
    def rows(self) -> int:
        """Of the day."""
        return sum(self.counts)

    @property
    def known(self) -> int:
        """Rows with a value."""
        return self.rows - self.counts[-1]


def bins_of(column: str, values: npt.NDArray[Any]) -> Bins:
    """Bins that hold about as many of these rows each, as far as ties allow; of text the most frequent levels."""
    known = values[~np.asarray(pd.isna(values))]
    if values.dtype.kind == "O":
        return Bins(column=column, levels=tuple(sorted(map(str, pd.Series(known).value_counts().index[:LEVELS]))))
    numbers = known.astype(np.float64)
    if not len(numbers):
        return Bins(column=column)
    # A value that many rows have begins a bin: it is not mixed with what is below it.
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    return Bins(column=column, edges=tuple(float(edge) for edge in edges if edge > numbers.min()))


def bins_of_all(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[Bins, ...]:
    """Of each column that is no time."""
    return tuple(bins_of(name, values) for name, values in columns.items() if values.dtype.kind != "M")


def bins_json(bins: Iterable[Bins]) -> str:
    """As text, to be kept with a version."""
    return json.dumps([asdict(one) for one in bins])


def bins_from(text: str) -> tuple[Bins, ...]:
    """The reverse of `bins_json`."""
    return tuple(
        Bins(
            column=one["column"],
            edges=tuple(one["edges"]),
            levels=None if one["levels"] is None else tuple(one["levels"]),
        )
        for one in json.loads(text)
    )


def profile_of(day: date, bins: Sequence[Bins], columns: Mapping[str, npt.NDArray[Any]]) -> list[Profile]:
    """A day's rows, by column; one that has bins and is not among `columns` has no profile."""
    return [_profile(day, one, columns[one.column]) for one in bins if one.column in columns]


def _profile(day: date, bins: Bins, values: npt.NDArray[Any]) -> Profile:
    counts = tuple(bins.count(values).tolist())
    if bins.levels is not None or not sum(counts[:-1]):
        return Profile(day=day, column=bins.column, counts=counts)
    known = values[~np.asarray(pd.isna(values))].astype(np.float64)
    return Profile(
        day=day,
        column=bins.column,
        counts=counts,
        lowest=float(known.min()),
        mean=float(known.mean()),
        highest=float(known.max()),
    )
