"""The registered model: what it runs is what travels with it, whatever else the process holds."""

import ast
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from tests.models import tiny_model

from flight_delays.core.feature_set import ENTITY
from flight_delays.core.metrics import Floats
from flight_delays.core.objective import BinaryClassification, Objective, Regression
from flight_delays.core.training import Fitted, columns_of, prepared
from flight_delays.platform import shell
from flight_delays.platform.shell import Shell, load_code
from flight_delays.tasks.record import artifacts
from flight_delays.use_case import USE_CASE

# What a version's own files add to those of another.
BLIND = """
_prepare = prepare


def prepare(columns, learnt):
    return _prepare({**columns, "weather_visib": columns["weather_visib"] * 0}, learnt)
"""
HALVED = """
@dataclass(frozen=True)
class Halved:
    trees: Trees

    def predict(self, matrix):
        return self.trees.predict(matrix) / 2


_load = load


def load(folder):
    return Halved(_load(folder))
"""
Files = dict[str, Path]


def loaded(files: Files) -> Shell:
    """As MLflow loads a version."""
    found = Shell()
    given = {name: str(file) for name, file in files.items()}
    found.load_context(PythonModelContext(artifacts=given, model_config={}))
    return found


def predicted(version: Shell, rows: pd.DataFrame) -> pd.DataFrame:
    return version.predict(PythonModelContext(artifacts={}, model_config={}), rows)


@pytest.fixture(scope="module")
def fitted(flights: pd.DataFrame) -> Fitted:
    return tiny_model(USE_CASE, flights, flights["label"].to_numpy())


@pytest.fixture
def make(fitted: Fitted, flights: pd.DataFrame, tmp_path: Path) -> Callable[..., Files]:
    """Artifacts of the fitted model, with another objective, correction, or more in its files of code."""

    def made(
        name: str = "one",
        *,
        objective: Objective = USE_CASE.objective,
        slope: float = 1.0,
        intercept: float = 0.0,
        **more: str,
    ) -> Files:
        folder = tmp_path / name
        folder.mkdir()
        correction = {"slope": slope, "intercept": intercept}
        files = artifacts(
            replace(fitted, use_case=replace(USE_CASE, objective=objective), correction=correction), flights, folder
        )
        for artifact, code in more.items():
            files[artifact].write_text(files[artifact].read_text() + code)
        return files

    return made


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    """What a test loads is gone after it."""
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if name.startswith(("prepare_", "learner_")):
            del sys.modules[name]


def test_a_version_answers_as_the_model_did_before_it_was_saved(
    make: Callable[..., Files], fitted: Fitted, flights: pd.DataFrame
) -> None:
    found = predicted(loaded(make()), flights.set_index(ENTITY))
    assert found.index.tolist() == flights[ENTITY].tolist()
    assert found.columns.tolist() == ["probability", "prediction"]
    assert found["probability"].tolist() == pytest.approx(fitted.forecast(flights), rel=1e-12)
    assert ((found["probability"] >= 0.5) == (found["prediction"] == 1)).all()
    assert found["prediction"].dtype == np.int64
    probability, low = found["probability"].to_numpy(), (flights["weather_visib"] < 3).to_numpy()
    assert probability[low].mean() > probability[~low].mean() + 0.4


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_an_outcome_is_predicted_from_the_threshold_on(
    make: Callable[..., Files], flights: pd.DataFrame, threshold: float
) -> None:
    version = loaded(make(objective=BinaryClassification(positive="late", negative="on time", threshold=threshold)))
    forecasts = np.array([0.0, threshold - 1e-6, threshold + 1e-6, 1.0])
    version.model = SimpleNamespace(predict=lambda _: forecasts)
    found = predicted(version, flights.head(4))
    assert found["probability"].tolist() == pytest.approx(forecasts)
    assert found["prediction"].tolist() == [0, 0, 1, 1]


def test_a_half_is_predicted_at_a_threshold_of_a_half(make: Callable[..., Files], flights: pd.DataFrame) -> None:
    version = loaded(make())
    version.model = SimpleNamespace(predict=lambda _: np.array([0.5]))
    assert predicted(version, flights.head(1)).to_numpy().tolist() == [[0.5, 1.0]]


