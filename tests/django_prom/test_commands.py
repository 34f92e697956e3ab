"""A new project and its management commands, in processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import interpreters
from web_prom import collector_for

pytestmark = pytest.mark.slow


# The longest time that a process may take to start, on a busy machine.
TIMEOUT_SECONDS = 60.0


MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


# A short form of what `startproject` writes, and one more line.
SETTINGS = """
SECRET_KEY = "x" * 60
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
USE_TZ = True
INSTALLED_APPS = ["django.contrib.staticfiles", "django_prom"]
STATIC_URL = "static/"
"""


URLS = """
from django.http import HttpResponse
from django.urls import include, path

def hello(request):
    return HttpResponse("version 1")

urlpatterns = [path("hello/", hello), path("", include("django_prom.urls"))]
"""


# Makes the reloader log the files that it has seen.
LOGGING = """
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django.utils.autoreload": {"handlers": ["stderr"], "level": "DEBUG"}},
}
"""


class Project:
    """A project in its own directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "shop").mkdir()
        (root / "shop" / "__init__.py").touch()
        self.write("manage.py", MANAGE)
        self.write("shop/settings.py", SETTINGS)
        self.write("shop/urls.py", URLS)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.root / name).write_text(text)

    def add(self, line: str) -> None:
        """Add a line to the settings."""
        with (self.root / "shop/settings.py").open("a") as file:
            file.write(f"{line}\n")

    def log(self) -> str:
        """Return the output of the server."""
        return (self.root / "log").read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until the output of the server contains a text."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.log():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def manage(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a management command until it ends."""
        return interpreters.run(
            self._command(*arguments),
            cwd=self.root,
            env=self._environ(**environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def serving(self, *options: str, **environ: str) -> Iterator[int]:
        """Run ``runserver`` on a free port, and stop it and its reloader at the end."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (self.root / "log").open("wb") as output:
            server = interpreters.Popen(
                self._command("runserver", f"127.0.0.1:{port}", *options),
                cwd=self.root,
                env=self._environ(**environ),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(port, server)
            yield port
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(TIMEOUT_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            wait_until_empty(server.pid)

    def _wait_until_ready(self, port: int, server: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + TIMEOUT_SECONDS
        while not get(port, "/metrics"):
            assert server.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-B", "manage.py", *arguments]

    def _environ(self, **environ: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("PROM")}
        kept.pop("DJANGO_SETTINGS_MODULE", None)
        here = str(Path(__file__).parents[2])
        return {**kept, "PYTHONPATH": here, "PYTHONWARNINGS": "error", **environ}


def get(port: int, path: str) -> str | None:
    """Return the body of a page, or None without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):  # the reloader can stop the server during an answer
        return None
    finally:
        connection.close()


def wait_until_empty(group: int) -> None:
    """Wait until a process group is empty. The reloader's child is not a child of this process."""
    until = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"the process group {group} does not end")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a new project."""
    return Project(tmp_path)


def hellos(port: int) -> float:
    """Return the counted requests of the page."""
    found = re.search(
        r'^http_requests_total{method="GET",route="/hello/",status="200"} (\S+)$',
        get(port, "/metrics") or "",
        re.MULTILINE,
    )
    return float(found[1]) if found else 0.0


def assert_counted(port: int, times: int) -> None:
    """Check the counted requests of the page. A request is counted after the client has the answer."""
    until = time.monotonic() + TIMEOUT_SECONDS
    while hellos(port) < times and time.monotonic() < until:
        time.sleep(0.02)
    assert hellos(port) == times


def test_fault_17_two_lines_measure_a_project(project: Project) -> None:
    """One in INSTALLED_APPS, one in the URLs. The checks report nothing."""
    assert len(re.findall("django_prom", SETTINGS)) == len(re.findall("django_prom", URLS)) == 1
    done = project.manage("check")
    assert (done.returncode, done.stderr) == (0, "")
    with project.serving("--noreload") as port:
        for _ in range(3):
            assert get(port, "/hello/") == "version 1"
        assert_counted(port, 3)


def test_fault_14_project_is_measured_under_the_reloader(project: Project) -> None:
    """After a change it runs the project in a new child process, which starts at zero."""
    project.add(LOGGING)
    urls = project.root / "shop/urls.py"
    with project.serving() as port:
        assert get(port, "/hello/") == get(port, "/hello/") == "version 1"
        assert_counted(port, 2)
        # The reloader ignores a change of a file before it has seen the file for the first time.
        project.wait_for_log(f"File {urls} first seen")
        changed = time.time() + 2  # some file systems store whole seconds
        project.write("shop/urls.py", URLS.replace("version 1", "version 2"))
        os.utime(urls, (changed, changed))
        until = time.monotonic() + TIMEOUT_SECONDS
        while get(port, "/hello/") != "version 2":
            assert time.monotonic() < until, project.log()
            time.sleep(0.1)
        assert_counted(port, 1)
        assert "Duplicated" not in project.log()


def test_check_command_reports_wrong_settings(project: Project) -> None:
    """It fails without a traceback."""
    project.add("PROM_DURATION_BUCKETS = [2, 1]")
    done = project.manage("check")
    assert done.returncode == 1
    assert "(django_prom.E001) PROM_DURATION_BUCKETS is [2, 1]" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_deploy_command_warns_of_open_metrics(project: Project) -> None:
    """There is no warning if access is restricted."""
    assert "django_prom.W001" in project.manage("check", "--deploy").stderr
    closed = project.manage("check", "--deploy", PROM_BEARER_TOKEN="secret")
    assert "django_prom" not in closed.stderr


def test_server_with_wrong_settings_does_not_start(project: Project) -> None:
    """The last line has the reason. gunicorn imports the same callable."""
    project.add("PROM_PAHT = '/metrics'")
    done = interpreters.run(
        [sys.executable, "-B", "-c", "from django.core.wsgi import get_wsgi_application as g; g()"],
        cwd=project.root,
        env={**project._environ(), "DJANGO_SETTINGS_MODULE": "shop.settings"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: django_prom: PROM_PAHT is not")


def test_fault_20_commands_open_no_port_and_write_no_file(project: Project, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    code = "import subprocess; subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False)"
    for command in (("check", "--deploy"), ("diffsettings",), ("shell", "-c", code)):
        done = project.manage(*command, PROMETHEUS_MULTIPROC_DIR=str(shared))
        assert done.returncode == 0, done.stderr
        assert "socket:" not in done.stdout
    assert not shared.exists()
    assert "PROM_" not in project.manage("diffsettings").stdout


MODELS = """
from prometheus_client import Counter, Gauge
ORDERS = Counter("shop_orders", "Orders taken.", ["paid_with"])
BUSY = Gauge("shop_busy", "Commands at work.", multiprocess_mode="livesum")
"""


COMMAND = """
from django.core.management.base import BaseCommand
from shop.models import BUSY, ORDERS

