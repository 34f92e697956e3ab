"""What the tests of a process's storage share: programs, the contents of files, a second process."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

from tests.web_prom.support import python
from web_prom.multiprocess.writing import current_storage
from web_prom.multiprocess.writing.process_files import ProcessStorage
from web_prom.multiprocess.writing.shared_value import SharedValue

PRELUDE = """
import ctypes, json, multiprocessing, os, signal, subprocess, sys, threading, types
from pathlib import Path
import web_prom.multiprocess.writing.fork_guard
if os.environ.get("OLD_KERNEL"):
    web_prom.multiprocess.writing.fork_guard._MADV_WIPEONFORK = -1
if os.environ.get("FORK") == "bare_fork":
    # As in the master of uWSGI there is no watch: a thread that waits for the interpreter at the moment of
    # the fork leaves the interpreter's lock in a state in which the fork hangs.
    sys.modules["uwsgi"] = types.ModuleType("uwsgi")
    sys.modules["uwsgi"].worker_id = lambda: 0
directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from web_prom.multiprocess.writing import current_storage, process_files, watch_thread
from web_prom.multiprocess.directory.slots import slots_of
from web_prom.multiprocess.writing.activation import share_values
share_values()

def in_child(work, fork=os.fork, wait=True):
    pid = fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    if wait:
        assert os.waitpid(pid, 0)[1] == 0
    return pid

def bare_fork():
    "Fork as uWSGI does: no hook of Python's runs, and no watch runs in the process that forks."
    # Python waits for ever in a fork without hooks for another thread that just wanted to run.
    watch_thread._pause()
    pid = ctypes.PyDLL(None).fork()
    if pid:
        watch_thread._resume()
    return pid

def total(name="c_total"):
    return sum(
        sample.value
        for family in MultiProcessCollector.merge([str(path) for path in Path(directory).glob("*.db")])
        for sample in family.samples
        if sample.name == name
    )

def slots():
    return sorted({path.stem.rpartition("_")[2] for path in Path(directory).glob("*.db")})
"""


def run(code: str, path: Path, *arguments: str, **environ: str) -> list[str]:
    """Run code after the prelude, in a process that shares its values; return the words that it printed."""
    code = PRELUDE + textwrap.dedent(code)
    return python(code, *arguments, PROMETHEUS_MULTIPROC_DIR=str(path), **environ).split()


def contents(path: Path) -> dict[str, tuple[float, float]]:
    """Return value and timestamp by the sample's name."""
    read: Any = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key.split('"')[3]: (value, timestamp) for key, value, timestamp, _ in read}


def counter(name: str = "c") -> SharedValue:
    return SharedValue("counter", name, f"{name}_total", (), (), "Help.")


def successor() -> ProcessStorage:
    """End this process's hold on its files, and have it be another process with the same slot."""
    current_storage.process_storage().close()
    current_storage._last = ProcessStorage()
    return current_storage._last
