"""uWSGI with the configuration of docs/how-to/servers.rst: sendfile, and workers that start and end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import sysconfig
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.manifests import replaced
from tests.servers.client import reset
from tests.servers.prefork import Prefork, running
from tests.servers.process import DJANGO_APP, FLASK_APP, ROOT, Scratch, wait_until
from web_prom.multiprocess.directory.slots import slots_of

EXAMPLE = ROOT / "examples" / "servers" / "uwsgi.ini"
CATALOGUE = ROOT / "examples" / "catalogue.csv"
SHOP = "pythonpath = %d..", f"pythonpath = {ROOT}/examples"
TESTS = "module = flask_shop:app", f"module = {FLASK_APP}"


def serving(place: Scratch, *changes: tuple[str, str]) -> contextlib.AbstractContextManager[Prefork]:
    """Run uWSGI with the example file, with its invented names replaced by real ones."""
    directory = place.folder / "shared"
    path = place.folder / "uwsgi.ini"

    def command(port: int) -> list[str]:
        here = ("127.0.0.1:8000", f"127.0.0.1:{port}"), ("/dev/shm/shop-metrics", str(directory))
        path.write_text(replaced(EXAMPLE.read_text("utf-8"), SHOP, *here, *changes))
        return [str(Path(sysconfig.get_path("scripts"), "uwsgi")), "--ini", str(path)]

    return running(place, command, directory)


@pytest.mark.parametrize("lazy", [False, True], ids=["forked", "lazy"])
def test_sendfile_response_is_measured_to_its_end(place: Scratch, lazy: bool) -> None:
    """UWSGI needs the same object that its wsgi.file_wrapper got."""
    place.environ["PROM_RESPONSE_SIZE"] = "true"
    changes = [("need-app = true", "need-app = true\nlazy-apps = true")] if lazy else []
    with serving(place, *changes) as server:
        status, body = server.get("/catalogue.csv")
        assert (status, body) == (200, CATALOGUE.read_bytes())
        server.settle(Counter({("GET", "/", "200"): server.sent, ("GET", "/catalogue.csv", "200"): 1}))
        size = "http_response_size_bytes"
        assert server.samples(size, f"{size}_sum", "route")["/catalogue.csv",] == len(body)
        wait_until(lambda: "GET /catalogue.csv => " in server.log(), "its line in the log", shown=server.log)
        assert server.log().count("via sendfile()") == 1


@pytest.mark.parametrize("app", [FLASK_APP, DJANGO_APP])
def test_disconnect_during_a_file_is_one_finished_request(place: Scratch, app: str) -> None:
    """No chunk of it passes through Python; it ends at the server's close()."""
    grow_big_file(place)
    with serving(place, (TESTS[0], f"module = {app}")) as server:
        opened = server.raw("GET /file HTTP/1.1\nHost: localhost\n\n")
        assert opened.recv(1000).startswith(b"HTTP/1.1 200 OK")
        wait_until(lambda: server.gauge("http_requests_in_progress") == 1, "the file to be sent")
        reset(opened)
        server.settle(Counter({("GET", "/", "200"): server.sent, ("GET", "/file", "200"): 1}))
        wait_until(lambda: "GET /file => " in server.log(), "its line in the log", shown=server.log)
        assert "via sendfile()" in server.log()


