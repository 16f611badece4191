"""Events that tell raw rows, piece by piece: what each kind tells, and what is wrong with one.

Where they come from, and how they become rows, is `platform/events.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.columns import Column, Rows, exact, from_arrow
from flight_delays.core.quarantine import Rule, about, broken


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of events. `known_at` is the raw column that says when it was known; null where it never came to be.

    It tells what no earlier kind does, the columns `reveals`. One that `asks` tells a row that is to be forecast, one
    that `concludes` how it ended.
    """

    name: str
    known_at: str
    reveals: tuple[str, ...] = ()
    asks: bool = False
    concludes: bool = False


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of a raw table, which come in as rows of `table`. All of them must have the columns `needs`.

    Kinds stand in the order in which a row's events come to be known.
    """

    table: str
    needs: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def told(self, kind: Kind, columns: Sequence[str]) -> tuple[str, ...]:
        """Of a raw table's columns those that a kind tells."""
        later = self.kinds[self.kinds.index(kind) + 1 :]
        hidden = {name for one in later for name in one.reveals}
        return tuple(name for name in columns if name not in hidden)


def problems(bodies: Rows, events: Sequence[Events], rules: Sequence[Rule]) -> list[list[str]]:
    """Why each body (`kind`, and the columns of all raw tables) can't be landed; by the rules that ingest goes by."""
    found: list[list[str]] = [[] for _ in range(bodies.num_rows)]

    def add(wrong: npt.NDArray[np.bool_], reason: str) -> None:
        for at in np.flatnonzero(wrong):
            found[at].append(reason)

    null = {name: bodies[name].is_null().to_numpy(False) for name in bodies.schema.names}
    large = {}
    for field in bodies.schema:
        if pa.types.is_integer(field.type):
            fits = exact(bodies[field.name])
            large[field.name] = pc.invert(fits.fill_null(True)).to_numpy(False)
            bodies = bodies.set_column(
                bodies.schema.get_field_index(field.name), field, pc.if_else(fits, bodies[field.name], None)
            )
    columns = from_arrow(bodies)
    kinds = [kind.name for one in events for kind in one.kinds]
    add(~null["kind"] & ~np.isin(columns["kind"], kinds), f"kind is none of {', '.join(kinds)}")
    for name, of in _needed(events, columns["kind"]):
        add(of & null[name], f"{name} is missing")
    for name, beyond in large.items():
        add(beyond, f"{name} is beyond 2^53")
    for name, values in columns.items():
        if values.dtype.kind == "f" and pa.types.is_floating(bodies.schema.field(name).type):
            add(~null[name] & ~np.isfinite(values), f"{name} is not a number, or infinite")
    for rule in about(rules, bodies.schema.names):
        add(broken(rule, columns), rule.reason)
    return found


def _needed(events: Sequence[Events], kind: Column) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Columns that must be told, and by which rows."""
    for one in events:
        own = np.isin(kind, [each.name for each in one.kinds])
        yield from ((name, own) for name in one.needs)
        for each in one.kinds:
            yield from ((name, kind == each.name) for name in each.reveals)


def by_kind(events: Sequence[Events]) -> Mapping[str, Kind]:
    """All kinds, by name."""
    return {kind.name: kind for one in events for kind in one.kinds}
