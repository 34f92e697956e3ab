"""Faults that occur only with a real server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.process import DJANGO_APP, FLASK_APP, HOOKS, Gunicorn, Scratch, scratch, wait_until

pytestmark = pytest.mark.packages

PLAIN_APP = "tests.servers.apps.plain_app:app"
WARNING = "this server has several workers and PROMETHEUS_MULTIPROC_DIR is not set"

# Notes what gunicorn's own Response did with each file: sent it with sendfile(2), or chunk by chunk.
WATCH_SENDFILE = """
import json
import os

if "{hooks}":
    from web_prom.gunicorn import child_exit, nworkers_changed, on_exit, on_starting, pre_exec

def post_worker_init(worker):
    from gunicorn.http.wsgi import Response

    original = Response.sendfile

    def sendfile(response, body):
        sent = original(response, body)
        with open("sendfile.json", "a") as log:
            log.write(json.dumps([response.req.path, sent]) + "\\n")
        return sent

    Response.sendfile = sendfile
"""


def watched(place: Scratch, app: str, worker_class: str) -> Gunicorn:
    """Return a server with one worker that notes each file that it sends."""
    config = place.configuration(WATCH_SENDFILE.format(hooks="yes"))
    environ = {"PROM_RESPONSE_SIZE": "yes"}
    return Gunicorn(place, config=config, app=app, workers=1, worker_class=worker_class, environ=environ)


@pytest.fixture(scope="module", params=[FLASK_APP, DJANGO_APP], ids=["flask", "django"])
def server(request: pytest.FixtureRequest) -> Iterator[Gunicorn]:
    """Run a server with a sync worker for all tests that only send requests."""
    with scratch() as place, watched(place, request.param, "sync") as running:
        yield running


def check_file_is_sent(server: Gunicorn) -> None:
    """Check that the server gets the object that it created, closes it, and that the bytes are counted."""
    status, _, body = server.get("/file")
    folder = server.access_log.parent
    assert (status, body) == (200, (folder / "file").read_bytes())
    wait_until(lambda: server.value("http_requests_total", route="/file") == 1, "the request to finish")
    assert server.value("http_requests_in_progress") == 0
    assert server.value("http_response_size_bytes_sum", route="/file") == len(body)
    check_sendfile_was_used(folder)


def check_sendfile_was_used(folder: Path) -> None:
    """Check that a server has sent one file, with sendfile(2)."""
    noted = [json.loads(line) for line in (folder / "sendfile.json").read_text().splitlines()]
    assert noted == [["/file", True]]


def test_fault_07_sendfile_response_finishes_its_request(server: Gunicorn) -> None:
    check_file_is_sent(server)


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
@pytest.mark.parametrize("app", [FLASK_APP, DJANGO_APP], ids=["flask", "django"])
def test_fault_07_sendfile_response_finishes_its_request_in_other_workers(
    place: Scratch, app: str, worker_class: str
) -> None:
    with watched(place, app, worker_class) as running:
        check_file_is_sent(running)


def test_fault_07_server_uses_sendfile_without_web_prom(place: Scratch) -> None:
    """The test above compares with this."""
    config = place.configuration(WATCH_SENDFILE.format(hooks=""))
    with Gunicorn(place, config=config, app=PLAIN_APP, workers=1) as plain:
        assert plain.get("/file")[0] == 200
    check_sendfile_was_used(place.folder)


@pytest.mark.parametrize("app", [FLASK_APP, DJANGO_APP], ids=["flask", "django"])
def test_fault_15_missing_shared_directory_is_warned_of_once(place: Scratch, app: str) -> None:
    """Each worker logs it at its first scrape, with the remedy, and not again."""
    with Gunicorn(place, config=None, app=app) as server:
        assert server.get("/")[0] == 200
        assert WARNING not in server.log()
        for _ in range(10):
            server.scrape()
        assert 1 <= server.log().count(WARNING) <= 2
        assert "add --config python:web_prom.gunicorn" in server.log()


@pytest.mark.parametrize(("config", "workers"), [(HOOKS, 2), (HOOKS, 1), (None, 1)])
def test_fault_15_no_warning_where_it_is_not_needed(place: Scratch, config: str | None, workers: int) -> None:
    """The hooks are used, or there is one worker."""
    with Gunicorn(place, config=config, workers=workers) as server:
        server.scrape()
        assert WARNING not in server.log()


@pytest.mark.parametrize("preload", [False, True], ids=["loaded late", "preloaded"])
def test_fault_16_directory_set_after_the_import_of_prometheus_client_is_used(
    place: Scratch, preload: bool
) -> None:
    """It is used for web-prom's metrics and for one that the user created before."""
    options = ["--preload"] if preload else []
    environ = {"NAMED_LATE": str(place.folder / "late")}
    app = "tests.servers.apps.late_variable:app"
    with Gunicorn(place, *options, config=None, app=app, environ=environ) as server:
        answered = [int(server.get("/")[2]) for _ in range(20)]
        while len(set(answered)) < 2:  # the kernel chooses the worker
            answered.append(int(server.get("/")[2]))
        wait_until(lambda: server.value("http_requests_total") == len(answered), "all workers' requests")
        assert server.value("shop_visits_total") == len(answered)
        assert WARNING not in server.log()


def test_fault_31_content_type_follows_the_accept_header(server: Gunicorn) -> None:
    """Prometheus 3 refuses a scrape whose type is missing or unknown."""
    _, plain, _ = server.get("/metrics", Accept="text/plain;version=0.0.4")
    assert plain["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    _, modern, body = server.get("/metrics", Accept=accept)
    assert modern["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_fault_32_invalid_headers_and_other_methods_are_answered(server: Gunicorn) -> None:
    """An invalid version, a weight of zero, Vary, and HEAD."""
    before = server.value("http_requests_total")
    status, headers, _ = server.get("/metrics", Accept="application/openmetrics-text; version=abc")
    assert status == 200
    assert {"Accept", "Accept-Encoding"} <= set(headers["Vary"].split(", "))
    assert "Content-Encoding" not in server.get("/metrics", Accept_Encoding="gzip;q=0")[1]
    _, headers, body = server.get("/metrics", Accept_Encoding="gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert b"http_requests_in_progress" in gzip.decompress(body)
    status, headers, body = server.get("/metrics", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    status, headers, _ = server.get("/metrics", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert server.value("http_requests_total") == before
