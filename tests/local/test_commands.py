"""The commands of this project on what the jobs have left, as `laptop <command>` runs them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession
from rich.console import Console
from tests.worlds import MODEL, ROOT, SCHEMA, TWO_MONTHS, World

from bundle_laptop.session import Session, opened
from flight_delays.tasks.try_out import HISTORY

FLIGHT = "UA-1545-EWR-IAH-20130101T1015Z"
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def session(world: World) -> Iterator[Session]:
    with opened(world.root, "dev", TWO_MONTHS, Console()) as session:
        yield session


@pytest.fixture
def command(session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one of pyproject's commands: its exit code and all that it said."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: str) -> tuple[int, str]:
        code = session.execute(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_a_prediction_is_explained_and_comes_out_again(command: Command, spark: SparkSession) -> None:
    predictions = spark.table(f"spark_catalog.{SCHEMA}.predictions").where("source = 'batch'")
    code, said = command("explain", predictions.where(f"entity_id = '{FLIGHT}'").head()["prediction_id"])
    assert code == 0, said
    assert said.count(": the same, bit for bit") == 4  # the version's files, features, and the forecast from both


@pytest.fixture
def batch(spark: SparkSession) -> pd.DataFrame:
    """What the batch predicted, by flight."""
    predictions = spark.table(f"spark_catalog.{SCHEMA}.predictions").where("source = 'batch'")
    return predictions.select("entity_id", "prediction_ts", "probability").toPandas().set_index("entity_id")


def test_a_prediction_that_was_made_beforehand_is_looked_up(command: Command, batch: pd.DataFrame) -> None:
    code, said = command("lookup", FLIGHT)
    assert code == 0, said
    assert f"late with a probability of {batch['probability'][FLIGHT]:.1%}" in said
    assert f"predicted by │ {MODEL}, version 1 (batch)" in re.sub(" +", " ", said)


@pytest.mark.parametrize("given", [(FLIGHT,), ()], ids=["by its id", "the newest"])
def test_the_endpoint_is_asked_for_a_flight_and_answers_as_the_batch_did(
    command: Command, batch: pd.DataFrame, given: tuple[str, ...]
) -> None:
    code, said = command("query", *given)
    assert code == 0, said
    assert "champion, version 1" in said
    newest = batch[batch["prediction_ts"] == batch["prediction_ts"].max()].index
    assert [
        flight for flight in given or newest if f"late with a probability of {batch['probability'][flight]:.1%}" in said
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("query", "nosuch"), "there is no flight nosuch in the online store; see the table features"),
        (("lookup", "nosuch"), "there is no precomputed prediction of this id"),
        (("query", "{}"), "endpoint dev_local_delay_dev gave no prediction: Failed to "),
        (("try", f"--model-name={MODEL}_of_nobody"), f"registered model {MODEL}_of_nobody does not exist; deploy"),
        (("try", "--raw-tables=/nowhere"), "/nowhere has no table raw_"),
        (("explain", "nosuch"), "there is no prediction nosuch; "),
        (("stream-status",), "score_stream does not exist: the stream was never started"),
        (("stream-stop",), "score_stream does not exist: no stream was started there"),
        (("stream-reset",), "score_stream does not exist: there is nothing to forget"),
    ],
)
def test_what_is_not_there_is_one_line(command: Command, words: tuple[str, ...], says: str) -> None:
    code, said = command(*words)
    lines = [line for line in said.splitlines() if line.startswith("flight-delays: ")]
    assert (code, len(lines)) == (2, 1), said
    assert says in lines[0]


def test_the_code_as_it_was_trained_is_the_champions_equal(command: Command, world: World) -> None:
    code, said = command("try")
    assert code == 0, said
    (entry,) = (json.loads(line) for line in (world.folder / "try" / HISTORY).read_text().splitlines())
    # Made from the raw tables, in memory, they are the rows that were trained on, in the same order: the same models.
    assert entry["difference"].startswith("0.0000 [")
    assert f"Against {MODEL} version 1: no difference shown" in said


def test_the_report_says_what_ran_which_version_serves_and_why(command: Command, world: World) -> None:
    code, said = command("report")
    file = world.folder / "report.html"
    assert (code, said) == (0, f"Report: {file.as_uri()}\n")
    page = file.read_text()
    for told in ("version 1", "better_than_baseline", "52,195", "score_batch", "SUCCESS"):
        assert told in page
    assert page.count("<img") == 3 + 2 + 2 + 1
    assert sys.executable not in page


def test_events_are_sent_by_a_program_of_the_checkout() -> None:
    laptop = Path(sys.executable).with_name("laptop")
    options = ["--from=2013-07-01", "--to=2013-07-01"]
    ended = subprocess.run([laptop, "send-events", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("send_events: --to 2013-07-01T00:00 is not after --from")
