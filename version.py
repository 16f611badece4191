"""The wheel's version: one commit, one version; uncommitted changes get one of their own."""

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RELEASE = "0.1.0"


def _git(*args: str) -> str:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()  # noqa: S603, S607


def version() -> str:
    """`0.1.0+g<commit>`, with `.d<digest of the sources>` where they differ from the commit.

    A second deploy of the same sources so keeps the wheel's name, and a plan shows no change.
    """
    try:
        local = f"g{_git('rev-parse', '--short=12', 'HEAD')}"
        changed = _git("status", "--porcelain", "--", "src", "pyproject.toml")
    except (OSError, subprocess.CalledProcessError):
        return RELEASE
    if changed:
        sources = sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".sql"})
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, ROOT / "pyproject.toml"]))
        local += f".d{digest.hexdigest()[:12]}"
    return f"{RELEASE}+{local}"
