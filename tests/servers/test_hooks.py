"""web_prom.gunicorn: its hooks, called by gunicorn and by hand."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.servers.hooks import IMPORTED, check_all_workers_are_counted
from tests.servers.process import FLASK_APP, HOOKS, ROOT, Gunicorn, Scratch, run, wait_until

pytestmark = pytest.mark.packages


def test_hooks_module_imports_no_server_and_no_client(place: Scratch) -> None:
    """A gevent worker patches modules later that prometheus_client would import now."""
    code = """
import json, sys
import web_prom.gunicorn
print(json.dumps(sorted(sys.modules)))
"""
    # A fork of the template would have other modules.
    told = subprocess.run(
        [sys.executable, "-c", code], env=place.environ, capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    modules = set(json.loads(told.stdout))
    assert not modules & {"gunicorn", "prometheus_client", "ssl", "http.client", "asyncio", "socket"}


def test_hooks_module_defines_only_settings_that_it_exports(place: Scratch) -> None:
    """Gunicorn reads each module-level name that equals a setting."""
    code = """
import json
import web_prom.gunicorn
from gunicorn.config import KNOWN_SETTINGS
print(json.dumps([item.name for item in KNOWN_SETTINGS if hasattr(web_prom.gunicorn, item.name)]))
print(json.dumps(web_prom.gunicorn.__all__))
"""
    told = run(place, [sys.executable, "-c", code])
    taken, meant = map(json.loads, told.stdout.splitlines())
    assert sorted(taken) == sorted(meant)


def test_hooks_work_in_a_configuration_file_that_imports_them(place: Scratch) -> None:
    """The file wraps one hook and defines another one itself."""
    config = place.configuration(
        IMPORTED
        + """
from web_prom import gunicorn as metrics

def child_exit(server, worker):
    metrics.child_exit(server, worker)
    print("my own child_exit", flush=True)

def when_ready(server):
    print("my own when_ready", flush=True)
"""
    )
    with Gunicorn(place, "--max-requests=10", config=config) as server:
        check_all_workers_are_counted(server)
        wait_until(lambda: "my own child_exit" in server.log(), "the wrapped hook")
        assert "my own when_ready" in server.log()


def test_hooks_work_with_the_example_configuration(place: Scratch) -> None:
    """The file is unchanged; the command line sets the port."""
    with Gunicorn(place, config=ROOT / "gunicorn.conf.py", worker_class="gthread") as server:
        check_all_workers_are_counted(server)


def test_on_exit_removes_live_gauges_of_unreaped_workers(place: Scratch) -> None:
    """Gunicorn may end before it reaps the workers that it killed at the end."""
    code = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from web_prom import gunicorn

shared = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
for name in "gauge_livesum_7.db", "gauge_livesum_8.db", "counter_7.db":
    (shared / name).touch()
gunicorn.on_exit(SimpleNamespace(WORKERS={7: SimpleNamespace(pid=7)}))
print(shared.name, *sorted(os.listdir(shared) if shared.exists() else []))
"""
    named = run(place, [sys.executable, "-c", code], PROMETHEUS_MULTIPROC_DIR=str(place.folder / "named"))
    assert named.stdout.split() == ["named", "counter_7.db", "gauge_livesum_8.db"]
    private = run(place, [sys.executable, "-c", code])
    assert re.fullmatch(r"web_prom-private-\w+\n", private.stdout), "it was removed"


WORKERS_WITH_SLOTS = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from web_prom import gunicorn
from web_prom.multiprocess.directory.slots import slots_of

shared = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
slots = slots_of(shared)
worker = SimpleNamespace(pid=0)
server = SimpleNamespace(WORKERS={}, log=SimpleNamespace(warning=lambda *told: print("warning:", *told)))

def hold():
    # A worker that holds a slot until it is killed, or this process has ended.
    reading, writing = os.pipe()
    until, end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end)
        os.write(writing, bytes([slots.acquire()]))
        os.read(until, 1)
        os._exit(0)
    slot = os.read(reading, 1)[0]
    for mode in "livesum", "liveall", "all":
        (shared / f"gauge_{mode}_s{slot}.db").touch()
    return pid

def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def live():
    return sorted(path.name[6:-3] for path in shared.glob("gauge_live*"))
"""


def run_hooks(place: Scratch, code: str) -> list[str]:
    """Run code that calls the hooks by hand, with workers that hold slots, and return what it printed."""
    told = run(place, [sys.executable, "-c", WORKERS_WITH_SLOTS + code])
    assert told.stderr == ""
    return told.stdout.splitlines()


def test_child_exit_removes_live_gauges_of_the_dead_workers_slot(place: Scratch) -> None:
    """The gauges of other workers and gauges of other modes stay."""
    code = """
worker.pid, lives = hold(), hold()
kill(worker.pid)
gunicorn.child_exit(server, worker)
print(*sorted(path.name for path in shared.glob("*.db")))
kill(lives)
"""
    kept = "gauge_all_s0.db gauge_all_s1.db gauge_liveall_s1.db gauge_livesum_s1.db"
    assert run_hooks(place, code) == [kept]


def test_late_child_exit_keeps_live_gauges_of_the_slots_new_holder(place: Scratch) -> None:
    """The next worker can take the slot before gunicorn reaps the dead one."""
    code = """
