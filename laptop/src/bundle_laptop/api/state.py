"""What outlives the server: small JSON files in the world's folder `api`, read anew each time, for their owner only."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

from bundle_laptop.api.web import Tree, exists, missing
from bundle_laptop.errors import LaptopError

_T = TypeVar("_T")


class StateFile:
    """A map of `what` by their names, in a JSON file that others may write too."""

    def __init__(self, file: Path, what: str) -> None:
        self._file, self._what, self._lock = file, what, Lock()

    def read(self) -> Tree:
        """The map; empty without a file. Raises LaptopError for what is no map in JSON."""
        return read_json(self._file) if self._file.exists() else {}

    def change(self, change: Callable[[Tree], _T]) -> _T:
        """Apply a change to the map and write it, unless the change raises; what it returns."""
        with self._lock:
            tree = self.read()
            result = change(tree)
            write_atomically(self._file, json.dumps(tree, indent=1))
            return result

    def entry(self, name: str, of: Tree | None = None) -> Tree:
        """One of the map, or of what `read` gave. Raises ApiError if it is not there."""
        found: Tree | None = (self.read() if of is None else of).get(name)
        if found is None:
            raise missing(f"there is no {self._what} {name}")
        return found

    def add(self, name: str, entry: Tree) -> None:
        """Add one. Raises ApiError if it is there."""

        def added(tree: Tree) -> None:
            if name in tree:
                raise exists(f"{self._what} {name} exists already")
            tree[name] = entry

        self.change(added)

    def remove(self, name: str) -> None:
        """Remove one. Raises ApiError if it is not there."""
        self.change(lambda tree: (self.entry(name, tree), tree.pop(name)))


def read_json(file: Path) -> Tree:
    """The map in a file. Raises LaptopError for what is no map in JSON."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LaptopError(f"{file}: invalid JSON ({error}); delete it, then deploy again") from None
    if not isinstance(found, dict):
        raise LaptopError(f"{file}: not a map; delete it, then deploy again")
    return found


def write_atomically(file: Path, text: str) -> None:
    """Whoever reads the file finds the old text or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.write(descriptor, text.encode())
    os.close(descriptor)
    Path(new).replace(file)
