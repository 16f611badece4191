"""dev.py on machines that lack something: it fixes what it can, and says the rest in one line and exit code 2."""

import ast
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
assert SPEC and SPEC.loader
dev = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dev)

GIB = 2**30
NOWHERE = "http://127.0.0.1:9/"  # nothing listens there
OPENJDK_17 = 'openjdk version "17.0.15" 2025-04-15'
# An uv that "installs" a pytest; what it was asked goes to a log.
UV = r"""
echo "$@" >>"$LOG"
if [ "$2" = sync ]; then printf '#!/bin/sh\necho "pytest $@"; exit 3' >.venv/bin/pytest; chmod +x .venv/bin/pytest; fi
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_java(folder: Path, said: str) -> Path:
    script(folder / "bin" / "java", f"echo '{said}' >&2")
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only folder of the PATH: a shell's tools, git and Java; no uv, no package manager."""
    folder = fake_java(tmp_path, OPENJDK_17) / "bin"
    for name in ("sh", "env", "chmod", "mkdir", "cat", "sleep", "git"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What dev.py needs of a checkout; its .venv is not ours."""
    folder = tmp_path / "project"
    for name in ("dev.py", "pyproject.toml", "laptop/pyproject.toml", "requirements/dev.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def environment(tmp_path: Path, programs: Path) -> dict[str, str]:
    return {"PATH": str(programs), "HOME": str(tmp_path / "home"), "LOG": str(tmp_path / "log")}


@pytest.fixture
def run(project: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str, first: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """`first` is Python that the same process runs before."""
        begin = f"{first}\nimport os, sys\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        command = [sys.executable, "-c", begin, str(project / "dev.py"), *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)

    return call


def line(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure that a person can fix."""
    assert ended.returncode == 2, ended
    (line,) = ended.stderr.splitlines()
    return line


def test_an_older_python_gets_as_far_as_the_line_about_it(project: Path) -> None:
    source = (ROOT / "dev.py").read_text()
    assert ast.parse(source, feature_version=(3, 8))
    assert "from __future__ import annotations" in source
    old = "import runpy, sys; sys.version_info = (3, 8, 18); runpy.run_path('dev.py', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", old], cwd=project, capture_output=True, text=True, check=False)
    assert "Python 3.11 or later is needed" in line(ended)


def test_a_folder_that_cannot_be_written_to_stays_as_it_was(
    run: Callable[..., subprocess.CompletedProcess[str]], project: Path
) -> None:
    project.chmod(0o555)
    before = sorted(project.rglob("*"))
    drop_capability, ignoring_permissions = 24, 1  # without the latter, permissions bind even root
    first = f"import ctypes; ctypes.CDLL(None).prctl({drop_capability}, {ignoring_permissions}, 0, 0, 0)"
    said = line(run("install", first=first))
    assert f"{project} cannot be written to (Permission denied)" in said
    assert sorted(project.rglob("*")) == before


def test_git_is_asked_for_where_it_cannot_be_installed(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path
) -> None:
    (programs / "git").unlink()
    assert line(run("test", "x")) == "dev.py: git is missing; install it (git) and run this again"


def test_the_tests_run_in_the_environment_and_their_exit_code_is_handed_on(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path, project: Path, tmp_path: Path
) -> None:
    script(programs / "uv", UV)
    ended = run("test", "tests/unit", "-k", "gates")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (3, "pytest tests/unit -k gates")
    asked = (tmp_path / "log").read_text()
    options = f"--quiet --python {project}/.venv/bin/python"
    assert f"pip sync {options} --compile-bytecode --require-hashes {project}/requirements/dev.txt" in asked
    assert f"pip install {options} --no-deps --editable {project} --editable {project}/laptop" in asked
    run("install")
    assert (tmp_path / "log").read_text().count("pip sync") == 1


def test_the_fast_ones_need_no_java_and_run_in_parallel(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path
) -> None:
    (programs / "java").unlink()
    script(programs / "uv", UV)
    ended = run("test", "--fast")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (3, f"pytest {' '.join(dev.PARALLEL)} -m not spark")


