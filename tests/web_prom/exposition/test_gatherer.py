"""The content of a scrape of all workers that share a directory, in real processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.web_prom.exposition.workers import CUSTOM, scraped
from tests.web_prom.multiprocess.test_many_processes import VARIABLE, run

pytestmark = pytest.mark.slow  # the tests start processes

SCRAPE_METRICS = [
    "web_prom_workers",
    "web_prom_files",
    "web_prom_damaged_files",
    "web_prom_ambiguous_families",
    "web_prom_scrape_series",
    "web_prom_scrape_duration_seconds",
]


def test_fault_23_scrape_contains_metrics_that_are_in_no_value_file(tmp_path: Path) -> None:
    """Custom collectors, Info and Enum of the answering process, and process_* of every worker."""
    scrape = scraped(
        """
REGISTRY.register(Custom())
Info("shop_build", "Help.").info({"version": "7"})
Enum("shop_state", "Help.", states=["open", "closed"]).state("closed")
REGISTRY.set_target_info({"env": "prod"})
wrapped = PrometheusMiddleware(app)
in_child(lambda: serve(wrapped, "/a"))
serve(wrapped, "/a")
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert scrape["shop_queue"] == 1
    assert scrape['shop_build_info{version="7"}'] == 1
    assert scrape['shop_state{shop_state="closed"}'] == 1
    assert scrape['shop_state{shop_state="open"}'] == 0
    assert scrape['target_info{env="prod"}'] == 1
    assert scrape['process_resident_memory_bytes{worker="0"}']
    assert scrape['process_cpu_seconds_total{worker="0"}']
    assert scrape['http_requests_total{method="GET",route="/a",status="200"}'] == 2
    assert "python_" not in scrape.text, "of which process?"
    assert scrape["process_open_fds"] is None


def test_process_metrics_are_those_of_each_live_worker(tmp_path: Path) -> None:
    """Besides the answering worker, one is alive and one is dead."""
    scrape = scraped(
        """
orders = Counter("shop_orders", "Orders.")
wrapped = PrometheusMiddleware(app)
in_child(orders.inc)
here, there = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    orders.inc()
    os.write(here[1], b"x")
    os.close(there[1])
    os.read(there[0], 1)
    os._exit(0)
os.close(there[0])
os.read(here[0], 1)
orders.inc()
print(scrape(wrapped))
os.close(there[1])
os.waitpid(pid, 0)
        """,
        tmp_path,
    )
    workers = sorted(re.findall(r'process_max_fds{worker="(\d+)"}', scrape.text))
    assert len(workers) == 2
    assert scrape["web_prom_workers"] == 2
    assert scrape["shop_orders_total"] == 3


