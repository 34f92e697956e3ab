"""The template process: it imports libraries once, and forks for each program that a test starts."""

from __future__ import annotations

import _thread
import atexit
import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
import weakref
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from tests.interpreters import entry_points, known_code
from tests.interpreters.command import Command
from tests.interpreters.sibling import fork_sibling

# What programs of tests import most. Programs look for gunicorn, gevent and AnyIO among the modules that are
# loaded, so these are not here, nor what imports them. A template for programs with gevent imports nothing of
# this: gevent patches modules before other modules import from them.
_LIBRARIES = (
    *("argparse", "asyncio", "concurrent.futures.thread", "ctypes", "dataclasses", "decimal"),
    *("email.message", "http.client", "http.server", "inspect", "logging.config", "mmap"),
    *("multiprocessing", "resource", "sqlite3", "ssl", "statistics", "timeit", "unittest.mock"),
    *("urllib.request", "wsgiref.simple_server", "xml.etree.ElementTree"),
    *("flask", "flask.testing", "werkzeug.serving"),
    *("django.core.handlers.wsgi", "django.core.management", "django.test"),
)

# What each program imports itself. gunicorn and prometheus_client, for example, read variables, the working
# directory or the user when they are imported.
_READ_PACKAGES = (
    *("prometheus_client", "web_prom", "flask_prom", "django_prom"),
    *("gunicorn", "uvicorn", "anyio", "starlette"),
)
_READ_FOR_GEVENT = (
    *("prometheus_client", "web_prom", "flask_prom", "django_prom", "gunicorn"),
    *("gevent", "flask", "werkzeug", "jinja2", "click"),
)

# Received descriptors are moved above those that a program asks for.
_FREE_DESCRIPTORS = 500


