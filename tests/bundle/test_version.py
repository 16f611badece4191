"""One commit gives one wheel name: a second deploy plans no change, and changed sources always reach the workspace."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest


def _git(folder: Path, *args: str) -> None:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True)


def _version_in(folder: Path, function: str = "version") -> str:
    spec = importlib.util.spec_from_file_location("version_of_a_clone", folder / "version.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(getattr(module, function)())


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    shutil.copy(root / "version.py", folder)
    (folder / "src" / "code.py").write_text("a = 1\n")
    (folder / "src" / "table.sql").write_text("select 1\n")
    (folder / ".gitignore").write_text("__pycache__/\n")
    _git(folder, "init")
    _git(folder, "add", ".")
    _git(folder, "commit", "-m", "first")
    return folder


def test_two_clones_of_a_commit_have_the_same_version(project: Path, tmp_path: Path) -> None:
    _git(tmp_path, "clone", str(project), "clone")
    assert _version_in(project) == _version_in(tmp_path / "clone")


def test_a_later_commit_has_a_version_of_its_own(project: Path) -> None:
    before = _version_in(project)
    _git(project, "commit", "--allow-empty", "-m", "second")
    assert _version_in(project) != before


@pytest.mark.parametrize("file", ["src/code.py", "src/table.sql", "src/new.json"])
def test_each_uncommitted_change_of_the_sources_has_a_version_of_its_own(project: Path, file: str) -> None:
    seen = [_version_in(project)]
    for text in ("b = 2\n", "b = 3\n"):
        (project / file).write_text(text)
        seen.append(_version_in(project))
    assert len(set(seen)) == 3
    assert _version_in(project) == seen[-1]


def test_a_deleted_or_renamed_source_changes_the_version(project: Path) -> None:
    seen = [_version_in(project)]
    (project / "src" / "code.py").rename(project / "src" / "renamed.py")
    seen.append(_version_in(project))
    (project / "src" / "renamed.py").unlink()
    seen.append(_version_in(project))
    assert len(set(seen)) == 3


def test_what_is_not_in_the_wheel_does_not_change_the_version(project: Path) -> None:
    before = _version_in(project)
    (project / "notes.md").write_text("not in the wheel\n")
    (project / "src" / "__pycache__").mkdir()
    (project / "src" / "__pycache__" / "code.pyc").write_text("ignored\n")
    assert _version_in(project) == before


def test_code_is_uncommitted_where_its_sources_differ_from_the_commit_or_none_is_known(project: Path) -> None:
    seen = [_version_in(project, "uncommitted")]
    (project / "src" / "code.py").write_text("b = 2\n")
    seen.append(_version_in(project, "uncommitted"))
    shutil.rmtree(project / ".git")
    seen.append(_version_in(project, "uncommitted"))
    assert seen == ["", seen[1], seen[1]]
    assert re.fullmatch(r"\+dirty\.[0-9a-f]{12}", seen[1])


def test_outside_git_changed_sources_have_a_version_of_their_own(project: Path) -> None:
    release, _, _ = _version_in(project).partition("+")
    shutil.rmtree(project / ".git")
    before = _version_in(project)
    assert before.startswith(f"{release}+d")
    assert _version_in(project) == before
    (project / "src" / "code.py").write_text("b = 2\n")
    assert _version_in(project) != before


def test_a_repository_that_git_refuses_to_read_is_as_none(project: Path) -> None:
    (project / ".git" / "config").write_text("broken [")
    broken = _version_in(project)
    shutil.rmtree(project / ".git")
    assert _version_in(project) == broken
