#!/usr/bin/env python3
"""Everything a checkout needs, from nothing but git and Python 3.11 or later: python3 dev.py <command>.

Each command first installs what is locked in requirements/dev.txt into .venv; demo and test also look for what Spark
and LightGBM need of the machine, and install it where that needs no question.
"""

from __future__ import annotations  # an older Python must get as far as the line that says it is too old

import argparse
import ctypes.util
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCK = ROOT / "requirements" / "dev.txt"
PROJECTS = (ROOT / "pyproject.toml", ROOT / "laptop" / "pyproject.toml")
# File, lowest Python, and what it is made of. Deploys get what the tests had.
LOCKED = (
    ("dev", "3.11", ("pyproject.toml", "--group", "dev")),
    ("workspace", "3.12", ("pyproject.toml", "--group", "workspace")),
    ("deploy", "3.11", ("--group", "deploy", "--constraints", "requirements/dev.txt")),
    ("image", "3.11", ("--group", "image", "--constraints", "requirements/dev.txt")),
)
PARALLEL = ("-n", str(max(2, min(4, os.cpu_count() or 2))), "--no-loadscope-reorder")  # options of pytest
JAVA_VERSIONS = (17, 21)
JAVA_HOMES = (
    "usr/lib/jvm/*",
    "Library/Java/JavaVirtualMachines/*/Contents/Home",
    "opt/homebrew/opt/openjdk@*",
    "usr/local/opt/openjdk@*",
)
GIB = 2**30
# Measured and rounded up: the demo takes 4.2 GiB at its peak, the tests, which kill a run beside their own Spark, 5.3,
# and in two processes 10.4; what a first run installs and keeps takes 4.1 GiB of disk, a later one 0.2.
DEMO_MEMORY, TEST_MEMORY, PARALLEL_MEMORY = 5 * GIB, 6 * GIB, 11 * GIB
DISK, DISK_TO_INSTALL = 1 * GIB, 5 * GIB
# What package tools say, and what a person can do about it.
REASONS = {
    r"certificate verif|CERTIFICATE_VERIFY_FAILED|invalid peer certificate": (
        "the package server's certificate is not trusted here; name your organisation's file in SSL_CERT_FILE"
    ),
    r"No space left on device": "the disk is full; free some and run it again",
    r"error sending request|dns error|NewConnectionError|NameResolutionError|TimeoutError|Temporary failure"
    r"|(?:Could not|Unable to) (?:resolve|connect)|Network is unreachable|Connection (?:refused|timed out)"
    r"|from versions: none": ("no network, or the package server does not answer; connect and run it again"),
}


def main() -> None:
    """Run one command; what a person can fix ends in one line and exit code 2."""
    if sys.version_info < (3, 11):  # noqa: UP036
        stop(f"Python 3.11 or later is needed, and this is {sys.version.split()[0]}; run it with python3.11 or later")
    commands = "\n".join(
        f"  {name:9}{(command.__doc__ or '').partition(chr(10))[0]}" for name, command in COMMANDS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"commands (further arguments are handed on):\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", nargs="?")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    if chosen.command is None:
        parser.print_help()
        sys.exit(2)
    try:
        tempfile.TemporaryFile(dir=ROOT).close()
    except OSError as error:
        stop(f"{ROOT} cannot be written to ({error.strerror}); put the project where you may write")
    try:
        sys.exit(COMMANDS[chosen.command](chosen.arguments))
    except KeyboardInterrupt:
        sys.exit(130)


def demo(arguments: list[str]) -> int:
    """Features -> train -> judge -> promote -> score -> serve, on all flights, by the bundle's own jobs."""
    enough("memory", available_memory(), DEMO_MEMORY)
    machine()
    install()
    return run("laptop", "run", "features", "train", "score_batch", "check_endpoint", *arguments)


def test(arguments: list[str]) -> int:
    """All tests, in parallel where memory allows; --fast: those without Spark; other arguments are pytest's."""
    fast = arguments == ["--fast"]
    if not arguments:
        enough("memory", available_memory(), TEST_MEMORY)
    machine(spark=not fast)
    install()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # LightGBM's threads in each process would wait for each other
    if fast:
        return run("pytest", *PARALLEL, "-m", "not spark")
    run("python", "-m", "bundle_laptop.quick_start")
    return run("pytest", *(arguments or in_parallel(available_memory())))


def in_parallel(memory: int) -> tuple[str, ...]:
    """Options of pytest: two Sparks side by side, if there is room for them."""
    return PARALLEL if memory >= PARALLEL_MEMORY else ()


def coverage(_: list[str]) -> int:
    """All tests, and the branches of core/ and of src/ that none of them takes."""
    failed = test([*PARALLEL, "--cov", "--cov-context=test", "--cov-report="])
    core = run("coverage", "report", "--show-missing", "--skip-covered", "--include=src/flight_delays/core/*")
    return max(failed, core, run("coverage", "report"))


