"""The laptop's world of one target: a folder, and the lock that keeps a second run out."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flight_delays.core.errors import UserError

FOLDER = ".local"


def find_root(start: Path) -> Path:
    """The nearest folder, from `start` upwards, with a databricks.yml."""
    for folder in (start, *start.parents):
        if (folder / "databricks.yml").exists():
            return folder
    raise UserError(f"databricks.yml: not found in {start} or above; run this in the project's folder")


def local_dir(root: Path, target: str) -> Path:
    """Tables, MLflow and volumes of one target."""
    return root.resolve() / FOLDER / target


@contextmanager
def locked(root: Path, target: str) -> Iterator[None]:
    """Keep every other run and reset of this target out (POSIX only). Raises UserError if one is under way."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / f"{target}.lock").open("a") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{FOLDER}/{target}: another run or reset of {target} is under way; wait for it"
                ) from None
        yield


def targets(root: Path) -> list[str]:
    """Targets that have a local world."""
    return sorted(path.name for path in (root / FOLDER).glob("*") if path.is_dir())


def reset(root: Path, target: str) -> bool:
    """Delete a target's world; whether there was one."""
    if target not in targets(root):
        return False
    with locked(root, target):
        shutil.rmtree(root / FOLDER / target)
    return True