@contextlib.contextmanager
def clients_of(server: Prefork, clients: int = 4, least: int = 30) -> Iterator[None]:
    """Send requests until the end of the block, at least so many from each client; some may be dropped."""
    over = threading.Event()

    def send() -> None:
        sent = 0
        while sent < least or not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                assert server.get("/")[0] == 200
            sent += 1

    with ThreadPoolExecutor(clients) as pool:
        sending = [pool.submit(send) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
        for sent in sending:
            sent.result()


def grow_big_file(place: Scratch) -> None:
    """Make the file of /file larger than the socket buffers."""
    with open(place.environ["BIG_FILE"], "r+b") as file:
        file.truncate(64 << 20)


def agrees_with_its_log(server: Prefork) -> None:
    """Check that the metrics have each request of uWSGI's log."""

    def agrees() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            counted, in_progress = server.requests(), server.gauge("http_requests_in_progress")
            return counted["GET", "/", "200"] == server.log().count(" GET / => ") and not in_progress
        return False

    wait_until(agrees, "log and metrics to agree", shown=server.log)


def test_worker_restarts_and_reload_under_load_lose_no_request(place: Scratch) -> None:
    """Workers end after some requests, and at a SIGHUP, which executes the master again."""
    # What PyPI's pyuwsgi executes is the interpreter, and that of a virtual environment has to be named.
    again = ("vacuum = true", f"vacuum = true\nbinary-path = {sys.executable}")
    changes = [TESTS, again, ("max-requests = 10000", "max-requests = 30\nmin-worker-lifetime = 0")]
    with serving(place, *changes) as server:
        with clients_of(server):
            pass
        agrees_with_its_log(server)
        assert server.log().count("Respawned uWSGI worker") > 0
        before = server.processes() - {server.pid}
        with clients_of(server):
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: not before & server.processes(), "new workers", shown=server.log)
        agrees_with_its_log(server)
        assert "gracefully (RE)spawned uWSGI master process" in server.log()


def test_harakiri_leaves_no_request_in_progress(place: Scratch) -> None:
    """Harakiri is a SIGKILL: the request has no end and is not counted, and is in progress no more."""
    # With threads, each request that ends cancels the alarm of the others.
    changes = [("threads = 2\n", "\n"), ("max-requests = 10000", "harakiri = 1")]
    with serving(place, TESTS, *changes) as server:
        with server.connection() as opened:
            opened.request("GET", "/hold")
            worker = int(opened.getresponse().readline())
            assert worker in server.writers()
            assert server.gauge("http_requests_in_progress") == 1
            wait_until(lambda: "HARAKIRI" in server.log(), "harakiri", shown=server.log)
        server.send(20)
        assert worker not in server.processes()


def test_cheaper_workers_share_few_files(place: Scratch) -> None:
    """In cheaper mode workers start when there is work and end when there is none."""
    grow_big_file(place)
    # With threads, uWSGI sometimes ends no worker.
    changes = [
        ("threads = 2\n", "\n"),
        ("cheaper = 2", "cheaper = 1\ncheaper-overload = 1\nsocket-timeout = 60"),
    ]
    with serving(place, TESTS, *changes) as server:
        # Clients that do not read their responses keep workers busy.
        reading = [server.raw("GET /file HTTP/1.1\nHost: localhost\n\n") for _ in range(2)]

        def demanded() -> bool:
            return server.get("/")[0] == 200 and len(server.writers()) > 1

        wait_until(demanded, "more workers", shown=server.log)
        for opened in reading:
            reset(opened)
        wait_until(lambda: len(server.writers()) == 1, "workers to end", shown=server.log)
        agrees_with_its_log(server)
        assert server.requests()["GET", "/file", "200"] == 2
        files = [path.name for path in server.directory.glob("counter_*.db")]
        assert len(files) <= 5, "four workers and the master"


def test_server_after_a_killed_master_continues_its_counts(place: Scratch) -> None:
    """Its workers end by themselves and release their slots."""
    with serving(place, TESTS) as first:
        first.send(20)
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: not first.processes(), "workers to end", shown=first.log)
    wait_until(lambda: not slots_of(first.directory).holders(), "all slots to be free")
    with serving(place, TESTS) as second:
        second.sent += first.sent
        second.send(20)


@pytest.mark.parametrize("single", [False, True], ids=["an interpreter each", "single-interpreter"])
def test_two_applications_in_one_process_are_counted(place: Scratch, single: bool) -> None:
    """With two interpreters the second is refused the directory; in a single one both are counted."""
    mounts = "mount = {0}=tests.servers.apps.flask_app:app\nmount = /second=tests.servers.apps.flask_app:app"
    changes = [(TESTS[0], mounts.format("/") + "\nmanage-script-name = true"), ("cheaper = 2\n", "\n")]
    if single:
        changes.append(("master = true", "master = true\nsingle-interpreter = true"))
    with serving(place, ("processes = 4", "processes = 1"), *changes) as server:
        for _ in range(10):
            assert server.get("/second/")[0] == 200
        if single:
            assert "another interpreter" not in server.log()
            server.sent += 10
        else:
            assert "which another interpreter of process" in server.log()
            assert server.get("/second/metrics")[0] == 500
        server.send(10)
