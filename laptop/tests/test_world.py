"""Where a target's tables, models and runs are, and what leads the code of a task there."""

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import mlflow
import pytest

from bundle_laptop.errors import LaptopError
from bundle_laptop.world import entered, find_root, locked, made, reset, targets, world_of

VARIABLES = {"LAPTOP_FOLDER", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYSPARK_PYTHON", "PYTHONPATH"}


def test_a_bundle_is_found_from_a_folder_within_it(tmp_path: Path) -> None:
    (tmp_path / "bundle/resources/more").mkdir(parents=True)
    (tmp_path / "bundle/databricks.yml").touch()
    for start in ("bundle", "bundle/resources", "bundle/resources/more"):
        assert find_root(tmp_path / start) == tmp_path / "bundle"
    with pytest.raises(LaptopError, match=r"^databricks\.yml: not found in .* or above; run this in the bundle's fold"):
        find_root(tmp_path)


@pytest.mark.parametrize("name", ["plain", "c d", "é", "日本", "a+b", "a-b_c.d", "(1)", "=~!^@"])
def test_a_world_is_a_folder_of_the_bundle(tmp_path: Path, name: str) -> None:
    assert world_of(tmp_path / name, "dev") == tmp_path / name / ".local/dev"


@pytest.mark.parametrize("character", list("%#'\"&;,?*:<>|[]{}$`\\\n"))
def test_a_path_that_spark_would_take_for_another_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(LaptopError) as refused:
        world_of(tmp_path / f"a{character}b", "dev")
    assert str(refused.value).endswith(f": a path with {character!r} does not work with Spark; move the project")


def test_a_world_that_was_made_elsewhere_says_so_in_one_line(tmp_path: Path) -> None:
    made(world_of(tmp_path / "old", "dev"))
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(LaptopError) as refused:
        world_of(tmp_path / "new", "dev")
    assert str(refused.value) == (
        f".local/dev was made in {tmp_path}/old/.local/dev, and MLflow and Spark look for their files there; "
        "start anew (laptop reset dev)"
    )
    reset(tmp_path / "new", "dev")
    assert made(world_of(tmp_path / "new", "dev")) == made(world_of(tmp_path / "new", "dev"))


def test_within_a_world_tasks_are_led_to_it_and_afterwards_all_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"/one{os.pathsep}/two")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    elsewhere = ("DATABRICKS_RUNTIME_VERSION", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")
    for name in elsewhere:
        monkeypatch.setenv(name, "17")
    before, path, uri = dict(os.environ), list(sys.path), mlflow.get_tracking_uri()
    with pytest.raises(KeyError), entered(tmp_path):
        assert set(os.environ) >= VARIABLES
        assert os.environ["LAPTOP_FOLDER"] == str(tmp_path)
        assert not {*elsewhere} & {*os.environ}
        assert os.environ["PYTHONPATH"].split(os.pathsep)[1:] == ["/one", "/two"]
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == f"sqlite:///{tmp_path}/mlflow.db"
        raise KeyError
    assert (dict(os.environ), sys.path, mlflow.get_tracking_uri()) == (before, path, uri)


def test_what_mlflow_was_told_before_holds_afterwards_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///first.db")
    with entered(tmp_path):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///second.db")
    assert mlflow.get_tracking_uri() == "sqlite:///second.db"
    mlflow.set_tracking_uri("sqlite:///told.db")
    with entered(tmp_path):
        assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert mlflow.get_tracking_uri() == "sqlite:///told.db"
    mlflow.set_tracking_uri(None)


def test_the_runtime_that_databricks_sdk_looks_for_is_there_only_within_a_world(tmp_path: Path) -> None:
    assert find_spec("dbruntime") is None
    with entered(tmp_path):
        assert not importlib.import_module("databricks.sdk.runtime").is_local_implementation
    assert find_spec("dbruntime") is None
    assert "databricks.sdk.runtime" not in sys.modules


def test_one_run_or_reset_of_a_world_at_a_time(tmp_path: Path) -> None:
    dev, prod = (made(world_of(tmp_path, target)) for target in ("dev", "prod"))
    line = r"^\.local/dev: another run or reset of dev is under way; wait for it$"
    with locked(dev), locked(prod):
        with pytest.raises(LaptopError, match=line), locked(dev):
            pass
        with pytest.raises(LaptopError, match=line):
            reset(tmp_path, "dev")
    with locked(dev):
        pass
    assert targets(tmp_path) == ["dev", "prod"]


def test_reset_deletes_one_target(tmp_path: Path) -> None:
    for target in ("dev", "prod"):
        made(world_of(tmp_path, target))
    reset(tmp_path, "dev")
    assert targets(tmp_path) == ["prod"]
    assert targets(tmp_path / "nowhere") == []
