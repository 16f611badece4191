"""A version's image without Docker: its build context, installed by the Dockerfile's own commands in another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import requests
from tests.serving.live import PATIENCE_S

ROOT = Path(__file__).parents[2]
UV = str(Path(sys.executable).parent / "uv")
BASE_IMAGE = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim-bookworm@sha256:{'0' * 64}"
# Told of each file that the process opens for writing, makes, moves or removes; what C code does is not seen.
WATCH = """
import os, sys

told = os.open(os.environ["WRITTEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else mode not in (None, "r")
        if not writes or isinstance(path, int):
            return
    elif event not in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"):
        return
    os.write(told, (os.path.abspath(os.fsdecode(arguments[0])) + "\\n").encode())


sys.addaudithook(hook)
"""


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What the image has in /opt, in another place, and what its Dockerfile says of the process."""

    context: Path
    opt: Path
    temporary: Path
    environment: Mapping[str, str]
    command: tuple[str, ...]

    @property
    def written(self) -> list[Path]:
        """What a process wrote, outside of /tmp and of devices."""
        told = {Path(line) for line in (self.temporary.parent / "written").read_text().splitlines()}
        return sorted(path for path in told if not path.is_relative_to(self.temporary) and path.parts[1] != "dev")


def unpacked(context: Path, folder: Path) -> Unpacked:
    """Install the context in `folder`, by uv in place of pip, then by the Dockerfile's last commands of its stage."""
    opt, temporary = folder / "opt", folder / "tmp"
    temporary.mkdir(parents=True)
    python = str(opt / "venv" / "bin" / "python")
    install = [UV, "pip", "install", "--quiet", "--python", python, "--no-deps"]
    (wheel,) = context.glob("*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, str(opt / "venv"))
    offline_or_not(*install, "--require-hashes", "--requirement", str(context / "requirements.txt"))
    run(*install, "--offline", str(wheel))
    shutil.copytree(context / "model", opt / "model")
    dockerfile = (context / "Dockerfile").read_text().replace("\\\n", "")
    stages = re.split(r"(?m)^FROM ", dockerfile)
    for command in re.findall(r"(?m)^RUN (.+)", stages[2])[1:]:
        run("sh", "-c", command.replace("/opt", str(opt)))
    for path in [*(opt / "model").rglob("*"), opt / "model"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    (variables,) = re.findall(r"(?m)^ENV (.+)", stages[3])
    found = dict(pair.split("=", 1) for pair in variables.split())
    places = {"/opt": str(opt), "/tmp": str(temporary), "$PATH": os.defpath}  # noqa: S108
    environment = {name: re.sub("/opt|/tmp|[$]PATH", lambda at: places[at[0]], value) for name, value in found.items()}
    (command,) = re.findall(r"(?m)^CMD (.+)", stages[3])
    return Unpacked(
        context=context, opt=opt, temporary=temporary, environment=environment, command=tuple(json.loads(command))
    )


@contextmanager
def process_of(image: Unpacked, command: tuple[str, ...], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the image, with its variables and these alone; it is watched."""
    watch = image.temporary.parent / "watch"
    watch.mkdir(exist_ok=True)
    (watch / "sitecustomize.py").write_text(WATCH)
    given = {"TMPDIR": str(image.temporary), "PYTHONPATH": str(watch)}
    given["WRITTEN"] = str(image.temporary.parent / "written")
    program = shutil.which(command[0], path=image.environment["PATH"])
    assert program
    with subprocess.Popen(
        [program, *command[1:]],
        env={**image.environment, **given, "FLIGHT_DELAYS_SERVING_AUTH": "off", **environment},
        cwd=image.opt,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str], url: str) -> float:
    """Seconds until it is."""
    began = monotonic()
    while monotonic() - began < PATIENCE_S:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            if requests.get(f"{url}/ready", timeout=PATIENCE_S).status_code == 200:
                return monotonic() - began
        except requests.ConnectionError:
            pass
        sleep(0.02)
    raise AssertionError("it is not ready")


def megabytes(folder: Path) -> float:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def offline_or_not(*command: str) -> None:
    """From uv's cache, which has all that .venv has; else from the index."""
    if subprocess.run([*command, "--offline"], cwd=ROOT, capture_output=True, check=False).returncode:
        run(*command)


def run(*command: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
