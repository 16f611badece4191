"""What is left of a prediction: its row, what it was made from, and the version that made it.

What can't be read any more (vacuumed, deleted, made anew) is told as Gone.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flight_delays.core.as_of import tables_of
from flight_delays.core.contract import Documentation
from flight_delays.core.errors import UserError
from flight_delays.core.explanation import Evidence, Gone, Known, Logged, Model, Stored
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME, Features
from flight_delays.core.prediction import Recorded
from flight_delays.core.scoring import SERVING, served_id
from flight_delays.core.stream import TableVersion
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Adapters
from flight_delays.platform.delta import Tables, collected, is_gone
from flight_delays.platform.registry import NotThereError, Registry, digest_of, signature
from flight_delays.platform.rollout_log import Release, release_of
from flight_delays.platform.served_requests import requests_in
from flight_delays.platform.spark_as_of import recent
from flight_delays.platform.stream_log import STREAM, DeltaLog

T = TypeVar("T")

_DAY = timedelta(days=1)  # between the clocks of a request's time and its date


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of table runs: the versions of the tables that it read, and its time by the clock."""

    query_id: str | None
    batch_id: int | None
    landed: int | None
    tables: Mapping[str, TableVersion]
    recorded_at: datetime


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """All that was read; `run` is None of a served prediction."""

    evidence: Evidence
    run: Run | Gone | None
    documentation: Documentation | Gone
    release: Release


def read(adapters: Adapters, prediction_id: str, *, raw: Tables, payload_table: str) -> Read:
    """What is left of a prediction; raw tables are read from `raw`. Raises UserError if there is no such prediction."""
    tables, use_case, registry = adapters.tables, adapters.use_case, adapters.registry
    prediction = _prediction(tables, prediction_id, use_case)
    name, number = prediction.model_name, prediction.model_version
    run, logged = _run(tables, prediction), None
    known, stored = list[Known | Gone](), list[Stored | Gone]()
    if prediction.source == SERVING:
        logged = _logged(tables, payload_table, prediction)
        stored.append(newest := _newest_features(tables, prediction))
        if isinstance(newest, Stored):
            asked = replace(prediction, prediction_ts=newest.row[PREDICTION_TIME][0].as_py())
            known.append(_known_now(use_case, raw, asked))
    else:
        if isinstance(run, Run) and prediction.source == STREAM:
            known.append(_known_then(adapters, prediction, run))
        known.append(_known_now(use_case, raw, prediction))
        if prediction.source != STREAM:
            if isinstance(run, Run):
                stored.append(_features_then(tables, prediction, run.tables["features"]))
            if not any(isinstance(one, Stored) for one in stored):
                stored.append(_features_now(tables, prediction))
    documentation = _documentation(registry, name, number)
    moment = run.recorded_at if isinstance(run, Run) else prediction.scored_at
    return Read(
        evidence=Evidence(
            prediction=prediction,
            model=_model(registry, name, number),
            known=known,
            stored=stored,
            logged=logged,
            digest=None if isinstance(documentation, Gone) else documentation.digest,
        ),
        run=run,
        documentation=documentation,
        release=release_of(adapters.decisions.find(model_name=name), number, moment),
    )


def _or_gone(what: str, found: Callable[[], T]) -> T | Gone:
    try:
        return found()
    except UserError as error:
        return Gone(what=what, why=str(error))
    except PySparkException as error:
        if not is_gone(error):
            raise
        return Gone(what=what, why="the version, or files of it, were vacuumed or lost")


def _prediction(tables: Tables, prediction_id: str, use_case: UseCase) -> Recorded:
    rows = tables.read("predictions").where(F.col("prediction_id") == prediction_id)
    for row in collected(rows.select(*(field.name for field in fields(Recorded))).limit(1)):
        return Recorded(**row)
    raise UserError(
        f"there is no prediction {prediction_id}; {tables.schema}.predictions has the prediction_id of each "
        f"{use_case.entity}'s, by entity_id"
    )


def _run(tables: Tables, prediction: Recorded) -> Run | Gone | None:
    if prediction.run_id is None:
        return None
    rows = tables.read("runs").where(F.col("run_id") == prediction.run_id).limit(1)
    columns = ("query_id", "batch_id", "landed", "recorded_at", "table_ids", "table_versions")
    for row in collected(rows.select(*columns)):
        ids, versions = row.pop("table_ids"), row.pop("table_versions")
        return Run(**row, tables={name: TableVersion(id=of, version=versions[name]) for name, of in ids.items()})
    why = "table runs has no row of it: the run was killed before its end, or the row was deleted"
    return Gone(what=f"the record of run {prediction.run_id}", why=why)


def _model(registry: Registry, name: str, number: int) -> Model | Gone:
    try:
        registry.version(name, number)
        loaded = registry.load(name, number)
        with tempfile.TemporaryDirectory() as folder:
            digest = digest_of((registry.download(name, number, Path(folder)) / "artifacts").iterdir())
        return Model(signature=signature(loaded), score=loaded.unwrap_python_model().score, digest=digest)
    except Exception as error:  # whatever a version raises that has lost a file or a library
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Gone(what=f"version {number} of {name}", why=why)


def _documentation(registry: Registry, name: str, number: int) -> Documentation | Gone:
    try:
        return registry.documentation(registry.version(name, number))
    except NotThereError as error:
        return Gone(what=f"the training record of version {number}", why=str(error))


def _features_then(tables: Tables, prediction: Recorded, of: TableVersion) -> Stored | Gone:
    """The row that was scored."""
    place = f"features at version {of.version}"

    def found() -> Stored:
        rows = tables.read("features", version=of.version)
        if tables.table_id("features") != of.id:
            raise UserError("the table was made anew since")
        return Stored(place=place, row=_only(rows.where(_is_of(prediction, ENTITY, PREDICTION_TIME)).toArrow()))

    return _or_gone(place, found)


