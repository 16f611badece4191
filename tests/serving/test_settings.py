"""What the environment may say about the service, and what a person is told of the rest."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.serving.live import PATIENCE_S, TURNED, free_port, started

from flight_delays.core.errors import UserError
from flight_delays.serving.__main__ import main, registered
from flight_delays.serving.configuration import Settings, Source, settings, sources

AUTH = "FLIGHT_DELAYS_SERVING_AUTH"
HOST = "FLIGHT_DELAYS_SERVING_HOST"
PORT = "FLIGHT_DELAYS_SERVING_PORT"
HOSTS_PORT = "FUNCTIONS_CUSTOMHANDLER_PORT"
SERVED = "FLIGHT_DELAYS_SERVED"
TOKENS = "FLIGHT_DELAYS_SERVING_TOKEN_FILE"
THREADS = "OMP_NUM_THREADS"


def test_every_setting_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("first\n\nsecond \n")
    assert settings(
        {
            "FLIGHT_DELAYS_SERVING_ENDPOINT": "other",
            TOKENS: str(tmp_path / "tokens"),
            "FLIGHT_DELAYS_PAYLOAD_TABLE": "table",
            "FLIGHT_DELAYS_SERVING_HOST": "::1",
            PORT: "65535",
            "FLIGHT_DELAYS_SERVING_MAX_ROWS": "1",
            "FLIGHT_DELAYS_SERVING_MAX_BODY_BYTES": "2",
            "FLIGHT_DELAYS_SERVING_MAX_CONCURRENCY": "3",
        }
    ) == Settings(
        endpoint="other",
        tokens=frozenset({"first", "second"}),
        payload_table="table",
        host="::1",
        port=65535,
        max_rows=1,
        max_body_bytes=2,
        max_concurrency=3,
    )


@pytest.mark.parametrize(
    ("environment", "port"),
    [({}, 8080), ({HOSTS_PORT: "4711"}, 4711), ({PORT: "80", HOSTS_PORT: "4711"}, 80), ({PORT: "80"}, 80)],
)
def test_the_host_of_azure_functions_gives_the_port_if_nobody_else_does(environment: dict[str, str], port: int) -> None:
    assert settings({AUTH: "off", **environment}).port == port


def test_without_settings_everything_but_the_tokens_has_a_default() -> None:
    assert settings({AUTH: "off"}) == Settings(tokens=None)
    assert settings({AUTH: "off", "FLIGHT_DELAYS_PAYLOAD_TABLE": ""}) == Settings(tokens=None)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, f"{TOKENS} names no file of bearer tokens, one a line; or set {AUTH}=off behind a gateway"),
        ({AUTH: ""}, f"{AUTH} is ''; set it to on or off"),
        ({AUTH: "no"}, f"{AUTH} is 'no'; set it to on or off"),
        ({TOKENS: "missing"}, f"{TOKENS}: missing cannot be read: No such file or directory"),
        ({TOKENS: "."}, f"{TOKENS}: . cannot be read: Is a directory"),
        ({TOKENS: "blank"}, f"{TOKENS}: blank is empty; write a bearer token into it"),
        ({TOKENS: "binary"}, f"{TOKENS}: binary cannot be read: it is no UTF-8 text"),
        *(
            ({AUTH: "off", PORT: text}, f"{PORT} is {text!r}; set it to a whole number from 1 to 65535")
            for text in ("", "0", "-1", "8080.0", "http", "65536", "²", "٣", "9" * 5000)
        ),
        ({AUTH: "off", HOSTS_PORT: "0"}, f"{HOSTS_PORT} is '0'; set it to a whole number from 1 to 65535"),
        *(
            (
                {AUTH: "off", "FLIGHT_DELAYS_SERVING_MAX_ROWS": text},
                f"FLIGHT_DELAYS_SERVING_MAX_ROWS is {text!r}; set it to a whole number from 1 to 1000000000",
            )
            for text in ("0", "1e3", "1000000001")
        ),
    ],
)
def test_a_setting_without_sense_is_told_in_one_line(
    environment: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("blank").write_text(" \n")
    Path("binary").write_bytes(b"\xff\n")
    with pytest.raises(UserError) as error:
        settings(environment)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("champion=/a/folder", [("champion", "/a/folder", 100)]),
        ("champion=models:/delay/3@100", [("champion", "models:/delay/3", 100)]),
        ("champion=/a=b@c@90,challenger=models:/c.s.delay/4@10,",
         [("champion", "/a=b@c", 90), ("challenger", "models:/c.s.delay/4", 10)]),
    ],
)  # fmt: skip
def test_versions_are_named_with_address_and_share(text: str, found: list[tuple[str, str, int]]) -> None:
    expected = tuple(Source(name=name, address=address, percentage=share) for name, address, share in found)
    assert sources({SERVED: text}) == expected


NO_VERSION = f"{SERVED} names no version; set it to champion=<a model's folder, or models:/<name>/<number>>"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, NO_VERSION),
        ({SERVED: ""}, NO_VERSION),
        ({SERVED: ","}, NO_VERSION),
        *(
            (
                {SERVED: text},
                f"{SERVED}: {text!r} is not name=address@percentage, like champion=models:/delay/3@100",
            )
            for text in ("champion", "=/a", "champion=", "champion=@100", "champion=models:/delay@champion",
                         "champion=/a@", "champion=/a@-1", "champion=/a@50.0", "champion=/a@101")
        ),
        ({SERVED: "shadow=/a"}, f"{SERVED}: 'shadow' is served under no known name; there are champion and challenger"),
        ({SERVED: "champion=/a@50,champion=/b@50"}, f"{SERVED}: champion is named twice"),
    ],
)  # fmt: skip
def test_versions_without_sense_are_told_in_one_line(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        sources(environment)
    assert str(error.value) == message


def test_a_version_is_known_by_its_address_or_the_file_beside_it(folders: dict[str, Path]) -> None:
    assert registered("models:/catalog.schema.delay/12") == ("catalog.schema.delay", 12)
    assert registered(str(folders["challenger"])) == ("delay", 4)


@pytest.mark.parametrize("number", ["champion", "delay@champion", "", "1.5", "٣"])
def test_a_version_is_a_number(number: str, tmp_path: Path) -> None:
    (tmp_path / "registered_model_meta").write_text(f"model_name: delay\nmodel_version: '{number}'\n")
    for address in (f"models:/delay/{number}", str(tmp_path)):
        with pytest.raises(UserError) as error:
            registered(address)
        assert (
            str(error.value) == f"{number!r} is no version number; a version is served by its number, never by an alias"
        )


def missing(_: dict[str, Path], folder: Path) -> str:
    return str(folder / "nowhere")


def by_alias(_: dict[str, Path], __: Path) -> str:
    return "models:/delay@champion@100"


def torn(folders: dict[str, Path], folder: Path) -> str:
    copy = shutil.copytree(folders["champion"], folder / "copy")
    (copy / "MLmodel").write_text("{\n")
    return str(copy)


def other_answers(folders: dict[str, Path], folder: Path) -> str:
    copy = shutil.copytree(folders["champion"], folder / "copy")
    shutil.copytree(folders["challenger"] / "artifacts" / "model", copy / "artifacts" / "model", dirs_exist_ok=True)
    return str(copy)


def other_preparation(folders: dict[str, Path], folder: Path) -> str:
    copy = shutil.copytree(folders["champion"], folder / "copy")
    with (copy / "artifacts" / "prepare.py").open("a") as code:
        code.write(TURNED)
    return str(copy)


def without_a_learner(folders: dict[str, Path], folder: Path) -> str:
    copy = shutil.copytree(folders["champion"], folder / "copy")
    (copy / "artifacts" / "learner.py").write_text("load(")
    return str(copy)


UNSERVABLE = [
    (missing, "champion at {0}: {0}/registered_model_meta is missing; download the version by "),
    (by_alias, "champion at models:/delay@champion: 'delay@champion' is no version number"),
    (torn, "champion at {0}: it cannot be loaded: "),
    (other_answers, "champion at {0}: an answer to a golden request is "),
    (other_preparation, "champion at {0}: an answer to a golden request is "),
    (without_a_learner, "champion at {0}: it cannot be loaded: "),
]


@pytest.mark.parametrize(("address", "line"), UNSERVABLE)
def test_a_version_that_cannot_be_served_is_told_in_one_line(
    folders: dict[str, Path],
    tmp_path: Path,
    address: Callable[[dict[str, Path], Path], str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = address(folders, tmp_path)
    environment = {AUTH: "off", HOST: "127.0.0.1", PORT: str(free_port()), SERVED: f"champion={where}"}
    for name, value in {**environment, THREADS: "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("serving: ")]
    assert ended.value.code == 2
    assert len(told) == 1
    assert told[0].startswith("serving: " + line.format(where))


@pytest.mark.parametrize(("told", "then"), [(None, "1"), ("3", "3")])
def test_a_learner_gets_one_thread_unless_told_otherwise(
    told: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTH, "no")
    monkeypatch.setenv(THREADS, told or "")
    if told is None:
        monkeypatch.delenv(THREADS)
    with pytest.raises(SystemExit):
        main()
    assert os.environ[THREADS] == then


@pytest.mark.parametrize("settings", [{}, {AUTH: "off", HOST: "127.0.0.1", SERVED: "champion=nowhere"}])
def test_a_process_that_cannot_serve_ends_with_one_line_and_2(settings: dict[str, str], tmp_path: Path) -> None:
    with started({PORT: str(free_port()), **settings}, tmp_path) as process:
        try:
            _, told = process.communicate(timeout=3 * PATIENCE_S)
        finally:
            process.kill()
    (line,) = [line for line in told.splitlines() if not line.startswith("INFO: ")]  # the server's own
    assert process.returncode == 2
    assert line.startswith(f"serving: {'champion at nowhere' if settings else TOKENS}")
