"""A program in a fork of the template is started as in a fresh interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import interpreters
from tests.servers.process import Scratch

pytestmark = [pytest.mark.slow, pytest.mark.once]

PROBE = """
import gc, json, os, signal, sys, tempfile, threading, warnings
main = sys.modules["__main__"]
descriptors = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "warnoptions": sys.warnoptions,
    "filters": [[action, str(category)] for action, _, category, _, _ in warnings.filters][:3],
    "bytecode": sys.dont_write_bytecode, "environ": dict(os.environ), "folder": os.getcwd(),
    "name": __name__, "file": globals().get("__file__"), "spec": getattr(__spec__, "name", None),
    "main": main.__dict__ is globals(),
    "names": sorted(name for name in globals() if name.startswith("__")),
    "leader": os.getsid(0) == os.getpid(), "parent": os.getppid(), "descriptors": sorted(descriptors),
    "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
    "threads": threading.active_count(), "errors": sys.stdout.errors, "encoding": sys.stdout.encoding,
    "streams": [
        [repr(each), str(each.buffer)[:22], each.line_buffering, each.write_through, each.seekable()]
        for each in (sys.stdout, sys.stderr)
    ],
    "standard": [sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "reconfigured": sys.stdout.reconfigure(errors="backslashreplace"),
    "tty": sys.stdin.isatty(), "read": sys.stdin.read(), "temporary": tempfile.gettempdir(),
    "loaded": [name for name in sys.modules if name.startswith(("web_prom", "prometheus_client"))],
}))
print("warned", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def _template() -> None:
    if not interpreters.template.is_running():
        pytest.skip("programs have fresh interpreters here")


def forks(*options: str, **arguments: Any) -> bool:
    """Return whether a program is a fork of the template: it has modules that it did not import."""
    command = [sys.executable, *options, "-c", "import sys; print('flask' in sys.modules)"]
    return interpreters.run(command, capture_output=True, check=True, **arguments).stdout == "True\n"


@pytest.mark.parametrize("kind", ["code", "module", "script", "package"])
@pytest.mark.parametrize("options", [[], ["-B", "-W", "error", "-W", "ignore::UserWarning"], ["-u"]])
def test_fork_is_started_like_a_fresh_interpreter(kind: str, options: list[str], tmp_path: Path) -> None:
    """The program sees the same of its start, in each way to name it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "probe.py").write_text(PROBE)
    (tmp_path / "folder" / "pack").mkdir()
    (tmp_path / "folder" / "pack" / "__main__.py").write_text(PROBE)
    words = {
        "code": ["-c", PROBE],
        "module": ["-m", "probe"],
        "package": ["-m", "pack"],
        "script": ["folder/probe.py"],
    }[kind]
    command = [sys.executable, *options, *words, "one", "--two"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "folder"), "TMPDIR": str(tmp_path), "X": "ä"}
    environ["PYTHONWARNINGS"] = "default,ignore::ImportWarning"
    told = []
    for run in (subprocess.run, interpreters.run):
        done = run(
            command,
            cwd=tmp_path,
            env=environ,
            input="asked",
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,
        )
        told.append((json.loads(done.stdout), done.stderr))
    (fresh, fresh_errors), (forked, forked_errors) = told
    assert forked == fresh
    assert forked_errors == fresh_errors


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a word')",
        "import os; os._exit(4)",
        "import os; os.kill(os.getpid(), 15)",
        "import os; print('flushed'); os.close(0)",
        "def f(): raise ValueError('ü')\nf()",
        "import runpy; runpy.run_path('missing')",
        "import atexit; atexit.register(print, 'the end')",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "class Last:\n def __del__(self): print('deleted')\nlast = Last()",
        "import sys\nclass Last:\n def __del__(self): print('deleted', sys)\nlast = Last(); last.last = last",
        "left = open('/dev/stdout', 'w'); left.write('written')",
        "import atexit; atexit.register(lambda: 1 / 0)",
        "import os, signal\nclass Last:\n def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "last = Last(); signal.signal(signal.SIGTERM, print)",
        "class Last:\n def __del__(self): import colorsys\nlast = Last()",
        "import os\nif os.fork(): print(os.wait()[1])\nelse: raise SystemExit(3)",
        "import sys; sys.stdout = open('/dev/full', 'w', 100); print('lost')",
        "this is no code",
    ],
)
def test_fork_ends_like_a_fresh_interpreter(code: str) -> None:
    """Exit code, output and traceback are the same."""
    command = [sys.executable, "-c", code]
    fresh = subprocess.run(command, capture_output=True, text=True, check=False)
    forked = interpreters.run(command, capture_output=True)
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout)
    addresses = re.compile("0x[0-9a-f]+")
    assert addresses.sub("", forked.stderr) == addresses.sub("", fresh.stderr)


def test_fork_warns_of_what_its_program_left_open() -> None:
    """The socket of a global variable is open until the end."""
    code = "import socket, warnings; warnings.simplefilter('always'); left = socket.socket()"
    done = interpreters.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.count("ResourceWarning: unclosed <socket.socket") == 1


def test_interrupted_fork_ends_by_the_signal() -> None:
    """SIGINT raises KeyboardInterrupt in the program, and its parent sees the signal."""
    code = "import time; print('ready', flush=True); time.sleep(60)"
    with interpreters.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert stderr.endswith("KeyboardInterrupt\n")


def test_fork_has_the_descriptors_that_it_is_given() -> None:
    """Under the numbers of the parent, and no others."""
    reading, writing = os.pipe()
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, reading)
        code = f"import os; os.write({writing}, b'here')"
        interpreters.run([sys.executable, "-c", code], pass_fds=[writing], check=True)
        os.close(writing)
        assert os.read(reading, 10) == b"here"
        assert os.read(reading, 10) == b""


def test_fork_is_a_child_that_can_be_waited_for() -> None:
    """As any other child process of the tests."""
    process = interpreters.Popen([sys.executable, "-c", "import sys; sys.exit(7)"])
    pid, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert (pid, process.returncode) == (process.pid, 7)


def test_what_a_fork_cannot_be_has_a_fresh_interpreter() -> None:
    """Other options, variables that are read too early, another user, another program."""
    assert forks()
    assert forks("-B", "-u", env={**os.environ, "PYTHONPATH": "/nowhere", "HOME": "/nowhere"})
    assert forks(env={"PATH": os.environ["PATH"], "TZ": "Asia/Tokyo"})
    assert not forks("-I")
    assert not forks("-X", "utf8")
    assert not forks(env={**os.environ, "PYTHONHASHSEED": "1"})
    assert not forks(umask=0o77)
    assert not forks(user=os.getuid())


def test_program_with_gevent_is_a_fork_that_has_imported_nothing() -> None:
    """Flask, for example, must import from modules that gevent has patched."""
    code = (
        "import sys; print('tests.interpreters' in sys.modules, 'flask' in sys.modules, 'ssl' in sys.modules)"
    )
    environ = {**os.environ, "GUNICORN_CMD_ARGS": "--worker-class=gevent"}
    done = interpreters.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
    assert done.stdout == "True False False\n"


def test_program_with_gevent_finds_the_entry_points_of_its_path(tmp_path: Path) -> None:
    """Those of the installed distributions, and those of a folder that the program adds."""
    (tmp_path / "added-1.0.dist-info").mkdir()
    (tmp_path / "added-1.0.dist-info" / "METADATA").write_text("Name: added\nVersion: 1.0\n")
    (tmp_path / "added-1.0.dist-info" / "entry_points.txt").write_text(
        "[console_scripts]\nadded = added:main\n"
    )
    code = """
import sys
from importlib.metadata import entry_points
print(sorted(map(str, entry_points(group="console_scripts"))))
sys.path.append(sys.argv[1])
print(sorted(map(str, entry_points(group="console_scripts"))), entry_points(name="added", group="none"))
"""
    command = [sys.executable, "-c", code, str(tmp_path), "gevent"]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True)
    assert interpreters.run(command, capture_output=True, check=True).stdout == fresh.stdout
    before, after = fresh.stdout.splitlines()
    assert "gunicorn.app.wsgiapp:run" in before
    assert "added:main" not in before
    assert "added:main" in after


def test_servers_are_forks(tmp_path: Path) -> None:
    """The template can apply all of their environment. Django has changed that of the tests."""
    assert forks(env=Scratch(tmp_path).environ)


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_fork_has_its_time_zone(zone: str | None) -> None:
    """That of its own environment. Django changes the time zone of the process of the tests."""
    environ = {"PATH": os.environ["PATH"]} | ({} if zone is None else {"TZ": zone})
    command = [sys.executable, "-c", "import time; print(time.tzname, time.localtime(0))"]
    fresh = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert interpreters.run(command, env=environ, capture_output=True, check=True).stdout == fresh.stdout


def test_fork_imports_the_packages_that_it_would_find(tmp_path: Path) -> None:
    """Known code is that of the installed packages. Another folder can have a package of the same name."""
    code = """
import inspect, sys, web_prom.config.settings as settings, web_prom.wsgi as package
print([module.__file__ for name, module in sorted(sys.modules.items()) if name.startswith("web_prom")])
print(settings.__spec__.has_location, settings.__spec__.origin, settings.__cached__, package.__path__)
print(settings.__spec__.submodule_search_locations, package.__spec__.submodule_search_locations)
print(inspect.getsource(settings), package.PrometheusMiddleware.__call__.__code__.co_filename)
"""
    (tmp_path / "web_prom").mkdir()
    (tmp_path / "web_prom" / "__init__.py").touch()
    (tmp_path / "web_prom" / "config.py").write_text("place = 'another folder'")
    other = "from web_prom.config import place; print(place)"
    for program, folder in ((code, None), (other, tmp_path)):
        command = [sys.executable, "-c", program]
        fresh = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert interpreters.run(command, cwd=folder, capture_output=True, check=True).stdout == fresh.stdout
