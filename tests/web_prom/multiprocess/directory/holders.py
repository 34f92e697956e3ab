"""Processes that hold slots, and programs that use the slots of a directory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from tests import interpreters
from tests.web_prom.support import ROOT, python

HELPERS = """
import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from web_prom.multiprocess.directory.slots import slots_of

path = Path(sys.argv[1])
slots = slots_of(path)

def in_child(function, fork=os.fork):
    \"\"\"Call a function in a fork and return its result as text.\"\"\"
    reading, writing = os.pipe()
    pid = fork()
    if not pid:
        try:
            os.write(writing, str(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading) as result:
        return result.read()

def bare_fork():
    \"\"\"Fork as uWSGI does, without Python's at-fork hooks.\"\"\"
    return ctypes.PyDLL(None).fork()

def second_interpreter():
    \"\"\"Return the slots of another interpreter, simulated by importing all modules again.\"\"\"
    for name in [name for name in sys.modules if name.startswith("web_prom")]:
        del sys.modules[name]
    from web_prom.multiprocess.directory.slots import slots_of
    return slots_of(path)
"""


def program(code: str, path: Path, *arguments: str, **environ: str) -> list[str]:
    """Run code with the helpers and the directory's slots in a process; return the lines it printed."""
    return python(HELPERS + textwrap.dedent(code), str(path), *arguments, **environ).splitlines()


class Holder:
    """A process that holds a slot until it is killed, or asked to end."""

    def __init__(self, path: Path) -> None:
        code = "import sys; from web_prom.multiprocess.directory.slots import slots_of\n"
        code += "print(slots_of(sys.argv[1]).acquire(), flush=True); sys.stdin.read()"
        self.process = interpreters.Popen(
            [sys.executable, "-c", code, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.slot = int(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.communicate("")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


Hold = Callable[..., Holder]
