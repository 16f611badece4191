"""Code of a task, called in this process: how it is called, and what counts as a failure."""

import json
import os
import sys
from pathlib import Path

import pytest

from bundle_laptop.calls import Failure, call_entry_point, call_file, find_entry_point

USER_ERRORS = ["toys_module.Unfit"]
NO_EXIT = "code has to return, a workspace takes any exit for a failure"


def call(*arguments: str) -> Failure | None:
    entry_point = find_entry_point("toys", "toy")
    assert entry_point is not None
    return call_entry_point(entry_point, arguments, USER_ERRORS)


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("LAPTOP_FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "failure", "with_traceback"),
    [
        (["fine"], None, False),
        (["unfit"], Failure("no rows in May; run load first", by_user=True), False),
        (["bug"], Failure("KeyError: 'a lost key'"), True),
        (["exit", "0"], Failure(f"exited with 0: {NO_EXIT}"), False),
        (["exit", "3"], Failure(f"exited with 3: {NO_EXIT}"), False),
    ],
)
def test_a_failure_is_told_in_one_line_and_only_a_bug_prints_its_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str], failure: Failure | None, with_traceback: bool
) -> None:
    before = list(sys.argv)
    assert call(*arguments) == failure
    assert ("Traceback" in capsys.readouterr().err) is with_traceback
    assert sys.argv == before


def test_an_entry_point_is_found_by_package_and_name_in_any_group() -> None:
    assert find_entry_point("toys", "car") is None
    assert find_entry_point("cars", "toy") is None


CODE = """
import json, os, sys
from beside import VALUE
from pathlib import Path
seen = {"name": __name__, "file": __file__, "argv": sys.argv, "cwd": os.getcwd(), "beside": VALUE}
Path(sys.argv[1]).write_text(json.dumps(seen | {"dbutils": type(dbutils).__name__, "spark": type(spark).__name__}))
"""


def test_a_file_is_a_program_in_its_own_folder_with_a_notebooks_namespace(tmp_path: Path) -> None:
    folder = tmp_path / "c d"
    folder.mkdir()
    (folder / "beside.py").write_text("VALUE = 7")
    (folder / "task.py").write_text(CODE)
    file, before = folder / "task.py", (list(sys.argv), list(sys.path), Path.cwd(), dict(os.environ))
    assert call_file(file, [str(tmp_path / "seen"), "--day=1"], []) is None
    seen = {"name": "__main__", "file": str(file), "argv": [str(file), str(tmp_path / "seen"), "--day=1"], "beside": 7}
    expected = seen | {"cwd": str(folder), "dbutils": "DbUtils", "spark": "_Spark"}
    assert json.loads((tmp_path / "seen").read_text()) == expected
    assert before == (list(sys.argv), list(sys.path), Path.cwd(), dict(os.environ))


def test_modules_beside_a_file_are_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "beside.py").write_text(f"VALUE = {name!r}")
        (tmp_path / name / "task.py").write_text(CODE)
        assert call_file(tmp_path / name / "task.py", [str(tmp_path / "seen")], []) is None
        assert f'"beside": "{name}"' in (tmp_path / "seen").read_text()


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("raise ValueError('one\\ntwo')")
    before = (list(sys.argv), list(sys.path), Path.cwd())
    assert call_file(tmp_path / "task.py", [], []) == Failure("ValueError: one")
    assert before == (list(sys.argv), list(sys.path), Path.cwd())
