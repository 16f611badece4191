"""Code of a task, called in this process: how it is called, and what counts as a failure."""

import json
import os
import sys
from pathlib import Path

import pytest

from bundle_laptop.calls import TaskError, call_entry_point, call_file, find_entry_point

USER_ERRORS = ["toys_module.Unfit"]
NO_EXIT = "code has to return, a workspace takes any exit for a failure"


def failure_of(*arguments: str) -> tuple[str, bool]:
    with pytest.raises(TaskError) as failed:
        call_entry_point("toys", "toy", arguments, USER_ERRORS)
    return str(failed.value), failed.value.by_user


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("LAPTOP_FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "failure", "with_traceback"),
    [
        (["unfit"], ("no rows in May; run load first", True), False),
        (["bug"], ("KeyError: 'a lost key'", False), True),
        (["exit", "0"], (f"exited with 0: {NO_EXIT}", False), False),
        (["exit", "3"], (f"exited with 3: {NO_EXIT}", False), False),
    ],
)
def test_a_failure_is_told_in_one_line_and_only_a_bug_prints_its_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str], failure: tuple[str, bool], with_traceback: bool
) -> None:
    before = list(sys.argv)
    assert failure_of(*arguments) == failure
    assert ("Traceback" in capsys.readouterr().err) is with_traceback
    assert sys.argv == before


def test_an_entry_point_is_found_by_package_and_name_in_any_group() -> None:
    assert find_entry_point("toys", "toy")
    for package, name in (("toys", "car"), ("cars", "toy")):
        with pytest.raises(TaskError, match=rf"^{package} {name}: no such entry point is installed$"):
            call_entry_point(package, name, [], [])


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
    call_file(file, [str(tmp_path / "seen"), "--day=1"], [])
    seen = {"name": "__main__", "file": str(file), "argv": [str(file), str(tmp_path / "seen"), "--day=1"], "beside": 7}
    expected = seen | {"cwd": str(folder), "dbutils": "_DbUtils", "spark": "_Spark"}
    assert json.loads((tmp_path / "seen").read_text()) == expected
    assert before == (list(sys.argv), list(sys.path), Path.cwd(), dict(os.environ))


def test_modules_beside_a_file_are_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "beside.py").write_text(f"VALUE = {name!r}")
        (tmp_path / name / "task.py").write_text(CODE)
        call_file(tmp_path / name / "task.py", [str(tmp_path / "seen")], [])
        assert f'"beside": "{name}"' in (tmp_path / "seen").read_text()


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("raise ValueError('one\\ntwo')")
    before = (list(sys.argv), list(sys.path), Path.cwd())
    with pytest.raises(TaskError, match=r"^ValueError: one$"):
        call_file(tmp_path / "task.py", [], [])
    assert before == (list(sys.argv), list(sys.path), Path.cwd())
