"""What the tests of the core share: reading samples, small WSGI applications, and fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from prometheus_client import CollectorRegistry

from tests import interpreters

if TYPE_CHECKING:  # fresh interpreters import this module too
    import pytest

ROOT = Path(__file__).resolve().parents[2]

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Waits:
    """Tells how many threads wait for a single flight that another one leads, or will lead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._start_key = begun = threading.Semaphore(0)

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                begun.release()
                return super().wait(timeout)

        watched = SimpleNamespace(Lock=threading.Lock, get_ident=threading.get_ident, Event=Event)
        monkeypatch.setattr("web_prom.exposition.single_flight.threading", watched)

    def wait_for(self, count: int) -> None:
        """Wait until so many more wait."""
        for _ in range(count):
            assert self._start_key.acquire(timeout=60)


class Server:
    """The server's side of one WSGI request: it keeps what ``start_response`` and ``write`` were given."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.sent: list[bytes] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """Begin a response as PEP 3333 says: again only with ``exc_info``, and not after the first bytes."""
        if exc_info is not None and self.sent:
            raise exc_info[1]
        if exc_info is None and self.status is not None:
            raise AssertionError("start_response was called twice without exc_info")
        self.status, self.headers = status, headers
        return self.sent.append

    def run(self, app: App, environ: Environ, *, stop_after: int | None = None) -> bytes:
        """Serve one request, closing the body as a server does; optionally hang up after some chunks."""
        body = app(environ, self.start_response)
        try:
            for number, chunk in enumerate(body, 1):
                self.sent.append(chunk)
                if number == stop_after:
                    break
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        return b"".join(self.sent)


def environ_of(path: Any = "/", method: Any = "GET", **more: Any) -> Environ:
    """Return the WSGI environ of a request, of which more is as given."""
    environ: Environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": ""}
    environ.update(more)
    setup_testing_defaults(environ)
    return environ


def serve(app: App, path: Any = "/", method: Any = "GET", **more: Any) -> bytes:
    """Serve one request and return the body."""
    return Server().run(app, environ_of(path, method, **more))


def hello(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer as the simplest application does."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def samples(registry: Any, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of all samples of a name, by the values of some labels."""
    found: dict[tuple[str, ...], float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == name:
                key = tuple(sample.labels[label] for label in labels)
                assert key not in found, f"{name} has two samples for {key}"
                found[key] = sample.value
    return found


def requests(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return ``http_requests_total`` by method, route and status."""
    return samples(registry, "http_requests_total", "method", "route", "status")


def exceptions(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return ``http_request_exceptions_total`` by route and exception."""
    return samples(registry, "http_request_exceptions_total", "route", "exception")


def errors(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return ``web_prom_instrumentation_errors_total`` by stage."""
    return samples(registry, "web_prom_instrumentation_errors_total", "stage")


def in_progress(registry: CollectorRegistry) -> float | None:
    """Return ``http_requests_in_progress``."""
    return registry.get_sample_value("http_requests_in_progress")


def seconds(registry: CollectorRegistry, name: str = "http_request_duration_seconds") -> float:
    """Return the sum of one histogram over all its label sets."""
    return sum(samples(registry, f"{name}_sum", "route").values())


def open_descriptors() -> set[tuple[str, int, int]]:
    """Return the open descriptors of this process: number, device and inode.

    Compare them with ``<=``, not by their number. The garbage collector closes files of earlier tests.
    """
    found = set()
    for number in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(number))
        except OSError:  # that of the folder
            continue
        found.add((number, status.st_dev, status.st_ino))
    return found


def python(code: str, *arguments: str, **environ: str) -> str:
    """Run code in a process of its own and return what it printed; it must exit with 0.

    Modules of other libraries may be loaded already, see :mod:`tests.interpreters`.

    Args:
        code: The program; it may be indented.
        *arguments: ``sys.argv[1:]``.
        **environ: Environment variables, beside those of this process that concern neither us nor
            prometheus_client.
    """
    return _output(interpreters.run, code, arguments, environ)


def fresh_python(code: str, *arguments: str, **environ: str) -> str:
    """Run code as :func:`python` does, in a fresh interpreter, which has loaded nothing."""
    return _output(subprocess.run, code, arguments, environ)


def _output(
    run: Callable[..., subprocess.CompletedProcess[str]],
    code: str,
    arguments: tuple[str, ...],
    environ: dict[str, str],
) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PROM")}
    # Flask 2.3's test client asks for this attribute of Werkzeug.
    warnings = ("-W", "error", "-W", "ignore:The '__version__' attribute:DeprecationWarning")
    done = run(
        [sys.executable, "-B", *warnings, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