def test_a_classifications_correction_is_of_the_log_odds(
    make: Callable[..., Files], fitted: Fitted, flights: pd.DataFrame
) -> None:
    found = predicted(loaded(make(slope=0.5, intercept=-1.0)), flights)["probability"]
    corrected = replace(fitted, correction={"slope": 0.5, "intercept": -1.0}).forecast(flights)
    assert found.tolist() == pytest.approx(corrected, rel=1e-12)
    given = fitted.forecast(flights)
    assert found.tolist() == pytest.approx(1 / (1 + np.exp(1 - np.log(given / (1 - given)) / 2)), rel=1e-9)


def test_a_regression_answers_its_corrected_prediction_and_nothing_else(
    make: Callable[..., Files], fitted: Fitted, flights: pd.DataFrame
) -> None:
    objective = Regression(unit="minutes", scale=20.0)
    files = make(objective=objective, slope=30.0, intercept=-4.0)
    found = predicted(loaded(files), flights)
    assert found.columns.tolist() == list(objective.outputs) == ["prediction"]
    raw = fitted.model.predict(prepared(USE_CASE, flights, fitted.learnt).to_numpy())
    assert found["prediction"].tolist() == pytest.approx(30 * raw - 4, rel=1e-12)
    assert found["prediction"].dtype == np.float64
    assert found["prediction"].min() < 0  # no probability
    assert json.loads(files["golden"].read_text()).keys() == {*USE_CASE.inputs, "prediction"}


class Watched:
    """A model that keeps what it is asked."""

    def __init__(self) -> None:
        self.seen: list[pd.DataFrame] = []

    def predict(self, matrix: Floats) -> Floats:
        self.seen.append(pd.DataFrame(matrix))
        return np.full(len(matrix), 0.5)


def test_a_looked_up_column_that_is_missing_is_unknown(make: Callable[..., Files], flights: pd.DataFrame) -> None:
    version = loaded(make())
    version.model = Watched()
    others = [name for name in USE_CASE.looked_up if name != "weather_visib"]
    for rows in (flights, flights.drop(columns=others), flights.drop(columns=[*USE_CASE.looked_up])):
        predicted(version, rows)
    given, some, none = version.model.seen
    pd.testing.assert_frame_equal(some, given)  # nothing but visibility is known of them
    visibility = [name for name in given if not given[name].equals(none[name])]
    assert given[visibility].to_numpy().ravel().tolist() == flights["weather_visib"].tolist()
    assert none[visibility].isna().all(axis=None)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_time_without_a_zone_is_in_utc(make: Callable[..., Files], flights: pd.DataFrame, zone: str) -> None:
    version = loaded(make())
    version.model = Watched()
    zoned = flights["sched_dep_ts"].dt.tz_localize("UTC").dt.tz_convert(zone)
    for times in (flights["sched_dep_ts"], zoned, flights["sched_dep_ts"] + pd.Timedelta(hours=1)):
        predicted(version, flights.assign(sched_dep_ts=times))
    bare, same, later = version.model.seen
    pd.testing.assert_frame_equal(same, bare)
    assert not later.equals(bare)


def test_a_versions_rules_and_ids_are_its_own(make: Callable[..., Files], flights: pd.DataFrame) -> None:
    given = columns_of(USE_CASE, flights.head(2))
    before = loaded(make("before"))
    after = loaded(make("after", prepare="\nRULES = ()\n\n\ndef entity_ids(columns):\n    return ['a', 'b']\n"))
    assert [reason for reason, *_ in before.rules] == [reason for reason, *_ in USE_CASE.prepare.RULES]
    assert before.entity_ids(given) == USE_CASE.prepare.entity_ids(given)
    assert (after.rules, after.entity_ids(given)) == ((), ["a", "b"])


@pytest.fixture
def versions(make: Callable[..., Files], fitted: Fitted, flights: pd.DataFrame) -> dict[str, tuple[Files, list[float]]]:
    """Versions that differ in the code that travels, with the probabilities that each must answer."""
    seen = fitted.forecast(flights)
    blind = fitted.forecast(flights.assign(weather_visib=0.0))
    return {
        "as it is": (make("as it is"), seen.tolist()),
        "another preparation": (make("prepare", prepare=BLIND), blind.tolist()),
        "another learner": (make("learner", learner=HALVED), (seen / 2).tolist()),
        "another of both": (make("both", prepare=BLIND, learner=HALVED), (blind / 2).tolist()),
    }


