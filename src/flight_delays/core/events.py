"""Events that tell raw rows, piece by piece: what each kind tells, what is wrong with one, and the rows that they make.

An event has `kind` and, in a struct column per raw table, named as the table, what it says: the raw columns. It says
something of the one table that its kind tells. Where events come from is `platform/event_source.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.as_of import codes
from flight_delays.core.columns import Column, Rows, exact, from_arrow, one_array
from flight_delays.core.quarantine import Contract
from flight_delays.core.rules import about, broken

ORDER = ("batch_id", "sequence", "event_time", "event_id")
"""By which the last of several events is told; where there is no batch_id, all came at once."""


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

    @property
    def names(self) -> list[str]:
        """Of its kinds."""
        return [kind.name for kind in self.kinds]

    @property
    def asking(self) -> list[str]:
        """The kinds that tell a row which is to be forecast."""
        return [kind.name for kind in self.kinds if kind.asks]


def body(events: Rows, contract: Contract) -> pa.Table:
    """What each event says of a raw table, null where it says nothing."""
    struct, schema = one_array(events[contract.table]), contract.schema
    return pa.Table.from_arrays(
        [pc.struct_field(struct, name).cast(schema.field(name).type) for name in schema.names], schema=schema
    )


def problems(events: Rows, told: Sequence[tuple[Contract, Events]]) -> list[list[str]]:
    """Why each event can't be landed, by its kind and what it says; by the rules that ingest goes by."""
    found: list[list[str]] = [[] for _ in range(events.num_rows)]
    kind = from_arrow(events, ["kind"])["kind"]
    known = [name for _, one in told for name in one.names]
    for at in np.flatnonzero(~np.isin(kind, known) & events["kind"].is_valid().to_numpy(zero_copy_only=False)):
        found[at].append(f"kind is none of {', '.join(known)}")
    for contract, one in told:
        own = np.flatnonzero(np.isin(kind, one.names))
        said = body(events, contract).take(pa.array(own))
        for wrong, reason in _problems(said, kind[own], contract, one):
            for at in own[wrong]:
                found[at].append(reason)
    return found


def _problems(
    said: pa.Table, kind: Column, contract: Contract, events: Events
) -> Iterator[tuple[npt.NDArray[np.bool_], str]]:
    """Each way in which what events of a table say may be wrong, and which of them it holds for."""
    null = {name: said[name].is_null().to_numpy() for name in said.schema.names}
    for name in events.needs:
        yield null[name], f"{name} is missing"
    for each in events.kinds:
        yield from ((null[name] & (kind == each.name), f"{name} is missing") for name in each.reveals)
    for field in contract.schema:
        if pa.types.is_integer(field.type):
            fits = exact(said[field.name])
            yield pc.invert(fits.fill_null(True)).to_numpy(), f"{field.name} is beyond 2^53"
            place = said.schema.get_field_index(field.name)
            said = said.set_column(place, field, pc.if_else(fits, said[field.name], None))
    columns = from_arrow(said)
    for field in contract.schema:
        if pa.types.is_floating(field.type):
            infinite = ~null[field.name] & ~np.isfinite(columns[field.name])
            yield infinite, f"{field.name} is not a number, or infinite"
    for rule in about(contract.rules, said.schema.names):
        yield broken(rule, columns), rule.reason


def rows_told(events: pa.Table, contract: Contract, kinds: Iterable[str]) -> pa.Table:
    """Rows of a raw table from events of these kinds, one per key: of each column the last value that is told."""
    own = events.filter(pc.is_in(events["kind"], pa.array([*kinds], pa.string())))
    own = own.sort_by([(name, "ascending") for name in ORDER if name in own.schema.names])
    return _last(body(own, contract), contract.key)


def completed(rows: pa.Table, told: pa.Table, key: Sequence[str]) -> pa.Table:
    """`rows` with those `told` of a new key, and in others of the same key the values that are told.

    Both have one row per key; of `told`, the columns of `rows` are used.
    """
    told = told.select(rows.schema.names)
    both = pa.concat_tables([rows, told])
    of_rows, of_told = codes(*([from_arrow(part, key)[name] for name in key] for part in (rows, told)))
    touched = np.isin(of_rows, of_told)
    changed = np.append(touched, np.ones(len(of_told), dtype=bool))
    return pa.concat_tables([rows.filter(pa.array(~touched)), _last(both.filter(pa.array(changed)), key)])


def _last(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """One row per key, of each column the last value that is not null."""
    of_key = [from_arrow(rows, key)[name] for name in key]
    code, _ = codes(of_key, [column[:0] for column in of_key])
    keys, at = int(code.max(initial=-1)) + 1, np.arange(len(code))
    found = []
    for column in rows.columns:
        last = np.full(keys, -1)
        there = column.is_valid().to_numpy()
        np.maximum.at(last, code[there], at[there])
        found.append(column.take(pa.array(last, mask=last < 0)))
    return pa.Table.from_arrays(found, schema=rows.schema)
