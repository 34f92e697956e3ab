"""Redis and memcached as real servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from tests.programs import needs_program
from tests.servers.process import PATIENCE_SECONDS, wait_until


class CacheServer(ABC):
    """A cache server of a test's own, as a context: it answers at the start of the block.

    It listens on a free port of the loopback interface, and keeps its values in memory.

    Attributes:
        host: The address.
        port: The port. It stays the same after `kill` and `start`.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind((self.host, 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> CacheServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    @abstractmethod
    def location(self) -> str:
        """The LOCATION of Django's backends."""

    def start(self) -> None:
        """Start the server, for the first time or after `kill`, and wait until it answers."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command(), stdin=quiet, stdout=quiet, stderr=quiet, cwd="/")
        try:
            wait_until(self._answers, self._command()[0])
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the server at once, with all its connections, as a crash does. Its values are lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _greeting(self) -> tuple[bytes, bytes]:
        """Return a command, and the start of the answer."""

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command()[0]} has ended"
        command, answer = self._greeting()
        try:
            with socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS) as client:
                client.sendall(command)
                return client.recv(100).startswith(answer)
        except ConnectionError:
            return False


class Redis(CacheServer):
    """A Redis server."""

    @property
    def location(self) -> str:
        """The LOCATION of Django's backends."""
        return f"redis://{self.host}:{self.port}"

    def _command(self) -> list[str]:
        program = needs_program("redis-server", package="redis-server")
        return [program, "--bind", self.host, "--port", str(self.port), "--save", "", "--appendonly", "no"]

    def _greeting(self) -> tuple[bytes, bytes]:
        return b"PING\r\n", b"+PONG"


class Memcached(CacheServer):
    """A memcached server. Its largest value has a megabyte, as that of Django's own tests."""

    @property
    def location(self) -> str:
        """The LOCATION of Django's backends."""
        return f"{self.host}:{self.port}"

    def _command(self) -> list[str]:
        program = needs_program("memcached", package="memcached")
        account = ["-u", "nobody"] if os.geteuid() == 0 else []
        return [program, "-l", self.host, "-p", str(self.port), "-U", "0", "-t", "1", *account]

    def _greeting(self) -> tuple[bytes, bytes]:
        return b"version\r\n", b"VERSION"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[CacheServer]:
    """Start a Redis for all tests of a process. A test that ends a server starts one of its own."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[CacheServer]:
    """Start a memcached for all tests of a process. A test that ends a server starts one of its own."""
    with Memcached() as server:
        yield server
