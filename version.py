"""The wheel's version: one commit, one version; uncommitted changes get one of their own."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RELEASE = "0.1.0"
SOURCES = ("src", "pyproject.toml", "version.py", "README.md")


def _git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True, text=True).stdout  # noqa: S607


def _digest() -> str:
    digest = hashlib.sha256()
    files = [path for name in SOURCES for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_file()]
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        name = path.relative_to(ROOT).as_posix()
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def uncommitted() -> str:
    """`+dirty.<digest of the sources>` where they differ from the commit, or there is no git to say so; else empty."""
    try:
        changed = _git("status", "--porcelain", "--", *SOURCES)
    except (OSError, subprocess.CalledProcessError):
        changed = "unknown"
    return f"+dirty.{_digest()}" if changed else ""


def version() -> str:
    """`0.1.0+g<commit>`, and `.d<digest of the sources>` where they differ; `0.1.0+d<digest>` where there is no git.

    A second deploy of the same sources so keeps the wheel's name, and a plan shows no change.
    """
    try:
        commit = "g" + _git("rev-parse", "--short=12", "HEAD").strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    changed = uncommitted().replace("+dirty.", "d")
    return f"{RELEASE}+" + ".".join(filter(None, (commit, changed)))
