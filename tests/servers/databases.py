"""PostgreSQL and MariaDB as real servers."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.programs import needs_program
from tests.servers.process import PATIENCE_SECONDS, wait_until


class DatabaseServer(ABC):
    """A database server of a test's own, as a context: it accepts connections at the start of the block.

    It listens on a free port of the loopback interface and on a UNIX socket in its temporary folder. Its data
    is not written to the disk in time, so it is lost after a crash of the machine, but not of the server.
    No password is needed.

    Attributes:
        host: The address.
        port: The port. It stays the same after `kill` and `start`.
        user: The name of the administrator.
        database: The name of an empty database.
        folder: The temporary folder with the UNIX socket.
    """

    account: ClassVar[str]
    engine: ClassVar[str]
    host = "127.0.0.1"
    user = "tester"
    database = "shop"

    def __init__(self) -> None:
        self._kept = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.folder = Path()

    def __enter__(self) -> DatabaseServer:
        folder = self._kept.enter_context(tempfile.TemporaryDirectory(prefix="web-prom-db-"))
        self.folder = Path(folder)
        self.folder.chmod(0o711)
        try:
            (self.folder / "data").mkdir(mode=0o700)
            if os.geteuid() == 0:
                account = pwd.getpwnam(self.account)
                for path in (self.folder, self.folder / "data"):
                    os.chown(path, account.pw_uid, account.pw_gid)
            self._run(self._install())
            self.port = _free_port()
            self.start()
            self._create_database()
        except BaseException:
            self.kill()
            self._kept.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._kept.close()

    def start(self) -> None:
        """Start the server, for the first time or after `kill`, and wait until it accepts connections."""
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._as_account(self._serve()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
            )

        def shown() -> str:
            return log.read_text("utf-8", "replace")

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, shown()
            return self._answers()

        wait_until(answers, f"{self._serve()[0]} to accept connections", shown=shown)

    def kill(self) -> None:
        """End the server at once, with all its connections, as a crash does. Its data stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if self.account == "postgres" else signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def django(self, **more: Any) -> dict[str, Any]:
        """Return an entry of Django's DATABASES.

        Args:
            more: Further keys, for example OPTIONS.
        """
        return {
            "ENGINE": f"django.db.backends.{self.engine}",
            "HOST": self.host,
            "PORT": str(self.port),
            "USER": self.user,
            "PASSWORD": "",
            "NAME": self.database,
            **more,
        }

    def url(self, driver: str) -> str:
        """Return the URL of the database for SQLAlchemy.

        Args:
            driver: The name of SQLAlchemy's dialect and driver, for example "postgresql+psycopg".
        """
        return f"{driver}://{self.user}@{self.host}:{self.port}/{self.database}"

    @abstractmethod
    def _install(self) -> list[str]:
        """Return the command that creates the data directory."""

    @abstractmethod
    def _serve(self) -> list[str]:
        """Return the command that serves."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether a client can log in."""

    @abstractmethod
    def _create_database(self) -> None:
        """Create the administrator and the database."""

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            self._as_account(command), capture_output=True, text=True, cwd="/", check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _as_account(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs as a user without privileges, and ends with this process."""
        setpriv = [needs_program("setpriv", package="util-linux"), "--pdeathsig", "QUIT"]
        if os.geteuid() == 0:
            setpriv += ["--reuid", self.account, "--regid", self.account, "--clear-groups"]
        return [*setpriv, *command]


class PostgreSQL(DatabaseServer):
    """A PostgreSQL server."""

    account = "postgres"
    engine = "postgresql"

    def _install(self) -> list[str]:
        options = ["--no-sync", "--auth=trust", f"--username={self.user}", "--locale=C.UTF-8"]
        return [self._program("initdb"), f"--pgdata={self.folder / 'data'}", *options]

    def _serve(self) -> list[str]:
        options = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "timezone": "UTC",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "autovacuum": "off",
            "max_connections": "50",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self.folder / "data"), *settings]

    def _answers(self) -> bool:
        command = [self._program("pg_isready"), "--quiet", f"--host={self.host}", f"--port={self.port}"]
        return subprocess.run(command, check=False, timeout=60).returncode == 0

    def _create_database(self) -> None:
        where = [f"--host={self.host}", f"--port={self.port}", f"--username={self.user}"]
        self._run([self._program("createdb"), *where, self.database])

    @staticmethod
    def _program(name: str) -> str:
        """Return the path of a program of the newest PostgreSQL. Debian keeps most of them out of PATH."""
        folders = glob.glob("/usr/lib/postgresql/*/bin")
        for folder in sorted(folders, key=lambda path: int(path.split("/")[-2]), reverse=True):
            if Path(folder, "initdb").exists():
                return str(Path(folder, name))
        return needs_program(name, package="postgresql")


class MariaDB(DatabaseServer):
    """A MariaDB server."""

    account = "mysql"
    engine = "mysql"

    def _install(self) -> list[str]:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        program = needs_program("mariadb-install-db", package="mariadb-server")
        return [program, "--no-defaults", f"--datadir={self.folder / 'data'}", *options]

    def _serve(self) -> list[str]:
        options = {
            "datadir": self.folder / "data",
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "bind-address": self.host,
            "port": self.port,
            "innodb-flush-log-at-trx-commit": 2,
            "innodb-buffer-pool-size": "16M",
            "skip-name-resolve": "ON",
            "skip-log-bin": "ON",
            "character-set-server": "utf8mb4",
        }
        program = needs_program("mariadbd", package="mariadb-server")
        return [program, "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]

    def _answers(self) -> bool:
        return self._client("SELECT 1").returncode == 0

    def _create_database(self) -> None:
        # A user without a host would not match the anonymous user of localhost.
        done = self._client(
            f"CREATE DATABASE {self.database}; CREATE USER {self.user}@'127.0.0.1';"
            f"GRANT ALL ON *.* TO {self.user}@'127.0.0.1' WITH GRANT OPTION"
        )
        assert done.returncode == 0, done.stderr

    def _client(self, sql: str) -> subprocess.CompletedProcess[str]:
        program = needs_program("mariadb", package="mariadb-client")
        command = [program, "--no-defaults", "--user=root", f"--socket={self.folder / 'socket'}", "-e", sql]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[DatabaseServer]:
    """Start a PostgreSQL for all tests of a process. A test that ends a server starts one of its own."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    """Start a MariaDB for all tests of a process. A test that ends a server starts one of its own."""
    with MariaDB() as server:
        yield server


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
