"""What stands around the merged numbers where several workers share a directory, in real processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.web_prom.multiprocess.test_many_processes import VARIABLE, Scrape, run

ABOUT = [
    "web_prom_workers",
    "web_prom_files",
    "web_prom_damaged_files",
    "web_prom_ambiguous_families",
    "web_prom_scrape_series",
    "web_prom_scrape_duration_seconds",
]

# A custom collector that tells how often it was asked.
CUSTOM = """
from prometheus_client import Enum, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

class Custom:
    def __init__(self, *families, names=("shop_queue",)):
        self.runs, self.names = 0, names
    def describe(self):
        return []  # the default registry would collect to learn the names
    def collect(self):
        self.runs += 1
        for name in self.names:
            yield GaugeMetricFamily(name, "Help.", value=self.runs)

class Broken:
    def __init__(self, how): self.how = how
    def describe(self): return []
    def collect(self):
        yield GaugeMetricFamily("before", "Help.", value=1)
        yield from self.how()

logging.basicConfig(stream=sys.stderr)
log = logging.getLogger("web_prom")
"""


def scraped(code: str, tmp_path: Path, **environ: str) -> Scrape:
    return Scrape(run(CUSTOM + code, **{VARIABLE: str(tmp_path)}, **environ))


def test_fault_23_a_scrape_shows_what_is_in_no_value_file(tmp_path: Path) -> None:
    """Custom collectors, Info and Enum as the process has them that answers; process_* of every worker."""
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


def test_process_metrics_are_those_of_every_live_worker(tmp_path: Path) -> None:
    """One lives beside the one that answers, and another is dead."""
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


def test_what_is_told_about_the_scrape_comes_last(tmp_path: Path) -> None:
    scrape = scraped(
        """
REGISTRY.register(Custom())
wrapped = PrometheusMiddleware(app)
serve(wrapped, "/a")
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert [line.split()[0] for line in scrape.lines][-len(ABOUT) :] == ABOUT
    assert scrape["web_prom_workers"] == 1
    assert scrape["web_prom_files"] == len(list(tmp_path.glob("*.db")))
    assert scrape["web_prom_damaged_files"] == 0
    assert scrape["web_prom_scrape_series"] == len(scrape.lines) - len(ABOUT)
    assert 0 < (scrape["web_prom_scrape_duration_seconds"] or 0) < 60


def test_a_custom_collector_runs_once_for_each_scrape(tmp_path: Path) -> None:
    """With names, in either format, packed or not."""
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


def test_a_custom_collector_that_fails_costs_its_own_families(tmp_path: Path) -> None:
    """Whichever way: the scrape goes on, counts it, and the log tells it once."""
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


def test_a_family_whose_name_is_there_already_is_left_out(tmp_path: Path) -> None:
    """Prometheus would refuse the whole scrape."""
    scrape = scraped(
        """
registry = CollectorRegistry()  # which asks nobody for names
orders = Counter("shop_orders", "Orders.", registry=registry)
Gauge("process_open_fds", "Mine.", registry=registry, multiprocess_mode="max").set(7)
registry.register(Custom(names=["shop_queue", "shop_orders_total", "shop_line"]))
class Second(Custom): pass
registry.register(Second(names=["shop_line", "web_prom_own", "http_requests_in_progress"]))
wrapped = PrometheusMiddleware(app, registry=registry)
orders.inc(5)
scrape(wrapped)
print(scrape(wrapped))
        """,
        tmp_path,
    )
    assert scrape["shop_orders_total"] == 5
    assert scrape["shop_queue"] == scrape["shop_line"] == scrape["web_prom_own"] == 2
    assert scrape["http_requests_in_progress"] == 0
    assert scrape["process_open_fds"] == 7
    assert scrape['process_max_fds{worker="0"}']
    types = re.findall(r"^# TYPE (\S+)", scrape.text, re.MULTILINE)
    assert sorted(types) == sorted(set(types))
    counted = {line: value for line, value in scrape.values.items() if "instrumentation_errors" in line}
    assert counted == {
        'web_prom_instrumentation_errors_total{stage="collector Custom"}': 1,
        'web_prom_instrumentation_errors_total{stage="collector Second"}': 2,
        'web_prom_instrumentation_errors_total{stage="collector process_families"}': 1,
    }


REPEATING = """
class Repeating:
    def describe(self): return []
    def collect(self):
        for queue in "abc":
            family = GaugeMetricFamily("queue_depth", "Help." if queue < "c" else "Other.", labels=["q"])
            family.add_metric([queue], 1)
            yield family
            yield GaugeMetricFamily(f"after_{queue}", "Help.", value=1)
        yield CounterMetricFamily("queue_depth", "Help.", value=7)
class Second(Custom): pass
registry = CollectorRegistry()  # which asks nobody for names
registry.register(Second(names=["shop_orders_total", "own"]))
registry.register(Repeating())
registry.register(Custom(names=["after_a", "queue_depth", "own_too"]))
Counter("shop_orders", "Orders.", registry=registry).inc(5)
wrapped = PrometheusMiddleware(app, registry=registry)
scrape(wrapped)
print(scrape(wrapped, HTTP_ACCEPT=os.environ.get("ACCEPT", "")))
"""


