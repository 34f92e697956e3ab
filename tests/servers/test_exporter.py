"""The exporter of a real gunicorn: its answers, its access control, and where none is started."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import make, trusting
from tests.servers.exporting import ANY_PORT, Exporting, ask, descriptors, listening_inode
from tests.servers.load import Load, agree, held
from tests.servers.process import DJANGO_APP, FLASK_APP, Gunicorn, Scratch, wait_until


def _can_run_python(uid: int) -> bool:
    try:
        return (
            subprocess.run(
                [sys.executable, "-c", "import hashlib"], user=uid, check=False, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )
    except OSError:
        return False


def _ids(pid: int) -> tuple[int, ...] | None:
    """Return the user and the group of a process, or None while it changes between some."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.findall(r"^[UG]id:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", status, re.MULTILINE)
    return None if any(len({*four}) > 1 for four in found) else tuple(int(four[0]) for four in found)


# Answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "worker_class"),
    [(FLASK_APP, "sync"), (FLASK_APP, "gthread"), (FLASK_APP, "gevent"), (DJANGO_APP, "sync")],
)
def test_fault_29_exporter_reports_all_workers(place: Scratch, app: str, worker_class: str) -> None:
    """The counts are those of the server's access log."""
    with Exporting(place, app=app, worker_class=worker_class) as server:
        with Load(server, 300) as load:
            pass
        account = agree(server)
        assert load.errors == []
        assert server.total("http_requests_total") == sum(account.values()) == 300
        assert server.total("http_requests_in_progress") == 0


def test_exporter_answers_while_all_workers_are_busy(place: Scratch) -> None:
    """The application's own /metrics would wait for a worker."""
    with Exporting(place, workers=2) as server:
        with held(server) as one, held(server) as other:
            assert one != other
            assert server.total("http_requests_in_progress") == 2
            for pid in (one, other):
                server.signal(signal.SIGKILL, pid)
        server.wait_for_boots(4)


def test_fault_26_exporter_answers_forty_concurrent_scrapes(place: Scratch) -> None:
    with Exporting(place) as server:
        for _ in range(10):
            server.get("/items/7")
        with ThreadPoolExecutor(40) as scrapers:
            found = list(scrapers.map(lambda _: ask(server.metrics_port), range(120)))
        assert {status for status, _ in found} == {200}
        assert all(b'route="/items/<int:number>",status="200"} 10.0' in body for _, body in found)


def test_exporter_serves_an_application_without_metrics_path(place: Scratch) -> None:
    with Exporting(place, environ={"PROM_PATH": ""}) as server:
        assert server.get("/metrics")[0] == 404
        assert server.total("http_requests_total") == 1


def test_exporter_checks_certificates_and_secrets(place: Scratch) -> None:
    """TLS, a client's certificate, and a token in a file that is read at each scrape."""
    ours, client = make(place.folder, "server"), make(place.folder, "client")
    token = place.folder / "token"
    token.write_text("first")
    environ = {
        "PROM_CERTFILE": str(ours[0]),
        "PROM_KEYFILE": str(ours[1]),
        "PROM_CLIENT_CAFILE": str(client[0]),
        "PROM_BEARER_TOKEN_FILE": str(token),
    }
    with Exporting(place, environ=environ) as server:
        context = trusting(ours[0], client)

        def status(secret: str) -> int:
            return ask(server.metrics_port, tls=context, Authorization=f"Bearer {secret}")[0]

        assert (status("first"), status("second")) == (200, 401)
        token.write_text("second")
        assert (status("first"), status("second")) == (401, 200)
        with pytest.raises(OSError, match=r"SSL|reset|pipe|EOF"):
            ask(server.metrics_port, tls=trusting(ours[0]))


# Where an exporter is started ---------------------------------------------------------------------------


def test_fault_20_master_and_workers_do_not_hold_the_exporters_port(place: Scratch) -> None:
    """The exporter inherits nothing of the master: no listening socket and no lock."""
    with Exporting(place) as server:
        metrics, web = (f"socket:[{listening_inode(port)}]" for port in (server.metrics_port, server.port))
        assert len(server.servers()) == 3
        for pid in server.servers():
            assert metrics not in descriptors(pid)
        for pid in (*server.exporters(), *server.supervisors()):
            assert metrics in descriptors(pid)
            assert web not in descriptors(pid)
            assert not [path for path in descriptors(pid) if "web_prom-private" in path]