def test_without_a_command_each_is_explained(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = run()
    assert ended.returncode == 2
    assert [words[0] for words in map(str.split, ended.stdout.splitlines()) if words and words[0] in dev.COMMANDS] == [
        *dev.COMMANDS
    ]


@pytest.mark.parametrize("changed", ["requirements/dev.txt", "pyproject.toml", "laptop/pyproject.toml"])
def test_a_change_of_what_is_installed_is_synced_into_the_same_environment(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path, project: Path, tmp_path: Path, changed: str
) -> None:
    script(programs / "uv", UV)
    run("install")
    (project / ".venv" / "mine").touch()
    with (project / changed).open("a") as file:
        file.write("# changed\n")
    assert run("install").returncode == 0
    assert (tmp_path / "log").read_text().count("pip sync") == 2
    assert (project / ".venv" / "mine").exists()


def cut_off(project: Path) -> Path:
    (project / ".venv" / "installed").unlink()
    return project


def python_gone(project: Path) -> Path:
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/gone/python3")
    return project


def moved(project: Path) -> Path:
    return project.rename(project.with_name("elsewhere"))


def of_another_python(project: Path) -> Path:
    stamp = project / ".venv" / "installed"
    stamp.write_text(stamp.read_text().replace(str(sys.version_info[:2]), "(3, 10)"))
    return project


@pytest.mark.parametrize("broken", [cut_off, python_gone, moved, of_another_python])
def test_a_broken_environment_is_made_anew(
    run: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
    programs: Path,
    project: Path,
    broken: Callable[[Path], Path],
) -> None:
    script(programs / "uv", UV)
    assert run("install").returncode == 0
    (project / ".venv" / "stale").touch()
    venv = broken(project) / ".venv"
    again = subprocess.run([sys.executable, str(venv.parent / "dev.py"), "install"], env=environment, check=False)
    assert again.returncode == 0
    assert not (venv / "stale").exists()
    assert (venv / "bin" / "python").exists()
    assert (venv / "installed").exists()


def test_a_failing_installer_is_heard_and_leaves_nothing_behind(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path, project: Path
) -> None:
    script(programs / "uv", '[ "$1" = --version ] || { echo "No solution found"; exit 1; }')
    ended = run("install")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "No solution found",
        "dev.py: installing the locked packages failed: its message stands above",
    ]
    assert not (project / ".venv").exists()


def test_an_update_that_was_cut_off_is_not_trusted(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path, project: Path
) -> None:
    script(programs / "uv", UV)
    run("install")
    (project / ".venv" / "stale").touch()
    with (project / "requirements" / "dev.txt").open("a") as lock:
        lock.write("# changed\n")
    script(programs / "uv", '[ "$1" = --version ]')
    assert run("install").returncode == 2
    script(programs / "uv", UV)
    assert run("install").returncode == 0
    assert not (project / ".venv" / "stale").exists()


def test_without_network_uv_ends_in_one_line(
    run: Callable[..., subprocess.CompletedProcess[str]], programs: Path, project: Path, tmp_path: Path
) -> None:
    (programs / "uv").symlink_to(Path(sys.executable).parent / "uv")
    said = line(run("install", UV_DEFAULT_INDEX=NOWHERE, UV_CACHE_DIR=str(tmp_path / "cache"), UV_HTTP_RETRIES="0"))
    assert said.startswith("dev.py: installing the locked packages failed: no network")
    assert not (project / ".venv").exists()


@pytest.mark.skipif(not dev.has_ensurepip(), reason="this Python brings no pip")
def test_without_network_and_uv_pip_ends_in_one_line(
    run: Callable[..., subprocess.CompletedProcess[str]], project: Path
) -> None:
    said = line(run("install", PIP_INDEX_URL=NOWHERE, PIP_RETRIES="0"))
    assert said.startswith("dev.py: installing uv failed: no network")
    assert not (project / ".venv").exists()


