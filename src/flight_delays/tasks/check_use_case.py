"""Is a use case whole and sound? Each finding is a line: where, what is wrong, how to fix it.

On a sample of what it delivers, in seconds, without Spark.
"""

import ast
import json
import runpy
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flight_delays.core.as_of import look_backs
from flight_delays.core.columns import UTC_TIME, from_arrow, to_pandas
from flight_delays.core.delivery import Batches, Delivery, Files
from flight_delays.core.feature_set import DAY, ENTITY, PREDICTION_TIME
from flight_delays.core.golden import choose_golden_requests
from flight_delays.core.quarantine import REASONS, inspect
from flight_delays.core.training import columns_of, prepared
from flight_delays.core.use_case import KNOWN_AT, LABEL, LABELS, Source, UseCase
from flight_delays.platform.ddl import TYPES, columns

Sample = Mapping[str, pa.Table]
"""Good rows of each raw table, by name; none where they cannot be had here."""

_SAMPLED = 50_000  # rows of each source
_FITTED = 2_000  # rows
_IN_JSON = (pa.string(), pa.int64(), pa.float64(), UTC_TIME, pa.bool_())


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Findings, a line each; and the raw tables of which no row could be had here, for what needs rows."""

    findings: tuple[str, ...]
    not_sampled: tuple[str, ...]


def run(use_case: UseCase, declared: Mapping[str, str], as_of: datetime) -> Checked:
    """Check it; `declared` is the SQL of each table, by name. What is not whole is not run."""
    findings, step = list[str](), ""
    try:
        for step, found in _steps(use_case, declared, as_of):  # noqa: B007  # told of what raises
            findings += found
            if findings:
                break
    except Exception as error:  # whatever a use case's functions may raise
        findings.append(f"{step}: {_raised(error)}")
    return Checked(findings=tuple(findings), not_sampled=tuple(_not_sampled(use_case)))


def _steps(use_case: UseCase, declared: Mapping[str, str], as_of: datetime) -> Iterator[tuple[str, Iterable[str]]]:
    """What is checked, and its findings; each step builds on those before."""
    yield "contracts", _contracts(use_case, declared)
    yield "spine", _spine(use_case)
    yield "questions", _questions(use_case)
    yield "what travels", _code(use_case)
    yield "sources", ()
    rows = {source.contract.table: _sampled(source, as_of) for source in use_case.sources}
    empty = {name for name, table in rows.items() if not table.num_rows} - {*_not_sampled(use_case)}
    yield "sources", [f"{name}: no delivered row is good; see its rules, and what is delivered" for name in empty]
    yield "labels", _labels(use_case, rows)
    yield "features", ()
    features = use_case.features.build(rows[use_case.spine.table], rows)
    yield "features", _features(use_case, features, declared)
    yield "features", _leaks(use_case, features, rows)
    yield "model", _model(use_case, features, rows)


def _not_sampled(use_case: UseCase) -> list[str]:
    return [source.contract.table for source in use_case.sources if not _can_sample(source.delivery)]


def _can_sample(delivery: Delivery) -> bool:
    """Whether rows can be had without Spark: from a function, or a file of CSV on this machine."""
    return isinstance(delivery, Batches) or (
        isinstance(delivery, Files) and delivery.format == "csv" and Path(delivery.path).is_file()
    )


def _sampled(source: Source, as_of: datetime) -> pa.Table:
    """Good rows of the first that are delivered; none where they cannot be had without Spark."""
    delivery, batches = source.delivery, list[pa.RecordBatch]()
    if isinstance(delivery, Batches):
        for batch in delivery.read(as_of):
            batches.append(batch)
            if sum(one.num_rows for one in batches) >= _SAMPLED:
                break
    elif isinstance(delivery, Files) and _can_sample(delivery):
        separator = delivery.options.get("sep", delivery.options.get("delimiter", ","))
        texts = pd.read_csv(
            delivery.path, sep=separator, nrows=_SAMPLED, dtype="string", keep_default_na=False, na_values=[""]
        )
        batches = pa.Table.from_pandas(texts, preserve_index=False).to_batches()
    if not batches:
        return source.contract.schema.empty_table()
    looked = inspect(pa.Table.from_batches(batches).slice(0, _SAMPLED), source.contract)
    good = looked.filter(pc.equal(pc.list_value_length(looked[REASONS]), 0))
    return pa.table(good.select(source.contract.schema.names))


def _raised(error: Exception) -> str:
    """What it says, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(frame.filename).name}, line {frame.lineno})"


