"""The repository as a whole: who imports whom and reads what, what no file may hold, docs that point at what exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
FILES = [
    file
    for file in subprocess.run(LISTED, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    if (ROOT / file).exists()
]
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def test_each_layer_imports_only_those_below_it() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


PACKAGE = ROOT / "src/flight_delays"
# All that src/ reads of its environment: what a person sets, what the Databricks runtime does, and what MLflow reads.
READ = {
    "cli.py": {"FLIGHT_DELAYS_USE_CASE", "FLIGHT_DELAYS_ONLINE_STORE"},
    "platform/azure_ml.py": {"FLIGHT_DELAYS_SERVED", "FLIGHT_DELAYS_SERVING_AUTH"},  # set for a container, not read
    "platform/session.py": {"DATABRICKS_RUNTIME_VERSION"},
    "platform/registry.py": {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"},
    "platform/online_table.py": {f"FLIGHT_DELAYS_ONLINE_STORE{each}" for each in ("", "_LIMIT_MS", "_FAILURE")},
    "platform/kubernetes.py": {f"FLIGHT_DELAYS_SERVING_TOKEN{each}" for each in ("", "_FILE")},
    "serving/__main__.py": {"OMP_NUM_THREADS"},
    "serving/configuration.py": {"FLIGHT_DELAYS_SERVED", "FLIGHT_DELAYS_PAYLOAD_TABLE", "FUNCTIONS_CUSTOMHANDLER_PORT"}
    | {
        f"FLIGHT_DELAYS_SERVING_{each}"
        for each in ("ENDPOINT", "TOKEN_FILE", "AUTH", "HOST", "PORT", "MAX_ROWS", "MAX_BODY_BYTES", "MAX_CONCURRENCY")
    },
}
NO_VARIABLES = {"RESOURCE_DOES_NOT_EXIST", "USE_CASE"}


def variables_in(code: str) -> set[str]:
    """Names of environment variables in code that reads any."""
    tree = ast.parse(code)
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    used, imported = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                used.add(name)
            case ast.ImportFrom(module="mlflow.environment_variables", names=those):
                imported |= {alias.name for alias in those}
    if not imported and not used & {"environ", "environment", "getenv", "envvar"}:
        return set()
    return imported | ({name for name in names if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name)} - NO_VARIABLES)


@pytest.mark.parametrize(
    "code",
    [
        "os.environ['LAPTOP_TASK']",
        "NAME = 'LAPTOP_TASK'\nos.environ.get(NAME)",
        "from os import environ\n'LAPTOP_TASK' in environ",
        "os.getenv('LAPTOP_TASK')",
        "typer.Option(envvar='LAPTOP_TASK')",
        "from mlflow.environment_variables import LAPTOP_TASK",
    ],
)
def test_a_variable_that_is_read_is_noticed(code: str) -> None:
    assert variables_in(code) == {"LAPTOP_TASK"}


def test_what_is_deployed_reads_no_variable_that_a_laptop_alone_sets() -> None:
    found = {str(file.relative_to(PACKAGE)): variables_in(file.read_text()) for file in PACKAGE.rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == READ


def test_where_it_runs_makes_a_difference_for_a_session_and_for_a_volume_alone() -> None:
    asking = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py") if "is_connected" in file.read_text()}
    assert asking == {"platform/session.py", "platform/volumes.py"}


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


# This file names them, one shows that the session refuses them, and the laptop has to have a server to connect to.
NAME_THEM = {"tests/unit/test_house.py", "tests/spark/test_session.py", "laptop/src/bundle_laptop/spark.py"}


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith(".py") and file not in NAME_THEM])
def test_code_keeps_to_spark_connect(file: str) -> None:
    assert names_outside_of_spark_connect((ROOT / file).read_text()) == []


GENERIC = [
    file
    for package in (PACKAGE, ROOT / "laptop/src/bundle_laptop")
    for file in sorted(package.rglob("*"))
    if file.suffix in {".py", ".sql", ".html"} and file.relative_to(package).parts[0] != "use_case"
]
OF_FLIGHTS = (
    r"flights?|airports?|airlines?|carriers?|depart(?:s|ed|ing|ures?)?|arriv(?:es?|ed|ing|als?)|aircraft|planes?"
    r"|weather|tailnums?"
)
OTHERWISE = r"flight delays|in flight"  # the package's own name, and requests that are under way


def words_of_flights(text: str) -> list[str]:
    """Words of the example's domain, also in names, each with its line."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    words = re.sub(r"[_-]", " ", words)
    words = re.sub(rf"\b(?:{OTHERWISE})\b", "", words)
    return [
        f"{number}: {word}"
        for number, line in enumerate(words.splitlines(), 1)
        for word in re.findall(rf"\b(?:{OF_FLIGHTS})\b", line)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "the flights of a day",
        "flight_id",
        "by_flight: int",
        "FLIGHT_ID",
        "class FlightEvents:",
        "nearestAirport",
        "-- Departures only",
        "'carrier'",
        "raw_planes",
        "a plane",
        "<td>weather</td>",
        "in_flights",
    ],
)
def test_a_word_of_the_example_is_noticed(text: str) -> None:
    assert len(words_of_flights(f"first line\n{text}")) == 1
    assert words_of_flights(f"first line\n{text}")[0].startswith("2: ")


@pytest.mark.parametrize(
    "text",
    [
        "from flight_delays.core import x",
        "flight-delays stream start",
        "FLIGHT_DELAYS_USE_CASE",
        "requests_in_flight",
        "explanes departmental flighty",
    ],
)
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert words_of_flights(text) == []


@pytest.mark.parametrize("file", GENERIC, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_outside_of_the_use_case_speaks_of_flights(file: Path) -> None:
    """Else it would have to be changed for another."""
    assert words_of_flights(file.read_text(encoding="utf-8")) == []


def test_the_use_case_does_speak_of_flights() -> None:
    """So the words are those that it uses."""
    told = [word for file in (PACKAGE / "use_case").rglob("*.*") if file.suffix in {".py", ".sql"}
            for word in words_of_flights(file.read_text())]  # fmt: skip
    used = {word.partition(": ")[2] for word in told}
    assert {"flight", "airport", "airline", "carrier", "departure", "arrival", "aircraft", "plane", "weather"} <= used
    assert len(GENERIC) > 100


def test_documents_point_at_what_exists() -> None:
    docs = [ROOT / file for file in FILES if file.endswith(".md")]
    links = {doc.parent / link for doc in docs for link in LINK.findall(doc.read_text())}
    assert len(links) > 20
    assert not [str(link) for link in links if not link.exists()]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").iterdir()), ids=lambda lock: lock.name)
def test_every_locked_package_has_a_hash(lock: Path) -> None:
    locked = lock.read_text()
    packages = re.findall(r"^([\w.\[\]-]+)==.*\n((?:    .*\n)*)", locked, re.MULTILINE)
    assert len(packages) == len(re.findall(r"^[^#\s]", locked, re.MULTILINE)) > 10
    assert not [name for name, details in packages if "--hash=sha256:" not in details]
