"""A use case that is not whole, or that knows the future, is found out in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from tests.bikes import USE_CASE as BIKES
from tests.bikes import features, prepare

from flight_delays.core.as_of import Facts, Newest
from flight_delays.core.columns import Columns
from flight_delays.core.delivery import Files, FromTable
from flight_delays.core.learner import Learner, Parameters
from flight_delays.core.objective import BinaryClassification
from flight_delays.core.quarantine import Contract
from flight_delays.core.rules import Rule
from flight_delays.core.use_case import Preparation, UseCase
from flight_delays.platform.ddl import declarations
from flight_delays.tasks.check_use_case import Checked, run
from flight_delays.use_case import USE_CASE

AS_OF = datetime(2014, 1, 2, tzinfo=UTC)
DECLARED = declarations(BIKES.sql)
HOURS, CONDITIONS = (source.contract for source in BIKES.sources)


def findings(use_case: UseCase, declared: dict[str, str] = DECLARED) -> list[str]:
    return [*run(use_case, declared, AS_OF).findings]


def with_contract(contract: Contract, **changes: Any) -> UseCase:
    changed = [
        replace(source, contract=replace(source.contract, **changes)) if source.contract is contract else source
        for source in BIKES.sources
    ]
    return replace(BIKES, sources=tuple(changed))


def with_prepare(**changes: Any) -> UseCase:
    names = ("__file__", "CATEGORIES", "RULES", "learn", "prepare", "entity_ids")
    changed = SimpleNamespace(**{**{name: getattr(prepare, name) for name in names}, **changes})
    return replace(BIKES, prepare=cast(Preparation, changed))


@pytest.mark.parametrize("use_case", [USE_CASE, BIKES], ids=lambda use_case: use_case.name)
def test_nothing_is_found_in_the_use_cases_of_this_repository(use_case: UseCase) -> None:
    assert run(use_case, declarations(use_case.sql), AS_OF) == Checked(findings=(), not_sampled=())


def careless_finish(rows: Columns) -> Columns:
    """The mean of all rows that are asked for."""
    return {**features.finish(rows), "mean_7d": np.full(len(rows["rented"]), np.nanmean(rows["rented_7d"]))}


def unfinished(**changes: Any) -> Callable[[Columns], Columns]:
    return lambda rows: {**features.finish(rows), **{name: make(rows) for name, make in changes.items()}}


EARLY = Facts(
    table=replace(features.HOURS, times=("known_at", "counted_at")), event_time="known_at", known_time="known_at"
)
HASTY = tuple(
    replace(question, facts=EARLY) if isinstance(question, Newest) and "last_hour" in question.values else question
    for question in BIKES.questions
)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            with_contract(HOURS, columns=(*HOURS.columns, "windows")),
            "raw_hours: column windows is neither a field nor derived",
        ),
        (with_contract(HOURS, key=("hour",)), "raw_hours: key hour is no column"),
        (with_contract(CONDITIONS, columns=("city", "begins_at")), "raw_conditions: there is no column known_at"),
        (
            with_contract(CONDITIONS, columns=(*CONDITIONS.columns, "weathersit")),
            "sql/raw_conditions.sql: column weathersit is missing, and the contract's is string",
        ),
        (replace(BIKES, spine=replace(BIKES.spine, table="raw_days")), "spine: raw_days has no source"),
        (
            replace(BIKES, spine=replace(BIKES.spine, entity_id="begins_at")),
            "spine: raw_hours has no column begins_at that is string",
        ),
        (
            replace(BIKES, spine=replace(BIKES.spine, request=pa.schema({"rain": pa.int64()}))),
            "spine: raw_hours has no column rain",
        ),
        (
            replace(BIKES, spine=replace(BIKES.spine, request=pa.schema({"holiday": pa.int32()}))),
            "spine: a request cannot carry holiday, int32",
        ),
        (
            replace(BIKES, spine=replace(BIKES.spine, also=pa.schema({"day": pa.date32()}))),
            "spine: day is the name of a generic column",
        ),
        (
            replace(
                BIKES,
                questions=(
                    replace(
                        BIKES.questions[0],
                        facts=replace(features.REPORTS, table=replace(features.CONDITIONS, name="raw_rain")),
                    ),
                ),
            ),
            "questions: raw_rain has no source",
        ),
        (
            replace(
                BIKES,
                questions=(
                    replace(
                        BIKES.questions[0],
                        facts=replace(features.REPORTS, table=replace(features.CONDITIONS, columns=("rain",))),
                    ),
                ),
            ),
            "questions: raw_conditions has no column rain",
        ),
        (
            replace(BIKES, search_space={**BIKES.search_space, "depth": BIKES.search_space["max_features"]}),
            "search_space: depth is no parameter",
        ),
        (
            with_prepare(RULES=(("too warm", ("temp",), np.isnan),)),
            "prepare.RULES: too warm: temp is no column of a request",
        ),
        (
            replace(BIKES, labels=replace(BIKES.labels, columns=("hour_id", "rents"))),
            "labels: raw_hours has no column rents",
        ),
        (
            replace(BIKES, labels=replace(BIKES.labels, make=lambda hours: {"entity_id": hours["hour_id"]})),
            "labels: the function gives entity_id; it must give entity_id, day, label, known_at",
        ),
        (
            replace(BIKES, objective=BinaryClassification(positive="many", negative="few")),
            "labels: a label is neither 0 nor 1",
        ),
        (
            replace(BIKES, finish=unfinished(mean_7d=lambda rows: rows["rented_7d"] / 0.0)),
            "finish: feature mean_7d is infinite in places",
        ),
        (
            replace(BIKES, finish=unfinished(mean_7d=lambda rows: rows["city"])),
            "finish: feature mean_7d is string; make it float64",
        ),
        (
            replace(BIKES, finish=unfinished(mean_8d=lambda rows: rows["rented_7d"])),
            "sql/features.sql: column mean_8d is missing, and what features are made is double",
        ),
        (replace(BIKES, finish=careless_finish), "feature mean_7d depends on which other rows are asked for"),
        (
            replace(BIKES, questions=HASTY),
            "feature last_hour knows the future: it changes when outcomes known later are others",
        ),
        (
            with_prepare(entity_ids=lambda columns: ["an hour"] * len(columns["begins_at"])),
            "prepare.entity_ids: of 2011-01-01T05Z it makes an hour",
        ),
        (
            replace(BIKES, slices=lambda _: {"city": np.array(["Washington"])}),
            "slices: city has 1 values for 8645 rows",
        ),
        (with_prepare(learn=lambda _: {"hours": (1, 2)}), "prepare.learn: JSON changes what it gives"),
        (
            with_prepare(prepare=lambda columns, _: {"hour": columns["begins_at"]}),
            "prepare.prepare: column hour is datetime64[us]; make it float64",
        ),
        (
            with_prepare(
                prepare=lambda columns, _: {"share": np.full(len(columns["holiday"]), 1 / len(columns["holiday"]))}
            ),
            "prepare.prepare: a row alone is prepared otherwise than among others",
        ),
        (with_prepare(CATEGORIES=("season",)), "prepare.CATEGORIES: season is no prepared column"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_a_line_that_names_it(wrong: UseCase, told: str) -> None:
    found = findings(wrong)
    assert any(line.startswith(told) for line in found), found


def test_a_table_without_sql_is_named() -> None:
    declared = {name: sql for name, sql in DECLARED.items() if name != "raw_hours"}
    assert findings(BIKES, declared) == ["raw_hours: no SQL declares it; add sql/raw_hours.sql"]


def test_code_that_travels_must_not_import_the_project(tmp_path: Path) -> None:
    file = tmp_path / "prepare.py"
    file.write_text("import json\nfrom flight_delays.core.columns import whole\nfrom . import other\n")
    found = findings(with_prepare(__file__=str(file), CATEGORIES=()))
    assert found == [
        f"prepare.py, line {line}: it travels with a version, and imports flight_delays; copy what it needs"
        for line in (2, 3)
    ]


FORGETFUL = """
class _Constant:
    def predict(self, matrix):
        return matrix[:, 0]


