"""Apache with mod_wsgi, both from Debian, with the configurations of docs/how-to/servers.rst."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.manifests import replaced
from tests.programs import needs_program
from tests.servers.client import reset
from tests.servers.prefork import Prefork, running
from tests.servers.process import ROOT, Scratch, wait_until

# What the Flask shop and web-prom import.
NEEDED = ("flask>=2.3", "flask-caching>=2", "sqlalchemy>=2", "prometheus-client>=0.20,<1")
# SQLAlchemy, which the shop uses, cannot be imported in two interpreters of a process.
SECOND = """
from flask import Flask
from flask_prom import FlaskProm

application = Flask("second")
application.add_url_rule("/", "home", lambda: "second")
FlaskProm(application)
"""
EXAMPLES = ROOT / "examples" / "servers"
DAEMONS, EMBEDDED = "apache.conf", "apache_embedded.conf"

# The part of Debian's configuration that an example needs.
FRAME = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
WSGISocketPrefix {folder}/wsgi
ErrorLog {folder}/server.log
LogFormat "%m %U %>s" counted
CustomLog {folder}/access counted
LoadModule mpm_{mpm}_module /usr/lib/apache2/modules/mod_mpm_{mpm}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so
User www-data
Group www-data
StartServers 2
<IfModule mpm_prefork_module>
MinSpareServers 1
</IfModule>
Include {folder}/site.conf
"""


@pytest.fixture(scope="module")
def venv() -> Iterator[Path]:
    """Make an environment with web-prom for the Python of Debian's mod_wsgi. Other users can read it."""
    needs_program("/usr/sbin/apache2", package="apache2 libapache2-mod-wsgi-py3")
    with tempfile.TemporaryDirectory(prefix="web-prom-mod-wsgi-") as folder:
        Path(folder).chmod(0o755)
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", f"{folder}/bin/python"]
        subprocess.run([*pip, "install", "--quiet", *NEEDED], check=True)
        (packages,) = Path(folder).glob("lib/python3*/site-packages")
        copies = [str(packages / name) for name in ("web_prom", "flask_prom")]
        for copy in copies:
            shutil.copytree(ROOT / Path(copy).name, copy, ignore=shutil.ignore_patterns("__pycache__"))
        # Apache's user cannot write here: each process would compile them again.
        subprocess.run([f"{folder}/bin/python", "-m", "compileall", "-q", *copies], check=True)
        yield Path(folder)


class Site:
    """A place with the shop in it, as docs/how-to/servers.rst has it in /srv/shop.

    Attributes:
        place: Where the server's files are.
        shop: Where the application is.
        directory: What its processes share.
        replaced: What the documents invent, and what is here.
    """

    def __init__(self, place: Scratch, venv: Path) -> None:
        self.place = place
        place.folder.chmod(0o1777)  # Apache's user makes the shared directory
        self.shop = place.folder / "shop"
        self.directory = place.folder / "shared"
        shutil.copytree(ROOT / "examples", self.shop)
        self.replaced = [("/srv/shop/venv", str(venv)), ("/srv/shop", str(self.shop))]
        script = (EXAMPLES / "shop.wsgi").read_text("utf-8")
        (self.shop / "shop.wsgi").write_text(replaced(script, ("/dev/shm/shop-metrics", str(self.directory))))

    def serving(self, example: str, *changes: tuple[str, str]) -> contextlib.AbstractContextManager[Prefork]:
        """Run Apache with an example's configuration."""
        folder = self.place.folder
        site = replaced((EXAMPLES / example).read_text("utf-8"), *changes, *self.replaced)
        (folder / "site.conf").write_text(site)

        def command(port: int) -> list[str]:
            mpm = "prefork" if example == EMBEDDED else "event"
            (folder / "httpd.conf").write_text(FRAME.format(folder=folder, port=port, mpm=mpm))
            return ["/usr/sbin/apache2", "-f", f"{folder}/httpd.conf", "-DFOREGROUND"]

        return running(self.place, command, self.directory)

    def logged(self) -> int:
        """Return how many requests for / Apache's access log has as answered by the application."""
        return (self.place.folder / "access").read_text().splitlines().count("GET / 200")

    def agrees(self, server: Prefork, *, killed: int = 0) -> None:
        """Check that log and metrics agree.

        Args:
            server: Who has them.
            killed: The number of requests that may be in only one of them: a killed process may have done
                one of the two.
        """

        def agrees() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                counted, in_progress = server.requests(), server.gauge("http_requests_in_progress")
                return abs(counted["GET", "/", "200"] - self.logged()) <= killed and not in_progress
            return False

        wait_until(agrees, "log and metrics to agree", shown=server.log)


