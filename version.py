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
    for name in _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES).split("\0"):
        if (path := ROOT / name).is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def version() -> str:
    """`0.1.0+g<commit>`, with `.d<digest of the sources>` where they differ from the commit.

    A second deploy of the same sources so keeps the wheel's name, and a plan shows no change.
    """
    try:
        changed = _git("status", "--porcelain", "--", *SOURCES)
        commit = _git("rev-parse", "--short=12", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return RELEASE
    return f"{RELEASE}+g{commit.strip()}" + (f".d{_digest()}" if changed else "")
