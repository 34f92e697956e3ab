"""The pytest process's side of the template: it asks for programs, which become its own child processes."""

from __future__ import annotations

import atexit
import dataclasses
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.interpreters.command import parse
from tests.interpreters.sibling import is_supported

ROOT = Path(__file__).parents[2]

# Python reads these variables at its start. The template applies them to a fork.
_APPLIED = frozenset({"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONWARNINGS"})

# Arguments of subprocess that the template does not know.
_UNSUPPORTED = ("preexec_fn", "shell", "startupinfo", "gid", "gids", "uid", "umask", "process_group")


class Template:
    """A template process of this process, and the socket to it. Safe to use from any thread.

    Args:
        options: More of its command line.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def start(self) -> None:
        """Start the template process, unless programs are to have fresh interpreters."""
        fresh = os.environ.get("FRESH_INTERPRETERS") or os.environ.get("COVERAGE_PROCESS_START")
        if self._process is not None or not is_supported() or fresh:
            return
        self._socket, theirs = socket.socketpair()
        with theirs:
            code = "from tests.interpreters.template import main; main()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno()), *self._options],
                cwd=ROOT,
                env=_plain_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._owner = os.getpid()
        atexit.register(self._end)

    @property
    def pid(self) -> int | None:
        """The id of the template process, if it is a child of this process."""
        return self._process.pid if self.is_running() and self._process is not None else None

    def is_running(self) -> bool:
        """Return whether this process, not a parent of it, has started the template process."""
        return self._owner == os.getpid()

    def fork(self, request: dict[str, Any], descriptors: Mapping[int, int]) -> int:
        """Start a program and return its process id. It is a child of this process.

        Args:
            request: The program, see :class:`tests.interpreters.template.Program`.
            descriptors: The program's open files: their numbers there and here.

        Raises:
            RuntimeError: The template process has ended.
        """
        request = {**request, "descriptors": list(descriptors)}
        text = json.dumps(request).encode()
        with self._lock:
            self.start()
            header = len(text).to_bytes(4, "big")
            socket.send_fds(self._socket, [header], list(descriptors.values()))
            self._socket.sendall(text)
            answer = self._socket.recv(4)
        if len(answer) != 4:
            raise RuntimeError("the template process has ended; its error is in the output of pytest")
        return int.from_bytes(answer, "big")

    def _end(self) -> None:
        if self.is_running() and self._process is not None:
            self._socket.close()
            self._process.wait()


template = Template()

# It starts with its first program.
_gevent_template = Template("gevent")


class Popen(subprocess.Popen[Any]):
    """``subprocess.Popen`` whose programs in Python are forks of a template, where that is the same."""

    def _execute_child(self, *arguments: Any) -> None:
        execute: Any = super()._execute_child  # type: ignore[misc] # typeshed does not name it
        given = inspect.signature(execute).bind(*arguments).arguments
        request = _request(given)
        if _is_python(given["args"]):
            started["fresh interpreters" if request is None else "forks"] += 1
        if request is None:
            execute(*arguments)
            return
        ends = (given["p2cread"], given["c2pwrite"], given["errwrite"])
        descriptors = {number: number if end == -1 else end for number, end in enumerate(ends)}
        descriptors.update((descriptor, descriptor) for descriptor in given["pass_fds"])
        uses_gevent = _uses_gevent(request["words"], request["environ"])
        self.pid = (_gevent_template if uses_gevent else template).fork(request, descriptors)
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined] # ends of both processes
            *(given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )


def run(
    command: Any,
    *,
    input: str | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program as ``subprocess.run`` does, with :class:`Popen`. Its output is text."""
    options["text"] = True
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done


started: Counter[str] = Counter()
"""The number of programs in Python that :class:`Popen` has started, by how it did."""


def template_pids() -> set[int | None]:
    """Return the ids of the template processes. They remain until this process ends."""
    return {template.pid, _gevent_template.pid}


def _request(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the template is asked for, or None if a fresh interpreter is to run the program."""
    if not template.is_running() or not _is_python(given["args"]):
        return None
    words = [os.fsdecode(word) for word in given["args"]]
    command = parse(words[1:])
    unsupported = not all(_is_default(given.get(name)) for name in _UNSUPPORTED)
    environ = {**(os.environ if given["env"] is None else given["env"])}
    if command is None or unsupported or _starts_differently(environ):
        return None
    return {
        "words": words,
        "command": dataclasses.asdict(command),
        "environ": environ,
        "folder": None if given["cwd"] is None else os.fsdecode(given["cwd"]),
        "new_session": bool(given["start_new_session"]),
    }


def _is_python(words: object) -> bool:
    return isinstance(words, (list, tuple)) and bool(words) and os.fsdecode(words[0]) == sys.executable


def _is_default(value: object) -> bool:
    return value is None or value is False or value == -1


def _starts_differently(environ: Mapping[str, str]) -> bool:
    """Return whether the interpreter reads a variable before a fork of the template can set it."""
    plain = _plain_environment()
    names = {name for name in {*environ, *plain} if name.startswith("PYTHON")}
    return any(environ.get(name) != plain.get(name) for name in names - _APPLIED)


def _uses_gevent(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether gevent patches modules in a program. Other modules must import from them later."""
    return any("gevent" in text for text in (*words, *environ.values()))


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _APPLIED}
