"""A whole bundle, run: words are counted, looked at in notebooks, and a model of their lengths is served.

Its files are in the folder `tiny`. Every feature of the tool that takes Spark, MLflow or an endpoint is in it once.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import requests
from databricks.sdk import WorkspaceClient
from mlflow import MlflowClient
from pyspark.sql import SparkSession
from rich.console import Console

from bundle_laptop.graph import State
from bundle_laptop.results import Result
from bundle_laptop.session import Session, opened

TINY = Path(__file__).with_name("tiny")
SCHEMA = "spark_catalog.dev_local_words"
MODEL = f"{SCHEMA}.dev_local_lengths"
S, X = State.SUCCESS, State.EXCLUDED
PATIENCE_S = 120


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The bundle whose job `count` has run, its session, and the results of the job's tasks by name."""

    root: Path
    site: Path
    session: Session
    tasks: Mapping[str, Result]

    @property
    def world(self) -> Path:
        return self.session.folder


@pytest.fixture(scope="module")
def ran(spark: SparkSession, install: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    if not type(spark).__module__.startswith("pyspark.sql.connect."):
        pytest.skip("a notebook has classic Spark of its own, which finds only what is in its world's folder")
    root = tmp_path_factory.mktemp("tiny") / "tiny é+ b"
    shutil.copytree(TINY, root, ignore=shutil.ignore_patterns("__pycache__"))
    code = (root / "src/tiny_words.py").read_text()
    (root / "src/tiny_words.py").unlink()  # it is installed
    scripts = "\n".join(f"{name} = tiny_words:{name}" for name in ("complain", "deploy", "shout", "train"))
    site = install("tiny_words", {"tiny_words": code}, {"tiny": scripts})
    with pytest.MonkeyPatch.context() as environment:
        environment.syspath_prepend(str(site))
        with opened(root, None, {}, Console(stderr=True, width=160)) as session:
            _link_tables(spark, session.folder)
            (job,) = session.run(["count"], {})
            assert job.state is S, job
            yield Ran(root=root, site=site, session=session, tasks={task.name: task for task in job.inner})


def _link_tables(spark: SparkSession, world: Path) -> None:
    """If another test has started Spark, the tables are in a folder of its own: other processes find them here, too."""
    warehouse = re.sub("^file:/*", "/", str(spark.conf.get("spark.sql.warehouse.dir")))
    schema = Path(unquote(warehouse)) / f"{SCHEMA.rpartition('.')[-1]}.db"
    (world / "warehouse").mkdir(exist_ok=True)
    schema.mkdir(parents=True, exist_ok=True)
    if not (world / "warehouse" / schema.name).exists():
        (world / "warehouse" / schema.name).symlink_to(schema)


def test_every_task_ends_as_it_should(ran: Ran) -> None:
    expected = dict.fromkeys(("count", "enough", "look", "look_again", "train", "deploy", "each"), S)
    assert {name: task.state for name, task in ran.tasks.items()} == {**expected, "too_few": X}
    assert {task.attempts for task in ran.tasks.values()} == {0, 1}


def test_a_file_of_the_bundle_makes_a_delta_table_and_a_view(ran: Ran, spark: SparkSession) -> None:
    counts = {row.word: row.n for row in spark.table(f"{SCHEMA}.counts").collect()}
    assert counts == {"a": 1, "and": 1, "more": 1, "no": 1, "of": 1, "text": 1, "tiny": 2, "words": 2}
    assert spark.sql(f"DESCRIBE DETAIL {SCHEMA}.counts").collect()[0]["format"] == "delta"
    assert dict(ran.tasks["count"].values) == {"words": 8, "longest": ["words", "more"]}
    assert ran.tasks["enough"].note == "8 GREATER_THAN_OR_EQUAL 5: true"


def test_notebooks_of_both_formats_are_run_and_kept_with_what_they_show(ran: Ran) -> None:
    assert ran.tasks["look"].note == "twice tiny, words, tiny in dev"
    page, again = sorted((ran.world / "runs").glob("*/*.html"))
    assert (page.stem, again.stem) == ("count.look", "count.look_again")
    assert all(shown in page.read_text() for shown in ("Words", "<td>tiny</td>", "<td>words</td>", "<th>two</th>"))
    *_, cell = nbformat.read(again.with_suffix(".ipynb"), as_version=4).cells
    assert [output.text for output in cell.outputs] == ["twice: tiny, words\n"]


def test_a_job_in_python_is_run_for_each_word_with_the_parameters_of_its_caller(ran: Ran) -> None:
    first, second = ran.tasks["each"].inner
    said = [job.inner[0].values["said"] for job in (first, second)]
    assert said == [f"WORDS in {SCHEMA}, dev", f"MORE in {SCHEMA}, dev"]


def test_a_mutator_has_changed_every_job(ran: Ran) -> None:
    jobs = ran.session.bundle.map_at(("resources", "jobs"))
    assert set(jobs) == {"again", "count", "shout"}
    tries = {task["max_retries"] for job in jobs.values() for task in job["tasks"].values()}
    assert tries == {1}


def test_a_model_is_logged_and_registered_and_no_run_is_left_open(ran: Ran) -> None:
    client = MlflowClient()
    assert ran.tasks["train"].values["version"] == 1
    assert client.get_run(client.get_model_version(MODEL, "1").run_id).info.run_name == "train"
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    assert set(experiments) == {"Default", "/Shared/[dev local] lengths"}
    runs = [run for name in experiments.values() for run in client.search_runs([name])]
    assert {run.info.run_name: run.info.status for run in runs} == {"count": "FINISHED", "train": "FINISHED"}


def test_all_that_is_made_is_in_the_world(ran: Ran) -> None:
    (text,) = (path for path in ran.root.rglob("text.txt") if "mlartifacts" in path.parts)
    assert text.is_relative_to(ran.world)
    assert (ran.world / "volumes/spark_catalog/dev_local_words/texts/text.txt").exists()
    tracked = {path.relative_to(TINY) for path in TINY.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    there = {path.relative_to(ran.root) for path in ran.root.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path for path in there - tracked if path.parts[0] != ".local"} == set()
    assert {path.name for path in ran.root.parent.iterdir()} == {ran.root.name}


def asked(curl: str) -> object:
    """The answer to a line of curl, whose body is the example that came with the version."""
    _, address, *headers, body = (word for word in shlex.split(curl) if word not in ("-H", "-d"))
    assert json.loads(body) == {"dataframe_split": {"columns": ["word"], "data": [["tiny"]]}}
    pairs = dict(header.split(": ") for header in headers)
    return requests.post(address, data=body, headers=pairs, timeout=PATIENCE_S).json()


def test_what_a_task_has_deployed_answers_as_model_serving_does(ran: Ran) -> None:
    assert ran.tasks["deploy"].values["length"] == 4
    (endpoint,) = WorkspaceClient().serving_endpoints.list()
    assert endpoint.name == "dev_local_lengths"
    said, curl = ran.session.served()
    assert said.startswith(f"dev_local_lengths serves dev_local_lengths-1 100 % at {ran.session.address}.")
    assert asked(curl) == {"predictions": [4]}


def test_runs_are_in_the_api_with_their_tasks(ran: Ran) -> None:  # noqa: ARG001
    client = WorkspaceClient()
    names = {int(job.job_id): job.settings.name for job in client.jobs.list()}
    assert set(names.values()) == {"[dev local] again", "[dev local] count", "[dev local] shout"}
    runs = list(client.jobs.list_runs(expand_tasks=True))
    assert sorted(names[run.job_id] for run in runs) == ["[dev local] count", *2 * ["[dev local] shout"]]
    states = {task.task_key: task.state.result_state.value for run in runs for task in run.tasks}
    assert (states["count"], states["too_few"], states["shout"]) == ("SUCCESS", "EXCLUDED", "SUCCESS")


def test_another_target_has_names_of_its_own_and_may_end_otherwise(ran: Ran, spark: SparkSession) -> None:
    with (
        pytest.MonkeyPatch.context() as environment,
        opened(ran.root, "prod", {}, Console(stderr=True, width=160)) as session,
    ):
        environment.syspath_prepend(str(ran.site))
        (job,) = session.run(["count"], {}, only=["count", "enough", "too_few"])
        assert job.state is State.FAILED
        notes = {task.name: task.note for task in job.inner}
        assert notes["enough"] == "8 GREATER_THAN_OR_EQUAL 1000: false"
        assert notes["too_few"] == "too few words; write more"
        assert spark.table("spark_catalog.words.counts").count() == 8
        (endpoint,) = WorkspaceClient().serving_endpoints.list()
        assert (endpoint.name, endpoint.config) == ("lengths", None)


def started(ran: Ran, *arguments: str) -> subprocess.Popen[str]:
    """`laptop` in a process of its own, which has no session yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    paths = os.pathsep.join([str(ran.site), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", "from bundle_laptop.cli import main; main()", *arguments],
        cwd=ran.root,
        env=environment | {"PYTHONPATH": paths, "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_new_process_finds_tables_views_endpoint_and_runs_again(ran: Ran) -> None:
    with started(ran, "run", "again") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    (found,) = re.findall("^found (.*)$", out, re.MULTILINE)
    assert json.loads(found) == {
        "counts": 8,
        "twice": ["tiny", "words"],
        "answer": [5],
        "runs": ["shout", "shout", "count"],
    }


def test_endpoints_are_served_by_a_process_of_their_own_until_it_is_ended(ran: Ran) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with started(ran, "serve", "--port", port, "--load-seconds", "0.5") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        said = [line for line in takewhile(lambda line: line != "Ctrl-C ends it.\n", lines) if line.strip()]
        assert said[0].startswith(f"dev_local_lengths serves dev_local_lengths-1 100 % at http://127.0.0.1:{port}.")
        begun = time.monotonic()
        assert asked(said[1]) == {"predictions": [4]}
        assert time.monotonic() - begun > 0.5  # to load it, which the first request waits for
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