class Command(BaseCommand):
    requires_system_checks = []

    def handle(self, *args, **options):
        ORDERS.labels("card").inc()
        BUSY.set(1)
"""


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_fault_39_commands_share_one_slot(tmp_path: Path, name: str) -> None:
    """There are files of one slot, and no live gauge of a command that has ended."""
    project = Project(tmp_path)
    project.add("INSTALLED_APPS.append('shop')")
    project.write("shop/models.py", MODELS)
    (tmp_path / "shop" / "management" / "commands").mkdir(parents=True)
    project.write("shop/management/commands/order.py", COMMAND)
    shared = tmp_path / "shared"
    shared.mkdir()
    for _ in range(3):
        done = project.manage("order", **{name: str(shared), "PYTHONWARNINGS": "ignore"})
        assert done.returncode == 0, done.stderr
    assert {path.stem.rpartition("_")[2] for path in shared.glob("*.db")} == {"s0"}
    found = {
        sample.name: sample.value for family in collector_for(shared).collect() for sample in family.samples
    }
    assert found["shop_orders_total"] == 3
    assert "shop_busy" not in found


def test_fault_39_command_does_not_create_the_directory(tmp_path: Path) -> None:
    """The server creates it, possibly as another user. A warning says that the values are not shared."""
    project = Project(tmp_path)
    shared = tmp_path / "shared"
    count = "from prometheus_client import Counter; Counter('late', 'Help.').inc()"
    done = project.manage("shell", "--command", count, PROMETHEUS_MULTIPROC_DIR=str(shared))
    assert done.returncode == 0, done.stderr
    assert not shared.exists()
    assert "No such file or directory" in done.stderr


def test_fault_47_migrate_and_check_do_not_create_the_directory(project: Project, tmp_path: Path) -> None:
    """Root often runs them, and the server's user could not write to a directory of root."""
    project.add("DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}")
    for command in (("migrate",), ("check",), ("collectstatic", "--dry-run", "--no-input")):
        project.add("STATIC_ROOT = 'static'")
        done = project.manage(*command, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "volume" / "shared"))
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "volume").exists(), command


def test_fault_47_check_command_reports_an_unusable_directory(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = project.manage("check", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file" / "shared"))
    assert done.returncode == 1
    assert "(django_prom.E003) PROMETHEUS_MULTIPROC_DIR is" in done.stderr
