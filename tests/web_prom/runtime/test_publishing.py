"""Measurements as shared values: what a scrape of the directory shows."""

from __future__ import annotations

import json

import pytest

from tests.web_prom.support import python

pytestmark = pytest.mark.slow

HEADER = """
    import gc, json, os, tempfile, time
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder = tempfile.mkdtemp()
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from web_prom import share_values
    from web_prom.multiprocess.reading.collector import collector_for
    from web_prom.runtime.publishing import Publisher
    share_values()
    publisher = Publisher()
    def families(gauge, counter, buckets, seconds, worker="0"):
        g = GaugeMetricFamily("g", "a gauge", labels=["worker"])
        g.add_metric([worker], gauge)
        c = CounterMetricFamily("c", "a counter", value=counter)
        h = HistogramMetricFamily("h", "a histogram", labels=["x"])
        h.add_metric(["1"], buckets, seconds)
        return [g, c, h]
    LABELS = ("generation", "x", "worker", "le")
    def shown():
        return {
            " ".join([sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)]):
            sample.value for family in collector_for(folder).collect() for sample in family.samples if not
            sample.name.startswith("web_prom")
        }
"""


def shown(code: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in python(HEADER + code).splitlines()]


def test_publisher_writes_gauges_counters_and_histograms() -> None:
    first, second = shown("""
    publisher.publish(families(3, 5, [("0.1", 1), ("1.0", 4), ("+Inf", 9)], 7.5))
    print(json.dumps(shown()))
    publisher.publish(families(2, 6, [("0.1", 1), ("1.0", 5), ("+Inf", 10)], 8.5))
    print(json.dumps(shown()))
    """)
    assert first == {
        "g 0": 3,
        "c_total": 5,
        "h_bucket 1 0.1": 1,
        "h_bucket 1 1.0": 4,
        "h_bucket 1 +Inf": 9,
        "h_count 1": 9,
        "h_sum 1": 7.5,
    }
    assert second["g 0"] == 2
    assert second["c_total"] == 6
    assert [second[f"h_bucket 1 {le}"] for le in ("0.1", "1.0", "+Inf")] == [1, 5, 10]
    assert second["h_sum 1"] == 8.5


def test_publisher_of_a_child_adds_what_the_child_measures() -> None:
    (found,) = shown("""
    publisher.publish(families(1, 5, [("0.1", 1), ("+Inf", 2)], 3.0))
    pid = os.fork()
    if pid == 0:
        publisher.publish(families(1, 5, [("0.1", 1), ("+Inf", 2)], 3.0))
        publisher.publish(families(1, 7, [("0.1", 1), ("+Inf", 3)], 4.0))
        os._exit(0)
    os.waitpid(pid, 0)
    publisher.publish(families(1, 6, [("0.1", 2), ("+Inf", 3)], 3.5))
    print(json.dumps(shown()))
    """)
    assert found["c_total"] == 8
    assert [found[f"h_bucket 1 {le}"] for le in ("0.1", "+Inf")] == [2, 4]
    assert found["h_sum 1"] == 4.5
    assert found["g 0"] == 1, "the gauge of a process that has ended"


def test_publisher_leaves_no_gauge_of_a_former_slot() -> None:
    (found,) = shown("""
    publisher.publish(families(4, 1, [("+Inf", 1)], 1.0, worker="0"))
    publisher.publish(families(4, 1, [("+Inf", 1)], 1.0, worker="7"))
    print(json.dumps(shown()))
    """)
    assert (found["g 0"], found["g 7"]) == (0, 4)


def test_publisher_leaves_no_gauge_of_a_dead_worker() -> None:
    (found,) = shown("""
    pid = os.fork()
    if pid == 0:
        publisher.publish(families(4, 2, [("+Inf", 1)], 1.0, worker="1"))
        os._exit(0)
    os.waitpid(pid, 0)
    print(json.dumps(shown()))
    """)
    assert "g 1" not in found
    assert found["c_total"] == 2


def test_publisher_writes_while_another_thread_does() -> None:
    (found,) = shown("""
    import threading
    def write():
        for count in range(200):
            publisher.publish(families(1, 200, [("+Inf", 200)], 200.0))
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps(shown()))
    """)
    assert found["c_total"] == 200
    assert found["h_count 1"] == 200


THIS_PROCESS = """
    from web_prom.runtime import this_process
    this_process.start(capacity=6, interpreter=True)
    gc.collect()
    this_process.publish()
    print(json.dumps(shown()))
    pid = os.fork()
    if pid == 0:
        gc.collect()
        this_process.publish()
        time.sleep(60)
    while True:
        time.sleep(0.05)
        found = shown()
        if any(key.startswith("python_info") and key.endswith(" 1") for key in found):
            break
    print(json.dumps(found))
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    print(json.dumps(shown()))
"""


def test_this_process_publishes_capacity_and_interpreter_by_worker() -> None:
    first, second, third = shown(THIS_PROCESS)
    assert first["http_server_worker_capacity 0"] == 6
    assert first["python_gc_collections_total 2 0"] >= 1
    assert first["python_gc_duration_seconds_count 2"] >= 1
    assert any(key.startswith("python_info") and key.endswith(" 0") for key in first)
    # The child serves no requests.
    assert "http_server_worker_capacity 1" not in second
    assert second["python_gc_collections_total 2 1"] == 1
    assert not any(key.startswith("python_info") and key.endswith(" 1") for key in third)
    assert third["python_gc_collections_total 2 1"] == 1


def test_this_process_publishes_each_second() -> None:
    (found,) = shown("""
    from web_prom.runtime import this_process
    from prometheus_client import Counter
    Counter("mine", "").inc()
    this_process.start(capacity=2, interpreter=False)
    until = time.monotonic() + 60
    while "http_server_worker_capacity 0" not in shown() and time.monotonic() < until:
        time.sleep(0.05)
    print(json.dumps(shown()))
    """)
    assert found["http_server_worker_capacity 0"] == 2
