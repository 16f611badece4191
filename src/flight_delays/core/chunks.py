"""Which hours share a chunk: as many as fit in memory, with the history that the rows which ask in them can see."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Hours: TypeAlias = npt.NDArray[np.int64]
"""Since 1970."""

ASKING = ""  # what the rows that ask are called among the tables
_CHUNKS = 8  # at least, where there is enough to share among workers
_SMALL = 2**24  # what is not worth sharing, bytes
_REPEATED = 10  # to ship history to more chunks than this is slower than to split it by key


@dataclass(frozen=True)
class Chunks:
    """The first and the last hour of each; `few` unless they are so many that most of the work would be shipping."""

    starts: Hours
    ends: Hours
    few: bool


def split(loads: pd.DataFrame, bound: int) -> Chunks | None:
    """The fewest chunks of at most `bound` bytes; None if not even one hour fits.

    `loads` has the `bytes` of what is ASKING, or else a fact, (column `of`) by `first` and `last` hour that need them,
    and by `bucket`: each bucket of a chunk has the bound for itself.
    """
    is_asking, total = loads["of"] == ASKING, int(loads["bytes"].sum())
    asking, facts = loads[is_asking], loads[~is_asking]
    hours = np.unique(asking["first"].to_numpy(dtype="int64"))
    buckets = pd.Index(loads["bucket"].unique())

    def running(rows: pd.DataFrame, hour: npt.NDArray[np.int64]) -> Hours:
        """Of each bucket, the bytes up to each hour, from its number on."""
        totals = np.zeros((len(buckets), len(hours) + 1), dtype="int64")
        np.add.at(totals, (buckets.get_indexer(pd.Index(rows["bucket"])), hour), rows["bytes"].to_numpy())
        return totals.cumsum(axis=1)

    # Bytes that ask before an hour, of facts that have come by then, and of those that are past before.
    asked = running(asking, np.searchsorted(hours, asking["first"], "right"))
    come = running(facts, np.searchsorted(hours, facts["first"], "left"))[:, : len(hours)]
    past = running(facts, np.searchsorted(hours, facts["last"], "right"))
    until, limit = asked[:, 1:] + come, min(bound, max(total // _CHUNKS, _SMALL))
    at, shipped, found = 0, 0, list[tuple[int, int]]()
    while at < len(hours):
        before = asked[:, at] + past[:, at]
        if (until[:, at] - before).max() > bound:
            return None
        reached = min(int(np.searchsorted(row, room, "right")) for row, room in zip(until, before + limit, strict=True))
        last = max(at, reached - 1)
        shipped += int((until[:, last] - before).sum())
        found.append((int(hours[at]), int(hours[last])))
        at = last + 1
    starts, ends = np.array(found or [(0, 0)], dtype="int64").T
    return Chunks(starts, ends, few=shipped <= _REPEATED * total)
