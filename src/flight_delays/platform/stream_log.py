"""What a stream does and builds on, in Delta tables.

Each append goes by a transaction number, the query's id and the micro-batch: Delta skips what it has already, be it of
a run that was killed or of one that is still under way. It does so without a word: what stands is read, not assumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from uuid import uuid4

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from flight_delays.core.as_of import look_backs
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY
from flight_delays.core.stream import SEEN, TAKEN, Fate, Record, TableVersion, after_events
from flight_delays.core.use_case import KNOWN_AT, UseCase
from flight_delays.platform import event_source as on_spark
from flight_delays.platform.dataset import has_outcome, labels_of
from flight_delays.platform.delta import Tables, collected, is_gone
from flight_delays.platform.spark_as_of import BOUND, build_features, recent, size

STREAM, LANDING = "stream", "landing"
_TAKEN = [fate.value for fate in TAKEN]
_COUNTED = [*_TAKEN, Fate.DUPLICATE.value]
_KEPT = timedelta(days=7)  # longer than any feature, or the watermark, looks back


@dataclass(frozen=True, kw_only=True)
class DeltaLog:
    """The log of one query. Rows of the raw tables that take more than `bound` bytes are not held in memory."""

    use_case: UseCase
    tables: Tables
    query: str
    model_name: str
    bound: int = BOUND

    def run_id(self, batch_id: int) -> str:
        """Of the row of runs, and on each prediction."""
        return f"{self.query}/{batch_id}"

    def records(self, batch_id: int) -> Sequence[Record]:
        """Of this micro-batch and of the last one before it that has a record; newest first."""
        rows = self._runs(STREAM).where(F.col("batch_id") <= batch_id)
        found = [
            Record(
                batch_id=row["batch_id"],
                model_version=row["model_version"],
                tables={
                    name: TableVersion(id=of, version=row["table_versions"][name])
                    for name, of in row["table_ids"].items()
                },
                landed=row["landed"],
                newest=row["newest"],
                delay=timedelta(seconds=row["watermark_seconds"]),
            )
            for row in collected(rows.orderBy(F.desc("batch_id")).limit(2))
        ]
        return found if found and found[0].batch_id == batch_id else found[:1]

    def landed(self) -> int:
        """The last micro-batch whose events are in the raw tables, -1 if there is none."""
        (row,) = collected(self._runs(LANDING).agg(F.max("batch_id").alias("last")))
        return -1 if row["last"] is None else int(row["last"])

    def events(self, batch_id: int) -> pa.Table:
        """What was judged in a micro-batch; no rows if that was not stored."""
        rows = self._events().where(F.col("batch_id") == batch_id).drop("query_id", "batch_id")
        return _typed(rows.toArrow(), on_spark.bodies(self.use_case))

    def seen(self, before: int, since: datetime) -> pa.Table:
        """`source`, `event_id`, `event_time` before a micro-batch, as of `since`, of what was not late or malformed."""
        known = (F.col("batch_id") < before) & (F.col("event_time") >= F.lit(since))
        rows = self._events().where(known & F.col("fate").isin(_COUNTED))
        return _typed(rows.select(*SEEN.names).toArrow(), SEEN)

    def scored(self) -> pa.Array:
        """The entities that any stream has scored."""
        rows = self.tables.read("predictions").where(F.col("source") == STREAM)
        return rows.select(ENTITY).toArrow()[ENTITY].combine_chunks()

    def now(self) -> Mapping[str, TableVersion]:
        """The versions that the raw tables have."""
        return {name: self.tables.identity(name) for name in sorted(self._read())}

    def facts(
        self, tables: Mapping[str, TableVersion], landed: int, before: int, since: datetime
    ) -> Mapping[str, pa.Table] | None:
        """Rows of the raw tables at these versions that matter to who asks as of `since` or later, completed by what
        was taken after micro-batch `landed` and before another. None if they are too large to hold.
        """  # fmt: skip
        chosen = self._rows(tables)
        chosen |= recent(self.use_case.features, chosen, since)
        sizes = [rows.agg(F.coalesce(F.sum(size(rows)), F.lit(0)).alias("bytes")) for rows in chosen.values()]
        (held,) = _read(tables, reduce(DataFrame.unionByName, sizes).agg(F.sum("bytes").alias("bytes")))["bytes"]
        if held.as_py() > self.bound:
            return None
        found = {
            name: _typed(_read(tables, rows), self.use_case.contract(name).schema) for name, rows in chosen.items()
        }
        events = self._taken(landed, before).toArrow()
        if not events.num_rows:
            return found
        return after_events(found, _typed(events, on_spark.bodies(self.use_case)), self.use_case)

    def features(self, tables: Mapping[str, TableVersion], landed: int, batch_id: int, entities: pa.Array) -> pa.Table:
        """The features of these entities from the same rows, up to and with a micro-batch, however large they are."""
        features, rows = self.use_case.features, self.rows(tables, landed, batch_id)
        wanted = self.tables.spark.createDataFrame(pa.table({features.raw(ENTITY): entities}))
        asking = rows[features.table].join(F.broadcast(wanted), features.raw(ENTITY), "left_semi")
        return build_features(features, asking, rows, bound=self.bound).toArrow()

    def rows(self, tables: Mapping[str, TableVersion], landed: int, batch_id: int) -> dict[str, DataFrame]:
        """The raw tables at these versions, completed by what was taken after micro-batch `landed`, up to another."""
        rows, events = self._rows(tables), self._taken(landed, batch_id + 1)
        for contract, declared in self.use_case.told:
            if contract.table in rows:
                told = on_spark.rows_told(events, contract, declared.names)
                rows[contract.table] = on_spark.completed(rows[contract.table], told, contract)
        return rows

    def forgotten(self, landed: int, batch_id: int) -> list[int]:
        """The micro-batches after `landed`, up to another, that are recorded and whose events were deleted since."""
        within = (F.col("batch_id") > landed) & (F.col("batch_id") <= batch_id)
        recorded = self._runs(STREAM).where(within).select("batch_id")
        left = recorded.join(self._events().where(within), "batch_id", "left_anti")
        return sorted(row["batch_id"] for row in collected(left))

    def append_events(self, batch_id: int, judged: pa.Table) -> None:
        """Store what was judged, once."""
        rows = self.tables.spark.createDataFrame(judged)
        rows = rows.withColumns({"query_id": F.lit(self.query), "batch_id": F.lit(batch_id).cast("long")})
        self.tables.append_once("stream_events", rows, writer=self.query, number=batch_id)

    def append_record(self, record: Record) -> Record:
        """Store a record, once; the one that stands, which is another's who came first."""
        row = {
            "run_id": self.run_id(record.batch_id),
            "source": STREAM,
            "query_id": self.query,
            "batch_id": record.batch_id,
            "model_name": self.model_name,
            "model_version": record.model_version,
            "table_ids": {name: of.id for name, of in record.tables.items()},
            "table_versions": {name: of.version for name, of in record.tables.items()},
            "landed": record.landed,
            "newest": dict(record.newest),
            "watermark_seconds": record.delay.total_seconds(),
            "as_of": record.as_of,
        }
        tag = uuid4().hex
        self.tables.append_once(
            "runs", self.tables.decision("runs", row), writer=self.query, number=record.batch_id, tag=tag
        )
        return record if self.tables.last_tag("runs") == tag else self.records(record.batch_id)[0]

    def append_predictions(self, batch_id: int, predictions: pa.Table, rejects: pa.Table) -> None:
        """Store rows of predictions and raw_rejects, once."""
        create = self.tables.spark.createDataFrame
        if rejects.num_rows:
            self.tables.append_new("raw_rejects", create(rejects), key=["reject_id"])
        if predictions.num_rows:
            self.tables.append_once("predictions", create(predictions), writer=self.query, number=batch_id)

    def land(self) -> None:
        """Bring what was taken since the last landing to the raw tables and labels; again, it is the same."""
        landed = self.landed()
        (row,) = collected(self._events().where(F.col("batch_id") > landed).agg(F.max("batch_id").alias("last")))
        records = [] if row["last"] is None else self.records(row["last"])
        if not records:  # nothing has come in, or nothing good ever
            return
        events = self._taken(landed, row["last"] + 1)
        kinds = {one["kind"] for one in collected(events.select("kind").distinct())}
        for contract, declared in self.use_case.told:
            come = [kind for kind in declared.kinds if kind.name in kinds]
            if not come:
                continue
            rows = on_spark.rows_told(events, contract, [kind.name for kind in come])
            self.tables.complete(contract.table, rows, key=contract.key)
            if contract.table == self.use_case.labels.table and any(kind.concludes for kind in come):
                labels = labels_of(self.use_case, rows).where(has_outcome())
                self.tables.upsert("labels", labels, key=[ENTITY, KNOWN_AT])
        self._record_landing(row["last"], records[0])

    def _record_landing(self, last: int, record: Record) -> None:
        """That it is done; once a day of events, events that nothing can need any more are deleted."""
        (before,) = collected(self._runs(LANDING).agg(F.max("as_of").alias("as_of")))
        row = {"run_id": f"{self.query}/{LANDING}/{last}", "source": LANDING, "query_id": self.query, "batch_id": last}
        rows = self.tables.decision("runs", {**row, "table_ids": {}, "table_versions": {}, "as_of": record.as_of})
        self.tables.append_once("runs", rows, writer=f"{self.query}/{LANDING}", number=last)
        if before["as_of"] is not None and before["as_of"].date() < record.as_of.date():
            spans = [span for span in look_backs(self.use_case.features.questions).values() if span is not None]
            end = record.as_of - max([*spans, timedelta(0)]) - record.delay - _KEPT
            self.tables.spark.sql(
                f"DELETE FROM {self.tables.name('stream_events')} WHERE event_time < timestamp'{end:%Y-%m-%d %H:%M:%S}'"
                f" AND (query_id <> '{self.query}' OR batch_id <= {last})"
            )

    def _runs(self, source: str) -> DataFrame:
        return self.tables.read("runs").where((F.col("query_id") == self.query) & (F.col("source") == source))

    def _events(self) -> DataFrame:
        return self.tables.read("stream_events").where(F.col("query_id") == self.query)

    def _taken(self, landed: int, before: int) -> DataFrame:
        after = (F.col("batch_id") > landed) & (F.col("batch_id") < before)
        return self._events().where(after & F.col("fate").isin(_TAKEN))

    def _read(self) -> dict[str, list[str]]:
        """The raw tables that predictions are made from, and of each the columns that these take."""
        features = self.use_case.features
        read = {name: [*table.columns] for name, table in features.tables().items()}
        read.setdefault(features.table, []).extend(features.raw(name) for name in features.keep.names)
        return {name: [*dict.fromkeys([*self.use_case.contract(name).key, *of])] for name, of in read.items()}

    def _rows(self, tables: Mapping[str, TableVersion]) -> dict[str, DataFrame]:
        """The raw tables at these versions. Raises UserError for one that was made anew."""
        found = dict[str, DataFrame]()
        for name, columns in self._read().items():
            if self.tables.table_id(name) != tables[name].id:
                raise UserError(
                    f"{self.tables.schema}.{name} was recreated since the stream read it; "
                    "flight-delays stream reset starts a new stream, which reads all events again"
                )
            found[name] = self.tables.read(name, version=tables[name].version).select(*columns)
        return found


def _read(tables: Mapping[str, TableVersion], rows: DataFrame) -> pa.Table:
    """Raises UserError where a version that was recorded is not there any more."""
    try:
        return rows.toArrow()
    except PySparkException as error:
        if not is_gone(error):
            raise
        recorded = ", ".join(f"{name} at version {of.version}" for name, of in tables.items())
        raise UserError(
            f"what a micro-batch was to be scored from is gone ({recorded}): vacuumed; "
            "flight-delays stream reset starts a new stream, which reads all events again"
        ) from error


def _typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns that `schema` names, where they are there, of its types."""
    types = [schema.field(one.name) if one.name in schema.names else one for one in rows.schema]
    return rows.cast(pa.schema([field.with_nullable(True) for field in types])).combine_chunks()
