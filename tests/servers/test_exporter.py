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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import interpreters
from tests.certificates import make, trusting
from tests.servers.exporting import ANY_PORT, Exporting, ask, descriptors, listening_inode
from tests.servers.load import Load, agree, held
from tests.servers.process import Gunicorn, Scratch, scratch, wait_until


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


@pytest.fixture(scope="module")
def server() -> Iterator[Exporting]:
    """Run a server with two workers, all of whose settings are the defaults."""
    with scratch() as place, Exporting(place) as running:
        yield running


@pytest.fixture(scope="module")
def configured() -> Iterator[Exporting]:
    """Run a server whose exporter gets its address from ``--env``, and a callable of the application.

    Modules of the application are in the working directory. One has the name of a module that the exporter
    imports.
    """
    with scratch() as place:
        if sys.version_info >= (3, 11):  # before, `-m` puts the working directory first whatever one does
            (place.folder / "ctypes.py").write_text(STANDS_IN)
        (place.folder / "guard.py").write_text(
            "def may_scrape(environ): return environ['PATH_INFO'] == '/metrics'"
        )
        environ = {"PROM_PATH": "", "PROM_ALLOW_SCRAPE": "guard.may_scrape"}
        with Exporting(
            place, f"--env=PROM_BIND={ANY_PORT}", bind=None, workers=1, environ=environ
        ) as running:
            yield running


# gunicorn's own processes search the working directory first; there it is the real module.
STANDS_IN = """
import os, sys
if any(word.startswith("web_prom.exporter") for word in sys.orig_argv):
    raise SystemExit("not this one")
sys.path.remove(os.path.dirname(__file__))
del sys.modules["ctypes"]
import ctypes
"""


# Answers ---------------------------------------------------------------------------------------


def check_totals(server: Exporting, requests: int) -> None:
    """Send so many requests; check that the counts are those of the server's access log."""
    with Load(server, requests) as load:
        pass
    account = agree(server)
    assert load.errors == []
    assert server.total("http_requests_total") == sum(account.values()) >= requests
    assert server.total("http_requests_in_progress") == 0


def test_fault_29_exporter_reports_all_workers(server: Exporting) -> None:
    check_totals(server, 200)


def test_fault_29_exporter_reports_all_workers_of_gevent(place: Scratch) -> None:
    with Exporting(place, worker_class="gevent") as server:
        check_totals(server, 200)


def test_exporter_answers_while_all_workers_are_busy(server: Exporting) -> None:
    """The application's own /metrics would wait for a worker."""
    boots = server.log().count("Booting worker")
    with held(server) as one, held(server) as other:
        assert one != other
        assert server.total("http_requests_in_progress") == 2
        for pid in (one, other):
            server.signal(signal.SIGKILL, pid)
    server.wait_for_boots(boots + 2)


def test_fault_26_exporter_answers_forty_concurrent_scrapes(server: Exporting) -> None:
    def items() -> float:
        found = server.exported().get("http_requests")
        return sum(
            sample.value
            for sample in (found.samples if found else ())
            if sample.name == "http_requests_total"
            and sample.labels["route"] == "/items/<int:number>"
            and (sample.labels["method"], sample.labels["status"]) == ("GET", "200")
        )

    expected = items() + 10
    for number in range(10):
        # Another test compares all counts with the access log, where it finds requests by their ids.
        server.get("/items/7", X_Request_Id=f"forty-{number}")
    wait_until(lambda: items() == expected, "ten requests")
    with ThreadPoolExecutor(40) as scrapers:
        found = list(scrapers.map(lambda _: ask(server.metrics_port), range(80)))
    assert {status for status, _ in found} == {200}
    line = f'route="/items/<int:number>",status="200"}} {expected}'.encode()
    assert all(line in body for _, body in found)


def test_exporter_serves_an_application_without_metrics_path(configured: Exporting) -> None:
    before = configured.total("http_requests_total")
    assert configured.get("/metrics")[0] == 404
    assert configured.total("http_requests_total") == before + 1


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
    with Exporting(place, workers=1, environ=environ) as server:
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
    # A server of its own: an exporter that has answered a scrape has opened the lock file itself.
    with Exporting(place, workers=1) as server:
        metrics, web = (f"socket:[{listening_inode(port)}]" for port in (server.metrics_port, server.port))
        assert len(server.servers()) == 2
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
    interpreters.run([sys.executable, "-c", code + after], env=environ, check=True, timeout=60)


@pytest.mark.parametrize("environ", [{}, {"PROM_BIND": ANY_PORT, "PROM_ENABLED": "no"}])
def test_exporter_is_not_started_without_the_setting_and_where_metrics_are_disabled(
    place: Scratch, environ: dict[str, str]
) -> None:
    with Gunicorn(place, workers=1, environ=environ) as server:
        assert server.get("/")[0] == 200
        assert len(server.processes()) == 2


def test_exporter_reads_gunicorns_raw_env(configured: Exporting) -> None:
    assert configured.total("http_requests_in_progress") == 0


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
        wait_until(lambda: server.total("http_requests_total") == 1, "the request to be counted")
        # Log rotation: the exporter's next line is in the new file.
        log.rename(log.with_suffix(".1"))
        log.touch()
        os.chown(log, *ids)
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGKILL, server.exporters()[0])
        wait_until(lambda: "Metrics at" in server.log(), "the exporter's line", shown=server.log)


def test_exporter_does_not_import_modules_of_the_application(configured: Exporting) -> None:
    """A callable of the application is still found."""
    assert ask(configured.metrics_port)[0] == 200