def load(folder):
    return _Constant()
"""


@dataclass(frozen=True)
class Elsewhere:
    """A learner whose file is another."""

    learner: Learner
    code: Path

    @property
    def parameters(self) -> Parameters:
        return self.learner.parameters

    def fit(self, *arguments: Any) -> Any:
        return self.learner.fit(*arguments)


def test_a_learner_whose_copy_answers_otherwise_is_found(tmp_path: Path) -> None:
    file = tmp_path / "forest.py"
    file.write_text(BIKES.learner.code.read_text() + FORGETFUL)
    found = findings(replace(BIKES, learner=cast(Learner, Elsewhere(BIKES.learner, file))))
    assert found == ["learner: loaded again, it answers golden requests otherwise; save all that predict needs"]


def test_a_function_that_raises_is_a_line_with_the_place() -> None:
    (found,) = findings(replace(BIKES, finish=lambda rows: {"half": rows["haf"] / 2}))
    assert found.startswith("features: KeyError: 'haf' (test_check_use_case.py, line ")


def test_an_endless_question_of_a_table_that_events_tell_is_found() -> None:
    endless = replace(
        USE_CASE,
        questions=(*USE_CASE.questions, replace(USE_CASE.questions[2], values={"ever_back": "back"}, tolerance=None)),
    )
    found = run(endless, declarations(USE_CASE.sql), AS_OF).findings
    assert [*found] == [
        "questions: raw_flights is asked for rows however old, which a stream cannot hold; give a tolerance"
    ]


def test_a_delivery_without_a_good_row_is_found() -> None:
    never = Rule(reason="never", columns=("begins_at",), broken=lambda times: times == times)
    found = run(with_contract(CONDITIONS, rules=(never,)), DECLARED, AS_OF).findings
    assert [*found] == ["raw_conditions: no delivered row is good; see its rules, and what is delivered"]


def test_what_a_table_delivers_is_not_sampled() -> None:
    sources = tuple(replace(source, delivery=FromTable(name="a.b.c")) for source in BIKES.sources)
    assert run(replace(BIKES, sources=sources), DECLARED, AS_OF) == Checked(
        findings=(), not_sampled=("raw_hours", "raw_conditions")
    )


def test_features_are_compared_with_their_sql_even_without_a_row() -> None:
    sources = tuple(replace(source, delivery=FromTable(name="a.b.c")) for source in BIKES.sources)
    more = replace(BIKES, sources=sources, finish=unfinished(mean_8d=lambda rows: rows["rented_7d"]))
    (found,) = findings(more)
    assert found.startswith("sql/features.sql: column mean_8d is missing")


def test_a_file_of_csv_is_sampled(tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_text("day,hr,holiday,workingday,bikers\n1,0,0,0,-3\n1,1,0,0,-4\n")
    hours, conditions = BIKES.sources
    use_case = replace(BIKES, sources=(replace(hours, delivery=Files(path=str(file))), conditions))
    assert findings(use_case) == ["raw_hours: no delivered row is good; see its rules, and what is delivered"]


def test_sql_that_no_source_needs_is_named(tmp_path: Path) -> None:
    for file in [*BIKES.sql.glob("*.sql")]:
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "raw_rain.sql").write_text("")
    found = findings(replace(BIKES, sql=tmp_path))
    assert found == ["sql/raw_rain.sql: no source has such a table; delete the file, or add the source"]