@pytest.fixture
def site(place: Scratch, venv: Path) -> Site:
    """Make a place with the shop in it."""
    return Site(place, venv)


@contextlib.contextmanager
def clients_of(server: Prefork, clients: int = 3) -> Iterator[None]:
    """Send requests until the end of the block; a server that ends may drop some."""
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                server.get("/")
            over.wait(0.01)

    with ThreadPoolExecutor(clients) as pool:
        try:
            for _ in range(clients):
                pool.submit(send)
            yield
        finally:
            over.set()


@pytest.mark.parametrize(("example", "threads"), [(DAEMONS, 2), (EMBEDDED, 1)])
def test_killed_processes_and_graceful_restart_keep_the_counts(
    site: Site, example: str, threads: int
) -> None:
    """Apache starts other processes, which continue with the slots."""
    with site.serving(example) as server:
        with clients_of(server):
            wait_until(lambda: len(server.writers()) >= 2, "two processes that write", shown=server.log)
            victim = min(server.writers())
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in server.processes(), "it to be dead")
            wait_until(lambda: len(server.writers()) >= 2, "another process", shown=server.log)
            before = server.writers()
            os.kill(server.pid, signal.SIGUSR1)
            wait_until(lambda: not before & server.processes(), "the others to end", shown=server.log)
            wait_until(lambda: len(server.writers()) >= 2, "new processes", shown=server.log)
        site.agrees(server, killed=threads)
        assert server.requests()["GET", "/", "200"] > 0
        name = "http_server_worker_capacity"
        assert set(server.samples(name, name, "worker").values()) == {threads}


def test_file_response_is_measured_until_its_end_or_a_disconnect(site: Site) -> None:
    """Its wsgi.file_wrapper accepts no attributes; the end is noticed at the file in it."""
    with (site.shop / "catalogue.csv").open("r+b") as file:
        file.truncate(64 << 20)
    with site.serving(DAEMONS) as server:
        opened = server.raw("GET /catalogue.csv HTTP/1.1\nHost: localhost\n\n")
        assert opened.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert server.gauge("http_requests_in_progress") == 1
        reset(opened)
        server.settle(Counter({("GET", "/", "200"): server.sent, ("GET", "/catalogue.csv", "200"): 1}))
        assert len(server.get("/catalogue.csv")[1]) == 64 << 20
        server.settle(Counter({("GET", "/", "200"): server.sent, ("GET", "/catalogue.csv", "200"): 2}))


def test_second_interpreter_of_one_process_is_refused(site: Site) -> None:
    """Without application-group each script has an interpreter. The second one is refused."""
    script = (site.shop / "shop.wsgi").read_text("utf-8")
    (site.shop / "second.wsgi").write_text(
        replaced(script, ("from flask_shop import app as application", SECOND))
    )
    alias = "WSGIScriptAlias / /srv/shop/shop.wsgi process-group=shop application-group=%{GLOBAL}"
    apart = "\n".join(
        f"WSGIScriptAlias {path} /srv/shop/{script} process-group=shop"
        for path, script in (("/second", "second.wsgi"), ("/", "shop.wsgi"))
    )
    with site.serving(DAEMONS, ("processes=2", "processes=1"), (alias, apart)) as server:
        assert server.get("/second/")[0] == 200, server.log()
        assert "which another interpreter of process" in server.log()
        assert "application-group=%{GLOBAL}" in server.log()
        assert server.get("/second/metrics")[0] == 500
        server.send(20)
