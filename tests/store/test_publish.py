"""Filling the sqlite file, and refreshing the synced table."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from tests.store.workspace import FOUND, STARTED, TABLE, Answer, Workspace, served, state, trouble

from flight_delays.core.errors import UserError
from flight_delays.core.stream import TableVersion
from flight_delays.platform.online_store import fill_sqlite, filled_to, refresh

SCHEMA = pa.schema(
    [
        *(("entity_id", pa.string()), ("prediction_ts", pa.timestamp("us", "UTC")), ("day", pa.date32())),
        *(("flight", pa.int64()), ("tailnum", pa.string()), ("weather_temp", pa.float64())),
    ]
)
EARLY, LATE, LATER = (datetime(2013, 1, 15, hour, tzinfo=UTC) for hour in (15, 16, 17))


def chunk(*rows: tuple[str, datetime, float | None]) -> pa.Table:
    columns = [{"entity_id": key, "prediction_ts": at, "weather_temp": temp} for key, at, temp in rows]
    return pa.Table.from_pylist([row | {"day": date(2013, 1, 15), "flight": 7} for row in columns], SCHEMA)


def fill(file: Path, *chunks: pa.Table, to: TableVersion | None = None, onto: bool = False) -> int:
    return fill_sqlite(
        file,
        "online",
        chunks,
        columns=SCHEMA.names,
        key="entity_id",
        newest_by=("prediction_ts", "flight"),
        to=to,
        onto=onto,
    )


def rows(file: Path, query: str = "SELECT * FROM online ORDER BY entity_id") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as store:
        return store.execute(query).fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "online.db"


def test_every_column_is_kept_as_a_number_or_a_text(file: Path) -> None:
    assert fill(file, chunk(("ü'\"", EARLY, 1.5), ("b", LATE, None))) == 2
    assert rows(file) == [
        ("b", "2013-01-15T16:00:00", "2013-01-15", 7, None, None),
        ("ü'\"", "2013-01-15T15:00:00", "2013-01-15", 7, None, 1.5),
    ]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", None])
def test_times_are_told_in_utc(file: Path, zone: str | None) -> None:
    at = pa.timestamp("us", zone)
    told = chunk(("a", EARLY, 1.5))
    fill(file, told.set_column(1, pa.field("prediction_ts", at), told["prediction_ts"].cast(at)))
    assert rows(file, "SELECT prediction_ts FROM online") == [("2013-01-15T15:00:00",)]


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(("a", EARLY, 1.5), ("b", EARLY, 9.5), ("a", LATE, 2.5))],
        [chunk(("a", LATE, 2.5), ("b", EARLY, 9.5), ("a", EARLY, 1.5))],
        [chunk(("a", EARLY, 1.5)), chunk(("b", EARLY, 9.5)), chunk(("a", LATE, 2.5))],
        [chunk(("a", LATE, 2.5)), chunk(("b", EARLY, 9.5)), chunk(("a", EARLY, None))],
    ],
)
def test_each_key_has_one_row_the_newest(file: Path, chunks: list[pa.Table]) -> None:
    assert fill(file, *chunks) == 2
    assert rows(file, "SELECT entity_id, weather_temp FROM online ORDER BY 1") == [("a", 2.5), ("b", 9.5)]


def test_of_equally_new_rows_the_next_column_tells_and_of_equals_the_last_stays(file: Path) -> None:
    at = SCHEMA.get_field_index("flight")
    lower, higher = (chunk(("a", EARLY, temp)).set_column(at, "flight", [[n]]) for n, temp in ((6, 1.5), (7, 2.5)))
    for chunks, kept in (((lower, higher), 2.5), ((higher, lower), 2.5), ((higher, chunk(("a", EARLY, 3.5))), 3.5)):
        fill(file, *chunks)
        assert rows(file, "SELECT weather_temp FROM online") == [(kept,)]


def test_rows_that_are_filled_onto_others_leave_those_that_are_newer(file: Path) -> None:
    fill(file, chunk(("a", LATE, 1.5), ("b", LATE, 1.5)))
    assert fill(file, chunk(("a", EARLY, 2.5), ("b", LATER, 2.5)), chunk(("c", EARLY, 2.5)), onto=True) == 3
    assert rows(file, "SELECT entity_id, weather_temp FROM online ORDER BY 1") == [("a", 1.5), ("b", 2.5), ("c", 2.5)]
    assert fill(file, chunk(("d", EARLY, 2.5))) == 1


VERSION = TableVersion(id="a", version=3)


def test_a_file_tells_how_far_each_of_its_tables_was_filled(file: Path) -> None:
    def told(table: str = "online", columns: Sequence[str] = SCHEMA.names) -> TableVersion | None:
        return filled_to(file, table, columns=columns)

    assert told() is None  # no file
    fill(file, chunk(("a", LATE, 1.5)))
    assert told() is None
    fill(file, to=VERSION)
    fill_sqlite(file, "other", [], columns=["entity_id", "at"], key="entity_id", newest_by=["at"], to=None)
    assert (told(), told("other", ["entity_id", "at"])) == (VERSION, None)
    assert told(columns=SCHEMA.names[1:]) is None  # filled by code of before, which had other columns
    fill(file, to=replace(VERSION, version=4), onto=True)
    assert told() == replace(VERSION, version=4)
    fill(file)
    assert told() is None


@pytest.mark.parametrize("chunks", [[], [chunk()]])
def test_nothing_known_is_an_empty_table(file: Path, chunks: list[pa.Table]) -> None:
    fill(file, chunk(("a", EARLY, 1.5)))
    assert fill(file, *chunks) == 0
    assert rows(file) == []


def test_a_key_is_found_without_reading_the_others(file: Path) -> None:
    fill(file, chunk(("a", EARLY, 1.5)))
    ((*_, plan),) = rows(file, "EXPLAIN QUERY PLAN SELECT * FROM online WHERE entity_id IN ('a')")
    assert plan == "SEARCH online USING INDEX sqlite_autoindex_online_1 (entity_id=?)"


def test_a_reader_has_the_old_rows_until_it_has_the_new_ones_and_nothing_else_is_left(file: Path) -> None:
    fill(file, chunk(("a", EARLY, 1.5)))
    seen = []

    def chunks() -> Iterator[pa.Table]:
        yield chunk(("a", LATE, 2.5))
        seen.extend(rows(file, "SELECT weather_temp FROM online"))
        yield chunk(("b", LATE, 3.5))

    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT * FROM online").fetchall()
        fill_sqlite(file, "online", chunks(), columns=SCHEMA.names, key="entity_id", newest_by=["prediction_ts"])
        assert reader.execute("SELECT * FROM online").fetchall() == before
    assert seen == [(1.5,)]
    assert rows(file, "SELECT weather_temp FROM online ORDER BY 1") == [(2.5,), (3.5,)]
    assert list(file.parent.iterdir()) == [file]


def test_a_failure_half_way_leaves_the_old_rows_and_nothing_else(file: Path) -> None:
    fill(file, chunk(("a", EARLY, 1.5)))
    before = rows(file)

    def chunks() -> Iterator[pa.Table]:
        yield chunk(("a", LATE, 2.5))
        raise RuntimeError("Spark is gone")

    with pytest.raises(RuntimeError, match="Spark is gone"):
        fill_sqlite(file, "online", chunks(), columns=SCHEMA.names, key="entity_id", newest_by=["prediction_ts"])
    assert rows(file) == before
    assert list(file.parent.iterdir()) == [file]


def test_the_files_other_tables_stay_as_they_were(file: Path) -> None:
    for table in ("online", "other", "online"):
        chunks = [chunk((table, EARLY, 1.5))]
        fill_sqlite(file, table, chunks, columns=SCHEMA.names, key="entity_id", newest_by=["prediction_ts"])
    assert rows(file, "SELECT entity_id FROM online UNION ALL SELECT entity_id FROM other") == [("online",), ("other",)]
    ((*_, plan),) = rows(file, "EXPLAIN QUERY PLAN SELECT * FROM other WHERE entity_id IN ('a')")
    assert plan.startswith("SEARCH other USING INDEX")
    assert list(file.parent.iterdir()) == [file]


def test_a_table_made_anew_may_have_other_columns(file: Path) -> None:
    fill(file, chunk(("a", EARLY, 1.5)))
    few = ["entity_id", "prediction_ts"]
    fill_sqlite(file, "online", [chunk(("b", LATE, 2.5))], columns=few, key="entity_id", newest_by=["prediction_ts"])
    assert rows(file) == [("b", "2013-01-15T16:00:00")]


def test_a_file_that_is_no_database_is_told_and_left(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("no database " * 100)
    with pytest.raises(UserError, match=r"online.db cannot be read: file is not a database; delete it, then run"):
        fill_sqlite(file, "online", [], columns=SCHEMA.names, key="entity_id", newest_by=["prediction_ts"])
    assert list(file.parent.iterdir()) == [file]


BEING_MADE: Answer = (200, {"name": TABLE, "data_synchronization_status": {"message": "provisioning"}})
UNDER_WAY = trouble(409, "RESOURCE_CONFLICT", "An active update u0 already exists")
BROKEN = trouble(500, "INTERNAL_ERROR", "oops")
WENT_WELL = [
    pytest.param(Workspace(), ["the update was started"], id="at once"),
    pytest.param(
        Workspace(update=[state("WAITING_FOR_RESOURCES"), state("RUNNING"), state("RUNNING"), state("COMPLETED")]),
        ["the update was started", "the update is WAITING_FOR_RESOURCES", "the update is RUNNING"],
        id="slowly",
    ),
    pytest.param(
        Workspace(table=[BEING_MADE, FOUND]), ["its pipeline is being made", "the update was started"], id="a new table"
    ),
    pytest.param(
        Workspace(start=[UNDER_WAY, UNDER_WAY, STARTED]),
        ["another update is under way", "the update was started"],
        id="another update",
    ),
    pytest.param(
        Workspace(table=[BROKEN, FOUND], start=[BROKEN, STARTED], update=[BROKEN, state("COMPLETED")]),
        ["oops", "the update was started", "oops"],
        id="server errors",
    ),
]


def refreshed(client: WorkspaceClient, limit_s: float = 10) -> list[str]:
    """What was told meanwhile, on a clock that runs only while somebody sleeps."""
    told: list[str] = []
    slept: list[float] = []
    refresh(client, TABLE, progress=told.append, limit_s=limit_s, clock=lambda: sum(slept), sleep=slept.append)
    return told


@pytest.mark.parametrize(("workspace", "told"), WENT_WELL)
def test_a_synced_table_is_refreshed_and_waited_for(workspace: Workspace, told: list[str]) -> None:
    with served(workspace) as client:
        assert refreshed(client, 60) == [f"{TABLE}: {line}" for line in told]
    assert workspace.asked[-1] == "GET /api/2.0/pipelines/p1/updates/u1"
    assert "POST /api/2.0/pipelines/p1/updates" in workspace.asked


AGAIN = "(waited for 10 s); run it again"


@pytest.mark.parametrize(
    ("workspace", "says"),
    [
        (
            Workspace(table=[trouble(404, "NOT_FOUND", "no such table")]),
            "no such table; deploy the bundle with online_store: true, then run it again",
        ),
        (
            Workspace(table=[trouble(403, "PERMISSION_DENIED", "not\n  yours")]),
            "not yours; fix that, then run it again",
        ),
        (Workspace(start=[trouble(403, "PERMISSION_DENIED", "no")]), "no; fix that, then run it again"),
        (Workspace(update=[state("FAILED")]), "update u1 of pipeline p1 FAILED; see its page, then run it again"),
        (
            Workspace(update=[state("RUNNING"), state("CANCELED")]),
            "update u1 of pipeline p1 CANCELED; see its page, then run it again",
        ),
        (Workspace(update=[state("RUNNING")]), f"the update is RUNNING {AGAIN}"),
        (Workspace(start=[UNDER_WAY]), f"another update is under way {AGAIN}"),
        (Workspace(table=[BEING_MADE]), f"its pipeline is being made {AGAIN}"),
        (Workspace(start=[BROKEN]), f"oops {AGAIN}"),
        (Workspace(start=[trouble(503, "TEMPORARILY_UNAVAILABLE", "later")]), f"later {AGAIN}"),
    ],
)
def test_what_keeps_a_table_from_being_refreshed_is_said_in_one_line(workspace: Workspace, says: str) -> None:
    with served(workspace) as client, pytest.raises(UserError) as error:
        refreshed(client)
    # The SDK adds its settings, without the token, to some.
    assert re.sub(r"\. Config: [^;]*", "", str(error.value)) == f"{TABLE} is not refreshed: {says}"


def test_a_workspace_that_is_not_there_is_given_up_after_the_time_limit() -> None:
    with served(Workspace()) as client:
        pass
    with pytest.raises(UserError, match=rf"^{TABLE} is not refreshed: .*Connection refused.* \(waited for 10 s\)"):
        refreshed(client)