@pytest.mark.parametrize("shared", [False, True])
def test_fault_41_a_collector_may_give_a_family_several_times(tmp_path: Path, shared: bool) -> None:
    """All its series are there, below one heading; a name of another source costs one family alone."""
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    scrape = Scrape(run(CUSTOM + REPEATING, **environ))
    assert [scrape[f'queue_depth{{q="{queue}"}}'] for queue in "abc"] == [1, 1, 1]
    assert [scrape[f"after_{queue}"] for queue in "abc"] == [1, 1, 1]
    assert scrape["queue_depth_total"] == 7
    assert scrape["own"] == scrape["own_too"] == 2
    assert scrape["shop_orders_total"] == 5
    assert scrape["queue_depth"] is None
    assert scrape.text.count("# TYPE queue_depth gauge") == 1
    types = re.findall(r"^# TYPE (\S+)", scrape.text, re.MULTILINE)
    assert sorted(types) == sorted(set(types))
    # A failure is counted for the next scrape where the counters were read before.
    assert (scrape['web_prom_instrumentation_errors_total{stage="collector Second"}'] or 0) >= 1
    assert (scrape['web_prom_instrumentation_errors_total{stage="collector Custom"}'] or 0) >= 2


@pytest.mark.parametrize("shared", [False, True])
def test_fault_41_a_collector_may_give_families_of_one_name_and_two_types(
    tmp_path: Path, shared: bool
) -> None:
    """In OpenMetrics they have one name: both are there, as prometheus_client shows them."""
    environ = {VARIABLE: str(tmp_path)} if shared else {}
    text = run(CUSTOM + REPEATING, ACCEPT="application/openmetrics-text", **environ)
    assert "\nqueue_depth_total 7.0\n" in text
    assert all(f'\nqueue_depth{{q="{queue}"}} 1.0\n' in text for queue in "abc")


def test_fault_41_collectors_stand_in_the_order_of_their_registration() -> None:
    """Though the names of instruments are looked at first."""
    text = run(CUSTOM + REPEATING)
    order = [text.index(f"# TYPE {name} ") for name in ("own", "queue_depth", "own_too", "shop_orders_total")]
    assert order == sorted(order)


def test_fault_93_two_writers_of_one_family_are_found_in_the_files(tmp_path: Path) -> None:
    """Another library beside web-prom, on a registry of its own: sums would double without a word."""
    scrape = scraped(
        """
theirs = CollectorRegistry()
wrapped = PrometheusMiddleware(app)
names = ["method", "path", "status"]
Counter("http_requests", "Theirs.", names, registry=theirs).labels("GET", "/a", "2xx").inc()
Histogram("http_request_duration_seconds", "Theirs.", ["handler"], registry=theirs).labels("/a").observe(1)
Counter("shop_orders", "Orders.", ["kind"]).labels("x").inc()
serve(wrapped, "/a")
lines = []
log.warning = lambda message, *arguments, **options: lines.append(message % arguments)
scrape(wrapped)
text = scrape(wrapped)
assert len(lines) == 1, lines
assert "set PROM_NAMESPACE" in lines[0]
assert "http_requests (method, path, status and method, route, status)" in lines[0], lines
assert "http_request_duration_seconds (handler and method, route)" in lines[0], lines
print(text)
        """,
        tmp_path,
    )
    assert scrape["web_prom_ambiguous_families"] == 2
    assert scrape['http_requests_total{method="GET",route="/a",status="200"}'] == 1


def test_fault_93_one_definition_is_not_warned_of(tmp_path: Path) -> None:
    """Whatever kinds of families there are; nor is another name of a namespace."""
    scrape = scraped(
        """
theirs = CollectorRegistry()
wrapped = PrometheusMiddleware(app, namespace="shop")
names = ["method", "path", "status"]
Counter("http_requests", "Theirs.", names, registry=theirs).labels("GET", "/a", "2xx").inc()
Summary("s", "Help.", ["b", "a"]).labels("1", "2").observe(1)
for mode in ("all", "livesum", "mostrecent"):
    Gauge(f"g_{mode}", "Help.", ["a"], multiprocess_mode=mode).labels("1").set(1)
serve(wrapped, "/a")
in_child(lambda: serve(wrapped, "/a"))
lines = []
log.warning = lambda message, *arguments, **options: lines.append(message % arguments)
text = scrape(wrapped)
assert lines == []
print(text)
        """,
        tmp_path,
    )
    assert scrape["web_prom_ambiguous_families"] == 0


def test_collectors_that_read_the_files_show_nothing_twice(tmp_path: Path) -> None:
    """A registry that was set up as prometheus_client's manual says."""
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


def test_what_is_registered_elsewhere_is_not_shown_except_from_the_files(tmp_path: Path) -> None:
    """The files do not tell registries apart; what is not in them is the given registry's."""
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


def test_a_process_collector_that_watches_another_program_is_a_custom_one(tmp_path: Path) -> None:
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


def test_a_restricted_registry_restricts_what_all_workers_have_too(tmp_path: Path) -> None:
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


def test_any_source_of_families_is_shown_beside_the_merged_ones(tmp_path: Path) -> None:
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


# Callbacks of gauges ---------------------------------------------------------------------------------


def test_the_callback_of_a_gauge_is_asked_at_each_scrape_by_the_process_that_answers(tmp_path: Path) -> None:
    """Upstream never asks it and shows 0; what several processes make together its mode says."""
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
    # The child is dead; what it last told is there as if it had set the gauges.
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


# Formats and names -----------------------------------------------------------------------------------

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
def test_openmetrics_has_units_and_one_end(query: str, tmp_path: Path) -> None:
    """A strict parser reads it."""
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


def test_fault_24_names_filter_whatever_is_in_the_scrape(tmp_path: Path) -> None:
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
