"""Inference tables: what is kept of requests, and what becomes of them when a table cannot be written."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bundle_laptop.api import tables
from bundle_laptop.api.tables import MAX_LOGGED_BYTES, PayloadLog, payload

TABLE = "main.Flights.Delay_payload"
NEVER_S = 3600
DOCUMENTED = {  # https://learn.microsoft.com/azure/databricks/ai-gateway/inference-tables
    "request_date": "date",
    "databricks_request_id": "string",
    "client_request_id": "string",
    "request_time": "timestamp",
    "status_code": "integer",
    "sampling_fraction": "double",
    "execution_duration_ms": "long",
    "request": "string",
    "response": "string",
    "served_entity_id": "string",
    "logging_error_codes": "array<string>",
    "requester": "string",
}


def row(number: int = 0, *, request: bytes = b"", response: bytes = b"{}") -> dict[str, Any]:
    started = datetime(2013, 1, 15, 23, 59, 59, 123456, tzinfo=UTC).timestamp()
    return payload(f"id-{number}", started, started + 0.0016, 200, request, response, "champion-3")


def rows(folder: Path, table: str = "delay_payload") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(folder / f"warehouse/flights.db/{table}").to_pyarrow_table().to_pylist()
    return found


def ids(folder: Path, table: str = "delay_payload") -> list[str]:
    return [row["databricks_request_id"] for row in rows(folder, table)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PayloadLog]:
    log = PayloadLog(tmp_path, every_s=NEVER_S)
    yield log
    log.close()


def test_rows_have_the_documented_columns_and_types(tmp_path: Path, log: PayloadLog) -> None:
    log.create(TABLE)
    log.create(TABLE)
    schema = DeltaTable(tmp_path / "warehouse/flights.db/delay_payload").schema()
    types = {
        field.name: f"array<{field.type.element_type.type}>" if field.type.type == "array" else field.type.type
        for field in schema.fields
    }
    assert types == DOCUMENTED
    log.add(TABLE, row(1, request=b'{"inputs": [], "client_request_id": "mine"}'))
    log.add(TABLE, row(2, request=b"\xff\0"))
    log.close()
    first, second = rows(tmp_path)
    assert first == {
        "request_date": date(2013, 1, 15),
        "databricks_request_id": "id-1",
        "client_request_id": "mine",
        "request_time": datetime(2013, 1, 15, 23, 59, 59, 123456, tzinfo=UTC),
        "status_code": 200,
        "sampling_fraction": 1.0,
        "execution_duration_ms": 2,
        "request": '{"inputs": [], "client_request_id": "mine"}',
        "response": "{}",
        "served_entity_id": "champion-3",
        "logging_error_codes": [],
        "requester": "local",
    }
    assert (second["request"], second["client_request_id"]) == ("\ufffd\0", None)


@pytest.mark.parametrize(
    ("request_bytes", "response_bytes", "codes"),
    [
        (MAX_LOGGED_BYTES, MAX_LOGGED_BYTES, []),
        (MAX_LOGGED_BYTES + 1, 1, ["MAX_REQUEST_SIZE_EXCEEDED"]),
        (1, MAX_LOGGED_BYTES + 1, ["MAX_RESPONSE_SIZE_EXCEEDED"]),
        (MAX_LOGGED_BYTES + 1, MAX_LOGGED_BYTES + 1, ["MAX_REQUEST_SIZE_EXCEEDED", "MAX_RESPONSE_SIZE_EXCEEDED"]),
    ],
)
def test_what_is_too_long_is_left_out_and_said_to_be(
    tmp_path: Path, log: PayloadLog, request_bytes: int, response_bytes: int, codes: list[str]
) -> None:
    log.add(TABLE, row(request=b"x" * request_bytes, response=b"y" * response_bytes))
    log.close()
    (found,) = rows(tmp_path)
    assert found["logging_error_codes"] == codes
    assert (found["request"] is None, found["response"] is None) == (
        request_bytes > MAX_LOGGED_BYTES,
        response_bytes > MAX_LOGGED_BYTES,
    )


@pytest.mark.parametrize(
    ("request_text", "client_id"),
    [
        (b'{"client_request_id": "a"}', "a"),
        (b'{"client_request_id": 1}', None),
        (b'{"inputs": ["client_request_id"]}', None),
        (b'["client_request_id"]', None),
        (b'"client_request_id"', None),
        (b'{"client_request_id": ', None),
    ],
)
def test_the_clients_own_id_is_a_text_in_the_body(
    tmp_path: Path, log: PayloadLog, request_text: bytes, client_id: str | None
) -> None:
    log.add(TABLE, row(request=request_text))
    log.close()
    assert [row["client_request_id"] for row in rows(tmp_path)] == [client_id]


def test_rows_are_written_within_a_second_without_being_asked_in_order_and_by_table(tmp_path: Path) -> None:
    log = PayloadLog(tmp_path)
    log.create(TABLE)
    for number in range(10):
        log.add("main.flights.other_payload" if number % 2 else TABLE, row(number))
    started = monotonic()
    while len(ids(tmp_path)) < 5:
        assert monotonic() < started + 20
        sleep(0.02)
    assert ids(tmp_path) == [f"id-{number}" for number in range(0, 10, 2)]
    log.close()
    assert ids(tmp_path, "other_payload") == [f"id-{number}" for number in range(1, 10, 2)]


def test_rows_are_kept_until_the_table_can_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse/flights.db").write_text("in the way")
    log = PayloadLog(tmp_path, every_s=0.01)
    log.add(TABLE, row(1))
    log.add("main.others.delay_payload", row(2))
    started = monotonic()
    while "1 requests were not written to main.Flights.Delay_payload and are tried again" not in caplog.text:
        assert monotonic() < started + 20
        sleep(0.02)
    (tmp_path / "warehouse/flights.db").unlink()
    log.add(TABLE, row(3))
    log.close()
    assert sorted(ids(tmp_path)) == ["id-1", "id-3"]
    others = DeltaTable(tmp_path / "warehouse/others.db/delay_payload").to_pyarrow_table()
    assert others["databricks_request_id"].to_pylist() == ["id-2"]


def test_rows_that_can_never_be_written_are_told_at_the_end(
    tmp_path: Path, log: PayloadLog, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "warehouse").write_text("in the way")
    log.add(TABLE, row())
    log.close()
    assert "1 requests to endpoints were not written to their tables and are lost" in caplog.text


def test_nobody_waits_for_a_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go, append = Event(), Event(), tables.append

    def hang(folder: Path, table: str, found: pa.Table) -> None:
        writing.set()
        assert go.wait(20)
        append(folder, table, found)

    monkeypatch.setattr(tables, "append", hang)
    log = PayloadLog(tmp_path, every_s=0)
    log.add(TABLE, row(0))
    assert writing.wait(20)
    for number in range(1, 10):  # would never end, were it to wait: only what follows lets the write go on
        log.add(TABLE, row(number))
    go.set()
    log.close()
    assert sorted(ids(tmp_path)) == [f"id-{number}" for number in range(10)]
