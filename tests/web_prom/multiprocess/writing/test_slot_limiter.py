"""The cap on label sets where values are shared: it holds for a slot, whichever processes had it."""

from __future__ import annotations

import logging
import textwrap
from collections import Counter as Counts
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.asgi.asgi_server import Server as AsgiServer
from tests.web_prom.asgi.asgi_server import websocket_of
from tests.web_prom.asgi.test_websocket import CONNECT, PING, disconnect, echo
from tests.web_prom.multiprocess.writing.label_sets import next_holder
from tests.web_prom.support import Environ, python, serve
from web_prom import PrometheusMiddleware
from web_prom.asgi import PrometheusMiddleware as AsgiMiddleware
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.multiprocess.writing import current_storage
from web_prom.multiprocess.writing.value_file import ValueFile
from web_prom.wsgi import set_route

CAP = 5
FAMILIES = {
    "prometheus": {
        "http_requests_total",
        "http_request_duration_seconds_count",
        "http_request_exceptions_total",
        "http_request_size_bytes_count",
        "http_response_size_bytes_count",
        "http_response_first_byte_seconds_count",
    },
    "opentelemetry": {
        "http_server_request_duration_seconds_count",
        "http_server_request_body_size_bytes_count",
        "http_server_response_body_size_bytes_count",
        "http_response_first_byte_seconds_count",
    },
    "starlette-exporter": {
        "starlette_requests_total",
        "starlette_request_duration_seconds_count",
    },
    "fastapi-instrumentator": {
        "http_requests_total",
        "http_request_duration_seconds_count",
        "http_request_size_bytes_count",
        "http_response_size_bytes_count",
    },
    "django-prometheus": {
        "django_http_responses_total_by_status_view_method_total",
        "django_http_requests_latency_seconds_by_view_method_count",
        "django_http_exceptions_total_by_view_total",
    },
}
WEBSOCKETS = {
    "websocket_connections_total",
    "websocket_connection_duration_seconds_count",
    "websocket_messages_total",
}


