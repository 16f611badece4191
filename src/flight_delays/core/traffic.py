"""Which versions an endpoint serves, and how its traffic is split between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

CHAMPION, CHALLENGER = NAMES = ("champion", "challenger")
"""What served entities are called."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A version of a registered model that an endpoint serves under a name, to `percentage` of the requests."""

    name: str
    model_name: str
    model_version: int
    percentage: int

    def __str__(self) -> str:
        return f"{self.name} version {self.model_version} at {self.percentage} %"


def in_words(served: Sequence[Served]) -> str:
    """What is served, for people."""
    return ", ".join(map(str, served)) or "nothing"


def choose(weights: Sequence[int], u: float) -> int:
    """The index that `u`, in [0, 1), falls on if each index takes its weight's share; never one of weight 0."""
    point = u * sum(weights)
    for index, edge in enumerate(accumulate(weights)):
        if point < edge:
            return index
    raise ValueError(f"nothing to choose by {u} from weights {list(weights)}")
