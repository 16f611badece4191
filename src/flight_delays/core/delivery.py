"""How the rows of a raw table are delivered; `platform/deliveries.py` reads them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files that Spark reads: a path (of a volume, say), their format, and the options of its reader."""

    path: str
    format: str = "csv"
    options: Mapping[str, str] = field(default_factory=lambda: {"header": "true"})


@dataclass(frozen=True, kw_only=True)
class FromTable:
    """A table that others fill, by its name: <catalog>.<schema>.<table>."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Arrow batches of one schema that a function makes in the driver, given the time that counts as now.

    For what fits in the driver's memory.
    """

    read: Callable[[datetime], Iterable[pa.RecordBatch]]


Delivery: TypeAlias = Files | FromTable | Batches
