"""web_prom.gunicorn: the shared directory is there from first to last, however gunicorn is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.load import Load, agree, held
from tests.servers.process import FLASK_APP, HOOKS, ROOT, Gunicorn, Scratch, command, run, wait_until
from web_prom.multiprocess.directory.slots import slots_of

IMPORTED = "from web_prom.gunicorn import child_exit, nworkers_changed, on_exit, on_starting, pre_exec\n"

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as another user")


def counts_all_workers(server: Gunicorn) -> None:
    """Hold a short load's numbers to the access log."""
    with Load(server, 100):
        pass
    assert sum(agree(server).values()) == 100


def test_reading_the_hooks_imports_no_server_and_no_client(place: Scratch) -> None:
    """A worker of type gevent patches later what prometheus_client would import now."""
    code = """
import json, sys
import web_prom.gunicorn
print(json.dumps(sorted(sys.modules)))
"""
    told = run(place, [sys.executable, "-c", code])
    assert told.stderr == ""
    modules = set(json.loads(told.stdout))
    assert not modules & {"gunicorn", "prometheus_client", "ssl", "http.client", "asyncio", "socket"}


def test_no_name_of_the_hooks_is_a_setting_by_accident(place: Scratch) -> None:
    """Every module-level name that equals one is taken for it."""
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


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_fault_56_an_empty_variable_counts_as_absent(place: Scratch, name: str) -> None:
    """Gunicorn sets it again in each worker."""
    with Gunicorn(place, f"--env={name}=", environ={name: ""}) as server:
        counts_all_workers(server)
        assert list(place.temporary.glob("*/counter_s*.db"))
    assert not list(place.folder.glob("*.db"))


@pytest.mark.parametrize("way", ["environment", "--env"])
def test_fault_38_the_lower_case_spelling_names_the_directory(place: Scratch, way: str) -> None:
    shared = place.folder / "shared"
    named = {"prometheus_multiproc_dir": str(shared)}
    options = [f"--env=prometheus_multiproc_dir={shared}"] if way == "--env" else []
    with Gunicorn(place, *options, environ={} if options else named) as server:
        counts_all_workers(server)
        owners = {path.stem.rpartition("_")[2] for path in shared.glob("*.db")}
        assert owners
        assert all(owner.startswith("s") for owner in owners)


def test_the_directory_is_private_while_it_serves_and_gone_afterwards(place: Scratch) -> None:
    """Nobody else may read or write it."""
    with Gunicorn(place) as server:
        (made,) = place.shared_directories()
        assert made.stat().st_mode & 0o777 == 0o700
        counts_all_workers(server)
    assert place.shared_directories() == []


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_checking_the_configuration_leaves_nothing_behind(place: Scratch, option: str) -> None:
    """The file is read, and no server follows."""
    done = run(place, command(option))
    assert done.returncode == 0, done.stderr
    assert place.shared_directories() == []


def test_a_start_that_fails_leaves_nothing_behind(place: Scratch) -> None:
    """There is no application, or gunicorn gives up between on_starting and the first worker."""
    missing = "no.such:app"
    for options, app in (([], missing), (["--preload"], missing), (["--certfile=none"], FLASK_APP)):
        assert run(place, command(*options, app=app)).returncode != 0
        assert place.shared_directories() == []


UNUSABLE = "file/below"  # `file` is a file: not even root can make a directory below it


@pytest.mark.parametrize("manner", ["environment", "file", "--env", "--env, preloaded"])
def test_a_directory_that_cannot_be_used_is_a_clear_error_at_start(place: Scratch, manner: str) -> None:
    """It names the directory, the reason and the remedy, and there is no traceback."""
    named = f"PROMETHEUS_MULTIPROC_DIR={UNUSABLE}"
    options = ["--env", named] if manner.startswith("--env") else []
    config = place.configuration(IMPORTED) if manner == "file" else HOOKS
    environ = {} if options else {"PROMETHEUS_MULTIPROC_DIR": UNUSABLE}
    if "preloaded" in manner:
        options.append("--preload")
    done = run(place, command(*options, config=config), **environ)
    assert done.returncode == 1
    assert f"Error: PROMETHEUS_MULTIPROC_DIR is '{place.folder / UNUSABLE}'" in done.stderr
    assert "name a directory that all workers can write" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
