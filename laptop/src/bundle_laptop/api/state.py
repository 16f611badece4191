"""What outlives the server: small JSON files in the world's folder `api`, read anew each time."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar
from uuid import uuid4

from bundle_laptop.api.web import Tree, exists, missing
from bundle_laptop.errors import LaptopError

_T = TypeVar("_T")


class StateFile:
    """A map of `what` by their names, in a JSON file that others may write too; if `private`, for its owner only."""

    def __init__(self, file: Path, what: str, *, private: bool = False) -> None:
        self.file, self._what, self._mode, self._lock = file, what, 0o600 if private else 0o644, Lock()

    def read(self) -> Tree:
        """The map; empty without a file. Raises LaptopError for what is no map in JSON."""
        return read_json(self.file) if self.file.exists() else {}

    def change(self, change: Callable[[Tree], _T]) -> _T:
        """Apply a change to the map and write it, unless the change raises; what it returns."""
        with self._lock:
            tree = self.read()
            result = change(tree)
            write_atomically(self.file, json.dumps(tree, indent=1), mode=self._mode)
            return result

    def entry(self, name: str, of: Tree | None = None) -> Tree:
        """One of the map, or of what `read` gave. Raises ApiError if it is not there."""
        found: Tree | None = (self.read() if of is None else of).get(name)
        if found is None:
            raise missing(f"there is no {self._what} {name}")
        return found

    def add(self, name: str, entry: Tree) -> Tree:
        """Add one. Raises ApiError if it is there."""

        def added(tree: Tree) -> Tree:
            if name in tree:
                raise exists(f"{self._what} {name} exists already")
            tree[name] = entry
            return entry

        return self.change(added)

    def remove(self, name: str) -> None:
        """Remove one. Raises ApiError if it is not there."""
        self.change(lambda tree: (self.entry(name, tree), tree.pop(name)))


def read_json(file: Path) -> Tree:
    """The map in a file. Raises LaptopError for what is no map in JSON."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LaptopError(f"{file}: not JSON ({error}); delete it, then deploy again") from None
    if not isinstance(found, dict):
        raise LaptopError(f"{file}: not a map; delete it, then deploy again")
    return found


def write_atomically(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Whoever reads the file finds the old text or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}-{uuid4().hex}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as opened:
            opened.write(text)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def running_address(folder: Path) -> str | None:
    """The address at which the world in `folder` is served now, if it is; a killed server has left its file."""
    file = address_file(folder)
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    try:
        socket.create_connection(("127.0.0.1", int(found.rpartition(":")[2])), timeout=1).close()
    except (ValueError, OSError):
        return None
    return found


def address_file(folder: Path) -> Path:
    """Holds the address while the world is served."""
    return folder / "api" / "address"
