"""Which versions an endpoint serves, and how its traffic is split between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

NAMES = ("champion", "challenger")
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


class Configuration(tuple[Served, ...]):
    """All that an endpoint is to serve. Raises ValueError for what no release may set."""

    def __new__(cls, served: Iterable[Served]) -> "Configuration":
        """Of `served`, in that order."""
        made = super().__new__(cls, served)
        for each in made:
            if each.name not in NAMES:
                raise ValueError(f"{each.name!r} is served under no known name; there are {' and '.join(NAMES)}")
            if each.model_version < 1:
                raise ValueError(f"{each.name} has version {each.model_version}; versions count from 1")
            if type(each.percentage) is not int or not 0 <= each.percentage <= 100:
                raise ValueError(f"{each.name} has {each.percentage} % of the traffic; give a whole number, 0 to 100")
        if len({each.name for each in made}) < len(made):
            raise ValueError(f"two versions are served under one name: {in_words(made)}")
        if sum(each.percentage for each in made) != 100:
            raise ValueError(f"the traffic does not sum to 100 %: {in_words(made)}")
        return made


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