@pytest.mark.parametrize("manner", ["environment", "--env", "raw_env"])
def test_a_directory_that_the_user_names_is_used(place: Scratch, manner: str, preload: bool) -> None:
    """However it is named, for whoever imports the application; nothing else is made."""
    named = place.folder / "named"
    variable = f"PROMETHEUS_MULTIPROC_DIR={named}"
    options = ["--preload"] if preload else []
    if manner == "--env":
        options += ["--env", variable]
    config = place.configuration(f"{IMPORTED}raw_env = [{variable!r}]") if manner == "raw_env" else HOOKS
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)} if manner == "environment" else {}
    with Gunicorn(place, *options, config=config, environ=environ) as server:
        assert place.shared_directories() == []
        counts_all_workers(server)
        workers = set(server.workers())
        wait_until(lambda: workers <= {*slots_of(named).holders().values()}, "both workers to write there")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        counts = server.value("http_requests_total")
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == counts + 1, "the request to be counted")
        assert place.shared_directories() == []


def test_a_reload_can_move_to_another_directory(place: Scratch) -> None:
    """New workers write there; a private directory that older ones wrote to goes at the end."""
    config = place.configuration(IMPORTED)
    with Gunicorn(place, config=config) as server:
        counts_all_workers(server)
        named = place.folder / "named"
        config.write_text(f"{IMPORTED}raw_env = ['PROMETHEUS_MULTIPROC_DIR={named}']")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        wait_until(lambda: len(server.workers()) == 2, "the older workers to end")
        assert len(place.shared_directories()) == 1
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == 1, "the request to be counted")
        config.write_text(IMPORTED)
        server.signal(signal.SIGHUP)
        server.wait_for_boots(6)
        wait_until(lambda: len(server.workers()) == 2, "the older workers to end")
        assert server.value("http_requests_total") == 100  # nothing names another: back to the first


def test_a_reload_that_names_an_unusable_directory_is_refused_and_the_server_goes_on(place: Scratch) -> None:
    """A reload must not end a server that serves."""
    config = place.configuration(IMPORTED)
    with Gunicorn(place, config=config) as server:
        config.write_text(f"{IMPORTED}raw_env = ['PROMETHEUS_MULTIPROC_DIR={UNUSABLE}']")
        server.signal(signal.SIGHUP)
        server.wait_for_boots(4)
        wait_until(lambda: len(server.workers()) == 2, "the older workers to end")
        (made,) = place.shared_directories()
        assert re.search(rf"\[ERROR\] PROMETHEUS_MULTIPROC_DIR is .*; {made} stays in use", server.log())
        counts_all_workers(server)


def test_hooks_are_imported_into_a_file_of_the_users_own(place: Scratch) -> None:
    """One of them is wrapped, and others stand beside them."""
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
    with Gunicorn(place, "--max-requests=20", config=config) as server:
        counts_all_workers(server)
        wait_until(lambda: "my own child_exit" in server.log(), "the wrapped hook")
        assert "my own when_ready" in server.log()


def test_the_configuration_that_users_copy_works(place: Scratch) -> None:
    """As it stands; the command line chooses the port."""
    with Gunicorn(place, config=ROOT / "gunicorn.conf.py", worker_class="gthread") as server:
        counts_all_workers(server)


def test_a_daemon_removes_its_directory(place: Scratch) -> None:
    """It is not the process that read the configuration."""
    pidfile, log = place.folder / "pid", place.folder / "daemon.txt"
    done = run(place, command("--daemon", f"--pid={pidfile}", f"--log-file={log}"))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: log.exists() and "Booting worker" in log.read_text(), "the daemon")
    pid = int(pidfile.read_text())
    try:
        assert len(place.shared_directories()) == 1
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon to end")


@only_root
@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
@pytest.mark.parametrize("named", [False, True], ids=["private", "named"])
def test_workers_that_run_as_another_user_can_write(place: Scratch, preload: bool, named: bool) -> None:
    """The directory, and what a preloaded application wrote, is theirs; an upgrade goes on with it."""
    # The interpreter and this checkout may be where only root can read: what a worker imports later, import
    # now, and have the application where anybody can.
    shutil.copy(ROOT / "tests/servers/apps/flask_app.py", place.folder)
    config = place.configuration(
        f"{IMPORTED}import flask, prometheus_client.multiprocess, prometheus_client.openmetrics.exposition\n"
        "import encodings.idna, mimetypes, uuid, importlib.metadata\n"
        "import web_prom.wsgi, web_prom.exposition.http, flask_prom\n"
    )
    options = ["--user=nobody", "--group=nogroup", *(["--preload"] if preload else [])]
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(place.folder / "named")} if named else {}
    with Gunicorn(place, *options, config=config, app="flask_app:app", environ=environ) as server:
        folder = place.folder / "named" if named else place.shared_directories()[0]
        assert folder.owner() == "nobody"
        assert folder.stat().st_mode & 0o777 == 0o700
        counts_all_workers(server)
        assert {path.owner() for path in folder.glob("*.db")} == {"nobody"}
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(4)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        before = server.value("http_requests_total")
        assert server.get("/")[0] == 200
        wait_until(lambda: server.value("http_requests_total") == before + 1, "the request to be counted")