def _contracts(use_case: UseCase, declared: Mapping[str, str]) -> Iterator[str]:
    known = {"features"}
    for source in use_case.sources:
        contract, events = source.contract, source.events
        table, columns_of_it = contract.table, {*contract.columns}
        if table in known:
            yield f"sources: {table} is there twice; give each raw table one source"
        known.add(table)
        if unknown := columns_of_it - {*contract.fields, *contract.derived}:
            yield f"{table}: column {min(unknown)} is neither a field nor derived; add it to one, or leave it out"
            continue
        if missing := {*contract.key} - columns_of_it:
            yield f"{table}: key {min(missing)} is no column; land it"
        if (KNOWN_AT, UTC_TIME) not in zip(contract.schema.names, contract.schema.types, strict=True):
            yield f"{table}: there is no column {KNOWN_AT}, a time; derive when each row was known"
        yield from _declared(table, contract.schema, declared, "the contract's")
        if events:
            known.add(events.table)
            hidden = {name for kind in events.kinds for name in (*kind.reveals, kind.known_at)}
            if unknown := {*hidden, *events.needs} - columns_of_it:
                yield f"{events.table}: {table} has no column {min(unknown)}; name those of its contract"
            if events.table not in declared:
                yield f"{events.table}: no SQL declares it; add sql/{events.table}.sql"
    for file in sorted(use_case.sql.glob("*.sql")):
        if file.stem not in known:
            yield f"sql/{file.name}: no source has such a table; delete the file, or add the source"


def _declared(table: str, schema: pa.Schema, declared: Mapping[str, str], whose: str) -> Iterator[str]:
    if table not in declared:
        yield f"{table}: no SQL declares it; add sql/{table}.sql"
        return
    of_sql = {name: TYPES.get(kind) for name, kind, *_ in columns(declared[table])}
    for field in schema:
        if of_sql.get(field.name) != field.type:
            says = f"is {of_sql[field.name]}" if field.name in of_sql else "is missing"
            yield f"sql/{table}.sql: column {field.name} {says}, and {whose} is {field.type}; make them the same"
    if extra := [name for name in of_sql if name not in schema.names]:
        yield f"sql/{table}.sql: column {extra[0]} is none of {whose}; drop it, or make it"


def _spine(use_case: UseCase) -> Iterator[str]:
    spine = use_case.spine
    try:
        raw = use_case.contract(spine.table).schema
    except KeyError:
        yield f"spine: {spine.table} has no source; name the raw table whose rows are forecast"
        return
    wanted = {spine.entity_id: pa.string(), spine.prediction_ts: UTC_TIME, spine.day: pa.date32()}
    for name, kind in wanted.items():
        if name not in raw.names or raw.field(name).type != kind:
            yield f"spine: {spine.table} has no column {name} that is {kind}; derive it in its contract"
    for field in [*spine.request, *spine.also]:
        if field.name not in raw.names:
            yield f"spine: {spine.table} has no column {field.name}; land it, or leave it out"
    for field in spine.request:
        if field.type not in _IN_JSON:
            yield f"spine: a request cannot carry {field.name}, {field.type}; make it int64, float64, string or a time"
    taken = {ENTITY, PREDICTION_TIME, DAY} & {*spine.request.names, *spine.also.names}
    if taken:
        yield f"spine: {min(taken)} is the name of a generic column; call the raw one otherwise"


def _questions(use_case: UseCase) -> Iterator[str]:
    raw = {source.contract.table: source.contract.schema for source in use_case.sources}
    told = {source.contract.table for source in use_case.sources if source.events}
    for name, table in use_case.features.tables().items():
        if name not in raw:
            yield f"questions: {name} has no source; name a raw table that has"
        elif missing := [column for column in (*table.columns, *table.times) if column not in raw[name].names]:
            yield f"questions: {name} has no column {missing[0]}; name those of its contract"
    for name, span in look_backs(use_case.questions).items():
        if span is None and name in told:
            yield f"questions: {name} is asked for rows however old, which a stream cannot hold; give a tolerance"