@pytest.mark.parametrize(
    "code",
    [
        "from tests.servers.apps import django_app\n"
        "from django.core.management import call_command\n"
        "call_command('check')",
        "from tests.servers.apps.flask_app import app\n"
        "assert app.test_client().get('/metrics').status_code == 200\n"
        "from flask.cli import FlaskGroup\n"
        "FlaskGroup(create_app=lambda: app).main(['routes'], standalone_mode=False)",
    ],
    ids=["manage.py", "flask"],
)
def test_fault_20_commands_open_no_port(place: Scratch, code: str) -> None:
    """Only the start of a server and the serve command open it."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    after = f"\nimport socket; socket.create_server(('127.0.0.1', {port})).close()"
    environ = {**place.environ, "PROM_BIND": f"127.0.0.1:{port}"}
    subprocess.run([sys.executable, "-c", code + after], env=environ, check=True, timeout=60)


def test_exporter_is_not_started_without_the_setting(place: Scratch) -> None:
    with Gunicorn(place) as server:
        assert len(server.processes()) == 3


def test_exporter_is_not_started_where_metrics_are_disabled(place: Scratch) -> None:
    with Gunicorn(place, environ={"PROM_BIND": ANY_PORT, "PROM_ENABLED": "no"}) as server:
        assert len(server.processes()) == 3


def test_exporter_reads_gunicorns_raw_env(place: Scratch) -> None:
    with Exporting(place, f"--env=PROM_BIND={ANY_PORT}", bind=None) as server:
        assert server.total("http_requests_in_progress") == 0


def test_exporter_runs_as_the_workers_user_and_logs_like_the_server(place: Scratch) -> None:
    """It binds its port as the master's user and never runs as that user."""
    ids = os.getuid(), os.getgid()
    if ids[0] == 0:
        ids = pwd.getpwnam("nobody")[2:4]
        if not _can_run_python(ids[0]):
            ids = 0, ids[1]  # at least the group can be another
    log = place.folder / "errors"
    with contextlib.ExitStack() as stack:
        server = Exporting(place, f"--user={ids[0]}", f"--group={ids[1]}", f"--error-log={log}")
        server.log = lambda: log.read_text() if log.exists() else ""  # type: ignore[method-assign]
        stack.enter_context(server)
        workers = {*server.servers()} - {server.pid}
        wait_until(lambda: all(_ids(pid) == ids for pid in workers), "the workers to become another user")
        for pid in {*server.processes()} - {server.pid}:
            assert _ids(pid) == ids
            if os.getuid() == 0:
                status = Path(f"/proc/{pid}/status").read_text()
                assert "0" not in re.findall(r"^Groups:\t(.*)$", status, re.MULTILINE)[0].split()
        assert server.get("/")[0] == 200
        assert server.total("http_requests_total") == 1
        # Log rotation: the exporter's next line is in the new file.
        log.rename(log.with_suffix(".1"))
        log.touch()
        os.chown(log, *ids)
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGKILL, server.exporters()[0])
        wait_until(lambda: "Metrics at" in server.log(), "the exporter's line", shown=server.log)


# gunicorn's own processes search the working directory first; there it is the real module.
STANDS_IN = """
import os, sys
if any(word.startswith("web_prom.exporter") for word in sys.orig_argv):
    raise SystemExit("not this one")
sys.path.remove(os.path.dirname(__file__))
del sys.modules["ctypes"]
import ctypes
"""


def test_exporter_does_not_import_modules_of_the_application(place: Scratch) -> None:
    """A callable of the application is still found."""
    if sys.version_info >= (3, 11):  # before, `-m` puts the working directory first whatever one does
        (place.folder / "ctypes.py").write_text(STANDS_IN)
    (place.folder / "guard.py").write_text(
        "def may_scrape(environ): return environ['PATH_INFO'] == '/metrics'"
    )
    with Exporting(place, environ={"PROM_ALLOW_SCRAPE": "guard.may_scrape"}) as server:
        assert server.total("http_requests_in_progress") == 0