def test_ctrl_c_while_installing_is_130_and_leaves_nothing_behind(
    environment: dict[str, str], programs: Path, project: Path
) -> None:
    script(programs / "uv", '[ "$1" = --version ] || { echo >.venv/begun; sleep 60; }')
    command = [sys.executable, str(project / "dev.py"), "install"]
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # also by a child of who ignores it, as in the background
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heard
    ) as process:
        deadline = time.monotonic() + 20
        while not (project / ".venv" / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to dev.py and to what it runs
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 130
    assert not (project / ".venv").exists()


def test_uv_is_installed_as_locked() -> None:
    version, *hashes = dev.locked("uv", (ROOT / "requirements" / "dev.txt").read_text()).splitlines()
    assert version.startswith("uv==")
    assert len(hashes) > 5
    assert all(line.strip().startswith("--hash=sha256:") for line in hashes)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (OPENJDK_17, 17),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.8" 2025-07-15 LTS', 21),
        ('java version "1.8.0_292"', 8),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_the_version_that_java_says(said: str, version: int | None) -> None:
    assert dev.java_major(said) == version


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, programs: Path) -> pytest.MonkeyPatch:
    """A machine with nothing but those programs, on which JAVA_HOME is not set."""
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.setenv("PATH", str(programs))
    return monkeypatch


