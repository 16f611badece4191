"""What was released, served on a laptop by a process of its own."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from tests.worlds import SCHEMA, World, contents, of_the_session

PROGRAM = str(Path(sys.executable).parent / "flight-delays")
PATIENCE_S = 120


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`flight-delays local serve`, and the curl line that it prints, in parts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [PROGRAM, "local", "serve", "--root", str(world.root), "--port", port]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        (curl,) = (line for line in (next(lines) for _ in range(3)) if line.startswith("curl "))
        yield process, shlex.split(curl)
        process.kill()


def test_the_printed_curl_line_gets_the_batchs_probability(
    served: tuple[subprocess.Popen[str], list[str]], spark: SparkSession
) -> None:
    _, curl = served
    ended = subprocess.run([*curl, "--silent"], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    (forecast,) = json.loads(ended.stdout)["predictions"]
    (flight,) = json.loads(curl[-1])["dataframe_records"]
    tables = contents(of_the_session(spark))
    asked = (tables["features"][list(flight)] == pd.Series({**flight, "sched_dep_ts": _time(flight)})).all(axis=1)
    (entity_id,) = tables["features"].loc[asked, "entity_id"]
    batch = tables["predictions"].query("source == 'batch'").set_index("entity_id")
    assert forecast == {
        "probability": batch["probability"][entity_id],
        "prediction": batch["prediction"][entity_id],
    }


def _time(flight: dict[str, object]) -> pd.Timestamp:
    return pd.Timestamp(str(flight["sched_dep_ts"]))


def test_a_query_is_answered_readably_by_what_serves(
    served: tuple[subprocess.Popen[str], list[str]], world: World
) -> None:
    assert served[0].poll() is None
    ended = subprocess.run(
        [PROGRAM, "query", "UA-1545-EWR-IAH-20130101T1015Z"],
        cwd=world.root,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"Will this flight arrive 15 minutes late or more\? │ late with a probability of \d+\.\d%", ended.stdout
    )
    assert re.search(r"so the forecast is +│ (late|on time) ", ended.stdout)
    assert "champion, version 1" in ended.stdout


def test_when_it_ends_what_was_asked_is_written(served: tuple[subprocess.Popen[str], list[str]], world: World) -> None:
    process, curl = served
    table = world.root / ".local/dev/warehouse" / f"{SCHEMA}.db" / "delay_payload"
    before = len(DeltaTable(table).to_pyarrow_table())
    headers = {"Authorization": "Bearer local"}
    answer = requests.post(
        curl[1], json={**json.loads(curl[-1]), "client_request_id": "last"}, headers=headers, timeout=60
    )
    assert answer.status_code == 200
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert process.returncode == 0
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    assert len(rows) > before
    (row,) = [row for row in rows if row["client_request_id"] == "last"]
    assert (row["status_code"], row["databricks_request_id"]) == (200, answer.headers["x-request-id"])
    assert json.loads(row["response"]) == answer.json()