def test_a_server_killed_with_its_workers_is_cleaned_up_by_the_next(place: Scratch) -> None:
    """Nothing of it could run any more."""
    with Gunicorn(place) as server:
        counts_all_workers(server)
        for pid in server.processes():
            server.signal(signal.SIGKILL, pid)
        server.wait()
    (left,) = place.shared_directories()
    with Gunicorn(place) as server:
        (made,) = place.shared_directories()
        assert made != left
        assert server.value("http_requests_total") == 0


def test_a_killed_master_s_living_worker_keeps_the_directory(place: Scratch) -> None:
    """It still writes there; the next start after its end removes the directory."""
    with Gunicorn(place, workers=1) as server:
        with held(server):
            (left,) = place.shared_directories()
            server.signal(signal.SIGKILL)
            server.wait()
            assert len(server.processes()) == 1
            with Gunicorn(place):
                assert left in place.shared_directories()
            assert place.shared_directories() == [left]
        for worker in server.processes():
            server.signal(signal.SIGKILL, worker)
    assert run(place, command("--check-config")).returncode == 0
    assert place.shared_directories() == []


def test_fault_27_a_second_server_on_the_same_directory_joins(place: Scratch) -> None:
    """It wipes nothing, adds its numbers, and takes only its live gauges along when it goes."""
    named = place.folder / "named"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)}
    with Gunicorn(place, environ=environ) as first:
        assert [first.get("/")[0] for _ in range(10)] == [200] * 10
        wait_until(lambda: first.value("http_requests_total") == 10, "ten requests")
        with Gunicorn(place, environ=environ) as second:
            assert second.value("http_requests_total") == 10
            assert [second.get("/")[0] for _ in range(5)] == [200] * 5
            wait_until(lambda: first.value("http_requests_total") == 15, "fifteen requests")
        assert first.value("http_requests_total") == 15
        workers = set(first.workers())
        living = {
            f"gauge_livesum_s{slot}.db" for slot, pid in slots_of(named).holders().items() if pid in workers
        }
        assert len(living) == 2
        wait_until(
            lambda: {path.name for path in named.glob("gauge_live*")} == living, "the first's gauges alone"
        )


def test_a_worker_killed_in_the_shutdown_leaves_no_phantom_for_the_other_server(place: Scratch) -> None:
    """It outlives the graceful timeout, and its master does not outlive it for long."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(place.folder / "named")}
    with Gunicorn(place, environ=environ) as stays:
        with Gunicorn(place, "--graceful-timeout=1", environ=environ) as goes, held(goes):
            assert stays.value("http_requests_in_progress") == 1
            goes.signal(signal.SIGTERM)
            assert goes.wait() == 0
        assert stays.value("http_requests_in_progress") == 0


def test_on_exit_speaks_for_workers_that_nobody_reaped(place: Scratch) -> None:
    """Whether gunicorn still reaps those that it killed in the end is a matter of microseconds."""
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


BURYING = """
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


def burying(place: Scratch, code: str) -> list[str]:
    """Run code that calls the hooks by hand, with workers that hold slots, and return what it printed."""
    told = run(place, [sys.executable, "-c", BURYING + code])
    assert told.stderr == ""
    return told.stdout.splitlines()


def test_child_exit_removes_the_live_gauges_of_the_dead_worker_s_slot(place: Scratch) -> None:
    """The others' and what is not live stay."""
    code = """
worker.pid, lives = hold(), hold()
kill(worker.pid)
gunicorn.child_exit(server, worker)
print(*sorted(path.name for path in shared.glob("*.db")))
kill(lives)
"""
    kept = "gauge_all_s0.db gauge_all_s1.db gauge_liveall_s1.db gauge_livesum_s1.db"
    assert burying(place, code) == [kept]


def test_a_late_child_exit_takes_nothing_from_who_has_the_slot_now(place: Scratch) -> None:
    """The next worker may begin before gunicorn reaps the last one."""
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
    assert burying(place, code) == ["liveall_s0 livesum_s0", "liveall_s0 livesum_s0 [0]"]


