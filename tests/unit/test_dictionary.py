"""The data dictionary says what the tables are."""

from pathlib import Path

import pytest

from flight_delays.platform.ddl import columns, declarations, is_view
from flight_delays.use_case import USE_CASE
from flight_delays.views.dictionary import FILE, data_dictionary, dictionary

DECLARED = declarations(USE_CASE.sql)
SQL = """CREATE TABLE IF NOT EXISTS {schema}.a (
  id STRING NOT NULL COMMENT 'The airline''s; own',
  x DOUBLE COMMENT 'Minutes'
  , CONSTRAINT a_pk PRIMARY KEY (id, at TIMESERIES) -- Unity Catalog only
) USING delta
COMMENT 'What is known';
"""
VIEW = """CREATE OR REPLACE VIEW {schema}.b
COMMENT 'What the airline''s own are'
AS SELECT a.id FROM {schema}.a JOIN {schema}.c ON a.id = c.id WHERE a.id IN (SELECT id FROM {schema}.a);
"""


def test_a_table_is_told_by_its_comment_its_key_and_its_columns() -> None:
    _, _, found = dictionary({"a": SQL}).partition("## a")
    assert found.split("\n") == [
        "",
        "",
        "What is known. Key: id, at.",
        "",
        "| column | type | null | what it says |",
        "|---|---|---|---|",
        "| id | STRING |  | The airline's; own |",
        "| x | DOUBLE | yes | Minutes |",
        "",
    ]


def test_a_view_is_told_by_its_comment_and_the_tables_that_it_is_of() -> None:
    _, _, found = dictionary({"b": VIEW}).partition("## b")
    assert found == "\n\nWhat the airline's own are. View of a, c.\n"


def test_the_dictionary_in_docs_is_that_of_the_tables_as_they_are() -> None:
    written = (Path(__file__).parents[2] / FILE).read_text(encoding="utf-8")
    assert written == data_dictionary(USE_CASE), f"run: flight-delays dictionary > {FILE}"


@pytest.mark.parametrize("name", [name for name, sql in DECLARED.items() if not is_view(sql)])
def test_no_column_goes_without_a_comment(name: str) -> None:
    body = DECLARED[name].partition("(\n")[2].partition("\n  , CONSTRAINT")[0].partition("\n) USING")[0]
    assert [line.split()[0] for line in body.splitlines()] == [column for column, *_ in columns(DECLARED[name])]
    assert all(comment for *_, comment in columns(DECLARED[name]))
