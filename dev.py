#!/usr/bin/env python3
"""Everything a checkout needs, from nothing but git and Python 3.11 or later: python3 dev.py demo|test|check|format.

Standard library only. Each command first installs what is locked in requirements/dev.txt into .venv, and looks for the
Java that Spark needs.
"""

import argparse
import ctypes.util
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK = ROOT / "requirements" / "dev.txt"
JAVA_VERSIONS = (17, 21)


def main() -> None:
    """Run one command; what a person can mend ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed on (to pytest, or to the demo's run)")
    chosen = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036
        stop(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}; run python3.11 dev.py instead")
    sys.exit(COMMANDS[chosen.command](chosen.arguments))


def demo(arguments: list[str]) -> int:
    """Features -> train -> validate -> deploy -> score, on all flights, by the bundle's own jobs."""
    install()
    java()
    openmp()
    return run("flight-delays", "local", "run", "features", "train", "score_batch", *arguments)


def test(arguments: list[str]) -> int:
    """All tests, or those that the arguments choose."""
    install()
    java()
    openmp()
    return run("pytest", *arguments)


def check(arguments: list[str]) -> int:
    """Formatting, lint, types and the contract between the layers."""
    install()
    steps = (("ruff", "format", "--check"), ("ruff", "check"), ("mypy",), ("lint-imports",))
    return max(run(*step, *arguments) for step in steps)


def format_code(arguments: list[str]) -> int:
    """Format and mend what can be mended without asking."""
    install()
    return max(run("ruff", "check", "--fix-only", *arguments), run("ruff", "format", *arguments))


def lock(arguments: list[str]) -> int:
    """Resolve pyproject.toml anew into requirements/dev.txt, with hashes and without any index address."""
    options = ["--group", "dev", "--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade"]
    target = ["--no-emit-package", "flight-delays", "--custom-compile-command", "python3 dev.py lock", "-o", str(LOCK)]
    return subprocess.call(
        [uv(), "pip", "compile", "--quiet", "pyproject.toml", *options, *target, *arguments], cwd=ROOT
    )


def setup(_: list[str]) -> int:
    """Only install."""
    install()
    return 0


COMMANDS = {"demo": demo, "test": test, "check": check, "format": format_code, "lock": lock, "install": setup}


def install() -> None:
    """Bring .venv to exactly what is locked; quick when it is already there."""
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = VENV / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    installer = uv()
    print("Installing the locked environment into .venv ...", flush=True)
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        call(installer, "venv", "--quiet", "--python", sys.executable, str(VENV))
    call(installer, "pip", "sync", "--quiet", "--require-hashes", str(LOCK))
    call(installer, "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT))
    stamp.write_text(wanted)


def uv() -> str:
    """The uv to install with; where there is none, the locked one by pip into .venv."""
    for found in (shutil.which("uv"), shutil.which("uv", path=str(BIN))):
        if found:
            return found
    call(sys.executable, "-m", "venv", str(VENV))
    version = re.search(r"^uv==(\S+)", LOCK.read_text(), re.MULTILINE)
    call(str(BIN / "python"), "-m", "pip", "install", "--quiet", f"uv=={version[1]}" if version else "uv")
    return str(BIN / "uv")


def java() -> None:
    """Make sure that a Java runtime which Spark 4.1 runs on is found, installing one where that needs no question."""
    found = java_version()
    if found in JAVA_VERSIONS:
        return
    print(
        f"Spark needs Java {' or '.join(map(str, JAVA_VERSIONS))}; found {found or 'none'}. Installing ...", flush=True
    )
    for command in java_installers():
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            use_installed_java()
            if java_version() in JAVA_VERSIONS:
                return
    stop("Spark needs Java 17 or 21 and none could be installed; install one and set JAVA_HOME to it")


def openmp() -> None:
    """LightGBM needs the OpenMP runtime, which slim images lack."""
    if sys.platform.startswith("linux") and not ctypes.util.find_library("gomp"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        for step in (["update"], ["install", "--yes", "libgomp1"]):
            if not shutil.which("apt-get") or subprocess.call([*sudo, "apt-get", *step], stdout=subprocess.DEVNULL):
                stop("LightGBM needs the OpenMP runtime (libgomp); install it with your package manager")


def java_version() -> int | None:
    """Major version of the Java that Spark would start."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if not program:
        return None
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return int(version[1]) if version else None


def java_installers() -> list[list[str]]:
    """Commands that may install one, none of which asks anything."""
    if shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        packages = [f"openjdk-{version}-jre-headless" for version in JAVA_VERSIONS]
        update = [[*sudo, "apt-get", "update"]]
        return update + [[*sudo, "apt-get", "install", "--yes", package] for package in packages]
    if shutil.which("brew"):
        return [["brew", "install", "openjdk@17"]]
    return []


def use_installed_java() -> None:
    """Point JAVA_HOME at what apt or brew has just installed."""
    places = [
        *Path("/usr/lib/jvm").glob("java-1[7]-openjdk*"),
        *Path("/usr/lib/jvm").glob("java-21-openjdk*"),
        *(Path(prefix) / "opt/openjdk@17" for prefix in ("/opt/homebrew", "/usr/local")),
    ]
    for place in places:
        if (place / "bin" / "java").exists():
            os.environ["JAVA_HOME"] = str(place)
            return


def run(program: str, *arguments: str) -> int:
    """Exit code of a program of .venv, run in the project's folder."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return subprocess.call([str(BIN / program), *arguments], cwd=ROOT, env={**os.environ, "PATH": path})


def call(*command: str) -> None:
    """Run an installing step, or stop with its own words."""
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV)}
    if subprocess.call(command, cwd=ROOT, env=environment):
        stop(f"'{' '.join(command)}' failed; its message stands above")


def stop(message: str) -> None:
    """Say what is wrong and how to mend it."""
    print(f"dev.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
