"""Where nothing of POSIX is there, one process is measured, and shared values are refused with the reason."""

from __future__ import annotations

import textwrap

import pytest

from tests.web_prom.support import python

pytestmark = pytest.mark.slow

# What the standard library and the frameworks need themselves is imported before it is taken away.
WINDOWS = textwrap.dedent("""
    import asyncio, concurrent.futures, gzip, http.client, http.server, logging.handlers, mmap
    import multiprocessing, os, selectors, signal, socket, socketserver, ssl, sys, tempfile
    import django, django.core.handlers.wsgi, django.test, flask, flask.testing, prometheus_client
    import prometheus_client.exposition, prometheus_client.openmetrics.exposition, starlette.applications
    GONE = {
        os: "chown fchmod fchown fork getegid geteuid getgid getgrouplist getuid killpg lchown mkfifo "
            "posix_fadvise posix_fallocate pread pwrite register_at_fork setsid statvfs sysconf uname "
            "O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK SEEK_DATA SEEK_HOLE WNOHANG",
        mmap: "MAP_ANON MAP_ANONYMOUS MAP_PRIVATE MAP_SHARED PROT_READ PROT_WRITE",
        signal: "SIGCHLD SIGCONT SIGHUP SIGKILL SIGQUIT SIGSTOP SIGUSR1 SIGUSR2",
        socket: "MSG_DONTWAIT SO_REUSEPORT recv_fds send_fds",
    }
    for module, names in GONE.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    for name in ("fcntl", "grp", "posix", "pwd", "resource", "termios"):
        sys.modules[name] = None
    sys.platform = "win32"
""")


def windows(code: str) -> None:
    """Run code in an interpreter that has nothing of POSIX."""
    python(WINDOWS + textwrap.dedent(code))


def test_fault_48_everything_can_be_imported_without_posix() -> None:
    windows(
        """
    import django_prom, flask_prom, web_prom, web_prom.asgi, web_prom.wsgi
    from web_prom import *
    """
    )


def test_fault_48_one_process_is_measured_without_posix() -> None:
    """Flask, plain WSGI, ASGI, access control, and the server in a thread."""
    windows(
        """
    import warnings
    # Flask 2.3's test client asks for it.
    warnings.filterwarnings("ignore", "The '__version__' attribute", DeprecationWarning)
    from prometheus_client import CollectorRegistry
    from flask import Flask
    from flask_prom import FlaskProm
    import web_prom
    registry = CollectorRegistry()
    app = Flask("shop")
    app.config["PROM_BEARER_TOKEN"] = "hush"
    FlaskProm(app, registry=registry)
    app.add_url_rule("/items/<int:number>", view_func=lambda number: str(number), endpoint="item")
    client = app.test_client()
    assert client.get("/items/7").status_code == 200
    assert client.get("/metrics").status_code == 401
    text = client.get("/metrics", headers={"Authorization": "Bearer hush"}).text
    assert 'http_requests_total{method="GET",route="/items/<int:number>",status="200"} 1.0' in text
    assert "http_requests_in_progress 0.0" in text

    class Custom:
        def collect(self):
            yield prometheus_client.Metric("custom", "Help.", "gauge")

    registry.register(Custom())
    server, thread = web_prom.start_http_server(0, addr="127.0.0.1", registry=registry)
    # urllib.request would ask Windows for its certificates from Python 3.12 on.
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", "/metrics")
    assert b"http_requests_total" in connection.getresponse().read()
    connection.close()
    server.shutdown()

    async def ask():
        async def hello(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})
        app = web_prom.asgi.PrometheusMiddleware(hello, registry=CollectorRegistry())
        sent = []
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}
        async def send(message):
            sent.append(message)
        for path in ("/x", "/metrics"):
            scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
            await app(scope, receive, send)
        return b"".join(message.get("body", b"") for message in sent)
    import web_prom.asgi
    text = asyncio.run(ask())
    assert b'http_requests_total{method="GET",route="_unmatched",status="200"} 1.0' in text
    """
    )


def test_fault_48_a_django_project_is_measured_without_posix() -> None:
    windows(
        """
    import types
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import include, path
    urls = sys.modules["urls"] = types.ModuleType("urls")
    settings.configure(INSTALLED_APPS=["django_prom"], ROOT_URLCONF="urls", SECRET_KEY="x", DATABASES={},
        ALLOWED_HOSTS=["*"])
    django.setup()
    urls.urlpatterns = [
        path("hello", lambda request: HttpResponse("hello")),
        path("", include("django_prom.urls")),
    ]
    from django.core import checks
    from django.test import Client
    assert [found.id for found in checks.run_checks()] == []
    assert Client().get("/hello").status_code == 200
    text = Client().get("/metrics").content.decode()
    assert 'http_requests_total{method="GET",route="/hello",status="200"} 1.0' in text
    """
    )


def test_fault_48_shared_values_are_refused_with_the_reason() -> None:
    windows(
        """
    directory = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
    import web_prom
    for ask in (web_prom.share_values, web_prom.make_wsgi_app, lambda: web_prom.collector_for(directory)):
        try:
            ask()
        except web_prom.DirectoryError as error:
            assert "POSIX systems only; unset the variable" in str(error), error
        else:
            raise AssertionError(ask)
    os.rmdir(directory)
    """
    )
