"""What no row may be, whether ingest lands it, an event tells it, or a request asks about it. Needs no Arrow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`broken` tells of the values of `columns` which rows break the rule, for this `reason`.

    A comparison with a null (NaN, NaT) is false, so what is unknown breaks none.
    """

    reason: str
    columns: tuple[str, ...]
    broken: Callable[..., npt.NDArray[np.bool_]]


def rules_of(told: Iterable[tuple[str, tuple[str, ...], Callable[..., npt.NDArray[np.bool_]]]]) -> tuple[Rule, ...]:
    """Rules that a file tells which imports nothing of this project: reason, columns, broken."""
    return tuple(Rule(reason=reason, columns=columns, broken=broken) for reason, columns, broken in told)


def broken(rule: Rule, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Which rows break the rule."""
    return rule.broken(*(columns[name] for name in rule.columns))


def about(rules: Sequence[Rule], columns: Sequence[str]) -> tuple[Rule, ...]:
    """The rules that are about these columns alone."""
    return tuple(rule for rule in rules if {*rule.columns} <= {*columns})