def _code(use_case: UseCase) -> Iterator[str]:
    package = __name__.partition(".")[0]
    for file in (use_case.prepare_file, use_case.learner.code):
        for line, module in _imports(ast.parse(file.read_text(encoding="utf-8"))):
            if module.partition(".")[0] in (package, ""):
                yield f"{file.name}, line {line}: it travels with a version, and imports {package}; copy what it needs"
    if lacking := [name for name in use_case.search_space if name not in use_case.learner.parameters]:
        yield f"search_space: {lacking[0]} is no parameter of the learner; say there where the search begins"
    for reason, names, _ in use_case.prepare.RULES:
        if unknown := [name for name in names if name not in use_case.request]:
            yield f"prepare.RULES: {reason}: {unknown[0]} is no column of a request; put it into the contract"


def _imports(code: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module; relative ones begin with a dot."""
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def _labels(use_case: UseCase, rows: Sample) -> Iterator[str]:
    table = rows.get(use_case.labels.table)
    if table is None:
        yield f"labels: {use_case.labels.table} has no source; name the raw table that tells how it ended"
        return
    if missing := [name for name in use_case.labels.columns if name not in table.schema.names]:
        yield f"labels: {use_case.labels.table} has no column {missing[0]}; name those of its contract"
        return
    made = use_case.labels.make(from_arrow(table, use_case.labels.columns))
    if {*made} != {*LABELS.names}:
        yield f"labels: the function gives {', '.join(sorted(made))}; it must give {', '.join(LABELS.names)}"
        return
    if not table.num_rows:
        return
    label, known = np.asarray(made[LABEL], dtype="float64"), made[KNOWN_AT]
    if np.isinf(label).any():
        yield "labels: a label is infinite; give NaN where there is no outcome"
    if use_case.objective.kind == "binary" and not {*np.unique(label[~np.isnan(label)])} <= {0.0, 1.0}:
        yield "labels: a label is neither 0 nor 1; make it so, or choose the objective Regression"
    if (np.isnan(label) | np.isnat(known)).all():
        yield "labels: no row of the sample has an outcome with a time; see what the function gives"
    elif not use_case.objective.learnable(label[~np.isnan(label)]):
        yield "labels: all outcomes of the sample are the same; there is nothing to learn"


def _features(use_case: UseCase, features: pa.Table, declared: Mapping[str, str]) -> Iterator[str]:
    yield from _declared("features", features.schema, declared, "what features are made")
    if not features.num_rows:
        return
    if not use_case.looked_up:
        yield "finish: it gives no feature; give one column at least"
    for name in use_case.looked_up:
        kind = features.schema.field(name).type
        if kind != pa.float64():
            yield f"finish: feature {name} is {kind}; make it float64"
        elif pc.any(pc.is_inf(features[name])).as_py():
            yield f"finish: feature {name} is infinite in places; divide by what is not 0, or give NaN"
    ids = features[ENTITY].to_pylist()
    if len({*zip(ids, features[PREDICTION_TIME].to_pylist(), strict=True)}) < len(ids):
        yield f"spine: {use_case.spine.entity_id} with {use_case.spine.prediction_ts} is not unique; it is the key"
    asked = use_case.prepare.entity_ids(from_arrow(features, use_case.request))
    if wrong := [(one, other) for one, other in zip(asked, ids, strict=True) if one != other]:
        yield f"prepare.entity_ids: of {wrong[0][1]} it makes {wrong[0][0]}; make both the same way"
    for dimension, values in use_case.slices(to_pandas(features)).items():
        if len(values) != features.num_rows:
            yield f"slices: {dimension} has {len(values)} values for {features.num_rows} rows; give one for each"


def _leaks(use_case: UseCase, features: pa.Table, rows: Sample) -> Iterator[str]:
    """What became known after T must change nothing at T: it is taken away, and what of a row came later is changed."""
    spine = use_case.spine
    asking = rows[spine.table]
    if not asking.num_rows:
        return
    times = asking[spine.prediction_ts]
    if pc.any(pc.greater(asking[KNOWN_AT], times)).as_py():
        yield f"spine: rows of {spine.table} are known after their {spine.prediction_ts}; ask later"
    at = pc.quantile(times.drop_null().cast(pa.int64()), 0.5, interpolation="lower")[0].cast(UTC_TIME)
    early = pc.less_equal(times, at)
    asked = asking.filter(early)
    before = use_case.features.build(asked, rows)
    gone = {name: table.filter(pc.less_equal(table[KNOWN_AT], at)) for name, table in rows.items()}
    future = "knows the future: it changes when {}; give its facts their known time"
    for what, after in (
        (future.format("rows known later are taken away"), use_case.features.build(asked, gone)),
        (
            future.format("outcomes known later are others"),
            use_case.features.build(asked, _with_other_outcomes(use_case, rows, at)),
        ),
        ("depends on which other rows are asked for; make it of its own row alone", features.filter(early)),
    ):
        for name in use_case.looked_up:
            if not np.array_equal(before[name].to_numpy(), after[name].to_numpy(), equal_nan=True):
                yield f"feature {name} {what}"


def _with_other_outcomes(use_case: UseCase, rows: Sample, at: pa.Scalar) -> Sample:
    """The raw tables, with other numbers where they came to be known after a time: what labels and events tell."""
    spine, labels = use_case.spine, use_case.labels
    kept = {spine.entity_id, spine.prediction_ts, spine.day, *spine.request.names, *spine.also.names}
    known = labels.make(from_arrow(rows[labels.table], labels.columns))[KNOWN_AT]
    later = [(labels.table, [name for name in labels.columns if name not in kept], pa.array(known).cast(UTC_TIME))]
    for contract, events in use_case.told:
        told = rows[contract.table]
        later += [(contract.table, [*kind.reveals], told[kind.known_at]) for kind in events.kinds]
    changed = dict(rows)
    for name, told_columns, known_at in later:
        there = pc.fill_null(pc.greater(known_at, at), True)
        for column in told_columns:
            table = changed[name]
            field = table.schema.field(column)
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
                other = pc.add(pc.multiply(pc.fill_null(table[column], 1), 2), 17).cast(field.type)
                values = pc.if_else(there, other, table[column])
                changed[name] = table.set_column(table.schema.get_field_index(column), field, values)
    return changed


def _model(use_case: UseCase, features: pa.Table, rows: Sample) -> Iterator[str]:
    """A small model, saved and loaded as a version is, answers as it did."""
    frame = to_pandas(features)
    if frame.empty:
        return
    made = use_case.labels.make(from_arrow(rows[use_case.labels.table], use_case.labels.columns))
    by_id = dict(zip(made[ENTITY].tolist(), np.asarray(made[LABEL], dtype="float64").tolist(), strict=True))
    frame = frame.assign(**{LABEL: frame[ENTITY].map(by_id)}).dropna(subset=[LABEL]).head(_FITTED)
    learnt = use_case.prepare.learn(columns_of(use_case, frame))
    if json.loads(json.dumps(learnt)) != learnt:
        yield "prepare.learn: JSON changes what it gives; give texts, numbers, lists and maps"
        return
    ready = prepared(use_case, frame, learnt)
    if wrong := [str(name) for name, kind in ready.dtypes.items() if kind != np.float64]:
        yield f"prepare.prepare: column {wrong[0]} is {ready.dtypes[wrong[0]]}; make it float64"
        return
    one = prepared(use_case, frame.head(1), learnt)
    if not one.equals(ready.head(1)):
        yield "prepare.prepare: a row alone is prepared otherwise than among others; use what learn gives, not the rows"
    if lacking := [name for name in use_case.prepare.CATEGORIES if name not in ready]:
        yield f"prepare.CATEGORIES: {lacking[0]} is no prepared column; name those of prepare"
        return
    model = use_case.learner.fit(
        ready, frame[LABEL].to_numpy(), use_case.prepare.CATEGORIES, use_case.learner.parameters, 5
    )
    requests = choose_golden_requests(use_case, frame)
    matrix = prepared(use_case, requests, learnt).to_numpy()
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        again = runpy.run_path(str(use_case.learner.code))["load"](Path(folder)).predict(matrix)
    if not np.allclose(model.predict(matrix), again, rtol=0, atol=1e-9, equal_nan=True):
        yield "learner: loaded again, it answers golden requests otherwise; save all that predict needs"
    if np.isnan(again).any():
        yield "learner: it has no answer to a golden request, where nothing is looked up or a text is new; let it"
