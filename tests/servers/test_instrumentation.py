"""gunicorn measures applications that do not use web-prom themselves."""

from __future__ import annotations

import signal

import pytest

from tests.servers.exporting import Exporting
from tests.servers.load import Account, measured
from tests.servers.process import FLASK_APP, Scratch, command, run, wait_until

FLASK = "tests.servers.apps.unmeasured_flask:app"
DJANGO = "tests.servers.apps.unmeasured_django:application"
INSTRUMENT = {"PROM_INSTRUMENT": "1"}

BOTH = Account(
    {
        ("GET", "/items/<int:number>", "200"): 3,
        ("GET", "/error", "500"): 1,
        ("GET", "_unmatched", "404"): 2,
    }
)


def visit(server: Exporting) -> None:
    """Send the requests of BOTH."""
    for number in range(3):
        assert server.get(f"/items/{number}")[0] == 200
    assert server.get("/error")[0] == 500
    for path in ("/no/such/page", "/metrics"):
        assert server.get(path)[0] == 404


def settled(server: Exporting, expected: Account) -> None:
    """Wait until the exporter has exactly these requests."""
    wait_until(lambda: measured(server.exported()) == expected, "the metrics", shown=server.log)


@pytest.mark.parametrize("app", [FLASK, DJANGO], ids=["Flask", "Django"])
@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["each imports", "preloaded"])
def test_fault_86_unchanged_application_is_measured(
    place: Scratch, app: str, options: tuple[str, ...]
) -> None:
    with Exporting(place, *options, app=app, environ={**INSTRUMENT, "PROM_PATH": ""}) as server:
        visit(server)
        settled(server, BOTH)
        assert server.total("http_request_exceptions_total", "http_request_exceptions") == 1


def test_fault_86_reload_measures_the_new_workers(place: Scratch) -> None:
    with Exporting(place, app=FLASK, environ={**INSTRUMENT, "PROM_PATH": ""}) as server:
        visit(server)
        before = set(server.servers())
        server.signal(signal.SIGHUP)
        wait_until(lambda: len(before & set(server.servers())) == 1, "other workers", shown=server.log)
        visit(server)
        settled(server, BOTH + BOTH)


@pytest.mark.parametrize("worker_class", ["asgi", "uvicorn_worker.UvicornWorker"])
def test_fault_86_unchanged_asgi_application_is_measured(place: Scratch, worker_class: str) -> None:
    if worker_class == "asgi":
        pytest.importorskip("gunicorn.workers.gasgi", reason="gunicorn before 25 has no worker of that class")
    environ = {**INSTRUMENT, "PROM_PATH": "", "AS_ASGI": "1"}
    with Exporting(place, app=DJANGO, worker_class=worker_class, environ=environ) as server:
        visit(server)
        settled(server, BOTH)


def test_responses_of_an_outer_middleware_are_measured(place: Scratch) -> None:
    environ = {**INSTRUMENT, "PROM_PATH": ""}
    with Exporting(place, app=FLASK, environ=environ) as server:
        assert server.get("/static/logo.png")[0] == 204
        settled(server, Account({("GET", "_unmatched", "204"): 1}))


def test_application_is_not_measured_without_the_setting(place: Scratch) -> None:
    with Exporting(place, app=FLASK) as server:
        visit(server)
        assert measured(server.exported()) == Account()


def test_application_that_measures_itself_is_counted_once(place: Scratch) -> None:
    with Exporting(place, app=FLASK_APP, environ=INSTRUMENT) as server:
        assert server.get("/items/7")[0] == 200
        settled(server, Account({("GET", "/items/<int:number>", "200"): 1}))


def test_invalid_setting_is_an_error_at_start(place: Scratch) -> None:
    done = run(place, command(app=FLASK), **INSTRUMENT, PROM_MAX_LABEL_SETS="none")
    assert done.returncode != 0
    assert "PROM_MAX_LABEL_SETS in the environment is 'none'" in done.stdout + done.stderr