def check(arguments: list[str]) -> int:
    """Formatting, lint, types and the contract between the layers."""
    install()
    steps = (("ruff", "format", "--check"), ("ruff", "check"), ("mypy",), ("lint-imports",))
    return max(run(*step, *arguments) for step in steps)


def format_code(arguments: list[str]) -> int:
    """Format, and fix what can be fixed without asking."""
    install()
    return max(run("ruff", "check", "--fix-only", *arguments), run("ruff", "format", *arguments))


def lock(arguments: list[str]) -> int:
    """Resolve pyproject.toml anew into requirements/, with hashes and without any index address."""
    install()
    options = ["--quiet", "--universal", "--generate-hashes", "--upgrade", "--no-emit-package", "flight-delays"]
    options += ["--no-emit-package", "bundle-laptop"]
    options += ["--custom-compile-command", "python3 dev.py lock", *arguments]
    return max(
        run("uv", "pip", "compile", *sources, "--python-version", python, "-o", f"requirements/{name}.txt", *options)
        for name, python, sources in LOCKED
    )


def setup(_: list[str]) -> int:
    """Nothing but the installation."""
    install()
    return 0


COMMANDS = {
    "demo": demo,
    "test": test,
    "coverage": coverage,
    "check": check,
    "format": format_code,
    "lock": lock,
    "install": setup,
}


def install() -> None:
    """Bring .venv to exactly what is locked; quick when it is already there."""
    identity = f"{VENV} {sys.version_info[:2]} "  # in another place or of another Python, it is made anew
    wanted = identity + hashlib.sha256(b"".join(file.read_bytes() for file in (LOCK, *PROJECTS))).hexdigest()
    stamp = VENV / "installed"
    found = stamp.read_text() if stamp.exists() and PYTHON.exists() else ""
    new = not found.startswith(identity)
    enough("disk", shutil.disk_usage(ROOT).free, DISK_TO_INSTALL if new else DISK)
    if found == wanted:
        return
    print("Installing the locked environment into .venv (minutes, the first time) ...", flush=True)
    stamp.unlink(missing_ok=True)  # written last: a .venv without it was left half-made
    try:
        if new:
            call("making .venv", sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV))
        command, options = [uv(), "pip"], ["--quiet", "--python", str(PYTHON)]
        locked = ["--compile-bytecode", "--require-hashes", str(LOCK)]
        call("installing the locked packages", *command, "sync", *options, *locked)
        editable = [option for path in (ROOT, ROOT / "laptop") for option in ("--editable", str(path))]
        call("installing the project", *command, "install", *options, "--no-deps", *editable)
        stamp.write_text(wanted)
    except BaseException:
        if new:
            shutil.rmtree(VENV, ignore_errors=True)
        raise


def uv() -> str:
    """The uv to install with; where there is none, the locked one by pip into .venv."""
    for found in (shutil.which("uv"), shutil.which("uv", path=str(BIN))):
        if found and quietly(found, "--version")[0] == 0:  # a version manager's shim may lead nowhere
            return found
    provide("this Python brings no pip", has_ensurepip, apt=["python{}.{}-venv".format(*sys.version_info)])
    requirement = VENV / "uv.txt"
    requirement.write_text(locked("uv", LOCK.read_text()))
    call("making pip", str(PYTHON), "-m", "ensurepip")
    call("installing uv", str(PYTHON), "-m", "pip", "install", "--require-hashes", "--requirement", str(requirement))
    return str(BIN / "uv")


def locked(package: str, lock: str) -> str:
    """A package's part of the lock: its version and its hashes."""
    return "".join(re.findall(rf"^{package}==.*\n(?: +--hash=.*\n)+", lock, re.MULTILINE))


def has_ensurepip() -> bool:
    """Whether this Python can make a pip; Debian has that in a package of its own."""
    importlib.invalidate_caches()
    return importlib.util.find_spec("ensurepip") is not None


def machine(*, spark: bool = True) -> None:
    """What the environment does not bring: git, OpenMP, and for Spark Java."""
    provide("git is missing", lambda: shutil.which("git"), apt=["git"], brew=["git"])
    if spark:
        java()
    provide("LightGBM needs the OpenMP runtime", has_openmp, apt=["libgomp1"], brew=["libomp"])


def java(root: Path = Path("/")) -> None:
    """Lead Spark to a Java it runs on: the one it would find, another that is there, or one installed now."""
    named = os.environ.get("JAVA_HOME")
    there = f"{f'JAVA_HOME ({named})' if named else 'the PATH'} has {java_version(named) or 'none'}"
    lack = f"Spark needs Java {' or '.join(map(str, JAVA_VERSIONS))}, and {there}"
    apt = [f"openjdk-{version}-jre-headless" for version in JAVA_VERSIONS]
    provide(lack, lambda: use_java(root), apt=apt, brew=[f"openjdk@{version}" for version in JAVA_VERSIONS])
    used = os.environ.get("JAVA_HOME")
    if named and used != named:
        print(f"{lack}: using {used or 'the PATH'}", flush=True)