def failing(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Fail in a route of the client's choice, in the midst of the body."""
    set_route(environ, environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"x"
    raise KeyError


def tenant(environ: Environ, response: Any) -> str:
    return str(environ["HTTP_TENANT"])


def shown(directory: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Return how many label sets without ``_overflow`` each sample has, and the sum of its values."""
    sets: Counts[str] = Counts()
    sums: Counts[str] = Counts()
    for family in WorkersCollector(directory, dict).collect():
        for sample in family.samples:
            sums[sample.name] += sample.value  # type: ignore[assignment]
            sets[sample.name] += "_overflow" not in sample.labels.values()
    return sets, dict(sums)


@pytest.mark.parametrize("naming", FAMILIES)
@pytest.mark.parametrize("extra", [False, True], ids=["routes", "extra labels"])
@pytest.mark.parametrize("constant", [{}, {"region": "eu"}], ids=["", "constant labels"])
def test_fault_40_limit_holds_over_generations_of_workers(
    shared: Path, naming: str, extra: bool, constant: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Every family with a cap; the sums over all label sets stay exact."""
    caplog.set_level(logging.ERROR)
    count = 0
    for generation in range(4):
        next_holder()
        app = PrometheusMiddleware(
            failing,
            registry=CollectorRegistry(),
            naming=naming,
            max_label_sets=CAP,
            constant_labels=constant,
            request_size=True,
            response_size=True,
            first_byte=True,
            extra_labels={"tenant": tenant} if extra else {},
        )
        for number in range(8):
            # The first two are of every generation.
            name = f"{number}" if number < 2 else f"{generation}-{number}"
            for _ in range(2):
                with pytest.raises(KeyError):
                    serve(app, "/" if extra else f"/{name}", HTTP_TENANT=name)
                count += 1
        sets, sums = shown(shared)
        for family in FAMILIES[naming]:
            assert sets[family] == CAP, family
            assert sums[family] == count, family


def test_fault_40_limit_holds_for_websockets(shared: Path) -> None:
    for generation in range(3):
        next_holder()
        app = AsgiMiddleware(
            echo,
            registry=CollectorRegistry(),
            max_label_sets=CAP,
            extra_labels={"tenant": lambda scope, response: scope["path"]},
        )
        for number in range(8):
            connection = [CONNECT, PING, disconnect()]
            AsgiServer(connection).run(app, websocket_of(f"/{generation}-{number}"))
        sets, sums = shown(shared)
        for family in WEBSOCKETS:
            assert 0 < sets[family] <= CAP, family
        assert sums["websocket_connections_total"] == 8 * (generation + 1)


def requests_of(app: Any, *tenants: str) -> None:
    for each in tenants:
        serve(app, "/", HTTP_TENANT=each)


def answering(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Answer in one route."""
    set_route(environ, "/")
    start_response("200 OK", [])
    return []


def measured(registry: CollectorRegistry, cap: int = CAP) -> PrometheusMiddleware:
    labels = {"tenant": tenant}
    return PrometheusMiddleware(answering, registry=registry, max_label_sets=cap, extra_labels=labels)


def tenants(directory: Path) -> dict[str, float]:
    """Return the requests of each tenant."""
    return {
        sample.labels["tenant"]: sample.value
        for family in WorkersCollector(directory, dict).collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


def test_fault_40_label_sets_in_the_slot_are_admitted(shared: Path) -> None:
    """Also where they are more than the cap, which was greater before."""
    requests_of(measured(CollectorRegistry(), cap=8), *"abcdefgh")
    next_holder()
    app = measured(CollectorRegistry(), cap=3)
    requests_of(app, "x", *"hgfedcba", "y")
    assert tenants(shared) == {**dict.fromkeys("abcdefgh", 2.0), "_overflow": 2.0}


def test_registries_of_a_process_share_the_count(shared: Path) -> None:
    one, two = CollectorRegistry(), CollectorRegistry()
    first, second, third = measured(one), measured(one), measured(two)
    requests_of(first, *"abc")
    requests_of(second, *"abd")
    requests_of(third, *"aef")
    assert tenants(shared) == {"a": 3, "b": 2, "c": 1, "d": 1, "e": 1, "_overflow": 1}


def test_label_value_overflow_of_a_client_is_counted(shared: Path) -> None:
    """A label set is one of those that stand for others only if all open labels say so."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        set_route(environ, environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    for generation in range(3):
        next_holder()
        labels = {"tenant": tenant}
        capped = PrometheusMiddleware(
            app, registry=CollectorRegistry(), max_label_sets=CAP, extra_labels=labels
        )
        for number in range(8):
            serve(capped, f"/{generation}-{number}", HTTP_TENANT="_overflow")
    routes = {
        sample.labels["route"]: sample.value
        for family in WorkersCollector(shared, dict).collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }
    assert len(routes) == CAP + 1
    assert routes["_overflow"] == 24 - CAP


def test_removed_label_sets_make_room_for_the_next_process(shared: Path) -> None:
    registry = CollectorRegistry()
    requests_of(measured(registry), *"abcde")
    for name in ("http_requests", "http_request_duration_seconds"):
        registry._names_to_collectors[name].clear()  # type: ignore[attr-defined]
    next_holder()
    requests_of(measured(CollectorRegistry()), *"fghijk")
    assert tenants(shared) == {**dict.fromkeys("fghij", 1.0), "_overflow": 1.0}


def test_slot_is_read_once_for_each_family(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a label set that was asked for once is known by its values."""
    looks: list[bytes] = []
    keys = ValueFile.keys

    def counted(file: Any, start: bytes) -> list[bytes]:
        looks.append(start)
        return keys(file, start)

    requests_of(measured(CollectorRegistry()), "a")
    next_holder()
    monkeypatch.setattr(ValueFile, "keys", counted)
    app = measured(CollectorRegistry())
    requests_of(app, *"abcdefghijklm", *"abcdefghijklm")
    assert len(looks) == len(set(looks)) == 2


def test_limit_holds_on_a_full_disk(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait in memory, and no more of them than the slot has room for."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    requests_of(measured(CollectorRegistry()), *"ab")
    next_holder()
    app = measured(CollectorRegistry())
    with monkeypatch.context() as context:
        context.setattr("web_prom.multiprocess.writing.value_file.ValueFile._append", full)
        requests_of(app, *"cdefgh")
    current_storage.process_storage()._retry_at = 0.0
    requests_of(app, "b")
    assert sum(tenants(shared).values()) == 9
    assert tenants(shared).keys() == {*"abcde", "_overflow"}


@pytest.mark.slow
def test_fault_40_fork_counts_the_label_sets_of_its_own_slot(tmp_path: Path) -> None:
    """What the parent admitted, and keeps bound, does not count there."""
    code = """
        import os, sys
        from prometheus_client import CollectorRegistry
        from tests.web_prom.multiprocess.writing.test_slot_limiter import CAP, Path, measured, requests_of
        from tests.web_prom.multiprocess.writing.test_slot_limiter import tenants
        directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])

        def fork(work):
            ready, told = os.pipe()
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    work()
                    code = 0
                finally:
                    os.write(told, b"x")
                    if not code:
                        os.read(hold, 1)
                    os._exit(code)
            os.read(ready, 1)
            return pid

        # Two processes at once leave slot 0 and slot 1, each with as many label sets as there may be.
        hold, release = os.pipe()
        def leave(names):
            return lambda: requests_of(measured(CollectorRegistry()), *names)

        pids = [fork(leave("abcde")), fork(leave("fghij"))]
        os.write(release, b"xx")
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
        app = measured(CollectorRegistry())
        requests_of(app, *"abcde")  # in slot 0

        def child():
            requests_of(app, *"abcdefghij")  # in slot 1

        os.write(release, b"x")
        assert os.waitpid(fork(child), 0)[1] == 0
        found = tenants(directory)
        assert found == {**dict.fromkeys("abcde", 2), **dict.fromkeys("fghij", 2), "_overflow": 5}, found
    """
    python(textwrap.dedent(code), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
