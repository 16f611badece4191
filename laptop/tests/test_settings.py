"""The section [tool.bundle-laptop] of pyproject.toml."""

from pathlib import Path

import pytest

from bundle_laptop.errors import LaptopError
from bundle_laptop.settings import Settings, read_settings

SECTION = "[tool.bundle-laptop]\n"


def test_all_of_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.bundle-laptop]
        user_errors = ["words.Unfit"]
        check = "words.cli:check"
        after_run = ["report"]
        [tool.bundle-laptop.variables]
        catalog = "spark_catalog"
        [tool.bundle-laptop.secrets]
        "scope/key" = "sqlite:///${laptop.folder}/online.db"
        [tool.bundle-laptop.commands]
        report = "words report"
        """
    )
    assert read_settings(tmp_path) == Settings(
        user_errors=("words.Unfit",),
        check="words.cli:check",
        after_run=("report",),
        variables={"catalog": "spark_catalog"},
        secrets={"scope/key": "sqlite:///${laptop.folder}/online.db"},
        commands={"report": "words report"},
    )


@pytest.mark.parametrize("text", [None, "", '[project]\nname = "words"\n', SECTION])
def test_all_of_it_may_be_left_out(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    assert read_settings(tmp_path) == Settings()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tool", "pyproject.toml: invalid TOML: "),
        (SECTION + "after = []", "pyproject.toml: tool.bundle-laptop.after: unknown key; known keys are user_errors, "),
        (SECTION + "after_run = 'report'", "pyproject.toml: tool.bundle-laptop.after_run: Input should be a valid tup"),
        (SECTION + "variables = {a = 1}", "pyproject.toml: tool.bundle-laptop.variables.a: Input should be a valid st"),
        ("[tool]\nbundle-laptop = 1", "pyproject.toml: tool.bundle-laptop: Input should be a valid dict"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(LaptopError) as refused:
        read_settings(tmp_path)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
