"""The totals in /metrics agree with the server's access log, whatever happens to workers and clients."""

from __future__ import annotations

import signal

import pytest

from tests.servers.exporting import Exporting
from tests.servers.load import KINDS, Account, Kind, Load, agree, held, logged, measured
from tests.servers.process import DJANGO_APP, FLASK_APP, Gunicorn, Scratch, wait_until

pytestmark = pytest.mark.packages

# More workers prove no less than two. A framework does not depend on their number.
APPS_AND_WORKERS = pytest.mark.parametrize(
    ("app", "workers"), [(FLASK_APP, 4), (DJANGO_APP, 2)], ids=["flask-4", "django-2"]
)
WORKER_CLASSES = pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])


HANGING_UP = (
    *(kind for kind in KINDS if kind.leaves),
    Kind("/slow", 200, "HEAD", leaves="at once"),
    Kind("/items/{}", 200, leaves="at once"),
    Kind("/error", 500, leaves="at once"),
    Kind("/breaks-at-once", 500, leaves="at once"),
    Kind("/stream", 200, leaves="at once"),
    Kind("/stream", 200, leaves="in the answer"),
    Kind("/breaks-half-way", 200, leaves="at once"),
    Kind("/breaks-half-way", 200, leaves="in the answer"),
    Kind("/file", 200, leaves="at once"),
    Kind("/long-stream", 200, leaves="at once"),
)


def difference(server: Exporting) -> str:
    """Return where log and metrics do not agree."""
    seen, written = measured(server.exported()), logged(server.access_log)
    return str({key: (seen[key], written[key]) for key in seen | written if seen[key] != written[key]})


def check_the_rest(server: Gunicorn, account: Account) -> None:
    """Compare the families that the access log cannot confirm with those that it can."""
    families = server.scrape()
    for method, route in {(method, route) for method, route, _ in account}:
        finished = sum(count for key, count in account.items() if key[:2] == (method, route))
        timed = server.value("http_request_duration_seconds_count", method=method, route=route)
        assert timed == finished, route
    raised = {
        (sample.labels["route"], sample.labels["exception"]): sample.value
        for sample in families["http_request_exceptions"].samples
        if sample.name.endswith("_total")
    }
    assert raised[("/error", "RuntimeError")] == account["GET", "/error", "500"]
    assert raised[("/breaks-half-way", "RuntimeError")] == account["GET", "/breaks-half-way", "200"]
    assert raised[("/breaks-at-once", "RuntimeError")] == account["GET", "/breaks-at-once", "500"]
    assert server.value("shop_orders_total") == account["POST", "/orders", "201"]
    assert server.value("web_prom_instrumentation_errors_total") == 0


@pytest.mark.versions
@APPS_AND_WORKERS
@WORKER_CLASSES
def test_totals_agree_with_access_log_and_clients(
    place: Scratch, app: str, worker_class: str, workers: int
) -> None:
    """Concurrent requests of all kinds, with some disconnects; then clients of which each disconnects."""
    with Exporting(place, app=app, worker_class=worker_class, workers=workers) as server:
        with Load(server, 500) as load:
            pass
        account = agree(server)
        assert (load.unanswered, load.errors) == (0, [])
        assert all(account[key] >= count for key, count in load.answered.items())
        assert sum(account.values()) == 500
        check_the_rest(server, account)
        with Load(server, 150, kinds=HANGING_UP):
            pass

        def settled() -> bool:
            # A scrape of the exporter involves no worker, so it cannot trigger the counting.
            families = server.exported()
            busy = sum(sample.value for sample in families["http_requests_in_progress"].samples)
            written = logged(server.access_log)
            return busy == 0 and sum(written.values()) == 650 and measured(families) == written

        wait_until(settled, "log and metrics to agree", shown=lambda: difference(server))


# The type of worker matters for preloading only where it patches the standard library.
@pytest.mark.parametrize(
    ("worker_class", "preload"),
    [("sync", False), ("gthread", True), ("gevent", False), ("gevent", True)],
    ids=["loaded late-sync", "preloaded-gthread", "loaded late-gevent", "preloaded-gevent"],
)
def test_max_requests_loses_no_request(place: Scratch, worker_class: str, preload: bool) -> None:
    """--max-requests ends each worker after twenty requests."""
    options = ["--max-requests=20", *(["--preload"] if preload else [])]
    with Gunicorn(place, *options, worker_class=worker_class) as server:
        with Load(server, 160) as load:
            pass
        account = agree(server)
        assert load.errors == []
        assert all(account[key] >= count for key, count in load.answered.items())
        check_the_rest(server, account)
        # A gevent worker checks its number of requests once a second, and one may serve nearly all of them.
        restarts = 1 if worker_class == "gevent" else 4
        wait_until(
            lambda: server.log().count("Autorestarting worker") >= restarts,
            f"{restarts} restarts",
            shown=server.log,
        )


@pytest.mark.versions
@WORKER_CLASSES
def test_graceful_reload_loses_no_request(place: Scratch, worker_class: str) -> None:
    """HUP twice, under load."""
    with Gunicorn(place, worker_class=worker_class) as server:
        with Load(server, 500) as load:
            for boots, share in ((4, 0.2), (6, 0.6)):
                load.wait_for(share)
                server.signal(signal.SIGHUP)
                server.wait_for_boots(boots)
        account = agree(server)
        assert load.errors == []
        assert all(account[key] >= count for key, count in load.answered.items())
        check_the_rest(server, account)


@pytest.mark.parametrize(
    ("worker_class", "options"),
    [
        ("sync", []),
        ("gthread", ["--preload"]),
        ("gevent", ["--env", "PROMETHEUS_MULTIPROC_DIR=named"]),
    ],
)
def test_upgrade_loses_no_request(place: Scratch, worker_class: str, options: list[str]) -> None:
    """USR2 starts a second server, then the first one ends, both under load."""
    with Gunicorn(place, *options, worker_class=worker_class) as server:
        with Load(server, 600) as load:
            load.wait_for(0.1)
            server.signal(signal.SIGUSR2)
            server.wait_for_boots(4)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        account = agree(server)
        assert load.errors == []
        assert all(account[key] >= count for key, count in load.answered.items())
        check_the_rest(server, account)
        (master,) = server.masters()
        assert master != server.pid


def test_aborted_upgrade_loses_no_request(place: Scratch) -> None:
    """The new server ends, and the old one has all counts."""
    with Gunicorn(place) as server:
        server.signal(signal.SIGUSR2)
        server.wait_for_boots(4)
        with Load(server, 100):
            pass
        (new,) = set(server.masters()) - {server.pid}
        server.signal(signal.SIGTERM, new)
        wait_until(lambda: server.masters() == [server.pid], "the new server to end")
        with Load(server, 100):
            pass
        assert sum(agree(server).values()) == 200


@WORKER_CLASSES
def test_fault_22_killed_worker_loses_only_its_requests_in_progress(
    place: Scratch, worker_class: str
) -> None:
    """SIGKILL loses the requests in progress and no others."""
    with Gunicorn(place, worker_class=worker_class) as server:
        with Load(server, 100):
            pass
        before = agree(server)
        with held(server) as victim:
            assert server.value("http_requests_in_progress") == 1
            server.signal(signal.SIGKILL, victim)
            server.wait_for_boots(3)
        assert agree(server) == before
        assert server.get("/", X_Request_Id="after")[0] == 200
        assert agree(server) == before + Account({("GET", "/", "200"): 1})
