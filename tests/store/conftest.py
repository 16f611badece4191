"""An online store of each kind: a sqlite file, and PostgreSQL as Debian packages it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.stores import Postgresql, Sqlite, Store


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """A running server, made for this session; skips where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    # Not in pytest's folder: that is root's alone, and its name is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    server = Postgresql(found[-1].parent, folder)
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgresql(postgresql_server: Postgresql) -> Postgresql:
    """The server, up and without a table."""
    postgresql_server.start()
    postgresql_server.write("DROP TABLE IF EXISTS features_online, predictions_online")
    return postgresql_server


@pytest.fixture
def sqlite(tmp_path: Path) -> Sqlite:
    """A file that is yet to be made, with a name that a URL would have to quote."""
    return Sqlite(tmp_path / "online #1 100%?.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    """One of the two."""
    made: Store = request.getfixturevalue(request.param)
    return made
