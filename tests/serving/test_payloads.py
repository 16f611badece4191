"""The payload table: what is kept of requests, and what becomes of them when a table cannot be written."""

from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.serving.live import PATIENCE_S, entity, live
from tests.unit.test_scoring_request import ROW, records

from flight_delays.serving import payloads
from flight_delays.serving.payloads import Payload, PayloadLog
from flight_delays.serving.service import LoadedModel

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


def payload(number: int = 0, *, request: bytes = b"", client_id: str | None = None) -> Payload:
    return Payload(
        id=f"id-{number}",
        client_id=client_id,
        time=datetime(2013, 1, 15, 23, 59, 59, 123456, tzinfo=UTC),
        status=200,
        duration_ms=1.6,
        request=request,
        response=b"{}",
        entity_id="champion-3",
    )


def ids(table: Path) -> list[str]:
    return sorted(DeltaTable(table).to_pyarrow_table()["databricks_request_id"].to_pylist())


def test_rows_have_the_documented_columns_and_types(tmp_path: Path) -> None:
    log = PayloadLog(str(tmp_path / "table"), every_s=NEVER_S)
    log.add(payload(1, request=b'{"inputs": []}', client_id="mine"))
    log.add(payload(2, request=b"\xff\0"))
    log.close()
    table = DeltaTable(tmp_path / "table")
    types = {field.name: field.type for field in table.schema().fields}
    assert {name: kind.type for name, kind in types.items() if name != "logging_error_codes"} == {
        name: kind for name, kind in DOCUMENTED.items() if name != "logging_error_codes"
    }
    assert list(types) == list(DOCUMENTED)
    assert types["logging_error_codes"].element_type.type == "string"
    first, second = table.to_pyarrow_table().sort_by("databricks_request_id").to_pylist()
    assert first == {
        "request_date": date(2013, 1, 15),
        "databricks_request_id": "id-1",
        "client_request_id": "mine",
        "request_time": datetime(2013, 1, 15, 23, 59, 59, 123456, tzinfo=UTC),
        "status_code": 200,
        "sampling_fraction": 1.0,
        "execution_duration_ms": 2,
        "request": '{"inputs": []}',
        "response": "{}",
        "served_entity_id": "champion-3",
        "logging_error_codes": [],
        "requester": None,
    }
    assert (second["request"], second["client_request_id"]) == ("\ufffd\0", None)


@pytest.mark.parametrize(
    ("limits", "fit"),
    [({"max_rows": 3}, 3), ({"max_bytes": 3 * 102}, 3), ({"max_bytes": 3 * 102 - 1}, 2), ({"max_bytes": 101}, 0)],
)
def test_what_finds_no_room_is_dropped_and_counted(tmp_path: Path, limits: dict[str, int], fit: int) -> None:
    log = PayloadLog(str(tmp_path / "table"), every_s=NEVER_S, **limits)
    for number in range(5):
        log.add(payload(number, request=b"x" * 100))
    assert (log.waiting, log.dropped) == (fit, 5 - fit)
    assert log.flush()
    for number in range(5, 10):  # what was written has made room
        log.add(payload(number, request=b"x" * 100))
    log.close()
    assert (log.waiting, log.dropped) == (0, 2 * (5 - fit))
    if fit:
        assert ids(tmp_path / "table") == [f"id-{number}" for number in (*range(fit), *range(5, 5 + fit))]


def test_a_request_that_cannot_be_kept_is_answered_all_the_same(
    loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    log = PayloadLog(str(tmp_path / "table"), every_s=NEVER_S, max_rows=1)
    with live(entity("champion", loaded_models["champion"]), payloads=log) as running:
        answers = [running.post(records(ROW)) for _ in range(3)]
        assert [response.status_code for response in answers] == [200] * 3
        assert running.metric("payload_rows_dropped_total") == 2
        assert running.metric("payload_rows_waiting") == 1
    assert ids(tmp_path / "table") == [answers[0].headers["x-request-id"]]


def test_requests_that_are_refused_are_kept_once_a_version_is_chosen(
    loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    log = PayloadLog(str(tmp_path / "table"), every_s=NEVER_S)
    with live(entity("champion", loaded_models["champion"]), payloads=log) as running:
        refused = running.post(b"[]")
        running.post(records(ROW), "/served-models/nobody/invocations")
    (row,) = DeltaTable(tmp_path / "table").to_pyarrow_table().to_pylist()
    assert (row["status_code"], row["request"], row["response"]) == (400, "[]", refused.text)
    assert row["databricks_request_id"] == refused.headers["x-request-id"]


def test_rows_are_kept_until_the_table_can_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = tmp_path / "table"
    table.write_text("in the way")
    log = PayloadLog(str(table), every_s=NEVER_S)
    log.add(payload(1))
    assert not log.flush(timeout_s=2)
    assert log.waiting == 1
    assert f"1 rows were not written to {table} and are kept" in caplog.text
    table.unlink()
    log.add(payload(2))
    assert log.flush()
    assert ids(table) == ["id-1", "id-2"]
    log.close()
    assert ids(table) == ["id-1", "id-2"]


def test_rows_that_can_never_be_written_are_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "table").write_text("in the way")
    log = PayloadLog(str(tmp_path / "table"), every_s=NEVER_S)
    log.add(payload())
    log.close()
    assert f"1 rows of {tmp_path / 'table'} were not written in time and are lost" in caplog.text


def test_rows_are_written_now_and_then_without_being_asked(tmp_path: Path) -> None:
    log = PayloadLog(str(tmp_path / "table"), every_s=0.01)
    log.add(payload())
    with log._changed:
        assert log._changed.wait_for(lambda: not log.waiting, PATIENCE_S)
    assert ids(tmp_path / "table") == ["id-0"]
    log.close()


def test_nobody_waits_for_a_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go = Event(), Event()

    def hang(table: str, rows: pa.Table, mode: str) -> None:
        writing.set()
        assert go.wait(PATIENCE_S)
        write_deltalake(table, rows, mode=mode)

    monkeypatch.setattr(payloads, "write_deltalake", hang)
    log = PayloadLog(str(tmp_path / "table"), every_s=0)
    log.add(payload(0))
    assert writing.wait(PATIENCE_S)
    for number in range(1, 10):  # would never end, were it to wait: only what follows lets the write go on
        log.add(payload(number))
    assert (log.waiting, log.dropped) == (10, 0)
    go.set()
    log.close()
    assert ids(tmp_path / "table") == [f"id-{number}" for number in range(10)]
