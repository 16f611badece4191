"""What the service does with thousands of requests, good and bad, made up from its own description.

FLIGHT_DELAYS_FUZZ_EXAMPLES makes a longer run: how many of each kind there are for each operation that takes a body.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import PyFuncModel
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.python.asgi import ASGIClient, get_client
from schemathesis.schemas import BaseSchema
from tests.serving.live import entity
from tests.store.precomputed import FLIGHT, FOUND, fill
from tests.store.stores import Sqlite

import flight_delays
from flight_delays.core.scoring_request import FORMS, REQUEST_ID
from flight_delays.platform.online_table import ONLINE_STORE, ONLINE_STORE_LIMIT_MS
from flight_delays.platform.precomputed import predictions_store
from flight_delays.serving.app import create_app
from flight_delays.serving.configuration import Settings
from flight_delays.serving.service import Service, load_checked
from flight_delays.use_case import USE_CASE

EXAMPLES = int(os.environ.get("FLIGHT_DELAYS_FUZZ_EXAMPLES", "300"))
MAX_ROWS = 5
TOKEN = {"Authorization": "Bearer token"}
SCORING = ("POST /invocations", "POST /served-models/{name}/invocations")
PRECOMPUTED = "GET /predictions/{entity_id}"
KINDS = [
    *((label, mode) for label in SCORING for mode in GenerationMode),
    *((f"GET /{name}", GenerationMode.POSITIVE) for name in ("ping", "health", "ready", "version", "metrics")),
    *((f"GET /{name}", GenerationMode.NEGATIVE) for name in ("version", "metrics")),  # by header; probes read none
    *((PRECOMPUTED, mode) for mode in GenerationMode),
]
# What a request must be beyond what JSON Schema can say, which counts 1.0 as an integer.
UNSAID = re.compile(
    r"(column \w+ must be in every row or in none"
    r"|all columns must have the same number of values"
    r"|dataframe_split, columns names a column twice"
    r"|dataframe_split, data, row \d+ must be as long as columns"
    r"|dataframe_split, index must be as long as data"
    r"|must be an integer, not a number"
    r"|must be a time in UTC from 1900 to 2199, like 2013-01-15T17:00:00"  # 30 February
    r"|holds a character that is not allowed in text"
    r"|row \d+: (distance is not positive|sched_arr_time is not a time of day))$"
)
RIGHT = {"distance": 733, "sched_arr_time": 1530}
UNSAID_OF_SPLIT = re.compile(r"column \w+ is missing$|column \w+, row \d+ must be ")


@pytest.fixture(scope="module")
def schema(models: dict[str, PyFuncModel], tmp_path_factory: pytest.TempPathFactory) -> BaseSchema:
    service = Service("delay")
    service.configure([entity("champion", load_checked(models["champion"], {}, max_rows=MAX_ROWS))])
    limits = Settings(tokens=frozenset({"token"}), max_rows=MAX_ROWS, max_body_bytes=100_000)
    config = schemathesis.Config.from_dict({"analysis": {"constants": {"enabled": False}}})
    # Words of the service's own source, such as those of its messages, would look like echoes.
    store = Sqlite(tmp_path_factory.mktemp("store") / "online.db")
    fill(store, FOUND)
    precomputed = predictions_store({ONLINE_STORE: store.url, ONLINE_STORE_LIMIT_MS: "30000"})
    app = create_app(service, limits, None, precomputed=precomputed)
    return schemathesis.openapi.from_asgi("/openapi.json", app, config=config)


@pytest.fixture(scope="module")
def client(schema: BaseSchema) -> Iterator[ASGIClient]:
    with get_client(schema.app) as client:
        yield client


def texts(told: object) -> Iterator[str]:
    """All of what a caller made up that is long enough not to be in an answer by chance."""
    if isinstance(told, str) and len(told) > 12:
        yield told
    elif isinstance(told, dict):
        for key, value in told.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(told, list):
        for value in told:
            yield from texts(value)


def corrected(told: object) -> object:
    """The rows of a body as its caller would correct them: 1.0 as the integer that it is, values that hold to rules."""
    if isinstance(told, dict):
        return {
            key: RIGHT[key] if key in RIGHT and isinstance(value, float | int) else corrected(value)
            for key, value in told.items()
        }
    if isinstance(told, list):
        return [corrected(value) for value in told]
    return int(told) if isinstance(told, float) and told.is_integer() else told


def is_rounded(told: object) -> bool:
    """Whether a double cannot hold one of its integers: one just beyond a column's range is read as one within it."""
    if isinstance(told, dict):
        return any(map(is_rounded, told.values()))
    if isinstance(told, list):
        return any(map(is_rounded, told))
    return isinstance(told, int) and abs(told) <= sys.float_info.max and int(float(told)) != told