def _features_now(tables: Tables, prediction: Recorded) -> Stored | Gone:
    """The row of the same key, which may have been changed since."""
    place = "features as they are now"

    def found() -> Stored:
        rows = tables.read("features").where(_is_of(prediction, ENTITY, PREDICTION_TIME))
        return Stored(place=place, row=_only(rows.toArrow()))

    return _or_gone(place, found)


def _newest_features(tables: Tables, prediction: Recorded) -> Stored | Gone:
    """The entity's newest row by the time of a request, which the online store may have had."""
    place = "the newest row of features by then, as it is now"

    def found() -> Stored:
        of = (F.col(ENTITY) == prediction.entity_id) & (F.col(PREDICTION_TIME) <= F.lit(prediction.prediction_ts))
        rows = tables.read("features").where(of).orderBy(F.desc(PREDICTION_TIME)).limit(1)
        return Stored(place=place, row=_only(rows.toArrow()))

    return _or_gone(place, found)


def _is_of(prediction: Recorded, entity_id: str, prediction_ts: str) -> Column:
    """Whether a row is of what was forecast, as of when; by the columns that say so."""
    return (F.col(entity_id) == prediction.entity_id) & (F.col(prediction_ts) == F.lit(prediction.prediction_ts))


def _only(rows: pa.Table) -> pa.Table:
    if rows.num_rows != 1:
        raise UserError(f"it has {rows.num_rows or 'no'} rows of this key")
    return rows


def _known_now(use_case: UseCase, raw: Tables, prediction: Recorded) -> Known | Gone:
    place, features = "the raw tables as they are now", use_case.features
    return _or_gone(
        place,
        lambda: _known(
            use_case, place, {name: raw.read(name) for name in {*features.tables(), features.table}}, prediction
        ),
    )


def _known_then(adapters: Adapters, prediction: Recorded, run: Run) -> Known | Gone:
    """What the micro-batch had in memory: the raw tables at its versions, and the events since those were landed."""
    tables, landed, batch_id = adapters.tables, run.landed, run.batch_id
    read = ", ".join(f"{name} at version {of.version}" for name, of in run.tables.items())
    place = f"what micro-batch {batch_id} had ({read}, and its events)"

    def found() -> Known:
        if landed is None or batch_id is None or run.query_id is None:
            raise UserError("its record in runs is no micro-batch's")
        for name, of in run.tables.items():
            tables.read(name)
            if tables.table_id(name) != of.id:
                raise UserError(f"{name} was made anew since")
        log = DeltaLog(use_case=adapters.use_case, tables=tables, query=run.query_id, model_name=prediction.model_name)
        if lost := log.forgotten(landed, batch_id):
            raise UserError(f"stream_events has no events of micro-batch {', '.join(map(str, lost))} any more")
        return _known(adapters.use_case, place, log.rows(run.tables, landed, batch_id), prediction)

    return _or_gone(place, found)


def _known(use_case: UseCase, place: str, tables: Mapping[str, DataFrame], prediction: Recorded) -> Known:
    """Read into memory; raises UserError unless one raw row asks."""
    features, at = use_case.features, prediction.prediction_ts
    asking = tables[features.table].where(_is_of(prediction, features.raw(ENTITY), features.raw(PREDICTION_TIME)))
    row = asking.select(*dict.fromkeys(features.raw(name) for name in features.keep.names)).toArrow()
    if row.num_rows != 1:
        raise UserError(
            f"{features.table} has {row.num_rows or 'no'} rows of {prediction.entity_id} as of {at:%Y-%m-%d %H:%M} UTC"
        )
    asked, rows = features.kept(row), dict[str, pa.Table]()
    for name, facts in recent(features, tables, at).items():
        table = features.tables()[name]
        columns = dict.fromkeys([*use_case.contract(name).key, *table.columns])
        is_there = F.least(*table.times, table.times[0]) <= F.lit(at)  # of two columns or more
        rows[name] = (
            facts.where(is_there & _is_asked_for(features, name, facts.columns, asked)).select(*columns).toArrow()
        )
    return Known(place=place, asking=row, rows=rows)


def _is_asked_for(features: Features, table: str, columns: Sequence[str], asked: pa.Table) -> Column:
    """Whether a row has a key that is asked for; always true where a key is derived, or facts ask the table."""
    keys = [one.by for one in features.questions if one.facts.table.name == table]
    by_facts = tables_of([ask for one in features.questions for ask in one.facts.asks])
    if table in by_facts or not all({*key} <= {*columns} for key in keys):
        return F.lit(True)
    same = (reduce(Column.__and__, (F.col(name) == F.lit(asked[name][0].as_py()) for name in key)) for key in keys)
    return reduce(Column.__or__, same)


def _logged(tables: Tables, payload_table: str, prediction: Recorded) -> Logged | Gone:
    """The request whose id and row make the prediction's id."""
    at = prediction.scored_at

    def found() -> Logged:
        rows = requests_in(tables, payload_table).where(
            F.col("request_date").between(F.lit((at - _DAY).date()), F.lit((at + _DAY).date()))
            & (F.col("request_time") == F.lit(at))
        )
        for row in collected(rows.select("databricks_request_id", "request")):
            request = row["request"] or ""
            for position in range(1, len(request) + 1):  # a row takes a character, if not more
                if served_id(row["databricks_request_id"], position) == prediction.prediction_id:
                    return Logged(request=request, position=position)
        raise UserError(f"{payload_table} has none at {at} that this prediction's id is of")

    return _or_gone("the logged request", found)