worker.pid = hold()
kill(worker.pid)
successor = hold()
gunicorn.child_exit(server, worker)
print(*live())
# Between locking the slot and writing that down:
with open(shared / "slots.lock", "r+b") as file:
    file.write(worker.pid.to_bytes(8, sys.byteorder))
gunicorn.child_exit(server, worker)
print(*live(), slots.find_by_pid(worker.pid))
kill(successor)
"""
    assert run_hooks(place, code) == ["liveall_s0 livesum_s0", "liveall_s0 livesum_s0 [0]"]


def test_on_exit_removes_live_gauges_of_dead_holders_only(place: Scratch) -> None:
    """A worker that is alive keeps its gauges."""
    code = """
dead, lives = hold(), hold()
kill(dead)
server.WORKERS = {pid: SimpleNamespace(pid=pid) for pid in (dead, lives)}
gunicorn.on_exit(server)
print(*live())
kill(lives)
"""
    named = run(
        place,
        [sys.executable, "-c", WORKERS_WITH_SLOTS + code],
        PROMETHEUS_MULTIPROC_DIR=str(place.folder / "named"),
    )
    assert named.stdout.split() == ["liveall_s1", "livesum_s1"]


@pytest.mark.parametrize(
    ("before", "begins"),
    [
        ("", "slots.acquire()"),
        ("slot = slots.acquire()", "slots.skip(slot)"),
        ("", "slots.holders()"),
        ("", "clean()"),
    ],
)
def test_child_exit_never_waits_in_a_signal_handler(place: Scratch, before: str, begins: str) -> None:
    """Older gunicorn calls it in a handler: the interrupted code continues only after the handler returns.

    The signal arrives at each line of the code once, on each path of calls that leads to the line.
    """
    code = f"""
import prometheus_client.multiprocess
from web_prom.multiprocess.directory import lockfile, process_states, slot_file, slots as module

files = {{each.__file__ for each in (lockfile, process_states, slot_file, module)}}
signal.signal(signal.SIGUSR1, lambda *_: gunicorn.child_exit(server, worker))

def clean():
    with slots.exclusive() as alone:
        assert not alone

def position(frame):
    lines = []
    while frame.f_code.co_filename in files:
        lines.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)

seen = set()

def trace(frame, event, argument):
    if frame.f_code.co_filename not in files:
        return None
    if event == "line":
        seen.add(position(frame))
        if len(seen) > steps:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)
            return None
    return trace

dead, lives = hold(), hold()
kill(dead)
steps = 0
while True:
    reading, writing = os.pipe()
    until, end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(end)
        worker.pid = os.getpid()  # the worst case: what is being taken seems to be a dead worker's
        signal.alarm(20)  # there is no other way out if it waits for ever
        {before}
        sys.settrace(trace)
        {begins}
        sys.settrace(None)
        os.write(writing, bytes([slots.acquire(), len(seen) > steps]))
        os.read(until, 1)
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 2)
    holder = slots.holders().get(told[0]) if told else None
    slots.close()  # the next child opens the file itself
    for descriptor in (reading, until, end):
        os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status or holder != pid or not told[1]:
        break
    steps += 1
print(status, holder == pid, steps > 15)
kill(lives)
"""
    assert run_hooks(place, code) == ["0 True True"]


def test_child_exit_never_raises_and_logs_what_it_could_not_remove(place: Scratch) -> None:
    """An error in one directory does not stop the removal in another one."""
    code = """
worker.pid = hold()
kill(worker.pid)
broken = SimpleNamespace(path=shared, remove_dead_worker=lambda pid: 1 / 0, release=lambda: None)
gunicorn._directories._earlier.append(gunicorn._directories.current)
gunicorn._directories.current = broken
gunicorn.child_exit(server, worker)
print(*live())
"""
    told = run_hooks(place, code)
    assert len(told) == 2
    assert re.fullmatch(r"warning: live gauges of worker .* are not removed: .* division by zero", told[0])
    assert told[1] == ""


@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
def test_hooks_cause_no_warning_of_gevent(place: Scratch, preload: bool) -> None:
    """Neither in the first workers nor in one that is forked after child_exit ran in the master."""
    options = ["--preload"] if preload else []

    def warnings(app: str, config: str | None) -> list[str]:
        with Gunicorn(place, *options, app=app, config=config, workers=1, worker_class="gevent") as server:
            first = int(server.get("/")[2])
            server.signal(signal.SIGKILL, first)
            wait_until(lambda: first not in server.processes(), "the first worker to die")
            assert int(server.get("/")[2]) != first
            return [line for line in server.log().splitlines() if "Warn" in line or "Patch" in line]

    assert warnings(FLASK_APP, HOOKS) == warnings("tests.servers.apps.plain_app:app", None)


def test_prometheus_client_imports_nothing_that_gevent_must_patch_first() -> None:
    """child_exit imports it in the master, which forks workers afterwards."""
    code = """
import warnings
warnings.simplefilter("error")
import prometheus_client.multiprocess
from gevent import monkey
monkey.patch_all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
