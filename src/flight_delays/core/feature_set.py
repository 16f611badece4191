"""The features of a use case: which rows ask, what they ask of history, and what is made of the answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from flight_delays.core.as_of import Question, Table, answer, prepared, tables_of
from flight_delays.core.columns import UTC_TIME, Columns, Rows, from_arrow

ENTITY, PREDICTION_TIME, DAY = "entity_id", "prediction_ts", "day"
KEY = (ENTITY, PREDICTION_TIME)
"""What identifies a row of features: what is forecast, and as of when."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Rows of raw table `table` ask the `questions` as of their prediction time.

    `keep` are the columns that they keep, with the types they then have; `renamed` maps such a name to the raw one,
    where it is another. `finish` makes the features of the columns kept and the answers: float64 each, null as NaN, one
    per row.
    """

    table: str
    keep: pa.Schema
    renamed: Mapping[str, str]
    questions: tuple[Question, ...]
    finish: Callable[[Columns], Columns]

    def tables(self) -> Mapping[str, Table]:
        """The raw tables that answer, by name."""
        return tables_of(self.questions)

    def build(self, asking: Rows, tables: Mapping[str, Rows]) -> pa.Table:
        """One row per row of `asking`, in order: the columns kept, and the features as of each row's time.

        `asking` and `tables` are rows of raw tables; of the latter, those that cannot matter may be left out.
        """
        return self.finished(self.answered(asking, tables))

    def answered(self, asking: Rows, tables: Mapping[str, Rows]) -> pa.Table:
        """The same before `finish`: the columns kept, and the answers."""
        kept = self.kept(asking)
        asked = from_arrow(kept)
        facts = {
            name: prepared(table, from_arrow(tables[name], table.columns)) for name, table in self.tables().items()
        }
        return _beside(kept, answer(self.questions, facts, asked=asked, at=asked[PREDICTION_TIME]))

    def raw(self, name: str) -> str:
        """The raw name of a column that is kept."""
        return self.renamed.get(name, name)

    def kept(self, asking: Rows) -> pa.Table:
        """The columns kept of raw rows."""
        columns = [asking[self.raw(field.name)].cast(field.type) for field in self.keep]
        return pa.Table.from_arrays(columns, schema=self.keep)

    def finished(self, answered: Rows) -> pa.Table:
        """The columns kept, and the features."""
        kept = pa.Table.from_arrays([answered[name] for name in self.keep.names], schema=self.keep)
        return _beside(kept, self.finish(from_arrow(answered)))


def _beside(rows: pa.Table, more: Columns) -> pa.Table:
    for name, values in more.items():
        kind = {"f": pa.float64(), "M": UTC_TIME, "O": pa.string()}[values.dtype.kind]
        rows = rows.append_column(pa.field(name, kind), pa.array(values, from_pandas=True).cast(kind))
    return rows