def test_metrics_about_the_scrape_come_last(tmp_path: Path) -> None:
    scrape = scraped(
        """
REGISTRY.register(Custom())
wrapped = PrometheusMiddleware(app)
serve(wrapped, "/a")
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert [line.split()[0] for line in scrape.lines][-len(SCRAPE_METRICS) :] == SCRAPE_METRICS
    assert scrape["web_prom_workers"] == 1
    assert scrape["web_prom_files"] == len(list(tmp_path.glob("*.db")))
    assert scrape["web_prom_damaged_files"] == 0
    assert scrape["web_prom_scrape_series"] == len(scrape.lines) - len(SCRAPE_METRICS)
    assert 0 < (scrape["web_prom_scrape_duration_seconds"] or 0) < 60


def test_custom_collector_runs_once_per_scrape(tmp_path: Path) -> None:
    """With names, in both formats, compressed or not."""
    scrape = scraped(
        """
REGISTRY.register(Custom())
wrapped = PrometheusMiddleware(app)
scrape(wrapped, QUERY_STRING="name[]=shop_queue&name[]=http_requests_total")
scrape(wrapped, QUERY_STRING="name[]=nothing")
scrape(wrapped, HTTP_ACCEPT="application/openmetrics-text")
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert scrape["shop_queue"] == 4


def test_failing_custom_collector_is_counted_and_only_its_families_are_missing(tmp_path: Path) -> None:
    """For each kind of failure, the scrape continues, the failure is counted, and it is logged once."""
    scrape = scraped(
        """
def raises():
    raise RuntimeError("hush")
    yield
def unreadable():
    family = GaugeMetricFamily("odd", "Help.")
    family.add_sample("odd", {"label": 7}, 1)
    yield family

class Raises(Broken): pass
class Unreadable(Broken): pass
REGISTRY.register(Raises(raises))
REGISTRY.register(Unreadable(unreadable))
REGISTRY.register(Custom())
wrapped = PrometheusMiddleware(app)
lines = []
log.warning = lambda message, stage, exc_info: lines.append(stage)
scrape(wrapped)
text = scrape(wrapped)
assert lines == ["collector Raises", "collector Unreadable"], lines
print(text)
        """,
        tmp_path,
    )
    assert scrape["shop_queue"] == 2
    assert scrape["before"] == 1, "of the one whose other family cannot be written"
    assert "odd" not in scrape.text
    assert "hush" not in scrape.text
    assert scrape['web_prom_instrumentation_errors_total{stage="collector Raises"}'] == 2
    assert scrape['web_prom_instrumentation_errors_total{stage="collector Unreadable"}'] == 1


def test_collectors_that_read_value_files_are_left_out(tmp_path: Path) -> None:
    """A registry that is set up as the manual of prometheus_client describes."""
    scrape = scraped(
        """
from prometheus_client.multiprocess import MultiProcessCollector
from web_prom import make_wsgi_app
from web_prom.multiprocess.reading.collector import WorkersCollector

orders = Counter("shop_orders", "Orders.")
orders.inc(2)
registry = CollectorRegistry()
MultiProcessCollector(registry)
registry.register(WorkersCollector(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
exposed = make_wsgi_app(registry)
scrape(exposed)
print(scrape(exposed))  # an error of the first would be counted in this one
        """,
        tmp_path,
    )
    assert scrape["shop_orders_total"] == 2
    assert "instrumentation_errors" not in scrape.text


def test_instruments_of_other_registries_are_written_from_files_only(tmp_path: Path) -> None:
    """Value files do not contain registries. All other metrics come from the given registry."""
    scrape = scraped(
        """
from web_prom import make_wsgi_app
Counter("shop_orders", "Orders.").inc(2)
REGISTRY.register(Custom())
Info("shop_build", "Help.").info({"version": "7"})
registry = CollectorRegistry()
registry.register(Custom(names=["shop_line"]))
print(scrape(make_wsgi_app(registry)))
        """,
        tmp_path,
    )
    assert scrape["shop_orders_total"] == 2
    assert scrape["shop_line"] == 1
    assert "shop_queue" not in scrape.text
    assert "shop_build" not in scrape.text


def test_process_collector_of_another_process_is_collected(tmp_path: Path) -> None:
    scrape = scraped(
        """
from prometheus_client import ProcessCollector
ProcessCollector(namespace="daemon", pid=os.getppid)
ProcessCollector(namespace="own")
print(scrape(PrometheusMiddleware(app)))
        """,
        tmp_path,
    )
    assert scrape["daemon_process_resident_memory_bytes"]
    assert "own_process" not in scrape.text


def test_restricted_registry_restricts_merged_families(tmp_path: Path) -> None:
    scrape = scraped(
        """
from web_prom import make_wsgi_app
Counter("shop_orders", "Orders.").inc(2)
REGISTRY.register(Custom(names=["shop_queue", "shop_line"]))
restricted = REGISTRY.restricted_registry(["shop_orders_total", "shop_line", "web_prom_files"])
assert scrape(make_wsgi_app(restricted), QUERY_STRING="name[]=shop_queue") == ""
print(scrape(make_wsgi_app(restricted)))
        """,
        tmp_path,
    )
    assert list(scrape.values) == ["shop_orders_total", "shop_line", "web_prom_files"]


def test_source_that_is_not_a_registry_is_collected(tmp_path: Path) -> None:
    scrape = scraped(
        """
from web_prom import make_wsgi_app
Counter("shop_orders", "Orders.").inc(2)
print(scrape(make_wsgi_app(Custom())))
        """,
        tmp_path,
    )
    assert scrape["shop_orders_total"] == 2
    assert scrape["shop_queue"] == 1


def test_gauge_callbacks_of_the_answering_process_are_stored_at_each_scrape(tmp_path: Path) -> None:
    """prometheus_client never calls it and shows 0. The mode merges the results of several processes."""
    scrape = scraped(
        """
now = [1]
modes = ["all", "livesum", "max", "mostrecent"]
for mode in modes:
    Gauge(f"shop_{mode}", "Help.", multiprocess_mode=mode).set_function(lambda: now[0])
Gauge("shop_site", "Help.", ["site"], multiprocess_mode="max").labels("a").set_function(lambda: now[0])
wrapped = PrometheusMiddleware(app)

def answer():
    now[0] = 5
    scrape(wrapped)
    now[0] = 4
    scrape(wrapped)

in_child(answer)
now[0] = 3
print(scrape(wrapped))
        """,
        tmp_path,
    )
    # The child is dead. Its last results are stored as if it had set the gauges.
    assert scrape["shop_max"] == 4
    assert scrape['shop_site{site="a"}'] == 4
    assert scrape["shop_mostrecent"] == 3
    assert [value for line, value in scrape.values.items() if line.startswith("shop_all{")].count(3) == 1


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_failing_callback_is_counted_and_its_gauge_keeps_the_old_value(tmp_path: Path, error: str) -> None:
    scrape = scraped(
        f"""
def fail(): raise {error}
gauge = Gauge("shop_line", "Help.", ["site"], multiprocess_mode="max")
gauge.labels("a").set_function(fail)
gauge.labels("b").set_function(lambda: 3)
print(scrape(PrometheusMiddleware(app)))
        """,
        tmp_path,
    )
    assert scrape['shop_line{site="a"}'] == 0
    assert scrape['shop_line{site="b"}'] == 3
    assert scrape['web_prom_instrumentation_errors_total{stage="collector shop_line"}'] == 1


EVERYTHING = """
Counter("shop_orders_bytes", "Help.", unit="bytes").inc(3)
Histogram("shop_time_seconds", "Help.", unit="seconds", buckets=(1, 2)).observe(1)
Gauge("shop_line", "Help.", multiprocess_mode="max").set(4)
REGISTRY.register(Custom())
Info("shop_build", "Help.").info({"version": "7"})
Enum("shop_state", "Help.", states=["open", "closed"]).state("closed")
wrapped = PrometheusMiddleware(app)
serve(wrapped, "/a")
"""


@pytest.mark.parametrize(
    "query", ["", "name[]=shop_line", "name[]=shop_orders_bytes_total", "name[]=nothing"]
)
def test_openmetrics_contains_units_and_one_eof(query: str, tmp_path: Path) -> None:
    """A strict parser accepts the text."""
    code = f"""
{EVERYTHING}
asked = dict(HTTP_ACCEPT="application/openmetrics-text; version=1.0.0", QUERY_STRING={query!r})
print(scrape(wrapped, **asked), end="")
    """
    text = run(CUSTOM + code, **{VARIABLE: str(tmp_path)})
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1
    families: dict[str, Any] = {family.name: family for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    if query == "":
        assert families["shop_time_seconds"].unit == "seconds"
        assert families["shop_state"].type == "stateset"
        assert families["shop_build"].type == "info"
        assert families["process_cpu_seconds"].type == "counter"
        assert families["web_prom_files"].samples
    if query in ("", "name[]=shop_orders_bytes_total"):
        assert families["shop_orders_bytes"].unit == "bytes"
    else:
        assert families.keys() <= {"shop_line"}


def test_fault_24_names_restrict_all_parts_of_a_scrape(tmp_path: Path) -> None:
    names = [
        "shop_line",
        "shop_queue",
        "shop_build_info",
        "process_max_fds",
        "web_prom_workers",
        "web_prom_scrape_series",
    ]
    query = "&".join(f"name[]={name}" for name in names)
    scrape = scraped(f"{EVERYTHING}\nprint(scrape(wrapped, QUERY_STRING={query!r}))", tmp_path)
    assert [re.split(r"[{ ]", line)[0] for line in scrape.lines] == [
        "shop_line",
        "process_max_fds",
        "shop_queue",
        "shop_build_info",
        "web_prom_workers",
        "web_prom_scrape_series",
    ]
    assert scrape["web_prom_scrape_series"] == 4
