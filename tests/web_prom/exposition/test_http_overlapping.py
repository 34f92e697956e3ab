"""Overlapping scrapes: which of them share one body, and which go first."""

from __future__ import annotations

import gzip
import threading
from collections import Counter as Counts
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from tests.web_prom.exposition.support import scrape
from tests.web_prom.support import Waits
from web_prom import make_wsgi_app


class Slow:
    """A collector that waits until a test lets it go on."""

    def __init__(self) -> None:
        self.runs = 0
        self.here = threading.Event()
        self.leave = threading.Event()

    def collect(self) -> Iterable[Any]:
        self.runs += 1
        self.here.set()
        assert self.leave.wait(60)
        yield prometheus_client.metrics_core.GaugeMetricFamily("runs", "Help.", self.runs)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_fault_26_forty_overlapping_scrapes_call_a_collector_twice(
    encoding: str, registry: CollectorRegistry, flight_waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is compressed as often. Each client gets a body whose build started after its request."""
    slow, packed = Slow(), []
    registry.register(slow)
    app = make_wsgi_app(registry)
    compress = gzip.compress

    def counted(*args: Any, **options: Any) -> bytes:
        packed.append(1)
        return compress(*args, **options)

    monkeypatch.setattr(gzip, "compress", counted)
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(scrape, app, HTTP_ACCEPT_ENCODING=encoding)
        assert slow.here.wait(60)
        others = [pool.submit(scrape, app, HTTP_ACCEPT_ENCODING=encoding) for _ in range(39)]
        flight_waits.wait_for(38)
        slow.leave.set()
        bodies = [future.result(30)[2] for future in [first, *others]]
    assert slow.runs == 2
    assert len(packed) == (2 if encoding else 0)
    texts = [gzip.decompress(body) if encoding else body for body in bodies]
    assert b"\nruns 1.0\n" in texts[0]
    assert not any(b"\nruns 1.0\n" in text for text in texts[1:])


def test_fault_70_unknown_versions_and_escapings_share_one_body(
    registry: CollectorRegistry, flight_waits: Waits
) -> None:
    slow = Slow()
    registry.register(slow)
    app = make_wsgi_app(registry)
    invented = [
        f"application/openmetrics-text;version=1.{number}.0;escaping=my-{number};q=0.{number}"
        for number in range(30)
    ]
    with ThreadPoolExecutor(40) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(60)
        others = [pool.submit(scrape, app, HTTP_ACCEPT=accept) for accept in invented]
        flight_waits.wait_for(29)
        slow.leave.set()
        answers = [future.result(30) for future in [first, *others]]
    assert slow.runs == 2
    assert [status for status, _, _ in answers] == ["200 OK"] * 31


def test_fault_70_scrapes_with_names_are_limited_and_do_not_delay_full_scrapes(
    registry: CollectorRegistry,
) -> None:
    slow = Slow()
    registry.register(slow)
    app = make_wsgi_app(registry)
    with ThreadPoolExecutor(60) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(60)
        named = [
            pool.submit(scrape, app, QUERY_STRING=f"name[]=runs&name[]=x{number}") for number in range(50)
        ]
        for future in islice(as_completed(named), 34):
            status, headers, _ = future.result()
            assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "1")
        whole = pool.submit(scrape, app)
        slow.leave.set()
        first.result(30)
        assert whole.result(30)[0] == "200 OK"
        statuses = Counts(future.result(30)[0] for future in named)
    assert statuses == {"200 OK": 16, "503 Service Unavailable": 34}


def test_scrapes_with_different_requests_do_not_share_a_body(
    filled: CollectorRegistry, flight_waits: Waits
) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"HTTP_ACCEPT": "application/openmetrics-text"},
        {"HTTP_ACCEPT_ENCODING": "gzip"},
        {"QUERY_STRING": "name[]=shop_baskets"},
        {"QUERY_STRING": "name[]=shop_state"},
    ]
    slow = Slow()
    filled.register(slow)
    app = make_wsgi_app(filled)
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(scrape, app)
        assert slow.here.wait(60)
        together = [pool.submit(scrape, app, **environ) for environ in asked * 2]
        flight_waits.wait_for(5)
        slow.leave.set()
        first.result(30)
        answers = [future.result(30) for future in together]
    filled.unregister(slow)
    for environ, answer in zip(asked * 2, answers, strict=True):
        alone = scrape(app, **environ)
        assert without_numbers(answer) == without_numbers(alone)


def without_numbers(answer: tuple[str | None, dict[str, str], bytes]) -> Any:
    """Return the part of an answer that the next scrape contains too."""
    status, headers, body = answer
    text = gzip.decompress(body) if headers.get("Content-Encoding") else body
    lines = [line for line in text.splitlines() if b"runs" not in line and b"web_prom_scrape" not in line]
    return status, headers["Content-Type"], lines