def use_java(root: Path) -> bool:
    """Whether there is a Java that Spark runs on; JAVA_HOME, or without one the PATH, then leads to it."""
    installed = [str(home) for pattern in JAVA_HOMES for home in sorted(root.glob(pattern))]
    for home in (os.environ.get("JAVA_HOME"), None, *installed):
        if java_version(home) in JAVA_VERSIONS:
            os.environ.pop("JAVA_HOME", None)
            os.environ.update({"JAVA_HOME": home} if home else {})
            return True
    return False


def java_version(home: str | None) -> int | None:
    """Major version of the Java in a folder, or of the PATH's."""
    program = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    return java_major(quietly(program, "-version")[1]) if program else None


def java_major(said: str) -> int | None:
    """The 17 of `openjdk version "17.0.15"`, the 8 of `java version "1.8.0_292"`."""
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(version[1]) if version else None


def has_openmp() -> bool:
    """Whether LightGBM finds the OpenMP runtime, which slim images and bare Macs lack."""
    if sys.platform == "darwin":
        return any(Path(opt, "libomp").exists() for opt in ("/opt/homebrew/opt", "/usr/local/opt", "/opt/local/lib"))
    return ctypes.util.find_library("gomp") is not None


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that programs can still get: of the machine, or of the container that this runs in."""
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = sum(int(kib) << 10 for kib in re.findall(r"(?:MemAvailable|SwapFree): +(\d+)", meminfo.read_text()))
    limits = [root / "sys/fs/cgroup" / name for name in ("memory.max", "memory/memory.limit_in_bytes")]
    said = [limit.read_text().strip() for limit in limits if limit.exists()]
    return min([free, *(int(limit) for limit in said if limit.isdigit())])  # no limit is "max"


def enough(what: str, have: int, need: int) -> None:
    """Stop where there is too little of it."""
    if have < need:
        stop(f"too little {what}: {have / GIB:.1f} GiB free, {need / GIB:.0f} GiB needed; free some and run it again")


def provide(lack: str, there: Callable[[], object], apt: Sequence[str], brew: Sequence[str] = ()) -> None:
    """Install a system package, the first of the names that can be had, without asking; or say what to install."""
    if there():
        return
    manager = next((name for name in ("apt-get", "brew") if shutil.which(name)), None)
    commands = installers(manager, apt, brew, root=os.name != "nt" and os.geteuid() == 0)
    if commands:
        print(f"{lack}: installing it ...", flush=True)
    said = ""
    for command in commands:
        said += quietly(*command)[1]
        if there():
            return
    names = " or ".join(brew if manager == "brew" else apt)
    stop(f"{lack}; {reason(said) or f'install it ({names}) and run this again'}")


def installers(manager: str | None, apt: Sequence[str], brew: Sequence[str], *, root: bool) -> list[list[str]]:
    """Commands that may install a package, none of which asks anything."""
    if manager == "brew":
        return [["brew", "install", name] for name in brew]
    if manager != "apt-get":
        return []
    apt_get = [*([] if root else ["sudo", "-n"]), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    options = ["--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60"]
    return [[*apt_get, "update"], *([*apt_get, "install", *options, name] for name in apt)]


def reason(said: str) -> str | None:
    """What a person can do about what an installing program said."""
    return next((advice for pattern, advice in REASONS.items() if re.search(pattern, said)), None)


def run(program: str, *arguments: str) -> int:
    """Exit code of a program of .venv, run in the project's folder."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    return ended(subprocess.Popen([str(BIN / program), *arguments], cwd=ROOT, env={**os.environ, "PATH": path}))[0]


def call(what: str, *command: str) -> None:
    """Run an installing step, or stop."""
    code, said = quietly(*command)
    if code and not reason(said):
        print(said.strip(), file=sys.stderr)
    if code:
        stop(f"{what} failed: {reason(said) or 'its message stands above'}")


def quietly(*command: str) -> tuple[int, str]:
    """Exit code and words of a program that gets no chance to ask."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        return ended(subprocess.Popen(command, cwd=ROOT, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT))
    except OSError as error:
        return 127, str(error)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and words of a program; Ctrl-C reaches it too, and it is given the time to tidy up."""
    try:
        said = process.communicate()[0]
    except KeyboardInterrupt:
        process.communicate()
        raise
    return process.returncode, (said or b"").decode(errors="replace")


def stop(message: str) -> NoReturn:
    """Say what is wrong and how to fix it."""
    print(f"dev.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
