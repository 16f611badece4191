"""Who asks the service for an id gets what was predicted of it beforehand."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from urllib.parse import quote

import pytest
import requests
from tests.serving.live import PATIENCE_S, Live, live
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import Sqlite

from flight_delays.platform.online_table import ONLINE_STORE, ONLINE_STORE_LIMIT_MS, Value
from flight_delays.platform.precomputed import predictions_store

NOT_FOUND = "there is no precomputed prediction of this id; table predictions has those that there are"
NO_TABLE = "nothing is precomputed yet: the online store has no table predictions_online; run the job score_batch"
DOWN = "the online store failed: unable to open database file; try again"


@pytest.fixture
def file(tmp_path: Path) -> Sqlite:
    """A store that holds one prediction."""
    store = Sqlite(tmp_path / "online.db")
    fill(store, FOUND)
    return store


def reading(store: Sqlite, tokens: frozenset[str] | None = None) -> AbstractContextManager[Live]:
    precomputed = predictions_store({ONLINE_STORE: store.url, ONLINE_STORE_LIMIT_MS: "30000"})
    return live(precomputed=precomputed, tokens=tokens)


def refused(response: requests.Response) -> tuple[int, str, str]:
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    return response.status_code, told.pop("error_code"), told.pop("message")


def test_a_prediction_is_answered_as_it_is_described_also_while_no_version_is_served(file: Sqlite) -> None:
    with reading(file) as running:
        response = running.get(f"/predictions/{FLIGHT}")
        described = running.get("/openapi.json").json()["components"]["schemas"]["Prediction"]
        assert running.metric("predictions_looked_up_total", outcome="found") == 1
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == FOUND.as_json()
    assert list(response.json()) == described["required"] == list(described["properties"])


def test_a_forecast_of_a_number_is_answered_without_a_probability_as_is_described(file: Sqlite) -> None:
    fill(file, replace(FOUND, probability=None, prediction=-12.75))
    with reading(file) as running:
        told = running.get(f"/predictions/{FLIGHT}").json()
        described = running.get("/openapi.json").json()["components"]["schemas"]["Prediction"]["properties"]
    assert (told["probability"], told["prediction"]) == (None, -12.75)
    assert "null" in described["probability"]["type"]
    assert described["prediction"]["type"] == "number"


@pytest.mark.parametrize("asked", ["UA", "\0", f"{FLIGHT}\0", "%", "Ü飛🛩", "'; --", "a b", "x" * 10_000])
def test_an_unknown_id_is_not_found_and_not_repeated(file: Sqlite, asked: str) -> None:
    with reading(file) as running:
        response = running.get(f"/predictions/{quote(asked)}")
        assert refused(response) == (404, "RESOURCE_DOES_NOT_EXIST", NOT_FOUND)
        assert running.metric("predictions_looked_up_total", outcome="not_found") == 1


@pytest.mark.parametrize("path", ["/predictions", "/predictions/", "/predictions/a/b", "/predictions/a%2Fb"])
def test_another_path_is_not_found_either(file: Sqlite, path: str) -> None:
    with reading(file) as running:
        assert running.get(path).status_code == 404


def test_where_nothing_was_ever_precomputed_that_is_said(file: Sqlite) -> None:
    file.write("DROP TABLE predictions_online")
    with reading(file) as running:
        assert refused(running.get(f"/predictions/{FLIGHT}")) == (404, "RESOURCE_DOES_NOT_EXIST", NO_TABLE)


def test_a_store_that_is_down_is_to_be_asked_again(file: Sqlite) -> None:
    with reading(file) as running:
        file.stop()
        assert refused(running.get(f"/predictions/{FLIGHT}")) == (503, "TEMPORARILY_UNAVAILABLE", DOWN)
        assert running.metric("predictions_looked_up_total", outcome="failed") == 1
        file.start()
        assert running.get(f"/predictions/{FLIGHT}").status_code == 200


def test_without_a_store_the_variable_that_names_one_is_told() -> None:
    with live() as running:
        status, _, message = refused(running.get(f"/predictions/{FLIGHT}"))
    assert status == 503
    assert message == f"no online store to look predictions up in; set {ONLINE_STORE} to its address"


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic known"}])
def test_a_look_up_needs_a_token_whether_or_not_the_id_is_there(file: Sqlite, sent: dict[str, str]) -> None:
    with reading(file, frozenset({"known"})) as running:
        for asked in (FLIGHT, "unknown"):
            assert running.get(f"/predictions/{asked}", **sent).status_code == 401
        assert running.get(f"/predictions/{FLIGHT}", authorization="Bearer known").status_code == 200


@dataclass(frozen=True)
class Held:
    """A store that answers when it is told to."""

    asked: Event = field(default_factory=Event)
    go: Event = field(default_factory=Event)

    async def find(self, ids: list[str]) -> dict[str, tuple[Value, ...]]:
        assert ids == [FLIGHT]
        self.asked.set()
        assert await asyncio.to_thread(self.go.wait, PATIENCE_S)
        return {}


def test_while_the_store_is_waited_for_others_are_answered_up_to_the_limit() -> None:
    held = Held()
    with live(precomputed=held, max_concurrency=1) as running, ThreadPoolExecutor(1) as caller:  # type: ignore[arg-type]
        waiting = caller.submit(running.get, f"/predictions/{FLIGHT}")
        assert held.asked.wait(PATIENCE_S)
        assert running.get("/ping").status_code == 200
        assert running.metric("requests_in_flight") == 1
        assert running.get(f"/predictions/{FLIGHT}").status_code == 429
        held.go.set()
        assert waiting.result().status_code == 404
        assert running.metric("requests_in_flight") == 0
