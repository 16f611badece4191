"""The repository as a whole: who imports whom, what no file may hold, and docs that point at what exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = subprocess.run(
    ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
).stdout.split("\0")[:-1]
DOCS = [file for file in FILES if file.endswith(".md")]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def test_each_layer_imports_only_those_below_it() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a package index", r"--(?:extra-)?index-url|--find-links|registry\.npmjs|pypi\.org/simple"),
        ("a home folder", r"/home/[a-z]\w+/|/root/"),
        ("a token", r"\bdapi[0-9a-f]{32}\b|-----BEGIN [A-Z ]*PRIVATE KEY"),
        ("an address outside example.com", r"[\w.+-]+@(?!example\.com)[\w-]+\.(?:com|org|net|io)\b"),
    ],
)
def test_no_file_names(what: str, pattern: str) -> None:
    found = [
        f"{file}: {match[0]}"
        for file in FILES
        if file not in {"LICENSE", "tests/unit/test_house.py"} and not file.endswith((".png", ".npz"))
        for match in re.finditer(pattern, (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert len(FILES) > 50
    assert not found, f"{what}: {found}"


NOT_IN_SPARK_CONNECT = {"rdd", "sparkContext", "SparkContext", "_jvm", "_jdf", "_jsc", "_sc", "_jsparkSession"}


def names_outside_of_spark_connect(code: str) -> list[str]:
    """What serverless compute and Databricks Connect lack: RDDs, the context, the JVM."""
    used = []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                used += [part for part in name.split(".") if part in NOT_IN_SPARK_CONNECT]
    return used


@pytest.mark.parametrize(
    "code",
    ["df.rdd.map(len)", "spark.sparkContext.broadcast(1)", "spark._jvm.java", "from pyspark import SparkContext"],
)
def test_a_use_of_what_spark_connect_lacks_is_noticed(code: str) -> None:
    assert names_outside_of_spark_connect(code)


# This file names them, and that one shows that the session refuses them.
NAME_THEM = {"tests/unit/test_house.py", "tests/spark/test_session.py"}


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith(".py") and file not in NAME_THEM])
def test_code_keeps_to_spark_connect(file: str) -> None:
    assert names_outside_of_spark_connect((ROOT / file).read_text()) == []


@pytest.mark.parametrize("doc", DOCS)
def test_a_document_points_at_what_exists(doc: str) -> None:
    missing = [
        link for link in LINK.findall((ROOT / doc).read_text()) if not (ROOT / doc).parent.joinpath(link).exists()
    ]
    assert not missing


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").iterdir()), ids=lambda lock: lock.name)
def test_every_locked_package_has_a_hash(lock: Path) -> None:
    locked = lock.read_text()
    packages = re.findall(r"^([\w.\[\]-]+)==.*\n((?:    .*\n)*)", locked, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[^#\s]", locked, re.MULTILINE)) > 10
    assert not [name for name, details in packages if "--hash=sha256:" not in details]