def test_every_operation_is_asked(schema: BaseSchema) -> None:
    assert {operation.ok().label for operation in schema.get_all_operations()} == {label for label, _ in KINDS}


@pytest.mark.parametrize(("label", "mode"), KINDS)
def test_made_up_requests_are_answered_as_described(
    schema: BaseSchema,
    client: ASGIClient,
    capsys: pytest.CaptureFixture[str],
    label: str,
    mode: GenerationMode,
) -> None:
    operation = next(found.ok() for found in schema.get_all_operations() if found.ok().label == label)
    # Whether a request that fits the schema may be refused is looked at more closely below.
    (acceptance,) = CHECKS.get_by_names(["positive_data_acceptance"])
    answered: Counter[int] = Counter()
    known = {*FORMS, REQUEST_ID, *USE_CASE.inputs}
    ours = "".join(file.read_text(encoding="utf-8") for file in Path(flight_delays.__path__[0]).rglob("*.py"))

    @settings(
        max_examples=EXAMPLES if label in SCORING else 50,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # to make a failing example smaller would take minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        assume(not is_rounded(case.body))
        response = case.call_and_validate(session=client, headers=TOKEN, excluded_checks=[acceptance])
        if mode is GenerationMode.POSITIVE and response.status_code == 400:
            case.body = corrected(case.body)
            response = case.call_and_validate(session=client, headers=TOKEN, excluded_checks=[acceptance])
        answered[response.status_code] += 1
        assert response.status_code < 500
        if response.status_code < 400:
            return
        message = response.json()["message"]
        if label == PRECOMPUTED:
            assert response.status_code in ((404,) if mode is GenerationMode.POSITIVE else (401, 404, 405))
            assert not [text for text in texts(case.path_parameters) if text in message and text not in ours]
            return
        if mode is GenerationMode.POSITIVE:
            of_split = "dataframe_split" in case.body and UNSAID_OF_SPLIT.search(message)
            assert response.status_code == 400
            assert UNSAID.search(message) or of_split, message
        # Hypothesis makes up texts of those in the code, too: the words of a message are no echo.
        assert not [text for text in texts(case.body) if text in message and text not in known and text not in ours]

    ask()
    with capsys.disabled():
        print(f"\n{label}, {mode.value}: {dict(sorted(answered.items()))}", end="")
    assert sum(answered.values()) >= (EXAMPLES if label in SCORING else 1)
    if label in SCORING:  # many of those that fit the schema break a rule that it cannot say
        assert answered[200 if mode is GenerationMode.POSITIVE else 400] >= EXAMPLES / 100


@settings(max_examples=4 * EXAMPLES, derandomize=True, database=None)
@given(
    st.sampled_from(["/invocations", "/served-models/champion/invocations"]), st.binary() | st.text().map(str.encode)
)
def test_any_bytes_at_all_are_refused(client: ASGIClient, path: str, body: bytes) -> None:
    response = client.post(path, data=body, headers={**TOKEN, "content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"


@settings(max_examples=EXAMPLES, derandomize=True, database=None)
@given(st.text() | st.sampled_from(["x" * 10_000, "\0" * 10_000, f"{FLIGHT}\0", f" {FLIGHT}", FLIGHT.lower()]))
def test_any_id_at_all_is_not_found(client: ASGIClient, made_up: str) -> None:
    response = client.get(f"/predictions/{quote(made_up, errors='surrogatepass')}", headers=TOKEN)
    assert response.status_code == 404
    assert response.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