@dataclass(frozen=True)
class Program:
    """A program that a test starts.

    Attributes:
        words: Its command line.
        command: The command line as understood.
        environ: Its environment.
        folder: Its working directory; None for that of this process.
        new_session: Whether it leads a session of its own.
        descriptors: The numbers of its open files, in the order in which they are received.
    """

    words: list[str]
    command: Command
    environ: dict[str, str]
    folder: str | None
    new_session: bool
    descriptors: list[int]

    def prepare(self, received: list[int]) -> None:
        """Make this process, a fork of the template, what a fresh interpreter would be."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.new_session:
            os.setsid()
        self._open(received)
        if self.folder is not None:
            os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environ)
        time.tzset()  # TZ; Django sets it in the process of the tests
        self._make_streams()
        sys.dont_write_bytecode = not self.command.writes_bytecode or bool(
            self.environ.get("PYTHONDONTWRITEBYTECODE")
        )
        sys.orig_argv[:] = self.words
        sys.path[1:1] = filter(None, self.environ.get("PYTHONPATH", "").split(os.pathsep))
        asked = filter(None, self.environ.get("PYTHONWARNINGS", "").split(","))
        sys.warnoptions[:] = [*asked, *self.command.warnings]
        warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined] # what the start calls

    def run(self) -> None:
        """Run the program as the interpreter would."""
        command = self.command
        sys.modules["__main__"] = main = ModuleType("__main__")
        names = main.__dict__
        names.update(__builtins__=builtins, __annotations__={}, __loader__=BuiltinImporter, __doc__=None)
        if command.kind == "module":
            sys.path[0] = os.getcwd()
            sys.argv[:] = ["-m", *command.arguments]
            runpy._run_module_as_main(command.target)  # type: ignore[attr-defined] # what `python -m` calls
        elif command.kind == "code":
            sys.path[0] = ""
            sys.argv[:] = ["-c", *command.arguments]
            exec(compile(command.target, "<string>", "exec", dont_inherit=True), names)
        else:
            sys.path[0] = str(Path(command.target).resolve().parent)
            sys.argv[:] = [command.target, *command.arguments]
            names["__file__"] = os.path.abspath(command.target)
            names["__cached__"] = None
            source = Path(command.target).read_bytes()
            exec(compile(source, command.target, "exec", dont_inherit=True), names)

    def _make_streams(self) -> None:
        """Make the output streams as the interpreter does. The template's are for another kind of file."""
        unbuffered = self.command.unbuffered or bool(self.environ.get("PYTHONUNBUFFERED"))
        for name in ("stdout", "stderr"):
            old = getattr(sys, name)
            raw = io.FileIO(old.fileno(), "w", closefd=False)
            raw.name = f"<{name}>"
            new = io.TextIOWrapper(
                raw if unbuffered else io.BufferedWriter(raw),
                old.encoding,
                old.errors,
                line_buffering=not unbuffered and (name == "stderr" or raw.isatty()),
                write_through=unbuffered,
            )
            new.mode = "w"  # type: ignore[misc]
            setattr(sys, name, new)
            setattr(sys, f"__{name}__", new)

    def _open(self, received: list[int]) -> None:
        import fcntl

        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FREE_DESCRIPTORS) for each in received]
        for each in received:
            os.close(each)
        for number, descriptor in zip(self.descriptors, moved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def main() -> None:
    """Serve the process that started this one; in a fork run a program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the tests
    connection, for_gevent = socket.socket(fileno=int(sys.argv[1])), bool(sys.argv[2:])
    atexit.register(_keep_modules, loaded := set(sys.modules), [])  # the last function that an exit calls
    if for_gevent:
        entry_points.remember()
    for name in () if for_gevent else _LIBRARIES:
        with contextlib.suppress(ImportError):  # the version matrix has not all of them
            importlib.import_module(name)
    packages = _READ_FOR_GEVENT if for_gevent else _READ_PACKAGES
    assert not set(packages) & sys.modules.keys()
    for name in packages:
        known_code.read(name)
    assert tempfile.tempdir is None
    loaded.symmetric_difference_update(sys.modules)
    count = len(sys.modules)
    gc.collect()
    gc.freeze()
    program = _serve(connection)
    if program is None:
        return
    code = 0
    try:
        program.run()
    except SystemExit as error:
        if for_gevent or (error.code is not None and not isinstance(error.code, int)):
            raise  # the interpreter ends the program, and prints a text
        code = error.code or 0
    except Exception as error:
        error.__traceback__ = _without_template(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    if not for_gevent:
        _end(code, count)
    sys.exit(code)


def _serve(connection: socket.socket) -> Program | None:
    """Return the program in its process, and None in the template once no more is asked."""
    while True:
        header, received, _, _ = socket.recv_fds(connection, 4, 64)
        if not header:
            return None
        length, text = int.from_bytes(header, "big"), b""
        while len(text) < length:
            text += connection.recv(length - len(text))
        told: dict[str, Any] = json.loads(text)
        program = Program(**{**told, "command": Command(**told["command"])})
        pid = fork_sibling()
        if not pid:
            connection.close()
            program.prepare(received)
            return program
        connection.sendall(pid.to_bytes(4, "big"))
        for descriptor in received:
            os.close(descriptor)


def _end(code: int, count: int) -> None:
    """End a program as the interpreter does, except that the modules and objects of the template remain.

    To take these apart, the process would copy most of the memory that it shares with the template. Return if
    the interpreter must end the program: only it can stop threads, and report a broken pipe.

    Args:
        code: The exit code.
        count: The number of modules of the template.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined] # waits for threads that are no daemons
    except BaseException as error:
        print(f"Exception ignored in: {threading!r}", file=sys.stderr)
        sys.excepthook(type(error), error, error.__traceback__)
    if _thread._count():
        return
    atexit.unregister(_keep_modules)
    atexit._run_exitfuncs()
    try:
        _flush()
    except OSError:
        return
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    own = [sys.modules.pop("__main__")]
    while len(sys.modules) >= count:
        own.append(sys.modules.popitem()[1])
    sys.path = sys.meta_path = None  # type: ignore[assignment] # nothing can be imported any more
    remaining = [weakref.ref(module) for module in own if isinstance(module, ModuleType)]
    own.clear()
    gc.collect()
    for reference in remaining:
        module = reference()
        if module is not None:
            vars(module).update(dict.fromkeys(vars(module).keys() - {"__builtins__"}))
    del module
    gc.collect()
    with contextlib.suppress(OSError):
        _flush()
    os._exit(code & 0xFF)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _keep_modules(names: set[str], kept: list[Any]) -> None:
    """Keep the template's modules from the end of an interpreter, which would take their objects apart."""
    kept.append(kept)  # a cycle, which the garbage collector does not visit: it is frozen
    kept += [sys.modules.pop(name) for name in names & sys.modules.keys()]


def _without_template(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that a fresh interpreter would show."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in {__name__, "runpy"}:
        trace = trace.tb_next
    return trace
