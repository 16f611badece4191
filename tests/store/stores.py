"""Both kinds of online store, to be filled, stopped, started and held up."""

import os
import signal
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from flight_delays.platform.online_table import ONLINE_TABLE
from flight_delays.use_case import USE_CASE

LOOKED_UP = USE_CASE.looked_up

Flights = Mapping[str, Mapping[str, float]]
"""What is known of each entity_id; the rest of LOOKED_UP is null."""

PASSWORD = "s3cret"  # noqa: S105


class Store(ABC):
    """One online store."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What ONLINE_STORE names it by."""

    def fill(self, flights: Flights) -> None:
        """Hold these flights, and only these, in a table that is made anew."""
        rows = [(key, *(known.get(name) for name in LOOKED_UP)) for key, known in flights.items()]
        columns = ", ".join(f"{name} DOUBLE PRECISION" for name in LOOKED_UP)
        self.write(f"DROP TABLE IF EXISTS {ONLINE_TABLE}", f"CREATE TABLE {ONLINE_TABLE} (entity_id TEXT, {columns})")
        self.insert(rows)

    @abstractmethod
    def write(self, *statements: str) -> None:
        """Run and commit."""

    @abstractmethod
    def insert(self, rows: list[tuple[str | float | None, ...]]) -> None:
        """Add rows to the table."""

    @abstractmethod
    def stop(self) -> None:
        """Be down."""

    @abstractmethod
    def start(self) -> None:
        """Be up; nothing if it is."""

    @abstractmethod
    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody gets an answer meanwhile."""


@dataclass(frozen=True)
class Sqlite(Store):
    """A file."""

    file: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    @property
    def _away(self) -> Path:
        return self.file.with_name("away")

    def write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def insert(self, rows: list[tuple[str | float | None, ...]]) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            places = ", ".join("?" * (1 + len(LOOKED_UP)))
            connection.executemany(f"INSERT INTO {ONLINE_TABLE} VALUES ({places})", rows)

    def stop(self) -> None:
        self.file.rename(self._away)

    def start(self) -> None:
        if self._away.exists():
            self._away.rename(self.file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield


@dataclass(frozen=True)
class Postgresql(Store):
    """A server of its own, reached over a socket in `folder` with a password; not as root, which it refuses."""

    programs: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@/postgres?host={self.folder}"

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "nobody", str(self.folder)], check=True)
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        self._run("initdb", *options, "--encoding=UTF8", "--locale=C", "--no-sync")

    def write(self, *statements: str) -> None:
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                connection.execute(statement)

    def insert(self, rows: list[tuple[str | float | None, ...]]) -> None:
        with psycopg.connect(self.url) as connection:
            places = ", ".join(["%s"] * (1 + len(LOOKED_UP)))
            connection.cursor().executemany(f"INSERT INTO {ONLINE_TABLE} VALUES ({places})", rows)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--mode=fast", "--wait")

    def start(self) -> None:
        if not self._pid_file.exists():
            settings = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
            log = f"--log={self.folder / 'log'}"
            self._run("pg_ctl", "start", "--wait", log, f"--options={settings}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.url) as connection:
            connection.execute(f"LOCK TABLE {ONLINE_TABLE} IN ACCESS EXCLUSIVE MODE")
            yield

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes what is sent and does nothing, as a machine that swaps or a proxy that is stuck."""
        server = int(self._pid_file.read_text().split()[0])
        frozen = [server]
        try:
            os.kill(server, signal.SIGSTOP)  # first: from now on none of its children is born, or gone for good
            for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
                frozen.append(int(child))
                os.kill(frozen[-1], signal.SIGSTOP)
            yield
        finally:
            for process in frozen:
                os.kill(process, signal.SIGCONT)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "data" / "postmaster.pid"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments, f"--pgdata={self.folder / 'data'}"]
        done = subprocess.run(
            command,
            user="nobody" if os.geteuid() == 0 else None,
            cwd=self.folder,
            stdout=(self.folder / "printed").open("w"),  # not a pipe, which the server would keep open
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {(self.folder / 'printed').read_text()}")