def test_on_exit_buries_by_slot_those_that_nobody_reaped(place: Scratch) -> None:
    """As far as they are dead."""
    code = """
dead, lives = hold(), hold()
kill(dead)
server.WORKERS = {pid: SimpleNamespace(pid=pid) for pid in (dead, lives)}
gunicorn.on_exit(server)
print(*live())
kill(lives)
"""
    named = run(
        place, [sys.executable, "-c", BURYING + code], PROMETHEUS_MULTIPROC_DIR=str(place.folder / "named")
    )
    assert named.stdout.split() == ["liveall_s1", "livesum_s1"]


@pytest.mark.parametrize(
    "begins", ["slots.acquire()", "slots.skip(slots.acquire())", "slots.holders()", "clean()"]
)
def test_child_exit_in_a_signal_s_handler_waits_for_nothing_at_any_step(place: Scratch, begins: str) -> None:
    """Older gunicorn calls it there, and what the handler interrupts cannot go on before it returns."""
    code = f"""
import prometheus_client.multiprocess
from web_prom.multiprocess.directory import lockfile, slots as module

files = {{lockfile.__file__, module.__file__}}
signal.signal(signal.SIGUSR1, lambda *_: gunicorn.child_exit(server, worker))

def clean():
    with slots.exclusive() as alone:
        assert not alone

def trace(frame, event, argument):
    if frame.f_code.co_filename not in files:
        return None
    if event == "line":
        left[0] -= 1
        if left[0] == -1:
            signal.raise_signal(signal.SIGUSR1)
    return trace

dead, lives = hold(), hold()
kill(dead)
steps = 0
while True:
    left = [steps]
    pid = os.fork()
    if not pid:
        worker.pid = os.getpid()  # the worst case: what is being taken seems to be a dead worker's
        signal.alarm(20)  # there is no other way out if it waits for ever
        sys.settrace(trace)
        {begins}
        sys.settrace(None)
        mine, child = slots.acquire(), os.fork()
        if not child:
            os._exit(slots.acquire() == mine)
        ended = os.waitpid(child, 0)[1]
        os._exit(10 if ended else 0 if left[0] < 0 else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        break
    steps += 1
print(status, steps > 15)
kill(lives)
"""
    assert burying(place, code) == ["1 True"]


def test_child_exit_never_raises_and_says_what_stays_behind(place: Scratch) -> None:
    """A directory where something went wrong does not keep it from another."""
    code = """
worker.pid = hold()
kill(worker.pid)
broken = SimpleNamespace(path=shared, remove_dead_worker=lambda pid: 1 / 0, release=lambda: None)
gunicorn._directories._earlier.append(gunicorn._directories.current)
gunicorn._directories.current = broken
gunicorn.child_exit(server, worker)
print(*live())
"""
    told = burying(place, code)
    assert len(told) == 2
    assert re.fullmatch(r"warning: live gauges of worker .* are not removed: .* division by zero", told[0])
    assert told[1] == ""


def test_the_files_of_a_dead_deployment_are_removed_and_no_others(place: Scratch) -> None:
    """What else is in the directory is the user's."""
    named = place.folder / "named"
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(named)}
    with Gunicorn(place, environ=environ) as server:
        counts_all_workers(server)
    (named / "orders.sqlite").write_text("the user's")
    assert list(named.glob("counter_*.db"))
    with Gunicorn(place, environ=environ) as server:
        assert server.value("http_requests_total") == 0
    assert (named / "orders.sqlite").read_text() == "the user's"


@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
def test_gevent_warns_of_nothing_that_it_does_not_warn_of_without_us(place: Scratch, preload: bool) -> None:
    """In the first workers, and in one that is forked after child_exit ran in the master."""
    options = ["--preload"] if preload else []

    def warnings(app: str, config: str | None) -> list[str]:
        with Gunicorn(place, *options, app=app, config=config, worker_class="gevent") as server:
            workers = server.workers()
            server.signal(signal.SIGKILL, workers[0])
            wait_until(lambda: int(server.get("/")[2]) not in workers, "the new worker to answer")
            return [line for line in server.log().splitlines() if "Warn" in line or "Patch" in line]

    assert warnings(FLASK_APP, HOOKS) == warnings("tests.servers.apps.plain_app:app", None)


def test_prometheus_client_imports_nothing_that_gevent_must_patch_first() -> None:
    """child_exit imports it in the master, and workers are forked from there afterwards."""
    code = """
import warnings
warnings.simplefilter("error")
import prometheus_client.multiprocess
from gevent import monkey
monkey.patch_all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
