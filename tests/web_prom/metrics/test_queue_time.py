"""Queue times of an application: where they come from, and when they are in the histogram."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tests.web_prom.support import python
from web_prom.config.settings import Config
from web_prom.metrics.conventions import QUEUE_TIME_BUCKETS
from web_prom.metrics.queue_time import MAX_QUEUE_SECONDS, QueueTime
from web_prom.metrics.recorder import Recorder

NAME = "http_request_queue_seconds"


class Socket:
    """A socket whose last bytes arrived so many milliseconds ago."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        return bytes(52) + self.milliseconds.to_bytes(4, "little")


def environ(milliseconds: int = 0, **more: str) -> dict[str, Any]:
    return {"REMOTE_ADDR": "127.0.0.1", "gunicorn.socket": Socket(milliseconds), **more}


@pytest.fixture
def recorder(registry: CollectorRegistry) -> Recorder:
    return Recorder(Config.load({}), registry)


def count(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value(f"{NAME}_count")


def test_queue_time_is_read_from_the_socket(recorder: Recorder, registry: CollectorRegistry) -> None:
    assert recorder.queue_time is not None
    for milliseconds in (0, 4, 700):
        recorder.queue_time.observe(environ(milliseconds))
    assert count(registry) == 3
    assert registry.get_sample_value(f"{NAME}_sum") == pytest.approx(0.704)
    assert registry.get_sample_value(f"{NAME}_bucket", {"le": "0.001"}) == 1
    assert registry.get_sample_value(f"{NAME}_bucket", {"le": "0.005"}) == 2
    assert registry.get_sample_value(f"{NAME}_bucket", {"le": "1.0"}) == 3


def test_queue_time_of_a_header_wins_over_the_socket(recorder: Recorder, registry: CollectorRegistry) -> None:
    assert recorder.queue_time is not None
    recorder.queue_time.observe(environ(0, HTTP_X_REQUEST_START=f"t={time.time() - 2}"))
    assert registry.get_sample_value(f"{NAME}_sum") == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("header", ["", "nonsense", "t=nan", "t=9999999999"])
def test_queue_time_of_a_broken_header_is_not_observed(
    header: str, recorder: Recorder, registry: CollectorRegistry
) -> None:
    assert recorder.queue_time is not None
    recorder.queue_time.observe(environ(5, HTTP_X_REQUEST_START=header))
    assert count(registry) is None


def test_queue_time_beyond_an_hour_is_not_observed(recorder: Recorder, registry: CollectorRegistry) -> None:
    assert recorder.queue_time is not None
    recorder.queue_time.observe(environ(int(MAX_QUEUE_SECONDS * 1000) + 1))
    recorder.queue_time.observe(environ(int(MAX_QUEUE_SECONDS * 1000)))
    assert count(registry) == 1


def test_queue_time_has_no_family_where_it_is_never_known(
    recorder: Recorder, registry: CollectorRegistry
) -> None:
    assert recorder.queue_time is not None
    recorder.queue_time.observe({"REMOTE_ADDR": "127.0.0.1"})
    assert NAME not in generate_latest(registry).decode()


def test_queue_time_has_a_family_from_the_start_if_it_is_switched_on(registry: CollectorRegistry) -> None:
    Recorder(Config.load({"queue_time": True}), registry)
    assert count(registry) == 0


def test_queue_time_that_is_switched_off_is_not_measured(registry: CollectorRegistry) -> None:
    assert Recorder(Config.load({"queue_time": False}), registry).queue_time is None


def test_queue_time_is_complete_in_each_scrape_however_few_are_pending(
    recorder: Recorder, registry: CollectorRegistry
) -> None:
    assert recorder.queue_time is not None
    for total in range(1, 200):
        recorder.queue_time.observe(environ(1))
        if total % 7 == 0:
            assert f"{NAME}_count {total}.0" in generate_latest(registry).decode()


def test_queue_time_keeps_few_pending_measurements(recorder: Recorder) -> None:
    assert recorder.queue_time is not None
    for _ in range(10_000):
        recorder.queue_time.observe(environ(1))
        assert len(recorder.queue_time._pending_infos) < 256


def test_queue_time_is_exact_with_several_threads(recorder: Recorder, registry: CollectorRegistry) -> None:
    def serve() -> None:
        for _ in range(5_000):
            assert recorder.queue_time is not None
            recorder.queue_time.observe(environ(3))

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        count(registry)
    for thread in threads:
        thread.join()
    assert count(registry) == 20_000
    assert registry.get_sample_value(f"{NAME}_sum") == pytest.approx(60)


def test_queue_time_loses_no_measurement_while_the_histogram_is_created(registry: CollectorRegistry) -> None:
    histogram = Histogram("h", "", buckets=QUEUE_TIME_BUCKETS, registry=registry)
    created = threading.Event()

    def create() -> Histogram:
        created.wait(60)
        return histogram

    queue_time = QueueTime(create, pytest.fail)
    threads = [threading.Thread(target=queue_time.observe, args=(environ(1),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    created.set()
    for thread in threads:
        thread.join()
    queue_time.flush()
    assert registry.get_sample_value("h_count") == 4


def test_queue_time_failure_is_counted_and_does_not_reach_the_request(
    recorder: Recorder, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorder.queue_time is not None
    Histogram(NAME, "another library's", ["a"], registry=registry)
    for _ in range(300):
        recorder.queue_time.observe(environ(1))
    errors = "web_prom_instrumentation_errors_total"
    assert registry.get_sample_value(errors, {"stage": "queue"}) == 1


def test_queue_time_is_observed_without_private_names_too(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_prom.metrics.queue_time.values_of", lambda child: None)
    child = Histogram("h", "", buckets=QUEUE_TIME_BUCKETS, registry=registry)
    queue_time = QueueTime(lambda: child, pytest.fail)
    queue_time.observe(environ(5))
    queue_time.observe(environ(6))
    queue_time.flush()
    assert registry.get_sample_value("h_count") == 2
    assert registry.get_sample_value("h_sum") == pytest.approx(0.011)


def test_queue_time_of_a_parent_is_not_counted_in_its_child(
    recorder: Recorder, registry: CollectorRegistry
) -> None:
    assert recorder.queue_time is not None
    recorder.queue_time.observe(environ(1))  # in the histogram
    recorder.queue_time.observe(environ(1))  # pending
    child = os.fork()
    if child == 0:
        os._exit(int(count(registry) or 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert count(registry) == 2


SHARED = """
    import os, tempfile, time
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder = tempfile.mkdtemp()
    from prometheus_client import REGISTRY
    from tests.web_prom.metrics.test_queue_time import environ
    from web_prom.config.settings import Config
    from web_prom.metrics.recorder import Recorder
    from web_prom.multiprocess.reading.collector import collector_for
    recorder = Recorder(Config.load({}), REGISTRY)
    for _ in range(5):
        recorder.queue_time.observe(environ(1))
    def shown():
        return sum(
            sample.value for family in collector_for(folder).collect() for sample in family.samples
            if sample.name == "http_request_queue_seconds_count"
        )
    until = time.monotonic() + 60
    while shown() < 5 and time.monotonic() < until:
        time.sleep(0.05)
    print(shown())
"""


@pytest.mark.slow
def test_queue_time_with_shared_values_is_written_within_a_second() -> None:
    assert python(SHARED).strip() == "5.0"