def test_versions_of_one_process_answer_as_their_own_files_say_whoever_asks_meanwhile(
    versions: dict[str, tuple[Files, list[float]]], flights: pd.DataFrame
) -> None:
    names, threads = list(versions), 4
    together = Barrier(threads)

    def ask(start: int) -> list[tuple[str, list[float]]]:
        """Loads versions while others do, and asks them in turn."""
        together.wait()
        shells = {name: loaded(versions[name][0]) for name in names[start:] + names[:start]}
        return [
            (name, predicted(version, flights)["probability"].tolist())
            for _ in range(2)
            for name, version in shells.items()
        ]

    with ThreadPoolExecutor(threads) as pool:
        answers = [answer for of_thread in pool.map(ask, range(threads)) for answer in of_thread]
    assert len(answers) == threads * 2 * len(names)
    assert len({tuple(found) for _, found in answers}) == len(names)
    for name, found in answers:
        assert found == pytest.approx(versions[name][1], rel=1e-9), name


def answers_elsewhere(all_files: list[Files], rows: pd.DataFrame) -> list[list[float]]:
    """What versions answer that are loaded in one process, asked in turn and back."""
    shells = [loaded(files) for files in all_files]
    there = [predicted(version, rows)["probability"].tolist() for version in shells]
    back = [predicted(version, rows)["probability"].tolist() for version in reversed(shells)]
    assert there == back[::-1]
    return there


def test_a_process_of_its_own_gets_the_same_answers(
    versions: dict[str, tuple[Files, list[float]]], flights: pd.DataFrame
) -> None:
    """One that shares nothing with this: what it loads comes from the files alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(answers_elsewhere, [files for files, _ in versions.values()], flights).result(120)
    for answers, (_, expected) in zip(found, versions.values(), strict=True):
        assert answers == pytest.approx(expected, rel=1e-9)


def test_code_is_one_module_for_the_same_contents_and_another_for_others(tmp_path: Path) -> None:
    for folder, code in {"a": "x = object()\n", "b": "x = object()\n", "c": "x = object()  # other\n"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prepare.py").write_text(code)
    one, same, other = (load_code(tmp_path / folder / "prepare.py") for folder in "abc")
    assert one is same is load_code(tmp_path / "a/prepare.py")
    assert one is not other
    assert one.x is not other.x
    assert {sys.modules[module.__name__] for module in (one, other)} == {one, other}
    # By contents, not by name: a file that is written anew is another.
    (tmp_path / "a/prepare.py").write_text("x = 2\n")
    assert load_code(tmp_path / "a/prepare.py").x == 2
    assert load_code(tmp_path / "b/prepare.py") is one


def test_code_is_run_once_whoever_loads_it_meanwhile(tmp_path: Path) -> None:
    file, threads = tmp_path / "prepare.py", 8
    file.write_text("import time\n\ntime.sleep(0.1)\nready = True\n")
    together = Barrier(threads)

    def load(_: int) -> tuple[int, bool]:
        together.wait()
        module = load_code(file)
        return id(module), module.ready

    with ThreadPoolExecutor(threads) as pool:
        found = {*pool.map(load, range(threads))}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1\nraise KeyError('x')\n", KeyError),
        ("import no_such_module_at_all\n", ModuleNotFoundError),
        ("def prepare(:\n", SyntaxError),
        ("raise SystemExit\n", SystemExit),
    ],
)
def test_a_broken_file_leaves_nothing_behind(tmp_path: Path, code: str, error: type[BaseException]) -> None:
    file = tmp_path / "prepare.py"
    file.write_text(code)
    before = {*sys.modules}
    for _ in range(2):  # it is not half there afterwards either
        with pytest.raises(error):
            load_code(file)
        assert {name for name in {*sys.modules} - before if name.startswith("prepare")} == set()
    file.write_text("x = 1\n")
    assert load_code(file).x == 1


def test_the_signature_asks_for_the_request_and_takes_what_is_looked_up() -> None:
    required = [column.name for column in USE_CASE.signature.inputs if column.required]
    optional = [column.name for column in USE_CASE.signature.inputs if not column.required]
    assert required == ["carrier", "flight", "origin", "dest", "distance", "sched_dep_ts", "sched_arr_time"]
    assert optional == list(USE_CASE.looked_up)
    assert [*required, *optional] == list(USE_CASE.inputs)
    assert [column.name for column in USE_CASE.signature.outputs] == ["probability", "prediction"]


def test_the_shell_imports_nothing_of_this_project() -> None:
    """Else a version would change what it does with the installed package. What else travels: check_use_case."""
    tree = ast.parse(Path(shell.__file__).read_text())
    imported = [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert "mlflow" in imported
    assert [name for name in imported if name.startswith((".", "flight_delays"))] == []
