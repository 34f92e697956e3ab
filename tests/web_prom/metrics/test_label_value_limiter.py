"""The limit on the values of labels from outside: it holds over workers and their generations."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter as Counts
from pathlib import Path
from typing import Any

import pytest
import webtest
from prometheus_client import CollectorRegistry

import web_prom as prom
from tests.web_prom.multiprocess.writing.label_sets import next_holder
from tests.web_prom.support import errors, hello, samples, serve
from web_prom.config.client_labels import ClientLabel
from web_prom.metrics.label_value_limiter import LabelValueLimiter
from web_prom.multiprocess.directory.label_files import label_file_name
from web_prom.multiprocess.directory.shared_directory import SharedDirectory
from web_prom.multiprocess.reading.collector import WorkersCollector
from web_prom.wsgi import PrometheusMiddleware

LIMIT = 5


def measured(registry: CollectorRegistry, label: ClientLabel) -> PrometheusMiddleware:
    """Return a measured application with a label."""
    return PrometheusMiddleware(hello, registry=registry, extra_labels={"tenant": label})


def by_tenant(source: Any) -> dict[str, float]:
    """Return the number of requests of each tenant."""
    found: Counts[str] = Counts()
    for family in source.collect():
        for sample in family.samples:
            if sample.name == "http_requests_total":
                found[sample.labels["tenant"]] += sample.value
    return dict(found)


def test_first_values_get_a_place(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    app = measured(registry, prom.header("X-Tenant", limit=2))
    for tenant in ("a", "b", "c", "a", "d", "_overflow", "", "b\x00\n"):
        serve(app, HTTP_X_TENANT=tenant)
    serve(app)
    assert by_tenant(registry) == {"a": 2, "b": 1, "_overflow": 4, "": 2}
    assert samples(registry, "web_prom_label_overflow_total", "family") == {("label tenant",): 4}
    assert [record.message for record in caplog.records] == [
        "label tenant has 2 values, as many as its limit allows. Further values are counted under _overflow."
    ]
    assert errors(registry) == {}


def test_values_of_clients_are_printable_and_short(registry: CollectorRegistry) -> None:
    app = measured(registry, prom.header("X-Tenant"))
    for tenant in ("a\x00\r\n\x85b", "x" * 5000, '"\\', "\u2028"):
        serve(app, HTTP_X_TENANT=tenant)
    assert by_tenant(registry) == {"a????b": 1, "x" * 128: 1, '"\\': 1, "?": 1}


def test_applications_of_a_registry_share_the_places(registry: CollectorRegistry) -> None:
    first, second = (measured(registry, prom.header("X-Tenant", limit=2)) for _ in range(2))
    for tenant in "abc":
        serve(first, HTTP_X_TENANT=tenant)
        serve(second, HTTP_X_TENANT=f"{tenant}2")
    assert by_tenant(registry) == {"a": 1, "a2": 1, "_overflow": 4}


def test_value_outside_of_an_allow_list_is_other(registry: CollectorRegistry) -> None:
    app = measured(registry, prom.header("X-Tenant", allowed=("1", "2")))
    for tenant in ("1", "2", "3", "_overflow", "1 ", "", "1"):
        serve(app, HTTP_X_TENANT=tenant)
    assert by_tenant(registry) == {"1": 2, "2": 1, "_other": 3, "": 1}


def test_attack_with_many_values_over_restarts_leaves_the_limit_of_values(shared: Path) -> None:
    """10,000 values of a header, in workers that replace each other: the sum stays exact."""
    for generation in range(4):
        next_holder()
        app = measured(CollectorRegistry(), prom.header("X-Tenant", limit=LIMIT))
        for number in range(2500):
            serve(app, HTTP_X_TENANT=f"{generation}-{number}")
    found = by_tenant(WorkersCollector(shared, dict))
    assert found == {**{f"0-{number}": 1 for number in range(LIMIT)}, "_overflow": 10_000 - LIMIT}


@pytest.mark.slow
def test_limit_holds_over_workers_that_run_at_the_same_time(shared: Path) -> None:
    """Forked workers have slots of their own; all of them together have the limit of values."""
    next_holder()
    app = measured(CollectorRegistry(), prom.header("X-Tenant", limit=LIMIT))
    serve(app, HTTP_X_TENANT="parent")
    start = os.pipe()
    workers = []
    for worker in range(3):
        pid = os.fork()
        if not pid:
            os.close(start[1])
            os.read(start[0], 1)  # the parent closes its end
            for number in range(100):
                serve(app, HTTP_X_TENANT=f"{worker}-{number}")
            os._exit(0)
        workers.append(pid)
    for descriptor in start:
        os.close(descriptor)
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0]
    found = by_tenant(WorkersCollector(shared, dict))
    assert found["parent"] == 1
    assert len(found) == LIMIT + 1
    assert sum(found.values()) == 301


def test_threads_agree_on_the_values(shared: Path) -> None:
    limiter = LabelValueLimiter("tenant", LIMIT, _fail)
    found: set[str] = set()

    def place(thread: int) -> None:
        for number in range(50):
            found.add(limiter.place(f"{thread}-{number}"))

    threads = [threading.Thread(target=place, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == LIMIT + 1


def test_values_before_the_switch_to_shared_values_keep_their_place(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_shared = False
    monkeypatch.setattr("web_prom.metrics.label_value_limiter.is_in_slots", lambda: is_shared)
    limiter = LabelValueLimiter("tenant", 3, _fail)
    assert [limiter.place(value) for value in "ab"] == ["a", "b"]
    is_shared = True
    assert [limiter.place(value) for value in "cabd"] == ["c", "a", "b", "_overflow"]
    assert [LabelValueLimiter("tenant", 3, _fail).place(value) for value in "dc"] == ["_overflow", "c"]


def test_file_that_was_removed_is_written_again(shared: Path) -> None:
    limiter = LabelValueLimiter("tenant", 3, _fail)
    assert [limiter.place(value) for value in "ab"] == ["a", "b"]
    (shared / label_file_name("tenant")).unlink()
    assert [limiter.place(value) for value in "cd"] == ["c", "_overflow"]
    assert [LabelValueLimiter("tenant", 3, _fail).place(value) for value in "bad"] == ["b", "a", "_overflow"]


def test_incomplete_lines_are_ignored(shared: Path) -> None:
    """A full disk cuts the last line off."""
    (shared / label_file_name("tenant")).write_bytes(b'\n"a"\n\n"b\xff\n{}\n\n"cut of')
    limiter = LabelValueLimiter("tenant", 2, _fail)
    assert [limiter.place(value) for value in "xya"] == ["x", "_overflow", "a"]


def test_file_that_cannot_be_written_counts_errors(registry: CollectorRegistry, shared: Path) -> None:
    """The request goes on, and the value is counted under _overflow."""
    (shared / label_file_name("tenant")).mkdir()
    app = measured(registry, prom.header("X-Tenant"))
    for tenant in "abc":
        assert serve(app, HTTP_X_TENANT=tenant) == b"hello"
    found: Any = WorkersCollector(shared, dict)
    assert by_tenant(found) == {"_overflow": 3}
    assert errors(found) == {("label tenant",): 1}  # the file is tried once a second


def test_file_that_cannot_be_written_counts_errors_after_the_first_application_is_gone(
    registry: CollectorRegistry, shared: Path
) -> None:
    measured(registry, prom.header("X-Tenant"))
    gc.collect()
    (shared / label_file_name("tenant")).mkdir()
    serve(measured(registry, prom.header("X-Tenant")), HTTP_X_TENANT="a")
    assert errors(WorkersCollector(shared, dict)) == {("label tenant",): 1}  # type: ignore[arg-type]


def test_new_deployment_removes_the_values(tmp_path: Path) -> None:
    (tmp_path / label_file_name("tenant")).write_text('"a"\n')
    (tmp_path / "label_a.values.txt").write_text("of the user")
    SharedDirectory(tmp_path).release()
    assert {path.name for path in tmp_path.glob("label*")} == {"label_a.values.txt"}


def _fail(stage: str) -> None:
    raise AssertionError(stage)


def test_webtest_sends_the_header(registry: CollectorRegistry) -> None:
    app = measured(registry, prom.header("x-tenant"))
    webtest.TestApp(app).get("/", headers={"X-Tenant": "a"})
    assert by_tenant(registry) == {"a": 1}
