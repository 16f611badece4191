"""What holds for versions wherever they are loaded: beside each other, by many callers, and without this project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.pyfunc import PyFuncModel
from tests.serving.live import PATIENCE_S, TURNED, entity, live
from tests.unit.test_scoring_request import ROW, records

from flight_delays.platform.registry import read_golden_requests
from flight_delays.serving.service import LoadedModel, load_checked
from flight_delays.use_case import USE_CASE

ROOT = Path(__file__).parents[2]
OTHER_RULES = """
RULES = (("distance is beyond the earth", ("distance",), lambda distance: distance > 20_000),)
"""
WITHOUT_THE_PROJECT = """
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flight_delays":
            raise ImportError(f"{name} is not installed")


assert not [name for name in sys.modules if name.startswith("flight_delays")]
sys.meta_path.insert(0, Refusing())

import mlflow
import pandas as pd

model, rows, answers = sys.argv[1:]
mlflow.pyfunc.load_model(model).predict(pd.read_parquet(rows)).to_parquet(answers)
"""


def ended(command: list[str], folder: Path, **environment: str) -> str:
    """What a process printed that ended well; its settings are `environment`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLIGHT_DELAYS_") and name != "OMP_NUM_THREADS"
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def test_requests_of_any_size_may_be_answered_at_the_same_time(folders: dict[str, Path]) -> None:
    """In a process of its own: a learner that names its number of threads call by call crashes it."""
    command = ["-m", "tests.serving.crowd", "6", *map(str, folders.values())]
    assert int(ended(command, ROOT, OMP_NUM_THREADS="4")) > 1_000


def test_a_version_answers_where_the_project_is_not_installed(
    folders: dict[str, Path], models: dict[str, PyFuncModel], flights: pd.DataFrame, tmp_path: Path
) -> None:
    rows, answers = tmp_path / "rows.parquet", tmp_path / "answers.parquet"
    asked = flights.sample(17, random_state=1)[[*USE_CASE.inputs]].reset_index(drop=True)
    asked.to_parquet(rows)
    ended(["-c", WITHOUT_THE_PROJECT, str(folders["champion"]), str(rows), str(answers)], tmp_path)
    found = pd.read_parquet(answers)
    assert found["probability"].nunique() > 1
    pd.testing.assert_frame_equal(found, models["champion"].predict(asked), check_exact=True)


def otherwise_prepared(folder: Path, copy: Path) -> Path:
    """A version that differs from the one in `folder` by its preparation and rules alone, and so by its answers."""
    shutil.copytree(folder, copy)
    with (copy / "artifacts" / "prepare.py").open("a") as code:
        code.write(TURNED + OTHER_RULES)
    made = mlflow.pyfunc.load_model(str(copy))
    golden = made.unwrap_python_model().golden
    told = golden | {"probability": made.predict(read_golden_requests(made))["probability"].tolist()}
    (copy / "artifacts" / "golden.json").write_text(json.dumps(told))
    return copy


def test_each_version_prepares_and_refuses_as_the_code_says_that_it_was_made_with(
    folders: dict[str, Path], loaded_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    copy = otherwise_prepared(folders["champion"], tmp_path / "copy")
    other = load_checked(mlflow.pyfunc.load_model(str(copy)), {})
    with live(entity("champion", loaded_models["champion"]), entity("challenger", other, 0)) as running:

        def ask(name: str, **changes: float) -> tuple[int, object]:
            response = running.post(records(ROW | changes), f"/served-models/{name}/invocations")
            told = response.json()
            return response.status_code, told.get("message") or told["predictions"]

        for visibility in (0.5, 2.5, 9.5):
            assert ask("champion", weather_visib=visibility) == ask("challenger", weather_visib=10 - visibility)
        assert ask("champion", weather_visib=0.5) != ask("champion", weather_visib=9.5)
        assert ask("champion", distance=-5) == (400, "row 1: distance is not positive")
        assert ask("champion", distance=20_001)[0] == ask("challenger", distance=-5)[0] == 200
        assert ask("challenger", distance=20_001) == (400, "row 1: distance is beyond the earth")
