"""What callers of the scoring service get, over HTTP."""

import json
import logging
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore
from time import monotonic, sleep
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from deltalake import DeltaTable
from mlflow.pyfunc import PyFuncModel
from tests.serving.live import JSON, PATIENCE_S, Live, entity, free_port, live, meddled, started
from tests.unit.test_scoring_request import BAD, MAX_ROWS, ROW, WAYS, records

from flight_delays.platform import online_table
from flight_delays.serving import app
from flight_delays.serving import configuration as settings
from flight_delays.serving.payloads import PayloadLog
from flight_delays.serving.service import LoadedModel, load_checked
from flight_delays.use_case import USE_CASE

GOOD = records(ROW)


@pytest.fixture(scope="module")
def running(models: dict[str, PyFuncModel]) -> Iterator[Live]:
    """Open to all, for requests of at most MAX_ROWS rows and a megabyte."""
    with live(entity("champion", load_checked(models["champion"], {}, max_rows=MAX_ROWS))) as running:
        yield running


def error(response: requests.Response, status: int, code: str) -> str:
    """The message of a refusal, which has the form of all."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert response.json().keys() == {"error_code", "message"}
    assert response.json()["error_code"] == code
    return str(response.json()["message"])


@pytest.mark.parametrize(("body", "message"), [pytest.param(body, message, id=name) for name, body, message in BAD])
def test_a_bad_request_is_refused_with_the_reason(running: Live, body: bytes, message: str) -> None:
    assert error(running.post(body), 400, "INVALID_PARAMETER_VALUE") == message


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"distance": -5}, "distance is not positive"),
        ({"distance": 0}, "distance is not positive"),
        ({"distance": 1}, None),
        ({"sched_arr_time": 2400}, None),
        ({"sched_arr_time": 2401}, "sched_arr_time is not a time of day"),
        ({"sched_arr_time": 1460}, "sched_arr_time is not a time of day"),
        ({"weather_visib": None}, None),
    ],
)
def test_a_row_that_ingest_would_reject_is_refused_with_the_same_reason(
    running: Live, way: str, changes: dict[str, int | None], reason: str | None
) -> None:
    for number in (1, 2):
        response = running.post(json.dumps(WAYS[way]([*[ROW] * (number - 1), ROW | changes])).encode())
        if reason is None:
            assert (response.status_code, len(response.json()["predictions"])) == (200, number)
        else:
            said = {"error_code": "INVALID_PARAMETER_VALUE", "message": f"row {number}: {reason}"}
            assert (response.status_code, response.json()) == (400, said)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "text/csv", "application/jsonx", "application/x+json"])
def test_another_content_type_than_json_is_refused(running: Live, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    response = requests.post(running.url + "/invocations", data=GOOD, headers=headers, timeout=PATIENCE_S)
    assert error(response, 415, "UNSUPPORTED_MEDIA_TYPE") == "the content type must be application/json"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=1"])
def test_a_content_type_may_have_parameters(running: Live, kind: str) -> None:
    assert running.post(GOOD, **{"content-type": kind}).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_be_as_long_as_the_limit_and_no_longer(loaded_models: dict[str, LoadedModel], chunked: bool) -> None:
    with live(entity("champion", loaded_models["champion"]), max_body_bytes=2000) as running:
        for more, status in ((0, 200), (1, 413), (1_000_000, 413), (0, 200)):
            body = GOOD.ljust(2000 + more)
            sent = iter([body[:1500], body[1500:]]) if chunked else body
            response = requests.post(running.url + "/invocations", data=sent, headers=JSON, timeout=PATIENCE_S)
            assert response.status_code == status
            if status == 413:
                assert error(response, 413, "REQUEST_TOO_LARGE") == "the body has more than 2,000 bytes"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer first second"}, 401),
        ({"authorization": "Bearer firs"}, 401),
        ({"authorization": "Basic first"}, 401),
        ({"authorization": "first"}, 401),
        ({"authorization": "Bearer é"}, 401),
        ({"authorization": "Bearer first"}, 200),
        ({"authorization": "bearer  second"}, 200),
    ],
)
def test_all_but_probes_need_one_of_the_tokens(
    loaded_models: dict[str, LoadedModel], sent: dict[str, str], status: int
) -> None:
    with live(entity("champion", loaded_models["champion"]), tokens=frozenset({"first", "second"})) as running:
        for path in ("/ping", "/health", "/ready"):
            assert running.get(path, **sent).status_code == 200
        answers = [running.post(GOOD, path, **sent) for path in ("/invocations", "/served-models/champion/invocations")]
        answers += [running.get(path, **sent) for path in ("/version", "/metrics")]
        for response in answers:
            assert response.status_code == status
            if status == 401:
                assert response.headers["www-authenticate"] == "Bearer"
                assert error(response, 401, "UNAUTHENTICATED").endswith("with a token that is known")


def test_without_a_token_the_body_is_not_waited_for(loaded_models: dict[str, LoadedModel]) -> None:
    champion = entity("champion", loaded_models["champion"])
    with live(champion, tokens=frozenset({"first"})) as running, open_request(running) as opened:
        assert answer(opened).startswith("HTTP/1.1 401 ")


def test_one_request_too_many_is_asked_to_come_again(loaded_models: dict[str, LoadedModel]) -> None:
    arrived, go = Semaphore(0), Event()

    def hold() -> None:
        arrived.release()
        assert go.wait(PATIENCE_S)

    held = entity("champion", meddled(loaded_models["champion"], hold))
    with live(held, max_concurrency=2) as running, ThreadPoolExecutor(2) as callers:
        answers = [callers.submit(running.post, GOOD) for _ in range(2)]
        assert all(arrived.acquire(timeout=PATIENCE_S) for _ in range(2))
        refused = running.post(GOOD)
        message = error(refused, 429, "REQUEST_LIMIT_EXCEEDED")
        assert message == "2 requests are being answered; try again in a second"
        assert refused.headers["retry-after"] == "1"
        assert running.get("/ping").status_code == 200
        assert running.metric("requests_in_flight") == 2
        go.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]
        assert running.post(GOOD).status_code == 200
        assert running.metric("requests_total", status="429") == 1
        assert running.metric("requests_total", status="200") == 3
        assert running.metric("requests_in_flight") == 0


def test_it_is_ready_once_a_version_is_served(loaded_models: dict[str, LoadedModel]) -> None:
    with live() as running:
        assert running.get("/ping").json() == running.get("/health").json() == {"status": "alive"}
        nothing = "no version is served yet; try again when /ready answers with 200"
        for response in (running.get("/ready"), running.post(GOOD)):
            assert error(response, 503, "TEMPORARILY_UNAVAILABLE") == nothing
        assert running.get("/version").json() == {"endpoint": "delay", "served_entities": []}
        assert running.get("/openapi.json").status_code == 200
        running.service.configure([entity("champion", loaded_models["champion"])])
        assert running.get("/ready").json() == {"status": "ready"}
        assert running.post(GOOD).status_code == 200


def test_a_service_describes_what_it_serves_at_the_time(loaded_models: dict[str, LoadedModel]) -> None:
    def names(running: Live) -> list[str]:
        path = running.get("/openapi.json").json()["paths"]["/served-models/{name}/invocations"]
        return list(path["post"]["parameters"][0]["schema"]["enum"])

    champion, challenger = (entity(name, loaded) for name, loaded in loaded_models.items())
    with live(champion) as running, live() as other:
        assert (names(running), names(other)) == (["champion"], [])
        other.service.configure([challenger])
        assert (names(running), names(other)) == (["champion"], ["challenger"])


def test_the_versions_that_are_served_are_told(loaded_models: dict[str, LoadedModel]) -> None:
    both = (entity("champion", loaded_models["champion"], 90), entity("challenger", loaded_models["challenger"], 10))
    with live(*both) as running:
        assert running.get("/version").json() == {
            "endpoint": "delay",
            "served_entities": [
                {"name": "champion", "model_name": "delay", "version": 3, "percentage": 90},
                {"name": "challenger", "model_name": "delay", "version": 4, "percentage": 10},
            ],
        }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/docs", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "/invocations/", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "/served-models/a/b/invocations", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/invocations", 405, "BAD_REQUEST"),
        ("POST", "/ready", 405, "BAD_REQUEST"),
        ("TRACE", "/invocations", 405, "BAD_REQUEST"),
    ],
)
def test_what_there_is_not_is_refused_in_the_same_form(
    running: Live, method: str, path: str, status: int, code: str
) -> None:
    response = requests.request(method, running.url + path, timeout=PATIENCE_S, allow_redirects=False)
    assert error(response, status, code).endswith(": see /openapi.json for what there is")
    assert ("allow" in response.headers) == (status == 405)


def test_a_version_may_be_asked_by_its_name(loaded_models: dict[str, LoadedModel]) -> None:
    both = (entity("champion", loaded_models["champion"]), entity("challenger", loaded_models["challenger"], 0))
    with live(*both) as running:
        answers = {each.name: running.post(GOOD, f"/served-models/{each.name}/invocations") for each in both}
        for name, response in answers.items():
            assert response.headers["served-model-name"] == name
        assert answers["champion"].json() != answers["challenger"].json()
        message = error(running.post(GOOD, "/served-models/zebra/invocations"), 404, "RESOURCE_DOES_NOT_EXIST")
        assert message == "no version is served under this name; /version lists those that are"


def payload_rows(table: Path) -> pd.DataFrame:
    return DeltaTable(table).to_pandas()


def test_a_challenger_that_fails_is_answered_by_the_champion(
    loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    def fail() -> None:
        raise KeyError("zebra")

    log = PayloadLog(str(tmp_path / "table"), every_s=3600)
    champion = entity("champion", loaded_models["champion"], 0)
    challenger = entity("challenger", meddled(loaded_models["challenger"], fail))
    with live(champion, challenger, payloads=log) as running:
        response = running.post(records(ROW, client_request_id="mine"))
        assert response.headers["served-model-name"] == "champion"
        assert response.json() == running.post(GOOD, "/served-models/champion/invocations").json()
        assert running.metric("model_errors_total", served_entity="challenger", model_version="4") == 1
        assert running.metric("model_errors_total") == 1
        assert running.metric("requests_total", served_entity="champion", model_version="3", status="200") == 2
        assert running.metric("requests_total") == 2
        alone = running.post(GOOD, "/served-models/challenger/invocations")
        assert error(alone, 500, "INTERNAL_ERROR").startswith("the model failed on this request")
        assert log.flush()
    rows = payload_rows(tmp_path / "table").iloc[:2]
    assert rows["served_entity_id"].tolist() == ["challenger-4", "champion-3"]
    assert rows["status_code"].tolist() == [500, 200]
    assert rows["client_request_id"].tolist() == ["mine", "mine"]
    assert rows["databricks_request_id"].nunique() == 2
    assert rows["databricks_request_id"][1] == response.headers["x-request-id"]
    assert json.loads(rows["response"][1]) == response.json()
    assert "zebra" not in rows["response"][0]


@pytest.mark.parametrize("way", ["raises", "answers NaN"])
def test_a_champion_that_fails_says_nothing_of_why(
    loaded_models: dict[str, LoadedModel], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if way == "raises":
            raise RuntimeError("zebra in /a/secret/place")

    loaded = meddled(loaded_models["champion"], fail)
    if way == "answers NaN":
        nothing = {"probability": np.array([np.nan]), "prediction": np.array([0])}
        loaded = replace(
            loaded,
            model=type("Unknowing", (), {"complete_async": loaded.model.complete_async, "score": lambda *_: nothing})(),
        )
    with live(entity("champion", loaded)) as running:
        response = running.post(GOOD)
        message = error(response, 500, "INTERNAL_ERROR")
        told = response.headers["x-request-id"]
        assert message == f"the model failed on this request; its id in the log is {told}"
        assert running.metric("model_errors_total", served_entity="champion") == 1
        assert running.metric("requests_total", served_entity="champion", status="500") == 1
    assert f"champion, version 3, failed on request {told}" in caplog.text


def served_with_store(folder: Path, url: str, failure: str) -> LoadedModel:
    environment = {online_table.ONLINE_STORE: url, online_table.ONLINE_STORE_FAILURE: failure}
    return load_checked(mlflow.pyfunc.load_model(str(folder)), environment)


def test_a_store_that_fails_is_an_error_where_that_was_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    loaded = served_with_store(folders["champion"], f"sqlite:///{tmp_path}/missing", "error")
    with live(entity("champion", loaded)) as running:
        message = error(running.post(records(ROW, ROW)), 503, "TEMPORARILY_UNAVAILABLE")
        assert message.startswith("the online store failed: ")
        assert message.endswith("; try again, or send the looked-up columns yourself")
        assert running.metric("online_store_rows_total", outcome="failed") == 2
        assert running.metric("requests_total", served_entity="champion", status="503") == 1
        full = ROW | dict.fromkeys(USE_CASE.looked_up)
        assert running.post(records(full)).status_code == 200
        assert running.metric("online_store_rows_total") == 2


def test_a_store_that_fails_is_counted_where_defaults_stand_in(
    folders: dict[str, Path], loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    loaded = served_with_store(folders["champion"], f"sqlite:///{tmp_path}/missing", "default")
    with live(entity("champion", loaded)) as running, live(entity("champion", loaded_models["champion"])) as without:
        assert running.post(GOOD).json() == without.post(GOOD).json()
        assert running.metric("online_store_rows_total", outcome="failed") == 1


def test_what_a_request_leaves_out_is_looked_up_and_counted(
    folders: dict[str, Path], loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    bare, low, high = (ROW | {"flight": number} for number in (1, 2, 3))
    del bare["weather_visib"], low["weather_visib"]
    with closing(sqlite3.connect(tmp_path / "store")) as store, store:
        store.execute(f"CREATE TABLE {online_table.ONLINE_TABLE} (entity_id, {', '.join(USE_CASE.looked_up)})")
        known = [f"AA-{number}-EWR-ORD-20130115T1700Z" for number in (2, 3)]
        store.executemany(
            f"INSERT INTO {online_table.ONLINE_TABLE} (entity_id, weather_visib) VALUES (?, 0.5)", zip(known)
        )
    loaded = served_with_store(folders["champion"], f"sqlite:///{tmp_path}/store", "error")
    with live(entity("champion", loaded)) as running, live(entity("champion", loaded_models["champion"])) as without:
        found = running.post(records(bare, low)).json()
        assert (
            found
            == without.post(
                records(*(row | {"weather_visib": value} for row, value in ((bare, None), (low, 0.5))))
            ).json()
        )
        assert running.post(records(high)).json() == without.post(records(high)).json()  # its own value wins
        assert running.metric("online_store_rows_total", outcome="found") == 2
        assert running.metric("online_store_rows_total", outcome="not_found") == 1


@pytest.mark.parametrize("rows", [1, 16, 17, 500])
@pytest.mark.parametrize("way", WAYS)
def test_answers_are_those_of_the_model_to_the_last_bit(
    loaded_models: dict[str, LoadedModel], models: dict[str, PyFuncModel], flights: pd.DataFrame, way: str, rows: int
) -> None:
    asked = flights.sample(rows, random_state=rows).reindex(columns=[*USE_CASE.inputs])
    told = asked.assign(sched_dep_ts=asked["sched_dep_ts"].map(pd.Timestamp.isoformat)).astype(object)
    body = json.dumps(WAYS[way](told.where(told.notna(), None).to_dict("records"))).encode()
    with live(entity("champion", loaded_models["champion"])) as running:
        predictions = running.post(body).json()["predictions"]
    expected = models["champion"].predict(asked)
    assert predictions == expected.to_dict("records")
    assert len(predictions) == rows


def open_request(running: Live, said: bytes = GOOD[:10], *, claimed: int = len(GOOD)) -> socket.socket:
    """A connection whose request is not sent to its end."""
    address = urlsplit(running.url)
    opened = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
    headers = f"Host: {address.netloc}\r\nContent-Type: application/json\r\nContent-Length: {claimed}\r\n"
    opened.sendall(f"POST /invocations HTTP/1.1\r\n{headers}\r\n".encode() + said)
    return opened


def answer(opened: socket.socket) -> str:
    with opened.makefile("rb") as stream:
        head = stream.readline().decode()
        length = 0
        while (line := stream.readline().decode().strip().lower()) != "":
            length = int(line.partition(":")[2]) if line.startswith("content-length:") else length
        return head + stream.read(length).decode()


def test_a_body_must_arrive_in_time(loaded_models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_TIMEOUT_S", 0.2)
    with live(entity("champion", loaded_models["champion"])) as running, open_request(running) as opened:
        told = answer(opened)
        assert told.startswith("HTTP/1.1 408 ")
        assert "the body was not whole within 0.2 seconds" in told
        assert opened.recv(1) == b""  # closed: what comes late would be read as another request


def wait_for(holds: Callable[[], bool]) -> None:
    """Where there is no event to wait for: another process, or what a server has done."""
    until = monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < until
        sleep(0.02)


def test_a_client_that_goes_away_is_no_error(
    loaded_models: dict[str, LoadedModel], caplog: pytest.LogCaptureFixture
) -> None:
    with live(entity("champion", loaded_models["champion"])) as running:
        logging.getLogger("uvicorn").addHandler(caplog.handler)
        try:
            with open_request(running):
                wait_for(lambda: running.metric("requests_in_flight") == 1)
            wait_for(lambda: running.metric("requests_in_flight") == 0)
            assert running.metric("requests_total", status="400") == 1
            assert running.post(GOOD).status_code == 200
        finally:
            logging.getLogger("uvicorn").removeHandler(caplog.handler)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_when_told_to_end_it_finishes_what_it_has_begun(folders: dict[str, Path], tmp_path: Path) -> None:
    port, table = free_port(), tmp_path / "table"
    environment = {
        settings.SERVED: f"champion={folders['champion']}",
        settings.HOST: "127.0.0.1",
        settings.PORT: str(port),
        settings.AUTH: "off",
        settings.PAYLOAD_TABLE: str(table),
    }
    running = Live(url=f"http://127.0.0.1:{port}", service=None)  # type: ignore[arg-type]  # it is elsewhere
    with started(environment, tmp_path) as process:
        try:
            wait_for(lambda: not refuses(port) or process.poll() is not None)
            wait_for(lambda: running.get("/ready").status_code == 200)
            assert running.post(GOOD).status_code == 200
            with open_request(running) as opened:
                wait_for(lambda: running.metric("requests_in_flight") == 1)
                process.send_signal(signal.SIGTERM)
                wait_for(lambda: refuses(port))
                opened.sendall(GOOD[10:])
                assert answer(opened).startswith("HTTP/1.1 200 ")
            process.wait(PATIENCE_S)
            told = process.stderr.read() if process.stderr else ""
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM
    assert "ERROR" not in told
    assert "Traceback" not in told
    rows = payload_rows(table)
    assert rows["status_code"].tolist() == [200, 200]
    assert set(rows["request"]) == {GOOD.decode()}


def refuses(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) != 0