def test_a_java_home_that_spark_runs_on_stays(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = fake_java(tmp_path / "21", 'openjdk version "21.0.8"')
    machine.setenv("JAVA_HOME", str(home))
    dev.java(tmp_path)
    assert os.environ["JAVA_HOME"] == str(home)


@pytest.mark.parametrize("said", [None, 'java version "1.8.0_292"'])
def test_instead_of_a_wrong_java_home_the_path_is_used_and_that_is_said(
    machine: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str | None
) -> None:
    home = fake_java(tmp_path / "old", said) if said else tmp_path / "gone"
    machine.setenv("JAVA_HOME", str(home))
    dev.java(tmp_path)
    assert "JAVA_HOME" not in os.environ
    has = f"JAVA_HOME ({home}) has {8 if said else 'none'}"
    assert capsys.readouterr().out == f"Spark needs Java 17 or 21, and {has}: using the PATH\n"


@pytest.mark.usefixtures("machine")
def test_a_java_that_is_installed_but_not_on_the_path_is_used(programs: Path, tmp_path: Path) -> None:
    fake_java(programs.parent, 'openjdk version "11.0.2"')
    fake_java(tmp_path / "usr/lib/jvm/java-11", 'openjdk version "11.0.2"')
    home = fake_java(tmp_path / "usr/lib/jvm/java-17", OPENJDK_17)
    dev.java(tmp_path)
    assert os.environ["JAVA_HOME"] == str(home)


def test_without_a_package_manager_one_line_says_which_java_is_missing(
    machine: pytest.MonkeyPatch, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (programs / "java").unlink()
    home = fake_java(tmp_path / "old", 'java version "1.8.0_292"')
    machine.setenv("JAVA_HOME", str(home))
    with pytest.raises(SystemExit, match="2"):
        dev.java(tmp_path)
    assert capsys.readouterr().err == (
        f"dev.py: Spark needs Java 17 or 21, and JAVA_HOME ({home}) has 8; "
        "install it (openjdk-17-jre-headless or openjdk-21-jre-headless) and run this again\n"
    )


@pytest.mark.usefixtures("machine")
def test_apt_installs_the_java_that_it_has(programs: Path, tmp_path: Path) -> None:
    (programs / "java").unlink()
    java = tmp_path / "usr/lib/jvm/java-21/bin/java"
    script(programs / "sudo", 'shift; exec "$@"')
    script(
        programs / "apt-get",
        f"""
        case "$*" in *openjdk-21*)
            mkdir -p {java.parent}; printf '#!/bin/sh\\necho version \\\\"21.0.8\\\\"' >{java}; chmod +x {java};;
        update) ;;
        *) exit 100;;
        esac
        """,
    )
    dev.java(tmp_path)
    assert os.environ["JAVA_HOME"] == str(java.parents[1])


@pytest.mark.usefixtures("machine")
def test_apt_without_network_ends_in_one_line(
    programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (programs / "java").unlink()
    script(programs / "sudo", 'shift; exec "$@"')
    script(programs / "apt-get", "echo \"W: Failed to fetch  Could not resolve 'deb.example.com'\"; exit 100")
    with pytest.raises(SystemExit, match="2"):
        dev.java(tmp_path)
    assert capsys.readouterr().err == (
        "dev.py: Spark needs Java 17 or 21, and the PATH has none; "
        "no network, or the package server does not answer; connect and run it again\n"
    )


@pytest.mark.parametrize(
    ("manager", "root", "starts"),
    [("apt-get", True, ["env"]), ("apt-get", False, ["sudo", "-n"]), ("brew", False, ["brew", "install"])],
)
def test_package_managers_are_asked_so_that_they_ask_nothing(manager: str, root: bool, starts: list[str]) -> None:
    commands = dev.installers(manager, ["a"], ["b"], root=root)
    assert commands
    assert all(command[: len(starts)] == starts for command in commands)
    assert all("--yes" in command for command in commands if "a" in command)


def test_an_unknown_machine_is_left_alone() -> None:
    assert dev.installers(None, ["a"], ["b"], root=True) == []


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Caused by: error sending request for url (...)\n dns error: Temporary failure in name resolution", "network"),
        ("client error (Connect): invalid peer certificate: UnknownIssuer (error sending request)", "SSL_CERT_FILE"),
        ("error: failed to write: No space left on device (os error 28)", "disk is full"),
        ("Setting up ca-certificates (20230311) ...", None),
        ("No solution found when resolving dependencies", None),
    ],
)
def test_what_installers_say_becomes_advice_where_it_is_known(said: str, advice: str | None) -> None:
    found = dev.reason(said)
    assert advice in found if advice else found is None


@pytest.mark.parametrize(("have", "fits"), [(11 * GIB - 1, False), (11 * GIB, True), (11 * GIB + 1, True)])
def test_tests_run_in_parallel_where_there_is_memory_for_two_sparks(have: int, fits: bool) -> None:
    assert dev.in_parallel(have) == (dev.PARALLEL if fits else ())


@pytest.mark.parametrize(("have", "stops"), [(5 * GIB - 1, True), (5 * GIB, False), (5 * GIB + 1, False)])
def test_too_little_memory_stops_before_anything_begins(
    have: int, stops: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if stops:
        with pytest.raises(SystemExit, match="2"):
            dev.enough("memory", have, 5 * GIB)
        said = "dev.py: too little memory: 5.0 GiB free, 5 GiB needed; free some and run it again\n"
        assert capsys.readouterr().err == said
    else:
        dev.enough("memory", have, 5 * GIB)


@pytest.mark.parametrize(
    ("limits", "gib"),
    [
        ({}, 7),
        ({"memory.max": "max"}, 7),
        ({"memory.max": str(3 * GIB)}, 3),
        ({"memory/memory.limit_in_bytes": str(2 * GIB)}, 2),
        ({"memory/memory.limit_in_bytes": str(2**63 - 4096)}, 7),
    ],
)
def test_memory_is_what_is_free_or_what_the_container_may_have(
    tmp_path: Path, limits: dict[str, str], gib: int
) -> None:
    meminfo = f"MemTotal: {64 << 20} kB\nMemAvailable:  {6 << 20} kB\nSwapFree:  {1 << 20} kB\n"
    files = {"proc/meminfo": meminfo} | {f"sys/fs/cgroup/{name}": f"{limit}\n" for name, limit in limits.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert dev.available_memory(tmp_path) == gib * GIB


def test_this_machine_has_some_memory() -> None:
    assert dev.available_memory() > GIB / 8
